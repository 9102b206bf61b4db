r"""Training of the scaled network with the log-density carried by every particle.

Along the characteristics of chen2024, eq. (10) and (12), the ratio of the present law
to the initial one obeys, with :math:`\Phi` the functional derivative of the loss,

.. math::

    \dot\omega = -\nabla\Phi_t(\omega), \qquad
    \dot D = \mathcal L \Phi_t(\omega), \qquad
    \mathcal L = \Delta - \omega\cdot\nabla, \qquad
    D_t = \log\frac{d\tau_t}{d\tau_0}(\omega_t),

and likewise for the encoder, depth by depth. Nothing is approximated but time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .activations import Activation
from .arguments import require_positive_int, require_tensor
from .blocks import NeuronBlock
from .gram import neuron_gram
from .kl import kl_from_ratio
from .measures import LayeredMeasure
from .ode import adjoint, flow
from .ornstein_uhlenbeck import drift

__all__ = ["CarriedFlow", "Cloud", "Run"]


@dataclass(frozen=True)
class Cloud:
    r"""The particles of both laws with their log-density ratios.

    Attributes
    ----------
    omega : Tensor
        Predictor particles, shape (..., K, d+2).
    omega_ratio : Tensor
        :math:`\log d\tau_t/d\tau_0` at them, shape (..., K).
    theta : Tensor or None
        Encoder particles, shape (..., L, M, 2d+1); None is the frozen encoder of a
        symmetrised start, :math:`Z_\nu(x, s) = x`.
    theta_ratio : Tensor or None
        :math:`\log d\nu^s_t/d\nu^s_0` at them, shape (..., L, M).
    """

    omega: Tensor
    omega_ratio: Tensor
    theta: Tensor | None = None
    theta_ratio: Tensor | None = None

    @classmethod
    def start(cls, omega: Tensor, theta: Tensor | None = None) -> Cloud:
        """Return the cloud at time 0, where every ratio is 0."""
        require_tensor("omega", omega, 2)
        if theta is None:
            return cls(omega, torch.zeros_like(omega[..., 0]))
        require_tensor("theta", theta, 3)
        return cls(
            omega, torch.zeros_like(omega[..., 0]),
            theta, torch.zeros_like(theta[..., 0]),
        )

    def moved(self, h: Tensor | float, velocity: Cloud) -> Cloud:
        """Return this cloud plus `h` (one a batch entry) times a velocity."""
        h = torch.as_tensor(h, dtype=torch.float64)

        def add(value: Tensor | None, rate: Tensor | None, inner: int) -> Tensor | None:
            if value is None:
                return None
            return value + h.reshape(h.shape + (1,) * inner) * rate

        return Cloud(
            add(self.omega, velocity.omega, 2),
            add(self.omega_ratio, velocity.omega_ratio, 1),
            add(self.theta, velocity.theta, 3),
            add(self.theta_ratio, velocity.theta_ratio, 2),
        )

    def particles(
        self, omega: slice = slice(None), theta: slice = slice(None)
    ) -> Cloud:
        """Return the cloud of the selected particles."""
        if self.theta is None:
            return Cloud(self.omega[..., omega, :], self.omega_ratio[..., omega])
        return Cloud(
            self.omega[..., omega, :], self.omega_ratio[..., omega],
            self.theta[..., theta, :], self.theta_ratio[..., theta],
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
    drivers : tuple of int, optional
        How many of the predictor and of the encoder particles carry mass; the rest are
        ghosts, test points of the flow with mass 0. Default: all carry mass.
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
    drivers: tuple[int, int] | None = None
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

    def _mass(self, particles: int, which: int) -> Tensor:
        carrying = particles if self.drivers is None else self.drivers[which]
        mass = torch.zeros(particles, dtype=torch.float64)
        mass[:carrying] = 1.0 / carrying
        return mass

    def _pass(self, cloud: Cloud):
        """Return final states, outputs, layer states and layer costates."""
        heads = cloud.omega
        if self.drivers is not None:
            heads = heads[..., : self.drivers[0], :]
        uniform = self._mass(heads.shape[-2], 0)
        if cloud.theta is None:
            z, path = self.x, None
        else:
            layers, m = cloud.theta.shape[-3:-1]
            weights = self.alpha[..., None, None] * self._mass(m, 1).expand(layers, m)
            path = flow(
                self.encoder, LayeredMeasure(cloud.theta, weights), self.x, layers
            )
            z = path.X[..., -1, :, :]
        f = self.beta.unsqueeze(-1) * self.predictor.field(z, heads, uniform)[..., 0]
        if path is None:
            return z, f, None, None
        ones = torch.ones_like(z[..., :1])
        p1 = self.predictor.vjp(z, heads, uniform, ones)
        costate = adjoint(self.encoder, path, p1).stages[..., 0, :, :]
        return z, f, path.stages[..., 0, :, :], costate

    def predict(self, cloud: Cloud) -> Tensor:
        r"""Return :math:`f_{\tau,\nu}(x_i)`, shape (..., n)."""
        return self._pass(cloud)[1]

    def features(self, cloud: Cloud) -> Tensor:
        r"""Return :math:`Z_\nu(x_i, 1)`, shape (..., n, d)."""
        return self._pass(cloud)[0]

    def states(self, cloud: Cloud) -> Tensor:
        r"""Return the states :math:`Z_l` before every layer, shape (..., L, n, d)."""
        layers = self._pass(cloud)[2]
        return self.x.unsqueeze(-3) if layers is None else layers

    def loss(self, cloud: Cloud) -> Tensor:
        r"""Return :math:`\hat L = \frac1{2n}\sum_i (f(x_i) - y_i)^2`, shape (...)."""
        return 0.5 * (self.predict(cloud) - self.y).square().mean(-1)

    def velocity(self, cloud: Cloud) -> Cloud:
        r"""Return the velocity of every particle and of its log-density ratio.

        Parameters
        ----------
        cloud : Cloud
            The particles.

        Returns
        -------
        Cloud
            Velocities :math:`-\nabla\Phi` and rates :math:`\mathcal L\Phi`.
        """
        z, f, layers, costate = self._pass(cloud)
        mass = self.beta.unsqueeze(-1) * (f - self.y) / f.shape[-1]
        ones = torch.ones_like(z[..., :1])
        gradient, bend, radial = drift(self.predictor, z, cloud.omega, ones, mass)
        rate = self.laplacian * bend - self.radial * radial
        head = Cloud(-gradient, rate)
        if layers is None:
            return head
        mass = (self.alpha.unsqueeze(-1) * mass).unsqueeze(-2)
        gradient, bend, radial = drift(
            self.encoder, layers, cloud.theta, costate, mass
        )
        rate = self.laplacian * bend - self.radial * radial
        return replace(head, theta=-gradient, theta_ratio=rate)

    def step(self, cloud: Cloud, h: Tensor | float) -> Cloud:
        r"""Advance by one classical Runge-Kutta step of length `h` in training time."""
        half = 0.5 * torch.as_tensor(h, dtype=torch.float64)
        k1 = self.velocity(cloud)
        k2 = self.velocity(cloud.moved(half, k1))
        k3 = self.velocity(cloud.moved(half, k2))
        k4 = self.velocity(cloud.moved(2 * half, k3))
        cloud = cloud.moved(half / 3, k1).moved(2 * half / 3, k2)
        return cloud.moved(2 * half / 3, k3).moved(half / 3, k4)

    def gram(self, cloud: Cloud) -> Tensor:
        r"""Return :math:`\alpha^2 G_1 + G_2` of the mass, shape (..., n, n)."""
        kept = (slice(None),) * 2
        if self.drivers is not None:
            kept = slice(self.drivers[0]), slice(self.drivers[1])
        z, _, layers, costate = self._pass(cloud)
        ones = torch.ones_like(z[..., :1])
        gram = neuron_gram(self.predictor, z, cloud.omega[..., kept[0], :], ones)
        if layers is None:
            return gram
        encoder = neuron_gram(
            self.encoder, layers, cloud.theta[..., kept[1], :], costate
        )
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
