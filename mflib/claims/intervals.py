r"""Intervals at 99.9 % for means and log-log slopes over independent seeds."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import stats

__all__ = ["LEVEL", "local_slopes", "log_slope", "mean_interval", "slope_interval"]

#: Coverage of every interval of the book.
LEVEL = 0.999

_RESAMPLES = 20_000


@lru_cache(maxsize=8)
def _resampling(seeds: int) -> np.ndarray:
    """Bootstrap weights, shape (resamples, seeds), each row summing to 1."""
    rng = np.random.default_rng(seeds)
    rows = [
        rng.multinomial(seeds, np.full(seeds, 1.0 / seeds), size=_RESAMPLES // 10)
        for _ in range(10)
    ]
    return (np.concatenate(rows) / seeds).astype(np.float32)


def _statistic(errors: np.ndarray, statistic: str, weights: np.ndarray | None) -> np.ndarray:
    if statistic == "geometric":
        logs = np.log(np.abs(errors))
        centre = logs.mean(0)
        spread = 0.0 if weights is None else weights @ (logs - centre)
        return np.exp(centre + spread)
    power = {"rms": 2, "mean": 1}[statistic]
    values = np.abs(errors) ** power
    scale = values.mean(0)
    scaled = values / np.where(scale > 0, scale, 1.0)
    averaged = scaled.mean(0) if weights is None else weights @ scaled
    return (averaged * scale) ** (1.0 / power)


def log_slope(sizes: np.ndarray, values: np.ndarray) -> np.ndarray:
    r"""Return the least-squares slope of log `values` against log `sizes`.

    Parameters
    ----------
    sizes : ndarray
        Shape (K,), positive.
    values : ndarray
        Shape (..., K), positive.

    Returns
    -------
    ndarray
        Shape (...).
    """
    u = np.log(sizes)
    u = u - u.mean()
    return np.log(values) @ u / (u @ u)


def local_slopes(sizes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the slopes between neighbouring sizes, shape (K - 1,)."""
    return np.diff(np.log(values)) / np.diff(np.log(sizes))


def slope_interval(
    sizes: np.ndarray, errors: np.ndarray, statistic: str = "rms"
) -> tuple[float, tuple[float, float] | None, np.ndarray]:
    r"""Return the log-log slope of an average over seeds with a bootstrap interval.

    Seeds (rows) are resampled jointly for all sizes; the percentile interval is widened
    about the estimate by the Student factor
    :math:`t_{S-1} / z \cdot \sqrt{S/(S-1)}`, which small numbers of seeds need.

    Parameters
    ----------
    sizes : ndarray
        Shape (K,).
    errors : ndarray
        Shape (S, K), one row a seed.
    statistic : {"rms", "mean", "geometric"}
        The average over seeds; the geometric mean averages the slopes of the seeds.

    Returns
    -------
    slope : float
    interval : tuple of float, or None
        At 99.9 %; None for a single seed.
    averaged : ndarray
        The averaged errors, shape (K,).
    """
    averaged = _statistic(errors, statistic, None)
    slope = float(log_slope(sizes, averaged))
    seeds = len(errors)
    if seeds < 2:
        return slope, None, averaged
    resampled = _statistic(errors, statistic, _resampling(seeds))
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = log_slope(sizes, resampled)
    lo, hi = np.quantile(slopes, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    wide = _student_factor(seeds)
    return slope, (slope - wide * (slope - lo), slope + wide * (hi - slope)), averaged


def _student_factor(seeds: int) -> float:
    q = (1 + LEVEL) / 2
    widening = stats.t.ppf(q, seeds - 1) / stats.norm.ppf(q)
    return float(widening * np.sqrt(seeds / (seeds - 1)))


def mean_interval(samples: np.ndarray) -> tuple[float, tuple[float, float] | None]:
    r"""Return the mean of independent samples and its Student interval at 99.9 %.

    Parameters
    ----------
    samples : ndarray
        Shape (S,).

    Returns
    -------
    mean : float
    interval : tuple of float, or None
        None for a single sample.
    """
    mean, seeds = float(np.mean(samples)), len(samples)
    if seeds < 2:
        return mean, None
    half = stats.t.ppf((1 + LEVEL) / 2, seeds - 1) * np.std(samples, ddof=1) / np.sqrt(seeds)
    return mean, (mean - float(half), mean + float(half))
