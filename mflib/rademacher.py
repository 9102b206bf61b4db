r"""Rademacher complexity of Kullback-Leibler balls, by one-dimensional convex duals.

For a standard Gaussian outer weight a (or vector u), integrated in closed form,
Donsker-Varadhan duality gives

.. math::

    \sup_{KL(\tau\|\tau_0) \le r} E_\tau[a\,T]
        = \min_{\mu > 0} \frac{r + k(\mu^2)}{\mu}, \qquad
    k(s) = \log E\, e^{s\,|T|^2/2},

with the expectation over the inner weights, here M equally weighted particles. The
encoder is frozen, :math:`Z = x`, unless a function says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .arguments import (
    require_alike,
    require_broadcast,
    require_generator,
    require_number,
    require_positive_int,
    require_tensor,
)

__all__ = [
    "BallSupremum",
    "TailMember",
    "ball_supremum",
    "heavy_tail_member",
    "random_signs",
]


def random_signs(n: int, draws: int, generator: torch.Generator) -> Tensor:
    r"""Return independent signs :math:`\pm1`, shape (draws, n), float64.

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer or `generator` none.

    Examples
    --------
    >>> random_signs(4, 100, torch.Generator().manual_seed(0)).abs().mean()
    tensor(1., dtype=torch.float64)
    """
    require_generator(generator)
    require_positive_int("n", n)
    require_positive_int("draws", draws)
    return 2.0 * torch.randint(2, (draws, n), generator=generator).double() - 1.0


@dataclass(frozen=True)
class BallSupremum:
    r"""The supremum of a linear functional over a KL ball, and where it is attained.

    Attributes
    ----------
    dual : Tensor
        The minimum of the dual, shape (...).
    mu : Tensor
        The inverse multiplier :math:`\mu`, shape (...).
    weights : Tensor
        Inner weights' law under the maximiser, shape (..., M), sum 1.
    energy : Tensor
        :math:`|T|^2`, shape (..., M).
    """

    dual: Tensor
    mu: Tensor
    weights: Tensor
    energy: Tensor

    @property
    def primal(self) -> Tensor:
        r""":math:`E_\tau[a\,T]` at the tilted law, with :math:`a \sim N(\mu T, 1)`."""
        return self.mu * (self.weights * self.energy).sum(-1)

    @property
    def kl(self) -> Tensor:
        r""":math:`KL(\tau\|\tau_0)`: inner entropy plus half the squared shift."""
        q = self.weights
        inner = torch.special.xlogy(q, q * q.shape[-1]).sum(-1)
        return inner + 0.5 * self.mu**2 * (q * self.energy).sum(-1)


def ball_supremum(energy: Tensor, radius: float | Tensor, iterations: int = 60) -> BallSupremum:
    r"""Return :math:`\sup_{KL(\tau\|\tau_0)\le r} E_\tau[a\,T]` and its maximiser.

    Parameters
    ----------
    energy : Tensor
        :math:`|T|^2` at the inner particles, shape (..., M), mass 1/M each.
    radius : float or Tensor
        The radius r; a tensor has shape (...).
    iterations : int
        Cap on Newton steps for the stationarity :math:`2s\,k'(s) - k(s) = r`,
        :math:`s = \mu^2`; the left side is the tilted measure's KL and increases.

    Returns
    -------
    BallSupremum

    Raises
    ------
    ValueError
        If `radius` is not positive, `energy` negative or nowhere positive.

    Notes
    -----
    Newton's method in a bracket, for all batch entries at once: a scalar root finder would
    take them one by one. The dual value is stationary in s, so once the equation holds to
    :math:`10^{-7} r` one more step leaves an error of the order of its square.

    Examples
    --------
    A constant functional T = 2 has the supremum :math:`2\sqrt{2r}`:

    >>> ball_supremum(torch.full((5,), 4.0), radius=0.5).dual
    tensor(2.)
    """
    require_tensor("energy", energy, 1)
    if not isinstance(radius, Tensor):
        radius = energy.new_tensor(require_number("radius", radius, above=0))
    require_alike(energy=energy, radius=require_tensor("radius", radius, 0))
    if not (radius > 0).all():
        raise ValueError("radius: expected positive numbers")
    require_positive_int("iterations", iterations)
    if (energy < 0).any() or (energy.amax(-1) == 0).any():
        raise ValueError("energy: |T|^2 must be >= 0 and positive somewhere")
    batch = require_broadcast(energy=energy.shape[:-1], radius=radius.shape)
    half = 0.5 * energy.expand(*batch, energy.shape[-1])
    tilt, r = _Tilt(half), radius.expand(batch)
    low, high = torch.zeros_like(tilt.top), torch.full_like(tilt.top, torch.inf)
    s, settled = r / half.mean(-1), False
    for _ in range(iterations):
        k, first, second = tilt(s)
        excess = 2 * s * first - k - r
        low, high = torch.where(excess < 0, s, low), torch.where(excess < 0, high, s)
        settled = bool((excess.abs() <= 1e-7 * r).all())
        new = s - excess / (first + 2 * s * second)
        # at the end rounding may put Newton's step outside of a bracket of its own width
        outside = ((new <= low) | (new >= high)) & (excess.abs() > 1e-7 * r)
        between = 0.5 * (low + torch.where(high.isinf(), 4 * s - low, high))
        s = torch.where(outside, between, new)
        if settled:
            break
    k, _, _ = tilt(s)
    mu = s.sqrt()
    return BallSupremum((r + k) / mu, mu, tilt.weights, 2 * half)


class _Tilt:
    r"""Moments under weights proportional to :math:`e^{s h}`, with one exponential."""

    def __init__(self, half: Tensor) -> None:
        self.top = half.amax(-1)
        below = half - self.top.unsqueeze(-1)
        self.powers = torch.stack([torch.ones_like(below), below, below.square()], -1)
        self.below, self.work = below, torch.empty_like(below)

    def __call__(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return k(s) and its first two derivatives."""
        torch.mul(self.below, s.unsqueeze(-1), out=self.work).exp_()
        total, first, second = (self.work.unsqueeze(-2) @ self.powers).squeeze(-2).unbind(-1)
        first, second = first / total, second / total
        k = s * self.top + torch.log(total / self.work.shape[-1])
        self.total = total
        return k, self.top + first, (second - first.square()).clamp_min(0.0)

    @property
    def weights(self) -> Tensor:
        """The last weights, of sum 1."""
        return self.work / self.total.unsqueeze(-1)


