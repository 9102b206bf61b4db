r"""A student with a dormant feature, in interval arithmetic (lu2020, Theorem 3).

Two features, blocks :math:`\sigma(\theta x)` with rows of norm at most R, and the student
:math:`\rho = \delta_A \otimes dt`,

.. math::

    A = \begin{pmatrix} R & 0 \\ a & 0 \end{pmatrix}, \qquad
    X^{l+1} = X^l + \tfrac1L \sigma(A X^l), \quad X^0 = (x, 0).

For a = 0 and :math:`\sigma(0) = 0` the second feature sleeps. Every number here is an
enclosure: sums of floats are rounded outward, and what is exactly zero stays so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mpmath import iv

from ..arguments import require_instance, require_number, require_positive_int

__all__ = ["LINEAR", "SHIFTED_SIGMOID", "DormantGap", "IntervalActivation", "dormant_gap"]


class IntervalActivation(NamedTuple):
    """An increasing activation and its slope, both for enclosures."""

    f: Callable[[Any], Any]
    df: Callable[[Any], Any]


def _shifted_sigmoid(z: Any) -> Any:
    # e^-1 (1 - e^-z) / ((1 + e^-1)(1 + e^(-z-1))): exactly 0 at 0
    return iv.exp(-1) * (1 - iv.exp(-z)) / ((1 + iv.exp(-1)) * (1 + iv.exp(-z - 1)))


def _shifted_sigmoid_slope(z: Any) -> Any:
    e = iv.exp(-(z + 1))
    return (1 / (1 + e)) * (1 / (1 + 1 / e))


LINEAR = IntervalActivation(lambda z: z, lambda z: iv.mpf(1))
SHIFTED_SIGMOID = IntervalActivation(_shifted_sigmoid, _shifted_sigmoid_slope)


class DormantGap(NamedTuple):
    r"""Enclosures of the gap and of the loss.

    Attributes
    ----------
    gap : interval
        Holds :math:`\min_{\theta, l} \Phi_l(\theta) - \Phi_l(A)` over all rows of norm at
        most R. Its upper end belongs to a parameter that was tried.
    loss : interval
        Holds the student's loss.
    """

    gap: Any
    loss: Any


def _layer(sigma: IntervalActivation, rows: Sequence, X: tuple, h: Any) -> tuple:
    return tuple(v + h * sigma.f(r[0] * X[0] + r[1] * X[1]) for v, r in zip(X, rows, strict=True))


def _states(sigma: IntervalActivation, rows: Sequence, x: float, layers: int) -> list[tuple]:
    path = [(iv.mpf(x), iv.mpf(0))]
    for _ in range(layers):
        path.append(_layer(sigma, rows, path[-1], iv.mpf(1) / layers))
    return path


def _costates(sigma: IntervalActivation, rows: Sequence, path: list, residual: Any) -> list:
    h, p = iv.mpf(1) / (len(path) - 1), [(residual, iv.mpf(0))]
    for X in path[-2::-1]:
        pull = [q * sigma.df(r[0] * X[0] + r[1] * X[1]) for q, r in zip(p[-1], rows, strict=True)]
        p.append(
            tuple(
                p[-1][j] + h * sum(c * r[j] for c, r in zip(pull, rows, strict=True))
                for j in (0, 1)
            )
        )
    return p[::-1]


def _hull(a: Any, b: Any) -> Any:
    return iv.mpf([min(a.a, b.a), max(a.b, b.b)])


def _change(sigma: IntervalActivation, rows: Sequence, tried: Sequence, X: tuple, p: tuple) -> Any:
    """Return p . (f(X, tried) - f(X, rows)), by the mean value theorem."""
    total = iv.mpf(0)
    for q, old, new in zip(p, rows, tried, strict=True):
        step = (new[0] - old[0]) * X[0] + (new[1] - old[1]) * X[1]
        z = _hull(old[0] * X[0] + old[1] * X[1], new[0] * X[0] + new[1] * X[1])
        total += q * sigma.df(z) * step
    return total


def dormant_gap(
    sigma: IntervalActivation,
    x: Sequence[float],
    teacher: Sequence[Sequence[float]],
    radius: float,
    awake: float = 0.0,
    layers: int = 16,
) -> DormantGap:
    r"""Return how much lower than at the student the first variation gets, enclosed.

    .. math::

        \min_{\theta, l}\ \mathbb E\, p^{l+1} \cdot
            \big(\sigma(\theta X^l) - \sigma(A X^l)\big),

    the smallest :math:`\langle \Phi, \nu - \rho \rangle` per mass moved at its own depth;
    without a negative value there is no descent direction with the student's depth
    marginal. By the mean value theorem the difference is an enclosure of
    :math:`\mathbb E\, p\, \sigma'(\cdot)` times an increment that is exactly 0 at the
    student, so that the lower end over a whole box of parameters can be exactly 0.

    Parameters
    ----------
    sigma : IntervalActivation
        Increasing, with :math:`\sigma(0) = 0`.
    x : sequence of float
        Positive inputs, of equal mass.
    teacher : sequence of two rows
        A matrix; its network's first feature is the target.
    radius : float
        R > 0.
    awake : float
        The entry a.
    layers : int
        L.

    Returns
    -------
    DormantGap

    Raises
    ------
    ValueError
        If there is no input, or one is not positive, or R or L is not.

    Examples
    --------
    >>> asleep = dormant_gap(LINEAR, [1.0, 2.0], [[1.4, 1.4], [1.4, 1.4]], 2.0)
    >>> bool(asleep.gap == 0 and asleep.loss > 0)
    True
    """
    require_instance("sigma", sigma, IntervalActivation)
    if not isinstance(x, (tuple, list)):
        raise TypeError(f"x: expected a list of positive inputs, got {x!r}")
    if not x:
        raise ValueError("x: is empty; pass at least one input")
    for v in x:
        require_number("x", v, above=0)
    if not isinstance(teacher, (tuple, list)) or len(teacher) != 2:
        raise TypeError(f"teacher: expected two rows, got {teacher!r}")
    for row in teacher:
        if not isinstance(row, (tuple, list)) or len(row) != 2:
            raise TypeError(f"teacher: expected rows of two numbers, got {row!r}")
        for v in row:
            require_number("teacher", v)
    require_number("radius", radius, above=0)
    require_number("awake", awake)
    require_positive_int("layers", layers)
    R, zero = iv.mpf(radius), iv.mpf(0)
    student = ((R, zero), (iv.mpf(awake), zero))
    target = [[iv.mpf(v) for v in row] for row in teacher]
    paths = [_states(sigma, student, v, layers) for v in x]
    residuals = [
        path[-1][0] - _states(sigma, target, v, layers)[-1][0]
        for path, v in zip(paths, x, strict=True)
    ]
    costates = [_costates(sigma, student, X, r) for X, r in zip(paths, residuals, strict=True)]
    box = iv.mpf([-radius, radius])
    tilted = [
        ((R * iv.cos(angle), R * iv.sin(angle)), student[1])
        for angle in (sign * 0.5**k for k in range(8) for sign in (1, -1))
    ]

    def gap(tried: Sequence, layer: int) -> Any:
        parts = (
            _change(sigma, student, tried, X[layer], p[layer + 1])
            for X, p in zip(paths, costates, strict=True)
        )
        return sum(parts, zero) / len(x)

    everywhere = [gap(((box, box), (box, box)), layer) for layer in range(layers)]
    found = [gap(tried, layer).b for tried in (student, *tilted) for layer in range(layers)]
    loss = sum((r**2 for r in residuals), zero) / (2 * len(x))
    return DormantGap(iv.mpf([min(g.a for g in everywhere), min(found)]), loss)
