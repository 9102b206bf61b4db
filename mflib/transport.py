r"""Optimal transport between laws of parameters and depth :math:`(\theta, t)`.

.. math::

    W_p(\rho, \nu)^p = \min_{\gamma \in \Gamma(\rho, \nu)}
        \int \|z - z'\|^p \, d\gamma(z, z'), \qquad z = (\theta, t).

Finite laws are solved exactly, by libraries: POT's network simplex, SciPy's assignment for
equal masses, sorting in one dimension. Particles that fill a slab of depth are no atoms;
for them an enclosure is returned.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .arguments import require_positive_int, require_symmetric, require_tensor
from .measures import LayeredMeasure

__all__ = [
    "depth_wasserstein",
    "enclosure",
    "gelbrich",
    "layer_wasserstein",
    "moments",
    "slab_atoms",
    "wasserstein",
]


def _order(order: object) -> int:
    if order not in (1, 2):
        raise ValueError(f"order: expected 1 or 2, got {order!r}")
    return order


def _masses(name: str, a: Tensor | None, points: Tensor) -> Tensor:
    if a is None:
        return points.new_full(points.shape[:-1], 1.0 / points.shape[-2])
    require_tensor(name, a, 1, last=points.shape[-2])
    room = 1e-9 if a.dtype == torch.float64 else 1e-5
    if (a < 0).any() or not ((a.sum(-1) - 1).abs() <= room).all():
        raise ValueError(f"{name}: masses must be non-negative and sum to 1; divide by the sum")
    return a


def _couple(x: np.ndarray, a: np.ndarray, y: np.ndarray, b: np.ndarray, order: int) -> tuple:
    """Return an optimal coupling of two finite laws: indices i, j and the masses moved."""
    import ot  # it imports every array library that it finds: only when needed

    if x.shape[1] == 1:
        # on a line equal quantiles are joined, whatever the order
        plan = ot.emd_1d(x[:, 0], y[:, 0], a / a.sum(), b / b.sum(), dense=False)
        return plan.row, plan.col, plan.data
    cost = ot.dist(x, y, ("euclidean", "sqeuclidean")[order - 1])
    if len(a) == len(b) and np.ptp(np.concatenate([a, b])) <= 1e-14 * a[0]:
        from scipy.optimize import linear_sum_assignment

        i, j = linear_sum_assignment(cost)
        return i, j, a
    plan, log = ot.emd(a, b * (a.sum() / b.sum()), cost, numItermax=1_000_000, log=True)
    if log["warning"]:
        raise RuntimeError(f"optimal transport was not solved: {log['warning']}")
    i, j = np.nonzero(plan)
    return i, j, plan[i, j]


def wasserstein(
    x: Tensor, y: Tensor, a: Tensor | None = None, b: Tensor | None = None, order: int = 2
) -> Tensor:
    r"""Return the exact distance :math:`W_p` of two finite laws, for every batch entry.

    Parameters
    ----------
    x, y : Tensor
        Atoms, shapes (..., A, k) and (..., B, k), with the same leading dimensions.
    a, b : Tensor, optional
        Masses, shapes (..., A) and (..., B), sum 1. Default: equal.
    order : {1, 2}
        The exponent p.

    Returns
    -------
    Tensor
        Shape (...). It may be differentiated by the atoms, with the coupling held fixed
        (the envelope theorem), but not by the masses.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed or masses do not sum to 1.
    """
    order = _order(order)
    require_tensor("x", x, 2)
    require_tensor("y", y, 2, last=x.shape[-1])
    if x.shape[:-2] != y.shape[:-2]:
        raise ValueError(
            f"y: leading dimensions {tuple(y.shape[:-2])} differ from "
            f"{tuple(x.shape[:-2])} of x; expand one of them"
        )
    a, b = _masses("a", a, x), _masses("b", b, y)
    a, b = a.expand(x.shape[:-1]), b.expand(y.shape[:-1])
    flat = [v.reshape(-1, *v.shape[-k:]) for v, k in ((x, 2), (a, 1), (y, 2), (b, 1))]
    costs = []
    for xs, a_s, ys, bs in zip(*flat, strict=True):  # the libraries solve one at a time
        keep, kept = a_s > 0, bs > 0
        xs, ys = xs[keep], ys[kept]
        data = [v.detach().double().numpy() for v in (xs, a_s[keep], ys, bs[kept])]
        i, j, moved = _couple(*data, order)
        gap = (xs[torch.as_tensor(i).long()] - ys[torch.as_tensor(j).long()]).norm(dim=-1)
        moved = torch.as_tensor(moved, dtype=xs.dtype)
        costs.append((moved * gap**order).sum() ** (1.0 / order))
    return torch.stack(costs).reshape(x.shape[:-2])


def slab_atoms(rho: LayeredMeasure, parts: int = 1) -> tuple[Tensor, Tensor]:
    r"""Return the atoms of a layered law: every slab cut in `parts`, each at its middle.

    Parameters
    ----------
    rho : LayeredMeasure
        Particles that fill slabs of width 1/L, total mass 1.
    parts : int
        The number of equal parts of a slab.

    Returns
    -------
    z : Tensor
        Atoms :math:`(\theta, t)`, shape (..., L N parts, k + 1).
    mass : Tensor
        Shape (..., L N parts), sum 1.

    Raises
    ------
    ValueError
        If `parts` is no positive integer.
    """
    require_positive_int("parts", parts)
    layers, particles = rho.theta.shape[-3:-1]
    batch = torch.broadcast_shapes(rho.theta.shape[:-3], rho.weights.shape[:-2])
    middle = (torch.arange(layers * parts, dtype=rho.theta.dtype) + 0.5) / (layers * parts)
    depth = middle.reshape(layers, parts, 1, 1).expand(*batch, layers, parts, particles, 1)
    theta = rho.theta.unsqueeze(-3).expand(*depth.shape[:-1], rho.theta.shape[-1])
    mass = rho.weights.unsqueeze(-2).expand(depth.shape[:-1]) / (layers * parts)
    return torch.cat([theta, depth], -1).flatten(-4, -2), mass.flatten(-3)


def enclosure(
    rho: LayeredMeasure, nu: LayeredMeasure, order: int = 2, parts: int = 4
) -> tuple[Tensor, Tensor]:
    r"""Return rigorous lower and upper bounds of :math:`W_p(\rho, \nu)` for slabs of depth.

    With slabs of width h cut in k parts, an atom stands for a part at distance
    :math:`h/(k\sqrt{12})` in :math:`W_2`, :math:`h/(4k)` in :math:`W_1`. The distance of
    the atoms is an *upper* bound, because moving a whole part by a translation costs what
    its atom pays; less twice that number it is a *lower* one. The distance of the marginals
    in :math:`\theta` is another lower bound, which needs no parts; the larger is returned.

    Parameters
    ----------
    rho, nu : LayeredMeasure
        Laws of total mass 1 with the same number of layers.
    order : {1, 2}
        The exponent p.
    parts : int
        The number k of parts of a slab; the bounds close like 1/k.

    Returns
    -------
    lower, upper : Tensor
        Shape (...).

    Raises
    ------
    TypeError, ValueError
        If the laws have different numbers of layers or masses other than 1.
    """
    order = _order(order)
    if rho.layers != nu.layers:
        raise ValueError(f"nu: has {nu.layers} layers, rho has {rho.layers}; use equal depths")
    (x, a), (y, b) = slab_atoms(rho, parts), slab_atoms(nu, parts)
    upper = wasserstein(x, y, a, b, order)
    blur = 1.0 / (rho.layers * parts) * (0.25, 12**-0.5)[order - 1]
    (x, a), (y, b) = slab_atoms(rho), slab_atoms(nu)
    marginal = wasserstein(x[..., :-1], y[..., :-1], a, b, order)
    # rounding may put the marginals' distance above an equal upper bound
    return torch.minimum(torch.maximum(upper - 2 * blur, marginal), upper), upper


def layer_wasserstein(rho: LayeredMeasure, nu: LayeredMeasure, order: int = 1) -> Tensor:
    r"""Return :math:`W_p(\rho(\cdot, t_l), \nu(\cdot, t_l))` layer by layer, shape (..., L).

    Both laws must give every layer mass 1/L; without it a layer has no distance.

    Raises
    ------
    TypeError, ValueError
        If the laws differ in layers or a depth marginal is not uniform.
    """
    if rho.layers != nu.layers:
        raise ValueError(f"nu: has {nu.layers} layers, rho has {rho.layers}; use equal depths")
    for name, law in (("rho", rho), ("nu", nu)):
        uniform = torch.ones_like(law.depth_density)
        if not torch.allclose(law.depth_density, uniform, rtol=0, atol=1e-9):
            raise ValueError(f"{name}: its depth marginal is not uniform; weights must sum to 1")
    return wasserstein(rho.theta, nu.theta, rho.weights, nu.weights, order)


def depth_wasserstein(m1: Tensor, m2: Tensor, order: int = 2) -> Tensor:
    r"""Return :math:`W_p` of two laws of depth with piecewise constant densities, exactly.

    In one dimension the optimal coupling joins equal quantiles,
    :math:`W_p^p = \int_0^1 |F_1^{-1}(u) - F_2^{-1}(u)|^p du`; here the quantile functions
    are piecewise linear.

    Parameters
    ----------
    m1, m2 : Tensor
        Densities on L equal cells of [0, 1], shape (..., L), positive, mean 1.
    order : {1, 2}
        The exponent p.

    Returns
    -------
    Tensor
        Shape (...).

    Raises
    ------
    TypeError, ValueError
        If a density is malformed, not positive, or not of mean 1.
    """
    order = _order(order)
    require_tensor("m1", m1, 1)
    require_tensor("m2", m2, 1)
    batch = torch.broadcast_shapes(m1.shape[:-1], m2.shape[:-1])
    m1, m2 = m1.expand(*batch, -1), m2.expand(*batch, -1)
    for name, m in (("m1", m1), ("m2", m2)):
        if not ((m > 0).all() and torch.allclose(m.mean(-1), m.new_ones(()), atol=1e-9, rtol=0)):
            raise ValueError(f"{name}: a density must be positive with mean 1; divide by the mean")
    steps = [torch.nn.functional.pad(m.cumsum(-1) / m.shape[-1], (1, 0)) for m in (m1, m2)]
    for F in steps:
        F[..., -1] = 1.0
    u = torch.cat(steps, -1).sort(-1).values
    left, right = (_quantile(F, u) for F in steps)
    d, du = left - right, u.diff(dim=-1)
    d0, d1 = d[..., :-1], d[..., 1:]
    if order == 2:
        return (du * (d0**2 + d0 * d1 + d1**2) / 3).sum(-1).sqrt()
    size = d0.abs() + d1.abs()
    crossing = (d0**2 + d1**2) / torch.where(size > 0, size, 1.0)
    return (du * torch.where(d0 * d1 < 0, crossing, size)).sum(-1) / 2


def _quantile(F: Tensor, u: Tensor) -> Tensor:
    """Return the inverse of a piecewise linear F on equal cells, at sorted u."""
    cells = F.shape[-1] - 1
    cell = torch.searchsorted(F.contiguous(), u.contiguous()).clamp(1, cells)
    low, high = F.gather(-1, cell - 1), F.gather(-1, cell)
    return (cell - 1 + (u - low) / (high - low)) / cells


def gelbrich(
    mean: Tensor, cov: Tensor, mean0: Tensor | None = None, cov0: Tensor | None = None
) -> Tensor:
    r"""Return Gelbrich's distance: W2 of Gaussians, a lower bound of W2 for other laws.

    .. math::

        W^2 = |m-m_0|^2 + \operatorname{tr}
              \big(S + S_0 - 2(S_0^{1/2} S S_0^{1/2})^{1/2}\big).

    Parameters
    ----------
    mean, cov : Tensor
        Moments of the first law, shapes (..., k) and (..., k, k).
    mean0, cov0 : Tensor, optional
        Moments of the second; default those of N(0, I).

    Returns
    -------
    Tensor
        The distance, shape (...).

    Raises
    ------
    TypeError, ValueError
        If a matrix is not symmetric.

    Notes
    -----
    For the default reference the trace is :math:`\|S^{1/2} - I\|_F^2`, which has no
    cancellation near the identity.
    """
    k = require_symmetric("cov", cov).shape[-1]
    shift = require_tensor("mean", mean, 1, last=k)
    if mean0 is not None:
        shift = shift - require_tensor("mean0", mean0, 1, last=k)
    shift = shift.square().sum(-1)
    if cov0 is None:
        roots = torch.linalg.eigvalsh(cov).clamp_min(0).sqrt()
        return (shift + (roots - 1.0).square().sum(-1)).sqrt()
    values, vectors = torch.linalg.eigh(require_symmetric("cov0", cov0))
    root0 = (vectors * values.clamp_min(0).sqrt().unsqueeze(-2)) @ vectors.mT
    cross = torch.linalg.eigvalsh(root0 @ cov @ root0).clamp_min(0).sqrt().sum(-1)
    traces = (cov + cov0).diagonal(dim1=-2, dim2=-1).sum(-1)
    return (shift + traces - 2.0 * cross).clamp_min(0).sqrt()


def moments(points: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return mean (..., k) and covariance (..., k, k) of points (..., N, k)."""
    require_tensor("points", points, 2)
    mean = points.mean(-2)
    centred = points - mean.unsqueeze(-2)
    return mean, centred.mT @ centred / points.shape[-2]
