r"""Scrambled Sobol points of the Gaussian: initial measures of little noise."""

from __future__ import annotations

import torch
from torch import Tensor

from .arguments import require_generator, require_positive_int

__all__ = ["sobol_gaussian"]


def sobol_gaussian(
    points: int,
    dim: int,
    generator: torch.Generator,
    mirrored: int = 0,
    batch: tuple[int, ...] = (),
) -> Tensor:
    r"""Return scrambled Sobol points of :math:`N(0, I)`, one scrambling a batch entry.

    Parameters
    ----------
    points, dim : int
        The numbers N and k; a power of two serves the sequence best.
    generator : torch.Generator
        The source of the scrambling.
    mirrored : int
        If positive, N/2 points and their mirror images, the first `mirrored`
        coordinates with the opposite sign: the symmetrised start of chen2024's network.
    batch : tuple of int
        Leading batch dimensions.

    Returns
    -------
    Tensor
        Shape (batch..., N, k), float64; mass 1/N each.

    Raises
    ------
    TypeError, ValueError
        If a size is impossible, or odd when mirrored.
    """
    from scipy.stats import qmc

    require_generator(generator)
    require_positive_int("points", points)
    require_positive_int("dim", dim)
    if mirrored and (points % 2 or not 0 < mirrored <= dim):
        raise ValueError(
            f"mirrored: needs an even number of points and 0 < mirrored <= {dim}; "
            f"got {points} points, mirrored = {mirrored}"
        )
    half = points // 2 if mirrored else points
    count = int(torch.tensor(batch).prod()) if batch else 1
    seeds = torch.randint(2**31 - 1, (count,), generator=generator).tolist()
    rows = [
        torch.as_tensor(qmc.Sobol(dim, scramble=True, rng=s).random(half))
        for s in seeds
    ]
    uniform = torch.stack(rows).clamp(2.0**-40, 1.0 - 2.0**-40)
    gaussian = torch.special.ndtri(uniform).reshape(*batch, half, dim)
    if not mirrored:
        return gaussian
    flip = torch.ones(dim, dtype=torch.float64)
    flip[:mirrored] = -1.0
    return torch.cat([gaussian, gaussian * flip], -2)
