r"""Optimal transport between laws of parameters and depth :math:`(\theta, t)`.

.. math::

    W_p(\rho, \nu)^p = \min_{\gamma \in \Gamma(\rho, \nu)}
        \int \|z - z'\|^p \, d\gamma(z, z'), \qquad z = (\theta, t).

Finite laws are solved exactly, by libraries: POT's network simplex, SciPy's assignment for
equal masses, sorting in one dimension. Particles that fill a slab of depth are no atoms;
for them an enclosure is returned. Mean and covariance alone enforce Gelbrich's distance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .arguments import (
    require_alike,
    require_broadcast,
    require_choice,
    require_instance,
    require_masses,
    require_positive_int,
    require_symmetric,
    require_tensor,
)
from .measures import LayeredMeasure

__all__ = [
    "Atoms",
    "Enclosure",
    "Moments",
    "depth_wasserstein",
    "enclosure",
    "gelbrich",
    "layer_wasserstein",
    "moments",
    "slab_atoms",
    "wasserstein",
]


class Atoms(NamedTuple):
    r"""Atoms :math:`z = (\theta, t)`, shape (..., A, k + 1), with masses (..., A) of sum 1."""

    z: Tensor
    mass: Tensor


class Enclosure(NamedTuple):
    """Rigorous lower and upper bounds of a distance, shape (...) each."""

    lower: Tensor
    upper: Tensor


class Moments(NamedTuple):
    """Mean (..., k) and covariance (..., k, k) of a law."""

    mean: Tensor
    cov: Tensor


def _couple(x: np.ndarray, a: np.ndarray, y: np.ndarray, b: np.ndarray, order: int) -> tuple:
    """Return an optimal coupling of two finite laws: indices i, j and the masses moved."""
    import ot  # it imports every array library that it finds: only when needed
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    if x.shape[1] == 1:
        # on a line equal quantiles are joined, whatever the order
        plan = ot.emd_1d(x[:, 0], y[:, 0], a / a.sum(), b / b.sum(), dense=False)
        return plan.row, plan.col, plan.data
    # from differences: the library's |x|^2 + |y|^2 - 2 x y cancels for atoms far out
    cost = cdist(x, y, ("euclidean", "sqeuclidean")[order - 1])
    if len(a) == len(b) and np.ptp(np.concatenate([a, b])) <= 1e-14 * a[0]:
        i, j = linear_sum_assignment(cost)
        return _exchanged(cost, i, j, a.copy())
    plan, log = ot.emd(a, b * (a.sum() / b.sum()), cost, numItermax=1_000_000, log=True)
    if log["warning"]:
        raise RuntimeError(f"optimal transport was not solved: {log['warning']}")
    i, j = np.nonzero(plan)
    return _exchanged(cost, i, j, plan[i, j])


def _exchanged(cost: np.ndarray, i: np.ndarray, j: np.ndarray, moved: np.ndarray) -> tuple:
    """Return the coupling after every exchange of two partners that makes it cheaper.

    The solvers compare costs to rounding of the *largest* one, so one pair of atoms far out
    hides what is better among near ones. An exchange compares four costs among themselves.
    """
    moved = np.array(moved)
    for _ in range(1 + len(i)):
        own = cost[i, j]
        best, pair = 0.0, None
        for start in range(0, len(i), 512):  # rows at a time: memory
            rows = slice(start, start + 512)
            crossed = cost[i[rows, None], j] + cost[i, j[rows, None]]
            gain = own[rows, None] + own - crossed
            gain[gain <= 1e-13 * crossed] = 0.0  # rounding
            gain *= np.minimum(moved[rows, None], moved)
            at = np.unravel_index(gain.argmax(), gain.shape)
            if gain[at] > best:
                best, pair = gain[at], (start + at[0], at[1])
        if best <= 1e-12 * (moved @ own):
            return i, j, moved
        r, s = pair
        share = min(moved[r], moved[s])
        moved[[r, s]] -= share
        i, j = np.append(i, [i[r], i[s]]), np.append(j, [j[s], j[r]])
        moved = np.append(moved, [share, share])
        keep = moved > 0
        i, j, moved = i[keep], j[keep], moved[keep]
    raise ValueError(
        "x, y: the atoms lie too far apart for the solver to compare near ones; "
        "split the laws or rescale the far atoms"
    )


def _masses(name: str, masses: Tensor | None, atoms: Tensor) -> Tensor:
    if masses is None:
        return atoms.new_full(atoms.shape[:-1], 1.0 / atoms.shape[-2])
    require_masses(name, masses, atoms.shape[-2])
    if require_broadcast(atoms=atoms.shape[:-1], **{name: masses.shape}) != atoms.shape[:-1]:
        raise ValueError(f"{name}: shape {tuple(masses.shape)} has more batch than the atoms")
    return masses.expand(atoms.shape[:-1])


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
        If an argument is malformed, masses do not sum to 1, or the atoms are spread too
        wide for an exact plan.

    Notes
    -----
    Exact means: the solver's plan, in which no exchange of two partners makes it cheaper by
    more than 1e-12 of the whole.

    Examples
    --------
    >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    >>> wasserstein(x, x.flip(0) + torch.tensor([0.0, 3.0]))
    tensor(3.)
    """
    require_choice("order", order, (1, 2))
    require_tensor("x", x, 2)
    require_tensor("y", y, 2, last=x.shape[-1])
    require_alike(x=x, y=y, a=a, b=b)
    if x.shape[:-2] != y.shape[:-2]:
        raise ValueError(
            f"y: leading dimensions {tuple(y.shape[:-2])} differ from "
            f"{tuple(x.shape[:-2])} of x; expand one of them"
        )
    a, b = _masses("a", a, x), _masses("b", b, y)
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


