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

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .arguments import require_generator, require_positive_int, require_tensor
from .stepping import runge_kutta_step

__all__ = [
    "BallSupremum",
    "EncoderTerm",
    "ball_supremum",
    "encoder_difference",
    "encoder_term",
    "heavy_tail_member",
    "random_signs",
]


def _radius(radius: float) -> float:
    if not (isinstance(radius, (int, float)) and math.isfinite(radius) and radius > 0):
        raise ValueError(f"radius: expected a finite KL radius > 0, got {radius!r}")
    return float(radius)


def random_signs(n: int, draws: int, generator: torch.Generator) -> Tensor:
    r"""Return independent signs :math:`\pm1`, shape (draws, n), float64."""
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


def ball_supremum(energy: Tensor, radius: float, iterations: int = 60) -> BallSupremum:
    r"""Return :math:`\sup_{KL(\tau\|\tau_0)\le r} E_\tau[a\,T]` and its maximiser.

    Parameters
    ----------
    energy : Tensor
        :math:`|T|^2` at the inner particles, shape (..., M), mass 1/M each.
    radius : float
        The radius r.
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
    """
    require_tensor("energy", energy, 1)
    radius = _radius(radius)
    if (energy < 0).any() or (energy.amax(-1) == 0).any():
        raise ValueError("energy: |T|^2 must be >= 0 and positive somewhere")
    half = 0.5 * energy
    low = torch.zeros_like(half[..., 0])
    high = torch.full_like(low, torch.inf)
    s = radius / half.mean(-1)
    for _ in range(iterations):
        logs = s[..., None] * half
        k = torch.logsumexp(logs, -1) - math.log(half.shape[-1])
        q = torch.softmax(logs, -1)
        first = (q * half).sum(-1)
        second = (q * (half - first[..., None]) ** 2).sum(-1)
        excess = 2 * s * first - k - radius
        low, high = torch.where(excess < 0, s, low), torch.where(excess < 0, high, s)
        new = s - excess / (first + 2 * s * second)
        outside = (new <= low) | (new >= high)
        between = torch.where(high.isinf(), 2 * s, 0.5 * (low + high.clamp(max=1e300)))
        new = torch.where(outside, between, new)
        done = ((new - s).abs() <= 1e-14 * s).all()
        s = new
        if done:
            break
    logs = s[..., None] * half
    k = torch.logsumexp(logs, -1) - math.log(half.shape[-1])
    mu = s.sqrt()
    return BallSupremum((radius + k) / mu, mu, torch.softmax(logs, -1), energy)


def heavy_tail_member(law: object, radius: float, cut: float) -> tuple[float, float]:
    r"""Return mass and mean of an outer-weight tail that fits into a KL ball.

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
    """
    from scipy.integrate import quad
    from scipy.optimize import brentq
    from scipy.special import xlogy

    radius = _radius(radius)
    p = float(law.sf(cut) - law.sf(2 * cut))
    if not 0 < p < 1:
        raise ValueError(
            f"cut: the law gives [{cut}, {2 * cut}] no mass; choose it smaller"
        )

    def excess(m: float) -> float:
        rest = 1 - m
        return float(xlogy(m, m / p) + xlogy(rest, rest / (1 - p))) - radius

    mass = 1.0 if excess(1.0) < 0 else float(brentq(excess, p, 1.0, xtol=1e-300))
    mean = quad(lambda a: a * law.pdf(a), cut, 2 * cut)[0] / p
    return mass, float(mean)


@dataclass(frozen=True)
class EncoderTerm:
    r"""What :func:`encoder_term` finds.

    Attributes
    ----------
    value : Tensor
        The (local) maximum of B, shape (B,).
    norm : Tensor
        Operator norm of :math:`\frac1n\sum_i\epsilon_i\,\phi_i\otimes\psi_i`, shape
        (B,); the value tends to 2 r times it as r falls.
    a, u : Tensor
        Mean outer weights of the maximisers times their mass, shapes (B, M), (B, M, d).
    """

    value: Tensor
    norm: Tensor
    a: Tensor
    u: Tensor


