r"""Gaussian laws of neurons: particles to sample, and the mean field in closed form.

For :math:`(u, w, b) \sim N(m, \Sigma)` and :math:`c = w\cdot z + b`, Stein's identity gives

.. math::

    E[u\,\sigma(c)] = E[u]\, E\,\sigma(c) + \operatorname{Cov}(u, c)\, E\,\sigma'(c),
    \qquad c \sim N(m_w\cdot z + m_b,\; \tilde z^\top \Sigma_{wb}\, \tilde z),
    \quad \tilde z = (z, 1),

so the infinitely wide network (chen2024, eq. (5) and (6)) needs one-dimensional
integrals only. Nothing is sampled, and the limit is known to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import require_generator, require_positive_int, require_tensor
from ..blocks import Block, NeuronBlock
from ..kernels import normal_rule
from ..measures import CurveMeasure, LayeredMeasure

__all__ = ["AveragedNeuron", "GaussianLaw"]


@dataclass(frozen=True)
class AveragedNeuron(Block):
    r"""The block :math:`f(z, (m, A)) = E[u\,\sigma(w\cdot z + b)]` of a Gaussian law.

    .. math::

        f(z, (m, A)) = E[u]\, E\,\sigma(c) + \operatorname{Cov}(u, c)\, E\,\sigma'(c),
        \qquad (u, w, b) \sim N(m, AA^\top),

    and one of its particles is a whole law, the flat pair (m, A).

    Parameters
    ----------
    neuron : NeuronBlock
        The neuron that is averaged.
    nodes : int
        Nodes of the quadrature over the preactivation.
    """

    neuron: NeuronBlock
    nodes: int = 121

    def __post_init__(self) -> None:
        size = self.neuron.k
        object.__setattr__(self, "d", self.neuron.d)
        object.__setattr__(self, "d_out", self.neuron.d_out)
        object.__setattr__(self, "k", size + size * size)

    def _moments(self, x: Tensor, theta: Tensor) -> tuple[Tensor, ...]:
        if theta.shape[-1] != self.k:
            raise ValueError(f"theta: last dimension is {theta.shape[-1]}, expected k = {self.k}")
        size, o = self.neuron.k, self.neuron.d_out
        m, A = theta[..., :size], theta[..., size:].unflatten(-1, (size, size))
        cov = A @ A.mT
        lifted = torch.cat([x, torch.ones_like(x[..., :1])], -1)
        mean = lifted @ m[..., o:].mT  # of c, (..., n, N)
        pull = torch.einsum("...ie,...jef->...ijf", lifted, cov[..., o:, o:])
        spread = (pull * lifted.unsqueeze(-2)).sum(-1).clamp_min(0).sqrt()
        shared = torch.einsum("...ie,...jae->...ija", lifted, cov[..., :o, o:])
        return m[..., :o].unsqueeze(-3), m[..., o:-1].unsqueeze(-3), mean, spread, pull, shared

    def _average(self, function, mean: Tensor, spread: Tensor, weight=None) -> Tensor:
        t, mass = normal_rule(self.nodes)
        mass = mass if weight is None else mass * t
        return function(mean.unsqueeze(-1) + spread.unsqueeze(-1) * t) @ mass

    def value(self, x: Tensor, theta: Tensor) -> Tensor:
        u, _, mean, spread, _, shared = self._moments(x, theta)
        sigma = self.neuron.sigma
        return (u * self._average(sigma.f, mean, spread).unsqueeze(-1)
                + shared * self._average(sigma.df, mean, spread).unsqueeze(-1))

    def jacobian(self, x: Tensor, theta: Tensor) -> Tensor:
        u, w, mean, spread, pull, shared = self._moments(x, theta)
        sigma, d, o = self.neuron.sigma, self.d, self.d_out
        e1 = self._average(sigma.df, mean, spread)[..., None, None]
        e2 = self._average(sigma.d2f, mean, spread)[..., None, None]
        # E sigma''' = E[sigma''(c) g] / spread, and 0/0 where the law is a point
        e3 = self._average(sigma.d2f, mean, spread, "g") / spread.clamp_min(1e-300)
        size = self.neuron.k
        A = theta[..., size:].unflatten(-1, (size, size))
        cross = (A @ A.mT)[..., :o, o:-1].unsqueeze(-4)
        w, pull, e3 = w.unsqueeze(-2), pull[..., None, :d], e3[..., None, None]
        u, shared = u.unsqueeze(-1), shared.unsqueeze(-1)
        return e1 * (u * w + cross) + e2 * (u * pull + shared * w) + e3 * shared * pull

    def field(self, x: Tensor, theta: Tensor, weights: Tensor) -> Tensor:
        return torch.einsum("...ija,...j->...ia", self.value(x, theta), weights)

    def jvp(self, x: Tensor, theta: Tensor, weights: Tensor, v: Tensor) -> Tensor:
        return torch.einsum("...ijab,...ib,...j->...ia", self.jacobian(x, theta), v, weights)

    def vjp(self, x: Tensor, theta: Tensor, weights: Tensor, p: Tensor) -> Tensor:
        return torch.einsum("...ijab,...ia,...j->...ib", self.jacobian(x, theta), p, weights)


@dataclass(frozen=True)
class GaussianLaw:
    r"""The law :math:`\nu^s = N(m(s), AA^\top)` of neurons, its mean a curve in depth.

    Parameters
    ----------
    mean : callable
        Maps a depth s to m(s), shape (..., k).
    factor : Tensor
        A, shape (..., k, k).
    scale : float
        The mass of the law: :math:`\alpha` for the encoder, :math:`\beta` for the head.
    """

    mean: Callable[[float], Tensor]
    factor: Tensor
    scale: float = 1.0

    def __post_init__(self) -> None:
        k = require_tensor("mean(0)", self.mean(0.0), 1).shape[-1]
        if require_tensor("factor", self.factor, 2, last=k).shape[-2] != k:
            raise ValueError(f"factor: shape {tuple(self.factor.shape)} is not square")

    @property
    def measure(self) -> CurveMeasure:
        r"""The law itself, as the one particle (m(s), A) of an :class:`AveragedNeuron`."""

        def theta(depth: float) -> Tensor:
            m, flat = self.mean(depth), self.factor.flatten(-2)
            batch = torch.broadcast_shapes(m.shape[:-1], flat.shape[:-1])
            parts = [v.expand(*batch, v.shape[-1]) for v in (m, flat)]
            return torch.cat(parts, -1).unsqueeze(-2)

        mass = torch.full((1,), self.scale, dtype=torch.float64)
        return CurveMeasure(theta, lambda depth: mass)

    def _noise(self, draws: int, count: int, generator: torch.Generator, *layers: int) -> Tensor:
        require_generator(generator)
        for name, size in (("draws", draws), ("particles", count)):
            require_positive_int(name, size)
        batch = self.mean(0.0).shape[:-1]
        k = self.factor.shape[-1]
        g = torch.randn(
            *layers, draws, *batch, count, k, generator=generator, dtype=torch.float64
        )
        return g @ self.factor.mT

    def curves(
        self,
        particles: int,
        draws: int,
        generator: torch.Generator,
        shared: float = 0.0,
        mass: float | None = None,
    ) -> CurveMeasure:
        r"""Draw particles that keep their noise over depth, :math:`\theta_m(s) = m(s) + A g_m`.

        Parameters
        ----------
        particles, draws : int
            M particles in each of S independent networks.
        generator : torch.Generator
            The source of randomness.
        shared : float
            The correlation between two particles of a network; 0 draws independently,
            otherwise they are exchangeable only.
        mass : float, optional
            Mass of a particle. Default: scale / M.

        Returns
        -------
        CurveMeasure
            With particles of shape (S, ..., M, k).

        Raises
        ------
        TypeError, ValueError
            If a size is impossible, or `shared` lies outside [0, 1].
        """
        if not 0.0 <= shared <= 1.0:
            raise ValueError(f"shared: expected a correlation in [0, 1], got {shared!r}")
        noise = self._noise(draws, particles, generator)
        if shared:
            common = self._noise(draws, 1, generator)
            noise = shared**0.5 * common + (1.0 - shared) ** 0.5 * noise
        mass = self.scale / particles if mass is None else mass
        weights = torch.full((particles,), mass, dtype=torch.float64)
        return CurveMeasure(
            lambda depth: self.mean(depth).unsqueeze(-2) + noise, lambda depth: weights
        )

    def layers(
        self, layers: int, particles: int, draws: int, generator: torch.Generator
    ) -> LayeredMeasure:
        r"""Draw fresh particles in each of L layers, from the law at the layer's start.

        Returns a measure with `theta` of shape (S, ..., L, M, k), mass scale / M each.
        """
        require_positive_int("layers", layers)
        noise = self._noise(draws, particles, generator, layers)
        means = [self.mean(l / layers).unsqueeze(-2) for l in range(layers)]
        theta = torch.stack([m + v for m, v in zip(means, noise, strict=True)], -3)
        weights = torch.full((layers, particles), self.scale / particles, dtype=torch.float64)
        return LayeredMeasure(theta, weights)
