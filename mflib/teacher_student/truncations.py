r"""The wide ResNet to first and second order in its law (teacher_student, eq. (9)).

.. math::

    X^L \approx x + \frac1L \sum_a F_a(x) + \frac1{L^2} \sum_{b > a} \nabla F_b(x)\, F_a(x),
    \qquad F_a(x) = \int \sigma(\theta x)\, \rho^a(d\theta).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_choice,
    require_instance,
    require_tensor,
)
from ..blocks import Block, MatrixBlock
from ..measures import LayeredMeasure

__all__ = ["truncated"]


def truncated(
    block: MatrixBlock, rho: LayeredMeasure, x: Tensor, order: int, slabs: bool = False
) -> Tensor:
    r"""Return the truncation of :math:`X^L(x_i)` at first or second order.

    Parameters
    ----------
    block : MatrixBlock
        :math:`\sigma(\theta x)`.
    rho : LayeredMeasure
        The laws of the layers; their weights may be signed.
    x : Tensor
        Inputs, shape (..., n, d).
    order : {1, 2}
        The order in the law.
    slabs : bool
        Read the layers as slabs of a continuous depth: the double integral over
        :math:`\varepsilon' > \varepsilon` then also has half of each slab with itself.

    Returns
    -------
    Tensor
        Shape (..., n, d).

    Raises
    ------
    TypeError, ValueError
        If `order` is another number, an argument is malformed or the result not finite.
    """
    require_choice("order", order, (1, 2))
    require_choice("slabs", slabs, (False, True))
    if require_instance("block", block, Block).d_out != block.d:
        raise ValueError(f"block: maps dimension {block.d} to {block.d_out}; equal ones are needed")
    require_tensor("x", x, 2, last=block.d)
    require_tensor("rho", require_instance("rho", rho, LayeredMeasure).theta, 3, last=block.k)
    require_alike(x=x, rho=rho.theta)
    require_broadcast(x=x.shape[:-2], rho=rho.theta.shape[:-3], weights=rho.weights.shape[:-2])
    found = _truncated(block, rho, x, order, slabs)
    if not bool(torch.isfinite(found).all()):
        raise ValueError("rho: too large, the truncation left the finite numbers")
    return found


def _truncated(block: Block, rho: LayeredMeasure, x: Tensor, order: int, slabs: bool) -> Tensor:
    at = x.unsqueeze(-3)  # the same points in every layer
    fields = block.field(at, rho.theta, rho.weights)
    first = x + fields.mean(-3)
    if order == 1:
        return first
    before = fields.cumsum(-3) - (0.5 if slabs else 1.0) * fields  # what earlier layers add
    return first + block.jvp(at, rho.theta, rho.weights, before).mean(-3) / rho.layers
