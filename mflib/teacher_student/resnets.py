r"""The two residual networks of the teacher-student paper: ensemble and wide.

.. math::

    X^{l+1} = X^l + \frac1L \int \sigma(\theta X^l)\, \rho^l(d\theta)
    \quad\text{(wide, eq. (7))}, \qquad
    \int X^L_{\vec\theta}(x)\, \rho(d\vec\theta)
    \quad\text{(ensemble, Section 3.1)}.

The wide network averages inside a block, the ensemble at the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_instance,
    require_tensor,
)
from ..blocks import Block, MatrixBlock
from ..measures import LayeredMeasure
from ..ode import Adjoint, Trajectory, adjoint, flow

__all__ = ["Ensemble", "WideResNet"]


def _require_problem(block: Block, x: Tensor, y: Tensor) -> None:
    d = require_instance("block", block, Block).d
    require_tensor("x", x, 2, last=d)
    require_tensor("y", y, 2, last=d)
    require_alike(x=x, y=y)


def _residual(output: Tensor, y: Tensor) -> Tensor:
    if output.shape[-2:] != y.shape[-2:]:
        raise ValueError(
            f"y: shape {tuple(y.shape)} does not fit outputs {tuple(output.shape)}; pass (n, d)"
        )
    require_broadcast(rho=output.shape[:-2], y=y.shape[:-2])
    return output - y


def _finite(name: str, value: Tensor) -> Tensor:
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name}: too large, the result left the finite numbers")
    return value


@dataclass(frozen=True)
class WideResNet:
    r"""The regression problem of a wide ResNet with vector targets.

    Parameters
    ----------
    block : MatrixBlock
        :math:`\sigma(\theta x)`.
    x, y : Tensor
        Inputs and targets, shapes (..., n, d).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.

    Notes
    -----
    Methods take a layered law `rho`, particles of shape (..., L, N, k), and probes
    `theta` (..., L, P, k).
    """

    block: MatrixBlock
    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        _require_problem(self.block, self.x, self.y)

    def _passes(self, rho: LayeredMeasure) -> tuple[Trajectory, Adjoint]:
        layers = require_instance("rho", rho, LayeredMeasure).layers
        batch = require_broadcast(x=self.x.shape[:-2], y=self.y.shape[:-2])
        path = flow(self.block, rho, self.x.expand(*batch, *self.x.shape[-2:]), layers)
        return path, adjoint(self.block, path, _residual(path.X[..., -1, :, :], self.y))

    def output(self, rho: LayeredMeasure) -> Tensor:
        r"""Return :math:`X^L(x_i)`, shape (..., n, d) (eq. (7))."""
        layers = require_instance("rho", rho, LayeredMeasure).layers
        return flow(self.block, rho, self.x, layers).X[..., -1, :, :]

    def loss(self, rho: LayeredMeasure) -> Tensor:
        r"""Return :math:`E = \frac1{2n} \sum_i |X^L(x_i) - y_i|^2`, shape (...)."""
        r = _residual(self.output(rho), self.y)
        return _finite("rho", 0.5 * r.square().sum(-1).mean(-1))

    def velocity(self, rho: LayeredMeasure) -> Tensor:
        r"""Return :math:`-\nabla_\theta \frac{\delta E}{\delta\rho^l}`, shape (..., L, N, k).

        It carries neither 1/N nor 1/L: the derivative of the loss by a particle is
        :math:`-w_{l,i}/L` times it (eq. (8), with the factor that the printed equation
        for the particles lacks).
        """
        path, costate = self._passes(rho)
        n = self.x.shape[-2]
        mass = self.x.new_full((n,), 1.0 / n)
        grads = self.block.pairing_grad(path.stages, path.theta, costate.stages, mass)
        return _finite("rho", -grads.sum(-3))

    def derivative(self, rho: LayeredMeasure, theta: Tensor) -> Tensor:
        r"""Return :math:`\delta E/\delta\rho^l` at probes (..., L, P, k), shape (..., L, P)."""
        path, costate = self._passes(rho)
        require_tensor("theta", theta, 3, last=self.block.k)
        require_alike(x=self.x, theta=theta)
        require_broadcast(rho=path.stages.shape[:-3], theta=theta.shape[:-2])
        values = self.block.pairing(path.stages, theta.unsqueeze(-3), costate.stages)
        return _finite("theta", values.mean(-2).squeeze(-2))


@dataclass(frozen=True)
class Ensemble:
    r"""The regression problem of an average over residual networks of width one.

    Parameters
    ----------
    block : MatrixBlock
        :math:`\sigma(\theta x)`.
    x, y : Tensor
        Inputs and targets, shapes (..., n, d).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.

    Notes
    -----
    A branch is one particle of the space :math:`\Theta^L`; methods take `theta` of shape
    (..., N, L, k) and `weights` (..., N), by default 1/N each; some take `probes`
    (..., P, L, k).
    """

    block: MatrixBlock
    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        _require_problem(self.block, self.x, self.y)

    def _paths(self, name: str, theta: Tensor, batch: Iterable[int] = ()) -> Trajectory:
        """Return the trajectories of all branches, at least of that batch."""
        require_tensor(name, theta, 3, last=self.block.k)
        require_alike(x=self.x, **{name: theta})
        batch = require_broadcast(x=self.x.shape[:-2], y=batch)
        require_broadcast(**{"x": batch, name: theta.shape[:-3]})
        law = LayeredMeasure(theta.unsqueeze(-2))
        x = self.x.expand(*batch, *self.x.shape[-2:]).unsqueeze(-3)
        try:
            return flow(self.block, law, x, law.layers)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def _mean(self, out: Tensor, weights: Tensor | None) -> Tensor:
        if weights is None:
            return out.mean(-3)
        require_tensor("weights", weights, 1, last=out.shape[-3])
        require_alike(x=self.x, weights=weights)
        require_broadcast(theta=out.shape[:-3], weights=weights.shape[:-1])
        return torch.einsum("...jid,...j->...id", out, weights)

    def branches(self, theta: Tensor) -> Tensor:
        r"""Return :math:`X^L_{\vec\theta_j}(x_i)`, shape (..., N, n, d)."""
        return self._paths("theta", theta).X[..., -1, :, :]

    def output(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return the average over the branches, shape (..., n, d)."""
        return _finite("theta", self._mean(self.branches(theta), weights))

    def loss(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`E`, shape (...)."""
        r = _residual(self.output(theta, weights), self.y)
        return _finite("theta", 0.5 * r.square().sum(-1).mean(-1))

    def derivative(self, theta: Tensor, probes: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`\Phi = \delta E/\delta\rho` at probes (..., P, L, k), shape (..., P)."""
        r = _residual(self.output(theta, weights), self.y)
        out = self._paths("probes", probes).X[..., -1, :, :]
        require_broadcast(theta=r.shape[:-2], probes=out.shape[:-3])
        return _finite("probes", (out * r.unsqueeze(-3)).sum(-1).mean(-1))

    def velocity(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`-\nabla_{\vec\theta} \Phi` at the branches, (..., N, L, k)."""
        path = self._paths("theta", theta, self.y.shape[:-2])
        out, n = path.X[..., -1, :, :], self.x.shape[-2]
        r = _residual(self._mean(out, weights), self.y).unsqueeze(-3)
        if r.shape[:-3] != out.shape[:-3]:
            raise ValueError(
                f"weights: their batch {tuple(weights.shape[:-1])} exceeds that of theta"
            )
        costate = adjoint(self.block, path, r.expand_as(out))
        mass = self.x.new_full((n,), 1.0 / n)
        grads = self.block.pairing_grad(path.stages, path.theta, costate.stages, mass)
        return _finite("theta", -grads.sum(-3).squeeze(-2) / path.steps)
