r"""Two-layer networks as laws of parameters: loss, first variation, velocity, flow.

.. math::

    E(\rho) = \tfrac12 \Big\|\int f(x, \theta)\, \rho(d\theta) - y\Big\|_\mu^2, \qquad
    \Phi = \frac{\delta E}{\delta\rho}(\theta)
         = \int r(x)\, f(x, \theta)\, \mu(dx), \qquad
    \partial_t \rho = \operatorname{div}(\rho\, \nabla \Phi)

(teacher_student, Section 2.1 and eq. (3)); r is the residual. A law is a set of particles
with weights; the velocity of a particle is :math:`-\nabla\Phi`, without its weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_callable,
    require_instance,
    require_int,
    require_masses,
    require_number,
    require_positive_int,
    require_tensor,
)
from ..stepping import runge_kutta_step, tableau
from .ridge import RidgeBlock

__all__ = ["TwoLayer", "follow"]


def _uniform(theta: Tensor) -> Tensor:
    return theta.new_full(theta.shape[:-1], 1.0 / theta.shape[-2])


@dataclass(frozen=True)
class TwoLayer:
    r"""The regression problem of a two-layer network, as a functional of the law.

    Parameters
    ----------
    block : RidgeBlock
        The neuron f.
    x : Tensor
        Inputs, shape (..., n, d).
    y : Tensor
        Targets, shape (..., n).
    mass : Tensor, optional
        The weights of :math:`\mu`, shape (..., n), sum 1. Default: 1/n each.

    Attributes
    ----------
    batch : torch.Size
        The leading dimensions of all tensors together.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.

    Notes
    -----
    Every method takes particles `theta` (..., N, k) and `weights` (..., N), by default 1/N
    each; some take `probes` (..., P, k). The weights may be signed and of any sum: a
    difference of two laws is one. A method that is given other tensors raises a TypeError or
    ValueError that names them.
    """

    block: RidgeBlock
    x: Tensor
    y: Tensor
    mass: Tensor | None = None
    batch: torch.Size = field(init=False, repr=False, compare=False)
    _fitting: set = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        d = require_instance("block", self.block, RidgeBlock).d
        require_tensor("x", self.x, 2, last=d)
        n = self.x.shape[-2]
        require_tensor("y", self.y, 1, last=n)
        if self.mass is None:
            object.__setattr__(self, "mass", self.x.new_full((n,), 1.0 / n))
        require_masses("mass", self.mass, n)
        require_alike(x=self.x, y=self.y, mass=self.mass)
        object.__setattr__(self, "_fitting", set())
        object.__setattr__(
            self,
            "batch",
            require_broadcast(x=self.x.shape[:-2], y=self.y.shape[:-1], mass=self.mass.shape[:-1]),
        )

    @classmethod
    def taught(
        cls,
        block: RidgeBlock,
        x: Tensor,
        theta: Tensor,
        weights: Tensor | None = None,
        mass: Tensor | None = None,
    ) -> TwoLayer:
        r"""Return the problem with the targets of a teacher, :math:`y = \int f\, d\rho_*`."""
        untaught = cls(block, x, torch.zeros_like(require_tensor("x", x, 2)[..., 0]), mass)
        return cls(block, x, untaught.output(theta, weights), mass)

    def _admit(self, name: str, value: Tensor, ndim: int, last: int) -> None:
        require_tensor(name, value, ndim, last=last)
        require_alike(x=self.x, **{name: value})

    def _weights(
        self, theta: Tensor, weights: Tensor | None, probes: Tensor | None = None
    ) -> Tensor:
        """Return the weights of a law whose shapes and dtype fit the problem.

        The methods stand in loops: what fitted once is not looked at again, and numbers are
        looked at only where a result is not finite.
        """
        given = (theta, weights, probes)
        seen = tuple((t.shape, t.dtype) if isinstance(t, Tensor) else t is None for t in given)
        if seen in self._fitting:
            return _uniform(theta) if weights is None else weights
        self._admit("theta", theta, 2, self.block.k)
        if weights is None:
            weights = _uniform(theta)
        else:
            self._admit("weights", weights, 1, theta.shape[-2])
        batches = dict(x=self.batch, theta=theta.shape[:-2], weights=weights.shape[:-1])
        if probes is not None:
            self._admit("probes", probes, 2, self.block.k)
            batches["probes"] = probes.shape[:-2]
        require_broadcast(**batches)
        self._fitting.add(seen)
        return weights

    @staticmethod
    def _finite(value: Tensor, **given: Tensor) -> Tensor:
        # a finite sum has finite entries; finite entries may have a sum that overflows
        if not math.isfinite(value.detach().sum()) and not bool(torch.isfinite(value).all()):
            for name, tensor in given.items():
                require_tensor(name, tensor, 1)
            raise ValueError("theta: too large, the result left the finite numbers")
        return value

    def _output(self, theta: Tensor, weights: Tensor) -> Tensor:
        return self.block.field(self.x, theta, weights).squeeze(-1)

    def _velocity(self, theta: Tensor, weights: Tensor) -> Tensor:
        r = self._output(theta, weights) - self.y
        return -self.block.pairing_grad(self.x, theta, r.unsqueeze(-1), self.mass)

    def output(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`\Sigma\rho(x_i) = \int f(x_i, \theta)\, \rho(d\theta)`, shape (..., n)."""
        weights = self._weights(theta, weights)
        return self._finite(self._output(theta, weights), theta=theta, weights=weights)

    def residual(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`r(x_i) = \Sigma\rho(x_i) - y_i`, shape (..., n)."""
        return self.output(theta, weights) - self.y

    def loss(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`E(\rho)`, shape (...)."""
        value = 0.5 * (self.mass * self.residual(theta, weights) ** 2).sum(-1)
        return self._finite(value)

    def derivative(self, theta: Tensor, probes: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`\Phi = \delta E/\delta\rho` at probes (..., P, k), shape (..., P)."""
        weights = self._weights(theta, weights, require_instance("probes", probes, Tensor))
        r = self._output(theta, weights) - self.y
        values = self.block.pairing(self.x, probes, r.unsqueeze(-1))
        values = (values * self.mass.unsqueeze(-1)).sum(-2)
        return self._finite(values, theta=theta, weights=weights, probes=probes)

    def velocity(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`-\nabla\Phi` at the particles, shape (..., N, k) (eq. (2))."""
        weights = self._weights(theta, weights)
        return self._finite(self._velocity(theta, weights), theta=theta, weights=weights)

    def dissipation(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`D(\rho) = \int \rho\, |\nabla\Phi|^2`, shape (...)."""
        weights = self._weights(theta, weights)
        speeds = self._velocity(theta, weights).square().sum(-1)
        return self._finite((weights * speeds).sum(-1), theta=theta, weights=weights)

    def tangent_kernel(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return K, shape (..., n, n), with :math:`D = \sum_{ij} m_i m_j r_i r_j K_{ij}`.

        .. math::

            K_{ij} = \int \nabla_\theta f(x_i, \theta) \cdot \nabla_\theta f(x_j, \theta)\,
                \rho(d\theta)
        """
        weights = self._weights(theta, weights)
        w, direction = self.block.split(theta)
        z = self.x @ direction.mT
        slope, value = self.block.sigma.df(z), self.block.sigma.f(z)
        mass = weights.unsqueeze(-2)
        inner = self.x @ self.x.mT
        if w is None:
            kernel = (slope * mass) @ slope.mT * inner
        else:
            moving = (slope * (mass * w.unsqueeze(-2) ** 2)) @ slope.mT * inner
            kernel = moving + (value * mass) @ value.mT
        return self._finite(kernel, theta=theta, weights=weights)


def follow(
    velocity: Callable[[Tensor], Tensor],
    theta: Tensor,
    time: float | Tensor,
    steps: int,
    method: str = "rk4",
    keep: tuple[int, ...] | None = None,
) -> Tensor:
    r"""Follow particles :math:`\dot\theta = v(\theta)` with equal Runge-Kutta steps.

    Parameters
    ----------
    velocity : callable
        Maps particles (..., N, k) to velocities of the same shape.
    theta : Tensor
        The start.
    time : float or Tensor
        The length of training; a tensor must broadcast against `theta`.
    steps : int
        The number of steps.
    method : {"euler", "midpoint", "rk4"}
        The one-step method.
    keep : tuple of int, optional
        Step numbers between 0 and `steps` to return.

    Returns
    -------
    Tensor
        The end, or the kept positions stacked in front, shape (len(keep), ..., N, k).

    Raises
    ------
    TypeError, ValueError
        If an argument is impossible, or the particles leave the finite numbers.
    """
    tableau(method)  # an unknown name is an error before any work
    require_positive_int("steps", steps)
    require_tensor("theta", theta, 2)
    require_callable("velocity", velocity)
    if isinstance(time, Tensor):
        require_tensor("time", time, 0)
        require_alike(theta=theta, time=time)
        if require_broadcast(theta=theta.shape, time=time.shape) != theta.shape:
            raise ValueError(f"time: shape {tuple(time.shape)} has more entries than theta")
    else:
        require_number("time", time)
    if keep is not None:
        for number in require_instance("keep", keep, tuple):
            require_int("keep", number, 0, steps)
        if not keep:
            raise ValueError("keep: is empty; pass step numbers, or None for the end alone")
    h, kept = time / steps, []
    for number in range(steps + 1):
        if keep is not None and number in keep:
            kept.append(theta)
        if number < steps:
            theta = runge_kutta_step(velocity, theta, h, method)
    if not bool(torch.isfinite(theta).all()):
        raise ValueError("time: the particles left the finite numbers; take more steps")
    return theta if keep is None else torch.stack(kept)
