r"""Gram matrices of the scaled residual network (chen2024, eq. (19) and (20)).

.. math::

    [G_1]_{ij} = \int_0^1\!\!\int \langle \nabla_\theta (p_i^\top\sigma(Z_i,\theta)),
        \nabla_\theta (p_j^\top\sigma(Z_j,\theta)) \rangle\, d\nu\, ds,
    \qquad
    [G_2]_{ij} = \int \langle \nabla_\omega h(Z_i,\omega),
        \nabla_\omega h(Z_j,\omega) \rangle\, d\tau.

Both are averages of Hadamard products of n x n matrices: no Jacobian is formed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .activations import form
from .arguments import (
    require_alike,
    require_broadcast,
    require_instance,
    require_positive_int,
    require_tensor,
)
from .blocks import NeuronBlock
from .ode import Pass
from .sweep import watched

__all__ = ["gram_encoder", "gram_encoder_profile", "gram_predictor", "neuron_gram"]

#: Largest number of values held at once: a few MB stay in the cache, which is faster.
_ROOM = 2**19
#: Rows of a block of the Gram matrix, of which the upper triangle is computed.
_ROWS = 128


def neuron_gram(
    block: NeuronBlock, z: Tensor, theta: Tensor, p: Tensor, chunk: int | None = None
) -> Tensor:
    r"""Return the average Gram matrix of :math:`\nabla_\theta\, p_i^\top u\,\sigma(c_i)`.

    .. math::

        \frac1N \sum_j \sigma(c_i)\sigma(c_{i'})\; p_i^\top p_{i'}
        + (p_i^\top u_j)(p_{i'}^\top u_j)\,\sigma'(c_i)\sigma'(c_{i'})\,
          (z_i^\top z_{i'} + 1),
        \qquad c_i = w_j\cdot z_i + b_j.

    Parameters
    ----------
    block : NeuronBlock
        The neuron.
    z : Tensor
        Points, shape (..., n, d).
    theta : Tensor
        Particles, shape (..., N, k), mass 1/N each.
    p : Tensor
        Costates, shape (..., n, d_out).
    chunk : int, optional
        Particles handled at a time. Default: as many as keep an intermediate array at
        some 4 MB, so that width costs time and no memory.

    Returns
    -------
    Tensor
        Shape (..., n, n), symmetric and positive semi-definite.

    Raises
    ------
    TypeError, ValueError
        If a tensor is malformed or not of the block's dimensions, or `chunk` is no positive
        integer.

    Examples
    --------
    One neuron x -> 3 (2 x + 1) at x = 1: its gradient by (u, w, b) is (3, 3, 3).

    >>> one = torch.ones(1, 1)
    >>> neuron_gram(NeuronBlock(1, "linear"), one, torch.tensor([[3.0, 2.0, 1.0]]), one)
    tensor([[27.]])
    """
    require_instance("block", block, NeuronBlock)
    require_tensor("z", z, 2, last=block.d)
    require_tensor("p", p, 2, last=block.d_out)
    require_tensor("theta", theta, 2, last=block.k)
    require_alike(z=z, theta=theta, p=p)
    require_broadcast(z=z.shape[:-2], theta=theta.shape[:-2], p=p.shape[:-2])
    if p.shape[-2] != z.shape[-2]:
        raise ValueError(f"p: holds {p.shape[-2]} costates for {z.shape[-2]} points z")
    batch = torch.broadcast_shapes(z.shape[:-2], theta.shape[:-2], p.shape[:-2])
    if chunk is None:
        chunk = max(16, _ROOM // (math.prod(batch) * z.shape[-2]))
    require_positive_int("chunk", chunk)
    values, slopes = (z.new_zeros(*batch, z.shape[-2], z.shape[-2]) for _ in range(2))
    for part in theta.split(chunk, dim=-2):
        s, t = _tiles(block, z, part, p)
        values, slopes = _add_squares(values, s), _add_squares(slopes, t)
    gram = values * (p @ p.mT) + slopes * (z @ z.mT + 1.0)
    upper = gram.triu() / theta.shape[-2]
    return upper + upper.triu(1).mT


def _tiles(block: NeuronBlock, z: Tensor, theta: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values, and the slopes times p . u, (..., n, N), from one evaluation."""
    u, w, b = block.split(theta)
    if any(map(watched, (z, theta, p))):
        c = block.preactivation(z, theta)
        return block.sigma.f(c), block.sigma.df(c) * (p @ u.mT)
    way = form(block.sigma)
    c = (z @ (way.scale * w).mT).add_(way.scale * b.unsqueeze(-2))
    tiles = [c, *(torch.empty_like(c) for _ in range(way.tiles - 1))]
    way.state(*tiles)
    t = p @ u.mT
    if t.shape != c.shape:
        t = t.expand(torch.broadcast_shapes(t.shape, c.shape)).clone()
        tiles = [v.expand_as(t) for v in tiles]
    way.slope(t, *tiles)
    value = tiles[0] if way.outer == 1.0 else tiles[0] * way.outer - float(way.shift)
    return value, t if way.inner == 1.0 else t.mul_(way.inner)


def _add_squares(into: Tensor, tile: Tensor) -> Tensor:
    """Add the products of a tile's rows on and above the diagonal."""
    n = tile.shape[-2]
    if n <= _ROWS or watched(tile):
        return into + tile @ tile.mT
    for start in range(0, n, _ROWS):
        rows = slice(start, start + _ROWS)
        into[..., rows, start:] += tile[..., rows, :] @ tile[..., start:, :].mT
    return into


def _fits(block: NeuronBlock, particles: Tensor, name: str, passed: Pass, out: int) -> None:
    require_instance("block", block, NeuronBlock)
    require_instance("passed", passed, Pass)
    if block.d_out != out or block.d != passed.output.shape[-1]:
        raise ValueError(
            f"block: maps dimension {block.d} to {block.d_out}, the states have dimension "
            f"{passed.output.shape[-1]} and {out} is the output's"
        )
    require_tensor(name, particles, 2, last=block.k)
    require_alike(**{name: particles, "passed": passed.output})
    inner = 2 if name == "omega" else 3
    if particles.ndim < inner or (
        name == "theta" and particles.shape[-3] not in (1, passed.trajectory.steps)
    ):
        raise ValueError(f"{name}: shape {tuple(particles.shape)} does not fit the pass")
    require_broadcast(**{name: particles.shape[:-inner], "passed": passed.output.shape[:-2]})


def gram_encoder_profile(
    block: NeuronBlock, theta: Tensor, passed: Pass, chunk: int | None = None
) -> Tensor:
    r"""Return the encoder's Gram matrix layer by layer.

    Parameters
    ----------
    block : NeuronBlock
        A layer's neuron :math:`\sigma(z, \theta)`.
    theta : Tensor
        Particles of every layer, shape (..., L, M, 2d+1), mass 1/M each.
    passed : Pass
        States and adjoints at the same particles, of Euler's method; the adjoint is taken
        at the layer's end, as backpropagation does.
    chunk : int, optional
        As in :func:`neuron_gram`.

    Returns
    -------
    Tensor
        Shape (..., L, n, n).

    Examples
    --------
    >>> from mflib.measures import LayeredMeasure
    >>> from mflib.ode import adjoint, flow
    >>> block, theta = NeuronBlock(1, "linear"), torch.ones(2, 1, 3)  # x -> x + (x + 1)/2
    >>> states = flow(block, LayeredMeasure(theta), torch.ones(1, 1), 2)
    >>> one = torch.ones(1, 1)
    >>> passed = Pass(states, adjoint(block, states, one), torch.zeros(1))
    >>> gram_encoder_profile(block, theta, passed).flatten()  # p^2 ((x + 1)^2 + x^2 + 1)
    tensor([13.5000, 14.0000])
    """
    _fits(block, theta, "theta", passed, block.d if isinstance(block, NeuronBlock) else 0)
    return neuron_gram(block, passed.states, theta, passed.costates, chunk)


def gram_encoder(block: NeuronBlock, theta: Tensor, passed: Pass) -> Tensor:
    r"""Return :math:`G_1(\tau, \nu)` (chen2024, eq. (19)), shape (..., n, n), the mean over layers.

    The example of :func:`gram_encoder_profile` has the mean 13.75.

    Parameters
    ----------
    block : NeuronBlock
        A layer's neuron.
    theta : Tensor
        Particles of every layer, shape (..., L, M, 2d+1), mass 1/M each.
    passed : Pass
        States and adjoints at the same particles.
    """
    return gram_encoder_profile(block, theta, passed).mean(-3)


def gram_predictor(block: NeuronBlock, omega: Tensor, passed: Pass) -> Tensor:
    r"""Return :math:`G_2(\tau, \nu)` (chen2024, eq. (20)), shape (..., n, n).

    Parameters
    ----------
    block : NeuronBlock
        The predictor's neuron :math:`h(z, \omega)`, of one output.
    omega : Tensor
        Particles, shape (..., K, d+2), mass 1/K each.
    passed : Pass
        A pass, for the states at depth 1.
    """
    _fits(block, omega, "omega", passed, 1)
    z = passed.output
    return neuron_gram(block, z, omega, torch.ones_like(z[..., :1]))