def encoder_term(
    signs: Tensor,
    x: Tensor,
    head: Tensor,
    encoder: Tensor,
    radius: float,
    sweeps: int = 4,
    power: int = 30,
) -> EncoderTerm:
    r"""Maximise the bilinear part of the moving encoder's term over two KL balls.

    .. math::

        B(\tau, \nu) = \frac1n\sum_i \epsilon_i\, m_\tau(x_i)\cdot g_\nu(x_i), \qquad
        m_\tau = E_\tau[a\,\sigma_0'(c_x)\,w], \quad g_\nu = E_\nu[u\,\sigma_0(c_x)],

    which times :math:`\alpha\beta` is the leading part of :math:`\frac1n\sum_i
    \epsilon_i (f_{\tau,\nu} - f_{\tau,\nu_0})(x_i)`, here for tanh. With its partner
    fixed each half is a linear functional on a ball, solved exactly; the halves take
    turns, from the leading singular pair.

    Parameters
    ----------
    signs : Tensor
        Shape (B, n).
    x : Tensor
        Shape (n, d).
    head, encoder : Tensor
        Inner particles (w, b), shapes (M, d + 1).
    radius : float
        Of both balls.
    sweeps : int
        Alternations, along which B never falls.
    power : int
        Power iterations for the leading singular pair; they also give the norm.

    Returns
    -------
    EncoderTerm

    Raises
    ------
    ValueError
        If shapes disagree or the radius is not positive.
    """
    require_tensor("signs", signs, 2, last=len(require_tensor("x", x, 2)))
    require_tensor("head", head, 2, last=x.shape[1] + 1)
    require_tensor("encoder", encoder, 2, last=x.shape[1] + 1)
    radius = _radius(radius)
    w, eps = head[:, :-1], signs[..., None] / len(x)
    slope = 1.0 - torch.tanh(x @ w.T + head[:, -1]) ** 2
    value = torch.tanh(x @ encoder[:, :-1].T + encoder[:, -1])

    def to_head(u: Tensor) -> Tensor:  # (B, M, d), summed over particles -> (B, M)
        return ((slope.T @ (eps * (value @ u))) * w).sum(-1)

    def to_encoder(t: Tensor) -> Tensor:  # (B, M), summed over particles -> (B, M, d)
        return value.T @ (eps * (slope @ (t[..., None] * w)))

    def pull(y: Tensor) -> Tensor:  # D Phi D y, on (B, n, d)
        return eps * ((eps * y).flatten(1) @ phi).unflatten(1, x.shape)

    # leading singular pair: power iteration on the (n d x n d) Gram matrices
    phi = (slope[:, None] * w.T).flatten(0, 1)  # (n d, M), one row a component
    phi, psi = phi @ phi.T / len(head), value @ value.T / len(encoder)
    y = eps * psi.sum(-1)[:, None] * torch.ones_like(x)
    for _ in range(power):
        y = y / y.square().sum((-1, -2), keepdim=True).sqrt()
        image = psi @ pull(y)
        norm = image.square().sum((-1, -2)).sqrt().sqrt()
        y = image
    u = value.T @ pull(y)
    t = to_head(u)
    for _ in range(sweeps):
        tau = ball_supremum(t.square(), radius)
        a = tau.mu[:, None] * tau.weights * t
        field = to_encoder(a)
        nu = ball_supremum(field.square().sum(-1), radius)
        u = (nu.mu[:, None] * nu.weights)[..., None] * field
        t = to_head(u)
    return EncoderTerm(nu.primal, norm, a, u)


def encoder_difference(
    x: Tensor,
    head: Tensor,
    encoder: Tensor,
    a: Tensor,
    u: Tensor,
    alpha: float = 1.0,
    steps: int = 8,
) -> Tensor:
    r"""Return :math:`(f_{\tau,\nu} - f_{\tau,\nu_0})(x_i)/\beta` of the true network.

    Classical Runge-Kutta in depth for :math:`\dot Z = \alpha E_\nu[u\,\tanh(v\cdot Z
    + c)]`; under the initial law :math:`Z = x`.

    Parameters
    ----------
    x : Tensor
        Shape (n, d).
    head, encoder : Tensor
        Inner particles, shapes (M, d + 1).
    a, u : Tensor
        Mean outer weights times mass, as :class:`EncoderTerm` has them, shapes (B, M)
        and (B, M, d).
    alpha : float
        The encoder's scale.
    steps : int
        In depth.

    Returns
    -------
    Tensor
        Shape (B, n).
    """

    def field(z: Tensor) -> Tensor:
        return alpha * (torch.tanh(z @ encoder[:, :-1].T + encoder[:, -1]) @ u)

    def output(z: Tensor) -> Tensor:
        return (torch.tanh(z @ head[:, :-1].T + head[:, -1]) @ a[..., None])[..., 0]

    start = z = x.expand(len(a), *x.shape)
    for _ in range(steps):
        z = runge_kutta_step(field, z, 1.0 / steps)
    return output(z) - output(start)
