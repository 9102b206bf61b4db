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

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .arguments import (
    require_alike,
    require_broadcast,
    require_instance,
    require_masses,
    require_positive_int,
    require_tensor,
)
from .blocks import Block
from .measures import LayeredMeasure, Measure
from .ode import (
    Adjoint,
    Network,
    Pass,
    Trajectory,
    flow,
    network,
    require_finite_states,
    squared_loss,
)
from .stepping import tableau

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

    Examples
    --------
    >>> from mflib.blocks import MatrixBlock
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> task = Problem(MatrixBlock(2), x, torch.tensor([0.0, 0.0]), steps=3)
    >>> idle = LayeredMeasure(torch.zeros(3, 1, 4))  # the network does nothing
    >>> task.loss(idle)  # (1/2) (1/2) (1^2 + 0^2)
    tensor(0.2500)
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
        d = require_instance("block", self.block, Block).d
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
        require_masses("mass", self.mass, n)
        for name, shape in (("lift", (d, d1)), ("readout", (d,)), ("mass", (n,))):
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"{name}: shape {tuple(getattr(self, name).shape)}, expected {shape}; "
                    "the batch shares it"
                )
        require_alike(x=self.x, y=self.y, lift=self.lift, readout=self.readout, mass=self.mass)
        require_broadcast(x=self.x.shape[:-2], y=self.y.shape[:-1])

    def flow(self, rho: Measure) -> Trajectory:
        r"""Return the trajectory of every input under `rho`, from :math:`X(x, 0) = w_2 x`."""
        trajectory = flow(self.block, rho, self.x @ self.lift.mT, self.steps, self.method)
        require_broadcast(y=self.y.shape[:-1], rho=trajectory.X.shape[:-3])
        return trajectory

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
        layers = network(self.block, rho, self.steps, self.method)
        residual, X, stages, p, costates = self._round_trip(layers, keep=True)
        trajectory = Trajectory(X, stages, layers.theta, layers.weights, self.method)
        return Pass(trajectory, Adjoint(p, costates), residual, self.mass)

    def _round_trip(self, layers: Network, keep: bool) -> list[Tensor]:
        """Residual, then states and adjoints per input, or sums with the data's masses."""
        require_alike(x=self.x, rho=layers.theta)
        rho = require_broadcast(rho=layers.theta.shape[:-4], weights=layers.weights.shape[:-3])
        batch = require_broadcast(x=self.x.shape[:-2], y=self.y.shape[:-1], rho=rho)
        w1 = self.readout.unsqueeze(-1)

        def ends(X: Tensor, y: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
            residual = w1.mT @ X[..., : len(w1), :] - y
            return w1 * (residual if keep else residual * mass), residual

        x = self.x @ self.lift.mT
        x = x.expand(*batch, *x.shape[-2:])
        residual, *found = layers.round_trip(x, [self.y, self.mass], ends, keep=keep)
        require_finite_states(residual)
        return [residual, *found]

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
        require_alike(x=self.x, theta=theta)
        if theta.ndim > 2 and theta.shape[-3] not in (1, self.steps):
            raise ValueError(
                f"theta: probes for {theta.shape[-3]} layers, the problem has {self.steps} "
                "steps; pass (P, k) for the same in all"
            )
        if theta.ndim < 3:
            theta = theta.unsqueeze(-3)
        passed = self.backward(rho)
        require_broadcast(rho=passed.residual.shape[:-1], theta=theta.shape[:-3])
        return self._values(passed, theta.unsqueeze(-3))

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
        require_instance("trajectory", trajectory, Trajectory)
        require_tensor("costates", costates, 4, last=self.block.d)
        require_alike(trajectory=trajectory.X, costates=costates)
        if costates.shape[-4:] != trajectory.stages.shape[-4:]:
            raise ValueError(
                f"costates: shape {tuple(costates.shape)} does not fit the stages "
                f"{tuple(trajectory.stages.shape)}"
            )
        theta, weights = require_instance("nu", nu, Measure).stages(
            self.steps, tableau(self.method).c
        )
        if theta.shape[-1] != self.block.k:
            raise ValueError(
                f"nu: particles of size {theta.shape[-1]} do not fit the block, expected "
                f"k = {self.block.k}"
            )
        require_alike(rho=trajectory.X, nu=theta)
        require_broadcast(rho=trajectory.X.shape[:-3], nu=theta.shape[:-4])
        change = self.block.field(trajectory.stages, theta, weights)
        change = change - self.block.field(trajectory.stages, trajectory.theta, trajectory.weights)
        return torch.einsum("...lsid,...lsid,i->...", costates, change, self.mass) / self.steps

    def gradient(self, rho: LayeredMeasure) -> Tensor:
        r"""Return :math:`\nabla_\theta \frac{\delta E}{\delta\rho}` at the particles.

        Shape (..., L, N, k).
        The derivative of E by the particle itself is :math:`w_{l,i}/L` times this: the
        mean-field velocity is minus what is returned, whatever L and N.
        """
        return self.first_variation(rho).gradient

    def first_variation(self, rho: LayeredMeasure, passed: Pass | None = None) -> FirstVariation:
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
        layers = network(self.block, self._fitting(rho), self.steps, self.method)
        if passed is None:
            residual, gradient, value = self._round_trip(layers, keep=False)
            gradient, value = layers.of_steps(gradient, value)
            return FirstVariation(value, gradient, squared_loss(residual, self.mass))
        require_instance("passed", passed, Pass)
        costates = passed.adjoint.stages * self.mass.unsqueeze(-1)
        gradient, value = layers.gather(passed.trajectory.stages, costates)
        return FirstVariation(value, gradient, passed.loss)

    def _fitting(self, rho: LayeredMeasure) -> LayeredMeasure:
        if require_instance("rho", rho, LayeredMeasure).layers != self.steps:
            raise ValueError(
                f"rho: has {rho.layers} layers, the problem {self.steps} steps; use as many"
            )
        return rho