class TailMember(NamedTuple):
    """The mass that a tail may carry in a KL ball, and the mean there."""

    mass: float
    mean: float


def heavy_tail_member(law: object, radius: float, cut: float) -> TailMember:
    r"""Return the largest mass a KL ball lets one move into a tail, and the mean there.

    .. math::

        \tau = (1 - m)\,\tau_0(\cdot \mid a \notin C) + m\,\tau_0(\cdot \mid a \in C),
        \qquad C = [A, 2A],

    with the largest m for which :math:`KL(\tau\|\tau_0)
    = m\log\frac mp + (1-m)\log\frac{1-m}{1-p} \le r`, p the initial mass of C.

    Parameters
    ----------
    law : object
        The initial law of a, a frozen distribution of ``scipy.stats``.
    radius : float
        The radius r.
    cut : float
        The level A > 0.

    Returns
    -------
    mass : float
        m.
    mean : float
        :math:`E[a \mid a \in C]`; the member reaches
        :math:`m\,E[a \mid C]\,E|T|` if the tail takes the sign of T.

    Raises
    ------
    TypeError, ValueError
        If `law` is no distribution, or gives the tail no mass.

    Examples
    --------
    >>> from scipy import stats
    >>> mass, mean = heavy_tail_member(stats.t(3), radius=0.1, cut=10.0)
    >>> round(mean, 2)
    12.89
    """
    from scipy.integrate import quad
    from scipy.optimize import brentq
    from scipy.special import xlogy

    for function in ("sf", "pdf"):
        if not callable(getattr(law, function, None)):
            raise TypeError(
                f"law: has no {function}; pass a frozen distribution of scipy.stats, such as "
                "scipy.stats.t(3)"
            )
    radius = require_number("radius", radius, above=0)
    cut = require_number("cut", cut, above=0)
    p = float(law.sf(cut) - law.sf(2 * cut))
    if not 0 < p < 1:
        raise ValueError(f"cut: the law gives [{cut}, {2 * cut}] no mass; choose it smaller")

    def excess(m: float) -> float:
        rest = 1 - m
        return float(xlogy(m, m / p) + xlogy(rest, rest / (1 - p))) - radius

    mass = 1.0 if excess(1.0) < 0 else float(brentq(excess, p, 1.0, xtol=1e-300))
    mean = quad(lambda a: a * law.pdf(a), cut, 2 * cut)[0] / p
    return TailMember(mass, float(mean))
