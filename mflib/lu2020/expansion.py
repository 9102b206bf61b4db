r"""Truncated power series: jets of the flow in :math:`\lambda`, and rooted trees.

Replacing :math:`\rho` by :math:`\lambda\rho` turns the output into a function of
:math:`\lambda` whose k-th Taylor coefficient is the k-th order of the unravelled
expansion (lu2020, Section 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import combinations_with_replacement
from typing import Any

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_choice,
    require_instance,
    require_int,
    require_number,
    require_positive_int,
    require_tensor,
)
from ..blocks import MatrixBlock
from ..measures import LayeredMeasure

__all__ = [
    "Tree",
    "network_jet",
    "rooted_trees",
    "scalar_jet",
    "tanh_derivatives",
    "tanh_radius",
    "tree_factorial",
    "tree_sum",
    "tree_symmetry",
]

#: Entries of the series of some samples, which then stay in the cache.
_ENTRIES = 2**16

#: A rooted tree: the tuple of its branches, sorted.
Tree = tuple


def scalar_jet(slope: Any, value: Any, start: Any, order: int, sigma: str = "tanh") -> list[Any]:
    r"""Return Taylor coefficients of :math:`\dot x = y(x)`, :math:`y = \sigma(\theta x)`.

    .. math::

        (k+1)\, x_{k+1} = y_k, \qquad
        k\, y_k = \theta \sum_{j=1}^{k} j\, x_j\, (1 - y^2)_{k-j}

    for tanh, and :math:`y_k = \theta x_k` for a linear block. The arithmetic is
    that of the arguments: floats, fractions or intervals.

    Parameters
    ----------
    slope : number
        :math:`\theta`.
    value : number
        :math:`\sigma(\theta x_0)`.
    start : number
        :math:`x_0`.
    order : int
        The highest order K.
    sigma : {"tanh", "linear"}
        The activation.

    Returns
    -------
    list
        The coefficients :math:`x_0, \dots, x_K` in the time of the flow, which for an
        autonomous field is :math:`\lambda`.
    """
    require_positive_int("order", order)
    linear = require_choice("sigma", sigma, ("tanh", "linear")) == "linear"
    x, y, s = [start], [value], [1 - value * value]
    for k in range(order):
        if k and linear:
            y.append(slope * x[k])
        elif k:
            y.append(sum(slope * j * x[j] * s[k - j] for j in range(1, k + 1)) / k)
            s.append(-sum(y[j] * y[k - j] for j in range(k + 1)))
        x.append(y[k] / (k + 1))
    return x


def network_jet(block: MatrixBlock, rho: LayeredMeasure, x: Tensor, order: int) -> Tensor:
    r"""Return the orders of the unravelled expansion of a residual network, exactly.

    Parameters
    ----------
    block : MatrixBlock
        With activation tanh or linear.
    rho : LayeredMeasure
        One layer a step.
    x : Tensor
        Inputs, shape (..., n, d).
    order : int
        The highest order K.

    Returns
    -------
    Tensor
        Shape (K+1, ..., n, d); entry k is the coefficient of :math:`\lambda^k` of the
        output under :math:`\lambda\rho`.

    Raises
    ------
    ValueError
        If the activation is another one.
    """
    require_instance("block", block, MatrixBlock)
    require_tensor("x", x, 2, last=block.d)
    require_positive_int("order", order)
    if require_instance("rho", rho, LayeredMeasure).theta.shape[-1] != block.k:
        raise ValueError(f"rho: particles of size {rho.theta.shape[-1]}, expected k = {block.k}")
    require_alike(x=x, rho=rho.theta)
    if block.sigma.name not in ("tanh", "linear"):
        raise ValueError(f"block: no recurrence for {block.sigma.name}; use tanh or linear")
    batch = require_broadcast(x=x.shape[:-2], rho=rho.theta.shape[:-3])
    d, rows = block.d, max(1, _ENTRIES // (order * rho.theta.shape[-2] * block.d))
    # the columns of W are the rows of all matrices, the particles last
    w = rho.theta.unflatten(-1, (d, d)).movedim(-1, -3).transpose(-1, -2)
    parts = []
    for part in x.expand(*batch, *x.shape[-2:]).split(rows, -2):
        X = torch.cat([part.unsqueeze(-3), part.new_zeros(*batch, order, *part.shape[-2:])], -3)
        for layer in range(rho.layers):
            y = X[..., :order, :, :].flatten(-3, -2) @ w[..., layer, :, :, :].flatten(-2)
            y = y.unflatten(-2, (order, -1))
            if block.sigma.name == "tanh":
                _compose_tanh(y)
            y = y.unflatten(-1, (d, -1)).flatten(-4, -2)
            mean = (y @ rho.weights[..., layer, :, None]).unflatten(-2, (order, -1, d)).squeeze(-1)
            # the factor lambda of the step shifts the orders by one
            X[..., 1:, :, :] += mean / rho.layers
        parts.append(X)
    return torch.cat(parts, -2).movedim(-3, 0)


def _compose_tanh(u: Tensor) -> None:
    r"""Replace the orders :math:`u_k` of a series, (..., K, n, M), by those of tanh, in place.

    .. math::

        y_0 = \tanh u_0, \qquad k\, y_k = \sum_{j=1}^{k} j\, u_j\, (1 - y^2)_{k-j}.
    """
    u[..., 1:, :, :] *= torch.arange(1, u.shape[-3], dtype=u.dtype)[:, None, None]
    terms = u.clone().unbind(-3)
    y = u.unbind(-3)
    y[0].tanh_()
    s = [1.0 - y[0].square()]
    for k in range(1, len(y)):
        torch.mul(terms[1], s[k - 1], out=y[k])
        for j in range(2, k + 1):
            y[k].addcmul_(terms[j], s[k - j])
        y[k].div_(k)
        if k + 1 < len(y):
            square = y[k] * y[0] * -2.0
            for j in range(1, (k + 1) // 2):
                square.addcmul_(y[j], y[k - j], value=-2.0)
            s.append(square if k % 2 else square.addcmul_(y[k // 2], y[k // 2], value=-1.0))


def tanh_derivatives(theta: float, value: float, order: int) -> list[float]:
    r"""Return :math:`f^{(k)}(x_0)` for :math:`f = \tanh(\theta x)` and k up to `order`.

    From :math:`f' = \theta(1 - f^2)`; `value` is :math:`f(x_0)`.

    Raises
    ------
    ValueError
        If a number is not finite, or `value` none that tanh takes.
    """
    require_number("theta", theta)
    require_number("value", value, least=-1, most=1)
    require_int("order", order, 0)
    y = [value]
    for k in range(order):
        square = sum(y[j] * y[k - j] for j in range(k + 1))
        y.append(theta * ((k == 0) - square) / (k + 1))
    return [v * math.factorial(k) for k, v in enumerate(y)]


def tanh_radius(theta: float, start: float) -> float:
    r"""Return the radius of convergence of the expansion for :math:`\tanh(\theta x)`.

    The flow is :math:`\sinh\theta x(\lambda) = e^{\theta\lambda}\sinh\theta x_0`, with branch
    points where the right side is :math:`\pm i`:

    .. math::

        R = \frac1\theta \sqrt{\ln^2\sinh(\theta x_0) + \pi^2/4}.

    Raises
    ------
    ValueError
        If a number is not positive.
    """
    z = require_number("theta", theta, above=0) * require_number("start", start, above=0)
    # log sinh z without overflow
    return math.hypot(z + math.log(-math.expm1(-2 * z) / 2), math.pi / 2) / theta


@lru_cache(maxsize=None)
def rooted_trees(nodes: int) -> tuple[Tree, ...]:
    """Return every rooted tree with that many nodes (1, 1, 2, 4, 9, 20, ...)."""
    require_positive_int("nodes", nodes)
    return tuple(sorted({tuple(sorted(f)) for f in _forests(nodes - 1, nodes - 1)}))


def _forests(nodes: int, largest: int) -> Iterator[tuple[Tree, ...]]:
    if nodes == 0:
        yield ()
        return
    for size in range(min(nodes, largest), 0, -1):
        for count in range(1, nodes // size + 1):
            for rest in _forests(nodes - size * count, size - 1):
                for same in combinations_with_replacement(rooted_trees(size), count):
                    yield same + rest


def _size(tree: Tree) -> int:
    return 1 + sum(map(_size, tree))


def tree_factorial(tree: Tree) -> int:
    r"""Return :math:`\gamma(\tau)`, the product of the sizes of all subtrees."""
    return _size(tree) * math.prod(map(tree_factorial, tree))


def tree_symmetry(tree: Tree) -> int:
    r"""Return :math:`s(\tau)`, the number of symmetries."""
    counts = [tree.count(branch) for branch in set(tree)]
    return math.prod(map(math.factorial, counts)) * math.prod(map(tree_symmetry, tree))


def tree_sum(derivatives: list[Any], nodes: int) -> Any:
    r"""Return the order-k term as a sum over rooted trees.

    .. math::

        c_k = \sum_{|\tau| = k} \frac{1}{\gamma(\tau)\, s(\tau)}
              \prod_{v \in \tau} f^{(\text{branches at } v)}(x_0).

    With all derivatives equal to 1 it returns the total weight, :math:`1/k`.

    Parameters
    ----------
    derivatives : list
        :math:`f^{(0)}(x_0), \dots, f^{(k-1)}(x_0)`, numbers or fractions.
    nodes : int
        The order k.
    """
    if len(derivatives) < require_positive_int("nodes", nodes):
        raise ValueError(f"derivatives: {len(derivatives)} for {nodes} nodes; pass one a node")

    def differential(tree: Tree) -> Any:
        return derivatives[len(tree)] * math.prod(map(differential, tree))

    return sum(
        Fraction(1, tree_factorial(t) * tree_symmetry(t)) * differential(t)
        if isinstance(derivatives[0], (int, Fraction))
        else differential(t) / (tree_factorial(t) * tree_symmetry(t))
        for t in rooted_trees(nodes)
    )
