r"""The derivative of the training flow's map, and the density ratio read off it.

.. math::

    \log\frac{d\tau_t}{d\tau_0}(\omega_t) = \tfrac12|\omega_t|^2 - \tfrac12|\omega_0|^2
        - \log\Big|\det\frac{\partial\omega_t}{\partial\omega_0}\Big|.

The derivative comes from forward differentiation of the flow's own steps: beside a
tracked particle stand massless copies of it, one a coordinate, and each carries the
tangent of its coordinate along. No second derivative of the loss is written down here,
so this route is independent of the ratio that :mod:`mflib.chen2024.training` carries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..arguments import require_positive_int
from ..kl import log_ratio_of_map
from .cloud import Cloud
from .training import CarriedFlow

__all__ = ["Tracked"]


def _copies(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return k copies of points (..., P, k) and their tangents, each (..., kP, k)."""
    *batch, many, k = points.shape
    eye = torch.eye(k, dtype=points.dtype).repeat_interleave(many, 0)
    copies = points.unsqueeze(-3).expand(*batch, k, many, k).flatten(-3, -2)
    return copies, eye.expand_as(copies)


def _derivative(tangents: Tensor, k: int) -> Tensor:
    """Return (..., P, a, k) from the tangents (..., kP, a) of the copies."""
    return tangents.unflatten(-2, (k, -1)).movedim(-3, -1)


def _parts(cloud: Cloud) -> tuple[Tensor, ...]:
    return tuple(v for v in vars(cloud).values() if v is not None)


@dataclass(frozen=True)
class Tracked:
    r"""A training run that differentiates the paths of some of its particles.

    Make it with :meth:`begin`; every :meth:`step` returns the next one.

    Attributes
    ----------
    flow : CarriedFlow
        The flow.
    cloud : Cloud
        The particles with mass.
    origin : Cloud
        The tracked particles at time 0.
    copies, tangents : Cloud
        Their copies, k of each, and the derivatives by one coordinate of the start.
    """

    flow: CarriedFlow
    cloud: Cloud
    origin: Cloud
    copies: Cloud
    tangents: Cloud

    @classmethod
    def begin(
        cls, flow: CarriedFlow, cloud: Cloud, predictor: int, encoder: int = 0
    ) -> Tracked:
        r"""Track the first `predictor` heads, and the first `encoder` of each layer.

        Parameters
        ----------
        flow : CarriedFlow
            The flow.
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
            If there are fewer particles.
        """
        require_positive_int("predictor", predictor)
        if predictor > cloud.omega.shape[-2]:
            raise ValueError(f"predictor: only {cloud.omega.shape[-2]} particles exist")
        if cloud.theta is not None and not 1 <= encoder <= cloud.theta.shape[-2]:
            raise ValueError(
                f"encoder: track between 1 and {cloud.theta.shape[-2]} particles a "
                f"layer, got {encoder}"
            )
        start = Cloud.start(cloud.omega, cloud.theta)
        origin = start.particles(slice(predictor), slice(encoder))
        pairs = [_copies(v) for v in (origin.omega, origin.theta) if v is not None]
        copies, tangents = (Cloud.start(*parts) for parts in zip(*pairs, strict=True))
        return cls(flow, start, origin, copies, tangents)

    def step(self, h: Tensor | float) -> Tracked:
        """Advance by one Runge-Kutta step, and the derivatives with it."""
        cloud, fields = self.flow.stages(self.cloud, h)
        copies, tangents = torch.func.jvp(
            lambda *parts: _parts(self.flow.carry(Cloud(*parts), h, fields)),
            _parts(self.copies), _parts(self.tangents),
        )
        return replace(
            self, cloud=cloud, copies=Cloud(*copies), tangents=Cloud(*tangents)
        )

    def advance(self, time: Tensor | float, steps: int) -> Tracked:
        """Advance by `steps` equal steps over a training time; no stability check."""
        tracked = self
        for _ in range(steps):
            tracked = tracked.step(torch.as_tensor(time, dtype=torch.float64) / steps)
        return tracked

    @property
    def points(self) -> Cloud:
        """The tracked particles now, with their carried ratios."""
        heads = slice(self.origin.omega.shape[-2])
        if self.origin.theta is None:
            return self.cloud.particles(heads)
        return self.cloud.particles(heads, slice(self.origin.theta.shape[-2]))

    @property
    def jacobian_predictor(self) -> Tensor:
        r""":math:`\partial\omega_t/\partial\omega_0`, shape (..., P, k, k)."""
        return _derivative(self.tangents.omega, self.origin.omega.shape[-1])

    @property
    def jacobian_encoder(self) -> Tensor:
        r""":math:`\partial\theta_t/\partial\theta_0`, shape (..., L, Q, k, k)."""
        return _derivative(self.tangents.theta, self.origin.theta.shape[-1])

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

        From the tangent of the carried ratio and the chain rule.
        """
        ratio = self.tangents.omega_ratio.unsqueeze(-1)
        slope = _derivative(ratio, self.origin.omega.shape[-1]).mT
        return torch.linalg.solve(self.jacobian_predictor.mT, slope).squeeze(-1)
