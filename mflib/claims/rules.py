r"""The rules: one for each kind of check, all judged at 99.9 %.

The rules belong to the library, not to a chapter, so that no chapter can bend them:

========================  ==========================================================
identity                  verified within the tolerance, refuted beyond ten times it
rate, limit               equivalence tests: verified when the whole 99.9 % interval
                          lies within prediction +- tolerance, refuted when it lies
                          wholly outside, else inconclusive
bound                     over all trials and an adversarial search; the worst ratio
                          is kept as the tightness
counterexample            the sentence evaluated on an explicit instance
reproduction              an open question, reported whichever way
========================  ==========================================================

NaN or infinity anywhere is never verified.
"""

from __future__ import annotations

import math
import operator
from fractions import Fraction
from typing import Any

import numpy as np

from .checks import INCONCLUSIVE, REFUTED, VERIFIED, Check, ClaimError, Outcome
from .intervals import local_slopes, mean_interval, slope_interval

__all__ = ["Bound", "Counterexample", "Identity", "Limit", "Rate", "Reproduction"]


def as_array(name: str, values: Any) -> np.ndarray:
    """Return values (tensor, array, list or number) as a float64 array, never empty."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ClaimError(f"{name}: cannot be read as numbers ({error})") from None
    if array.size == 0:
        raise ClaimError(f"{name}: is empty; measure at least one value")
    return array


def _not_finite(what: str) -> Outcome:
    return Outcome(INCONCLUSIVE, None, reason=f"{what} holds NaN or infinity")


def _positive(name: str, value: float) -> float:
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
        raise ClaimError(f"{name}: expected a positive finite number, got {value!r}")
    return float(value)


def _equivalence(
    measured: float, interval: tuple[float, float] | None, value: float, tolerance: float
) -> tuple[str, str]:
    """Judge an interval against prediction +- tolerance."""
    if interval is None:
        return INCONCLUSIVE, "no interval: a single seed decides nothing"
    if not np.isfinite([measured, *interval]).all():
        return INCONCLUSIVE, "the interval is not finite"
    lo, hi = interval
    if lo > hi:
        raise ClaimError(f"interval: ({lo}, {hi}) is upside down")
    if value - tolerance <= lo and hi <= value + tolerance:
        return VERIFIED, "the whole interval lies within the prediction's tolerance"
    if hi < value - tolerance or lo > value + tolerance:
        return REFUTED, "the whole interval lies outside the prediction's tolerance"
    return INCONCLUSIVE, "the interval straddles the edge of the tolerance"


class Identity(Check):
    r"""An equality at finite size, to rounding.

    ``measure(left, right)`` takes the error :math:`\max|l - r| / \max|r|`;
    ``measure(error)`` takes errors as they are.

    Parameters
    ----------
    name : str
        What equals what.
    tolerance : float
        Verified up to here, refuted beyond ten times it.
    """

    kind = "identity"

    def __init__(self, name: str, tolerance: float) -> None:
        super().__init__(name)
        self.tolerance = _positive("tolerance", tolerance)
        self.predicted = 0.0

    def _judge(self, left: Any, right: Any = None) -> Outcome:
        left = as_array("left", left)
        if right is None:
            error = np.abs(left)
        else:
            right = as_array("right", right)
            error = np.abs(left - right)
            scale = np.abs(right).max()
            error = error / scale if scale > 0 else error
        if not np.isfinite(error).all():
            return _not_finite("the error")
        worst = float(error.max())
        details = {"cases": int(error.size)}
        if worst <= self.tolerance:
            return Outcome(VERIFIED, worst, None, "within the tolerance", details)
        if worst > 10 * self.tolerance:
            return Outcome(REFUTED, worst, None, "beyond ten times the tolerance", details)
        return Outcome(INCONCLUSIVE, worst, None, "just beyond the tolerance", details)


class Rate(Check):
    r"""A power law: the log-log slope of an error over sizes, averaged over seeds.

    ``measure(sizes, errors)`` with `errors` of shape (seeds, sizes).

    Parameters
    ----------
    name : str
        The error, in words.
    slope : float
        The predicted exponent.
    tolerance : float
        The whole 99.9 % bootstrap interval must lie within slope +- tolerance.
    over : str
        The name of the size.
    logarithm : float
        The known exponent of log(size), divided out first.
    statistic : {"rms", "mean", "geometric"}
        The average over seeds: rms for random errors, the geometric mean for errors
        that are deterministic in each problem (it averages the problems' own slopes).
    """

    kind = "rate"

    def __init__(
        self,
        name: str,
        slope: float,
        tolerance: float = 0.06,
        over: str = "n",
        logarithm: float = 0.0,
        statistic: str = "rms",
    ) -> None:
        super().__init__(name)
        if not math.isfinite(slope):
            raise ClaimError(f"slope: expected a finite number, got {slope!r}")
        if statistic not in ("rms", "mean", "geometric"):
            raise ClaimError(f"statistic: {statistic!r} is none of rms, mean, geometric")
        self.predicted = float(slope)
        self.tolerance = _positive("tolerance", tolerance)
        self.over, self.logarithm, self.statistic = over, float(logarithm), statistic

    def _judge(self, sizes: Any, errors: Any) -> Outcome:
        sizes, errors = as_array("sizes", sizes), as_array("errors", errors)
        if errors.ndim == 1:
            errors = errors[None]
        if sizes.ndim != 1 or errors.ndim != 2 or errors.shape[1] != len(sizes):
            raise ClaimError(
                f"errors: shape {errors.shape} is not (seeds, {len(sizes)}) for the sizes"
            )
        if len(np.unique(sizes)) < 3 or (sizes <= 0).any():
            raise ClaimError("sizes: a slope needs at least three different positive sizes")
        if not np.isfinite(errors).all():
            return _not_finite("an error")
        if self.logarithm:
            errors = errors / np.log(sizes) ** self.logarithm
        smallest = errors if self.statistic == "geometric" else np.abs(errors).max(0)
        if not (np.abs(smallest) > 0).all():
            return Outcome(INCONCLUSIVE, None, reason="an error vanishes: no slope")
        slope, interval, averaged = slope_interval(sizes, errors, self.statistic)
        verdict, reason = _equivalence(slope, interval, self.predicted, self.tolerance)
        half = None if interval is None else 0.5 * (interval[1] - interval[0])
        details = {
            "over": self.over,
            "sizes": sizes.tolist(),
            "averaged": averaged.tolist(),
            "local_slopes": local_slopes(sizes, averaged).tolist(),
            "seeds": len(errors),
            "power": None if half is None else self.tolerance + half,
        }
        return Outcome(verdict, slope, interval, reason, details)


class Limit(Check):
    r"""A number reached in a limit, judged by an equivalence test.

    ``measure(samples)`` takes independent samples (one a seed);
    ``measure(estimate, interval=(lo, hi))`` takes an enclosure made elsewhere.

    Parameters
    ----------
    name : str
        The quantity.
    value : float
        The predicted limit.
    tolerance : float
        Absolute; the whole interval must lie within value +- tolerance.
    """

    kind = "limit"

    def __init__(self, name: str, value: float, tolerance: float) -> None:
        super().__init__(name)
        if not math.isfinite(value):
            raise ClaimError(f"value: expected a finite number, got {value!r}")
        self.predicted = float(value)
        self.tolerance = _positive("tolerance", tolerance)

    def _judge(self, samples: Any, interval: tuple[float, float] | None = None) -> Outcome:
        samples = as_array("samples", samples).ravel()
        if not np.isfinite(samples).all():
            return _not_finite("a sample")
        if interval is None:
            measured, interval = mean_interval(samples)
        else:
            measured = float(samples.mean())
            interval = (float(interval[0]), float(interval[1]))
        verdict, reason = _equivalence(measured, interval, self.predicted, self.tolerance)
        return Outcome(verdict, measured, interval, reason, {"seeds": len(samples)})


class Bound(Check):
    r"""An inequality ``left <= right`` over all trials and an adversarial search.

    ``measure(left, right)`` takes the trials, ``adversary(left, right)`` adds what an
    adversarial search found; the worst ratio left/right is the tightness.

    Parameters
    ----------
    name : str
        The inequality, in words.
    tolerance : float
        Room for rounding in the ratio, relative.
    """

    kind = "bound"

    def __init__(self, name: str, tolerance: float = 1e-12) -> None:
        super().__init__(name)
        self.tolerance = _positive("tolerance", tolerance)
        self.predicted = "left <= right"

    def _judge(self, left: Any, right: Any) -> Outcome:
        left, right = np.broadcast_arrays(as_array("left", left), as_array("right", right))
        if not (np.isfinite(left).all() and np.isfinite(right).all()):
            return _not_finite("a side")
        excess = left - right
        scale = np.maximum(np.abs(left), np.abs(right))
        holds = bool((excess <= self.tolerance * scale).all())
        with np.errstate(divide="ignore", invalid="ignore"):
            # the ratio that is at most 1 when the bound holds, whatever the signs
            ratio = np.where(right > 0, left / right, np.where(left < 0, right / left, np.inf))
            ratio = np.where((right == 0) & (left <= 0), 0.0, ratio)
        worst = float(ratio.max())
        details = {
            "trials": int(left.size),
            "violations": int((excess > self.tolerance * scale).sum()),
            "tightness": worst if math.isfinite(worst) else None,
        }
        # where a ratio is infinite, the excess over the bound says by how much
        measured = worst if math.isfinite(worst) else float(excess.max())
        if holds:
            return Outcome(VERIFIED, measured, None, "holds in every trial", details)
        return Outcome(REFUTED, measured, None, "violated in a trial", details)

    def adversary(self, left: Any, right: Any) -> None:
        """Add the pairs found by an adversarial search; the worse outcome stays."""
        self._begin()
        if self.outcome is None:
            raise ClaimError(f"{self.name}: measure the trials before the adversary's")
        found, trials = self._judge(left, right), self.outcome
        order = (REFUTED, INCONCLUSIVE, VERIFIED)
        verdict = min(found.verdict, trials.verdict, key=order.index)
        ratios = [o.details.get("tightness") for o in (found, trials)]
        tightness = None if None in ratios else max(ratios)
        # an excess over a bound of zero is beyond every ratio
        shown = [o.measured for o, r in zip((found, trials), ratios, strict=True)
                 if o.measured is not None and (tightness is not None or r is None)]
        worst = max(shown, default=None)
        reason = found.reason if found.verdict == verdict else trials.reason
        details = dict(trials.details) | {
            "tightness": tightness,
            "adversary": found.measured,
            "adversary_trials": found.details.get("trials"),
        }
        self.outcome = Outcome(verdict, worst, None, reason, details)
        self.given += ((left, right),)
        self.claim.touch()


def _enclose(name: str, value: Any) -> tuple[Any, Any, bool]:
    """Return (lower, upper, exact) of a number, a Fraction or an enclosure."""
    if isinstance(value, tuple) and len(value) == 2:
        return value[0], value[1], True
    if hasattr(value, "a") and hasattr(value, "b"):
        return float(value.a), float(value.b), True
    if isinstance(value, (Fraction, int)) and not isinstance(value, bool):
        return value, value, True
    array = as_array(name, value)
    if array.size != 1:
        raise ClaimError(f"{name}: one instance, one number; got {array.size}")
    return float(array.item()), float(array.item()), False


class Counterexample(Check):
    r"""A sentence ``left relation right`` evaluated on an explicit instance.

    ``measure(left, right)`` with numbers, exact fractions or enclosures (lower, upper).
    Refuted when the sentence is violated beyond `rounding`; its control restores the
    hypothesis, and there the sentence must hold.

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
    expected = REFUTED
    _mirror = {">=": "<=", ">": "<"}

    def __init__(
        self, name: str, sentence: str, relation: str = "<=", rounding: float = 1e-12
    ) -> None:
        super().__init__(name)
        if relation not in ("<=", "<", ">=", ">", "=="):
            raise ClaimError(f"relation: {relation!r} is none of <=, <, >=, >, ==")
        if not (math.isfinite(rounding) and rounding >= 0):
            raise ClaimError(f"rounding: expected a finite number >= 0, got {rounding!r}")
        self.sentence, self.relation = sentence, relation
        self.tolerance = float(rounding)
        self.predicted = sentence

    def _judge(self, left: Any, right: Any) -> Outcome:
        llo, lhi, lexact = _enclose("left", left)
        rlo, rhi, rexact = _enclose("right", right)
        ends = [float(v) for v in (llo, lhi, rlo, rhi)]
        if not np.isfinite(ends).all():
            return _not_finite("a side")
        slack = 0 if lexact and rexact else self.tolerance
        relation = self.relation
        if relation in self._mirror:
            relation = self._mirror[relation]
            llo, lhi, rlo, rhi = rlo, rhi, llo, lhi
        if relation == "==":
            holds = max(lhi - rlo, rhi - llo) <= slack
            violated = max(llo - rhi, rlo - lhi) > slack
        elif relation == "<=":
            holds, violated = lhi <= rlo + slack, llo > rhi + slack
        else:
            holds, violated = lhi < rlo - slack, llo >= rhi - slack
        details = {"left": ends[:2], "right": ends[2:], "relation": self.relation}
        measured = 0.5 * (ends[0] + ends[1])
        interval = (ends[0], ends[1]) if lexact else None
        if violated:
            return Outcome(REFUTED, measured, interval, "the instance violates it", details)
        if holds:
            return Outcome(VERIFIED, measured, interval, "the instance satisfies it", details)
        return Outcome(INCONCLUSIVE, measured, interval, "enclosures overlap", details)


class Reproduction(Check):
    r"""An open question: is the quantity on the reported side of a value?

    ``measure(samples)`` takes independent samples, ``measure(estimate, interval=...)``
    an interval made elsewhere. Verified when the whole interval lies on the reported
    side, refuted when it lies on the other, else inconclusive.

    Parameters
    ----------
    name : str
        The quantity.
    relation : {">", "<"}
        The reported side.
    value : float
        The value it is compared with.
    """

    kind = "reproduction"
    expected = None

    def __init__(self, name: str, relation: str = ">", value: float = 0.0) -> None:
        super().__init__(name)
        if relation not in ("<", ">"):
            raise ClaimError(f"relation: {relation!r} is neither '<' nor '>'")
        self.relation, self.value = relation, float(value)
        self.predicted = f"{relation} {value:g}"

    def _judge(self, samples: Any, interval: tuple[float, float] | None = None) -> Outcome:
        samples = as_array("samples", samples).ravel()
        if not np.isfinite(samples).all():
            return _not_finite("a sample")
        if interval is None:
            measured, interval = mean_interval(samples)
        else:
            measured, interval = float(samples.mean()), tuple(float(v) for v in interval)
        details = {"seeds": len(samples)}
        if interval is None or not np.isfinite(interval).all():
            return Outcome(INCONCLUSIVE, measured, None, "no finite interval", details)
        beyond = {">": operator.gt, "<": operator.lt}[self.relation]
        if beyond(interval[0], self.value) and beyond(interval[1], self.value):
            return Outcome(VERIFIED, measured, interval, "wholly on the reported side", details)
        if not beyond(interval[0], self.value) and not beyond(interval[1], self.value):
            return Outcome(REFUTED, measured, interval, "wholly on the other side", details)
        return Outcome(INCONCLUSIVE, measured, interval, "the interval holds the value", details)
