r"""A teacher whose density ratio to the initial law has finite moments in closed form.

Labels are exact values of a network of infinite width, whose law :math:`\tau_y` has a
finite :math:`\chi^2` distance from :math:`\tau_0` (chen2024, Theorem 4.9 and Lemma C.13
ask for no more).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import (
    require_generator,
    require_instance,
    require_int,
    require_number,
    require_positive_int,
    require_tensor,
)
from .sphere_kernel import Spectrum, power_series, unit_vectors

__all__ = ["SignTeacher"]


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
        require_number("kappa", self.kappa)
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
        r"""Draw teachers with random directions.

        Parameters
        ----------
        d : int
            Dimension of the inputs; the directions lie in dimension d + 1.
        generator : torch.Generator
            The source of randomness.
        ridges : int
            The number J of directions, at most d + 1.
        kappa : float
            Root mean square of g.
        batch : tuple of int
            Leading batch dimensions, an independent teacher each.
        """
        require_generator(generator)
        require_int("ridges", ridges, 1, require_positive_int("d", d) + 1)
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
        require_instance("spectrum", spectrum, Spectrum)
        x = unit_vectors(x, self.directions.shape[-1] - 1)
        lifted = torch.cat([x, torch.ones_like(x[..., :1])], -1) / math.sqrt(2.0)
        ridge = power_series(
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
