r"""The rule of a sentence that an explicit instance violates."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from .checks import INCONCLUSIVE, REFUTED, VERIFIED, Check, Outcome, finite, not_finite
from .evidence import ClaimError, as_array

__all__ = ["Counterexample"]


def _enclose(name: str, value: Any) -> tuple[Any, Any, bool]:
    """Return (lower, upper, exact) of a number, a Fraction or an enclosure."""
    if isinstance(value, tuple) and len(value) == 2:
        (low, _, _), (_, high, _) = (_enclose(name, end) for end in value)
        if low > high:
            raise ClaimError(f"{name}: the enclosure ({low}, {high}) is upside down")
        return low, high, True
    if hasattr(value, "a") and hasattr(value, "b"):
        return float(value.a), float(value.b), True
    if isinstance(value, (Fraction, int)) and not isinstance(value, bool):
        return value, value, True
    array = as_array(name, value)
    if array.size != 1:
        raise ClaimError(f"{name}: one instance, one number; got {array.size}")
    return float(array.item()), float(array.item()), False


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


class Counterexample(Check):
    r"""A sentence ``left relation right`` evaluated on an explicit instance.

    ``measure(left, right)`` with numbers, exact fractions or enclosures (lower, upper).
    Refuted when the sentence is violated beyond `rounding`; its control restores the
    hypothesis, and there the sentence must hold. Floats that agree to rounding decide
    neither ``<`` nor its violation: an instance of equality needs exact arithmetic, or a
    sentence that says by how much.

    Parameters
    ----------
    name : str
        The instance, in words.
    sentence : str
        The sentence, in words or symbols.
    relation : {"<=", "<", ">=", ">", "=="}
        How the sentence relates left to right.
    rounding : float
        Absolute room for rounding of floats; enclosures and fractions need none.
    """

    kind = "counterexample"
    carries = ("counterexample",)
    expected = REFUTED
    _mirror = {">=": "<=", ">": "<"}

    def __init__(
        self, name: str, sentence: str, relation: str = "<=", rounding: float = 1e-12
    ) -> None:
        super().__init__(name)
        if relation not in ("<=", "<", ">=", ">", "=="):
            raise ClaimError(f"relation: {relation!r} is none of <=, <, >=, >, ==")
        self.tolerance = finite("rounding", rounding)
        if self.tolerance < 0:
            raise ClaimError(f"rounding: expected a number >= 0, got {rounding!r}")
        self.sentence, self.relation = sentence, relation
        self.predicted = sentence

    def _judge(self, left: Any, right: Any, control: bool = False) -> Outcome:
        llo, lhi, lexact = _enclose("left", left)
        rlo, rhi, rexact = _enclose("right", right)
        ends = [_float(v) for v in (llo, lhi, rlo, rhi)]
        if not np.isfinite(ends).all():
            return not_finite("a side")
        slack = 0 if lexact and rexact else self.tolerance
        relation = self.relation
        if relation in self._mirror:
            relation = self._mirror[relation]
            llo, lhi, rlo, rhi = rlo, rhi, llo, lhi

        def above(a: Any, b: Any) -> bool:  # a comparison is exact, a difference may not be
            return a - b > slack if slack else a > b

        if relation == "==":
            holds = not above(lhi, rlo) and not above(rhi, llo)
            violated = above(llo, rhi) or above(rlo, lhi)
        elif relation == "<=":
            holds, violated = not above(lhi, rlo), above(llo, rhi)
        else:
            # exact equality violates <; of floats, only what exceeds the rounding does
            holds = above(rlo, lhi)
            violated = above(llo, rhi) or (lexact and rexact and llo >= rhi)
        details = {"left": ends[:2], "right": ends[2:], "relation": self.relation}
        measured = 0.5 * ends[0] + 0.5 * ends[1]
        interval = (ends[0], ends[1]) if lexact else None
        if violated:
            return Outcome(REFUTED, measured, interval, "the instance violates it", details)
        if holds:
            return Outcome(VERIFIED, measured, interval, "the instance satisfies it", details)
        reason = "enclosures overlap" if not slack else "equal to rounding"
        return Outcome(INCONCLUSIVE, measured, interval, reason, details)
