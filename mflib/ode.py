r"""The mean-field ODE of depth and its exact discrete adjoint.

.. math::

    \dot X_\rho(x, t) = \int f(X_\rho(x, t), \theta)\, \rho(d\theta, t),
    \qquad
    \dot p_\rho = -p_\rho \int \nabla_x f(X_\rho, \theta)\, \rho(d\theta, t).

(lu2020, eq. (3) and the adjoint of Section 3.) With Euler steps, one a layer, the flow *is*
the residual network :math:`X^{l+1} = X^l + \frac1L \sum_i w_{l,i} f(X^l, \theta_{l,i})`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .arguments import (
    require_alike,
    require_broadcast,
    require_instance,
    require_positive_int,
    require_tensor,
)
from .blocks import Block
from .measures import Measure
from .stepping import tableau
from .sweep import Network

__all__ = ["Adjoint", "Pass", "Trajectory", "adjoint", "flow", "squared_loss"]


@dataclass(frozen=True)
class Trajectory:
    r"""The states of a discrete flow in depth, and the particles that drove it.

    Attributes
    ----------
    X : Tensor
        States :math:`X^l`, shape (..., L+1, n, d).
    stages : Tensor
        Stage states, shape (..., L, S, n, d); for Euler ``stages[l, 0] = X[l]``.
    theta, weights : Tensor
        The particles that acted, shapes (..., L, S, N, k) and (..., L, S, N).
    method : str
        The one-step method.
    """

    X: Tensor
    stages: Tensor
    theta: Tensor
    weights: Tensor
    method: str

    @property
    def steps(self) -> int:
        """The number L of steps."""
        return self.stages.shape[-4]


@dataclass(frozen=True)
class Adjoint:
    r"""The adjoint of a discrete flow: the exact transpose of its derivative.

    Attributes
    ----------
    p : Tensor
        Row vectors :math:`p^l = p^L\, \partial X^L/\partial X^l`, shape (..., L+1, n, d).
    stages : Tensor
        Stage costates :math:`g`, shape (..., L, S, n, d): a change
        :math:`\delta F` of the field at stage (l, s) changes :math:`p^L \cdot X^L`
        by :math:`\frac1L \, g_{l,s} \cdot \delta F` (the quadrature weight :math:`b_s`
        is inside g). For Euler
        ``stages[l, 0] = p[l + 1]``, the adjoint at the layer's *end*.
    """

    p: Tensor
    stages: Tensor


def squared_loss(residual: Tensor, mass: Tensor | None = None) -> Tensor:
    r"""Return :math:`\tfrac12 \sum_i m_i\, r_i^2`, shape (...), of residuals (..., n).

    Parameters
    ----------
    residual : Tensor
        Prediction minus target, shape (..., n).
    mass : Tensor, optional
        Weights of the data, shape (n,), sum 1. Default: 1/n each.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.

    Examples
    --------
    >>> squared_loss(torch.tensor([1.0, 3.0]))
    tensor(2.5000)
    """
    require_tensor("residual", residual, 1)
    require_alike(residual=residual, mass=mass)
    if mass is None:
        return 0.5 * residual.square().mean(-1)
    require_tensor("mass", mass, 1, last=residual.shape[-1])
    return 0.5 * (mass * residual.square()).sum(-1)


@dataclass(frozen=True)
class Pass:
    r"""One forward and backward pass: states, adjoint and residual at the data.

    Attributes
    ----------
    trajectory : Trajectory
        The states :math:`X_\rho`.
    adjoint : Adjoint
        The adjoint :math:`p_\rho`; whether it starts from the residual or from a bare
        read-out is the maker's convention.
    residual : Tensor
        Prediction minus target, shape (..., n).
    mass : Tensor, optional
        Weights of the data, shape (n,), sum 1. Default: 1/n each.
    """

    trajectory: Trajectory
    adjoint: Adjoint
    residual: Tensor
    mass: Tensor | None = None

    @property
    def loss(self) -> Tensor:
        r"""The loss :math:`\tfrac12 \sum_i m_i\, r_i^2`, shape (...)."""
        return squared_loss(self.residual, self.mass)

    @property
    def states(self) -> Tensor:
        r"""The states :math:`X^l` before each layer (Euler's method), shape (..., L, n, d)."""
        return self._of_layers(self.trajectory.stages)

    @property
    def costates(self) -> Tensor:
        r"""The adjoints :math:`p^{l+1}` after each layer (Euler's method), shape (..., L, n, d).

        They multiply a change of layer l: :math:`\delta E = \frac1L \sum_l p^{l+1} \delta F^l`.
        """
        return self._of_layers(self.adjoint.stages)

    @property
    def output(self) -> Tensor:
        r"""The states :math:`X^L` at depth 1, shape (..., n, d)."""
        return self.trajectory.X[..., -1, :, :]

    def _of_layers(self, stages: Tensor) -> Tensor:
        if stages.shape[-3] != 1:
            raise ValueError(
                f"method: a step of {self.trajectory.method} has {stages.shape[-3]} stages; "
                "layers have one state each with method='euler'"
            )
        return stages[..., 0, :, :]


def _require_field(block: Block, x: Tensor) -> None:
    require_instance("block", block, Block)
    if block.d_out != block.d:
        raise ValueError(
            f"block: maps dimension {block.d} to {block.d_out}; a flow needs equal ones"
        )
    require_tensor("x", x, 2, last=block.d)


def network(block: Block, rho: Measure, steps: int, method: str = "euler") -> Network:
    r"""Return the layers of a discrete flow, ready to be passed through.

    Arguments as in :func:`flow`.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed or the particles are not the block's.
    """
    table = tableau(method)
    require_positive_int("steps", steps)
    theta, weights = require_instance("rho", rho, Measure).stages(steps, table.c)
    if theta.shape[-1] != require_instance("block", block, Block).k:
        raise ValueError(
            f"rho: particles of size {theta.shape[-1]} do not fit the block, expected k = {block.k}"
        )
    return Network(block, theta, weights, method)


def flow(block: Block, rho: Measure, x: Tensor, steps: int, method: str = "euler") -> Trajectory:
    r"""Integrate the mean-field ODE from depth 0 to 1 (lu2020, eq. (3)).

    Parameters
    ----------
    block : Block
        The residual block f.
    rho : Measure
        The law of the particles, mass 1/N a particle by default.
    x : Tensor
        Initial states, shape (..., n, d).
    steps : int
        The number L of equal steps; for a layered measure a multiple of its layers.
    method : {"euler", "midpoint", "rk4"}
        The one-step method, of order 1, 2 or 4 where the measure is smooth in depth.

    Returns
    -------
    Trajectory

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed, or the flow leaves the finite numbers.

    Examples
    --------
    The flow of :math:`\dot x = \theta x` multiplies by :math:`e^\theta`:

    >>> from mflib.blocks import MatrixBlock
    >>> from mflib.measures import LayeredMeasure
    >>> growth = LayeredMeasure(torch.full((1, 1, 1), 0.5))
    >>> flow(MatrixBlock(1, "linear"), growth, torch.ones(1, 1), 16, "rk4").X[-1]
    tensor([[1.6487]])
    """
    _require_field(block, x)
    layers = network(block, rho, steps, method)
    theta, weights = layers.theta, layers.weights
    require_alike(x=x, rho=theta)
    batch = require_broadcast(x=x.shape[:-2], rho=theta.shape[:-4], weights=weights.shape[:-3])
    X, stages = layers.flow(x.expand(*batch, *x.shape[-2:]))
    require_finite_states(X)
    return Trajectory(X, stages, theta, weights, method)


def require_finite_states(X: Tensor) -> None:
    """Raise a ValueError where the states (..., n, d) left the finite numbers."""
    if not torch.isfinite(X).all():
        raise ValueError(
            "rho: the state left the finite numbers; the field grows too fast, or needs more steps"
        )


def adjoint(block: Block, trajectory: Trajectory, p1: Tensor) -> Adjoint:
    r"""Transport the row vector `p1` back along a discrete flow, exactly.

    .. math::

        p^l = p^{l+1} \Big(I + \frac1L \sum_i w_{l,i} \nabla_x f(X^l, \theta_{l,i})\Big)

    for Euler (lu2020, the discrete counterpart of eq. (8)-(10)); for the other methods
    the transpose of the whole Runge-Kutta step. It equals backpropagation to rounding.

    Parameters
    ----------
    block : Block
        The block that made the trajectory.
    trajectory : Trajectory
        From :func:`flow`.
    p1 : Tensor
        The adjoint at depth 1, shape (..., n, d).

    Returns
    -------
    Adjoint

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed or `p1` does not fit the states.

    Notes
    -----
    The costate that multiplies a change of layer `l` is :math:`p^{l+1}`, not
    :math:`p^l`; taking the latter is an error of order 1/L that looks like a bug of 5 %.

    Examples
    --------
    >>> from mflib.blocks import MatrixBlock
    >>> from mflib.measures import LayeredMeasure
    >>> block, one = MatrixBlock(1, "linear"), torch.ones(1, 1)
    >>> path = flow(block, LayeredMeasure(torch.full((2, 1, 1), 0.5)), one, 2)
    >>> adjoint(block, path, one).p[:, 0, 0]  # (1 + 1/4)^2, 1 + 1/4, 1
    tensor([1.5625, 1.2500, 1.0000])
    """
    require_instance("block", block, Block)
    if require_instance("trajectory", trajectory, Trajectory).theta.shape[-1] != block.k:
        raise ValueError("block: is not the one that made the trajectory; pass that one")
    require_tensor("p1", p1, 2, last=block.d)
    end = trajectory.X[..., -1, :, :]
    require_alike(trajectory=end, p1=p1)
    if require_broadcast(trajectory=end.shape, p1=p1.shape) != end.shape:
        raise ValueError(f"p1: shape {tuple(p1.shape)} does not fit the states {tuple(end.shape)}")
    layers = Network(block, trajectory.theta, trajectory.weights, trajectory.method)
    return Adjoint(*layers.adjoint(trajectory.stages, p1.expand_as(end)))
