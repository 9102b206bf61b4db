r"""Blocks that act over intervals of depth (lu2020, Section 4), and what they cost.

.. math::

    \rho = \sum_i \delta_{\theta_i} 1_{[\tau_i, \tau_i']}(t), \qquad
    X^{s+1} = X^s + (t_{s+1} - t_s)
        \sum_{i:\ \tau_i \le t_s,\ t_{s+1} \le \tau_i'} f(X^s, \theta_i),

with one Euler step between neighbouring end points :math:`t_0 < t_1 < \dots`. Every active
block is evaluated in every step, and the evaluations are counted as they happen.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import require_alike, require_instance, require_int, require_tensor
from ..blocks import Block

__all__ = ["IntervalPass", "interval_pass"]


class IntervalPass(NamedTuple):
    """The output, shape (S, n, d), and the number of block evaluations, shape (S,)."""

    X: Tensor
    evaluations: Tensor


def interval_pass(
    block: Block, theta: Tensor, starts: Tensor, ends: Tensor, x: Tensor, least: int = 0
) -> IntervalPass:
    r"""Return the forward pass of S networks whose blocks act over intervals.

    Parameters
    ----------
    block : Block
        f.
    theta : Tensor
        Shape (S, N, k).
    starts, ends : Tensor
        The intervals, shape (S, N), starts before ends.
    x : Tensor
        The states at depth 0, shape (n, d).
    least : int
        Equal solver steps that are taken besides, over the whole of :math:`[0, 1]`.

    Returns
    -------
    IntervalPass
        An evaluation is one call of f for one block on the whole batch of inputs.

    Raises
    ------
    TypeError, ValueError
        If an interval is empty or leaves :math:`[0, 1]`, shapes do not fit, or `least` is no
        integer >= 0.
    """
    require_int("least", least, 0)
    require_instance("block", block, Block)
    if require_tensor("theta", theta, 3, last=block.k).ndim != 3:
        raise ValueError(f"theta: expected shape (S, N, k), got {tuple(theta.shape)}")
    for name, times in (("starts", starts), ("ends", ends)):
        if require_tensor(name, times, 2).shape != theta.shape[:2]:
            raise ValueError(f"{name}: one number a block is needed, got {tuple(times.shape)}")
    if not bool(((0 <= starts) & (starts < ends) & (ends <= 1)).all()):
        raise ValueError("ends: an interval is empty or leaves [0, 1]; start before the end")
    if require_tensor("x", x, 2, last=block.d).ndim != 2:
        raise ValueError(f"x: expected shape (n, d), got {tuple(x.shape)}; all networks share it")
    require_alike(theta=theta, starts=starts, ends=ends, x=x)
    grid = torch.linspace(0, 1, least + 1, dtype=theta.dtype)[1 if least else 0 :]
    times = torch.cat([starts, ends, grid.expand(len(theta), -1)], 1).sort(dim=1)[0]
    X = x.expand(len(theta), *x.shape).clone()
    evaluations = torch.zeros(len(theta), dtype=torch.long)
    for s in range(times.shape[1] - 1):
        low, high = times[:, s : s + 1], times[:, s + 1 : s + 2]
        network, which = ((starts <= low) & (high <= ends) & (low < high)).nonzero(as_tuple=True)
        values = block.value(X[network], theta[network, which].unsqueeze(-2)).squeeze(-2)
        evaluations += torch.bincount(network, minlength=len(theta))
        step = (high - low)[network].unsqueeze(-1)
        X = X.index_add(0, network, step * values)
    return IntervalPass(X, evaluations)
