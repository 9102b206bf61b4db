r"""Weights that are random in depth: fractional noise of a given Hurst exponent.

The increments of fractional Brownian motion over equal steps, scaled to variance 1, have

.. math::

    \mathbb E\, \xi_k \xi_{k+r} = \tfrac12\big(|r+1|^{2H} - 2|r|^{2H} + |r-1|^{2H}\big).

For :math:`H = 1/2` they are independent; for larger H neighbours are alike (marion2025).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import (
    require_batch,
    require_generator,
    require_number,
    require_positive_int,
)

__all__ = ["fractional_covariance", "fractional_noise"]


def fractional_covariance(L: int, H: float) -> Tensor:
    r"""Return the covariance of L steps of fractional noise, shape (L, L).

    Parameters
    ----------
    L : int
        The number of steps.
    H : float
        The Hurst exponent, above 0 and below 1.

    Raises
    ------
    ValueError
        If a number is impossible.

    Examples
    --------
    >>> fractional_covariance(2, 0.5)
    tensor([[1., 0.],
            [0., 1.]], dtype=torch.float64)
    """
    require_positive_int("L", L)
    if require_number("H", H, above=0) >= 1:
        raise ValueError(f"H: expected a Hurst exponent below 1, got {H!r}")
    r = torch.arange(L, dtype=torch.float64)
    lag = (r[:, None] - r).abs()
    power = 2.0 * H
    return 0.5 * ((lag + 1) ** power - 2 * lag**power + (lag - 1).abs() ** power)


def fractional_noise(
    L: int, H: float, generator: torch.Generator, batch: tuple[int, ...] = ()
) -> Tensor:
    r"""Draw paths of fractional noise, shape (L, batch...), independent over the batch.

    Parameters
    ----------
    L : int
        The number of steps.
    H : float
        The Hurst exponent, above 0 and below 1.
    generator : torch.Generator
        The source of randomness.
    batch : tuple of int
        The dimensions behind the steps: entries of a weight matrix, networks.

    Raises
    ------
    TypeError, ValueError
        If an argument is impossible.

    Examples
    --------
    >>> fractional_noise(5, 0.7, torch.Generator().manual_seed(0), (2, 3)).shape
    torch.Size([5, 2, 3])
    """
    require_generator(generator)
    root = torch.linalg.cholesky(fractional_covariance(L, H))
    shape = (L, *require_batch(batch))
    white = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (root @ white.reshape(L, -1)).reshape(shape)
