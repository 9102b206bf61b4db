r"""Time stepping for gradient flows of particles, with the energy under control.

The flow is :math:`\dot q = v(q)` with :math:`\dot E = -\int |v|^2 d\rho`; here q are the
:class:`~mflib.lu2020.wasserstein_flow.Particles` and s is training time. Everything works with any
velocity that returns a :class:`~mflib.lu2020.wasserstein_flow.Velocity`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import require_positive_int
from ..ode import METHODS
from .wasserstein_flow import Particles, Velocity, WassersteinFlow

__all__ = [
    "Path",
    "chebyshev_step",
    "descend",
    "integrate",
    "runge_kutta_step",
    "time_scale",
]

Field = Callable[[Particles], Velocity]


@dataclass(frozen=True)
class Path:
    r"""A discrete flow in training time.

    Attributes
    ----------
    end : Particles
        The last particles.
    times : Tensor
        Training times, shape (..., K+1) or (K+1,).
    loss : Tensor
        Shape (..., K+1).
    dissipation : Tensor
        The parts of :math:`\int |v|^2 d\rho` in theta and in t, shape (..., K+1, 2).
    kept : tuple of Particles
        The snapshots that were asked for.
    """

    end: Particles
    times: Tensor
    loss: Tensor
    dissipation: Tensor
    kept: tuple[Particles, ...] = ()

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


def runge_kutta_step(
    velocity: Field,
    particles: Particles,
    h: Tensor | float,
    method: str = "rk4",
    first: Velocity | None = None,
) -> Particles:
    r"""Return the particles after one explicit Runge-Kutta step.

    Parameters
    ----------
    velocity : callable
        Maps particles to their velocity.
    particles : Particles
        Where the step begins.
    h : Tensor or float
        The step, one number or one a batch entry.
    method : {"euler", "midpoint", "rk4"}
        The tableau; its order holds as long as no particle meets the boundary.
    first : Velocity, optional
        The velocity at the start, if it is known.
    """
    if method not in METHODS:
        raise ValueError(f"method: no {method!r}; choose one of {', '.join(METHODS)}")
    tableau = METHODS[method]
    slopes = [first or velocity(particles)]
    for row in tableau.a[1:]:
        slopes.append(velocity(particles.moved(h, _combined(row, slopes))))
    return particles.moved(h, _combined(tableau.b, slopes))


def _combined(row: tuple[float, ...], slopes: list[Velocity]) -> Velocity:
    pairs = [(c, v) for c, v in zip(row, slopes, strict=True) if c]
    return Velocity(
        sum(c * v.theta for c, v in pairs), sum(c * v.t for c, v in pairs), slopes[0].loss
    )


def chebyshev_step(
    velocity: Field,
    particles: Particles,
    h: Tensor | float,
    stages: int,
    first: Velocity | None = None,
    damping: float = 0.05,
) -> Particles:
    r"""Return the particles after one stabilised explicit step, of order 1.

    The Runge-Kutta-Chebyshev method: on :math:`\dot q = \lambda q` it multiplies by

    .. math::

        \frac{T_s(w_0 + w_1 h\lambda)}{T_s(w_0)}, \qquad
        w_0 = 1 + \frac{\epsilon}{s^2}, \quad w_1 = \frac{T_s(w_0)}{T_s'(w_0)},

    which stays below 1 for :math:`-h\lambda` up to about :math:`2s^2`: s evaluations
    reach s times further than s steps of Euler.

    Parameters
    ----------
    velocity, particles, h, first
        As in :func:`runge_kutta_step`.
    stages : int
        The number s of evaluations.
    damping : float
        The number :math:`\epsilon`.
    """
    w0 = 1.0 + damping / require_positive_int("stages", stages) ** 2
    T, dT = [1.0, w0], [0.0, 1.0]
    for j in range(2, stages + 1):
        T.append(2.0 * w0 * T[j - 1] - T[j - 2])
        dT.append(2.0 * T[j - 1] + 2.0 * w0 * dT[j - 1] - dT[j - 2])
    w1 = T[stages] / dT[stages]
    h = torch.as_tensor(h, dtype=particles.t.dtype)
    before, now = particles, particles.moved(w1 / w0 * h, first or velocity(particles))
    for j in range(2, stages + 1):
        mu, nu = 2.0 * w0 * T[j - 1] / T[j], -T[j - 2] / T[j]
        step = (2.0 * w1 * T[j - 1] / T[j] * h)[..., None]
        at = velocity(now)
        theta = _blend(particles.theta, mu, now.theta, nu, before.theta)
        t = _blend(particles.t, mu, now.t, nu, before.t)
        # the blend alone extrapolates and may leave [0, 1] where the stage does not
        stage = Particles(
            theta + step.unsqueeze(-1) * at.theta, (t + step * at.t).clamp(0.0, 1.0))
        before, now = now, stage
    return now


def _blend(start: Tensor, mu: float, now: Tensor, nu: float, before: Tensor) -> Tensor:
    """Return (1 - mu - nu) start + mu now + nu before, exactly `start` where nothing moved.

    Rounding would take a particle off the boundary that holds it.
    """
    return start + mu * (now - start) + nu * (before - start)


def integrate(
    velocity: Field,
    particles: Particles,
    time: Tensor | float,
    steps: int,
    method: str = "rk4",
    keep: tuple[int, ...] = (),
) -> Path:
    r"""Follow a flow for a training time with equal Runge-Kutta steps.

    Parameters
    ----------
    velocity : callable
        Maps particles to their velocity.
    particles : Particles
        The start.
    time : Tensor or float
        The length of training, one number or one a batch entry.
    steps : int
        The number K of steps.
    method : {"euler", "midpoint", "rk4"}
        The one-step method.
    keep : tuple of int
        Step numbers whose particles are kept.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If `time` is not positive and finite or `steps` no positive integer.
    """
    time = torch.as_tensor(time, dtype=particles.t.dtype)
    if not bool((time.isfinite() & (time > 0)).all()):
        raise ValueError(f"time: expected positive finite numbers, got {time.tolist()}")
    h = time / require_positive_int("steps", steps)
    rates, kept = [], []
    for number in range(steps + 1):
        rates.append(velocity(particles))
        if number in keep:
            kept.append(particles)
        if number < steps:
            particles = runge_kutta_step(velocity, particles, h, method, rates[-1])
    return Path(
        particles,
        h[..., None] * torch.arange(steps + 1, dtype=h.dtype),
        torch.stack([v.loss for v in rates], -1),
        torch.stack([v.dissipation for v in rates], -2),
        tuple(kept),
    )


def time_scale(velocity: Field, particles: Particles, step: float = 1e-4) -> Tensor:
    r"""Return the training time in which the velocity changes by its own size.

    .. math::

        \frac{\|v\|}{\|\dot v\|}, \qquad
        \dot v \approx \frac{v(q + h v) - v(q)}{h}, \quad \|v\|^2 = \int |v|^2 d\rho

    A batch of flows that is followed for a multiple of it is resolved by the same number
    of steps in every member.

    Parameters
    ----------
    velocity : callable
        Maps particles to their velocity.
    particles : Particles
        Where.
    step : float
        h as a share of the time in which the dissipation would use up the loss.

    Returns
    -------
    Tensor
        Shape (...): infinite where the velocity does not change, nan where it vanishes.
    """
    v = velocity(particles)
    h = step * v.loss / v.dissipation.sum(-1)
    w = velocity(particles.moved(h, v))
    change = Velocity(w.theta - v.theta, w.t - v.t, v.loss).dissipation.sum(-1)
    return h * (v.dissipation.sum(-1) / change).sqrt()


def descend(
    flow: WassersteinFlow,
    particles: Particles,
    steps: int,
    until: float = 0.0,
    stages: int = 5,
    first: float = 0.1,
    share: float = 0.5,
) -> Path:
    r"""Follow the flow far, by Chebyshev steps whose size keeps the energy falling.

    A step is taken if it loses at least a share of what the flow still dissipates at its
    end, :math:`E(s) - E(s+h) \ge \text{share} \cdot h \int |v_{s+h}|^2 d\rho`, which the
    exact flow of a convex energy does with share 1. Otherwise it is tried again with
    h/2; after a success h grows by a quarter. Every member of the batch has its own h and
    stops when its loss is at most `until`.

    Parameters
    ----------
    flow : WassersteinFlow
        The flow, of a batch of problems or of one problem.
    particles : Particles
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
        If the batch is not one-dimensional, or `share` or `steps` impossible.
    """
    if particles.t.ndim != 2:
        raise ValueError("particles: descend needs one batch dimension, theta (S, n, k)")
    if not 0 < share <= 1:
        raise ValueError(f"share: expected a number in (0, 1], got {share!r}")
    require_positive_int("steps", steps)
    at, h = flow.velocity(particles), torch.full_like(particles.t[:, 0], first)
    theta, t = particles.theta.clone(), particles.t.clone()
    clock, loss, rate = torch.zeros_like(h), at.loss.clone(), at.dissipation
    history = [(clock.clone(), loss.clone(), rate.clone())]
    live = torch.arange(len(h))
    for _ in range(steps):
        going = at.loss > until
        if going.any():
            if not going.all():
                live, h, particles = live[going], h[going], particles[going]
                at = Velocity(at.theta[going], at.t[going], at.loss[going])
            part = flow.members(live)
            trial = chebyshev_step(part.velocity, particles, h, stages, at)
            there = part.velocity(trial)
            good = at.loss - there.loss >= share * h * there.dissipation.sum(-1)
            clock[live] += torch.where(good, h, 0.0)
            h = torch.where(good, 1.25 * h, 0.5 * h)
            pair = good[:, None]
            particles = Particles(
                torch.where(pair[..., None], trial.theta, particles.theta),
                torch.where(pair, trial.t, particles.t),
            )
            at = Velocity(
                torch.where(pair[..., None], there.theta, at.theta),
                torch.where(pair, there.t, at.t),
                torch.where(good, there.loss, at.loss),
            )
            theta[live], t[live] = particles.theta, particles.t
            loss[live], rate[live] = at.loss, at.dissipation
        else:
            live = live[:0]
            at = Velocity(at.theta[:0], at.t[:0], at.loss[:0])
        history.append((clock.clone(), loss.clone(), rate.clone()))
    times, losses, rates = (torch.stack(rows, 1) for rows in zip(*history, strict=True))
    return Path(Particles(theta, t), times, losses, rates)
