r"""The derivative of the training flow's map, and the density ratio read off it.

.. math::

    \log\frac{d\tau_t}{d\tau_0}(\omega_t) = \tfrac12|\omega_t|^2 - \tfrac12|\omega_0|^2
        - \log\Big|\det\frac{\partial\omega_t}{\partial\omega_0}\Big|.

The derivative comes from forward differentiation of the flow's own steps: beside each
chosen particle stand massless copies of it, one a coordinate, and each carries the
tangent of its coordinate along. No second derivative of the loss is written down here,
so this route is independent of the ratio that :mod:`mflib.chen2024.training` carries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..arguments import require_positive_int
from ..kl import log_ratio_of_map
from .training import Particles, TrainingFlow

__all__ = ["FlowMap"]


def _copies(points: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return k copies of points (..., P, k) and their tangents, each (..., kP, k)."""
    if points is None:
        return None, None
    *batch, many, k = points.shape
    eye = torch.eye(k, dtype=points.dtype).repeat_interleave(many, 0)
    copies = points.unsqueeze(-3).expand(*batch, k, many, k).flatten(-3, -2)
    return copies, eye.expand_as(copies)


def _derivative(tangents: Tensor, k: int) -> Tensor:
    """Return (..., P, a, k) from the tangents (..., kP, a) of the copies."""
    return tangents.unflatten(-2, (k, -1)).movedim(-3, -1)


def _tensors(particles: Particles) -> dict[str, Tensor]:
    return {name: value for name, value in vars(particles).items() if value is not None}


def _particles(tensors: dict[str, Tensor]) -> Particles:
    return Particles(**({"theta": None} | tensors))


@dataclass(frozen=True)
class FlowMap:
    r"""A training run that differentiates the paths of some of its particles.

    Make it with :meth:`begin`; every :meth:`step` returns the next one.

    Attributes
    ----------
    flow : TrainingFlow
        The flow.
    particles : Particles
        The particles with mass.
    origin : Particles
        The differentiated particles at time 0.
    copies, tangents : Particles
        Their copies, k of each, and the derivatives by one coordinate of the start.
    """

    flow: TrainingFlow
    particles: Particles
    origin: Particles
    copies: Particles
    tangents: Particles

    @classmethod
    def begin(
        cls, flow: TrainingFlow, particles: Particles, encoder: int, predictor: int
    ) -> FlowMap:
        r"""Differentiate the first `encoder` particles of each layer and `predictor` heads.

        Parameters
        ----------
        flow : TrainingFlow
            The flow.
        particles : Particles
            The particles at time 0.
        encoder, predictor : int
            How many paths to differentiate; `encoder` is 0 when the encoder is frozen.

        Returns
        -------
        FlowMap

        Raises
        ------
        ValueError
            If there are fewer particles.
        """
        require_positive_int("predictor", predictor)
        if predictor > particles.omega.shape[-2]:
            raise ValueError(f"predictor: only {particles.omega.shape[-2]} particles exist")
        most = 0 if particles.theta is None else particles.theta.shape[-2]
        if not min(1, most) <= encoder <= most:
            raise ValueError(
                f"encoder: differentiate {min(1, most)} to {most} particles a layer, "
                f"got {encoder!r}"
            )
        start = Particles.start(particles.theta, particles.omega)
        origin = start.first(encoder, predictor)
        pairs = zip(_copies(origin.theta), _copies(origin.omega), strict=True)
        copies, tangents = (Particles.start(*pair) for pair in pairs)
        return cls(flow, start, origin, copies, tangents)

    def step(self, h: Tensor | float) -> FlowMap:
        """Advance by one Runge-Kutta step, and the derivatives with it."""
        particles, fields = self.flow.stages(self.particles, h)
        copies, tangents = torch.func.jvp(
            lambda parts: _tensors(self.flow.carry(_particles(parts), h, fields)),
            (_tensors(self.copies),),
            (_tensors(self.tangents),),
        )
        return replace(
            self, particles=particles, copies=_particles(copies), tangents=_particles(tangents)
        )

    def advance(self, time: Tensor | float, steps: int) -> FlowMap:
        """Advance by `steps` equal steps over a training time; no stability check."""
        require_positive_int("steps", steps)
        now, h = self, torch.as_tensor(time, dtype=torch.float64) / steps
        for _ in range(steps):
            now = now.step(h)
        return now

    @property
    def points(self) -> Particles:
        """The differentiated particles now, with their carried ratios."""
        theta, omega = self.origin.theta, self.origin.omega
        return self.particles.first(0 if theta is None else theta.shape[-2], omega.shape[-2])

    @property
    def jacobian_encoder(self) -> Tensor:
        r""":math:`\partial\theta_t/\partial\theta_0`, shape (..., L, Q, k, k)."""
        return _derivative(self.tangents.theta, self.origin.theta.shape[-1])

    @property
    def jacobian_predictor(self) -> Tensor:
        r""":math:`\partial\omega_t/\partial\omega_0`, shape (..., P, k, k)."""
        return _derivative(self.tangents.omega, self.origin.omega.shape[-1])

    @property
    def determinant_encoder(self) -> Tensor:
        """The encoder's log-density ratio by the determinant, shape (..., L, Q)."""
        return log_ratio_of_map(self.origin.theta, self.points.theta, self.jacobian_encoder)

    @property
    def determinant_predictor(self) -> Tensor:
        """The predictor's log-density ratio by the determinant, shape (..., P)."""
        return log_ratio_of_map(self.origin.omega, self.points.omega, self.jacobian_predictor)

    @property
    def score_predictor(self) -> Tensor:
        r""":math:`\nabla_\omega\log\frac{\tau_t}{\tau_0}(\omega_t)`, shape (..., P, k).

        From the tangent of the carried ratio and the chain rule.
        """
        ratio = self.tangents.omega_ratio.unsqueeze(-1)
        slope = _derivative(ratio, self.origin.omega.shape[-1]).mT
        return torch.linalg.solve(self.jacobian_predictor.mT, slope).squeeze(-1)
