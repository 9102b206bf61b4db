r"""The rule of an inequality, and how near any trial came to breaking it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .checks import INCONCLUSIVE, REFUTED, VERIFIED, Check, Outcome, finite, not_finite
from .evidence import ClaimError, in_pairs

__all__ = ["Bound", "tightness_word"]

#: A bound is sharp within this factor, attained from the second on, idle below the third.
SHARP, ATTAINED, IDLE = 0.5, 0.99, 0.01


def tightness_word(ratio: float | None) -> str:
    """Return attained, sharp, not sharp or idle for the worst ratio left/right."""
    if ratio is None:
        return "no ratio"
    words = ((ATTAINED, "attained"), (SHARP, "sharp"), (IDLE, "not sharp"))
    return next((word for least, word in words if ratio >= least), "idle")


class Bound(Check):
    r"""An inequality ``left <= right`` over all trials and an adversarial search.

    ``measure(left, right)`` takes the trials, ``adversary(left, right)`` adds what a
    search found; the worst ratio left/right is the tightness. *Holds* is the verdict;
    how near any trial came is a property of the evidence and stands beside it: attained
    (.99), sharp (within a factor 2), not sharp, or idle (no trial came within a factor
    100: none could have broken it). Trials with 0 on both sides hold and say nothing.

    "Error at most a tolerance" is no bound of a theorem: see :class:`mflib.claims.Below`.

    Parameters
    ----------
    name : str
        The inequality, in words.
    tolerance : float
        Room for rounding in the ratio, relative, at most 1e-6.
    """

    kind = "bound"
    carries = ("bound",)

    def __init__(self, name: str, tolerance: float = 1e-12) -> None:
        super().__init__(name)
        self.tolerance = finite("tolerance", tolerance, positive=True)
        if self.tolerance > 1e-6:
            raise ClaimError(f"tolerance: {tolerance} is no rounding; at most 1e-6")
        self.predicted = "left <= right"

    def _judge(self, left: Any, right: Any, control: bool = False) -> Outcome:
        left, right = in_pairs(left, right)
        if not (np.isfinite(left).all() and np.isfinite(right).all()):
            return not_finite("a side")
        scale = np.maximum(np.abs(left), np.abs(right))
        with np.errstate(all="ignore"):
            # halves first: the difference of two large numbers may overflow
            broken = left / 2 - right / 2 > self.tolerance * (scale / 2)
            # the ratio that is at most 1 when the bound holds, whatever the signs
            ratio = np.where(right > 0, left / right, np.where(left < 0, right / left, np.inf))
        ratio = np.where((left <= 0) & (right >= 0), 0.0, ratio)
        trivial = scale == 0
        worst = float(ratio.max())
        excess = float((left - right).max())
        on_zero = bool((right[~trivial] == 0).all())
        details = {
            "trials": int(left.size),
            "trivial": int(trivial.sum()),
            "violations": int(broken.sum()),
            "tightness": worst if math.isfinite(worst) and not on_zero else None,
        }
        # where there is no ratio, the left side over its bound says by how much
        measured = worst if details["tightness"] is not None else excess
        if broken.any():
            return Outcome(REFUTED, measured, None, "violated in a trial", details)
        if trivial.all():
            return Outcome(INCONCLUSIVE, 0.0, None, "0 <= 0 in every trial", details)
        return Outcome(VERIFIED, measured, None, "holds in every trial", details)

    def adversary(self, left: Any, right: Any) -> None:
        """Add the pairs found by an adversarial search; the worse outcome stays."""
        self._begin()
        if self._outcome is None:
            raise ClaimError(f"{self.name}: measure the trials before the adversary's")
        found, trials = self._judge(left, right), self._outcome
        if found.reason.startswith("0 <= 0"):
            found = Outcome(VERIFIED, 0.0, None, trials.reason, found.details)
        order = (REFUTED, INCONCLUSIVE, VERIFIED)
        worse = min((found, trials), key=lambda o: order.index(o.verdict))
        both = [o.details.get("tightness") for o in (found, trials)]
        refuted = [o.details.get("tightness") for o in (found, trials) if o.verdict == REFUTED]
        # a violation without a ratio, an excess over a bound of zero, is beyond every ratio
        none = None in refuted or both == [None, None]
        tightness = None if none else max(r for r in both if r is not None)
        shown = [
            o.measured
            for o, r in zip((found, trials), both, strict=True)
            if o.measured is not None and (r is None) == (tightness is None)
        ]
        details = dict(trials.details) | {
            "tightness": tightness,
            "violations": trials.details.get("violations", 0) + found.details.get("violations", 0),
            "adversary": found.measured,
            "adversary_trials": (trials.details.get("adversary_trials") or 0)
            + (found.details.get("trials") or 0),
        }
        self._outcome = Outcome(
            worse.verdict, max(shown, default=None), None, worse.reason, details
        )
        self._given += ((left, right),)
        self._claim.touch()

    @property
    def word(self) -> str:
        """attained, sharp, not sharp or idle, for a bound that was measured."""
        return tightness_word(self._outcome.details.get("tightness") if self._outcome else None)

    def record(self) -> dict[str, Any]:
        """Return the check as plain JSON data, with the word of its tightness."""
        return super().record() | {"word": self.word if self._outcome else None}