def slab_atoms(rho: LayeredMeasure, parts: int = 1) -> Atoms:
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
    TypeError, ValueError
        If `parts` is no positive integer.

    Examples
    --------
    >>> slab_atoms(LayeredMeasure(torch.zeros(1, 1, 1)), parts=2).z  # (theta, t)
    tensor([[0.0000, 0.2500],
            [0.0000, 0.7500]])
    """
    require_instance("rho", rho, LayeredMeasure)
    require_positive_int("parts", parts)
    layers, particles = rho.theta.shape[-3:-1]
    batch = torch.broadcast_shapes(rho.theta.shape[:-3], rho.weights.shape[:-2])
    middle = (torch.arange(layers * parts, dtype=rho.theta.dtype) + 0.5) / (layers * parts)
    depth = middle.reshape(layers, parts, 1, 1).expand(*batch, layers, parts, particles, 1)
    theta = rho.theta.unsqueeze(-3).expand(*depth.shape[:-1], rho.theta.shape[-1])
    mass = rho.weights.unsqueeze(-2).expand(depth.shape[:-1]) / (layers * parts)
    return Atoms(torch.cat([theta, depth], -1).flatten(-4, -2), mass.flatten(-3))


def enclosure(rho: LayeredMeasure, nu: LayeredMeasure, order: int = 2, parts: int = 4) -> Enclosure:
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

    Examples
    --------
    >>> rho, nu = (LayeredMeasure(torch.full((2, 1, 1), v)) for v in (0.0, 1.0))
    >>> enclosure(rho, nu).upper
    tensor(1.)
    """
    require_choice("order", order, (1, 2))
    _require_laws(rho, nu)
    if rho.layers != nu.layers:
        raise ValueError(f"nu: has {nu.layers} layers, rho has {rho.layers}; use equal depths")
    (x, a), (y, b) = slab_atoms(rho, parts), slab_atoms(nu, parts)
    upper = wasserstein(x, y, a, b, order)
    blur = 1.0 / (rho.layers * parts) * (0.25, 12**-0.5)[order - 1]
    (x, a), (y, b) = slab_atoms(rho), slab_atoms(nu)
    marginal = wasserstein(x[..., :-1], y[..., :-1], a, b, order)
    # rounding may put the marginals' distance above an equal upper bound
    return Enclosure(torch.minimum(torch.maximum(upper - 2 * blur, marginal), upper), upper)


def _require_laws(rho: LayeredMeasure, nu: LayeredMeasure) -> None:
    require_instance("rho", rho, LayeredMeasure)
    require_instance("nu", nu, LayeredMeasure)
    for name, law in (("rho", rho), ("nu", nu)):
        masses = law.depth_density.mean(-1)
        if (law.weights < 0).any() or not torch.allclose(
            masses, torch.ones_like(masses), rtol=0, atol=1e-6
        ):
            raise ValueError(f"{name}: is no law of total mass 1; divide its weights by the mass")
    if rho.theta.shape[-1] != nu.theta.shape[-1]:
        raise ValueError(
            f"nu: particles of size {nu.theta.shape[-1]}, rho has {rho.theta.shape[-1]}; "
            "compare laws over the same parameters"
        )
    if rho.theta.shape[:-3] != nu.theta.shape[:-3]:
        raise ValueError(
            f"nu: its batch {tuple(nu.theta.shape[:-3])} differs from "
            f"{tuple(rho.theta.shape[:-3])} of rho; expand one of them"
        )
    require_alike(rho=rho.theta, nu=nu.theta)


