r"""The propagator of a flow in depth, and Magnus' expansion of its logarithm.

Along a flow with Jacobians :math:`A(s) = \int \nabla_z f(X(s), \theta)\, d\nu(\theta, s)` the
adjoint is :math:`p(s)^\top = p(1)^\top q(s)` with

.. math::

    q(s) = \frac{\partial X(1)}{\partial X(s)}, \qquad
    \dot q = -q A, \quad q(1) = I, \qquad
    q(s) = I + \int_s^1 A + \int_s^1\!\!\int_{s}^{s_1} A(s_1) A(s_2)\, ds_2\, ds_1 + \dots,

later depths on the left. The matrix exponential of :math:`\int_s^1 A` is another matrix
unless the Jacobians commute; Magnus' expansion begins

.. math::

    \log q(0) = \Omega_1 + \Omega_2 + \dots, \qquad \Omega_1 = \int_0^1 A, \qquad
    \Omega_2 = \tfrac12 \int_0^1\!\!\int_0^{s_1} [A(s_1), A(s_2)]\, ds_2\, ds_1 .
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..arguments import require_instance
from ..blocks import Block
from ..ode import Trajectory
from ..stepping import State, runge_kutta_step

__all__ = ["jacobians", "magnus", "propagator"]


def jacobians(block: Block, trajectory: Trajectory) -> Tensor:
    r"""Return :math:`A = \sum_j w_j \nabla_z f(X, \theta_j)` at every stage of a flow.

    Parameters
    ----------
    block : Block
        The block that made the trajectory.
    trajectory : Trajectory
        From :func:`mflib.ode.flow`.

    Returns
    -------
    Tensor
        Shape (..., L, S, n, d, d); the last index is the direction of differentiation.
    """
    require_instance("block", block, Block)
    require_instance("trajectory", trajectory, Trajectory)
    sizes = trajectory.X.shape[-1], trajectory.theta.shape[-1]
    if sizes != (block.d, block.k):
        raise ValueError(
            f"trajectory: has d, k = {sizes}, the block {(block.d, block.k)}; pass the block "
            "that made it"
        )
    basis = torch.eye(block.d, dtype=trajectory.X.dtype)
    rows = [
        block.vjp(
            trajectory.stages,
            trajectory.theta,
            trajectory.weights,
            row.expand_as(trajectory.stages),
        )
        for row in basis
    ]
    return torch.stack(rows, -2)


def propagator(block: Block, trajectory: Trajectory) -> Tensor:
    r"""Return the derivative of the flow's end by its state before every layer.

    .. math::

        q_l = \frac{\partial X^L}{\partial X^l} = q_{l+1}\, \frac{\partial X^{l+1}}{\partial X^l},
        \qquad q_L = I,

    the ordered product of the exact Jacobians of the steps (chen2024, eq. (17), rebuilt:
    the formula was not at hand).

    Parameters
    ----------
    block : Block
        The block that made the trajectory.
    trajectory : Trajectory
        From :func:`mflib.ode.flow`, any method.

    Returns
    -------
    Tensor
        Shape (..., L+1, n, d, d); row vectors act from the left,
        :math:`p_l = p_L\, q_l` as :func:`mflib.ode.adjoint` computes it.
    """
    A, h = jacobians(block, trajectory), 1.0 / trajectory.steps
    eye = torch.eye(block.d, dtype=A.dtype).expand(A[..., 0, 0, :, :, :].shape)
    q = [eye]
    for at in reversed(A.unbind(-5)):  # a step of the linearised flow, from the identity
        slopes = [partial(torch.matmul, a) for a in at.unbind(-4)]
        q.append(q[-1] @ runge_kutta_step(slopes, eye, h, trajectory.method))
    return torch.stack(q[::-1], -4)


@dataclass(frozen=True)
class _Exponents(State):
    inner = {"first": 3, "second": 3}

    first: Tensor
    second: Tensor


def _slope(a: Tensor, now: _Exponents) -> _Exponents:
    return _Exponents(a, 0.5 * (a @ now.first - now.first @ a))


def magnus(block: Block, trajectory: Trajectory) -> tuple[Tensor, Tensor]:
    r"""Return the first two terms of Magnus' expansion of :math:`\log q(0)`.

    Parameters
    ----------
    block : Block
        The block that made the trajectory.
    trajectory : Trajectory
        From :func:`mflib.ode.flow`; the integrals have the order of its method.

    Returns
    -------
    first, second : Tensor
        :math:`\Omega_1` and :math:`\Omega_2`, shape (..., n, d, d).
    """
    A, h = jacobians(block, trajectory), 1.0 / trajectory.steps
    zero = torch.zeros_like(A[..., 0, 0, :, :, :])
    now = _Exponents(zero, zero)
    for at in A.unbind(-5):
        slopes = [partial(_slope, a) for a in at.unbind(-4)]
        now = runge_kutta_step(slopes, now, h, trajectory.method)
    return now.first, now.second
