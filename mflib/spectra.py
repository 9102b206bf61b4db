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

from .activations import Activation, activation
from .arguments import require_generator, require_positive_int, require_tensor

__all__ = ["SignTeacher", "Spectrum", "hermite_coefficients"]


def _unit(x: Tensor, d: int | None = None) -> Tensor:
    require_tensor("x", x, 2, last=d)
    if (x.norm(dim=-1) - 1).abs().max() > 1e-8:
        raise ValueError("x: the kernels need unit vectors; divide every input by its norm")
    return x


def _horner(c: Tensor, rho: Tensor) -> Tensor:
    out = torch.zeros_like(rho)
    for value in c.flip(0):
        out = out.mul_(rho).add_(value)
    return out


def hermite_coefficients(
    sigma: str | Activation, degree: int = 80, scale: float = math.sqrt(2.0)
) -> Tensor:
    r"""Return :math:`\mu_r = E[\sigma(\text{scale}\, g)\,\mathrm{He}_r(g)/\sqrt{r!}]`.

    Parameters
    ----------
    sigma : str or Activation
        A smooth activation.
    degree : int
        The largest r.
    scale : float
        Standard deviation of the preactivation.

    Returns
    -------
    Tensor
        Shape (degree + 1,), by Gauss-Hermite quadrature with max(200, 2 degree) nodes.

    Raises
    ------
    ValueError
        If `degree` is no positive integer.
    """
    require_positive_int("degree", degree)
    g, w = np.polynomial.hermite_e.hermegauss(min(max(200, 2 * degree), 240))
    g, w = torch.as_tensor(g), torch.as_tensor(w / w.sum())
    values = w * activation(sigma).f(scale * g)
    low, high = torch.ones_like(g), g.clone()
    rows = [low, high]
    for r in range(1, degree):
        low, high = high, (g * high - math.sqrt(r) * low) / math.sqrt(r + 1)
        rows.append(high)
    return torch.stack(rows) @ values


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
        many = [math.comb(k + d - 1, k) - (math.comb(k + d - 3, k - 2) if k > 1 else 0)
                for k in degree.tolist()]
        return harmonics @ values, np.array(many, dtype=float)


@dataclass(frozen=True)
class SignTeacher:
    r"""A teacher law with finite :math:`\chi^2`: Gaussian weights with a random-sign mean.

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
        cls, d: int, generator: torch.Generator, ridges: int = 4, kappa: float = 1.0,
        batch: tuple[int, ...] = (),
    ) -> SignTeacher:
        r"""Draw random directions in dimension d + 1, a batch of teachers at once."""
        require_generator(generator)
        square = torch.randn(*batch, d + 1, d + 1, generator=generator, dtype=torch.float64)
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
        r"""Return :math:`E\,u^3` of :math:`u = d\tau_y/d\tau_0 - 1`, a finite sum too."""
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
