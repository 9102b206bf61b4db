r"""The rule of a power law: a slope, and the slope at its end."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

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
from .intervals import (
    POWERS,
    change_probability,
    contrasts,
    effective_seeds,
    intervals,
    log_average,
    power_factor,
)

__all__ = ["Rate"]

#: Independent seeds below which a predicted slope decides nothing.
FEWEST_SEEDS = 12

#: How far the end slope may lie from the prediction, in tolerances of the slope.
END = 3.0


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
        silent = self.role == PREDICTED and self.competing is None
        return super().unsaid() + ["no competing exponent named"] * silent

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
        if sizes.max() < 8 * sizes.min() * (1 - 1e-9):
            return f"sizes over a factor {sizes.max() / sizes.min():.3g}, at least 8 is needed"
        if self._end(sizes) is None:
            return "sizes on both sides of 1: toward='large' or 'small' is to be said"
        scaled = size / size.max(0)
        scaled = scaled[np.lexsort(scaled.T)]
        if (np.abs(np.diff(scaled, axis=0)).max(1) <= ROUNDING).any():
            return "two seeds gave the same errors: copies are no seeds"
        return None

    def _judge(
        self, sizes: Any, errors: Any, clusters: Any = None, control: bool = False
    ) -> Outcome:
        sizes, rows = self._rows(sizes, errors, clusters)
        few = control or self.role != PREDICTED
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
