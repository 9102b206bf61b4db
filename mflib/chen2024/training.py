r"""Training of the scaled network with the log-density ratio carried by every particle.

Along the characteristics of chen2024, eq. (10) and (12), the ratio of the present law
to the initial one obeys, with :math:`\Phi` the functional derivative of the loss,

.. math::

    \dot\omega = -\nabla\Phi_t(\omega), \qquad
    \dot D = \mathcal L \Phi_t(\omega), \qquad
    \mathcal L = \Delta - \omega\cdot\nabla, \qquad
    D_t = \log\frac{d\tau_t}{d\tau_0}(\omega_t),

and likewise for the encoder, depth by depth. Nothing is approximated but time. A particle
feels both laws through the states and adjoints of the data only, so test points without
mass may be carried along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..arguments import (
    require_instance,
    require_number,
    require_positive_int,
    require_tensor,
)
from ..kl import kl_from_ratio
from ..ode import Pass
from ..stepping import State, runge_kutta_step
from .network import ScaledResNet

__all__ = ["Particles", "Run", "TrainingFlow"]


@dataclass(frozen=True)
class Particles(State):
    r"""The particles of both laws and, where wanted, their log-density ratios.

    .. math::

        D = \log\frac{d\tau_t}{d\tau_0}(\omega_t), \qquad
        KL(\tau_t\|\tau_0) = E_{\tau_t}[D + e^{-D} - 1].

    They add and scale as a :class:`~mflib.stepping.State`; a velocity is one of these too.

    Attributes
    ----------
    theta : Tensor or None
        Encoder particles, shape (..., L, M, 2d+1); None is the frozen encoder of a
        symmetrised start, :math:`Z_\nu(x, s) = x`.
    omega : Tensor
        Predictor particles, shape (..., K, d+2).
    theta_ratio : Tensor or None
        :math:`\log d\nu^s_t/d\nu^s_0` at the encoder's, shape (..., L, M).
    omega_ratio : Tensor or None
        :math:`\log d\tau_t/d\tau_0` at the predictor's, shape (..., K); None does without
        ratios, at two thirds of the cost.
    """

    inner = {"theta": 3, "omega": 2, "theta_ratio": 2, "omega_ratio": 1}

    theta: Tensor | None
    omega: Tensor
    theta_ratio: Tensor | None = None
    omega_ratio: Tensor | None = None

    @classmethod
    def start(cls, theta: Tensor | None, omega: Tensor) -> Particles:
        """Return the particles at time 0, where every ratio is 0."""
        require_tensor("omega", omega, 2)
        if theta is not None:
            require_tensor("theta", theta, 3)
        zero = (None if v is None else torch.zeros_like(v[..., 0]) for v in (theta, omega))
        return cls(theta, omega, *zero)

    def first(self, encoder: int, predictor: int) -> Particles:
        """Return the first particles of each layer of the encoder and of the predictor."""

        def kept(value: Tensor | None, axis: int, count: int) -> Tensor | None:
            return None if value is None else value.narrow(axis, 0, count)

        return Particles(
            kept(self.theta, -2, encoder),
            kept(self.omega, -2, predictor),
            kept(self.theta_ratio, -1, encoder),
            kept(self.omega_ratio, -1, predictor),
        )

    @property
    def kl_predictor(self) -> Tensor:
        r""":math:`KL(\tau_t\|\tau_0)`, the average over all particles, shape (...)."""
        return kl_from_ratio(self.omega_ratio)

    @property
    def kl_encoder(self) -> Tensor:
        r""":math:`KL(\nu_t\|\nu_0)`, averaged over particles and depth, shape (...)."""
        if self.theta_ratio is None:
            return torch.zeros_like(self.omega_ratio[..., 0])
        return kl_from_ratio(self.theta_ratio).mean(-1)


@dataclass(frozen=True)
class Run:
    r"""The end of a training run and the record of its course.

    Attributes
    ----------
    particles : Particles
        The particles at the end.
    times : Tensor
        Recorded times, shape (..., R) with the batch of the time horizon.
    loss, kl, smallest : Tensor
        :math:`\hat L_t`, :math:`KL(\tau_t\|\tau_0)` and
        :math:`\lambda_{\min}(\alpha^2G_1+G_2)`, shape (..., R).
    outputs : Tensor
        :math:`f_t(x_i)`, shape (..., R, n).
    """

    particles: Particles
    times: Tensor
    loss: Tensor
    kl: Tensor
    smallest: Tensor
    outputs: Tensor


def _step(name: str, h: Tensor | float) -> Tensor | float:
    if isinstance(h, Tensor):
        return require_tensor(name, h, 0)
    return require_number(name, h)


@dataclass(frozen=True)
class TrainingFlow:
    r"""The gradient flow of both laws on fixed data, chen2024, eq. (8)-(12).

    Parameters
    ----------
    net : ScaledResNet
        The network.
    x, y : Tensor
        Inputs (..., n, d) and labels (..., n).
    laplacian, radial : float
        Factors of the two terms of :math:`\mathcal L`; anything but 1 is a control.

    Raises
    ------
    TypeError, ValueError
        If the data are malformed.
    """

    net: ScaledResNet
    x: Tensor
    y: Tensor
    laplacian: float = 1.0
    radial: float = 1.0

    def __post_init__(self) -> None:
        require_instance("net", self.net, ScaledResNet)
        require_tensor("x", self.x, 2, last=self.net.dim)
        require_tensor("y", self.y, 1, last=self.x.shape[-2])
        for name in ("laplacian", "radial"):
            require_number(name, getattr(self, name))

    def backward(self, particles: Particles) -> Pass:
        """Return states, adjoints and residuals of the data, the field of the particles."""
        require_instance("particles", particles, Particles)
        return self.net.backward(particles.theta, particles.omega, self.x, self.y)

    def predict(self, particles: Particles) -> Tensor:
        r"""Return :math:`f_{\tau,\nu}(x_i)`, shape (..., n)."""
        require_instance("particles", particles, Particles)
        return self.net.predict(particles.theta, particles.omega, self.x)

    def loss(self, particles: Particles) -> Tensor:
        r"""Return :math:`\hat L = \frac1{2n}\sum_i (f(x_i) - y_i)^2`, shape (...)."""
        require_instance("particles", particles, Particles)
        return self.net.loss(particles.theta, particles.omega, self.x, self.y)

    def velocity(self, particles: Particles, passed: Pass | None = None) -> Particles:
        r"""Return the velocity of every particle and the rate of its log-density ratio.

        Parameters
        ----------
        particles : Particles
            Where the velocity is taken.
        passed : Pass, optional
            The field in which they move, from :meth:`backward`; default their own.

        Returns
        -------
        Particles
            Velocities :math:`-\nabla\Phi` and, if ratios are carried, rates
            :math:`\mathcal L\Phi`.
        """
        require_instance("particles", particles, Particles)
        theta, omega, rates = particles.theta, particles.omega, particles.omega_ratio is not None
        if passed is None and theta is not None:
            found = self.net.slopes(theta, omega, self.x, self.y, laplacian=rates)
        else:
            passed = self.backward(particles) if passed is None else passed
            found = self.net.field_slopes(theta, omega, passed, laplacian=rates)
        moves = [None if v is None else -v for v in found[:2]]
        # the velocity is minus the gradient
        return Particles(*moves, *map(self._rate, found[2:], (theta, omega), moves))

    def _rate(self, bend: Tensor | None, at: Tensor | None, velocity: Tensor | None) -> Any:
        if at is None:
            return None
        return self.laplacian * bend + self.radial * (at * velocity).sum(-1)

    def step(self, particles: Particles, h: Tensor | float) -> Particles:
        r"""Advance by one classical Runge-Kutta step of length `h` in training time.

        Notes
        -----
        The flow is stiff: a step is stable only for
        :math:`h \beta^2 \lambda_{\max}(\alpha^2 G_1 + G_2)/n < 2.78`.
        """
        return runge_kutta_step(self.velocity, particles, _step("h", h))

    def stages(self, particles: Particles, h: Tensor | float) -> tuple[Particles, list[Pass]]:
        """Advance by one step, and return the fields of its four stages too."""
        fields: list[Pass] = []

        def own(stage: Particles) -> Particles:
            fields.append(self.backward(stage))
            return self.velocity(stage, fields[-1])

        return runge_kutta_step(own, particles, _step("h", h)), fields

    def carry(self, points: Particles, h: Tensor | float, fields: Sequence[Pass]) -> Particles:
        """Move test points, which have no mass, through the fields of a step."""
        if len(require_instance("fields", fields, Sequence)) != 4:
            raise ValueError(f"fields: expected those of 4 stages, got {len(fields)}")
        require_instance("points", points, Particles)
        velocities = [lambda at, field=field: self.velocity(at, field) for field in fields]
        return runge_kutta_step(velocities, points, _step("h", h))

    def gram(self, particles: Particles, passed: Pass | None = None) -> Tensor:
        r"""Return :math:`\alpha^2 G_1 + G_2`, shape (..., n, n)."""
        passed = self.backward(particles) if passed is None else passed
        return self.net.gram(particles.theta, particles.omega, passed)

    def stable_step(self, particles: Particles) -> Tensor:
        r"""Return the largest stable step :math:`2.7\,n/(\beta^2\lambda_{\max})` here.

        The stability interval of the Runge-Kutta method ends at 2.785; shape (...).
        """
        largest = torch.linalg.eigvalsh(self.gram(particles))[..., -1]
        return 2.7 * self.x.shape[-2] / (self.net.beta**2 * largest)

    def train(
        self, particles: Particles, time: Tensor | float, steps: int, records: int = 1
    ) -> Run:
        r"""Train for a given time in equal steps and keep a record.

        Parameters
        ----------
        particles : Particles
            The start, with ratios.
        time : float or Tensor
            The horizon T, a number or one a batch entry, shape (...).
        steps : int
            The number of Runge-Kutta steps.
        records : int
            How many times, besides the start, to record; a divisor of `steps`.

        Returns
        -------
        Run

        Raises
        ------
        ValueError
            If the step violates the stability bound at any recorded time, `records` does
            not divide `steps`, the horizon is not positive or no ratios are carried.
        """
        require_instance("particles", particles, Particles)
        require_positive_int("steps", steps)
        require_positive_int("records", records)
        if particles.omega_ratio is None:
            raise ValueError("particles: carry no ratios; begin with Particles.start")
        if steps % records:
            raise ValueError(f"records: {records} does not divide the {steps} steps")
        h = torch.as_tensor(_step("time", time), dtype=torch.float64) / steps
        if not (h > 0).all():
            raise ValueError(f"time: expected positive horizons, got {time!r}")
        rows = [self._record(particles, h)]
        for step in range(1, steps + 1):
            particles = self.step(particles, h)
            if step % (steps // records) == 0:
                rows.append(self._record(particles, h))
        loss, kl, smallest, outputs = zip(*rows, strict=True)
        times = h.unsqueeze(-1) * torch.arange(records + 1) * (steps // records)
        return Run(
            particles,
            times,
            torch.stack(loss, -1),
            torch.stack(kl, -1),
            torch.stack(smallest, -1),
            torch.stack(outputs, -2),
        )

    def _record(self, particles: Particles, h: Tensor) -> tuple[Tensor, ...]:
        passed = self.backward(particles)
        eigenvalues = torch.linalg.eigvalsh(self.gram(particles, passed))
        stiffness = h * self.net.beta**2 * eigenvalues[..., -1] / self.x.shape[-2]
        if not (stiffness < 2.7).all():
            raise ValueError(
                f"steps: h beta^2 lambda_max / n reaches {float(stiffness.max()):.3g}, "
                "the method is stable below 2.7; take more steps"
            )
        outputs = passed.residual + self.y
        return passed.loss, particles.kl_predictor, eigenvalues[..., 0], outputs
