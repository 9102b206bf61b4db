r"""Particles of both laws, each with the logarithm of its own density ratio.

.. math::

    D = \log\frac{d\tau_t}{d\tau_0}(\omega_t), \qquad
    KL(\tau_t\|\tau_0) = E_{\tau_t}[D + e^{-D} - 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import require_tensor
from ..kl import kl_from_ratio

__all__ = ["Cloud"]


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
