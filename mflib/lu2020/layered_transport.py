r"""Optimal transport between layered laws of parameters and depth :math:`(\theta, t)`.

The particles of a layer fill a slab of depth and are no atoms: their distance is enclosed
between rigorous bounds, compared layer by layer, or, for laws of depth alone, known exactly.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_choice,
    require_instance,
    require_positive_int,
    require_tensor,
)
from ..measures import LayeredMeasure
from ..transport import wasserstein

__all__ = [
    "Atoms",
    "Enclosure",
    "depth_wasserstein",
    "enclosure",
    "layer_wasserstein",
    "slab_atoms",
]


class Atoms(NamedTuple):
    r"""Atoms :math:`z = (\theta, t)`, shape (..., A, k + 1), with masses (..., A) of sum 1."""

    z: Tensor
    mass: Tensor


class Enclosure(NamedTuple):
    """Rigorous lower and upper bounds of a distance, shape (...) each."""

    lower: Tensor
    upper: Tensor


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
