r"""Real data measures :math:`\mu`: the bundled handwritten digits of scikit-learn."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .arguments import require_generator, require_positive_int

__all__ = ["digits"]

_LABELS = ("parity", "value")


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
) -> tuple[Tensor, Tensor]:
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
    """
    require_generator(generator)
    scores, target = _scores()
    for name, size, most in (("n", n, len(scores)), ("d", d, scores.shape[1])):
        require_positive_int(name, size)
        if size > most:
            raise ValueError(f"{name}: {size} is more than the {most} that the digits have")
    if labels not in _LABELS:
        raise ValueError(f"labels: {labels!r} is none of {', '.join(_LABELS)}")
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
    return x, y[draw]
