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

from .arguments import require_positive_int
from .blocks import NeuronBlock
from .chen2024.network import ScaledResNet
from .ode import Pass

__all__ = ["gram_encoder", "gram_encoder_profile", "gram_predictor", "neuron_gram"]

#: Largest number of values held at once: a few MB stay in the cache, which is faster.
_ROOM = 2**19


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
    ValueError
        If the particles do not have the block's dimension, or `chunk` is no positive
        integer.
    """
    if chunk is None:
        batch = torch.broadcast_shapes(z.shape[:-2], theta.shape[:-2], p.shape[:-2])
        chunk = max(16, _ROOM // (math.prod(batch) * z.shape[-2]))
    require_positive_int("chunk", chunk)
    values = slopes = 0.0
    for part in theta.split(chunk, dim=-2):
        u, _, _ = block.split(part)
        c = block.preactivation(z, part)
        s = block.sigma.f(c)
        t = block.sigma.df(c) * (p @ u.mT)
        values = values + s @ s.mT
        slopes = slopes + t @ t.mT
    gram = values * (p @ p.mT) + slopes * (z @ z.mT + 1.0)
    return gram / theta.shape[-2]


def gram_encoder_profile(
    net: ScaledResNet, theta: Tensor, state: Pass, chunk: int | None = None
) -> Tensor:
    r"""Return the encoder's Gram matrix layer by layer, shape (..., L, n, n).

    `theta` of shape (..., L, M, 2d+1) and `state` from ``net.backward`` at the same
    particles; the adjoint is taken at the layer's end, as backpropagation does. `chunk`
    as in :func:`neuron_gram`.
    """
    z, p = state.trajectory.stages[..., 0, :, :], state.adjoint.stages[..., 0, :, :]
    return neuron_gram(net.encoder, z, theta, p, chunk)


def gram_encoder(net: ScaledResNet, theta: Tensor, state: Pass) -> Tensor:
    r"""Return :math:`G_1(\tau, \nu)` (chen2024, eq. (19)), shape (..., n, n), the mean over layers."""
    return gram_encoder_profile(net, theta, state).mean(-3)


def gram_predictor(net: ScaledResNet, omega: Tensor, state: Pass) -> Tensor:
    r"""Return :math:`G_2(\tau, \nu)` (chen2024, eq. (20)), shape (..., n, n)."""
    z = state.trajectory.X[..., -1, :, :]
    return neuron_gram(net.predictor, z, omega, torch.ones_like(z[..., :1]))
