r"""Relative entropy: from log-density ratios at particles, in closed form, from samples.

.. math::

    KL(\mu\|\nu) = \int \log\frac{d\mu}{d\nu}\, d\mu
                 = E_\mu\big[D + e^{-D} - 1\big],
    \qquad D = \log\frac{d\mu}{d\nu}.

The second form needs nothing but :math:`E_\mu e^{-D} = 1`; its integrand is never
negative and its variance is of the order of :math:`KL^2` instead of :math:`KL`.
"""

from __future__ import annotations

import math

import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from .arguments import (
    require_alike,
    require_broadcast,
    require_positive_int,
    require_symmetric,
    require_tensor,
)

__all__ = [
    "donsker_varadhan",
    "kl_from_map",
    "kl_from_ratio",
    "kl_gaussian",
    "kl_nearest_neighbour",
    "log_ratio_of_map",
]


def _masses(name: str, weights: Tensor | None, values: Tensor) -> Tensor:
    """Masses of sum 1 for the points of `values`, by default uniform ones."""
    if weights is None:
        return torch.full_like(values[..., :1], 1.0 / values.shape[-1])
    require_tensor(name, weights, 1, last=values.shape[-1])
    total = weights.sum(-1, keepdim=True)
    if (weights < 0).any() or not (total > 0).all():
        raise ValueError(f"{name}: masses must be >= 0 with a positive sum")
    return weights / total


def _bregman(ratio: Tensor) -> Tensor:
    """Return D + exp(-D) - 1, without cancellation at small D."""
    series = torch.zeros_like(ratio)
    for k in range(10, 1, -1):
        series = (1.0 - series) * ratio / k
    # series = (D/2)(1 - (D/3)(1 - (D/4)(...))): the remainder of the exponential
    return torch.where(ratio.abs() < 0.1, series * ratio, ratio + torch.expm1(-ratio))


