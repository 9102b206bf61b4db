r"""Digits on the sphere whose Gram matrix is well conditioned."""

from __future__ import annotations

import torch
from torch import Tensor

from .arguments import require_positive_int
from .digits import digits
from .kernels import population_gram

__all__ = ["conditioned_digits"]


def conditioned_digits(
    problems: int, n: int, d: int, floor: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    r"""Draw digits on the sphere, keep those with :math:`\lambda_{\min}(G_2)` large.

    Stiffness sets the cost of a training run; without the floor a few pairs of nearly
    equal images would decide everything. The labels are the digits' parity.

    Parameters
    ----------
    problems, n, d : int
        How many independent problems of how many images in how many dimensions.
    floor : float
        The smallest eigenvalue of :func:`~mflib.kernels.population_gram` that is kept.
    generator : torch.Generator
        The source of the draws.

    Returns
    -------
    x : Tensor
        Shape (problems, n, d), unit vectors.
    y : Tensor
        Shape (problems, n), labels +1 and -1.

    Raises
    ------
    ValueError
        If the floor is so high that 20 batches of draws do not fill the problems.
    """
    require_positive_int("problems", problems)
    kept: list[tuple[Tensor, Tensor]] = []
    found = 0
    for _ in range(20):
        x, y = digits(n, d, generator, sphere=True, batch=(16 * problems,))
        smallest = torch.linalg.eigvalsh(population_gram(x, nodes=20))[..., 0]
        kept.append((x[smallest > floor], y[smallest > floor]))
        found += len(kept[-1][0])
        if found >= problems:
            inputs, labels = (torch.cat(part) for part in zip(*kept, strict=True))
            return inputs[:problems], labels[:problems]
    raise ValueError(
        f"floor: only {found} of {problems} problems exceed {floor}; lower it or n"
    )
