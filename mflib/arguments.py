r"""Argument checks: one clear error that names the argument and the remedy.

They stand at the door: in constructors and in functions that a reader calls. Inner kernels
such as the methods of :class:`~mflib.blocks.Block` trust what comes through it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = [
    "require_alike",
    "require_batch",
    "require_broadcast",
    "require_callable",
    "require_choice",
    "require_generator",
    "require_instance",
    "require_int",
    "require_masses",
    "require_number",
    "require_positive_int",
    "require_symmetric",
    "require_tensor",
]

T = TypeVar("T")


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

    Examples
    --------
    >>> require_tensor("x", torch.ones(3), 2)
    Traceback (most recent call last):
    ValueError: x: expected at least 2 dimensions, got shape (3,)
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


def require_masses(name: str, value: object, count: int) -> Tensor:
    r"""Return `value` if it holds `count` non-negative masses of sum 1, shape (..., count).

    Raises
    ------
    TypeError, ValueError
        Otherwise; the message names the argument.
    """
    masses = require_tensor(name, value, 1, last=count)
    room = 1e-9 if masses.dtype == torch.float64 else 1e-5
    if bool((masses < 0).any()) or not bool(((masses.sum(-1) - 1).abs() <= room).all()):
        raise ValueError(f"{name}: must be non-negative and sum to 1; divide by the sum")
    return masses


def require_alike(**tensors: Tensor | None) -> torch.dtype:
    r"""Return the one dtype of the tensors given by name; None is skipped.

    Raises
    ------
    TypeError
        If two differ; the message names the second.

    Examples
    --------
    >>> require_alike(x=torch.ones(1), theta=torch.ones(1).double())
    Traceback (most recent call last):
    TypeError: theta: is torch.float64, x is torch.float32; convert one of them
    """
    known = {name: value for name, value in tensors.items() if value is not None}
    for name, other in known.items():
        if not isinstance(other, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(other).__name__}")
    (first, value), *rest = known.items()
    for name, other in rest:
        if other.dtype != value.dtype:
            raise TypeError(
                f"{name}: is {other.dtype}, {first} is {value.dtype}; convert one of them"
            )
    return value.dtype


def require_broadcast(**shapes: Iterable[int]) -> torch.Size:
    r"""Return the common shape of the batches given by name.

    Raises
    ------
    ValueError
        If a batch does not fit those before it; the message names it.

    Examples
    --------
    >>> require_broadcast(x=(3, 1), rho=(2,))
    torch.Size([3, 2])
    """
    whole, seen = torch.Size(), ""
    for name, shape in shapes.items():
        try:
            shape = torch.Size(shape)
            # torch's own check takes 50 times as long as the usual answers
            if shape != whole:
                whole = torch.broadcast_shapes(whole, shape) if whole and shape else whole or shape
        except RuntimeError:
            raise ValueError(
                f"{name}: its batch {tuple(shape)} does not fit {tuple(whole)} of {seen}"
            ) from None
        seen = f"{seen} and {name}" if seen else name
    return whole


def require_int(name: str, value: object, least: int, most: int | None = None) -> int:
    r"""Return `value` if it is an integer between `least` and `most`.

    Raises
    ------
    ValueError
        Otherwise; the message names the argument.
    """
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not fits or (most is not None and value > most):
        upper = "" if most is None else f" and <= {most}"
        raise ValueError(f"{name}: expected an integer >= {least}{upper}, got {value!r}")
    return value


def require_positive_int(name: str, value: object) -> int:
    r"""Return `value` if it is an integer of at least 1.

    Raises
    ------
    ValueError
        Otherwise; the message names the argument.
    """
    return require_int(name, value, 1)


def require_number(
    name: str,
    value: object,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
) -> float:
    r"""Return `value` as a float if it is a finite real number within the bounds.

    Parameters
    ----------
    name : str
        The argument's name, used in the message.
    value : float
        The argument.
    above, least, most : float, optional
        It must be larger than `above`, at least `least`, at most `most`.

    Raises
    ------
    ValueError
        Otherwise; the message names the argument.

    Examples
    --------
    >>> require_number("radius", -1.0, above=0)
    Traceback (most recent call last):
    ValueError: radius: expected a finite number > 0, got -1.0
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in ((">", above), (">=", least), ("<=", most))
        if bound is not None
    ]
    if not (
        number
        and math.isfinite(value)
        and (above is None or value > above)
        and (least is None or value >= least)
        and (most is None or value <= most)
    ):
        wanted = " ".join(["a finite number", " and ".join(bounds)]).rstrip()
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")
    return float(value)


def require_choice(name: str, value: object, choices: Iterable[T]) -> T:
    r"""Return `value` if it is one of the choices.

    Raises
    ------
    ValueError
        Otherwise; the message lists them.
    """
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return choice
    listed = ", ".join(map(repr, choices))
    raise ValueError(f"{name}: expected one of {listed}, got {value!r}")


def require_instance(name: str, value: Any, kind: type[T]) -> T:
    r"""Return `value` if it is an instance of the class `kind`.

    Raises
    ------
    TypeError
        Otherwise; the message names the argument.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected a {kind.__name__}, got {type(value).__name__}")
    return value


def require_callable(name: str, value: T) -> T:
    r"""Return `value` if it can be called.

    Raises
    ------
    TypeError
        Otherwise; the message names the argument.
    """
    if not callable(value):
        raise TypeError(f"{name}: expected a function, got {type(value).__name__}")
    return value


def require_batch(batch: object) -> tuple[int, ...]:
    r"""Return `batch` if it is a tuple of positive integers, the leading dimensions.

    Raises
    ------
    TypeError, ValueError
        Otherwise.
    """
    if not isinstance(batch, (tuple, list)):
        raise TypeError(
            f"batch: expected a tuple of sizes, got {type(batch).__name__}; pass (size,)"
        )
    return tuple(require_positive_int("batch", size) for size in batch)


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
