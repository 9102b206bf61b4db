r"""The rule of an equality at finite size."""

from __future__ import annotations

from typing import Any

import numpy as np

from .checks import INCONCLUSIVE, REFUTED, VERIFIED, Check, Outcome, finite, not_finite
from .evidence import ClaimError, as_array, in_pairs

__all__ = ["Identity"]

#: The largest tolerance of an equality: beyond, it is a limit or an approximation.
WIDEST = 0.01


class Identity(Check):
    r"""An equality at finite size, to rounding.

    ``measure(left, right)`` takes the largest relative error of an entry,
    :math:`|l_i - r_i| / |r_i|`; ``measure(error)`` takes errors as they are. An entry
    that should vanish is compared with the largest of its array. Small entries of a
    vector that suffer from cancellation ask for a norm, which is named.

    Parameters
    ----------
    name : str
        What equals what.
    tolerance : float
        Verified up to here, refuted beyond ten times it; at most .01.
    norm : {"all"} or int or tuple of int, optional
        Divide by the largest entry of the whole right side, or along these axes (one
        problem's vector in a batch), instead of by each entry itself.

    Examples
    --------
    >>> from mflib.claims import Claim
    >>> claim = Claim("X-1", paper="lu2020", where="w", kind="identity", statement="s")
    >>> a, b = [1e8, 1.0], [1e8, 2.0]
    >>> claim.predict(Identity("each entry", 1e-6)).measure(a, b)
    >>> claim.checks[0].verdict
    'refuted'
    """

    kind = "identity"
    carries = ("identity",)

    def __init__(
        self, name: str, tolerance: float, norm: str | int | tuple[int, ...] | None = None
    ) -> None:
        super().__init__(name)
        axes = norm if isinstance(norm, tuple) else (norm,)
        if norm not in (None, "all") and not all(type(axis) is int for axis in axes):
            raise ClaimError(f"norm: {norm!r} is none of None, 'all', an axis, several axes")
        self.tolerance = finite("tolerance", tolerance, positive=True)
        if self.tolerance > WIDEST:
            raise ClaimError(f"tolerance: {tolerance} is no equality; at most {WIDEST}")
        self.norm = norm
        self.predicted = 0.0

    def _scale(self, right: np.ndarray) -> np.ndarray | float:
        size = np.abs(right)
        if self.norm is None:
            scale = np.where(size > 0, size, size.max())
        elif self.norm == "all":
            scale = size.max()
        else:
            try:
                scale = size.max(axis=self.norm, keepdims=True)
            except (ValueError, IndexError) as error:
                raise ClaimError(f"norm: {self.norm!r} on shape {right.shape} ({error})") from None
        return np.where(scale > 0, scale, 1.0)

    def _judge(self, left: Any, right: Any = None, control: bool = False) -> Outcome:
        if right is None:
            error = np.abs(as_array("left", left))
        else:
            left, right = in_pairs(left, right)
            if not (np.isfinite(left).all() and np.isfinite(right).all()):
                return not_finite("a side")
            scale = self._scale(right)
            with np.errstate(over="ignore"):
                error = np.abs(left / scale - right / scale)
                error = np.where(np.isfinite(error), error, np.finfo(float).max)
        if not np.isfinite(error).all():
            return not_finite("the error")
        worst = float(error.max())
        details = {"cases": int(error.size)}
        if self.norm is not None:
            details["norm"] = self.norm
        if worst <= self.tolerance:
            return Outcome(VERIFIED, worst, None, "within the tolerance", details)
        if worst > 10 * self.tolerance:
            return Outcome(REFUTED, worst, None, "beyond ten times the tolerance", details)
        return Outcome(INCONCLUSIVE, worst, None, "just beyond the tolerance", details)
