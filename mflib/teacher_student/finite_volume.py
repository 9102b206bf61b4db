r"""Finite volumes for the mean-field equation of a two-layer network in one dimension.

.. math::

    \partial_t \rho = \partial_\theta (\rho\, \partial_\theta \Phi), \qquad
    \theta \in [a, b]

(teacher_student, eq. (3)). A cell's mass changes by what flows through its two faces, so
mass is kept exactly. The velocity at an inner face is the difference quotient
:math:`-(\Phi_{i+1} - \Phi_i)/h`; with it the energy of the cells falls, for any positive
value of the density at the face: :math:`\dot E = -h \sum_i \rho_{i+1/2}\, v_{i+1/2}^2`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_callable,
    require_choice,
    require_instance,
    require_int,
    require_number,
    require_positive_int,
    require_tensor,
)
from .two_layer import TwoLayer

__all__ = ["FiniteVolume", "Run"]

_BOUNDARIES = ("no flux", "neumann")


def density_at(density: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Return the finite values (..., P) of a density at points (P,)."""
    return require_tensor("density", require_callable("density", density)(at), 1, last=len(at))


@dataclass(frozen=True)
class Run:
    r"""What a run of the scheme leaves.

    Attributes
    ----------
    rho : Tensor
        Cell averages at the end, shape (..., M).
    loss, mass : Tensor
        After every step, shape (..., steps + 1).
    courant : float
        The largest :math:`|v| \Delta t / h` met.
    kept : tuple of Tensor
        Cell averages at the steps that were asked for.
    """

    rho: Tensor
    loss: Tensor
    mass: Tensor
    courant: float
    kept: tuple[Tensor, ...]


