r"""What a check is given: real numbers, shapes that agree, and no literals.

A measurement is computed. What can be told from a distance is refused here: complex
numbers, masks, text, truth values, arrays that only broadcasting would make comparable,
numbers typed into the call, and a quantity compared with itself.
"""

from __future__ import annotations

import ast
import hashlib
import linecache
import numbers
import textwrap
from types import FrameType
from typing import Any

import numpy as np

__all__ = ["ClaimError", "as_array", "digest", "in_pairs", "rows_of", "suspicion"]


class ClaimError(ValueError):
    """A claim was used out of order, or with impossible arguments."""


#: Calls that wrap a typed number without computing anything.
_WRAPPERS = {
    "Decimal",
    "Fraction",
    "array",
    "as_tensor",
    "asarray",
    "double",
    "float",
    "float64",
    "full",
    "int",
    "mpf",
    "mpi",
    "ones",
    "tensor",
    "zeros",
}


def _real(name: str, value: Any) -> float:
    """Return one entry of an object array as a float; too large a number is infinite."""
    if isinstance(value, (bool, np.bool_, str, bytes, complex, np.complexfloating)):
        raise ClaimError(f"{name}: {value!r} is no real number")
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ClaimError(f"{name}: cannot be read as numbers ({error})") from None


def as_array(name: str, values: Any) -> np.ndarray:
    r"""Return values (tensor, array, list or number) as a float64 array, never empty.

    Parameters
    ----------
    name : str
        What the error message calls them.
    values : tensor, array, number or sequence of these
        Real numbers; fractions and big integers are rounded, what is too large for a
        float is infinite.

    Returns
    -------
    ndarray

    Raises
    ------
    ClaimError
        If they are empty, complex, masked, text or truth values, or of ragged shape.
    """
    if isinstance(values, (list, tuple)):
        for value in values:
            if np.ma.isMaskedArray(value):
                raise ClaimError(f"{name}: is masked; give the entries that were measured")
        values = [v.detach().cpu().numpy() if hasattr(v, "detach") else v for v in values]
    elif hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    if np.ma.isMaskedArray(values):
        raise ClaimError(f"{name}: is masked; give the entries that were measured")
    try:
        raw = np.asarray(values)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ClaimError(f"{name}: cannot be read as numbers ({error})") from None
    if raw.size == 0:
        raise ClaimError(f"{name}: is empty; measure at least one value")
    if raw.dtype.kind == "O":
        return np.array([_real(name, v) for v in raw.ravel()]).reshape(raw.shape)
    if raw.dtype.kind not in "iuf":
        raise ClaimError(f"{name}: real numbers are needed, got {raw.dtype}")
    return raw.astype(np.float64)


def in_pairs(left: Any, right: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return both sides in one shape; one side may be spread over the other, not both.

    Raises
    ------
    ClaimError
        If broadcasting would make more pairs than either side has entries: (n,) against
        (n, 1) compares everything with everything.
    """
    left, right = as_array("left", left), as_array("right", right)
    try:
        shape = np.broadcast_shapes(left.shape, right.shape)
    except ValueError:
        shape = None
    if shape is None or np.prod(shape) > max(left.size, right.size):
        raise ClaimError(
            f"left, right: shapes {left.shape} and {right.shape} are no pairs; reshape one"
        )
    return np.broadcast_to(left, shape), np.broadcast_to(right, shape)


def rows_of(values: np.ndarray, clusters: Any, power: int | None) -> np.ndarray:
    r"""Return one row for each cluster: the average of the rows that share it.

    Parameters
    ----------
    values : ndarray
        Shape (S, ...).
    clusters : sequence or None
        Shape (S,), the independent unit (problem, data set) that each row belongs to;
        None: every row is one.
    power : int or None
        Averages :math:`|E|^p`, its logarithm for 0, and the value itself for None.

    Returns
    -------
    ndarray
        Shape (clusters, ...).

    Raises
    ------
    ClaimError
        If there is not one label a row.
    """
    if clusters is None:
        return values
    if hasattr(clusters, "detach"):
        clusters = clusters.detach().cpu().numpy()
    labels = np.asarray(clusters)
    if labels.shape != (len(values),):
        raise ClaimError(
            f"clusters: one label a row is needed, got {labels.shape} for {len(values)} rows"
        )
    _, place = np.unique(labels, return_inverse=True)
    member = np.equal.outer(np.arange(place.max() + 1), place)
    weight = member / member.sum(1, keepdims=True)
    if power is None:
        return weight @ values
    size = np.abs(values)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        if power == 0:
            return np.exp(weight @ np.log(size))
        top = size.max(0)
        top = np.where(top > 0, top, 1.0)
        return top * (weight @ (size / top) ** power) ** (1.0 / power)


def _numbers(given: Any) -> bytes:
    """Return the numbers of an argument as bytes, whatever holds them."""
    if given is None or isinstance(given, (str, bool)):
        return repr(given).encode()
    if hasattr(given, "a") and hasattr(given, "b"):  # an interval of mpmath
        return f"{given.a}{given.b}".encode()
    try:
        return as_array("measurement", given).tobytes()
    except ClaimError:
        return repr(given).encode()


def digest(given: tuple, named: dict[str, Any]) -> str:
    """Return a fingerprint of a measurement's numbers, equal for equal numbers."""
    mark = hashlib.sha256()
    for part in (*given, *(named[key] for key in sorted(named))):
        mark.update(_numbers(part) + b"|")
    return mark.hexdigest()


def _typed(node: ast.AST) -> bool:
    """Whether an expression only spells out numbers."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, (numbers.Number, type(None)))
    if isinstance(node, ast.UnaryOp):
        return _typed(node.operand)
    if isinstance(node, ast.BinOp):
        return _typed(node.left) and _typed(node.right)
    if isinstance(node, (ast.List, ast.Tuple)):
        return all(map(_typed, node.elts))
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", None))
        return name in _WRAPPERS and bool(node.args) and all(map(_typed, node.args))
    return False


def _call(frame: FrameType | None) -> ast.Call | None:
    """Return the call that a frame is executing, as written; None where it is unknown."""
    if frame is None or not hasattr(frame.f_code, "co_positions"):
        return None
    places = list(frame.f_code.co_positions())
    start, end, first, last = places[frame.f_lasti // 2]
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)
    if None in (start, end, first, last) or not lines[start - 1 : end]:
        return None
    words = [line.encode() for line in lines[start - 1 : end]]
    words[-1] = words[-1][:last]
    words[0] = words[0][first:]
    source = textwrap.dedent(b"".join(words).decode(errors="replace"))
    try:
        node = ast.parse(source.strip(), mode="eval").body
    except SyntaxError:
        return None
    return node if isinstance(node, ast.Call) else None


def suspicion(given: tuple, frame: FrameType | None) -> str | None:
    """Return why a measurement is none, as far as its call shows; None if nothing is seen.

    Parameters
    ----------
    given : tuple
        The arguments.
    frame : frame
        Where ``measure`` was called.

    Returns
    -------
    str or None
        *a literal* for numbers typed into the call, *compared with itself* for one
        object on both sides.
    """
    # equal plain numbers may be one object, an array or a fraction is not by chance
    if len(given) == 2 and given[0] is given[1] and not isinstance(given[0], (int, float)):
        return "a quantity compared with itself"
    call = _call(frame)
    written = [*call.args, *(word.value for word in call.keywords)] if call else []
    if written and all(map(_typed, written)):
        return "a literal, nothing was measured"
    return None
