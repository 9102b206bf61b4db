r"""The rules: one for each kind of check.

The rules belong to the library, not to a chapter, so that no chapter can bend them:

========================  ==========================================================
identity                  verified within the tolerance, refuted beyond ten times it
rate                      a slope and the slope at its end, both with intervals
limit                     verified when the whole interval lies within prediction +-
                          tolerance, refuted when it lies wholly outside
bound                     over all trials and an adversarial search; the worst ratio
                          is kept as the tightness
counterexample            the sentence evaluated on an explicit instance
reproduction              an open question, reported whichever way
========================  ==========================================================

NaN or infinity anywhere is never verified, nor are few seeds or copies of a seed. The
thresholds (a small quantity, a mean below a bound, a share of violations) are in
:mod:`mflib.claims.thresholds`.
"""

from __future__ import annotations

import math
import numbers
from fractions import Fraction
from typing import Any

import numpy as np

from .checks import INCONCLUSIVE, REFUTED, VERIFIED, Check, Outcome
from .evidence import ClaimError, as_array, in_pairs, rows_of
from .intervals import (
    LEVEL,
    POWERS,
    change_probability,
    contrasts,
    effective_seeds,
    intervals,
    log_average,
    mean_interval,
    power_factor,
)

__all__ = ["Bound", "Counterexample", "Identity", "Limit", "Rate", "Reproduction"]

#: Independent seeds below which a predicted slope, and anything else, decides nothing.
FEWEST_SEEDS, FEWEST = 12, 8

#: The largest tolerance of a rate, and of a limit relative to its value or scale.
CAP = 0.15

#: How far the end slope may lie from the prediction, in tolerances of the slope.
END = 3.0

_ROUNDING = 4 * np.finfo(float).eps


def not_finite(what: str) -> Outcome:
    """Return the outcome of a measurement that holds NaN or infinity."""
    return Outcome(INCONCLUSIVE, None, reason=f"{what} is NaN or infinite")


def finite(name: str, value: Any, positive: bool = False) -> float:
    """Return a finite real number, positive where asked; else raise ClaimError."""
    good = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        if good and math.isfinite(value) and (value > 0 or not positive):
            return float(value)
    except OverflowError:
        pass
    kind = "positive finite" if positive else "finite"
    raise ClaimError(f"{name}: expected a {kind} number, got {value!r}")


class Identity(Check):
    r"""An equality at finite size, to rounding.

    ``measure(left, right)`` takes the largest relative error of an entry,
    :math:`|l_i - r_i| / |r_i|`; ``measure(error)`` takes errors as they are. An entry
    that should vanish is compared with the largest of its array. Small entries of a
    vector that suffer from cancellation ask for a norm, which is named.

    Parameters
    ----------
    name : str
        What equals what.
    tolerance : float
        Verified up to here, refuted beyond ten times it.
    norm : {"all"} or int or tuple of int, optional
        Divide by the largest entry of the whole right side, or along these axes (one
        problem's vector in a batch), instead of by each entry itself.

    Examples
    --------
    >>> from mflib.claims import Claim
    >>> claim = Claim("X-1", paper="lu2020", where="w", kind="identity", statement="s")
    >>> claim.predict(Identity("a = b", 1e-6)).measure([1e8, 1.0], [1e8, 2.0])
    >>> claim.checks[0].verdict
    'refuted'
    """

    kind = "identity"
    carries = ("identity",)

    def __init__(
        self, name: str, tolerance: float, norm: str | int | tuple[int, ...] | None = None
    ) -> None:
        super().__init__(name)
        axes = norm if isinstance(norm, tuple) else (norm,)
        if norm not in (None, "all") and not all(type(axis) is int for axis in axes):
            raise ClaimError(f"norm: {norm!r} is none of None, 'all', an axis, several axes")
        self.tolerance = finite("tolerance", tolerance, positive=True)
        self.norm = norm
        self.predicted = 0.0

    def _scale(self, right: np.ndarray) -> np.ndarray | float:
        size = np.abs(right)
        if self.norm is None:
            scale = np.where(size > 0, size, size.max())
        elif self.norm == "all":
            scale = size.max()
        else:
            try:
                scale = size.max(axis=self.norm, keepdims=True)
            except (ValueError, IndexError) as error:
                raise ClaimError(f"norm: {self.norm!r} on shape {right.shape} ({error})") from None
        return np.where(scale > 0, scale, 1.0)

    def _judge(self, left: Any, right: Any = None, control: bool = False) -> Outcome:
        if right is None:
            error = np.abs(as_array("left", left))
        else:
            left, right = in_pairs(left, right)
            if not (np.isfinite(left).all() and np.isfinite(right).all()):
                return not_finite("a side")
            scale = self._scale(right)
            with np.errstate(over="ignore"):
                error = np.abs(left / scale - right / scale)
                error = np.where(np.isfinite(error), error, np.finfo(float).max)
        if not np.isfinite(error).all():
            return not_finite("the error")
        worst = float(error.max())
        details = {"cases": int(error.size)}
        if self.norm is not None:
            details["norm"] = self.norm
        if worst <= self.tolerance:
            return Outcome(VERIFIED, worst, None, "within the tolerance", details)
        if worst > 10 * self.tolerance:
            return Outcome(REFUTED, worst, None, "beyond ten times the tolerance", details)
        return Outcome(INCONCLUSIVE, worst, None, "just beyond the tolerance", details)


