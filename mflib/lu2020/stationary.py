r"""Stationary laws: how much the gradient flow dissipates at a given loss (lu2020, Sec. 1.1).

.. math::

    D(\rho) = \int\!\!\int |\nabla_\theta \Phi(\theta, t)|^2\, \rho(d\theta, t)\, dt,
    \qquad \Phi = \frac{\delta E}{\delta\rho}.

A law is stationary in :math:`\theta` when :math:`D = 0`. For blocks
:math:`f = \sigma(\theta x)` with the rows :math:`\theta_i`, D is a sum of quadratic forms
in the adjoint, with the tangent Gram matrices of this module.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import require_alike, require_broadcast, require_instance, require_tensor
from ..blocks import MatrixBlock
from ..measures import LayeredMeasure
from ..problem import Problem

__all__ = [
    "Dissipation",
    "dissipation",
    "dissipation_bounds",
    "smallest_eigenvalues",
    "tangent_gram",
]


class Dissipation(NamedTuple):
    r"""The dissipation of a law and two lower bounds of it, each of shape (...).

    Attributes
    ----------
    value : Tensor
        :math:`D(\rho)`.
    by_adjoint : Tensor
        :math:`\int m \min_i \lambda_{\min}(K^i_t)\, \|p_t\|_\mu^2\, dt`.
    by_loss : Tensor
        :math:`2E \int m \min_i \lambda_{\min}(K^i_t)\, e^{-2cM_t}\, dt`, with the
        exponential as the Euler network has it.
    """

    value: Tensor
    by_adjoint: Tensor
    by_loss: Tensor


def _require(problem: Problem, rho: LayeredMeasure) -> None:
    require_instance("problem", problem, Problem)
    require_instance("rho", rho, LayeredMeasure)


def dissipation(problem: Problem, rho: LayeredMeasure) -> Tensor:
    r"""Return :math:`D(\rho) = \int\rho\,|\nabla_\theta\Phi|^2`, the rate at which E falls.

    Parameters
    ----------
    problem : Problem
        The task, one Euler step a layer.
    rho : LayeredMeasure
        The law, `theta` of shape (..., L, N, k).

    Returns
    -------
    Tensor
        Shape (...): along the gradient flow in theta, dE/ds = -D.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.
    """
    _require(problem, rho)
    squared = problem.gradient(rho).square().sum(-1)
    return (rho.weights * squared).sum(-1).mean(-1)


def tangent_gram(problem: Problem, rho: LayeredMeasure) -> Tensor:
    r"""Return the Gram matrices of the rows' gradients, layer by layer.

    .. math::

        [K^i_l]_{xy} = \sqrt{\mu_x\mu_y}\; \frac1{m_l} \int
            \sigma'(\theta_i\cdot X_x)\,\sigma'(\theta_i\cdot X_y)\,
            (X_x\cdot X_y)\, \rho(d\theta, t_l)

    Parameters
    ----------
    problem : Problem
        With a :class:`~mflib.blocks.MatrixBlock` and one Euler step a layer.
    rho : LayeredMeasure
        The law, `theta` of shape (..., L, N, k).

    Returns
    -------
    Tensor
        Shape (..., L, d, n, n), symmetric and positive semi-definite.

    Raises
    ------
    TypeError
        If the block is no matrix block.
    """
    _require(problem, rho)
    block = problem.block
    if not isinstance(block, MatrixBlock):
        raise TypeError(
            f"problem: needs a MatrixBlock, whose rows act alone; got {type(block).__name__}"
        )
    X = problem.flow(rho).X[..., :-1, :, :]
    rows = rho.theta.unflatten(-1, (block.d, block.d))
    slope = block.sigma.df(torch.einsum("...lnij,...lxj->...lixn", rows, X))
    share = rho.weights / rho.depth_density.unsqueeze(-1)
    products = torch.einsum("...lixn,...liyn,...ln->...lixy", slope, slope, share)
    root = problem.mass.sqrt()
    return products * ((X @ X.mT) * root[:, None] * root).unsqueeze(-3)


def smallest_eigenvalues(problem: Problem, rho: LayeredMeasure) -> Tensor:
    r"""Return :math:`\min_i\lambda_{\min}(K^i_l)` of every layer, shape (..., L), never below 0."""
    return torch.linalg.eigvalsh(tangent_gram(problem, rho))[..., 0].amin(-1).clamp_min(0.0)


def dissipation_bounds(
    problem: Problem, rho: LayeredMeasure, eigenvalues: Tensor | None = None
) -> Dissipation:
    r"""Return D and the two sides of a Polyak-Lojasiewicz inequality.

    .. math::

        D(\rho) \ge \int m(t) \min_i\lambda_{\min}(K^i_t)\, \|p_t\|_\mu^2\, dt
            \ge 2E \int m(t) \min_i\lambda_{\min}(K^i_t)\, e^{-2cM_t}\, dt,
        \qquad M_t = \int_t^1 m.

    Both hold exactly for the Euler network, with p at the end of its layer and with
    :math:`\prod_{l'>l}(1 - c_{l'} m_{l'}/L)^2` in place of the exponential, which is
    smaller; :math:`c_l` is the largest operator norm of :math:`\nabla_x f` at layer l.

    Parameters
    ----------
    problem : Problem
        With a :class:`~mflib.blocks.MatrixBlock` and one Euler step a layer.
    rho : LayeredMeasure
        The law.
    eigenvalues : Tensor, optional
        Used in place of the law's own, shape (..., L): what the inequality would say if
        the law had the spread of another one. Nothing then makes it true.

    Returns
    -------
    Dissipation
        Where a layer's factor :math:`c_l m_l/L` exceeds 1 the second bound is 0.

    Raises
    ------
    TypeError
        If the block is no matrix block.
    """
    _require(problem, rho)
    seen = problem.backward(rho)
    if eigenvalues is not None:
        require_tensor("eigenvalues", eigenvalues, 1, last=rho.layers)
        require_alike(rho=rho.theta, eigenvalues=eigenvalues)
        require_broadcast(rho=seen.residual.shape[:-1], eigenvalues=eigenvalues.shape[:-1])
    m, layers = rho.depth_density, rho.layers
    least = smallest_eigenvalues(problem, rho) if eigenvalues is None else eigenvalues
    squared = (seen.costates.square().sum(-1) * problem.mass).sum(-1)
    slopes = problem.block.jacobian(seen.trajectory.stages, seen.trajectory.theta)
    c = torch.linalg.matrix_norm(slopes, 2).amax((-1, -2, -3))
    kept = (1.0 - c * m / layers).clamp_min(0.0)
    beyond = torch.cat([kept[..., 1:], torch.ones_like(kept[..., :1])], -1)
    beyond = beyond.flip(-1).cumprod(-1).flip(-1)
    return Dissipation(
        dissipation(problem, rho),
        (m * least * squared).mean(-1),
        2.0 * seen.loss * (m * least * beyond.square()).mean(-1),
    )
