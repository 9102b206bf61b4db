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
from torch import Tensor

from .arguments import require_positive_int
from .stepping import State, chebyshev_step, runge_kutta_step

__all__ = ["GradientFlow", "Path", "descend", "integrate", "time_scale"]


class GradientFlow(Protocol):
    """What :func:`descend` follows: a velocity, and the flow of some members of a batch."""

    def velocity(self, state: Any) -> Any:
        """Return the velocity, with its loss and dissipation."""

    def members(self, index: Tensor) -> GradientFlow:
        """Return the flow of the batch members `index`."""


@dataclass(frozen=True)
class Path:
    r"""A discrete flow in training time.

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
        pieces = rate[..., :-2:2] + 4.0 * rate[..., 1::2] + rate[..., 2::2]
        lost = self.loss[..., 2::2] - self.loss[..., :1]
        return lost + (h / 3.0) * pieces.cumsum(-1)


def integrate(
    velocity: Callable[[Any], Any],
    state: State,
    time: Tensor | float,
    steps: int,
    method: str = "rk4",
    keep: tuple[int, ...] = (),
) -> Path:
    r"""Follow a gradient flow for a training time with equal Runge-Kutta steps.

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
        If `time` is not positive and finite or `steps` no positive integer.
    """
    rates, kept = [velocity(state)], []
    time = torch.as_tensor(time, dtype=rates[0].loss.dtype)
    if not bool((time.isfinite() & (time > 0)).all()):
        raise ValueError(f"time: expected positive finite numbers, got {time.tolist()}")
    h = time / require_positive_int("steps", steps)
    for number in range(steps + 1):
        if number in keep:
            kept.append(state)
        if number < steps:
            state = runge_kutta_step(velocity, state, h, method, rates[-1])
            rates.append(velocity(state))
    return Path(
        state,
        h[..., None] * torch.arange(steps + 1, dtype=h.dtype),
        torch.stack([v.loss for v in rates], -1),
        torch.stack([v.dissipation for v in rates], -2),
        tuple(kept),
    )


def time_scale(
    velocity: Callable[[Any], Any], state: State, step: float = 1e-4
) -> Tensor:
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
        Shape (...): infinite where the velocity does not change, nan where it vanishes.
    """
    v = velocity(state)
    h = step * v.loss / v.dissipation.sum(-1)
    change = (velocity(state + v * h) - v).dissipation.sum(-1)
    return h * (v.dissipation.sum(-1) / change).sqrt()


def descend(
    flow: GradientFlow,
    state: State,
    steps: int,
    until: float = 0.0,
    stages: int = 5,
    first: float = 0.1,
    share: float = 0.5,
) -> Path:
    r"""Follow a gradient flow far, by Chebyshev steps whose size keeps the energy falling.

    A step is taken if it loses at least a share of what the flow still dissipates at its
    end, :math:`E(s) - E(s+h) \ge \text{share} \cdot h \int |v_{s+h}|^2 d\rho`, which the
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
    if not 0 < share <= 1:
        raise ValueError(f"share: expected a number in (0, 1], got {share!r}")
    if not 0 < first < float("inf"):
        raise ValueError(f"first: expected a positive finite step, got {first!r}")
    require_positive_int("steps", steps)
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
