r"""Picard iterates of the neural feature flow, on whole trajectories of weights.

In the coordinates :math:`u = v/\sqrt{m_{\ell-1}m_\ell}` scaled gradient descent is plain
gradient descent, and the flow is :math:`\dot u = -\nabla\hat L(u)`. The Picard map sends a
trajectory to

.. math::

    (P\Phi)(t) = u_0 - \int_0^t \nabla\hat L(\Phi(s))\,ds

(fang2021, Theorem 3). On a grid the integral is the trapezium sum A, a matrix without
negative entries, so that with a Lipschitz constant C of the gradient successive iterates obey
:math:`\delta_k \le C^k A^k \delta_0`, which is :math:`(Ct)^k/k!` up to the grid.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_instance,
    require_number,
    require_positive_int,
    require_tensor,
)
from .connections import Dense
from .network import Network, Weights

__all__ = ["WeightSpace", "grid", "picard"]


def grid(time: float, nodes: int) -> tuple[Tensor, Tensor]:
    r"""Return times from 0 to T and the matrix A of trapezium sums from 0, (K,) and (K, K)."""
    from scipy.integrate import cumulative_trapezoid

    if require_positive_int("nodes", nodes) < 2:
        raise ValueError("nodes: at least 2 are needed")
    t = np.linspace(0.0, require_number("time", time, above=0), nodes)
    sums = cumulative_trapezoid(np.eye(nodes), t, axis=0, initial=0.0)
    return torch.as_tensor(t), torch.as_tensor(sums)


class WeightSpace:
    r"""The weights of a discrete network of width m as vectors u, in scaled coordinates.

    Parameters
    ----------
    net : Network
        The architecture and its data.
    m : int
        The width; every unit has mass 1/m.
    """

    def __init__(self, net: Network, m: int) -> None:
        self.net, self.m = net, require_positive_int("m", m)
        d = net.x.shape[-1]
        self.shapes = [(d, m), *[(m, m)] * (net.depth - 1), (m,)]
        self.scales = [math.sqrt(d * m), *[float(m)] * (net.depth - 1), math.sqrt(m)]
        self.mass = torch.full((m,), 1.0 / m, dtype=torch.float64)

    def vector(self, w: Weights) -> Tensor:
        r"""Return the weights as a vector u, shape (..., D)."""
        parts = [w.first, *[v.dense() for v in w.middle], w.last]
        return self._flat(parts)

    def _flat(self, parts: list[Tensor]) -> Tensor:
        flat = [
            p.flatten(p.ndim - len(shape)) / scale
            for p, shape, scale in zip(parts, self.shapes, self.scales, strict=True)
        ]
        return torch.cat(flat, -1)

    def weights(self, u: Tensor) -> Weights:
        r"""Return the weights of vectors u (..., D)."""
        sizes = [math.prod(shape) for shape in self.shapes]
        require_tensor("u", u, 1, last=sum(sizes))
        parts = [
            p.unflatten(-1, shape) * scale
            for p, shape, scale in zip(u.split(sizes, -1), self.shapes, self.scales, strict=True)
        ]
        return Weights(parts[0], tuple(Dense(p) for p in parts[1:-1]), parts[-1], self.mass)

    def gradient(self, u: Tensor) -> Tensor:
        r"""Return :math:`\nabla\hat L(u)`, shape (..., D)."""
        w = self.weights(u)
        f = self.net.forward(w)
        g = self.net.drift(f, self.net.backward(w, f))
        return self._flat([g.first, *[s.mT @ t for s, t in g.middle], g.last])

    def curvature(
        self, u: Tensor, generator: torch.Generator, sweeps: int = 25
    ) -> tuple[Tensor, Tensor]:
        r"""Return the operator norm of the Hessian at u (..., D), and its direction.

        By power iteration; a lower bound that is exact to many digits once converged.
        """
        v = torch.randn(u.shape, generator=generator, dtype=u.dtype)
        size = v.norm(dim=-1)
        for _ in range(sweeps):
            v = v / size.clamp_min(1e-300).unsqueeze(-1)
            _, product = torch.func.jvp(self.gradient, (u,), (v,))
            v, size = product, product.norm(dim=-1)
        return size, v / size.clamp_min(1e-300).unsqueeze(-1)


def picard(space: WeightSpace, start: Tensor, guess: Tensor, sums: Tensor, count: int) -> Tensor:
    r"""Return the guess and `count` Picard iterates, shape (count + 1, K, D).

    Parameters
    ----------
    space : WeightSpace
        The network.
    start : Tensor
        :math:`u_0`, shape (D,).
    guess : Tensor
        A trajectory at the K times of the grid, shape (K, D); any.
    sums : Tensor
        The matrix A of :func:`grid`.
    count : int
        The number of iterations.
    """
    require_instance("space", space, WeightSpace)
    require_positive_int("count", count)
    if require_tensor("start", start, 1).ndim != 1:
        raise ValueError(f"start: expected one vector, got shape {tuple(start.shape)}")
    if require_tensor("guess", guess, 2, last=len(start)).ndim != 2:
        raise ValueError(f"guess: expected one trajectory, got shape {tuple(guess.shape)}")
    if require_tensor("sums", sums, 2, last=len(guess)).shape != (len(guess), len(guess)):
        raise ValueError(f"sums: shape {tuple(sums.shape)}, expected a row a time, {len(guess)}")
    require_alike(start=start, guess=guess, sums=sums)
    iterates = [guess]
    for _ in range(count):
        iterates.append(start - sums @ space.gradient(iterates[-1]))
    return torch.stack(iterates)
