r"""The Wasserstein gradient flow of the loss over parameters and depth.

.. math::

    \partial_s \rho = \operatorname{div}_{(\theta, t)}
        \Big(\rho\, \nabla_{(\theta, t)} \frac{\delta E}{\delta\rho}\Big)

(lu2020, eq. (14)), with no flux through t = 0 and t = 1, for n particles
:math:`(\theta_i, t_i)` of mass 1/n. A particle is spread over the L layers of a network by
the Bernstein polynomials :math:`b_l(t) = \binom{L-1}{l} t^l (1-t)^{L-1-l}`:

.. math::

    X^{l+1} = X^l + \frac1n \sum_i b_l(t_i)\, f(X^l, \theta_i).

They are non-negative and sum to 1, so no mass is lost, and the mean layer of a particle is
:math:`(L-1)\,t_i`. The loss of this network is a smooth functional of the particles' law;
its derivative is :math:`\frac{\delta E}{\delta\rho}(\theta, t) = \sum_l b_l(t)\,
\mathbb E\, p^{l+1} f(X^l, \theta)`, and the flow of the particles is its exact gradient
flow at every L and n. As L grows all of it converges to the mean field, at order 1/L.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_instance,
    require_masses,
    require_tensor,
)
from ..blocks import Block, NeuronBlock
from ..measures import LayeredMeasure
from ..ode import Pass
from ..problem import Problem
from ..stepping import State
from .bernstein import bernstein, bernstein_slope

__all__ = [
    "ParticleGradient",
    "Particles",
    "Velocity",
    "WassersteinFlow",
    "lie_bracket",
]


#: Depths this close to 0 or 1 are at the boundary.
_ROUNDING = 1e-15


def lie_bracket(
    block: Block,
    x: Tensor,
    p: Tensor,
    theta: Tensor,
    weights: Tensor,
    probes: Tensor,
    mass: Tensor,
) -> tuple[Tensor, Tensor]:
    r"""Return the two terms of :math:`\partial_t \frac{\delta E}{\delta\rho}` at one depth.

    .. math::

        \partial_t \frac{\delta E}{\delta\rho}(\theta, t)
            = \mathbb E\, p_\rho \nabla_x f(X_\rho, \theta)\, F
            - \mathbb E\, p_\rho \nabla_x F\, f(X_\rho, \theta),
        \qquad F = \int f(\cdot, \theta')\, \rho(d\theta', t),

    by the product rule with the forward and the adjoint equation: the Lie bracket of
    the block with the mean field, tested with the adjoint.

    Parameters
    ----------
    block : Block
        The residual block f.
    x, p : Tensor
        States and adjoints at the depth, shape (..., n, d).
    theta, weights : Tensor
        The law :math:`\rho(\cdot, t)`, shapes (..., N, k) and (..., N).
    probes : Tensor
        The :math:`\theta`, shape (..., P, k).
    mass : Tensor
        Of the data, shape (n,).

    Returns
    -------
    first, second : Tensor
        Shape (..., P) each; the derivative is first - second.
    """
    if require_instance("block", block, Block).d_out != block.d:
        raise ValueError(f"block: maps dimension {block.d} to {block.d_out}; pass equal ones")
    for name, value in (("x", x), ("p", p)):
        require_tensor(name, value, 2, last=block.d)
    for name, value in (("theta", theta), ("probes", probes)):
        require_tensor(name, value, 2, last=block.k)
    require_tensor("weights", weights, 1, last=theta.shape[-2])
    if require_masses("mass", mass, x.shape[-2]).ndim != 1 or p.shape[-2] != x.shape[-2]:
        raise ValueError(f"p, mass: do not fit the {x.shape[-2]} states x")
    require_alike(x=x, p=p, theta=theta, weights=weights, probes=probes, mass=mass)
    require_broadcast(
        x=x.shape[:-2],
        p=p.shape[:-2],
        theta=theta.shape[:-2],
        weights=weights.shape[:-1],
        probes=probes.shape[:-2],
    )
    field = block.field(x, theta, weights)
    moved = torch.einsum("...ijab,...ib->...ija", block.jacobian(x, probes), field)
    first = torch.einsum("...ija,...ia,i->...j", moved, p, mass)
    second = block.pairing(x, probes, block.vjp(x, theta, weights, p))
    return first, torch.einsum("...ij,i->...j", second, mass)


@dataclass(frozen=True)
class Particles(State):
    r"""Particles :math:`(\theta_i, t_i)` of mass 1/n each.

    The sum with a displacement stops at the boundary t = 0 and t = 1; the difference of two
    is a displacement, a :class:`Velocity` without loss.

    Parameters
    ----------
    theta : Tensor
        Shape (..., n, k).
    t : Tensor
        Depths in [0, 1], shape (..., n).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed or a depth lies outside [0, 1].
    """

    inner: ClassVar[dict[str, int]] = {"theta": 2, "t": 1}
    theta: Tensor
    t: Tensor

    def __post_init__(self) -> None:
        require_tensor("theta", self.theta, 2)
        require_tensor("t", self.t, 1)
        require_alike(theta=self.theta, t=self.t)
        if self.t.shape != self.theta.shape[:-1]:
            raise ValueError(
                f"t: shape {tuple(self.t.shape)} does not fit theta's particles "
                f"{tuple(self.theta.shape[:-1])}; pass one depth a particle"
            )
        if bool((self.t < 0).any()) or bool((self.t > 1).any()):
            raise ValueError("t: a depth lies outside [0, 1]; clamp or rescale the depths")

    def __add__(self, move: Velocity) -> Particles:
        return Particles(self.theta + move.theta, (self.t + move.t).clamp(0.0, 1.0))

    def __sub__(self, other: Particles) -> Velocity:
        return Velocity(self.theta - other.theta, self.t - other.t)


@dataclass(frozen=True)
class Velocity(State):
    r"""Minus the gradient of :math:`\frac{\delta E}{\delta\rho}` at the particles.

    Attributes
    ----------
    theta, t : Tensor
        Shapes (..., n, k) and (..., n).
    loss : Tensor, optional
        :math:`E` where the velocity was taken, shape (...); None for a sum or a multiple.
    """

    inner: ClassVar[dict[str, int]] = {"theta": 2, "t": 1}
    theta: Tensor
    t: Tensor
    loss: Tensor | None = None

    @property
    def dissipation(self) -> Tensor:
        r"""The parts :math:`\frac1n\sum_i |\dot\theta_i|^2, \frac1n\sum_i \dot t_i^2`, (..., 2)."""
        theta = self.theta.square().sum(-1).mean(-1)
        return torch.stack([theta, self.t.square().mean(-1)], -1)


class ParticleGradient(NamedTuple):
    """The gradient of the functional derivative at the particles: (..., n, k) and (..., n)."""

    theta: Tensor
    t: Tensor


@dataclass(frozen=True)
class WassersteinFlow:
    r"""The gradient flow of a regression problem's loss over :math:`(\theta, t)`.

    Parameters
    ----------
    problem : Problem
        With Euler steps, one a layer.

    Raises
    ------
    ValueError
        If the problem's method is another.
    """

    problem: Problem

    def __post_init__(self) -> None:
        if require_instance("problem", self.problem, Problem).method != "euler":
            raise ValueError("problem: needs method='euler', one step a layer")

    def measure(self, particles: Particles) -> LayeredMeasure:
        r"""Return the particles spread over the layers, with weights :math:`\frac Ln b_l(t_i)`."""
        require_instance("particles", particles, Particles)
        layers, (n, k) = self.problem.steps, particles.theta.shape[-2:]
        theta = particles.theta.unsqueeze(-3)
        theta = theta.expand(*theta.shape[:-3], layers, n, k)
        return LayeredMeasure(theta, bernstein(particles.t, layers) * (layers / n))

    def loss(self, particles: Particles) -> Tensor:
        r"""Return :math:`E`, shape (...)."""
        return self.problem.loss(self.measure(particles))

    def backward(self, particles: Particles) -> Pass:
        r"""Return one forward and backward pass of the network."""
        return self.problem.backward(self.measure(particles))

    def derivative(self, particles: Particles, probes: Particles) -> Tensor:
        r"""Return :math:`\frac{\delta E}{\delta\rho}(\theta, t)` at probes, shape (..., P)."""
        require_instance("probes", probes, Particles)
        values = self.problem.derivative(self.measure(particles), probes.theta.unsqueeze(-3))
        return (bernstein(probes.t, self.problem.steps) * values).sum(-2)

    def _slopes(self, particles: Particles, passed: Pass | None) -> tuple[Tensor, Tensor, Tensor]:
        first, layers = (
            self.problem.first_variation(self.measure(particles), passed),
            self.problem.steps,
        )
        theta = (bernstein(particles.t, layers).unsqueeze(-1) * first.gradient).sum(-3)
        return theta, (bernstein_slope(particles.t, layers) * first.value).sum(-2), first.loss

    def gradient(self, particles: Particles, passed: Pass | None = None) -> ParticleGradient:
        r"""Return :math:`\nabla_\theta` and :math:`\partial_t` of the derivative at the particles.

        Parameters
        ----------
        particles : Particles
            Where.
        passed : Pass, optional
            A pass to use instead of :meth:`backward`'s own.

        Returns
        -------
        theta, t : Tensor
            Shapes (..., n, k) and (..., n): n times the derivative of the network's
            loss by the particle.
        """
        return ParticleGradient(*self._slopes(particles, passed)[:2])

    def velocity(self, particles: Particles) -> Velocity:
        r"""Return the particles' velocity, without its outward part at t = 0 and t = 1.

        At the boundary means to rounding: a particle that rounding took off it cannot move
        outward either, and would be counted as dissipating.
        """
        theta, t, loss = self._slopes(particles, None)
        low, high = particles.t <= _ROUNDING, particles.t >= 1.0 - _ROUNDING
        outward = low & (t > 0) | high & (t < 0)
        return Velocity(-theta, -torch.where(outward, 0.0, t), loss)

    def bracket(self, particles: Particles, probes: Particles) -> tuple[Tensor, Tensor]:
        r"""Return the two terms of :math:`\partial_t \frac{\delta E}{\delta\rho}` at probes.

        With :math:`G_l(X) = \frac1n \sum_i b_l(t_i) f(X, \theta_i)` the discrete Lie
        bracket between neighbouring layers is

        .. math::

            \mathbb E\, p^{l+2} \big(f(X^{l+1}, \theta) - f(X^l, \theta)\big)
            - \mathbb E\, p^{l+2}\, \nabla G_{l+1}(X^{l+1})\, f(X^l, \theta);

        the terms are its averages over l with weights :math:`(L-1)\, b_{l,L-2}(t)`, shape
        (..., P) each, and the depth derivative is first - second, exactly.

        Raises
        ------
        ValueError
            If the network has one layer, which has no neighbour.
        """
        block, layers = self.problem.block, self.problem.steps
        if layers < 2:
            raise ValueError("problem: one layer has no neighbour; pass steps=2 or more")
        require_tensor("probes", require_instance("probes", probes, Particles).theta, 2, block.k)
        passed = self.backward(particles)
        X, p = passed.states, passed.costates
        rho, theta = self.measure(particles), probes.theta.unsqueeze(-3)
        low, high, p = X[..., :-1, :, :], X[..., 1:, :, :], p[..., 1:, :, :]
        first = block.pairing(high, theta, p) - block.pairing(low, theta, p)
        pulled = block.vjp(high, rho.theta[..., 1:, :, :], rho.weights[..., 1:, :] / layers, p)
        second = block.pairing(low, theta, pulled)
        b = (layers - 1) * bernstein(probes.t, layers - 1)
        first, second = (
            torch.einsum("...lij,i,...lj->...j", term, self.problem.mass, b)
            for term in (first, second)
        )
        return first, second

    def members(self, index: Tensor) -> WassersteinFlow:
        """Return the flow of the batch members `index`; data without a batch are shared."""
        x, y = self.problem.x, self.problem.y
        return WassersteinFlow(
            replace(
                self.problem,
                x=x[index] if x.ndim == 3 else x,
                y=y[index] if y.ndim == 2 else y,
            )
        )

    def steepest(self, particles: Particles, probes: Tensor) -> Tensor:
        r"""Return :math:`-\min_{|u|=1} \frac{\delta E}{\delta\rho}((u, w, b), t_l)` for neurons.

        The derivative is linear in u, so this is the norm of
        :math:`\mathbb E\, p^{l+1} \sigma(w\cdot X^l + b)`.

        Parameters
        ----------
        particles : Particles
            The law.
        probes : Tensor
            Neurons (u, w, b), shape (P, k); their u does not matter.

        Returns
        -------
        Tensor
            Shape (..., L, P).
        """
        block = self.problem.block
        if not isinstance(block, NeuronBlock):
            raise TypeError("problem: needs a NeuronBlock, which is homogeneous in u")
        if require_tensor("probes", probes, 2, last=block.k).ndim != 2:
            raise ValueError(f"probes: shape {tuple(probes.shape)}, expected (P, {block.k})")
        require_alike(problem=self.problem.x, probes=probes)
        passed = self.backward(particles)
        slopes = block.pairing_grad(passed.states, probes, passed.costates, self.problem.mass)
        return slopes[..., : block.d_out].norm(dim=-1)
