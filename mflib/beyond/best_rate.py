r"""The best learning rate of a family of runs, between the rates that were tried."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import require_alike, require_tensor

__all__ = ["best_rate"]


def best_rate(rates: Tensor, losses: Tensor) -> Tensor:
    r"""Return the rate of the least loss: the vertex of a parabola through three points.

    The parabola goes through the logarithms of the losses at the best rate tried and its
    two neighbours, over the logarithm of the rate.

    Parameters
    ----------
    rates : Tensor
        Positive, increasing by one factor, shape (R,) with R at least 3.
    losses : Tensor
        Positive, shape (..., R).

    Returns
    -------
    Tensor
        Shape (...).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed, or a loss is least at an end of the range: the best
        rate may then lie beyond it.

    Examples
    --------
    >>> rates = 2.0 ** torch.arange(-2.0, 4.0)
    >>> losses = torch.exp((rates.log2() - 0.25) ** 2)
    >>> round(float(best_rate(rates, losses).log2()), 4)
    0.25
    """
    require_tensor("rates", rates, 1)
    require_tensor("losses", losses, 1, last=rates.shape[-1])
    require_alike(rates=rates, losses=losses)
    at = rates.log()
    steps = at.diff()
    if rates.ndim != 1 or len(rates) < 3 or not bool((rates > 0).all() and (steps > 0).all()):
        raise ValueError("rates: expected at least 3 increasing positive numbers, shape (R,)")
    if not torch.allclose(steps, steps[:1], rtol=1e-6):
        raise ValueError("rates: must increase by one factor; take torch.logspace")
    if not bool((losses > 0).all()):
        raise ValueError("losses: must be positive")
    least = losses.argmin(-1)
    if bool(((least == 0) | (least == len(rates) - 1)).any()):
        raise ValueError("losses: least at an end of the range; widen the rates")
    around = least.unsqueeze(-1) + torch.arange(-1, 2)
    low, mid, high = losses.log().gather(-1, around).unbind(-1)
    bend = low - 2 * mid + high
    shift = torch.where(bend > 0, 0.5 * (low - high) / bend.clamp_min(1e-300), 0.0)
    return (at[least] + shift * steps[0]).exp()
