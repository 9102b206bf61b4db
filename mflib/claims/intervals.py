r"""Intervals for means and log-log slopes over independent seeds.

They use Student's 99.9 % quantile, lengthened on the side of the skew, and are called
99 %: the level that simulations with heavy-tailed, skewed and shared noise confirm.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import scipy  # its parts are loaded when they are used

__all__ = [
    "LEVEL",
    "QUANTILE",
    "change_probability",
    "contrasts",
    "effective_seeds",
    "intervals",
    "local_slopes",
    "log_average",
    "log_slope",
    "mean_interval",
    "power_factor",
    "slope_interval",
]

#: The level that is printed, and that was checked.
LEVEL = 0.99

#: The quantile of Student's law that every interval uses.
QUANTILE = 0.9995

#: Powers of the averages over seeds; 0 is the geometric mean.
POWERS = {"rms": 2, "mean": 1, "geometric": 0}

_RESAMPLES = 20_000
_MOST = 1000  # seeds that are resampled; beyond, the jackknife alone agrees within 5 %


@lru_cache(maxsize=4)
def _counts(seeds: int) -> np.ndarray:
    """How often each seed is drawn in each resample, shape (resamples, seeds)."""
    rng = np.random.default_rng(seeds)
    equal = np.full(seeds, 1.0 / seeds)
    return rng.multinomial(seeds, equal, size=_RESAMPLES).astype(np.uint16)


def _weights(seeds: int):
    """Yield the bootstrap weights in portions, each row summing to 1."""
    counts = _counts(seeds)
    for part in np.array_split(counts, max(1, counts.size // 2_000_000)):
        yield part / seeds


def _left_out(seeds: int):
    """Yield the weights that leave one seed out, in portions of a few million numbers."""
    for part in np.array_split(np.arange(seeds), max(1, seeds * seeds // 2_000_000)):
        weights = np.full((len(part), seeds), 1.0 / (seeds - 1))
        weights[np.arange(len(part)), part] = 0.0
        yield weights


def log_average(
    errors: np.ndarray, statistic: str = "rms", weights: np.ndarray | None = None
) -> np.ndarray:
    r"""Return the logarithm of an average over seeds, without overflow.

    .. math::
        \log A_k = \tfrac1p \log \sum_s w_s |E_{sk}|^p, \qquad
        \log A_k = \sum_s w_s \log|E_{sk}| \text{ for the geometric mean.}

    Parameters
    ----------
    errors : ndarray
        Shape (S, K).
    statistic : {"rms", "mean", "geometric"}
        p = 2, p = 1, and the geometric mean.
    weights : ndarray, optional
        Shape (B, S), rows that sum to 1; default equal weights.

    Returns
    -------
    ndarray
        Shape (K,), or (B, K) with weights.
    """
    size, power = np.abs(errors), POWERS[statistic]
    if power == 0:
        values = np.log(size)
        centre = values.mean(0)
        return centre if weights is None else centre + weights @ (values - centre)
    top = size.max(0)
    values = (size / np.where(top > 0, top, 1.0)) ** power
    centre = values.mean(0)
    averaged = centre if weights is None else centre * (weights @ (values / centre))
    return np.log(top) + np.log(averaged) / power


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


def contrasts(sizes: np.ndarray, toward: str) -> np.ndarray:
    r"""Return what makes slopes of logarithms: of the line, and at the end of a parabola.

    The second is :math:`e` of :math:`\alpha+e(u-u_{end})+\gamma(u-u_{end})^2` fitted by
    least squares to the points of :math:`u=\log n`: the exponent at the end where the
    law is claimed. For a straight line both agree.

    Parameters
    ----------
    sizes : ndarray
        Shape (K,), at least three different ones.
    toward : {"large", "small"}
        The end.

    Returns
    -------
    ndarray
        Shape (K, 2); each column sums to 0 and gives 1 on :math:`u`.
    """
    u = np.log(sizes)
    end = u.max() if toward == "large" else u.min()
    line = u - u.mean()
    parabola = np.stack([np.ones_like(u), u - end, (u - end) ** 2], 1)
    return np.stack([line / (line @ line), np.linalg.pinv(parabola)[1]], 1)


def _ends(
    estimate: np.ndarray, pseudo: np.ndarray, resampled: list[np.ndarray] | None, quantile: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper ends from the pseudo-values, shape (S, C), and resamples."""
    seeds = len(pseudo)
    t = scipy.stats.t.ppf(quantile, seeds - 1)
    error = pseudo.std(0, ddof=1) / math.sqrt(seeds)
    centred = pseudo - pseudo.mean(0)
    spread = np.sqrt((centred**2).mean(0))
    skew = (centred**3).mean(0) / np.where(spread > 0, spread, 1.0) ** 3
    longer = skew * (1 + 2 * t * t) / (6 * math.sqrt(seeds))
    below = error * (t + np.maximum(0.0, -longer))
    above = error * (t + np.maximum(0.0, longer))
    if resampled is not None:
        wide = t / scipy.stats.norm.ppf(quantile) * math.sqrt(seeds / (seeds - 1))
        with np.errstate(invalid="ignore"):
            low, high = np.quantile(
                np.concatenate(resampled) - estimate, [1 - quantile, quantile], axis=0
            )
        below, above = np.maximum(below, -wide * low), np.maximum(above, wide * high)
    return estimate - below, estimate + above


