r"""Bernstein polynomials: how a particle at depth t is shared by the layers of a network.

They are non-negative and sum to 1, so no mass is lost, and the mean layer is
:math:`(L-1)\,t`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import require_int, require_tensor

__all__ = ["bernstein", "bernstein_slope"]


def bernstein(t: Tensor, layers: int) -> Tensor:
    r"""Return :math:`b_l(t_i) = \binom{L-1}{l} t_i^l (1-t_i)^{L-1-l}`, shape (..., L, n).

    Parameters
    ----------
    t : Tensor
        Depths, shape (..., n); outside [0, 1] some of the values are negative.
    layers : int
        The number L, at most 1000; the polynomials have degree L - 1.

    Raises
    ------
    TypeError, ValueError
        If `layers` is no such integer: beyond 1000 the coefficients leave double precision.
    """
    _require(t, layers)
    m = layers - 1
    choose = torch.tensor([math.comb(m, l) for l in range(layers)], dtype=t.dtype)
    return choose.unsqueeze(-1) * _powers(t, m) * _powers(1.0 - t, m).flip(-2)


def _require(t: Tensor, layers: int) -> None:
    require_int("layers", layers, 1, 1000)
    require_tensor("t", t, 1)


def _powers(t: Tensor, m: int) -> Tensor:
    """Return 1, t, ..., t^m, shape (..., m+1, n)."""
    t = t.unsqueeze(-2)
    factors = t.expand(*t.shape[:-2], m, t.shape[-1])
    return torch.cat([torch.ones_like(t), factors], -2).cumprod(-2)


def bernstein_slope(t: Tensor, layers: int) -> Tensor:
    r"""Return :math:`b_l'(t_i) = (L-1)(b_{l-1,L-2} - b_{l,L-2})(t_i)`, shape (..., L, n).

    Arguments as in :func:`bernstein`.

    Raises
    ------
    TypeError, ValueError
        As there.
    """
    _require(t, layers)
    if layers == 1:
        return torch.zeros_like(t).unsqueeze(-2)
    lower = bernstein(t, layers - 1)
    none = torch.zeros_like(lower[..., :1, :])
    return (layers - 1) * (torch.cat([none, lower], -2) - torch.cat([lower, none], -2))
