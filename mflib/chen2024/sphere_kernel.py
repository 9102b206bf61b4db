r"""The predictor's kernels on the sphere, by the Ornstein-Uhlenbeck spectrum.

For :math:`h(x,\omega) = a\,\sigma_0(w\cdot x + b)` with standard Gaussian
:math:`\omega = (a, w, b)` and :math:`\|x\| = 1`, the preactivation is
:math:`\sqrt2\, g` with g standard. With the Hermite coefficients :math:`\mu_r` of
:math:`\sigma_0(\sqrt2\, \cdot)`, h has a component of degree :math:`1 + r` and size
:math:`\mu_r`, and :math:`-\mathcal L = \omega\cdot\nabla - \Delta` multiplies it by
:math:`1 + r`. Hence one family of kernels,

.. math::

    K_p(x, x') = \sum_r (1+r)^p \mu_r^2\, \varrho^r, \qquad
    \varrho = \tfrac12 (1 + x\cdot x'),

with :math:`K_0 = E[h h']`, :math:`K_1 = E[\nabla h\cdot\nabla h']` (the Gram matrix
:math:`G_2` at the start) and :math:`K_2 = E[\mathcal L h\, \mathcal L h']`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import eval_gegenbauer, roots_gegenbauer
from torch import Tensor

from ..activations import Activation, activation
from ..arguments import (
    require_alike,
    require_broadcast,
    require_int,
    require_positive_int,
    require_tensor,
)
from ..kernels import hermite_coefficients, normal_rule

__all__ = ["EigenvalueBounds", "Radii", "Spectrum", "power_series", "unit_vectors"]


def unit_vectors(x: Tensor, d: int | None = None) -> Tensor:
    r"""Return `x`, shape (..., n, d), if its rows have norm 1.

    Raises
    ------
    TypeError, ValueError
        Otherwise.
    """
    if d is not None:
        require_positive_int("d", d)
    require_tensor("x", x, 2, last=d)
    if (x.norm(dim=-1) - 1).abs().max() > 1e-8:
        raise ValueError("x: the kernels need unit vectors; divide every input by its norm")
    return x


def power_series(c: Tensor, rho: Tensor) -> Tensor:
    r"""Return :math:`\sum_r c_r\, \varrho^r` for coefficients (R + 1,), entrywise in rho."""
    if require_tensor("c", c, 1).ndim != 1:
        raise ValueError(f"c: expected one series, got shape {tuple(c.shape)}")
    out = torch.zeros_like(require_tensor("rho", rho, 0))
    for value in c.flip(0):
        out = out * rho + value
    return out


def _solve(kernel: Tensor, right: Tensor) -> Tensor:
    solved, info = torch.linalg.solve_ex(kernel, right.unsqueeze(-1))
    if info.any():
        raise ValueError("x: holds a point twice, the kernel is singular; keep distinct ones")
    return solved.squeeze(-1)


class EigenvalueBounds(NamedTuple):
    r"""Bounds of the smallest eigenvalue of :math:`K_1`, each of shape (...)."""

    term: Tensor
    lower: Tensor
    upper: Tensor


class Radii(NamedTuple):
    r"""KL radii times :math:`\beta^2`: of the trained network and of the least-KL fit."""

    flow: Tensor
    least: Tensor


@dataclass(frozen=True)
class Spectrum:
    r"""The kernels :math:`K_p` of an activation on the unit sphere.

    Parameters
    ----------
    sigma : str or Activation
        The activation :math:`\sigma_0`.
    degree : int
        Where the series is cut.

    Raises
    ------
    ValueError
        If the cut series misses :math:`10^{-5}` of :math:`K_1(x, x)`, as for an activation
        with a kink, where it converges like a power of the degree only.
    """

    sigma: str | Activation = "tanh"
    degree: int = 80

    def __post_init__(self) -> None:
        require_positive_int("degree", self.degree)
        # K_1(x, x) = E[sigma(c)^2] + 2 E[sigma'(c)^2]: what the cut series lacks of it
        g, weights = normal_rule(401)
        sigma = activation(self.sigma)
        c = math.sqrt(2.0) * g
        whole = weights @ (sigma.f(c).square() + 2.0 * sigma.df(c).square())
        r = torch.arange(self.degree + 1)
        lacking = float(1.0 - ((1.0 + r) * self.mu**2).sum() / whole)
        if not abs(lacking) < 1e-5:
            raise ValueError(
                f"sigma: the Hermite series of {sigma.name} lacks {lacking:.1e} of K_1(x, x) at "
                f"degree {self.degree}; raise degree, or take an activation without a kink"
            )

    @cached_property
    def mu(self) -> Tensor:
        r"""Hermite coefficients :math:`\mu_r` of :math:`\sigma_0(\sqrt2\,\cdot)`, (degree + 1,)."""
        return hermite_coefficients(self.sigma, self.degree)

    def kernel(self, x: Tensor, other: Tensor | None = None, power: int = 0) -> Tensor:
        r"""Return :math:`K_p(x_i, x_j)`.

        Parameters
        ----------
        x, other : Tensor
            Unit vectors, shapes (..., n, d) and (..., m, d); other defaults to x.
        power : int
            p: 0 for values, 1 for gradients, 2 for the generator.

        Returns
        -------
        Tensor
            Shape (..., n, m).

        Raises
        ------
        ValueError
            If an input is no unit vector.
        """
        require_int("power", power, 0)
        x = unit_vectors(x)
        other = x if other is None else unit_vectors(other, x.shape[-1])
        rho = 0.5 * (1.0 + x @ other.mT)
        return power_series((1.0 + torch.arange(self.degree + 1)) ** power * self.mu**2, rho)

    def eigenvalue_bounds(self, n: int, cosine: Tensor) -> EigenvalueBounds:
        r"""Bound the smallest eigenvalue of :math:`K_1` for n points, knowing their closest pair.

        .. math::

            \max_r\, \mu_r^2\,(1 - (n-1)\varrho^r)_+
            \;\le\; \sum_r (1+r)\,\mu_r^2\,(1 - (n-1)\varrho^r)_+
            \;\le\; \lambda_{\min}(K_1)
            \;\le\; k_1(1) - k_1(\varrho),

        with :math:`K_1 = k_1(\varrho)` entrywise and :math:`\varrho = \frac12(1+C)` at the
        largest inner product C of two points (chen2024, Lemma 4.3, derived here:
        Gershgorin on every Hadamard power; the two closest points with coefficients
        :math:`\pm1/\sqrt2`). For n = 2 the last two are equalities. The upper bound needs
        a series cut beyond rounding.

        Parameters
        ----------
        n : int
            Number of points.
        cosine : Tensor
            C, shape (...), between -1 and 1.

        Returns
        -------
        EigenvalueBounds
            Largest term, sum and upper bound, each of shape (...).

        Raises
        ------
        ValueError
            If n is no positive integer or a cosine lies outside [-1, 1].
        """
        require_positive_int("n", n)
        rho = 0.5 * (1.0 + require_tensor("cosine", cosine, 0))
        if (rho < 0).any() or (rho > 1).any():
            raise ValueError("cosine: lies outside [-1, 1]; pass products of unit vectors")
        r = torch.arange(self.degree + 1, dtype=rho.dtype)
        terms = self.mu**2 * (1.0 - (n - 1) * rho.unsqueeze(-1) ** r).clamp_min(0)
        whole = (1.0 + r) * self.mu**2
        upper = whole.sum() - power_series(whole, rho)
        return EigenvalueBounds(terms.amax(-1), ((1.0 + r) * terms).sum(-1), upper)

    def collision(self, x: Tensor, direction: Tensor) -> Tensor:
        r"""Return the limit of :math:`\lambda_{\min}(K_1)/\delta^2` as a point doubles.

        A point at the distance :math:`\delta` from the first one, along `direction` e,
        is added to the others; then

        .. math::

            \lim_{\delta\to0} \frac{\lambda_{\min}}{\delta^2} = \tfrac12
            \big(\partial_e\partial_e' k - v^\top K_1^{-1} v\big), \qquad
            v_j = \partial_e k(x_1, x_j),

        half the squared distance of the derivative :math:`\partial_e\nabla h(x_1)` from
        the span of all :math:`\nabla h(x_j)`.

        Parameters
        ----------
        x : Tensor
            Distinct unit vectors, shape (..., n, d).
        direction : Tensor
            Unit tangents at the first of them, shape (..., d).

        Returns
        -------
        Tensor
            Shape (...).

        Raises
        ------
        ValueError
            If an input is no unit vector, or a direction is not tangent.
        """
        require_alike(x=x, direction=require_tensor("direction", direction, 1))
        x, e = unit_vectors(x), unit_vectors(direction.unsqueeze(-2), x.shape[-1]).squeeze(-2)
        if (x[..., 0, :] * e).sum(-1).abs().max() > 1e-8:
            raise ValueError("direction: not tangent; remove its part along x[..., 0, :]")
        r = torch.arange(self.degree + 1, dtype=x.dtype)
        # k_1'(rho), as a power series
        slope = (r * (1.0 + r) * self.mu**2)[1:]
        rho = 0.5 * (1.0 + x @ x[..., 0, :, None]).squeeze(-1)
        v = 0.5 * power_series(slope, rho) * (x @ e.unsqueeze(-1)).squeeze(-1)
        solved = _solve(self.kernel(x, power=1), v)
        return 0.5 * (0.5 * slope.sum() - (v * solved).sum(-1))

    def radii(self, x: Tensor, y: Tensor) -> Radii:
        r"""Return the KL radii of the trained network and of the least-KL fit.

        .. math::

            \beta^2 KL_{\rm flow} \to \tfrac12\, y^\top K_1^{-1} K_2 K_1^{-1} y,
            \qquad \beta^2 KL_{\min} \to \tfrac12\, y^\top K_0^{-1} y,

        for large :math:`\beta` and training time, encoder frozen.

        Parameters
        ----------
        x : Tensor
            Distinct unit vectors, shape (..., n, d).
        y : Tensor
            Targets, shape (..., n).

        Returns
        -------
        Radii
            The two limits, each of shape (...).
        """
        require_tensor("y", y, 1, last=unit_vectors(x).shape[-2])
        require_alike(x=x, y=y)
        require_broadcast(x=x.shape[:-2], y=y.shape[:-1])
        k0, k1, k2 = (self.kernel(x, power=p) for p in range(3))
        c, least = _solve(k1, y), _solve(k0, y)
        flow = (c * (k2 @ c[..., None])[..., 0]).sum(-1)
        return Radii(0.5 * flow, 0.5 * (y * least).sum(-1))

    def felt_degree(self, x: Tensor, power: int = 2) -> Tensor:
        r"""Return the largest degree that the data feel, the top eigenvalue of :math:`(K_p, K_1)`.

        .. math::

            \chi = \max_c \frac{c^\top K_2\, c}{c^\top K_1\, c},

        a weighted mean of the numbers 1 + r. If the activation is odd, none is below 2,
        so that :math:`K_1 \succeq 2 K_0` and, for the radii of :meth:`radii`,

        .. math::

            \tfrac12\, y^\top K_1^{-1}K_2K_1^{-1}\,y \le \tfrac\chi2\, y^\top K_1^{-1} y
            \le \tfrac\chi4\, y^\top K_0^{-1} y .

        Parameters
        ----------
        x : Tensor
            Distinct unit vectors, shape (..., n, d).
        power : int
            p; 2 is the generator, 1 gives :math:`\chi = 1`.

        Returns
        -------
        Tensor
            Shape (...).

        Raises
        ------
        ValueError
            If an input is no unit vector, or :math:`K_1` is singular to rounding.
        """
        gram = self.kernel(x, power=1)
        root, info = torch.linalg.cholesky_ex(gram)
        pivots = root.diagonal(dim1=-2, dim2=-1).square()
        if info.any() or (pivots < 1e-14 * gram.diagonal(dim1=-2, dim2=-1)).any():
            raise ValueError("x: K_1 is singular to rounding; take fewer or more distant points")
        half = torch.linalg.solve_triangular(root, self.kernel(x, power=power), upper=False)
        whole = torch.linalg.solve_triangular(root, half.mT, upper=False)
        return torch.linalg.eigvalsh(0.5 * (whole + whole.mT))[..., -1]

    def sphere(self, d: int, degrees: int = 40) -> tuple[np.ndarray, np.ndarray]:
        r"""Return the eigenvalues of :math:`K_0` for the uniform law on the sphere.

        Parameters
        ----------
        d : int
            Dimension of the space, at least 3.
        degrees : int
            Harmonic degrees 0 to degrees - 1.

        Returns
        -------
        eigenvalues : ndarray
            Shape (degrees,), by the Funk-Hecke formula.
        multiplicity : ndarray
            Dimension of each space of harmonics; the trace is :math:`K_0(x, x)`.

        Raises
        ------
        ValueError
            If d is below 3.
        """
        require_int("d", d, 3)
        require_positive_int("degrees", degrees)
        order = d / 2 - 1
        t, w = roots_gegenbauer(200, order)
        values = w / w.sum() * power_series(self.mu**2, torch.as_tensor((1 + t) / 2)).numpy()
        degree = np.arange(degrees)
        harmonics = eval_gegenbauer(degree[:, None], order, t)
        harmonics /= eval_gegenbauer(degree, order, 1.0)[:, None]
        many = [
            math.comb(k + d - 1, k) - (math.comb(k + d - 3, k - 2) if k > 1 else 0)
            for k in degree.tolist()
        ]
        # none is negative but for rounding
        return np.maximum(harmonics @ values, 0.0), np.array(many, dtype=float)