def intervals(
    errors: np.ndarray, statistic: str, contrast: np.ndarray, quantile: float = QUANTILE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Return estimates and interval ends of contrasts of the logarithms of an average.

    Jackknife pseudo-values :math:`P_s=S\hat b-(S-1)\hat b_{(-s)}` leave a seed out of all
    sizes at once. The half length is Student's,

    .. math:: \frac{\mathrm{sd}(P)}{\sqrt S}\Bigl(t_{S-1}
        + \max\bigl(0, \pm g\,\tfrac{1+2t^2}{6\sqrt S}\bigr)\Bigr),

    with the skewness g of the pseudo-values only lengthening, and on neither side
    shorter than the percentile interval of 20,000 resamples times the Student factor.
    The two are too short on opposite data: shared heavy-tailed scales and noise that
    differs from size to size.

    Parameters
    ----------
    errors : ndarray
        Shape (S, K), S at least 2, independent rows.
    statistic : {"rms", "mean", "geometric"}
        The average over seeds.
    contrast : ndarray
        Shape (K, C), from :func:`contrasts`.
    quantile : float
        Of Student's law.

    Returns
    -------
    estimate, low, high : ndarray
        Shape (C,).
    """
    seeds = len(errors)
    # an average that vanishes without some seeds has no finite interval, which says so
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = log_average(errors, statistic) @ contrast
        left_out = np.concatenate(
            [log_average(errors, statistic, w) @ contrast for w in _left_out(seeds)]
        )
        pseudo = seeds * estimate - (seeds - 1) * left_out
        resampled = None
        if seeds <= _MOST:
            resampled = [log_average(errors, statistic, w) @ contrast for w in _weights(seeds)]
        return estimate, *_ends(estimate, pseudo, resampled, quantile)


def slope_interval(
    sizes: np.ndarray, errors: np.ndarray, statistic: str = "rms"
) -> tuple[float, tuple[float, float] | None, np.ndarray]:
    r"""Return the log-log slope of an average over seeds with its interval.

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
        At 99 %, from :func:`intervals`; None for a single seed.
    averaged : ndarray
        The averaged errors, shape (K,).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> n = 2.0 ** np.arange(4, 9)
    >>> slope, (low, high), _ = slope_interval(n, n**-0.5 * rng.normal(size=(200, 5)))
    >>> bool(low < -0.5 < high)
    True
    """
    sizes, errors = np.asarray(sizes, float), np.asarray(errors, float)
    averaged = log_average(errors, statistic)
    u = np.log(sizes)
    line = ((u - u.mean()) / ((u - u.mean()) @ (u - u.mean())))[:, None]
    if len(errors) < 2:
        return float(averaged @ line[:, 0]), None, np.exp(averaged)
    estimate, low, high = intervals(errors, statistic, line)
    return float(estimate[0]), (float(low[0]), float(high[0])), np.exp(averaged)


def mean_interval(
    samples: np.ndarray, quantile: float = QUANTILE
) -> tuple[float, tuple[float, float] | None]:
    r"""Return the mean of independent samples and its interval at 99 %.

    The interval of :func:`intervals` with the samples themselves as pseudo-values.

    Parameters
    ----------
    samples : ndarray
        Shape (S,).
    quantile : float
        Of Student's law.

    Returns
    -------
    mean : float
    interval : tuple of float, or None
        None for a single sample.
    """
    samples = np.asarray(samples, float)
    mean, seeds = float(samples.mean()), len(samples)
    if seeds < 2:
        return mean, None
    gaps = (samples - mean)[:, None]
    resampled = [mean + w @ gaps for w in _weights(seeds)] if seeds <= _MOST else None
    low, high = _ends(np.array([mean]), samples[:, None], resampled, quantile)
    return mean, (float(low[0]), float(high[0]))


def effective_seeds(errors: np.ndarray, statistic: str = "rms") -> float:
    r"""Return how many seeds carry the average, at the size where fewest do.

    .. math:: \min_k \bigl(\textstyle\sum_s V_{sk}\bigr)^2 / \sum_s V_{sk}^2, \qquad
        V = |E|^p.

    All of them for the geometric mean, to which every seed adds its own slope.
    """
    power = POWERS[statistic]
    if power == 0:
        return float(len(errors))
    size = np.abs(errors)
    values = (size / size.max(0)) ** power
    return float((values.sum(0) ** 2 / (values**2).sum(0)).min())


@lru_cache(maxsize=64)
def power_factor(seeds: int, power: float = 0.975) -> float:
    r"""Return by how many half lengths the truth must lie beyond an edge to be seen.

    An estimate clears the edge by its half length with probability `power` if the truth
    lies :math:`\kappa_S` mean half lengths beyond: :math:`\kappa_S=\lambda/(t\,c_4(S))`
    with :math:`P(T_{S-1}(\lambda)>t)` equal to `power` for the non-central Student law
    and :math:`c_4` the bias of a standard deviation. About 1.6.

    Parameters
    ----------
    seeds : int
        At least 3.
    power : float
        The probability.

    Returns
    -------
    float
    """
    freedom, t = seeds - 1, scipy.stats.t.ppf(QUANTILE, seeds - 1)
    if seeds > 5000:  # the normal limit
        return float(1.0 + scipy.stats.norm.ppf(power) / t)
    shift = scipy.optimize.brentq(lambda x: scipy.stats.nct.sf(t, freedom, x) - power, 0.0, 100.0)
    bias = math.exp(scipy.special.gammaln(seeds / 2) - scipy.special.gammaln(freedom / 2))
    return float(shift / (t * math.sqrt(2 / freedom) * bias))


def change_probability(
    interval: tuple[float, float], edges: tuple[float, ...], seeds: int
) -> float:
    r"""Return about how likely a rerun with fresh seeds is to change the verdict.

    The rerun's estimate differs by :math:`\sqrt2` standard errors; the verdict changes
    when it carries an end of the interval over an edge at distance g from it:
    :math:`\Phi(-g/(\sqrt2\,\mathrm{se}))`, summed over both ends.

    Parameters
    ----------
    interval : tuple of float
        At 99 %, from this module.
    edges : tuple of float
        Where a verdict changes.
    seeds : int
        Independent seeds.

    Returns
    -------
    float
        At most 1.
    """
    low, high = interval
    error = (high - low) / (2 * scipy.stats.t.ppf(QUANTILE, seeds - 1))
    if not error > 0:
        return 0.0
    gaps = [min(abs(edge - end) for edge in edges) for end in interval]
    return float(min(1.0, sum(scipy.stats.norm.cdf(-g / (math.sqrt(2) * error)) for g in gaps)))