def layer_wasserstein(rho: LayeredMeasure, nu: LayeredMeasure, order: int = 1) -> Tensor:
    r"""Return :math:`W_p(\rho(\cdot, t_l), \nu(\cdot, t_l))` layer by layer, shape (..., L).

    Both laws must give every layer mass 1/L; without it a layer has no distance.

    Raises
    ------
    TypeError, ValueError
        If the laws differ in layers or a depth marginal is not uniform.

    Examples
    --------
    >>> rho, nu = (LayeredMeasure(torch.full((2, 1, 1), v)) for v in (0.0, 1.0))
    >>> layer_wasserstein(rho, nu)
    tensor([1., 1.])
    """
    require_choice("order", order, (1, 2))
    _require_laws(rho, nu)
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

    Examples
    --------
    >>> depth_wasserstein(torch.tensor([1.5, 0.5]), torch.tensor([0.5, 1.5]), order=1)
    tensor(0.2500)
    """
    require_choice("order", order, (1, 2))
    require_tensor("m1", m1, 1)
    require_tensor("m2", m2, 1)
    require_alike(m1=m1, m2=m2)
    batch = require_broadcast(m1=m1.shape[:-1], m2=m2.shape[:-1])
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
        If a matrix is not symmetric and positive semi-definite.

    Notes
    -----
    The trace is :math:`\min_O \|S^{1/2} - S_0^{1/2} O\|_F^2` over orthogonal O, attained at
    the polar factor of :math:`S_0^{1/2} S^{1/2}`: a norm of differences, which has no
    cancellation however near the two laws are.

    Examples
    --------
    >>> gelbrich(torch.zeros(2), 4.0 * torch.eye(2))  # N(0, 4 I) against N(0, I)
    tensor(1.4142)
    """
    k = require_symmetric("cov", cov).shape[-1]
    shift = require_tensor("mean", mean, 1, last=k)
    require_alike(mean=mean, cov=cov, mean0=mean0, cov0=cov0)
    shapes = {"mean": mean.shape[:-1], "cov": cov.shape[:-2]}
    if mean0 is not None:
        shapes["mean0"] = require_tensor("mean0", mean0, 1, last=k).shape[:-1]
    if cov0 is not None:
        shapes["cov0"] = require_symmetric("cov0", cov0).shape[:-2]
        if cov0.shape[-1] != k:
            raise ValueError(f"cov0: shape {tuple(cov0.shape)}, expected ({k}, {k}) as cov")
    require_broadcast(**shapes)
    shift = (shift if mean0 is None else shift - mean0).square().sum(-1)
    root = _root("cov", cov)
    if cov0 is None:
        gap = root - torch.eye(k, dtype=cov.dtype)
    else:
        root0 = _root("cov0", cov0)
        left, _, right = torch.linalg.svd(root0 @ root)
        gap = root - root0 @ (left @ right)
    return (shift + gap.square().sum((-1, -2))).sqrt()


def _root(name: str, cov: Tensor) -> Tensor:
    """Return the symmetric square root of positive semi-definite matrices."""
    values, vectors = torch.linalg.eigh(cov)
    if (values < -1e-9 * values.abs().amax(-1, keepdim=True)).any():
        raise ValueError(f"{name}: has a negative eigenvalue; a covariance has none")
    return (vectors * values.clamp_min(0).sqrt().unsqueeze(-2)) @ vectors.mT


def moments(points: Tensor) -> Moments:
    r"""Return mean (..., k) and covariance (..., k, k) of points (..., N, k), mass 1/N each.

    Raises
    ------
    TypeError, ValueError
        If the points are malformed.

    Examples
    --------
    >>> moments(torch.tensor([[1.0], [3.0]]))
    Moments(mean=tensor([2.]), cov=tensor([[1.]]))
    """
    require_tensor("points", points, 2)
    mean = points.mean(-2)
    centred = points - mean.unsqueeze(-2)
    return Moments(mean, centred.mT @ centred / points.shape[-2])
