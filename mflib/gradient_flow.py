r"""Gradient flows followed in training time, with the energy under control.

The flow of a loss E over particles of a law :math:`\rho`,

.. math::

    \dot q = v(q), \qquad \dot E = -\int |v|^2\, d\rho,

where q is any :class:`~mflib.stepping.State` and the velocity, a state too, knows the loss
where it was taken (``loss``, shape (...)) and the parts of :math:`\int |v|^2 d\rho`
(``dissipation``, shape (..., P)).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from scipy.integrate import cumulative_simpson
from torch import Tensor

from .arguments import (
    require_callable,
    require_instance,
    require_number,
    require_positive_int,
    require_tensor,
)
from .stepping import State, chebyshev_step, runge_kutta_step, tableau

__all__ = ["GradientFlow", "Path", "descend", "integrate", "time_scale"]


class GradientFlow(Protocol):
    """What :func:`descend` follows: a velocity, and the flow of some members of a batch."""

    def velocity(self, state: Any) -> Any:
        """Return the velocity, with its loss and dissipation."""

    def members(self, index: Tensor) -> GradientFlow:
        """Return the flow of the batch members `index`."""


@dataclass(frozen=True)
class Path:
    r"""A discrete gradient flow: where it ends, and its energy on the way.

    Attributes
    ----------
    end : State
        Where it ends.
    times : Tensor
        Training times, shape (..., K+1) or (K+1,).
    loss : Tensor
        Shape (..., K+1).
    dissipation : Tensor
        The parts of :math:`\int |v|^2 d\rho`, shape (..., K+1, P).
    kept : tuple of State
        The snapshots that were asked for.
    """

    end: State
    times: Tensor
    loss: Tensor
    dissipation: Tensor
    kept: tuple[State, ...] = ()

    def defect(self) -> Tensor:
        r"""Return :math:`E_s - E_0 + \int_0^s \int |v|^2 d\rho\, ds'` at every second step.

        Simpson's rule over pairs of equal steps, so K is even; shape (..., K/2).
        """
        steps = self.times.diff(dim=-1)
        h = steps[..., :1]
        if steps.shape[-1] % 2 or not torch.allclose(steps, h.expand_as(steps), rtol=1e-9):
            raise ValueError("times: the identity needs an even number of equal steps")
        rate = self.dissipation.sum(-1)
        spent = cumulative_simpson(rate.detach().numpy(), axis=-1)[..., 1::2]
        return self.loss[..., 2::2] - self.loss[..., :1] + h * torch.as_tensor(spent)


def integrate(
    velocity: Callable[[Any], Any],
    state: State,
    time: Tensor | float,
    steps: int,
    method: str = "rk4",
    keep: tuple[int, ...] = (),
) -> Path:
    r"""Integrate a gradient flow over a training time with equal Runge-Kutta steps.

    Parameters
    ----------
    velocity : callable
        Maps a state to its velocity, with loss and dissipation.
    state : State
        The start.
    time : Tensor or float
        The length of training, one number or one a batch entry.
    steps : int
        The number K of steps.
    method : {"euler", "midpoint", "rk4"}
        The one-step method.
    keep : tuple of int
        Step numbers whose states are kept.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If `time` is not positive and finite, `steps` no positive integer, or the flow leaves
        the finite numbers.

    Examples
    --------
    The flow :math:`\dot q = -q` of :math:`E = q^2/2`, which dissipates :math:`q^2`:

    >>> @dataclass(frozen=True)
    ... class Point(State):
    ...     inner = {"q": 0}
    ...     q: Tensor
    >>> @dataclass(frozen=True)
    ... class Rate(Point):
    ...     loss: Tensor = None
    ...     dissipation: Tensor = None
    >>> def velocity(at):
    ...     return Rate(-at.q, 0.5 * at.q**2, at.q[..., None] ** 2)
    >>> path = integrate(velocity, Point(torch.tensor(1.0).double()), 1.0, 10)
    >>> round(float(path.end.q), 4)  # exp(-1)
    0.3679
    >>> bool(path.defect().abs().max() < 1e-5)  # E_s - E_0 + what was dissipated
    True
    """
    require_callable("velocity", velocity)
    require_instance("state", state, State)
    require_positive_int("steps", steps)
    tableau(method)
    rates, kept = [velocity(state)], []
    if not isinstance(time, Tensor):
        time = rates[0].loss.new_tensor(require_number("time", time, above=0))
    if not bool((require_tensor("time", time, 0) > 0).all()):
        raise ValueError(f"time: expected positive finite numbers, got {time.tolist()}")
    if time.ndim and time.shape != rates[0].loss.shape:
        raise ValueError(
            f"time: shape {tuple(time.shape)}, expected one number or {tuple(rates[0].loss.shape)}"
        )
    h = time / steps
    if not isinstance(keep, (tuple, list)):
        raise TypeError(f"keep: expected a tuple of step numbers, got {type(keep).__name__}")
    for number in range(steps + 1):
        if number in keep:
            kept.append(state)
        if number < steps:
            state = runge_kutta_step(velocity, state, h, method, rates[-1])
            rates.append(velocity(state))
    if not rates[-1].loss.isfinite().all():
        raise ValueError("time: the flow left the finite numbers; take more steps")
    return Path(
        state,
        h[..., None] * torch.arange(steps + 1, dtype=h.dtype),
        torch.stack([v.loss for v in rates], -1),
        torch.stack([v.dissipation for v in rates], -2),
        tuple(kept),
    )


def time_scale(velocity: Callable[[Any], Any], state: State, step: float = 1e-4) -> Tensor:
    r"""Return the training time in which the velocity changes by its own size.

    .. math::

        \frac{\|v\|}{\|\dot v\|}, \qquad
        \dot v \approx \frac{v(q + h v) - v(q)}{h}, \quad \|v\|^2 = \int |v|^2 d\rho

    A batch of flows that is followed for a multiple of it is resolved by the same number
    of steps in every member.

    Parameters
    ----------
    velocity : callable
        Maps a state to its velocity, with loss and dissipation.
    state : State
        Where.
    step : float
        h as a share of the time in which the dissipation would use up the loss.

    Returns
    -------
    Tensor
        Shape (...).

    Raises
    ------
    ValueError
        If the velocity vanishes somewhere, or does not change.
    """
    require_callable("velocity", velocity)
    require_instance("state", state, State)
    require_number("step", step, above=0)
    v = velocity(state)
    h = step * v.loss / v.dissipation.sum(-1)
    change = (velocity(state + v * h) - v).dissipation.sum(-1)
    scale = h * (v.dissipation.sum(-1) / change).sqrt()
    if not scale.isfinite().all():
        raise ValueError("velocity: vanishes or stays the same here; it has no time scale")
    return scale


def descend(
    flow: GradientFlow,
    state: State,
    steps: int,
    until: float = 0.0,
    stages: int = 5,
    first: float = 0.1,
    share: float = 0.5,
) -> Path:
    r"""Integrate a gradient flow over long times, the step size controlled by the energy.

    A step of :func:`~mflib.stepping.chebyshev_step` is taken if it loses at least a share of
    what the flow still dissipates at its end,
    :math:`E(s) - E(s+h) \ge \text{share} \cdot h \int |v_{s+h}|^2 d\rho`, which the
    exact flow of a convex energy does with share 1. Otherwise it is tried again with
    h/2; after a success h grows by a quarter. Every member of the batch has its own h and
    stops when its loss is at most `until`.

    Parameters
    ----------
    flow : GradientFlow
        The flow, of a batch of problems or of one problem.
    state : State
        The start, with one batch dimension S.
    steps : int
        The number K of steps tried.
    until : float
        The loss at which a member is finished.
    stages : int
        Evaluations a step.
    first : float
        The size of the first step.
    share : float
        Between 0 and 1.

    Returns
    -------
    Path
        With `times` and `loss` of shape (S, K+1).

    Raises
    ------
    ValueError
        If the batch is not one-dimensional, or `share`, `first` or `steps` impossible.
    """
    for name in ("velocity", "members"):
        if not callable(getattr(flow, name, None)):
            raise TypeError(f"flow: a {type(flow).__name__} has no {name}; pass a gradient flow")
    require_instance("state", state, State)
    require_number("share", share, above=0, most=1)
    require_number("first", first, above=0)
    require_number("until", until)
    require_positive_int("steps", steps)
    require_positive_int("stages", stages)
    at = flow.velocity(state)
    loss, rate = at.loss.clone(), at.dissipation.clone()
    if loss.ndim != 1:
        raise ValueError("state: descend needs one batch dimension S; stack the problems")
    h, clock, live = torch.full_like(loss, first), torch.zeros_like(loss), torch.arange(len(loss))
    history = [(clock.clone(), loss.clone(), rate.clone())]
    end = state
    for _ in range(steps):
        going = loss[live] > until
        if going.any():
            if not going.all():
                live, h, state, at = live[going], h[going], state[going], at[going]
            part = flow.members(live)
            trial = chebyshev_step(part.velocity, state, h, stages, at)
            there = part.velocity(trial)
            lost, left = loss[live] - there.loss, there.dissipation
            good = lost >= share * h * left.sum(-1)
            clock[live] += torch.where(good, h, 0.0)
            loss[live] = torch.where(good, there.loss, loss[live])
            rate[live] = torch.where(good[:, None], left, rate[live])
            h = torch.where(good, 1.25 * h, 0.5 * h)
            state, at = trial.where(good, state), there.where(good, at)
            end = end.put(live, state)
        history.append((clock.clone(), loss.clone(), rate.clone()))
    times, losses, rates = (torch.stack(rows, 1) for rows in zip(*history, strict=True))
    return Path(end, times, losses, rates)
