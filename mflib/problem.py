r"""The loss :math:`E(\rho)` of lu2020 and its functional derivative.

.. math::

    E(\rho) = \mathbb E_{x\sim\mu}\, \tfrac12
        \big(\langle w_1, X_\rho(x, 1)\rangle - y(x)\big)^2,
    \qquad
    \frac{\delta E}{\delta\rho}(\theta, t)
        = \mathbb E_{x\sim\mu}\, p_\rho(x, t)\, f(X_\rho(x, t), \theta).

(lu2020, eq. (2) and Theorem 2.) Everything here is exact for the discrete network; the
continuum enters only through the number of steps and of particles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .arguments import require_positive_int, require_tensor
from .blocks import Block
from .measures import LayeredMeasure, Measure
from .ode import Pass, Trajectory, adjoint, flow, squared_loss
from .stepping import METHODS, tableau

__all__ = ["FirstVariation", "Problem"]


class FirstVariation(NamedTuple):
    r"""The loss and its first variation at the particles of a layered law.

    Attributes
    ----------
    value : Tensor
        :math:`\frac{\delta E}{\delta\rho}(\theta_{l,i}, t_l)`, shape (..., L, N).
    gradient : Tensor
        Its gradient in :math:`\theta`, shape (..., L, N, k).
    loss : Tensor
        :math:`E(\rho)`, shape (...).
    """

    value: Tensor
    gradient: Tensor
    loss: Tensor


@dataclass(frozen=True)
class Problem:
    r"""A regression problem for deep residual networks: block, data, lift and read-out.

    Parameters
    ----------
    block : Block
        The residual block f, from dimension d to d.
    x : Tensor
        Inputs, shape (..., n, d1).
    y : Tensor
        Targets, shape (..., n).
    lift : Tensor, optional
        The matrix :math:`w_2`, shape (d, d1). Default: the identity, where d1 = d.
    readout : Tensor, optional
        The vector :math:`w_1`, shape (d,). Default: the first unit vector.
    mass : Tensor, optional
        The data measure's weights, shape (n,), sum 1. Default: 1/n each.
    steps : int
        The number L of depth steps.
    method : {"euler", "midpoint", "rk4"}
        The one-step method.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.
    """

    block: Block
    x: Tensor
    y: Tensor
    lift: Tensor | None = None
    readout: Tensor | None = None
    mass: Tensor | None = None
    steps: int = 16
    method: str = "euler"

    def __post_init__(self) -> None:
        d = self.block.d
        require_tensor("x", self.x, 2)
        require_tensor("y", self.y, 1)
        require_positive_int("steps", self.steps)
        tableau(self.method)
        n, d1 = self.x.shape[-2:]
        if self.y.shape[-1] != n:
            raise ValueError(f"y: holds {self.y.shape[-1]} targets for n = {n} inputs x")
        if self.lift is None:
            if d1 != d:
                raise ValueError(
                    f"lift: inputs have dimension {d1}, the block {d}; pass a (d, d1) matrix"
                )
            object.__setattr__(self, "lift", torch.eye(d, dtype=self.x.dtype))
        if self.readout is None:
            object.__setattr__(self, "readout", torch.eye(d, dtype=self.x.dtype)[0])
        if self.mass is None:
            object.__setattr__(self, "mass", torch.full((n,), 1.0 / n, dtype=self.x.dtype))
        require_tensor("lift", self.lift, 2, last=d1)
        require_tensor("readout", self.readout, 1, last=d)
        require_tensor("mass", self.mass, 1, last=n)
        if abs(float(self.mass.sum()) - 1.0) > 1e-9 or bool((self.mass < 0).any()):
            raise ValueError("mass: must be non-negative and sum to 1; divide by mass.sum()")

    def flow(self, rho: Measure) -> Trajectory:
        r"""Return the trajectory of every input under `rho`, from :math:`X(x, 0) = w_2 x`."""
        return flow(self.block, rho, self.x @ self.lift.mT, self.steps, self.method)

    def residual(self, rho: Measure) -> Tensor:
        r"""Return :math:`\langle w_1, X_\rho(x_i, 1)\rangle - y_i`, shape (..., n)."""
        return self._residual(self.flow(rho))

    def _residual(self, trajectory: Trajectory) -> Tensor:
        return trajectory.X[..., -1, :, :] @ self.readout - self.y

    def loss(self, rho: Measure) -> Tensor:
        r"""Return :math:`E(\rho)` (lu2020, eq. (2)), shape (...)."""
        return squared_loss(self.residual(rho), self.mass)

    def backward(self, rho: Measure) -> Pass:
        r"""Return one forward and backward pass: states, adjoint and residual at the inputs.

        The adjoint :math:`p_\rho`, per input and without its mass, starts from
        :math:`p_\rho(x, 1) = (\langle w_1, X\rangle - y)\, w_1^\top`. All states are kept;
        what needs only the derivatives at the particles takes :meth:`first_variation`.
        """
        trajectory = self.flow(rho)
        residual = self._residual(trajectory)
        p1 = residual.unsqueeze(-1) * self.readout
        return Pass(trajectory, adjoint(self.block, trajectory, p1), residual, self.mass)

    def adjoint_bound(self, rho: Measure) -> tuple[Tensor, Tensor]:
        r"""Return the adjoint's relative norm and the exponent that bounds it.

        .. math::

            \frac{\|p_\rho(\cdot, t_l)\|_\mu}{\sqrt{2E}}
            \quad\text{and}\quad
            c\, M_{t_l}, \qquad M_t = \int_t^1 \rho(\Omega, s)\, ds,

        with c the largest operator norm of :math:`\nabla_x f` over the particles and the
        states reached (lu2020, Lemma 1, repaired).

        Parameters
        ----------
        rho : Measure
            The law of the particles.

        Returns
        -------
        ratio, exponent : Tensor
            Shapes (..., L+1); the ratio lies between exp(-exponent) and exp(exponent), up
            to the error of the one-step method.
        """
        passed = self.backward(rho)
        trajectory = passed.trajectory
        slopes = self.block.jacobian(trajectory.stages, trajectory.theta)
        c = torch.linalg.matrix_norm(slopes, 2).amax((-1, -2, -3, -4))
        b = torch.tensor(METHODS[self.method].b, dtype=c.dtype)
        m = (trajectory.weights.sum(-1) * b).sum(-1) / self.steps
        beyond = m.flip(-1).cumsum(-1).flip(-1)
        beyond = torch.cat([beyond, torch.zeros_like(beyond[..., :1])], -1)
        norm = (passed.adjoint.p.square().sum(-1) * self.mass).sum(-1).sqrt()
        return norm / norm[..., -1:], c.unsqueeze(-1) * beyond

    def two_layer(self, rho: Measure) -> tuple[Problem, LayeredMeasure]:
        r"""Return the two-layer network with the same particles, all at depth 0.

        .. math::

            X(x, 1) = w_2 x + \int\!\!\int f(w_2 x, \theta)\, \rho(d\theta, t)\, dt,

        the first order of the unravelled expansion (lu2020, Section 2.2).

        Parameters
        ----------
        rho : Measure
            The law of the deep network's particles.

        Returns
        -------
        problem, measure : Problem, LayeredMeasure
            The same task with one Euler step, and the law with its depth forgotten.
        """
        theta, weights = rho.stages(self.steps, METHODS[self.method].c)
        b = torch.tensor(METHODS[self.method].b, dtype=weights.dtype)
        weights = (weights * b[:, None] / self.steps).flatten(-3).unsqueeze(-2)
        flat = LayeredMeasure(theta.flatten(-4, -2).unsqueeze(-3), weights)
        return replace(self, steps=1, method="euler"), flat

    def at_loss(self, rho: Measure, loss: Tensor) -> Problem:
        r"""Return the task with targets moved so that `rho` has the given loss.

        The residual keeps its sign and shape over the inputs and is scaled.

        Parameters
        ----------
        rho : Measure
            A law with positive loss here.
        loss : Tensor
            The wanted :math:`E(\rho) > 0`, shape (...).

        Returns
        -------
        Problem

        Raises
        ------
        ValueError
            If `rho` has no loss that could be scaled.
        """
        residual = self.residual(rho)
        now = squared_loss(residual, self.mass)
        if not (now > 0).all():
            raise ValueError("rho: has zero loss here, which cannot be scaled to another level")
        factor = (torch.as_tensor(loss, dtype=now.dtype) / now).sqrt().unsqueeze(-1)
        return replace(self, y=self.y + (1.0 - factor) * residual)

    def derivative(self, rho: Measure, theta: Tensor) -> Tensor:
        r"""Return :math:`\delta E/\delta\rho` at probe parameters, in every layer.

        .. math::

            \frac{\delta E}{\delta\rho}(\theta, t_l)
                = \sum_i m_i\, p^{l+1}_i \cdot f(X^l_i, \theta)

        (lu2020, Theorem 2; for other methods than Euler summed over the stages).

        Parameters
        ----------
        rho : Measure
            Where the derivative is taken.
        theta : Tensor
            Probes, shape (..., P, k), the same in all layers, or (..., L, P, k).

        Returns
        -------
        Tensor
            Shape (..., L, P). Adding mass :math:`\epsilon` at a probe of layer l changes
            E by :math:`\epsilon/L` times this, to first order.
        """
        require_tensor("theta", theta, 2, last=self.block.k)
        if theta.ndim < 3:
            theta = theta.unsqueeze(-3)
        return self._values(self.backward(rho), theta.unsqueeze(-3))

    def _values(self, passed: Pass, theta: Tensor) -> Tensor:
        values = self.block.pairing(passed.trajectory.stages, theta, passed.adjoint.stages)
        return torch.einsum("...lsip,i->...lp", values, self.mass)

    def pairing(self, rho: Measure, nu: Measure) -> Tensor:
        r"""Return :math:`\langle \delta E/\delta\rho, \nu - \rho\rangle` (lu2020, Theorem 2).

        It is the derivative of :math:`\lambda \mapsto E(\rho + \lambda(\nu - \rho))` at 0,
        exactly, for the discrete network; shape (...).
        """
        passed = self.backward(rho)
        return self.pair(passed.trajectory, passed.adjoint.stages, nu)

    def pair(self, trajectory: Trajectory, costates: Tensor, nu: Measure) -> Tensor:
        r"""Return :math:`\int p \cdot f \, d(\nu - \rho)` along given states and costates.

        Parameters
        ----------
        trajectory : Trajectory
            The states, driven by :math:`\rho`.
        costates : Tensor
            One costate a stage, shape (..., L, S, n, d).
        nu : Measure
            The other measure.

        Returns
        -------
        Tensor
            Shape (...).
        """
        theta, weights = nu.stages(self.steps, METHODS[self.method].c)
        change = self.block.field(trajectory.stages, theta, weights)
        change = change - self.block.field(
            trajectory.stages, trajectory.theta, trajectory.weights
        )
        return torch.einsum(
            "...lsid,...lsid,i->...", costates, change, self.mass
        ) / self.steps

    def gradient(self, rho: LayeredMeasure) -> Tensor:
        r"""Return :math:`\nabla_\theta \frac{\delta E}{\delta\rho}` at the particles, shape (..., L, N, k).

        The derivative of E by the particle itself is :math:`w_{l,i}/L` times this: the
        mean-field velocity is minus what is returned, whatever L and N.
        """
        return self._gradient(self.backward(self._fitting(rho)))

    def first_variation(
        self, rho: LayeredMeasure, passed: Pass | None = None
    ) -> FirstVariation:
        r"""Return loss, functional derivative and its gradient at the particles themselves.

        Parameters
        ----------
        rho : LayeredMeasure
            One layer a step.
        passed : Pass, optional
            A pass of `rho`, if there is one already.

        Returns
        -------
        FirstVariation

        Raises
        ------
        ValueError
            If the layers are not as many as the steps.
        """
        if passed is None:
            passed = self.backward(self._fitting(rho))
        value = self._values(passed, passed.trajectory.theta)
        return FirstVariation(value, self._gradient(passed), passed.loss)

    def _gradient(self, passed: Pass) -> Tensor:
        states = passed.trajectory
        grads = self.block.pairing_grad(
            states.stages, states.theta, passed.adjoint.stages, self.mass)
        return grads.sum(-3)

    def _fitting(self, rho: LayeredMeasure) -> LayeredMeasure:
        if rho.layers != self.steps:
            raise ValueError(
                f"rho: has {rho.layers} layers, the problem {self.steps} steps; use as many"
            )
        return rho
