r"""The mean-field equation in one dimension, solved by weighted characteristics.

The mass of the start is cut into pieces at the nodes of a Gauss rule, and every piece
moves with the velocity of all (teacher_student, eq. (2)); masses never change. Probes
without mass ride along: the mass to the left of a probe is that of its start, which gives
the distribution function at the end, at spectral accuracy for smooth starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_instance,
    require_int,
    require_number,
    require_positive_int,
)
from .finite_volume import FiniteVolume, density_at
from .two_layer import TwoLayer, follow

__all__ = ["Characteristics", "characteristics", "gauss_legendre"]


def gauss_legendre(number: int, low: float, high: float) -> tuple[Tensor, Tensor]:
    r"""Return nodes and weights (number,) of the Gauss-Legendre rule on [low, high].

    Raises
    ------
    ValueError
        If an argument is impossible.

    Examples
    --------
    >>> nodes, weights = gauss_legendre(3, 0.0, 1.0)
    >>> round(float((weights * nodes**5).sum()), 12) == round(1 / 6, 12)
    True
    """
    nodes, weights = np.polynomial.legendre.leggauss(require_positive_int("number", number))
    half = 0.5 * (require_number("high", high) - require_number("low", low))
    return low + half * (1.0 + torch.as_tensor(nodes)), half * torch.as_tensor(weights)


@dataclass(frozen=True)
class Characteristics:
    r"""A law of neurons after the flow, one in each batch entry.

    Attributes
    ----------
    theta : Tensor
        Where the pieces are, shape (B, n).
    mass : Tensor
        Their masses, shape (B, n).
    curves : tuple of CubicSpline
        The distribution function between the outermost probes, one in each batch entry.
    """

    theta: Tensor
    mass: Tensor
    curves: tuple[CubicSpline, ...]

    def below(self, at: Tensor) -> Tensor:
        r"""Return the mass to the left of the points `at` (P,), shape (B, P)."""
        rows = [F(np.clip(at.numpy(), F.x[0], F.x[-1])) for F in self.curves]
        return torch.as_tensor(np.stack(rows))

    def distance(self, grid: FiniteVolume, rho: Tensor) -> Tensor:
        r"""Return :math:`W_1` to the law of cell averages (B, M), by the cells' edges.

        On a line it is the area between the distribution functions,
        :math:`W_1 = \int |F - G|`, here a sum over the edges; shape (B,).
        """
        F = torch.nn.functional.pad((rho * grid.width).cumsum(-1), (1, 0))
        return (F - self.below(grid.edges)).abs().sum(-1) * grid.width


def characteristics(
    law: TwoLayer,
    density: Callable[[Tensor], Tensor],
    ends: tuple[float, float],
    time: float,
    steps: int = 40,
    nodes: int = 120,
    probes: int = 801,
) -> Characteristics:
    r"""Follow a start given by its density for a training time.

    Parameters
    ----------
    law : TwoLayer
        A batch of problems with one-dimensional parameters, `x` of shape (B, n, 1).
    density : callable
        Maps points (P,) of the interval to densities (B, P) of mass 1, smooth inside.
    ends : tuple of float
        The interval that holds the start.
    time : float
        The training time.
    steps, nodes, probes : int
        Runge-Kutta steps of order 4, pieces of mass, probes.

    Returns
    -------
    Characteristics

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed, the density's mass is not 1 or the probes cross.
    """
    if require_instance("law", law, TwoLayer).block.k != 1:
        raise ValueError(f"law: its particles have dimension {law.block.k}, expected 1")
    if len(require_instance("ends", ends, tuple)) != 2:
        raise ValueError(f"ends: expected two numbers, got {ends!r}")
    if not require_number("ends", ends[0]) < require_number("ends", ends[1]):
        raise ValueError(f"ends: expected the lower one first, got {ends!r}")
    require_number("time", time)
    require_positive_int("nodes", nodes)
    require_int("probes", probes, 2)
    at, weights = gauss_legendre(nodes, *ends)
    mass = density_at(density, at) * weights
    require_alike(density=mass, law=law.x)
    batch = require_broadcast(density=mass.shape[:-1], law=law.batch)
    if len(batch) != 1:
        raise ValueError(f"density: expected one batch dimension with the law's, got {batch}")
    mass = mass.expand(*batch, -1)
    if not torch.allclose(mass.sum(-1), torch.ones_like(mass[..., 0]), atol=1e-8):
        raise ValueError("density: its mass on the interval is not 1; divide by its integral")
    marks = torch.linspace(*ends, probes, dtype=at.dtype)
    cells = [gauss_legendre(6, 0.0, 1.0)[k] for k in (0, 1)]
    width = marks[1] - marks[0]
    inner = density_at(density, (marks[:-1, None] + width * cells[0]).flatten())
    pieces = (inner.unflatten(-1, (probes - 1, 6)) * cells[1]).sum(-1) * width
    start = torch.nn.functional.pad(pieces.cumsum(-1), (1, 0)).expand(*batch, -1)
    everyone = torch.cat([at, marks]).expand(len(mass), -1).unsqueeze(-1)
    heavy = torch.cat([mass, torch.zeros_like(start)], -1)
    end = follow(lambda q: law._velocity(q, heavy), everyone, time, steps)[..., 0]
    if not bool((end[:, nodes:].diff(dim=-1) > 0).all()):
        raise ValueError("steps: the probes crossed each other; take more steps or fewer probes")
    curves = tuple(
        CubicSpline(q.numpy(), F.numpy()) for q, F in zip(end[:, nodes:], start, strict=True)
    )
    return Characteristics(end[:, :nodes], mass, curves)
