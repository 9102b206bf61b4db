r"""Descent directions among probability measures (lu2020, Lemma 2 and Theorem 3, repaired)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from ..arguments import (
    require_alike,
    require_generator,
    require_instance,
    require_int,
    require_number,
    require_positive_int,
    require_tensor,
)
from ..blocks import NeuronBlock
from ..measures import LayeredMeasure
from ..problem import Problem

__all__ = ["Direction", "bump", "descent_direction", "pair_along"]


@dataclass(frozen=True)
class Direction:
    r"""A probability measure :math:`\hat\nu` over :math:`\theta`, to be added at one depth.

    Attributes
    ----------
    theta : Tensor
        Particles, shape (..., P, k).
    weights : Tensor
        Non-negative, sum 1, shape (..., P).
    misfit : Tensor
        Relative error with which :math:`\int f\, d\hat\nu` meets its target, shape (...).
    """

    theta: Tensor
    weights: Tensor
    misfit: Tensor


def descent_direction(
    problem: Problem,
    rho: LayeredMeasure,
    layer: int,
    generator: torch.Generator,
    features: int = 200,
    signed: bool = True,
) -> Direction:
    r"""Construct a descent direction at one layer, by random features.

    It solves, with :math:`\hat p` the adjoint at the layer's end and m the layer's mass,

    .. math::

        \int f(X^l_i, \theta)\, \hat\nu(d\theta)
            = -p^{l+1}_i + \frac1{m_l} \int f(X^l_i, \theta)\, \rho_l(d\theta),

    so that :math:`\langle \frac{\delta E}{\delta\rho}(\cdot, t_l),
    \hat\nu - \rho_l/m_l \rangle = -\|p^{l+1}\|_\mu^2` (lu2020, eq. (11) and Lemma 2). A
    least-squares solution in random neurons has signed coefficients C; the neuron's free
    output weight u turns them into a probability measure, with mass :math:`|C|/W` at
    :math:`u = W \operatorname{sign}(C) e_k` and :math:`W = \sum |C|`.

    Parameters
    ----------
    problem : Problem
        With neuron blocks and Euler steps, one a layer.
    rho : LayeredMeasure
        Where to descend from.
    layer : int
        The layer l.
    generator : torch.Generator
        For the random neurons.
    features : int
        How many; at least the number of inputs.
    signed : bool
        Whether output weights may be negative, as the theorem asks. Otherwise C >= 0 by
        non-negative least squares, and the target may be out of reach.

    Returns
    -------
    Direction

    Raises
    ------
    TypeError, ValueError
        If the block has no free output weights, or an argument is malformed.
    """
    block = require_instance("problem", problem, Problem).block
    require_instance("rho", rho, LayeredMeasure)
    if not isinstance(block, NeuronBlock):
        raise TypeError("problem: needs a NeuronBlock, whose output weights are free")
    require_generator(generator)
    if require_positive_int("features", features) < problem.x.shape[-2]:
        raise ValueError("features: fewer than inputs; the target cannot be met")
    require_int("layer", layer, 0, rho.layers - 1)
    _require_layers(problem, rho)
    passed = problem.backward(rho)
    X, p = passed.states[..., layer, :, :], passed.costates[..., layer, :, :]
    theta, weights = rho.theta[..., layer, :, :], rho.weights[..., layer, :]
    target = block.field(X, theta, weights / weights.sum(-1, keepdim=True)) - p
    d, batch = block.d, X.shape[:-2]
    w = 1.5 * torch.randn(*batch, features, d, generator=generator, dtype=X.dtype)
    b = 1.5 * torch.randn(*batch, features, 1, generator=generator, dtype=X.dtype)
    hidden = block.sigma.f(X @ w.mT + b.mT)
    if signed:
        # gelsd: the least-norm solution, through singular values
        C = torch.linalg.lstsq(hidden, target, driver="gelsd").solution
    else:
        C = _nonnegative(hidden, target)
    misfit = (hidden @ C - target).norm(dim=(-1, -2)) / target.norm(dim=(-1, -2))
    total = C.abs().sum((-1, -2))
    units = torch.diag_embed(torch.sign(C)) * total[..., None, None, None]
    inner = torch.cat([w, b], -1).unsqueeze(-2).expand(*batch, features, d, d + 1)
    particles = torch.cat([units, inner], -1).flatten(-3, -2)
    # without any coefficient: neurons that do nothing, with equal masses
    share = torch.where((total > 0)[..., None, None], C.abs(), 1.0).flatten(-2)
    return Direction(particles, share / share.sum(-1, keepdim=True), misfit)


def _nonnegative(hidden: Tensor, target: Tensor) -> Tensor:
    """Return C >= 0 with the least |hidden C - target|, column by column."""
    target = target.expand(*hidden.shape[:-1], target.shape[-1])
    columns = [
        nnls(matrix.numpy(), column.numpy())[0]
        for matrix, goal in zip(
            hidden.reshape(-1, *hidden.shape[-2:]),
            target.reshape(-1, *target.shape[-2:]),
            strict=True,
        )
        for column in goal.mT
    ]
    C = torch.from_numpy(np.stack(columns)).to(target)
    return C.view(*target.shape[:-2], target.shape[-1], -1).mT


def _require_layers(problem: Problem, rho: LayeredMeasure) -> None:
    if problem.method != "euler" or problem.steps != rho.layers:
        raise ValueError(
            f"problem: takes {problem.steps} steps of {problem.method}; pass method='euler' and "
            f"steps={rho.layers}, one a layer of rho"
        )


def bump(layers: int, centre: float, width: float) -> Tensor:
    r"""Return a smooth bump :math:`\varphi` over the layers, of mean 1, shape (L,).

    A Gaussian of standard deviation `width` around depth `centre`, sampled at the
    layers' ends and normalised: :math:`\int \varphi\, dt = 1`.

    Raises
    ------
    ValueError
        If the width is not positive, the centre no depth, or the bump misses all layers.
    """
    require_positive_int("layers", layers)
    require_number("centre", centre, least=0, most=1)
    require_number("width", width, above=0)
    t = (torch.arange(layers, dtype=torch.float64) + 1) / layers
    phi = torch.exp(-0.5 * ((t - centre) / width) ** 2)
    if not phi.mean() > 0:
        raise ValueError(f"width: {width} is so small that the bump misses all {layers} layers")
    return phi / phi.mean()


def pair_along(problem: Problem, rho: LayeredMeasure, direction: Direction, phi: Tensor) -> Tensor:
    r"""Return :math:`\langle \frac{\delta E}{\delta\rho}, \delta\nu\rangle` for the direction.

    .. math::

        \delta\nu = \varphi(t)\, \big(\hat\nu - \rho(\cdot, t)/m(t)\big),

    so that :math:`\rho + r\,\delta\nu` is a probability measure for small r: what is
    subtracted at depth t is a part of what :math:`\rho` has there.

    Parameters
    ----------
    problem : Problem
        The regression problem, Euler steps.
    rho : LayeredMeasure
        The measure.
    direction : Direction
        From :func:`descent_direction`.
    phi : Tensor
        The bump, shape (L,).

    Returns
    -------
    Tensor
        Shape (...).
    """
    require_instance("problem", problem, Problem)
    require_instance("direction", direction, Direction)
    require_instance("rho", rho, LayeredMeasure)
    if require_tensor("phi", phi, 1).shape != (rho.layers,):
        raise ValueError(f"phi: shape {tuple(phi.shape)}, expected ({rho.layers},)")
    require_alike(rho=rho.theta, phi=phi)
    if not (rho.depth_density > 0).all():
        raise ValueError("rho: a layer has no mass that could be taken away")
    _require_layers(problem, rho)
    passed = problem.backward(rho)
    X, p = passed.states, passed.costates
    own = rho.weights / rho.depth_density.unsqueeze(-1)
    change = -problem.block.field(X, rho.theta, own)
    change = change + problem.block.field(
        X, direction.theta.unsqueeze(-3), direction.weights.unsqueeze(-2)
    )
    per_layer = torch.einsum("...lid,...lid,i->...l", p, change, problem.mass)
    return (per_layer * phi).mean(-1)
