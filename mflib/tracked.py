r"""The derivative of the training flow's map, and the density ratio read off it.

.. math::

    \log\frac{d\tau_t}{d\tau_0}(\omega_t) = \tfrac12|\omega_t|^2 - \tfrac12|\omega_0|^2
        - \log\Big|\det\frac{\partial\omega_t}{\partial\omega_0}\Big|.

The derivative comes from ghosts: massless neighbours of a particle, displaced by
:math:`\pm\epsilon` and :math:`\pm2\epsilon` along every coordinate, which follow the
flow. No second derivative of the loss is evaluated, so this route is independent of
the ratio that :mod:`mflib.carried` carries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .arguments import require_positive_int
from .carried import CarriedFlow, Cloud
from .kl import log_ratio_of_map

__all__ = ["Tracked"]


#: Distance of the ghosts; the five-point stencil errs by about its fourth power / 30.
DISTANCE = 1e-3

_OFFSETS = (1.0, -1.0, 2.0, -2.0)
_STENCIL = (8.0 / 12.0, -8.0 / 12.0, -1.0 / 12.0, 1.0 / 12.0)


def _ghosts(points: Tensor) -> Tensor:
    """Return the neighbours of points (..., P, k), shape (..., 4kP, k)."""
    k = points.shape[-1]
    eye = torch.eye(k, dtype=points.dtype)
    offsets = torch.cat([DISTANCE * step * eye for step in _OFFSETS]).unsqueeze(-2)
    return (points.unsqueeze(-3) + offsets).flatten(-3, -2)


def _derivative(values: Tensor, k: int) -> Tensor:
    """Return (..., P, a, k) from values (..., 4kP, a) at the ghosts."""
    rows = values.unflatten(-2, (4, k, -1))
    stencil = torch.tensor(_STENCIL, dtype=values.dtype) / DISTANCE
    return torch.einsum("s,...skpa->...pak", stencil, rows)


@dataclass(frozen=True)
class Tracked:
    r"""A training run with ghosts around some of its particles.

    Make it with :meth:`begin`; every :meth:`step` returns the next one.

    Attributes
    ----------
    flow : CarriedFlow
        The flow; the particles with mass come first, then the ghosts.
    cloud : Cloud
        All particles and ghosts.
    origin : Cloud
        The tracked particles at time 0.
    """

    flow: CarriedFlow
    cloud: Cloud
    origin: Cloud

    @classmethod
    def begin(
        cls, flow: CarriedFlow, cloud: Cloud, predictor: int, encoder: int = 0
    ) -> Tracked:
        r"""Track the first `predictor` heads, and the first `encoder` of each layer.

        Parameters
        ----------
        flow : CarriedFlow
            The flow; all particles of `cloud` carry mass.
        cloud : Cloud
            The particles at time 0.
        predictor, encoder : int
            How many to track; `encoder` is 0 when the encoder is frozen.

        Returns
        -------
        Tracked

        Raises
        ------
        ValueError
            If there are fewer particles, or the flow has ghosts already.
        """
        require_positive_int("predictor", predictor)
        if flow.drivers is not None:
            raise ValueError("flow: has ghosts already; leave drivers=None to track")
        if predictor > cloud.omega.shape[-2]:
            raise ValueError(f"predictor: only {cloud.omega.shape[-2]} particles exist")
        moving = cloud.theta is not None
        if moving and not 1 <= encoder <= cloud.theta.shape[-2]:
            raise ValueError(
                f"encoder: track between 1 and {cloud.theta.shape[-2]} particles a "
                f"layer, got {encoder}"
            )
        k, m = cloud.omega.shape[-2], cloud.theta.shape[-2] if moving else 1
        flow = replace(flow, drivers=(k, m))
        origin = Cloud.start(cloud.omega, cloud.theta).particles(
            slice(0, predictor), slice(0, encoder)
        )
        omega, theta = torch.cat([cloud.omega, _ghosts(origin.omega)], -2), None
        if moving:
            theta = torch.cat([cloud.theta, _ghosts(origin.theta)], -2)
        return cls(flow, Cloud.start(omega, theta), origin)

    def step(self, h: Tensor | float) -> Tracked:
        """Advance by one Runge-Kutta step."""
        return replace(self, cloud=self.flow.step(self.cloud, h))

    def advance(self, time: Tensor | float, steps: int) -> Tracked:
        """Advance by `steps` equal steps over a training time; no stability check."""
        tracked = self
        for _ in range(steps):
            tracked = tracked.step(torch.as_tensor(time, dtype=torch.float64) / steps)
        return tracked

    @property
    def drivers(self) -> Cloud:
        """The particles with mass."""
        k, m = self.flow.drivers
        return self.cloud.particles(slice(k), slice(m))

    @property
    def points(self) -> Cloud:
        """The tracked particles now, with their carried ratios."""
        heads = slice(0, self.origin.omega.shape[-2])
        if self.origin.theta is None:
            return self.cloud.particles(heads)
        return self.cloud.particles(heads, slice(0, self.origin.theta.shape[-2]))

    @property
    def jacobian_predictor(self) -> Tensor:
        r""":math:`\partial\omega_t/\partial\omega_0`, shape (..., P, k, k)."""
        k = self.origin.omega.shape[-1]
        return _derivative(self.cloud.omega[..., self.flow.drivers[0] :, :], k)

    @property
    def jacobian_encoder(self) -> Tensor:
        r""":math:`\partial\theta_t/\partial\theta_0`, shape (..., L, Q, k, k)."""
        k = self.origin.theta.shape[-1]
        return _derivative(self.cloud.theta[..., self.flow.drivers[1] :, :], k)

    @property
    def determinant_predictor(self) -> Tensor:
        """The predictor's log-density ratio by the determinant, shape (..., P)."""
        return log_ratio_of_map(
            self.origin.omega, self.points.omega, self.jacobian_predictor
        )

    @property
    def determinant_encoder(self) -> Tensor:
        """The encoder's log-density ratio by the determinant, shape (..., L, Q)."""
        return log_ratio_of_map(
            self.origin.theta, self.points.theta, self.jacobian_encoder
        )

    @property
    def score_predictor(self) -> Tensor:
        r""":math:`\nabla_\omega\log\frac{\tau_t}{\tau_0}(\omega_t)`, shape (..., P, k).

        From the derivative of the carried ratio by :math:`\omega_0` and the chain rule.
        """
        k = self.origin.omega.shape[-1]
        ratio = self.cloud.omega_ratio[..., self.flow.drivers[0] :].unsqueeze(-1)
        slope = _derivative(ratio, k).mT
        return torch.linalg.solve(self.jacobian_predictor.mT, slope).squeeze(-1)