def kl_from_ratio(ratio: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Return :math:`E_\mu[D + e^{-D} - 1]` from ratios D at points of :math:`\mu`.

    Parameters
    ----------
    ratio : Tensor
        :math:`D = \log d\mu/d\nu` at the points, shape (..., N).
    weights : Tensor, optional
        Masses of the points, >= 0, shape (..., N); they are divided by their sum. Default:
        1/N each.

    Returns
    -------
    Tensor
        Shape (...), never negative.

    Raises
    ------
    TypeError, ValueError
        If `ratio` is no finite floating-point tensor, or the weights do not fit.

    Examples
    --------
    >>> mu = torch.tensor([0.75, 0.25])  # against two equal masses
    >>> kl_from_ratio((2 * mu).log(), mu), (mu * (2 * mu).log()).sum()
    (tensor(0.1308), tensor(0.1308))
    """
    require_tensor("ratio", ratio, 1)
    found = (_bregman(ratio) * _masses("weights", weights, ratio)).sum(-1)
    if not torch.isfinite(found).all():
        raise ValueError("ratio: exp(-D) overflows; the laws hardly overlap, take more points")
    return found


def log_ratio_of_map(start: Tensor, end: Tensor, jacobian: Tensor) -> Tensor:
    r"""Return the log-density ratio of a pushed-forward standard Gaussian.

    .. math::

        \log\frac{d T_\#\gamma}{d\gamma}(T(x))
            = \tfrac12|T(x)|^2 - \tfrac12|x|^2 - \log|\det \nabla T(x)|.

    Parameters
    ----------
    start, end : Tensor
        The points x and T(x), shape (..., N, k).
    jacobian : Tensor
        :math:`\nabla T(x)`, shape (..., N, k, k).

    Returns
    -------
    Tensor
        Shape (..., N).

    Raises
    ------
    TypeError, ValueError
        If a shape does not fit or a Jacobian is singular.

    Examples
    --------
    >>> x = torch.ones(1, 1)
    >>> log_ratio_of_map(x, x + 1, torch.ones(1, 1, 1))  # N(1, 1) against N(0, 1) at 2
    tensor([1.5000])
    """
    k = require_tensor("start", start, 2).shape[-1]
    require_tensor("end", end, 2, last=k)
    require_tensor("jacobian", jacobian, 3, last=k)
    if jacobian.shape[-2] != k:
        raise ValueError(f"jacobian: shape {tuple(jacobian.shape)} does not end with ({k}, {k})")
    require_alike(start=start, end=end, jacobian=jacobian)
    require_broadcast(start=start.shape[:-1], end=end.shape[:-1], jacobian=jacobian.shape[:-2])
    logdet = torch.linalg.slogdet(jacobian).logabsdet
    if not torch.isfinite(logdet).all():
        raise ValueError("jacobian: is singular, the map has no density ratio there")
    return 0.5 * (end.square().sum(-1) - start.square().sum(-1)) - logdet


def kl_from_map(start: Tensor, end: Tensor, jacobian: Tensor) -> Tensor:
    r"""Return :math:`KL(T_\#\gamma\|\gamma)` from points x of :math:`\gamma = N(0, I)`.

    Parameters
    ----------
    start, end : Tensor
        The points x and T(x), shape (..., N, k).
    jacobian : Tensor
        :math:`\nabla T(x)`, shape (..., N, k, k).

    Returns
    -------
    Tensor
        Shape (...).

    Examples
    --------
    >>> x = torch.linspace(-2, 2, 5)[:, None]
    >>> kl_from_map(x, x, torch.ones(5, 1, 1))  # the identity
    tensor(0.)
    """
    return kl_from_ratio(log_ratio_of_map(start, end, jacobian))


def kl_gaussian(
    mean: Tensor, cov: Tensor, mean0: Tensor | None = None, cov0: Tensor | None = None
) -> Tensor:
    r"""Return the relative entropy of two Gaussians.

    .. math::

        KL = \tfrac12\big(\operatorname{tr} S_0^{-1}S + (m-m_0)^\top S_0^{-1}(m-m_0)
             - k - \log\det S_0^{-1}S\big).

    Parameters
    ----------
    mean, cov : Tensor
        Shapes (..., k) and (..., k, k).
    mean0, cov0 : Tensor, optional
        The reference; default N(0, I).

    Returns
    -------
    Tensor
        Shape (...).

    Raises
    ------
    TypeError, ValueError
        If a matrix is not symmetric or not positive definite.

    Examples
    --------
    >>> float(kl_gaussian(torch.ones(2), torch.eye(2)))  # half the squared shift
    1.0
    """
    k = require_symmetric("cov", cov).shape[-1]
    require_tensor("mean", mean, 1, last=k)
    mean0 = torch.zeros_like(mean) if mean0 is None else mean0
    require_tensor("mean0", mean0, 1, last=k)
    cov0 = torch.eye(k, dtype=mean.dtype) if cov0 is None else require_symmetric("cov0", cov0)
    laws = []
    for name, centre, matrix in (("cov", mean, cov), ("cov0", mean0, cov0)):
        root, bad = torch.linalg.cholesky_ex(matrix)
        if bad.any():
            raise ValueError(f"{name}: is not positive definite; KL would be infinite")
        laws.append(MultivariateNormal(centre, scale_tril=root, validate_args=False))
    return kl_divergence(*laws)


def donsker_varadhan(
    g_mu: Tensor,
    g_nu: Tensor,
    mu_weights: Tensor | None = None,
    nu_weights: Tensor | None = None,
) -> Tensor:
    r"""Return :math:`E_\mu g - \log E_\nu e^g \le KL(\mu\|\nu)` (chen2024, Lemma B.3).

    Parameters
    ----------
    g_mu, g_nu : Tensor
        Values of g at points of :math:`\mu` (..., N) and of :math:`\nu` (..., M).
    mu_weights, nu_weights : Tensor, optional
        Masses of the points, >= 0, shapes (..., N) and (..., M); they are divided by
        their sum. Default: uniform.

    Returns
    -------
    Tensor
        Shape (...); equality at :math:`g = \log d\mu/d\nu + \text{const}`.

    Raises
    ------
    TypeError, ValueError
        If the values are no finite tensors, or the weights do not fit.

    Examples
    --------
    >>> ratio, mu = torch.tensor([1.5, 0.5]).log(), torch.tensor([0.75, 0.25])
    >>> donsker_varadhan(ratio, ratio, mu), kl_from_ratio(ratio, mu)
    (tensor(0.1308), tensor(0.1308))
    """
    require_tensor("g_mu", g_mu, 1)
    require_tensor("g_nu", g_nu, 1)
    mu = _masses("mu_weights", mu_weights, g_mu)
    nu = _masses("nu_weights", nu_weights, g_nu)
    return (g_mu * mu).sum(-1) - torch.logsumexp(g_nu + nu.log(), -1)


def kl_nearest_neighbour(sample: Tensor, reference: Tensor, k: int = 1) -> float:
    r"""Return the nearest-neighbour estimate of Wang, Kulkarni and Verdu.

    .. math::

        \widehat{KL} = \frac dN \sum_{i=1}^N \log\frac{s_k(x_i)}{r_k(x_i)}
                       + \log\frac{M}{N-1},

    with :math:`r_k`, :math:`s_k` the distance from :math:`x_i` to its k-th neighbour
    among the other points of the sample and among the reference.

    Parameters
    ----------
    sample : Tensor
        Independent points of :math:`\mu`, shape (N, d).
    reference : Tensor
        Independent points of :math:`\nu`, shape (M, d).
    k : int
        Which neighbour.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If the samples are too small or of different dimension.

    Notes
    -----
    Consistent, but biased at every practical size; a cross-check, never the result.

    Examples
    --------
    >>> x = torch.linspace(0, 1, 100)[:, None]
    >>> kl_nearest_neighbour(x, x + 10) > 5  # hardly any overlap
    True
    """
    require_positive_int("k", k)
    d = require_tensor("sample", sample, 2).shape[-1]
    require_tensor("reference", reference, 2, last=d)
    for name, points in (("sample", sample), ("reference", reference)):
        if points.ndim != 2:
            raise ValueError(f"{name}: expected one sample (N, d), got {tuple(points.shape)}")
    n, m = len(sample), len(reference)
    if n <= k or m < k:
        raise ValueError(f"k: {k} neighbours need more points than {n} and {m}")
    x, y = sample.numpy(), reference.numpy()
    inner = cKDTree(x).query(x, [k + 1])[0][:, 0]
    outer = cKDTree(y).query(x, [k])[0][:, 0]
    if not (inner > 0).all():
        raise ValueError("sample: holds repeated points; the estimator needs a density")
    ratio = torch.as_tensor(outer / inner).log()
    return d * float(ratio.mean()) + math.log(m / (n - 1))
