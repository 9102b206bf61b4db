r"""Picard iterates of the mean-field ODE, on Chebyshev nodes in depth.

.. math::

    X^{(0)}(t) = x, \qquad
    X^{(k+1)}(t) = x + \int_0^t F(X^{(k)}(s), s)\, ds .
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_instance,
    require_int,
    require_positive_int,
    require_tensor,
)
from ..blocks import Block
from ..measures import CurveMeasure

__all__ = ["ChebyshevNodes", "chebyshev_nodes", "picard", "picard_bound"]


class ChebyshevNodes(NamedTuple):
    """Depths (T,) and the matrix (T, T) that integrates from 0."""

    depths: Tensor
    integral: Tensor


def chebyshev_nodes(nodes: int) -> ChebyshevNodes:
    r"""Return Chebyshev-Lobatto depths in [0, 1] and the matrix that integrates from 0.

    Parameters
    ----------
    nodes : int
        The number T of nodes, at least 2.

    Returns
    -------
    depths : Tensor
        Shape (T,), from 0 to 1.
    integral : Tensor
        Shape (T, T); applied to values at the nodes it returns their integrals from 0,
        exactly for polynomials of degree below T.

    Raises
    ------
    ValueError
        If there are fewer than 2 nodes.
    """
    require_int("nodes", nodes, 2)
    u = -np.cos(np.pi * np.arange(nodes) / (nodes - 1))
    values = chebyshev.chebvander(u, nodes - 1)
    columns = [chebyshev.chebval(u, chebyshev.chebint(row, lbnd=-1)) for row in np.eye(nodes)]
    integral = 0.5 * np.stack(columns, 1) @ np.linalg.inv(values)
    return ChebyshevNodes(torch.as_tensor((u + 1) / 2), torch.as_tensor(integral))


def picard(
    block: Block, measure: CurveMeasure, x: Tensor, iterations: int, nodes: int = 33
) -> Tensor:
    r"""Return the Picard iterates from the constant start (lu2020, Theorem 1).

    Parameters
    ----------
    block : Block
        The residual block.
    measure : CurveMeasure
        A measure that is smooth in depth.
    x : Tensor
        Inputs, shape (..., n, d).
    iterations : int
        The number K of iterations.
    nodes : int
        The number T of Chebyshev nodes.

    Returns
    -------
    Tensor
        Shape (K+1, ..., T, n, d).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.
    """
    require_instance("block", block, Block)
    require_instance("measure", measure, CurveMeasure)
    require_tensor("x", x, 2, last=block.d)
    require_positive_int("iterations", iterations)
    depths, integral = chebyshev_nodes(nodes)
    theta, weights = zip(*(measure.at(float(t)) for t in depths), strict=True)
    theta, weights = torch.stack(theta, -3), torch.stack(weights, -2)
    if theta.shape[-1] != block.k:
        raise ValueError(f"measure: particles of size {theta.shape[-1]}, expected k = {block.k}")
    require_alike(x=x, measure=theta, nodes=integral)
    start = x.unsqueeze(-3)
    batch = require_broadcast(x=start.shape[:-3], measure=theta.shape[:-3])
    X = start.expand(*batch, nodes, *x.shape[-2:])
    iterates = [X]
    for _ in range(iterations):
        field = block.field(X, theta, weights)
        X = start + torch.einsum("ts,...snd->...tnd", integral, field)
        iterates.append(X)
    return torch.stack(iterates)


def picard_bound(speed: Tensor, lipschitz: Tensor, iterations: int) -> Tensor:
    r"""Return the bound :math:`M \sum_{j \ge k} \Lambda^j/(j+1)!` of the k-th error.

    Parameters
    ----------
    speed : Tensor
        :math:`M`, the largest field at the start, shape (...).
    lipschitz : Tensor
        :math:`\Lambda`, the Lipschitz constant of the field in x, shape (...).
    iterations : int
        The largest k.

    Returns
    -------
    Tensor
        Shape (K+1, ...).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed or negative.
    """
    require_int("iterations", iterations, 0)
    for name, value in (("speed", speed), ("lipschitz", lipschitz)):
        if (require_tensor(name, value, 0) < 0).any():
            raise ValueError(f"{name}: is negative; a bound of a norm is not")
    require_alike(speed=speed, lipschitz=lipschitz)
    whole = require_broadcast(speed=speed.shape, lipschitz=lipschitz.shape)
    speed, lipschitz = speed.expand(whole), lipschitz.expand(whole)
    terms = torch.stack(
        [
            torch.exp(torch.xlogy(torch.as_tensor(float(j)), lipschitz) - math.lgamma(j + 2))
            for j in range(iterations + 60)
        ]
    )
    bound = speed * terms.flip(0).cumsum(0).flip(0)[: iterations + 1]
    if not bound.isfinite().all():
        raise ValueError("lipschitz: the bound leaves the finite numbers; it says nothing here")
    return bound
