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

import numpy as np
import torch
from torch import Tensor

from ..activations import Activation
from ..arguments import require_generator, require_positive_int, require_tensor
from ..kernels import hermite_coefficients

__all__ = ["SignTeacher", "Spectrum"]


def _unit(x: Tensor, d: int | None = None) -> Tensor:
    require_tensor("x", x, 2, last=d)
    if (x.norm(dim=-1) - 1).abs().max() > 1e-8:
        raise ValueError(
            "x: the kernels need unit vectors; divide every input by its norm"
        )
    return x


def _horner(c: Tensor, rho: Tensor) -> Tensor:
    out = torch.zeros_like(rho)
    for value in c.flip(0):
        out = out * rho + value
    return out


@dataclass(frozen=True)
class Spectrum:
    r"""The kernels :math:`K_p` of an activation on the unit sphere.

    Parameters
    ----------
    sigma : str or Activation
        The activation :math:`\sigma_0`.
    degree : int
        Where the series is cut.
    """

    sigma: str | Activation = "tanh"
    degree: int = 80

    def __post_init__(self) -> None:
        object.__setattr__(self, "mu", hermite_coefficients(self.sigma, self.degree))

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
        x = _unit(x)
        other = x if other is None else _unit(other, x.shape[-1])
        rho = 0.5 * (1.0 + x @ other.mT)
        return _horner((1.0 + torch.arange(self.degree + 1)) ** power * self.mu**2, rho)

    def eigenvalue_bounds(self, n: int, cosine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
        tuple of Tensor
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
        upper = whole.sum() - _horner(whole, rho)
        return terms.amax(-1), ((1.0 + r) * terms).sum(-1), upper

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
        x, e = _unit(x), _unit(direction.unsqueeze(-2), x.shape[-1]).squeeze(-2)
        if (x[..., 0, :] * e).sum(-1).abs().max() > 1e-8:
            raise ValueError("direction: not tangent; remove its part along x[..., 0, :]")
        r = torch.arange(self.degree + 1, dtype=x.dtype)
        # k_1'(rho), as a power series
        slope = (r * (1.0 + r) * self.mu**2)[1:]
        rho = 0.5 * (1.0 + x @ x[..., 0, :, None]).squeeze(-1)
        v = 0.5 * _horner(slope, rho) * (x @ e.unsqueeze(-1)).squeeze(-1)
        solved = torch.linalg.solve(self.kernel(x, power=1), v)
        return 0.5 * (0.5 * slope.sum() - (v * solved).sum(-1))

    def radii(self, x: Tensor, y: Tensor) -> Tensor:
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
        Tensor
            Shape (..., 2): flow, least.
        """
        require_tensor("y", y, 1, last=x.shape[-2])
        k0, k1, k2 = (self.kernel(x, power=p) for p in range(3))
        c = torch.linalg.solve(k1, y)
        least = torch.linalg.solve(k0, y)
        flow = (c * (k2 @ c[..., None])[..., 0]).sum(-1)
        return 0.5 * torch.stack([flow, (y * least).sum(-1)], -1)

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
        from scipy.special import eval_gegenbauer, roots_gegenbauer

        if not isinstance(d, int) or d < 3:
            raise ValueError(f"d: expected an integer >= 3, got {d!r}")
        order = d / 2 - 1
        t, w = roots_gegenbauer(200, order)
        values = w / w.sum() * _horner(self.mu**2, torch.as_tensor((1 + t) / 2)).numpy()
        degree = np.arange(degrees)
        harmonics = eval_gegenbauer(degree[:, None], order, t)
        harmonics /= eval_gegenbauer(degree, order, 1.0)[:, None]
        many = [
            math.comb(k + d - 1, k) - (math.comb(k + d - 3, k - 2) if k > 1 else 0)
            for k in degree.tolist()
        ]
        return harmonics @ values, np.array(many, dtype=float)


@dataclass(frozen=True)
class SignTeacher:
    r"""A teacher of finite :math:`\chi^2`: Gaussian weights with a random-sign mean.

    Under :math:`\tau_y` the inner weights :math:`\omega' = (w, b)` stay Gaussian and

    .. math::

        a \mid \omega' \sim N(g(\omega'), 1), \qquad
        g = \frac{\kappa}{\sqrt J} \sum_{j \le J} \mathrm{sign}(v_j\cdot\omega'),

    with orthonormal :math:`v_j`, so that the signs are independent fair coins and
    :math:`\chi^2(\tau_y\|\tau_0) = E\, e^{g^2} - 1` is a finite sum.

    Parameters
    ----------
    directions : Tensor
        The :math:`v_j`, shape (..., J, d + 1), orthonormal.
    kappa : float
        Root mean square of g.
    """

    directions: Tensor
    kappa: float = 1.0

    def __post_init__(self) -> None:
        v = require_tensor("directions", self.directions, 2)
        eye = torch.eye(v.shape[-2], dtype=v.dtype)
        if v.shape[-2] > v.shape[-1] or (v @ v.mT - eye).abs().max() > 1e-8:
            raise ValueError("directions: not orthonormal; take rows of a QR factor")

    @classmethod
    def sample(
        cls,
        d: int,
        generator: torch.Generator,
        ridges: int = 4,
        kappa: float = 1.0,
        batch: tuple[int, ...] = (),
    ) -> SignTeacher:
        r"""Draw random directions in dimension d + 1, a batch of teachers at once."""
        require_generator(generator)
        square = torch.randn(
            *batch, d + 1, d + 1, generator=generator, dtype=torch.float64
        )
        return cls(torch.linalg.qr(square)[0][..., :ridges, :].contiguous(), kappa)

    def means(self) -> tuple[Tensor, Tensor]:
        r"""Return the values of g, shape (J + 1,), and their probabilities."""
        j = self.directions.shape[-2]
        up = torch.arange(j + 1, dtype=torch.float64)
        chance = torch.tensor([math.comb(j, k) / 2.0**j for k in range(j + 1)])
        return self.kappa / math.sqrt(j) * (2 * up - j), chance.double()

    def chi2(self) -> float:
        r"""Return :math:`\chi^2(\tau_y\|\tau_0) = E\, e^{g^2} - 1`."""
        g, chance = self.means()
        return float((chance * torch.expm1(g**2)).sum())

    def third(self) -> float:
        r"""Return :math:`E\,u^3`, :math:`u = d\tau_y/d\tau_0 - 1`, a finite sum too."""
        g, chance = self.means()
        return float((chance * (torch.expm1(3 * g**2) - 3 * torch.expm1(g**2))).sum())

    def labels(self, x: Tensor, spectrum: Spectrum) -> Tensor:
        r"""Return :math:`y(x) = E_{\tau_y} h(x, \cdot)`, exactly.

        .. math::

            y(x) = \frac{\kappa}{\sqrt J} \sum_j \sum_r \mu_r s_r
                   \Big(\frac{v_j\cdot(x, 1)}{\sqrt2}\Big)^r,

        with :math:`s_r` the Hermite coefficients of the sign.

        Parameters
        ----------
        x : Tensor
            Unit vectors, shape (..., n, d).
        spectrum : Spectrum
            The activation's.

        Returns
        -------
        Tensor
            Shape (..., n).
        """
        x = _unit(x, self.directions.shape[-1] - 1)
        lifted = torch.cat([x, torch.ones_like(x[..., :1])], -1) / math.sqrt(2.0)
        ridge = _horner(
            spectrum.mu * _sign_coefficients(spectrum.degree),
            lifted @ self.directions.mT,
        )
        return self.kappa / math.sqrt(self.directions.shape[-2]) * ridge.sum(-1)


def _sign_coefficients(degree: int) -> Tensor:
    out = torch.zeros(degree + 1, dtype=torch.float64)
    size = math.sqrt(2.0 / math.pi)
    for r in range(1, degree + 1, 2):
        out[r] = size
        size *= -r / math.sqrt((r + 1) * (r + 2))
    return out
