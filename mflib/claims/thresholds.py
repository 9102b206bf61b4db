r"""Three inequalities about random quantities that are no pathwise bounds.

A small quantity (every sample below a limit), a mean below a bound, and a bound that
holds with a probability: none has a tightness that an adversary could raise, and each is
judged by what its samples allow to say.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy  # its parts are loaded when they are used

from .bound import tightness_word
from .checks import FEWEST, INCONCLUSIVE, REFUTED, VERIFIED, Check, Outcome, finite, not_finite
from .evidence import ClaimError, as_array, in_pairs
from .intervals import QUANTILE, mean_interval

__all__ = ["Below", "MeanBound", "ShareBound"]

#: One-sided level of the shares, and what a mean bound may be missed with in all.
_TAIL = 1.0 - QUANTILE


def _share_above(violations: int, draws: int) -> tuple[float, float]:
    """Clopper and Pearson's ends for a share, each at 99.95 %."""
    low = scipy.stats.beta.ppf(_TAIL, violations, draws - violations + 1) if violations else 0.0
    high = 1.0
    if violations < draws:
        high = scipy.stats.beta.ppf(1 - _TAIL, violations + 1, draws - violations)
    return float(low), float(high)


class Below(Check):
    r"""A quantity that is small in every sample: an error, a defect, a final loss.

    ``measure(samples)`` takes one number a seed, by its size. Verified when every sample
    is at most the limit, refuted when one is beyond ten times the limit, else
    inconclusive; fewer than 8 samples decide nothing (a single case is an
    :class:`mflib.claims.Identity` with 0). With S samples that all pass, at least a share
    :math:`.0005^{1/S}` of all seeds does, at 99.95 %.

    Parameters
    ----------
    name : str
        The quantity.
    limit : float
        Positive.
    """

    kind = "below"
    carries = ("limit", "bound")

    def __init__(self, name: str, limit: float) -> None:
        super().__init__(name)
        self.tolerance = finite("limit", limit, positive=True)
        self.predicted = f"at most {self.tolerance:g}"

    def _judge(self, samples: Any, control: bool = False) -> Outcome:
        samples = np.abs(as_array("samples", samples))
        if not np.isfinite(samples).all():
            return not_finite("a sample")
        samples = samples.reshape(len(samples), -1).max(1) if samples.ndim else samples[None]
        worst, seeds = float(samples.max()), len(samples)
        details = {"seeds": seeds, "share": _TAIL ** (1.0 / seeds)}
        if seeds < FEWEST:
            reason = f"{seeds} samples, at least {FEWEST} are needed"
            return Outcome(INCONCLUSIVE, worst, None, reason, details)
        if worst <= self.tolerance:
            return Outcome(VERIFIED, worst, None, "every sample is below", details)
        del details["share"]
        if worst > 10 * self.tolerance:
            return Outcome(REFUTED, worst, None, "a sample is beyond ten times it", details)
        return Outcome(INCONCLUSIVE, worst, None, "a sample is just above", details)


