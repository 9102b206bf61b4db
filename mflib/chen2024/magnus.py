r"""The propagator of a flow in depth: the time-ordered exponential, and what it is not.

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

import torch
from torch import Tensor

from ..blocks import Block
from ..ode import Trajectory
from ..stepping import METHODS

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
    basis = torch.eye(block.d, dtype=trajectory.X.dtype)
    rows = [
        block.vjp(
            trajectory.stages, trajectory.theta, trajectory.weights,
            row.expand_as(trajectory.stages),
        )
        for row in basis
    ]
    return torch.stack(rows, -2)


def propagator(block: Block, trajectory: Trajectory) -> Tensor:
    r"""Return the derivative of the flow's end by its state at every layer, exactly.

    .. math::

        q_l = \frac{\partial X^L}{\partial X^l} = q_{l+1}\, \frac{\partial X^{l+1}}{\partial X^l},
        \qquad q_L = I,

    an ordered product of the steps' own Jacobians (chen2024, eq. (17), rebuilt: the
    formula was not at hand).

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
    tableau, h = METHODS[trajectory.method], 1.0 / trajectory.steps
    A = jacobians(block, trajectory)
    eye = torch.eye(block.d, dtype=A.dtype).expand(A[..., 0, 0, :, :, :].shape)
    q = [eye]
    for step in reversed(range(trajectory.steps)):
        slopes: list[Tensor] = []
        for s, row in enumerate(tableau.a):
            inner = eye
            for coefficient, slope in zip(row, slopes, strict=True):
                if coefficient:
                    inner = inner + h * coefficient * slope
            slopes.append(A[..., step, s, :, :, :] @ inner)
        total = sum(b * slope for b, slope in zip(tableau.b, slopes, strict=True))
        q.append(q[-1] @ (eye + h * total))
    return torch.stack(q[::-1], -4)


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
    tableau, h = METHODS[trajectory.method], 1.0 / trajectory.steps
    A = jacobians(block, trajectory)
    first = torch.zeros_like(A[..., 0, 0, :, :, :])
    second = torch.zeros_like(first)
    for step in range(trajectory.steps):
        here, increment = A[..., step, :, :, :, :], torch.zeros_like(second)
        for s, row in enumerate(tableau.a):
            so_far = first
            for r, coefficient in enumerate(row):
                if coefficient:
                    so_far = so_far + h * coefficient * here[..., r, :, :, :]
            now = here[..., s, :, :, :]
            increment = increment + tableau.b[s] * (now @ so_far - so_far @ now)
        second = second + 0.5 * h * increment
        b = torch.tensor(tableau.b, dtype=A.dtype)
        first = first + h * torch.einsum("s,...snab->...nab", b, here)
    return first, second
