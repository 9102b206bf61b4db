r"""Real data measures :math:`\mu`: the bundled handwritten digits of scikit-learn."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .arguments import require_batch, require_choice, require_generator, require_int, require_number
from .kernels import population_gram

__all__ = ["Labelled", "conditioned_digits", "digits"]


class Labelled(NamedTuple):
    """Inputs of shape (batch..., n, d) with their labels (batch..., n), mass 1/n each."""

    x: Tensor
    y: Tensor


@lru_cache(maxsize=None)
def _scores() -> tuple[Tensor, Tensor]:
    """All principal component scores (1797, 61) of the standardised digits, and digits."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = torch.as_tensor(bunch.data, dtype=torch.float64)
    pixels = pixels[:, pixels.std(0) > 0]
    pixels = (pixels - pixels.mean(0)) / pixels.std(0)
    u, s, vt = torch.linalg.svd(pixels, full_matrices=False)
    # a singular vector's sign is arbitrary: fix it by its largest entry
    sign = torch.sign(torch.gather(vt, 1, vt.abs().argmax(1, keepdim=True))).squeeze(1)
    return u * s * sign, torch.as_tensor(bunch.target)


def digits(
    n: int,
    d: int,
    generator: torch.Generator,
    sphere: bool = False,
    labels: str = "parity",
    batch: tuple[int, ...] = (),
) -> Labelled:
    r"""Draw `n` of the 1797 handwritten digits, reduced to `d` dimensions.

    The 8 x 8 images are standardised pixel by pixel, projected on their first `d`
    principal components, and divided by one common number so that a coordinate has
    mean square 1 over the whole set.

    Parameters
    ----------
    n : int
        Images to draw, without replacement, at most 1797.
    d : int
        Dimensions to keep, at most 61 (three pixels are constant).
    generator : torch.Generator
        The source of randomness.
    sphere : bool
        Divide every input by its norm, as chen2024 assumes.
    labels : {"parity", "value"}
        Targets: +1 for odd and -1 for even digits, or the digit standardised to mean 0
        and variance 1 over the whole set.
    batch : tuple of int
        Leading batch dimensions, an independent draw each.

    Returns
    -------
    x : Tensor
        Shape (batch..., n, d), float64; mass 1/n each.
    y : Tensor
        Shape (batch..., n).

    Raises
    ------
    TypeError, ValueError
        If a size is impossible, `labels` unknown, or `generator` is none.

    Examples
    --------
    >>> x, y = digits(5, 3, torch.Generator().manual_seed(0), sphere=True, batch=(2,))
    >>> x.shape, y.shape
    (torch.Size([2, 5, 3]), torch.Size([2, 5]))
    """
    require_generator(generator)
    require_choice("labels", labels, ("parity", "value"))
    require_batch(batch)
    scores, target = _scores()
    require_int("n", n, 1, len(scores))
    require_int("d", d, 1, scores.shape[1])
    draw = torch.rand(*batch, len(scores), generator=generator).argsort(-1)[..., :n]
    x = scores[:, :d]
    x = (x / x.square().mean().sqrt())[draw]
    if sphere:
        x = x / x.norm(dim=-1, keepdim=True)
    value = target.double()
    if labels == "parity":
        y = 2.0 * (value % 2) - 1.0
    else:
        y = (value - value.mean()) / value.std()
    return Labelled(x, y[draw])


def conditioned_digits(
    n: int,
    d: int,
    floor: float,
    generator: torch.Generator,
    batch: tuple[int, ...] = (),
) -> Labelled:
    r"""Draw digits on the sphere whose Gram matrix has no eigenvalue below a floor.

    The smallest eigenvalue of the infinitely wide Gram matrix :math:`G_2` sets the time that
    training takes, and two nearly equal images make it tiny. Draws below the floor are
    discarded. The labels are the digits' parity.

    Parameters
    ----------
    n, d : int
        How many images in how many dimensions.
    floor : float
        The smallest eigenvalue of :func:`~mflib.kernels.population_gram` that is kept.
    generator : torch.Generator
        The source of the draws.
    batch : tuple of int
        Leading batch dimensions, an independent problem each.

    Returns
    -------
    x : Tensor
        Shape (batch..., n, d), unit vectors.
    y : Tensor
        Shape (batch..., n), labels +1 and -1.

    Raises
    ------
    ValueError
        If the floor is so high that 20 batches of draws do not fill the problems.

    Examples
    --------
    >>> x, y = conditioned_digits(4, 3, 0.1, torch.Generator().manual_seed(0), (2,))
    >>> bool((torch.linalg.eigvalsh(population_gram(x)) > 0.09).all())
    True
    """
    require_number("floor", floor)
    problems = math.prod(require_batch(batch))
    kept: list[tuple[Tensor, Tensor]] = []
    found = 0
    for _ in range(20):
        x, y = digits(n, d, generator, sphere=True, batch=(16 * problems,))
        smallest = torch.linalg.eigvalsh(population_gram(x, nodes=20))[..., 0]
        kept.append((x[smallest > floor], y[smallest > floor]))
        found += len(kept[-1][0])
        if found >= problems:
            inputs, labels = (torch.cat(part) for part in zip(*kept, strict=True))
            x, y = inputs[:problems], labels[:problems]
            return Labelled(x.reshape(*batch, n, d), y.reshape(*batch, n))
    raise ValueError(f"floor: only {found} of {problems} problems exceed {floor}; lower it or n")