class MeanBound(Check):
    r"""A bound on a mean, :math:`\mathbb E X_j \le B_j` for M configurations.

    ``measure(samples, bounds)`` takes X of shape (M, S), S independent seeds, and B of
    shape (M,), or one row and one number. Each mean has an interval at the level that
    serves all M at once; verified when every upper end is at most
    :math:`(1+\theta) B_j`, refuted when a lower end is above its bound, else
    inconclusive. The worst ratio of mean and bound is the tightness.

    Parameters
    ----------
    name : str
        The inequality, in words.
    tolerance : float
        The room :math:`\theta` without which an attained bound could never be verified,
        at most .05.
    """

    kind = "mean bound"
    carries = ("bound",)

    def __init__(self, name: str, tolerance: float = 0.0) -> None:
        super().__init__(name)
        self.tolerance = finite("tolerance", tolerance)
        if not 0 <= self.tolerance <= 0.05:
            raise ClaimError(f"tolerance: expected a number in [0, .05], got {tolerance!r}")
        self.predicted = "mean of left <= right"

    def _judge(self, samples: Any, bounds: Any, control: bool = False) -> Outcome:
        samples = np.atleast_2d(as_array("samples", samples))
        bounds = as_array("bounds", bounds).ravel()
        if samples.ndim != 2 or len(bounds) != len(samples):
            raise ClaimError(
                f"bounds: {len(bounds)} for samples of shape {samples.shape}, (M, S) is needed"
            )
        if not (np.isfinite(samples).all() and np.isfinite(bounds).all()):
            return not_finite("a side")
        if (bounds <= 0).any():
            raise ClaimError("bounds: must be positive; a mean below 0 is a Reproduction")
        seeds = samples.shape[1]
        means = samples.mean(1)
        worst = float((means / bounds).max())
        details = {"seeds": seeds, "trials": len(bounds), "tightness": worst}
        if seeds < FEWEST:
            reason = f"{seeds} seeds, at least {FEWEST} are needed"
            return Outcome(INCONCLUSIVE, worst, None, reason, details)
        if (np.ptp(samples, axis=1) == 0).any():
            return Outcome(
                INCONCLUSIVE, worst, None, "no variation: copies, or not random", details
            )
        quantile = 1.0 - _TAIL / len(bounds)
        low, high = np.array([mean_interval(row, quantile)[1] for row in samples]).T / bounds
        at = int(np.argmax(means / bounds))
        interval = (float(low[at]), float(high[at]))
        if (low > 1).any():
            return Outcome(REFUTED, worst, interval, "a mean is above its bound", details)
        if (high <= 1 + self.tolerance).all():
            return Outcome(VERIFIED, worst, interval, "every mean is below its bound", details)
        return Outcome(INCONCLUSIVE, worst, interval, "an interval holds its bound", details)

    @property
    def word(self) -> str:
        """attained, sharp, not sharp or idle, for a bound that was measured."""
        return tightness_word(self._outcome.details.get("tightness") if self._outcome else None)

    def record(self) -> dict[str, Any]:
        """Return the check as plain JSON data, with the word of its tightness."""
        return super().record() | {"word": self.word if self._outcome else None}


class ShareBound(Check):
    r"""A bound that holds with probability at least :math:`1-\delta`.

    ``measure(left, right)`` takes N independent draws of both sides. Verified when the
    upper end of the share of violations (Clopper and Pearson, 99.95 %) is at most
    :math:`\delta`, refuted when the lower end is above it, else inconclusive: without a
    violation it takes :math:`\ln .0005/\ln(1-\delta)` draws, 757 for a hundredth.

    Parameters
    ----------
    name : str
        The inequality, in words.
    delta : float
        The probability that the statement leaves.
    """

    kind = "share bound"
    carries = ("bound",)

    def __init__(self, name: str, delta: float) -> None:
        super().__init__(name)
        self.tolerance = finite("delta", delta, positive=True)
        if self.tolerance >= 1:
            raise ClaimError(f"delta: expected a probability below 1, got {delta!r}")
        self.predicted = f"violated with probability <= {self.tolerance:g}"

    def _judge(self, left: Any, right: Any, control: bool = False) -> Outcome:
        left, right = in_pairs(left, right)
        if not (np.isfinite(left).all() and np.isfinite(right).all()):
            return not_finite("a side")
        if left.ndim > 1 and left.size > len(left):
            raise ClaimError(f"left: one draw a seed is needed, got shape {left.shape}")
        violations, draws = int((left > right).sum()), int(left.size)
        low, high = _share_above(violations, draws)
        details = {"trials": draws, "violations": violations}
        if (right > 0).all():
            details["tightness"] = float((left / right).max())
        found = (violations / draws, (low, high))
        if high <= self.tolerance:
            return Outcome(VERIFIED, *found, "violated seldom enough", details)
        if low > self.tolerance:
            return Outcome(REFUTED, *found, "violated too often", details)
        need = math.ceil(math.log(_TAIL) / math.log1p(-self.tolerance))
        return Outcome(
            INCONCLUSIVE,
            *found,
            f"too few draws to tell; at least {need} without violation",
            details,
        )
