r"""Particle measures :math:`\rho` over parameters and depth :math:`(\theta, t)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .arguments import require_positive_int, require_tensor

__all__ = [
    "CurveMeasure",
    "LayeredMeasure",
    "Measure",
    "mixture",
]


class Measure:
    r"""A probability measure over :math:`(\theta, t)`, given by particles at each depth.

    A measure answers one question: which particles, with which weights, drive the flow
    at the stages of a one-step method with `steps` equal steps?
    """

    def stages(self, steps: int, abscissae: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        r"""Return particles and weights at the stage depths :math:`(l + c_s)/L`.

        Parameters
        ----------
        steps : int
            The number :math:`L` of equal steps in depth.
        abscissae : tuple of float
            The :math:`S` stage abscissae :math:`c_s \in [0, 1]`.

        Returns
        -------
        theta : Tensor
            Shape (..., L, S, N, k).
        weights : Tensor
            Shape (..., L, S, N); at each stage they sum to the depth density
            :math:`m(t) = \rho(\Omega, t)`.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class LayeredMeasure(Measure):
    r"""Particles that stay put within each of :math:`L` equal depth cells.

    .. math::

        \rho(\theta, t) = \sum_{i=1}^N w_{l,i}\, \delta_{\theta_{l,i}},
        \qquad t \in [l/L, (l+1)/L).

    Parameters
    ----------
    theta : Tensor
        Particles, shape (..., L, N, k).
    weights : Tensor, optional
        Shape (..., L, N). Layer `l` sums to the depth density :math:`m_l`, so the total
        mass is the mean of the layer sums. Default: 1/N each.

    Raises
    ------
    TypeError, ValueError
        If an argument is no finite floating-point tensor of a fitting shape.
    """

    theta: Tensor
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        require_tensor("theta", self.theta, 3)
        if self.weights is None:
            n = self.theta.shape[-2]
            uniform = torch.full(
                self.theta.shape[-3:-1], 1.0 / n,
                dtype=self.theta.dtype, device=self.theta.device,
            )
            object.__setattr__(self, "weights", uniform)
        require_tensor("weights", self.weights, 2)
        if self.weights.shape[-2:] != self.theta.shape[-3:-1]:
            raise ValueError(
                f"weights: shape {tuple(self.weights.shape)} does not end with (L, N) = "
                f"{tuple(self.theta.shape[-3:-1])} of theta"
            )

    @property
    def layers(self) -> int:
        """The number L of depth cells."""
        return self.theta.shape[-3]

    @property
    def depth_density(self) -> Tensor:
        r"""The density :math:`m_l` of the depth marginal, shape (..., L); its mean is the mass."""
        return self.weights.sum(-1)

    def stages(self, steps: int, abscissae: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        """Return the cell's particles at every stage; `steps` is a multiple of L."""
        require_positive_int("steps", steps)
        if steps % self.layers:
            raise ValueError(
                f"steps: {steps} is no multiple of the measure's {self.layers} layers; "
                "steps must not straddle a jump of the measure"
            )
        repeat, s = steps // self.layers, len(abscissae)
        theta, weights = self.theta, self.weights
        if repeat > 1:
            theta = theta.repeat_interleave(repeat, dim=-3)
            weights = weights.repeat_interleave(repeat, dim=-2)
        theta = theta.unsqueeze(-3).expand(*theta.shape[:-2], s, *theta.shape[-2:])
        weights = weights.unsqueeze(-2).expand(*weights.shape[:-1], s, weights.shape[-1])
        return theta, weights


@dataclass(frozen=True)
class CurveMeasure(Measure):
    r"""Particles that move along smooth curves in depth.

    .. math::

        \rho(\cdot, t) = \sum_{i=1}^N w_i(t)\, \delta_{\theta_i(t)}.

    Parameters
    ----------
    theta : callable
        Maps a depth (float) to particles of shape (..., N, k).
    weights : callable, optional
        Maps a depth to weights of shape (..., N). Default: 1/N at every depth.
    """

    theta: Callable[[float], Tensor]
    weights: Callable[[float], Tensor] | None = None

    def at(self, depth: float) -> tuple[Tensor, Tensor]:
        """Return particles (..., N, k) and weights (..., N) at one depth."""
        theta = require_tensor("theta(t)", self.theta(depth), 2)
        if self.weights is not None:
            return theta, require_tensor("weights(t)", self.weights(depth), 1)
        return theta, torch.full_like(theta[..., 0], 1.0 / theta.shape[-2])

    def stages(self, steps: int, abscissae: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        """Evaluate the curves at every stage depth."""
        require_positive_int("steps", steps)
        rows = [
            [self.at((step + c) / steps) for c in abscissae] for step in range(steps)
        ]
        theta = torch.stack([torch.stack([r[0] for r in row], -3) for row in rows], -4)
        weights = torch.stack([torch.stack([r[1] for r in row], -2) for row in rows], -3)
        return theta, weights


@dataclass(frozen=True)
class _Mixture(Measure):
    rho: Measure
    nu: Measure
    lam: float | Tensor

    def stages(self, steps: int, abscissae: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        theta, weights = [], []
        lam = torch.as_tensor(self.lam, dtype=torch.float64)[..., None, None, None]
        for measure, share in ((self.rho, 1.0 - lam), (self.nu, lam)):
            t, w = measure.stages(steps, abscissae)
            w = share * w
            batch = torch.broadcast_shapes(t.shape[:-4], w.shape[:-3])
            theta.append(t.expand(*batch, *t.shape[-4:]))
            weights.append(w.expand(*batch, *w.shape[-3:]))
        batch = torch.broadcast_shapes(theta[0].shape[:-4], theta[1].shape[:-4])
        theta = [t.expand(*batch, *t.shape[-4:]) for t in theta]
        weights = [w.expand(*batch, *w.shape[-3:]) for w in weights]
        return torch.cat(theta, -2), torch.cat(weights, -1)


def mixture(rho: Measure, nu: Measure, lam: float | Tensor) -> Measure:
    r"""Return the point :math:`\rho + \lambda(\nu - \rho)` of the segment from `rho` to `nu`.

    The particles of both stay where they are; only the weights change, so a mixture is
    not a displacement. `lam` may lie outside [0, 1]: the result is then a signed measure,
    which finite differences need.

    Parameters
    ----------
    rho, nu : Measure
        Measures over the same parameters.
    lam : float or Tensor
        The mixing weight :math:`\lambda`; a tensor (...) becomes a batch dimension.

    Returns
    -------
    Measure

    Raises
    ------
    ValueError
        If `lam` holds NaN or infinity.
    """
    if not torch.isfinite(torch.as_tensor(lam)).all():
        raise ValueError("lam: holds NaN or infinity; pass finite mixing weights")
    if isinstance(rho, LayeredMeasure) and isinstance(nu, LayeredMeasure):
        if rho.layers != nu.layers:
            raise ValueError(
                f"nu: has {nu.layers} layers, rho has {rho.layers}; use equal depths"
            )
        theta, weights = _Mixture(rho, nu, lam).stages(rho.layers, (0.0,))
        return LayeredMeasure(theta[..., 0, :, :], weights[..., 0, :])
    return _Mixture(rho, nu, lam)
