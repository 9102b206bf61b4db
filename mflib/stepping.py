r"""Explicit one-step methods for :math:`\dot q = v(q)`, for tensors and for tuples of them.

A Runge-Kutta step needs two operations: velocities are added and scaled, and a state is
moved along a velocity. A tensor has both. A :class:`State` is several tensors that have
them together, with a step size of its own for each entry of a batch. Flows in depth,
gradient flows in training time and propagators take the same step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, ClassVar

import torch
from torch import Tensor

from .arguments import require_callable, require_number, require_positive_int, require_tensor

__all__ = [
    "METHODS",
    "State",
    "Tableau",
    "chebyshev_step",
    "runge_kutta_stages",
    "runge_kutta_step",
    "tableau",
]


@dataclass(frozen=True)
class Tableau:
    r"""An explicit Runge-Kutta method, Butcher's table.

    .. math::

        q_s = q + h \sum_{j < s} a_{sj}\, v(q_j), \qquad
        q^+ = q + h \sum_s b_s\, v(q_s).

    Attributes
    ----------
    a : tuple of tuple of float
        Row s holds the s coefficients :math:`a_{sj}` of stage s.
    b : tuple of float
        The weights, sum 1.
    c : tuple of float
        The stage times :math:`c_s = \sum_j a_{sj}` in units of the step.
    order : int
        The order of the method.
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    order: int


#: The one-step methods, by name.
METHODS: dict[str, Tableau] = {
    "euler": Tableau(((),), (1.0,), (0.0,), 1),
    "midpoint": Tableau(((), (0.5,)), (0.0, 1.0), (0.0, 0.5), 2),
    "rk4": Tableau(
        ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
        (0.0, 0.5, 0.5, 1.0),
        4,
    ),
}


def tableau(method: str) -> Tableau:
    r"""Return the table of the method called `method`.

    Raises
    ------
    ValueError
        If there is no such method; the message lists those that exist.

    Examples
    --------
    >>> tableau("midpoint").order
    2
    """
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"method: no {method!r}; choose one of {', '.join(METHODS)}")
    return METHODS[method]


class State:
    r"""Several tensors that move together: they add, and scale by a step size.

    A subclass is a dataclass that lists its tensors in `inner`. Sums and multiples are
    taken tensor by tensor; a tensor that is None stays None, and a field that is not listed
    falls back to its default. A step size is a number, or a tensor of one number a batch
    entry; it stands on the left of all inner dimensions.

    Attributes
    ----------
    inner : dict of str to int
        For each tensor the number of its last dimensions that are no batch dimensions.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Pair(State):
    ...     inner = {"a": 2, "b": 1}
    ...     a: Tensor
    ...     b: Tensor
    >>> ones = Pair(torch.ones(2, 3, 4), torch.ones(2, 3))  # a batch of two
    >>> moved = ones + ones * torch.tensor([1.0, 2.0])
    >>> moved.b
    tensor([[2., 2., 2.],
            [3., 3., 3.]])
    """

    inner: ClassVar[dict[str, int]] = {}

    def _each(self, change: Callable[[str, Tensor], Tensor]) -> Any:
        parts = {name: getattr(self, name) for name in self.inner}
        return type(self)(
            **{
                name: None if value is None else change(name, value)
                for name, value in parts.items()
            }
        )

    def __add__(self, other: State) -> Any:
        return self._each(lambda name, value: value + getattr(other, name))

    def __sub__(self, other: State) -> Any:
        return self._each(lambda name, value: value - getattr(other, name))

    def __mul__(self, h: Tensor | float) -> Any:
        def scaled(name: str, value: Tensor) -> Tensor:
            if not isinstance(h, Tensor):
                return value * h
            return value * h.to(value.dtype)[(..., *(None,) * self.inner[name])]

        return self._each(scaled)

    __rmul__ = __mul__

    def __getitem__(self, index: Any) -> Any:
        """Return the members `index` of the first batch dimension."""
        return self._each(lambda name, value: value[index])

    def put(self, index: Tensor, members: Any) -> Any:
        """Return the batch with `members` in place of the members `index`."""
        return self._each(lambda name, value: value.index_copy(0, index, getattr(members, name)))

    def where(self, mask: Tensor, other: State) -> Any:
        """Return this state where `mask`, one truth value a batch entry, is true, else `other`."""
        return self._each(
            lambda name, value: torch.where(
                mask[(..., *(None,) * self.inner[name])], value, getattr(other, name)
            )
        )


def _combined(row: tuple[float, ...], slopes: list[Any]) -> Any:
    return reduce(add, [slope * c for c, slope in zip(row, slopes, strict=True) if c])


