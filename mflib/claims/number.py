r"""The rules of a number: a limit reached, and a reported difference reproduced or not."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import scipy  # its parts are loaded when they are used

from .checks import (
    CAP,
    FEWEST,
    INCONCLUSIVE,
    PREDICTED,
    REFUTED,
    ROUNDING,
    VERIFIED,
    Check,
    Outcome,
    finite,
)
from .evidence import ClaimError, as_array, rows_of
from .intervals import LEVEL, change_probability, mean_interval, power_factor

__all__ = ["Limit", "Reproduction"]


class _Found(NamedTuple):
    """A measured number: mean, interval, seeds, why it decides nothing, and skewness."""

    mean: float
    interval: tuple[float, float] | None
    seeds: int
    obstacle: str | None
    skewness: float | None = None

    def details(self) -> dict[str, Any]:
        skew = {} if self.skewness is None else {"skewness": self.skewness}
        return {"seeds": self.seeds} | skew

    def measured(self) -> float | None:
        return self.mean if math.isfinite(self.mean) else None


def _samples(samples: Any, interval: Any, seeds: int | None, clusters: Any) -> _Found:
    """Return what was measured of a number, and the obstacle to judging it.

    Raises
    ------
    ClaimError
        For an interval that is upside down, that does not hold its estimate, or that
        comes with more than one estimate.
    """
    samples = as_array("samples", samples)
    if samples.ndim > 1 and samples.size > len(samples):
        words = f"one number a seed is needed, got shape {samples.shape}"
        return _Found(math.nan, None, len(samples), words)
    samples = rows_of(samples.ravel(), clusters, None)
    if interval is not None:
        return _given(samples, interval, seeds)
    if seeds is not None:
        raise ClaimError("seeds: belongs to an interval; samples are counted")
    if not np.isfinite(samples).all():
        return _Found(math.nan, None, len(samples), "a sample is NaN or infinite")
    mean, count, distinct = float(samples.mean()), len(samples), len(np.unique(samples))
    if count < FEWEST:
        return _Found(mean, None, count, f"{count} independent seeds, at least {FEWEST} are needed")
    if np.ptp(samples) <= ROUNDING * np.abs(samples).max():
        return _Found(mean, None, count, "no variation: not random (state an identity), or copies")
    if 2 * distinct <= count:
        return _Found(mean, None, count, f"{distinct} different values: copies are no seeds")
    mean, found = mean_interval(samples)
    return _Found(mean, found, count, None, float(scipy.stats.skew(samples)))


def _given(samples: np.ndarray, interval: Any, seeds: int | None) -> _Found:
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
        return _Found(mean, None, count, "the interval is not finite")
    if not low <= mean <= high:
        raise ClaimError(f"interval: ({low}, {high}) does not hold its estimate {mean}")
    if seeds is None and len(samples) == 1:
        return _Found(
            mean, (low, high), 0, "seeds= is not said: how many independent seeds it rests on"
        )
    if 0 < count < FEWEST:
        return _Found(
            mean, (low, high), count, f"{count} independent seeds, at least {FEWEST} are needed"
        )
    if low == high and count:
        return _Found(mean, (low, high), count, "an interval of width zero is no interval")
    return _Found(mean, (low, high), count, None)


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
        silent = self.role == PREDICTED and self.predicted == 0 and self.scale is None
        return super().unsaid() + ["no scale named for a limit 0"] * silent

    def _judge(
        self,
        samples: Any,
        interval: Any = None,
        seeds: int | None = None,
        clusters: Any = None,
        control: bool = False,
    ) -> Outcome:
        given = _samples(samples, interval, seeds, clusters)
        details, measured, found, count = (
            given.details(),
            given.measured(),
            given.interval,
            given.seeds,
        )
        if given.obstacle:
            return Outcome(INCONCLUSIVE, measured, found, given.obstacle, details)
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
        given = _samples(samples, interval, seeds, clusters)
        details, measured, found, count = (
            given.details(),
            given.measured(),
            given.interval,
            given.seeds,
        )
        if interval is not None:
            details["level"] = finite("level", level, positive=True)
        if given.obstacle:
            return Outcome(INCONCLUSIVE, measured, found, given.obstacle, details)
        if count:
            details["change"] = change_probability(found, (self.value,), count)
        above, below = found[0] > self.value, found[1] < self.value
        if above if self.relation == ">" else below:
            return Outcome(VERIFIED, measured, found, "wholly on the reported side", details)
        if below if self.relation == ">" else above:
            return Outcome(REFUTED, measured, found, "wholly on the other side", details)
        return Outcome(INCONCLUSIVE, measured, found, "the interval holds the value", details)