class Rate(Check):
    r"""A power law: the log-log slope of an error over sizes, and its slope at the end.

    ``measure(sizes, errors)`` with `errors` of shape (seeds, sizes); ``clusters=`` names
    the independent unit of every row (a problem, a data set), whose rows are averaged
    first. A power law is also a claim that the line is straight, so two slopes are
    judged: that of the line and that of a parabola at the end `toward` which the law is
    claimed.

    ==============  ================================================================
    verified        the interval of the slope lies within slope +- tolerance and that
                    of the end slope within slope +- 3 tolerances
    refuted         the end slope lies wholly outside (*bent*), or the slope does and
                    the end slope does not return to the prediction
    inconclusive    else; also fewer than 12 seeds (8 for a control or a premise),
                    copies of a seed, fewer than 4 sizes, or sizes less than a
                    factor 8 apart
    ==============  ================================================================

    Parameters
    ----------
    name : str
        The error, in words.
    slope : float
        The predicted exponent.
    tolerance : float
        At most .15, and at most a quarter of the distance to `competing`.
    over : str
        The name of the size.
    logarithm : float
        The known exponent of \|log(size)\|, divided out first.
    statistic : {"rms", "mean", "geometric"}
        The average over seeds. The geometric mean averages the seeds' own slopes, and
        no seed can dominate it; rms and mean are for statements about a moment, for
        errors that can vanish and for laws that change their shape with the size.
    toward : {"large", "small"}, optional
        The end where the law is claimed; default: small for sizes up to 1, large for
        sizes from 1 on. Sizes on both sides of 1 must say.
    competing : float, optional
        The nearest exponent that another theory, or a bug, would give.

    Examples
    --------
    >>> from mflib.claims import Claim
    >>> claim = Claim("X-1", paper="lu2020", where="w", kind="rate", statement="s")
    >>> rate = claim.predict(Rate("error", -0.5, statistic="geometric", competing=-1.0))
    >>> rng = np.random.default_rng(0)
    >>> n = 2.0 ** np.arange(4, 10)
    >>> rate.measure(n, n**-0.5 * np.exp(0.05 * rng.normal(size=(24, 6))))
    >>> rate.verdict
    'verified'
    """

    kind = "rate"
    carries = ("rate",)

    def __init__(
        self,
        name: str,
        slope: float,
        tolerance: float = 0.06,
        over: str = "n",
        logarithm: float = 0.0,
        statistic: str = "rms",
        toward: str | None = None,
        competing: float | None = None,
    ) -> None:
        super().__init__(name)
        if statistic not in POWERS:
            raise ClaimError(f"statistic: {statistic!r} is none of {', '.join(POWERS)}")
        if toward not in ("large", "small", None):
            raise ClaimError(f"toward: {toward!r} is neither 'large' nor 'small'")
        self.predicted = finite("slope", slope)
        self.tolerance = finite("tolerance", tolerance, positive=True)
        if self.tolerance > CAP:
            raise ClaimError(f"tolerance: {tolerance} is wider than {CAP}; neighbours would pass")
        self.competing = None if competing is None else finite("competing", competing)
        if self.competing is not None:
            room = abs(self.competing - self.predicted) / 4
            if self.tolerance > room * (1 + 1e-12):
                raise ClaimError(
                    f"tolerance: {tolerance} is more than a quarter of the distance to the"
                    f" competing exponent {competing}; at most {room:.4g}"
                )
        self.over, self.logarithm = over, finite("logarithm", logarithm)
        self.statistic, self.toward = statistic, toward

    def unsaid(self) -> list[str]:
        """What the rules ask for and the check does not say, a few words each."""
        competing = [] if self.competing is not None else ["no competing exponent named"]
        return super().unsaid() + competing

    def _rows(self, sizes: Any, errors: Any, clusters: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return sizes and one row of errors a cluster, or raise ClaimError."""
        sizes, errors = as_array("sizes", sizes), as_array("errors", errors)
        if errors.ndim == 1:
            errors = errors[None]
        if sizes.ndim != 1 or errors.ndim != 2 or errors.shape[1] != len(sizes):
            raise ClaimError(
                f"errors: shape {errors.shape} is not (seeds, {sizes.size}) for the sizes"
            )
        if not np.isfinite(sizes).all() or (sizes <= 0).any():
            raise ClaimError("sizes: must be positive and finite")
        if len(np.unique(sizes)) < len(sizes):
            raise ClaimError("sizes: one is repeated")
        if self.logarithm:
            if (sizes == 1).any():
                raise ClaimError("sizes: the logarithm of 1 cannot be divided out")
            errors = errors / np.abs(np.log(sizes)) ** self.logarithm
        return sizes, rows_of(errors, clusters, POWERS[self.statistic])

    def _end(self, sizes: np.ndarray) -> str | None:
        if self.toward is None and sizes.min() < 1 < sizes.max():
            return None
        return self.toward or ("large" if sizes.min() >= 1 else "small")

    def _obstacle(self, sizes: np.ndarray, rows: np.ndarray, fewest: int) -> str | None:
        """Return why these rows decide nothing, None if they may."""
        if not np.isfinite(rows).all():
            return "an error is NaN or infinite"
        size = np.abs(rows)
        if not ((size if self.statistic == "geometric" else size.max(0)) > 0).all():
            return "an error vanishes: no slope"
        if len(rows) < fewest:
            return f"{len(rows)} independent seeds, at least {fewest} are needed"
        if len(sizes) < 4:
            return f"{len(sizes)} sizes, at least 4 are needed to see a line bend"
        if sizes.max() < 8 * sizes.min():
            return f"sizes over a factor {sizes.max() / sizes.min():.3g}, at least 8 is needed"
        if self._end(sizes) is None:
            return "sizes on both sides of 1: toward='large' or 'small' is to be said"
        scaled = rows / np.abs(rows).max(0)
        scaled = scaled[np.lexsort(scaled.T)]
        if (np.abs(np.diff(scaled, axis=0)).max(1) <= _ROUNDING).any():
            return "two seeds gave the same errors: copies are no seeds"
        return None

    def _judge(
        self, sizes: Any, errors: Any, clusters: Any = None, control: bool = False
    ) -> Outcome:
        sizes, rows = self._rows(sizes, errors, clusters)
        few = control or self.role != "predicted"
        details: dict[str, Any] = {
            "over": self.over,
            "sizes": sizes.tolist(),
            "seeds": len(rows),
            "statistic": self.statistic,
            "competing": self.competing,
        }
        obstacle = self._obstacle(sizes, rows, FEWEST if few else FEWEST_SEEDS)
        with np.errstate(divide="ignore", invalid="ignore"):
            averaged = log_average(rows, self.statistic)
        slope = None
        if len(sizes) > 1 and np.isfinite(averaged).all():
            u = np.log(sizes) - np.log(sizes).mean()
            slope = float(averaged @ u / (u @ u))
            details["averaged"] = np.exp(np.clip(averaged, -700, 700)).tolist()
            order = np.argsort(sizes)
            details["local_slopes"] = (
                np.diff(averaged[order]) / np.diff(np.log(sizes[order]))
            ).tolist()
        if obstacle:
            return Outcome(INCONCLUSIVE, slope, None, obstacle, details)
        return self._decide(sizes, rows, details)

    def _decide(self, sizes: np.ndarray, rows: np.ndarray, details: dict[str, Any]) -> Outcome:
        toward = self._end(sizes)
        contrast = contrasts(sizes, toward)
        found, low, high = intervals(rows, self.statistic, contrast)
        if not np.isfinite([found, low, high]).all():
            return Outcome(INCONCLUSIVE, None, None, "the interval is not finite", details)
        a, tol, end = self.predicted, self.tolerance, END * self.tolerance
        verdict, reason = self._verdict(low - a, high - a, tol, end)
        seeds, half = len(rows), 0.5 * (high - low)
        kappa = power_factor(seeds)
        power = max(tol + kappa * half[0], kappa * half[1])
        fine = 100 if power > 0.1 else 1000
        change = max(
            change_probability((low[0], high[0]), (a - tol, a + tol), seeds),
            change_probability((low[1], high[1]), (a - end, a + end), seeds),
        )
        details |= {
            "toward": toward,
            "end_slope": float(found[1]),
            "end_interval": [float(low[1]), float(high[1])],
            "effective_seeds": effective_seeds(rows, self.statistic),
            "power": math.ceil(power * fine) / fine,
            "change": change,
        } | self._other_average(rows, contrast, (low[0], high[0]))
        return Outcome(verdict, float(found[0]), (float(low[0]), float(high[0])), reason, details)

    @staticmethod
    def _verdict(low: np.ndarray, high: np.ndarray, tol: float, end: float) -> tuple[str, str]:
        """Judge the intervals of the slope and the end slope, both minus the prediction."""
        outside = 1 if low[0] > tol else -1 if high[0] < -tol else 0
        bent = 1 if low[1] > end else -1 if high[1] < -end else 0
        if bent:
            if bent == outside:
                return REFUTED, "another exponent: slope and end slope lie outside"
            return REFUTED, "bent: the slope at the end lies outside three tolerances"
        if (outside > 0 and low[1] > 0) or (outside < 0 and high[1] < 0):
            return REFUTED, "the slope lies outside, and the end slope does not return"
        if outside:
            return INCONCLUSIVE, "finite size: the end slope may return; take larger sizes"
        if low[0] < -tol or high[0] > tol:
            return INCONCLUSIVE, "the interval straddles the edge of the tolerance"
        if low[1] < -end or high[1] > end:
            return INCONCLUSIVE, "straightness not shown: the end slope is too uncertain"
        return VERIFIED, "slope within the tolerance, straight to the end"

    def _other_average(
        self, rows: np.ndarray, contrast: np.ndarray, mine: tuple[float, float]
    ) -> dict[str, Any]:
        """The slope of the other average, and whether it is another exponent."""
        other = "rms" if self.statistic == "geometric" else "geometric"
        if other == "geometric" and not (np.abs(rows) > 0).all():
            return {}
        found, low, high = intervals(rows, other, contrast[:, :1])
        apart = bool(low[0] > mine[1] or high[0] < mine[0])
        return {"other": {"statistic": other, "slope": float(found[0]), "disjoint": apart}}


def _samples(
    samples: Any, interval: Any, seeds: int | None, clusters: Any
) -> tuple[float, tuple[float, float] | None, int, str | None]:
    """Return mean, interval, seeds and the obstacle of a measured number.

    Raises
    ------
    ClaimError
        For an interval that is upside down, that does not hold its estimate, or that
        comes with more than one estimate.
    """
    samples = as_array("samples", samples)
    if samples.ndim > 1 and samples.size > len(samples):
        words = f"one number a seed is needed, got shape {samples.shape}"
        return math.nan, None, len(samples), words
    samples = rows_of(samples.ravel(), clusters, None)
    if interval is not None:
        return _given(samples, interval, seeds)
    if seeds is not None:
        raise ClaimError("seeds: belongs to an interval; samples are counted")
    if not np.isfinite(samples).all():
        return math.nan, None, len(samples), "a sample is NaN or infinite"
    mean, count, distinct = float(samples.mean()), len(samples), len(np.unique(samples))
    if count < FEWEST:
        return mean, None, count, f"{count} independent seeds, at least {FEWEST} are needed"
    if np.ptp(samples) <= _ROUNDING * np.abs(samples).max():
        return mean, None, count, "no variation: not random (state an identity), or copies"
    if 2 * distinct <= count:
        return mean, None, count, f"{distinct} different values: copies are no seeds"
    mean, found = mean_interval(samples)
    return mean, found, count, None


def _given(
    samples: np.ndarray, interval: Any, seeds: int | None
) -> tuple[float, tuple[float, float] | None, int, str | None]:
    ends = as_array("interval", interval)
    if ends.shape != (2,):
        raise ClaimError(f"interval: expected (low, high), got shape {ends.shape}")
    low, high = (float(v) for v in ends)
    mean = float(samples.mean())
    if low > high:
        raise ClaimError(f"interval: ({low}, {high}) is upside down")
    if seeds is not None and (isinstance(seeds, bool) or int(seeds) != seeds or seeds < 0):
        raise ClaimError(f"seeds: expected a whole number >= 0, got {seeds!r}")
    count = len(samples) if seeds is None and len(samples) > 1 else int(seeds or 0)
    if not np.isfinite([mean, low, high]).all():
        return mean, None, count, "the interval is not finite"
    if not low <= mean <= high:
        raise ClaimError(f"interval: ({low}, {high}) does not hold its estimate {mean}")
    if seeds is None and len(samples) == 1:
        return mean, (low, high), 0, "seeds= is not said: how many independent seeds it rests on"
    if 0 < count < FEWEST:
        return mean, (low, high), count, f"{count} independent seeds, at least {FEWEST} are needed"
    if low == high and count:
        return mean, (low, high), count, "an interval of width zero is no interval"
    return mean, (low, high), count, None


class Limit(Check):
    r"""A number reached in a limit, judged by an equivalence test.

    ``measure(samples)`` takes independent samples (one a seed, ``clusters=`` as for a
    rate); ``measure(estimate, interval=(lo, hi), seeds=n)`` takes an interval made
    elsewhere, ``seeds=0`` a rigorous enclosure. Verified when the whole interval lies
    within value +- tolerance, refuted when it lies wholly outside, else inconclusive;
    fewer than 8 seeds, no variation and copies decide nothing.

    A small quantity ("the error ends below 1e-8") is no mean: see
    :class:`mflib.claims.Below`.

    Parameters
    ----------
    name : str
        The quantity.
    value : float
        The predicted limit.
    tolerance : float
        Absolute, at most .15 of the value or of the scale.
    scale : float, optional
        What a value of 0 is small against.
    """

    kind = "limit"
    carries = ("limit",)

    def __init__(
        self, name: str, value: float, tolerance: float, scale: float | None = None
    ) -> None:
        super().__init__(name)
        self.predicted = finite("value", value)
        self.tolerance = finite("tolerance", tolerance, positive=True)
        self.scale = None if scale is None else finite("scale", scale, positive=True)
        against = self.scale or abs(self.predicted)
        if against and self.tolerance > CAP * against * (1 + 1e-12):
            raise ClaimError(f"tolerance: {tolerance} is more than {CAP} of {against:g}")

    def unsaid(self) -> list[str]:
        """What the rules ask for and the check does not say, a few words each."""
        silent = self.predicted == 0 and self.scale is None
        return super().unsaid() + ["no scale named for a limit 0"] * silent

    def _judge(
        self,
        samples: Any,
        interval: Any = None,
        seeds: int | None = None,
        clusters: Any = None,
        control: bool = False,
    ) -> Outcome:
        mean, found, count, obstacle = _samples(samples, interval, seeds, clusters)
        details: dict[str, Any] = {"seeds": count}
        measured = mean if math.isfinite(mean) else None
        if obstacle:
            return Outcome(INCONCLUSIVE, measured, found, obstacle, details)
        low, high = self.predicted - self.tolerance, self.predicted + self.tolerance
        if count:
            half = 0.5 * (found[1] - found[0])
            details["power"] = self.tolerance + power_factor(max(count, 3)) * half
            details["change"] = change_probability(found, (low, high), count)
        if low <= found[0] and found[1] <= high:
            return Outcome(VERIFIED, measured, found, "wholly within the tolerance", details)
        if found[1] < low or found[0] > high:
            return Outcome(REFUTED, measured, found, "wholly outside the tolerance", details)
        return Outcome(
            INCONCLUSIVE,
            measured,
            found,
            "the interval straddles the edge of the tolerance",
            details,
        )


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
        self._claim.touch()

    @property
    def word(self) -> str:
        """attained, sharp, not sharp or idle, for a bound that was measured."""
        return tightness_word(self._outcome.details.get("tightness") if self._outcome else None)

    def record(self) -> dict[str, Any]:
        """Return the check as plain JSON data, with the word of its tightness."""
        return super().record() | {"word": self.word if self._outcome else None}


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


class Reproduction(Check):
    r"""An open question: is the quantity on the reported side of a value?

    ``measure(samples)`` takes independent samples, ``measure(estimate, interval=...,
    seeds=n)`` an interval made elsewhere. Verified when the whole interval lies on the
    reported side, refuted when it lies on the other, else inconclusive; fewer than 8
    seeds and copies decide nothing.

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
    carries = ("reproduction",)
    expected = None

    def __init__(self, name: str, relation: str = ">", value: float = 0.0) -> None:
        super().__init__(name)
        if relation not in ("<", ">"):
            raise ClaimError(f"relation: {relation!r} is neither '<' nor '>'")
        self.relation, self.value = relation, finite("value", value)
        self.predicted = f"{relation} {value:g}"

    def _judge(
        self,
        samples: Any,
        interval: Any = None,
        seeds: int | None = None,
        clusters: Any = None,
        level: float = LEVEL,
        control: bool = False,
    ) -> Outcome:
        mean, found, count, obstacle = _samples(samples, interval, seeds, clusters)
        measured = mean if math.isfinite(mean) else None
        details: dict[str, Any] = {"seeds": count}
        if interval is not None:
            details["level"] = finite("level", level, positive=True)
        if obstacle:
            return Outcome(INCONCLUSIVE, measured, found, obstacle, details)
        if count:
            details["change"] = change_probability(found, (self.value,), count)
        above, below = found[0] > self.value, found[1] < self.value
        if above if self.relation == ">" else below:
            return Outcome(VERIFIED, measured, found, "wholly on the reported side", details)
        if below if self.relation == ">" else above:
            return Outcome(REFUTED, measured, found, "wholly on the other side", details)
        return Outcome(INCONCLUSIVE, measured, found, "the interval holds the value", details)
