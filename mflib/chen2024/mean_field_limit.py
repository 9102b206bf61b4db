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

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import (
    require_batch,
    require_callable,
    require_generator,
    require_instance,
    require_number,
    require_positive_int,
    require_tensor,
)
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
        The least number of nodes of the quadrature over the preactivation; wide laws take
        more.
    """

    neuron: NeuronBlock
    nodes: int = 121

    def __post_init__(self) -> None:
        require_instance("neuron", self.neuron, NeuronBlock)
        require_positive_int("nodes", self.nodes)

    @property
    def d(self) -> int:
        """The dimension of the state."""
        return self.neuron.d

    @property
    def d_out(self) -> int:
        """The dimension of the value."""
        return self.neuron.d_out

    @property
    def k(self) -> int:
        """The length of the flat pair (m, A)."""
        return self.neuron.k * (self.neuron.k + 1)

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
        # the error is exp(-pi^2 / (spacing spread)) for the poles of tanh: 2e-11 at 0.4
        widest = float(spread.detach().max())
        if not widest < 400.0:
            raise ValueError(
                f"theta: preactivations reach a standard deviation of {widest:.3g}, too wide "
                "for quadrature; scale the factor A or the points down"
            )
        count = max(self.nodes, math.ceil(2 * 9.5 * widest / 0.4) + 1)
        t, mass = normal_rule(count, None if count == self.nodes else 9.5)
        mass = mass if weight is None else mass * t
        return function(mean.unsqueeze(-1) + spread.unsqueeze(-1) * t) @ mass

    def value(self, x: Tensor, theta: Tensor) -> Tensor:
        u, _, mean, spread, _, shared = self._moments(x, theta)
        sigma = self.neuron.sigma
        return u * self._average(sigma.f, mean, spread).unsqueeze(-1) + shared * self._average(
            sigma.df, mean, spread
        ).unsqueeze(-1)

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
        require_callable("mean", self.mean)
        k = require_tensor("mean", self.mean(0.0), 1).shape[-1]
        require_number("scale", self.scale)
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

    def _noise(self, count: int, generator: torch.Generator, *batch: int) -> Tensor:
        require_generator(generator)
        require_positive_int("particles", count)
        own, k = self.mean(0.0).shape[:-1], self.factor.shape[-1]
        g = torch.randn(*batch, *own, count, k, generator=generator, dtype=torch.float64)
        return g @ self.factor.mT

    def curves(
        self,
        particles: int,
        generator: torch.Generator,
        batch: tuple[int, ...] = (),
        shared: float = 0.0,
        mass: float | None = None,
    ) -> CurveMeasure:
        r"""Draw particles that keep their noise over depth, :math:`\theta_m(s) = m(s) + A g_m`.

        Parameters
        ----------
        particles : int
            Particles M of a network.
        generator : torch.Generator
            The source of randomness.
        batch : tuple of int
            Leading batch dimensions, an independent network each; those of the law follow.
        shared : float
            The correlation between two particles of a network; 0 draws independently,
            otherwise they are exchangeable only.
        mass : float, optional
            Mass of a particle. Default: scale / M.

        Returns
        -------
        CurveMeasure
            With particles of shape (batch..., ..., M, k).

        Raises
        ------
        TypeError, ValueError
            If a size is impossible, or `shared` lies outside [0, 1].
        """
        require_number("shared", shared, least=0, most=1)
        batch = require_batch(batch)
        if mass is not None:
            require_number("mass", mass)
        noise = self._noise(particles, generator, *batch)
        if shared:
            common = self._noise(1, generator, *batch)
            noise = shared**0.5 * common + (1.0 - shared) ** 0.5 * noise
        mass = self.scale / particles if mass is None else mass
        weights = torch.full((particles,), mass, dtype=torch.float64)
        return CurveMeasure(
            lambda depth: self.mean(depth).unsqueeze(-2) + noise, lambda depth: weights
        )

    def layers(
        self,
        layers: int,
        particles: int,
        generator: torch.Generator,
        batch: tuple[int, ...] = (),
    ) -> LayeredMeasure:
        r"""Draw fresh particles in each of L layers, from the law at the layer's start.

        `batch` as in :meth:`curves`. Returns a measure with `theta` of shape
        (batch..., ..., L, M, k), mass scale / M each.
        """
        require_positive_int("layers", layers)
        noise = self._noise(particles, generator, layers, *require_batch(batch))
        means = [self.mean(l / layers).unsqueeze(-2) for l in range(layers)]
        theta = torch.stack([m + v for m, v in zip(means, noise, strict=True)], -3)
        weights = torch.full((layers, particles), self.scale / particles, dtype=torch.float64)
        return LayeredMeasure(theta, weights)
