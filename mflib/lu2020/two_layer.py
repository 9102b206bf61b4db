r"""A deep network beside the two-layer network with the same particles (lu2020, Section 2.2).

The adjoint of the deep one may lose or gain the factor :math:`e^{\pm c M_t}` on its way back
through depth; that of the two-layer one does not move.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import require_broadcast, require_instance, require_number, require_tensor
from ..measures import LayeredMeasure, Measure
from ..ode import squared_loss
from ..problem import Problem
from ..stepping import tableau

__all__ = ["AdjointBound", "TwoLayer", "adjoint_bound", "at_loss", "two_layer"]


class AdjointBound(NamedTuple):
    """The adjoint's relative norm and the exponent that bounds it, (..., L+1) each."""

    ratio: Tensor
    exponent: Tensor


class TwoLayer(NamedTuple):
    """The task with one Euler step, and the marginal of the law in theta."""

    problem: Problem
    measure: LayeredMeasure


def adjoint_bound(problem: Problem, rho: Measure) -> AdjointBound:
    r"""Return the adjoint's relative norm and the exponent that bounds it.

    .. math::

        \frac{\|p_\rho(\cdot, t_l)\|_\mu}{\|w_1\| \sqrt{2E}}
        \quad\text{and}\quad
        c\, M_{t_l}, \qquad M_t = \int_t^1 \rho(\Omega, s)\, ds,

    with c the largest operator norm of :math:`\nabla_x f` over the particles and the
    states reached (lu2020, Lemma 1, repaired). The loss E is that of the forward pass, so
    that the ratio is 1 at depth 1 only if the adjoint starts from the residual.

    Parameters
    ----------
    problem : Problem
        The regression problem.
    rho : Measure
        The law of the particles.

    Returns
    -------
    ratio, exponent : Tensor
        Shapes (..., L+1); the ratio lies between exp(-exponent) and exp(exponent), up
        to the error of the one-step method.

    Raises
    ------
    ValueError
        If `rho` has no loss, or the read-out vanishes.
    """
    passed = require_instance("problem", problem, Problem).backward(rho)
    trajectory = passed.trajectory
    slopes = problem.block.jacobian(trajectory.stages, trajectory.theta)
    c = torch.linalg.matrix_norm(slopes, 2).amax((-1, -2, -3, -4))
    b = torch.tensor(tableau(problem.method).b, dtype=c.dtype)
    m = (trajectory.weights.sum(-1) * b).sum(-1) / problem.steps
    beyond = m.flip(-1).cumsum(-1).flip(-1)
    beyond = torch.cat([beyond, torch.zeros_like(beyond[..., :1])], -1)
    if not (passed.residual != 0).any(-1).all():
        raise ValueError("rho: has zero loss here; its adjoint vanishes and has no relative norm")
    if not (problem.readout != 0).any():
        raise ValueError("readout: vanishes, and the adjoint with it; pass another w_1")
    norm = (passed.adjoint.p.square().sum(-1) * problem.mass).sum(-1).sqrt()
    scale = problem.readout.norm() * (2.0 * passed.loss).sqrt()
    return AdjointBound(norm / scale.unsqueeze(-1), c.unsqueeze(-1) * beyond)


def two_layer(problem: Problem, rho: Measure) -> TwoLayer:
    r"""Return the two-layer network with the same particles, all at depth 0.

    .. math::

        X(x, 1) = w_2 x + \int\!\!\int f(w_2 x, \theta)\, \rho(d\theta, t)\, dt,

    the first order of the unravelled expansion (lu2020, Section 2.2).

    Parameters
    ----------
    problem : Problem
        The regression problem.
    rho : Measure
        The law of the deep network's particles.

    Returns
    -------
    problem, measure : Problem, LayeredMeasure
        The same task with one Euler step, and the marginal of the law in
        :math:`\theta`.
    """
    table = tableau(require_instance("problem", problem, Problem).method)
    theta, weights = require_instance("rho", rho, Measure).stages(problem.steps, table.c)
    b = torch.tensor(table.b, dtype=weights.dtype)
    weights = (weights * b[:, None] / problem.steps).flatten(-3).unsqueeze(-2)
    flat = LayeredMeasure(theta.flatten(-4, -2).unsqueeze(-3), weights)
    return TwoLayer(replace(problem, steps=1, method="euler"), flat)


def at_loss(problem: Problem, rho: Measure, loss: Tensor) -> Problem:
    r"""Return the task with targets moved so that `rho` has the given loss.

    The residual keeps its sign and shape over the inputs and is scaled.

    Parameters
    ----------
    problem : Problem
        The regression problem.
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
    residual = require_instance("problem", problem, Problem).residual(rho)
    if isinstance(loss, Tensor):
        require_tensor("loss", loss, 0)
        require_broadcast(rho=residual.shape[:-1], loss=loss.shape)
    else:
        require_number("loss", loss)
    if not (torch.as_tensor(loss) > 0).all():
        raise ValueError(f"loss: expected positive levels, got {loss}")
    now = squared_loss(residual, problem.mass)
    if not (now > 0).all():
        raise ValueError("rho: has zero loss here, which cannot be scaled to another level")
    factor = (torch.as_tensor(loss, dtype=now.dtype) / now).sqrt().unsqueeze(-1)
    return replace(problem, y=problem.y + (1.0 - factor) * residual)
