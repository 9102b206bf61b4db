r"""The two residual networks of the teacher-student paper: ensemble and wide.

.. math::

    X^{l+1} = X^l + \frac1L \int \sigma(\theta X^l)\, \rho^l(d\theta)
    \quad\text{(wide, eq. (7))}, \qquad
    \int X^L_{\boldsymbol\theta}(x)\, \rho(d\boldsymbol\theta)
    \quad\text{(ensemble, Section 3.1)}.

The wide network averages inside a block, the ensemble at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import require_tensor
from ..blocks import MatrixBlock
from ..measures import LayeredMeasure
from ..ode import adjoint, flow

__all__ = ["Ensemble", "WideResNet"]


def _residual(output: Tensor, y: Tensor) -> Tensor:
    if output.shape[-2:] != y.shape[-2:]:
        raise ValueError(
            f"y: shape {tuple(y.shape)} does not fit outputs {tuple(output.shape)}; pass (n, d)"
        )
    return output - y


@dataclass(frozen=True)
class WideResNet:
    r"""The regression problem of a wide ResNet with vector targets.

    Parameters
    ----------
    block : MatrixBlock
        :math:`\sigma(\theta x)`.
    x, y : Tensor
        Inputs and targets, shapes (..., n, d).
    """

    block: MatrixBlock
    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        require_tensor("x", self.x, 2, last=self.block.d)
        require_tensor("y", self.y, 2, last=self.block.d)

    def output(self, rho: LayeredMeasure) -> Tensor:
        r"""Return :math:`X^L(x_i)`, shape (..., n, d) (eq. (7))."""
        return flow(self.block, rho, self.x, rho.layers).X[..., -1, :, :]

    def loss(self, rho: LayeredMeasure) -> Tensor:
        r"""Return :math:`E = \frac1{2n} \sum_i |X^L(x_i) - y_i|^2`, shape (...)."""
        r = _residual(self.output(rho), self.y)
        return 0.5 * r.square().sum(-1).mean(-1)

    def velocity(self, rho: LayeredMeasure) -> Tensor:
        r"""Return :math:`-\nabla_\theta \frac{\delta E}{\delta\rho^l}`, shape (..., L, N, k).

        It carries neither 1/N nor 1/L: the derivative of the loss by a particle is
        :math:`-w_{l,i}/L` times it (eq. (8), with the factor that the printed equation
        for the particles lacks).
        """
        path = flow(self.block, rho, self.x, rho.layers)
        p1 = _residual(path.X[..., -1, :, :], self.y)
        costate = adjoint(self.block, path, p1)
        n = self.x.shape[-2]
        mass = self.x.new_full((n,), 1.0 / n)
        return -self.block.pairing_grad(path.stages, path.theta, costate.stages, mass).sum(-3)

    def derivative(self, rho: LayeredMeasure, theta: Tensor) -> Tensor:
        r"""Return :math:`\delta E/\delta\rho^l` at probes (..., L, P, k), shape (..., L, P)."""
        path = flow(self.block, rho, self.x, rho.layers)
        costate = adjoint(self.block, path, _residual(path.X[..., -1, :, :], self.y))
        values = self.block.pairing(path.stages, theta.unsqueeze(-3), costate.stages)
        return values.mean(-2).squeeze(-2)


@dataclass(frozen=True)
class Ensemble:
    r"""The regression problem of an average over residual networks of width one.

    Parameters
    ----------
    block : MatrixBlock
        :math:`\sigma(\theta x)`.
    x, y : Tensor
        Inputs and targets, shapes (..., n, d).

    Notes
    -----
    A branch is one particle of the space :math:`\Theta^L`; methods take `theta` of shape
    (..., N, L, k) and `weights` (..., N), by default 1/N each.
    """

    block: MatrixBlock
    x: Tensor
    y: Tensor

    def branches(self, theta: Tensor) -> Tensor:
        r"""Return :math:`X^L_{\boldsymbol\theta_j}(x_i)`, shape (..., N, n, d)."""
        require_tensor("theta", theta, 3, last=self.block.k)
        law = LayeredMeasure(theta.unsqueeze(-2))
        return flow(self.block, law, self.x.unsqueeze(-3), law.layers).X[..., -1, :, :]

    def output(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return the average over the branches, shape (..., n, d)."""
        out = self.branches(theta)
        if weights is None:
            return out.mean(-3)
        return torch.einsum("...jid,...j->...id", out, weights)

    def loss(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`E`, shape (...)."""
        r = _residual(self.output(theta, weights), self.y)
        return 0.5 * r.square().sum(-1).mean(-1)

    def derivative(self, theta: Tensor, probes: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`\Phi = \delta E/\delta\rho` at probes (..., P, L, k), shape (..., P)."""
        r = _residual(self.output(theta, weights), self.y)
        return (self.branches(probes) * r.unsqueeze(-3)).sum(-1).mean(-1)

    def velocity(self, theta: Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`-\nabla_{\boldsymbol\theta} \Phi` at the branches, (..., N, L, k)."""
        require_tensor("theta", theta, 3, last=self.block.k)
        law = LayeredMeasure(theta.unsqueeze(-2))
        x = self.x.unsqueeze(-3)
        path = flow(self.block, law, x, law.layers)
        out, n = path.X[..., -1, :, :], self.x.shape[-2]
        mean = out.mean(-3) if weights is None else torch.einsum("...jid,...j->...id", out, weights)
        r = _residual(mean, self.y).unsqueeze(-3).expand_as(out)
        costate = adjoint(self.block, path, r)
        mass = self.x.new_full((n,), 1.0 / n)
        grads = self.block.pairing_grad(path.stages, path.theta, costate.stages, mass)
        return -grads.sum(-3).squeeze(-2) / law.layers
