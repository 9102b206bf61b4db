r"""The weights :math:`v_\ell(\Theta, \bar\Theta)` between two layers of units.

The first argument is the unit that sends, the second the one that receives. A layer of
units is a law p given by particles with masses, and a connection is used in two ways only:

.. math::

    \int v(\bar\Theta, \Theta)\, f(\bar\Theta)\, dp(\bar\Theta), \qquad
    \int v(\Theta, \bar\Theta)\, f(\bar\Theta)\, dp(\bar\Theta),

forward and backward (fang2021, eq. (3.8) and (4.1)). :class:`Dense` holds an m x m array;
:class:`LowRank` holds :math:`v(\Theta,\bar\Theta) = \sum_r a_r(\Theta)\,b_r(\bar\Theta)`,
which is what regression gives at the start and what every step of gradient descent adds to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import require_alike, require_broadcast, require_tensor

__all__ = ["Connection", "Dense", "LowRank"]


class Connection:
    """Weights between two layers; see :class:`Dense` and :class:`LowRank`."""

    def forward(self, f: Tensor, mass: Tensor) -> Tensor:
        r"""Return :math:`\int v(\bar\Theta,\Theta) f(\bar\Theta)\,dp`, shape of `f` (..., n, m)."""
        raise NotImplementedError

    def backward(self, f: Tensor, mass: Tensor) -> Tensor:
        r"""Return :math:`\int v(\Theta,\bar\Theta) f(\bar\Theta)\,dp`, shape of `f` (..., n, m)."""
        raise NotImplementedError

    def add(self, source: Tensor, target: Tensor) -> Connection:
        r"""Return :math:`v + \sum_n s_n(\Theta)\, t_n(\bar\Theta)`; both of shape (..., n, m)."""
        raise NotImplementedError

    def dense(self) -> Tensor:
        """Return the m x m array, shape (..., m, m), first the unit that sends."""
        raise NotImplementedError


@dataclass(frozen=True)
class Dense(Connection):
    """Weights as an array.

    Parameters
    ----------
    v : Tensor
        Shape (..., m, m), ``v[i, j]`` from unit i to unit j.
    """

    v: Tensor

    def __post_init__(self) -> None:
        require_tensor("v", self.v, 2)
        if self.v.shape[-1] != self.v.shape[-2]:
            raise ValueError(f"v: shape {tuple(self.v.shape)} is not square; pass (..., m, m)")

    @classmethod
    def _of(cls, v: Tensor) -> Dense:
        made = object.__new__(cls)
        object.__setattr__(made, "v", v)
        return made

    def forward(self, f: Tensor, mass: Tensor) -> Tensor:
        return (f * mass.unsqueeze(-2)) @ self.v

    def backward(self, f: Tensor, mass: Tensor) -> Tensor:
        return (f * mass.unsqueeze(-2)) @ self.v.mT

    def add(self, source: Tensor, target: Tensor) -> Dense:
        return Dense._of(self.v + source.mT @ target)

    def dense(self) -> Tensor:
        return self.v


@dataclass(frozen=True)
class LowRank(Connection):
    r"""Weights :math:`\sum_r a_r(\Theta)\, b_r(\bar\Theta)`, in memory linear in the width.

    Parameters
    ----------
    a, b : Tensor
        Shape (..., rank, m).
    """

    a: Tensor
    b: Tensor

    def __post_init__(self) -> None:
        require_tensor("a", self.a, 2)
        require_tensor("b", self.b, 2)
        require_alike(a=self.a, b=self.b)
        require_broadcast(a=self.a.shape[:-2], b=self.b.shape[:-2])
        if self.a.shape[-2] != self.b.shape[-2]:
            raise ValueError(
                f"b: has rank {self.b.shape[-2]} and a has {self.a.shape[-2]}; pass as many rows"
            )

    @classmethod
    def _of(cls, a: Tensor, b: Tensor) -> LowRank:
        made = object.__new__(cls)
        object.__setattr__(made, "a", a)
        object.__setattr__(made, "b", b)
        return made

    def forward(self, f: Tensor, mass: Tensor) -> Tensor:
        return ((f * mass.unsqueeze(-2)) @ self.a.mT) @ self.b

    def backward(self, f: Tensor, mass: Tensor) -> Tensor:
        return ((f * mass.unsqueeze(-2)) @ self.b.mT) @ self.a

    def add(self, source: Tensor, target: Tensor) -> LowRank:
        return LowRank._of(torch.cat([self.a, source], -2), torch.cat([self.b, target], -2))

    def dense(self) -> Tensor:
        return self.a.mT @ self.b