def _sequence(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{name}: expected a callable or a sequence, got {type(value).__name__}")
    return value


def _require_step(h: Any) -> None:
    if isinstance(h, Tensor):
        require_tensor("h", h, 0)
    else:
        require_number("h", h)


def runge_kutta_stages(
    velocity: Callable[[Any], Any] | Sequence[Callable[[Any], Any]],
    state: Any,
    h: Tensor | float,
    method: str = "rk4",
    first: Any = None,
) -> tuple[Any, list[Any]]:
    r"""Take one explicit Runge-Kutta step, and return its stages too.

    Arguments as in :func:`runge_kutta_step`.

    Returns
    -------
    end : Tensor or State
        The state after the step.
    stages : list of Tensor or State
        The states :math:`q_s` at which the velocity was taken.
    """
    table = tableau(method)
    if callable(velocity):
        each = [velocity] * len(table.b)
    else:
        each = [require_callable("velocity", v) for v in _sequence("velocity", velocity)]
        if len(each) != len(table.b):
            raise ValueError(
                f"velocity: {len(each)} callables for the {len(table.b)} stages of {method}"
            )
    _require_step(h)
    stages, slopes = [state], [each[0](state) if first is None else first]
    for v, row in zip(each[1:], table.a[1:], strict=True):
        stages.append(state + _combined(row, slopes) * h)
        slopes.append(v(stages[-1]))
    return state + _combined(table.b, slopes) * h, stages


def runge_kutta_step(
    velocity: Callable[[Any], Any] | Sequence[Callable[[Any], Any]],
    state: Any,
    h: Tensor | float,
    method: str = "rk4",
    first: Any = None,
) -> Any:
    r"""Return the state after one explicit Runge-Kutta step.

    Parameters
    ----------
    velocity : callable, or a sequence of callables
        Maps a state to its velocity; a sequence has one callable a stage, for a velocity
        that changes with time.
    state : Tensor or State
        Where the step begins.
    h : Tensor or float
        The step; for a :class:`State` one number or one a batch entry.
    method : {"euler", "midpoint", "rk4"}
        The tableau.
    first : Tensor or State, optional
        The velocity at the start, if it is known.

    Raises
    ------
    ValueError
        If there is no such method.

    Examples
    --------
    One step multiplies by the Taylor polynomial of the exponential:

    >>> runge_kutta_step(lambda q: -q, torch.ones(1), 0.5, "midpoint")
    tensor([0.6250])
    """
    return runge_kutta_stages(velocity, state, h, method, first)[0]


def chebyshev_step(
    velocity: Callable[[Any], Any],
    state: Any,
    h: Tensor | float,
    stages: int,
    first: Any = None,
    damping: float = 0.05,
) -> Any:
    r"""Return the state after one stabilised explicit step, of order 1.

    The Runge-Kutta-Chebyshev method: on :math:`\dot q = \lambda q` it multiplies by

    .. math::

        \frac{T_s(w_0 + w_1 h\lambda)}{T_s(w_0)}, \qquad
        w_0 = 1 + \frac{\epsilon}{s^2}, \quad w_1 = \frac{T_s(w_0)}{T_s'(w_0)},

    which stays below 1 for :math:`-h\lambda` up to about :math:`2s^2`: s evaluations
    reach s times further than s steps of Euler.

    Parameters
    ----------
    velocity, state, h, first
        As in :func:`runge_kutta_step`.
    stages : int
        The number s of evaluations.
    damping : float
        The number :math:`\epsilon`.

    Raises
    ------
    ValueError
        If `stages` is no positive integer.

    Examples
    --------
    Five stages stay stable at 20 times the rate where Euler multiplies by -19:

    >>> float(chebyshev_step(lambda q: -20 * q, torch.ones(1), 1.0, 5).abs()) < 1
    True
    """
    require_callable("velocity", velocity)
    require_number("damping", damping, least=0)
    _require_step(h)
    w0 = 1.0 + damping / require_positive_int("stages", stages) ** 2
    T, dT = [1.0, w0], [0.0, 1.0]
    for j in range(2, stages + 1):
        T.append(2.0 * w0 * T[j - 1] - T[j - 2])
        dT.append(2.0 * T[j - 1] + 2.0 * w0 * dT[j - 1] - dT[j - 2])
    w1 = T[stages] / dT[stages]
    slope = velocity(state) if first is None else first
    before, now = state, state + slope * (w1 / w0 * h)
    for j in range(2, stages + 1):
        mu, nu, step = 2.0 * w0 * T[j - 1] / T[j], -T[j - 2] / T[j], 2.0 * w1 * T[j - 1] / T[j]
        # one displacement from the start: the blend of the earlier stages alone may leave a
        # domain that the stage does not leave, and where nothing moved it is exactly zero
        move = (now - state) * mu + (before - state) * nu + velocity(now) * (step * h)
        before, now = now, state + move
    return now
