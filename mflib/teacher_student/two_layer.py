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

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import require_positive_int, require_tensor
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

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.

    Notes
    -----
    Every method takes particles `theta` (..., N, k) and `weights` (..., N), by default 1/N
    each. The weights may be signed and of any sum: a difference of two laws is one.
    """

    block: RidgeBlock
    x: Tensor
    y: Tensor
    mass: Tensor | None = None

    def __post_init__(self) -> None:
        require_tensor("x", self.x, 2, last=self.block.d)
        require_tensor("y", self.y, 1, last=self.x.shape[-2])
        if self.mass is None:
            uniform = self.x.new_full((self.x.shape[-2],), 1.0 / self.x.shape[-2])
            object.__setattr__(self, "mass", uniform)
        require_tensor("mass", self.mass, 1, last=self.x.shape[-2])
        total = self.mass.sum(-1)
        if bool((self.mass < 0).any()) or not torch.allclose(total, torch.ones_like(total)):
            raise ValueError("mass: must be non-negative and sum to 1; divide by mass.sum()")

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
        require_tensor("x", x, 2, last=block.d)
        weights = _uniform(theta) if weights is None else weights
        return cls(block, x, block.field(x, theta, weights).squeeze(-1), mass)

    def output(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`\Sigma\rho(x_i) = \int f(x_i, \theta)\, \rho(d\theta)`, shape (..., n)."""
        weights = _uniform(theta) if weights is None else weights
        return self.block.field(self.x, theta, weights).squeeze(-1)

    def residual(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`r(x_i) = \Sigma\rho(x_i) - y_i`, shape (..., n)."""
        return self.output(theta, weights) - self.y

    def loss(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`E(\rho)`, shape (...)."""
        return 0.5 * (self.mass * self.residual(theta, weights) ** 2).sum(-1)

    def derivative(self, theta: Tensor, probes: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`\Phi = \delta E/\delta\rho` at probes (..., P, k), shape (..., P)."""
        r = self.residual(theta, weights)
        values = self.block.pairing(self.x, probes, r.unsqueeze(-1))
        return (values * self.mass.unsqueeze(-1)).sum(-2)

    def velocity(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`-\nabla\Phi` at the particles, shape (..., N, k) (eq. (2))."""
        r = self.residual(theta, weights)
        return -self.block.pairing_grad(self.x, theta, r.unsqueeze(-1), self.mass)

    def dissipation(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`D(\rho) = \int \rho\, |\nabla\Phi|^2`, shape (...)."""
        weights = _uniform(theta) if weights is None else weights
        return (weights * self.velocity(theta, weights).square().sum(-1)).sum(-1)

    def tangent_kernel(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return K, shape (..., n, n), with :math:`D = \sum_{ij} m_i m_j r_i r_j K_{ij}`.

        .. math::

            K_{ij} = \int \nabla_\theta f(x_i, \theta) \cdot \nabla_\theta f(x_j, \theta)\,
                \rho(d\theta)
        """
        weights = _uniform(theta) if weights is None else weights
        w, _ = self.block.split(theta)
        z = self.x @ self.block.split(theta)[1].mT
        slope, value = self.block.sigma.df(z), self.block.sigma.f(z)
        mass = weights.unsqueeze(-2)
        if w is None:
            return (slope * mass) @ slope.mT * (self.x @ self.x.mT)
        moving = (slope * (mass * w.unsqueeze(-2) ** 2)) @ slope.mT * (self.x @ self.x.mT)
        return moving + (value * mass) @ value.mT


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
    ValueError
        If an argument is impossible, or the particles leave the finite numbers.
    """
    tableau(method)  # an unknown name is an error before any work
    require_positive_int("steps", steps)
    require_tensor("theta", theta, 2)
    h, kept = time / steps, []
    for number in range(steps + 1):
        if keep is not None and number in keep:
            kept.append(theta)
        if number < steps:
            theta = runge_kutta_step(velocity, theta, h, method)
    if not bool(torch.isfinite(theta).all()):
        raise ValueError("time: the particles left the finite numbers; take more steps")
    return theta if keep is None else torch.stack(kept)