@dataclass(frozen=True)
class FiniteVolume:
    r"""The upwind scheme of order 1 or 2 on M equal cells of an interval.

    Order 2 reconstructs the density by van Leer's limited slopes and takes Heun's
    strong-stability-preserving step; order 1 takes cell averages and Euler's step.

    Parameters
    ----------
    law : TwoLayer
        A problem with one-dimensional parameters; batches are allowed.
    low, high : float
        The ends of the interval.
    cells : int
        The number M.
    order : {1, 2}
        Of the scheme.
    boundary : {"no flux", "neumann"}
        No flux lets nothing through. The Neumann condition
        :math:`\partial_n \rho = 0` (as printed in Section 2.1) continues the density as a
        constant beyond the end, where the flow carries it out or in.

    Raises
    ------
    TypeError, ValueError
        If an argument is impossible.

    Notes
    -----
    Methods take cell averages `rho` (..., M) and raise a TypeError or ValueError that names
    them where they do not fit.
    """

    law: TwoLayer
    low: float
    high: float
    cells: int
    order: int = 2
    boundary: str = "no flux"

    def __post_init__(self) -> None:
        require_positive_int("cells", self.cells)
        require_number("low", self.low)
        require_number("high", self.high)
        if not self.low < self.high:
            raise ValueError(f"high: {self.high!r} is not above low = {self.low!r}")
        require_choice("order", self.order, (1, 2))
        require_choice("boundary", self.boundary, _BOUNDARIES)
        if require_instance("law", self.law, TwoLayer).block.k != 1:
            raise ValueError(f"law: its particles have dimension {self.law.block.k}, expected 1")

    @property
    def width(self) -> float:
        """The width h of a cell."""
        return (self.high - self.low) / self.cells

    @property
    def edges(self) -> Tensor:
        """Shape (M + 1,)."""
        return torch.linspace(self.low, self.high, self.cells + 1, dtype=self.law.x.dtype)

    @property
    def centres(self) -> Tensor:
        """Shape (M,)."""
        return self.edges[:-1] + 0.5 * self.width

    def average(self, density: Callable[[Tensor], Tensor]) -> Tensor:
        r"""Return the cell averages (..., M) of a density, by 8 Gauss nodes in each cell.

        Parameters
        ----------
        density : callable
            Maps points (P,) to values (..., P).

        Raises
        ------
        TypeError, ValueError
            If it does not.
        """
        nodes, weights = np.polynomial.legendre.leggauss(8)
        at = self.centres[:, None] + 0.5 * self.width * torch.as_tensor(nodes)
        values = density_at(density, at.flatten()).unflatten(-1, at.shape)
        return 0.5 * (values * torch.as_tensor(weights)).sum(-1)

    @cached_property
    def _features(self) -> Tensor:
        """The neurons of the cells at the data, (..., n, M): they never move."""
        ones = torch.ones_like(self.law.x[..., :1])
        return self.law.block.pairing(self.law.x, self.centres[:, None], ones)

    def _require_averages(self, rho: Tensor) -> None:
        require_tensor("rho", rho, 1, last=self.cells)
        require_alike(law=self.law.x, rho=rho)
        require_broadcast(law=self.law.batch, rho=rho.shape[:-1])

    def residual(self, rho: Tensor) -> Tensor:
        """Return the residual of cell averages (..., M), each cell's mass at its centre."""
        self._require_averages(rho)
        return self._residual(rho)

    def _residual(self, rho: Tensor) -> Tensor:
        mass = (rho * self.width).unsqueeze(-1)
        return (self._features @ mass).squeeze(-1) - self.law.y

    def loss(self, rho: Tensor) -> Tensor:
        """Return E of cell averages, shape (...)."""
        self._require_averages(rho)
        return self._loss(rho)

    def _loss(self, rho: Tensor) -> Tensor:
        return 0.5 * (self.law.mass * self._residual(rho) ** 2).sum(-1)

    def speed(self, rho: Tensor) -> Tensor:
        r"""Return the velocity :math:`-\partial_\theta\Phi` at all faces, shape (..., M + 1)."""
        self._require_averages(rho)
        return self._speed(rho)

    def _speed(self, rho: Tensor) -> Tensor:
        pull = self._residual(rho) * self.law.mass
        phi = (self._features.mT @ pull.unsqueeze(-1)).squeeze(-1)
        ends, ones = self.edges[[0, -1]][:, None], torch.ones_like(pull)
        outer = -self.law.block.pairing_grad(self.law.x, ends, pull.unsqueeze(-1), ones)
        outer = outer.squeeze(-1)
        inner = -phi.diff(dim=-1) / self.width
        return torch.cat([outer[..., :1], inner, outer[..., 1:]], -1)

    def rate(self, rho: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return :math:`\dot\rho` of the cells (..., M) and the velocity at the faces."""
        self._require_averages(rho)
        return self._rate(rho)

    def _rate(self, rho: Tensor) -> tuple[Tensor, Tensor]:
        v = self._speed(rho)
        left, right = rho[..., :-1], rho[..., 1:]
        if self.order == 2:
            jump = torch.nn.functional.pad(rho.diff(dim=-1), (1, 1))
            back, ahead = jump[..., :-1], jump[..., 1:]
            product = back * ahead
            same = product > 0
            slope = 2.0 * product / torch.where(same, back + ahead, 1.0)
            slope = torch.where(same, slope, 0.0)
            left, right = left + 0.5 * slope[..., :-1], right - 0.5 * slope[..., 1:]
        inner = torch.where(v[..., 1:-1] > 0, left, right) * v[..., 1:-1]
        ends = torch.zeros_like(v[..., [0, -1]])
        if self.boundary == "neumann":
            ends = rho[..., [0, -1]] * v[..., [0, -1]]
        flux = torch.cat([ends[..., :1], inner, ends[..., 1:]], -1)
        return -flux.diff(dim=-1) / self.width, v

    def run(self, rho: Tensor, time: float, steps: int, keep: tuple[int, ...] = ()) -> Run:
        r"""Follow cell averages for a training time with equal steps.

        Parameters
        ----------
        rho : Tensor
            Cell averages, shape (..., M).
        time : float
            The length of training.
        steps : int
            The number of steps; keep :attr:`Run.courant` below 1/2.
        keep : tuple of int
            Step numbers whose densities are kept.

        Returns
        -------
        Run

        Raises
        ------
        TypeError, ValueError
            If an argument is malformed, or the densities leave the finite numbers.
        """
        self._require_averages(rho)
        rho = rho.expand(*require_broadcast(law=self.law.batch, rho=rho.shape[:-1]), -1)
        for number in require_instance("keep", keep, tuple):
            require_int("keep", number, 0, require_positive_int("steps", steps))
        h, worst = require_number("time", time) / require_positive_int("steps", steps), 0.0
        losses, masses, kept = [], [], []
        for number in range(steps + 1):
            losses.append(self._loss(rho))
            masses.append(rho.sum(-1) * self.width)
            if number in keep:
                kept.append(rho)
            if number == steps:
                break
            slope, v = self._rate(rho)
            worst = max(worst, float(v.abs().max()) * h / self.width)
            trial = rho + h * slope
            if self.order == 2:
                trial = 0.5 * (rho + trial + h * self._rate(trial)[0])
            rho = trial
        if not bool(torch.isfinite(rho).all() & torch.isfinite(losses[-1]).all()):
            raise ValueError("time: the densities left the finite numbers; take more steps")
        return Run(rho, torch.stack(losses, -1), torch.stack(masses, -1), worst, tuple(kept))
