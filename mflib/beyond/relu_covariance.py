r"""The covariance of two inputs on their way through Gaussian ReLU blocks, at any width.

.. math::

    h_{l+1} = h_l + s\, W_l \max(h_l, 0), \qquad W_l \text{ with entries } N(0, 1/d),

(hayou2023, eq. (1)). As d grows the averages :math:`h_l\cdot h_l'/d` tend to numbers
:math:`Q_l` that follow a recursion; with :math:`s = L^{-1/2}` and growing L this is Euler's
method for an equation in depth.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from ..arguments import (
    require_generator,
    require_int,
    require_number,
    require_positive_int,
    require_symmetric,
    require_tensor,
)

__all__ = ["covariance_at_depth", "covariance_limit", "relu_covariance", "relu_states"]


def _require_covariance(Q: Tensor) -> None:
    if require_symmetric("Q", Q).shape[-1] != 2:
        raise ValueError(f"Q: expected covariances of two inputs, got shape {tuple(Q.shape)}")
    if not bool((Q.diagonal(dim1=-2, dim2=-1) > 0).all()):
        raise ValueError("Q: has a diagonal that is not positive; the inputs must not vanish")
    if bool((_correlation(Q)[1].abs() > 1 + 1e-12).any()):
        raise ValueError("Q: is no covariance, a correlation is larger than 1")


def _correlation(Q: Tensor) -> tuple[Tensor, Tensor]:
    """Return the norms (..., 2) of the inputs and their correlation (...)."""
    norms = Q.diagonal(dim1=-2, dim2=-1).sqrt()
    return norms, Q[..., 0, 1] / norms.prod(-1)


def _assembled(norms: Tensor, diagonal: float, c: Tensor) -> Tensor:
    outer = norms.unsqueeze(-1) * norms.unsqueeze(-2)
    off = c[..., None, None].expand(outer.shape)
    return outer * torch.where(torch.eye(2, dtype=torch.bool), diagonal, off)


def _half_plane(c: Tensor) -> Tensor:
    root = ((1 - c) * (1 + c)).sqrt()
    return (root + c * (math.pi - c.acos())) / (2 * math.pi)


def relu_covariance(Q: Tensor) -> Tensor:
    r"""Return the second moments of two centred normal variables behind a ReLU.

    .. math::

        \mathbb E\max(u,0)^2 = \tfrac12 Q_{11}, \qquad
        \mathbb E\max(u,0)\max(v,0) = \frac{\sqrt{Q_{11}Q_{22}}}{2\pi}
            \big(\sqrt{1-c^2} + c\,(\pi - \arccos c)\big),

    with the correlation c, the arc-cosine kernel of order 1.

    Parameters
    ----------
    Q : Tensor
        Covariances, shape (..., 2, 2).

    Returns
    -------
    Tensor
        Shape (..., 2, 2).

    Raises
    ------
    TypeError, ValueError
        If `Q` is no covariance of two variables with positive variances.

    Examples
    --------
    >>> relu_covariance(torch.eye(2, dtype=torch.float64)) * 2 * torch.pi
    tensor([[3.1416, 1.0000],
            [1.0000, 3.1416]], dtype=torch.float64)
    """
    _require_covariance(Q)
    return _relu_covariance(Q)


def _relu_covariance(Q: Tensor) -> Tensor:
    norms, c = _correlation(Q)
    return _assembled(norms, 0.5, _half_plane(c.clamp(-1, 1)))


def covariance_at_depth(Q: Tensor, L: int, scale: float) -> Tensor:
    r"""Return the covariance behind L blocks of infinite width, shape (..., 2, 2).

    .. math::

        Q_{l+1} = Q_l + s^2\, \mathbb E_{(u,v)\sim N(0,Q_l)}
            \big[\max(u,0)\max(v,0)\big]

    Parameters
    ----------
    Q : Tensor
        The covariance :math:`x\cdot x'/d` of the inputs, shape (..., 2, 2).
    L : int
        The number of blocks.
    scale : float
        The scale s of a branch; the limit of :func:`covariance_limit` takes
        :math:`L^{-1/2}`.

    Raises
    ------
    TypeError, ValueError
        If an argument is impossible or the covariance leaves the finite numbers.

    Examples
    --------
    >>> Q = torch.tensor([[1.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    >>> covariance_at_depth(Q, 2, 1.0).diagonal()  # 1.5^2 times as large
    tensor([2.2500, 9.0000], dtype=torch.float64)
    """
    _require_covariance(Q)
    require_number("scale", scale, above=0)
    for _ in range(require_positive_int("L", L)):
        Q = Q + scale**2 * _relu_covariance(Q)
    if not bool(torch.isfinite(Q).all()):
        raise ValueError("scale: the covariance left the finite numbers; take a smaller one")
    return Q


def covariance_limit(Q: Tensor, time: float = 1.0) -> Tensor:
    r"""Return the covariance at the end of infinitely many blocks, shape (..., 2, 2).

    .. math::

        Q(t)_{aa} = e^{t/2} Q_{aa}, \qquad
        \dot c = \frac{1}{2\pi}\big(\sqrt{1-c^2} - c \arccos c\big)

    for the correlation c of the two inputs, by an integrator of order 8.

    Parameters
    ----------
    Q : Tensor
        The covariance of the inputs, shape (..., 2, 2).
    time : float
        :math:`L s^2`, the depth in units of :math:`s^{-2}` blocks.

    Raises
    ------
    TypeError, ValueError
        If an argument is impossible.

    Examples
    --------
    >>> one = torch.ones(2, 2, dtype=torch.float64)
    >>> bool((covariance_limit(one) / one - torch.tensor(0.5).double().exp()).abs().max() < 1e-12)
    True
    """
    _require_covariance(Q)
    require_number("time", time, above=0)
    norms, c = _correlation(Q)

    def rate(_: float, c: np.ndarray) -> np.ndarray:
        c = c.clip(-1, 1)
        return (np.sqrt((1 - c) * (1 + c)) - c * np.arccos(c)) / (2 * math.pi)

    found = solve_ivp(
        rate, (0.0, time), c.clamp(-1, 1).flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-14
    )
    end = torch.as_tensor(found.y[:, -1]).reshape(c.shape).clamp(-1, 1)
    return _assembled(norms * math.exp(time / 4), 1.0, end)


def relu_states(
    h: Tensor, L: int, scale: float, generator: torch.Generator, rows: int | None = None
) -> Tensor:
    r"""Draw the states of networks of finite width behind L blocks, shape (..., k, d).

    Given the states of a network, the vectors :math:`W\max(h_a,0)` of its k inputs are normal,
    independent from coordinate to coordinate, with the covariance
    :math:`\max(h_a,0)\cdot\max(h_b,0)/d`. They are drawn as such: the same in law as with
    matrices, at the price of k numbers a coordinate instead of d.

    Parameters
    ----------
    h : Tensor
        The inputs, shape (..., k, d), networks in front.
    L : int
        The number of blocks.
    scale : float
        The scale s of a branch.
    generator : torch.Generator
        The source of randomness; every network has matrices of its own.
    rows : int, optional
        Give each matrix only so many different rows, each repeated; a divisor of d.

    Raises
    ------
    TypeError, ValueError
        If an argument is impossible or states leave the finite numbers.

    Examples
    --------
    >>> h = torch.ones(5, 1, 3, dtype=torch.float64)
    >>> relu_states(h, 4, 0.5, torch.Generator().manual_seed(0)).shape
    torch.Size([5, 1, 3])
    """
    d = require_tensor("h", h, 2).shape[-1]
    require_positive_int("L", L)
    require_number("scale", scale, above=0)
    require_generator(generator)
    repeat = 1
    if rows is not None:
        if d % require_int("rows", rows, 1, d):
            raise ValueError(f"rows: {rows} does not divide the width {d}")
        repeat = d // rows
    for _ in range(L):
        positive = h.clamp_min(0)
        inner = positive @ positive.mT / d
        if not bool(torch.isfinite(inner).all()):
            raise ValueError("scale: the states left the finite numbers; take a smaller one")
        values, vectors = torch.linalg.eigh(inner)
        root = vectors * values.clamp_min(0).sqrt().unsqueeze(-2)
        white = torch.randn((*h.shape[:-1], d // repeat), generator=generator, dtype=h.dtype)
        h = h + scale * (root @ white).repeat_interleave(repeat, -1)
    return h
