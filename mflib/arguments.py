r"""Argument checks: one clear error that names the argument and the remedy."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "require_generator", "require_positive_int", "require_symmetric", "require_tensor",
]


def require_tensor(name: str, value: object, ndim: int, last: int | None = None) -> Tensor:
    r"""Return `value` if it is a finite real tensor of at least `ndim` dimensions.

    Parameters
    ----------
    name : str
        The argument's name, used in the message.
    value : Tensor
        The argument.
    ndim : int
        The least number of dimensions; further leading ones are batch dimensions.
    last : int, optional
        The required size of the last dimension.

    Returns
    -------
    Tensor
        The argument itself.

    Raises
    ------
    TypeError
        If it is no floating-point tensor.
    ValueError
        If it is empty, has too few dimensions, the wrong last size, NaN or infinity.
    """
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name}: expected a torch.Tensor, got {type(value).__name__}; "
            "convert it with torch.as_tensor(..., dtype=torch.float64)"
        )
    if not value.dtype.is_floating_point:
        raise TypeError(f"{name}: expected floating point, got {value.dtype}; call .double()")
    if value.ndim < ndim:
        raise ValueError(
            f"{name}: expected at least {ndim} dimensions, got shape {tuple(value.shape)}"
        )
    if value.numel() == 0:
        raise ValueError(f"{name}: is empty, shape {tuple(value.shape)}; pass at least one entry")
    if last is not None and value.shape[-1] != last:
        raise ValueError(
            f"{name}: last dimension is {value.shape[-1]}, expected {last}; "
            f"shape is {tuple(value.shape)}"
        )
    if not torch.isfinite(value).all():
        raise ValueError(f"{name}: holds NaN or infinity; remove or mask those entries first")
    return value


def require_symmetric(name: str, value: object) -> Tensor:
    r"""Return `value` if it is a symmetric matrix, or a batch of them (..., k, k).

    Raises
    ------
    TypeError, ValueError
        Otherwise; the message names the argument.
    """
    matrix = require_tensor(name, value, 2)
    if matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"{name}: shape {tuple(matrix.shape)} is not square")
    if not torch.allclose(matrix, matrix.mT):
        raise ValueError(f"{name}: is not symmetric; pass 0.5 * (S + S.mT)")
    return matrix


def require_positive_int(name: str, value: object) -> int:
    r"""Return `value` if it is an integer of at least 1.

    Raises
    ------
    ValueError
        Otherwise; the message names the argument.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}: expected an integer >= 1, got {value!r}")
    return value


def require_generator(generator: object) -> torch.Generator:
    r"""Return `generator` if it is a ``torch.Generator``; the book has no global seed.

    Raises
    ------
    TypeError
        Otherwise; the message shows how to make one.
    """
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            "generator: expected a torch.Generator, got "
            f"{type(generator).__name__}; pass torch.Generator().manual_seed(seed)"
        )
    return generator
