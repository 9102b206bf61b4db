r"""Particle measures :math:`\rho` over parameters and depth :math:`(\theta, t)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .arguments import (
    require_alike,
    require_broadcast,
    require_instance,
    require_number,
    require_positive_int,
    require_tensor,
)

__all__ = [
    "CurveMeasure",
    "LayeredMeasure",
    "Measure",
    "Stages",
    "mixture",
]


class Stages(NamedTuple):
    """Particles (..., L, S, N, k) and weights (..., L, S, N) at the stages of a method."""

    theta: Tensor
    weights: Tensor


class Measure:
    r"""A probability measure over :math:`(\theta, t)`, given by particles at each depth.

    A measure answers one question: which particles, with which weights, drive the flow
    at the stages of a one-step method with `steps` equal steps?
    """

    def stages(self, steps: int, abscissae: tuple[float, ...]) -> Stages:
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


def _require_abscissae(abscissae: object) -> None:
    if not isinstance(abscissae, (tuple, list)) or not abscissae:
        raise TypeError(f"abscissae: expected a tuple of numbers in [0, 1], got {abscissae!r}")
    for c in abscissae:
        require_number("abscissae", c, least=0, most=1)


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

    Examples
    --------
    >>> rho = LayeredMeasure(torch.zeros(4, 8, 3))  # L = 4 layers of N = 8 particles
    >>> rho.depth_density
    tensor([1., 1., 1., 1.])
    """

    theta: Tensor
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        require_tensor("theta", self.theta, 3)
        if self.weights is None:
            n = self.theta.shape[-2]
            uniform = torch.full(
                self.theta.shape[-3:-1],
                1.0 / n,
                dtype=self.theta.dtype,
                device=self.theta.device,
            )
            object.__setattr__(self, "weights", uniform)
        require_tensor("weights", self.weights, 2)
        if self.weights.shape[-2:] != self.theta.shape[-3:-1]:
            raise ValueError(
                f"weights: shape {tuple(self.weights.shape)} does not end with (L, N) = "
                f"{tuple(self.theta.shape[-3:-1])} of theta"
            )
        require_alike(theta=self.theta, weights=self.weights)
        require_broadcast(theta=self.theta.shape[:-3], weights=self.weights.shape[:-2])

    @property
    def layers(self) -> int:
        """The number L of depth cells."""
        return self.theta.shape[-3]

    @property
    def depth_density(self) -> Tensor:
        r"""The density :math:`m_l` of the depth marginal, shape (..., L); its mean is the mass."""
        return self.weights.sum(-1)

    def stages(self, steps: int, abscissae: tuple[float, ...]) -> Stages:
        """Return the cell's particles at every stage; `steps` is a multiple of L."""
        require_positive_int("steps", steps)
        _require_abscissae(abscissae)
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
        return Stages(theta, weights)


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

    Raises
    ------
    TypeError
        If one of them is no callable.

    Examples
    --------
    >>> rho = CurveMeasure(lambda t: torch.tensor([[t], [1.0 - t]]))  # two particles
    >>> rho.stages(2, (0.0,)).theta[:, 0, :, 0]  # at depths 0 and 1/2
    tensor([[0.0000, 1.0000],
            [0.5000, 0.5000]])
    """

    theta: Callable[[float], Tensor]
    weights: Callable[[float], Tensor] | None = None

    def __post_init__(self) -> None:
        for name in ("theta", "weights"):
            curve = getattr(self, name)
            if not (callable(curve) or (name == "weights" and curve is None)):
                raise TypeError(
                    f"{name}: expected a function of depth, got {type(curve).__name__}; "
                    "particles that stay put are a LayeredMeasure"
                )

    def at(self, depth: float) -> tuple[Tensor, Tensor]:
        """Return particles (..., N, k) and weights (..., N) at one depth."""
        require_number("depth", depth)
        theta = require_tensor("theta(t)", self.theta(depth), 2)
        if self.weights is not None:
            return theta, require_tensor("weights(t)", self.weights(depth), 1)
        return theta, torch.full_like(theta[..., 0], 1.0 / theta.shape[-2])

    def stages(self, steps: int, abscissae: tuple[float, ...]) -> Stages:
        """Evaluate the curves at every stage depth."""
        require_positive_int("steps", steps)
        _require_abscissae(abscissae)
        rows = [[self.at((step + c) / steps) for c in abscissae] for step in range(steps)]
        theta = torch.stack([torch.stack([r[0] for r in row], -3) for row in rows], -4)
        weights = torch.stack([torch.stack([r[1] for r in row], -2) for row in rows], -3)
        return Stages(theta, weights)


@dataclass(frozen=True)
class _Mixture(Measure):
    rho: Measure
    nu: Measure
    lam: float | Tensor

    def stages(self, steps: int, abscissae: tuple[float, ...]) -> Stages:
        theta, weights = [], []
        lam = torch.as_tensor(self.lam, dtype=torch.float64)[..., None, None, None]
        for measure, share in ((self.rho, 1.0 - lam), (self.nu, lam)):
            t, w = measure.stages(steps, abscissae)
            w = share.to(w.dtype) * w
            batch = require_broadcast(rho=t.shape[:-4], lam=w.shape[:-3])
            theta.append(t.expand(*batch, *t.shape[-4:]))
            weights.append(w.expand(*batch, *w.shape[-3:]))
        if theta[0].shape[-1] != theta[1].shape[-1]:
            raise ValueError(
                f"nu: its particles have k = {theta[1].shape[-1]} entries, those of rho "
                f"{theta[0].shape[-1]}; mix laws over the same parameters"
            )
        batch = require_broadcast(rho=theta[0].shape[:-4], nu=theta[1].shape[:-4])
        theta = [t.expand(*batch, *t.shape[-4:]) for t in theta]
        weights = [w.expand(*batch, *w.shape[-3:]) for w in weights]
        return Stages(torch.cat(theta, -2), torch.cat(weights, -1))


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
    TypeError, ValueError
        If `lam` is no finite number or the measures do not fit each other.

    Examples
    --------
    >>> rho, nu = (LayeredMeasure(torch.full((1, 1, 1), v)) for v in (0.0, 1.0))
    >>> mixture(rho, nu, 0.25).weights
    tensor([[0.7500, 0.2500]])
    """
    require_instance("rho", rho, Measure)
    require_instance("nu", nu, Measure)
    if isinstance(lam, Tensor):
        require_tensor("lam", lam, 0)
    else:
        require_number("lam", lam)
    if isinstance(rho, LayeredMeasure) and isinstance(nu, LayeredMeasure):
        if rho.layers != nu.layers:
            raise ValueError(f"nu: has {nu.layers} layers, rho has {rho.layers}; use equal depths")
        theta, weights = _Mixture(rho, nu, lam).stages(rho.layers, (0.0,))
        return LayeredMeasure(theta[..., 0, :, :], weights[..., 0, :])
    return _Mixture(rho, nu, lam)
