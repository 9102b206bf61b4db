r"""Training of the scaled network with the log-density carried by every particle.

Along the characteristics of chen2024, eq. (10) and (12), the ratio of the present law
to the initial one obeys, with :math:`\Phi` the functional derivative of the loss,

.. math::

    \dot\omega = -\nabla\Phi_t(\omega), \qquad
    \dot D = \mathcal L \Phi_t(\omega), \qquad
    \mathcal L = \Delta - \omega\cdot\nabla, \qquad
    D_t = \log\frac{d\tau_t}{d\tau_0}(\omega_t),

and likewise for the encoder, depth by depth. Nothing is approximated but time. What a
particle feels is the :class:`Field` of both laws, so test points without mass may be
carried along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..activations import Activation
from ..arguments import require_positive_int, require_tensor
from ..blocks import NeuronBlock
from ..gram import neuron_gram
from ..measures import LayeredMeasure
from ..ode import adjoint, flow
from .cloud import Cloud
from .ornstein_uhlenbeck import drift

__all__ = ["CarriedFlow", "Field", "Run"]


@dataclass(frozen=True)
class Field:
    r"""What both laws do to a particle, by the states and costates of the data.

    Attributes
    ----------
    z : Tensor
        :math:`Z_\nu(x_i, 1)`, shape (..., n, d).
    outputs : Tensor
        :math:`f_{\tau,\nu}(x_i)`, shape (..., n).
    states, costates : Tensor or None
        :math:`Z_l` before each layer and p at its end, shape (..., L, n, d); None for a
        frozen encoder.
    """

    z: Tensor
    outputs: Tensor
    states: Tensor | None = None
    costates: Tensor | None = None


@dataclass(frozen=True)
class Run:
    r"""What a training run leaves behind; the last axis of each record is time.

    Attributes
    ----------
    cloud : Cloud
        The particles at the end.
    times : Tensor
        Recorded times, shape (..., R) with the batch of the time horizon.
    loss, kl, smallest : Tensor
        :math:`\hat L_t`, :math:`KL(\tau_t\|\tau_0)` and
        :math:`\lambda_{\min}(\alpha^2G_1+G_2)`, shape (..., R).
    outputs : Tensor
        :math:`f_t(x_i)`, shape (..., R, n).
    """

    cloud: Cloud
    times: Tensor
    loss: Tensor
    kl: Tensor
    smallest: Tensor
    outputs: Tensor


def _runge_kutta(
    velocity: Callable[[Cloud], Cloud], cloud: Cloud, h: Tensor | float
) -> Cloud:
    half = 0.5 * torch.as_tensor(h, dtype=torch.float64)
    k1 = velocity(cloud)
    k2 = velocity(cloud.moved(half, k1))
    k3 = velocity(cloud.moved(half, k2))
    k4 = velocity(cloud.moved(2 * half, k3))
    cloud = cloud.moved(half / 3, k1).moved(2 * half / 3, k2)
    return cloud.moved(2 * half / 3, k3).moved(half / 3, k4)


@dataclass(frozen=True)
class CarriedFlow:
    r"""The training flow of chen2024 on fixed data, with carried log-densities.

    Parameters
    ----------
    x, y : Tensor
        Inputs (..., n, d) and labels (..., n).
    alpha, beta : float or Tensor
        Scalings; tensors have the batch's shape, so that one run covers many.
    sigma : str or Activation
        The activation :math:`\sigma_0`.
    laplacian, radial : float
        Factors of the two terms of :math:`\mathcal L`; anything but 1 is a control.

    Raises
    ------
    TypeError, ValueError
        If the data are malformed.
    """

    x: Tensor
    y: Tensor
    alpha: float | Tensor = 1.0
    beta: float | Tensor = 1.0
    sigma: str | Activation = "tanh"
    laplacian: float = 1.0
    radial: float = 1.0

    def __post_init__(self) -> None:
        d = require_tensor("x", self.x, 2).shape[-1]
        require_tensor("y", self.y, 1, last=self.x.shape[-2])
        for name in ("alpha", "beta"):
            value = torch.as_tensor(getattr(self, name), dtype=torch.float64)
            if not (torch.isfinite(value).all() and (value > 0).all()):
                raise ValueError(f"{name}: expected positive scalings, got {value}")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "encoder", NeuronBlock(d, self.sigma))
        object.__setattr__(self, "predictor", NeuronBlock(d, self.sigma, out=1))

    def field(self, cloud: Cloud) -> Field:
        """Return the field of a cloud; its particles share the mass 1 equally."""
        k = cloud.omega.shape[-2]
        uniform = torch.full((k,), 1.0 / k, dtype=torch.float64)
        z, path = self.x, None
        if cloud.theta is not None:
            layers, m = cloud.theta.shape[-3:-1]
            weights = torch.full((layers, m), 1.0 / m, dtype=torch.float64)
            law = LayeredMeasure(cloud.theta, self.alpha[..., None, None] * weights)
            path = flow(self.encoder, law, self.x, layers)
            z = path.X[..., -1, :, :]
        f = self.predictor.field(z, cloud.omega, uniform)[..., 0]
        f = self.beta.unsqueeze(-1) * f
        if path is None:
            return Field(z, f)
        p1 = self.predictor.vjp(z, cloud.omega, uniform, torch.ones_like(z[..., :1]))
        costates = adjoint(self.encoder, path, p1).stages[..., 0, :, :]
        return Field(z, f, path.stages[..., 0, :, :], costates)

    def predict(self, cloud: Cloud) -> Tensor:
        r"""Return :math:`f_{\tau,\nu}(x_i)`, shape (..., n)."""
        return self.field(cloud).outputs

    def loss(self, cloud: Cloud) -> Tensor:
        r"""Return :math:`\hat L = \frac1{2n}\sum_i (f(x_i) - y_i)^2`, shape (...)."""
        return 0.5 * (self.predict(cloud) - self.y).square().mean(-1)

    def velocity(self, cloud: Cloud, field: Field | None = None) -> Cloud:
        r"""Return the velocity of every particle and of its log-density ratio.

        Parameters
        ----------
        cloud : Cloud
            The particles.
        field : Field, optional
            The field in which they move; default their own.

        Returns
        -------
        Cloud
            Velocities :math:`-\nabla\Phi` and rates :math:`\mathcal L\Phi`.
        """
        field = self.field(cloud) if field is None else field
        mass = self.beta.unsqueeze(-1) * (field.outputs - self.y) / self.y.shape[-1]
        ones = torch.ones_like(field.z[..., :1])
        moved = drift(self.predictor, field.z, cloud.omega, ones, mass)
        head = Cloud(-moved[0], self._rate(*moved))
        if cloud.theta is None:
            return head
        mass = (self.alpha.unsqueeze(-1) * mass).unsqueeze(-2)
        moved = drift(self.encoder, field.states, cloud.theta, field.costates, mass)
        return replace(head, theta=-moved[0], theta_ratio=self._rate(*moved))

    def _rate(self, gradient: Tensor, laplacian: Tensor, radial: Tensor) -> Tensor:
        return self.laplacian * laplacian - self.radial * radial

    def step(self, cloud: Cloud, h: Tensor | float) -> Cloud:
        r"""Advance by one classical Runge-Kutta step of length `h` in training time."""
        return self.stages(cloud, h)[0]

    def stages(self, cloud: Cloud, h: Tensor | float) -> tuple[Cloud, list[Field]]:
        """Advance by one step, and return the fields of its four stages too."""
        fields: list[Field] = []

        def own(state: Cloud) -> Cloud:
            fields.append(self.field(state))
            return self.velocity(state, fields[-1])

        return _runge_kutta(own, cloud, h), fields

    def carry(self, ghosts: Cloud, h: Tensor | float, fields: Sequence[Field]) -> Cloud:
        """Move test points, which have no mass, through the fields of a step."""
        seen = iter(fields)
        return _runge_kutta(lambda state: self.velocity(state, next(seen)), ghosts, h)

    def gram(self, cloud: Cloud) -> Tensor:
        r"""Return :math:`\alpha^2 G_1 + G_2`, shape (..., n, n)."""
        field = self.field(cloud)
        ones = torch.ones_like(field.z[..., :1])
        gram = neuron_gram(self.predictor, field.z, cloud.omega, ones)
        if cloud.theta is None:
            return gram
        encoder = neuron_gram(self.encoder, field.states, cloud.theta, field.costates)
        return gram + self.alpha[..., None, None] ** 2 * encoder.mean(-3)

    def stable_step(self, cloud: Cloud) -> Tensor:
        r"""Return the largest stable step :math:`2.7\,n/(\beta^2\lambda_{\max})` here.

        The stability interval of the Runge-Kutta method ends at 2.785; shape (...).
        """
        largest = torch.linalg.eigvalsh(self.gram(cloud))[..., -1]
        return 2.7 * self.x.shape[-2] / (self.beta**2 * largest)

    def train(
        self, cloud: Cloud, time: Tensor | float, steps: int, records: int = 1
    ) -> Run:
        r"""Train for a given time in equal steps and keep a record.

        Parameters
        ----------
        cloud : Cloud
            The start.
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
            If the step violates the stability bound at any recorded time, or `records`
            does not divide `steps`.
        """
        require_positive_int("steps", steps)
        require_positive_int("records", records)
        if steps % records:
            raise ValueError(f"records: {records} does not divide the {steps} steps")
        h = torch.as_tensor(time, dtype=torch.float64) / steps
        rows = [self._record(cloud, h)]
        for step in range(1, steps + 1):
            cloud = self.step(cloud, h)
            if step % (steps // records) == 0:
                rows.append(self._record(cloud, h))
        loss, kl, smallest, outputs = zip(*rows, strict=True)
        times = h.unsqueeze(-1) * torch.arange(records + 1) * (steps // records)
        return Run(
            cloud, times, torch.stack(loss, -1), torch.stack(kl, -1),
            torch.stack(smallest, -1), torch.stack(outputs, -2),
        )

    def _record(self, cloud: Cloud, h: Tensor) -> tuple[Tensor, ...]:
        eigenvalues = torch.linalg.eigvalsh(self.gram(cloud))
        stiffness = h * self.beta**2 * eigenvalues[..., -1] / self.x.shape[-2]
        if not (stiffness < 2.7).all():
            raise ValueError(
                f"steps: h beta^2 lambda_max / n reaches {float(stiffness.max()):.3g}, "
                "the method is stable below 2.7; take more steps"
            )
        outputs = self.predict(cloud)
        loss = 0.5 * (outputs - self.y).square().mean(-1)
        return loss, cloud.kl_predictor, eigenvalues[..., 0], outputs
