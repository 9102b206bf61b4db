r"""The measure of least KL divergence that fits the data, and mixtures with a teacher.

.. math::

    \min_\tau KL(\tau\|\tau_0) \ \text{ s.t. } \ \beta\, E_\tau[a\,\sigma_0(c_i)] = y_i
    \quad=\quad
    \max_c\ \frac{c\cdot y}{\beta} - \log E\, e^{S_c^2/2}, \qquad
    S_c = \sum_i c_i\,\sigma_0(c_i),

with the standard Gaussian outer weight a integrated in closed form and the inner
weights M equally weighted particles (chen2024, eq. (C.13), frozen encoder). The
minimiser tilts the inner law by :math:`e^{S_c^2/2}` and shifts the outer weight
to :math:`N(S_c, 1)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_instance,
    require_masses,
    require_number,
    require_positive_int,
    require_symmetric,
    require_tensor,
)
from ..rademacher import ball_supremum, random_signs

__all__ = [
    "Interpolant",
    "Trial",
    "gaussian_mixture_kl",
    "interpolation_trial",
    "least_kl_interpolant",
    "limit_trial",
    "relative_entropy",
]


@dataclass(frozen=True)
class Interpolant:
    r"""The measure of least divergence among those that fit the data, on the particles.

    Attributes
    ----------
    kl : Tensor
        Its divergence, shape (...).
    dual : Tensor
        The dual's value, shape (...); equal to `kl` at the optimum.
    outer : Tensor
        Mean outer weight times mass, shape (..., M): the network is beta times the sum
        of outer times features.
    residual : Tensor
        Largest misfit relative to the largest target, shape (...).
    """

    kl: Tensor
    dual: Tensor
    outer: Tensor
    residual: Tensor

    def predict(self, features: Tensor, beta: float) -> Tensor:
        r"""Return the network, shape (..., m), from features (..., m, M)."""
        return beta * (features @ self.outer[..., None])[..., 0]


def least_kl_interpolant(
    features: Tensor,
    y: Tensor,
    beta: float,
    iterations: int = 50,
    tolerance: float = 1e-12,
) -> Interpolant:
    r"""Return the measure of least divergence that fits the data, by damped Newton steps.

    Parameters
    ----------
    features : Tensor
        :math:`\sigma_0(w_k\cdot x_i + b_k)`, shape (..., n, M), mass 1/M each.
    y : Tensor
        Targets, shape (..., n).
    beta : float
        The predictor's scale.
    iterations : int
        Cap on Newton steps.
    tolerance : float
        On the relative misfit.

    Returns
    -------
    Interpolant

    Raises
    ------
    ValueError
        If shapes disagree, beta is not positive, the features are dependent, or the
        targets are out of reach on these particles.
    """
    require_tensor("features", features, 2)
    require_tensor("y", y, 1, last=features.shape[-2])
    require_alike(features=features, y=y)
    require_broadcast(features=features.shape[:-2], y=y.shape[:-1])
    require_number("beta", beta, above=0)
    require_positive_int("iterations", iterations)
    require_number("tolerance", tolerance, least=0)
    count = features.shape[-1]
    target = y / beta

    def state(c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s = (c[..., None, :] @ features)[..., 0, :]
        logs = 0.5 * s**2
        small = logs.amax(-1) < 1.0  # keep the digits of a small tilt
        k = torch.where(
            small,
            torch.log1p(torch.expm1(logs.clamp(max=1.0)).mean(-1)),
            torch.logsumexp(logs, -1) - math.log(count),
        )
        return s, torch.softmax(logs, -1), (c * target).sum(-1) - k

    def solve(matrix: Tensor, right: Tensor) -> Tensor:
        factor, info = torch.linalg.cholesky_ex(matrix)
        if info.any():
            raise ValueError(
                "features: dependent, or the targets out of reach, on these particles; "
                "drop repeated inputs, or raise M or beta"
            )
        return torch.cholesky_solve(right[..., None], factor)[..., 0]

    size = target.abs().amax(-1).clamp_min(1e-300)
    c = solve(features @ features.mT / count, target)
    s, q, dual = state(c)
    # a batch of problems takes its steps together, each with its own step length; the
    # library's solvers take one problem at a time
    for _ in range(iterations):
        mean = (features @ (q * s)[..., None])[..., 0]
        gap = target - mean
        if (gap.abs().amax(-1) <= tolerance * size).all():
            break
        scaled = features * (q * (1.0 + s**2))[..., None, :]
        hessian = scaled @ features.mT - mean[..., None] * mean[..., None, :]
        direction = solve(hessian, gap)
        length = torch.ones_like(dual)
        slope = (gap * direction).sum(-1)
        for _ in range(40):
            trial = c + length[..., None] * direction
            s, q, new = state(trial)
            short = new < dual + 1e-4 * length * slope - 1e-13 * dual.abs()
            if not short.any():
                break
            length = torch.where(short, 0.5 * length, length)
        c, dual = trial, new
    gap = target - (features @ (q * s)[..., None])[..., 0]
    if (gap.abs().amax(-1) > 1e-6 * size).any():
        raise ValueError(
            f"features: a misfit of {float((gap.abs().amax(-1) / size).max()):.1e} "
            "remains, the targets are out of reach; raise beta or the particles M"
        )
    even = torch.full_like(q, 1.0 / count)
    entropy = relative_entropy(q * count - 1.0, even)
    return Interpolant(entropy + 0.5 * (q * s**2).sum(-1), dual, q * s, gap.abs().amax(-1) / size)


def relative_entropy(u: Tensor, mass: Tensor) -> Tensor:
    r"""Return :math:`E_0[(1+u)\log(1+u) - u]`, accurate for small u, over the last dim.

    With :math:`u = d\tau/d\tau_0 - 1` this is the KL divergence; the term -u, of mean
    zero, keeps the digits that the plain formula loses.

    Parameters
    ----------
    u : Tensor
        Values, at least -1, shape (..., N).
    mass : Tensor
        Masses of the points under :math:`\tau_0`, shape (..., N).

    Returns
    -------
    Tensor
        Shape (...).
    """
    require_tensor("u", u, 1)
    require_tensor("mass", mass, 1, last=u.shape[-1])
    require_broadcast(u=u.shape[:-1], mass=mass.shape[:-1])
    if (u < -1.0).any():
        raise ValueError("u: lies below -1, where no density ratio does")
    series = u**2 * (0.5 + u * (-1 / 6 + u * (1 / 12 + u * (-1 / 20 + u / 30))))
    plain = torch.special.xlog1py(1 + u, u) - u
    return (mass * torch.where(u.abs() < 1e-3, series, plain)).sum(-1)


def gaussian_mixture_kl(
    mean: Tensor,
    deviation: float | Tensor,
    chance: Tensor,
    beta: Tensor,
    nodes: int = 20_001,
) -> Tensor:
    r"""Return the KL divergence from the initial law of its mixture with a teacher's law.

    .. math::

        KL\big((1-\tfrac1\beta)\tau_0 + \tfrac1\beta\tau_y \,\big\|\, \tau_0\big),
        \qquad
        \tau_y:\ a \mid g \sim N(g, s^2),

    where the inner weights enter only through the law of g (chen2024, eq. (C.13)).

    Parameters
    ----------
    mean, chance : Tensor
        The values of g and their probabilities, shape (J,).
    deviation : float or Tensor
        s, shape () or (J,).
    beta : Tensor
        Scales, shape (B,), at least 1.
    nodes : int
        Of the trapezoidal rule in a on [-40, 40].

    Returns
    -------
    Tensor
        Shape (B,).

    Raises
    ------
    ValueError
        If a scale is below 1 or the probabilities do not sum to 1.
    """
    for name, value in (("mean", mean), ("beta", beta), ("chance", chance)):
        if require_tensor(name, value, 1).ndim != 1:
            raise ValueError(f"{name}: expected one vector, got shape {tuple(value.shape)}")
    if not isinstance(deviation, Tensor):
        require_number("deviation", deviation, above=0)
    elif require_tensor("deviation", deviation, 0).shape not in ((), mean.shape):
        raise ValueError(f"deviation: shape {tuple(deviation.shape)}, expected that of mean")
    if (beta < 1).any():
        raise ValueError("beta: the mixture needs scales of at least 1")
    require_masses("chance", chance, len(mean))
    require_positive_int("nodes", nodes)
    a = torch.linspace(-40.0, 40.0, nodes, dtype=torch.float64)
    s = torch.as_tensor(deviation, dtype=a.dtype).expand_as(mean)[:, None]
    if not (torch.isfinite(s).all() and (s > 0).all()):
        raise ValueError(f"deviation: expected positive deviations, got {deviation}")
    log_ratio = 0.5 * a**2 - 0.5 * ((a - mean[:, None]) / s) ** 2 - s.log()
    u = torch.expm1(log_ratio.clamp(max=700.0))
    mass = torch.exp(-0.5 * a**2) / math.sqrt(2 * math.pi) * (a[1] - a[0])
    each = torch.stack([relative_entropy(u / b, mass) for b in beta])
    return (each * chance).sum(-1)


class Trial(NamedTuple):
    r"""Errors and complexities of :func:`interpolation_trial`, each of shape (sizes,).

    Attributes
    ----------
    error : Tensor
        Mean test error :math:`E|f-y|`.
    complexity : Tensor
        Rademacher complexity of the ball.
    share : Tensor
        KL of the interpolant over the radius of the ball.
    capped : Tensor
        Mean of :math:`\min(1, |f-y|/\gamma)`.
    """

    error: Tensor
    complexity: Tensor
    share: Tensor
    capped: Tensor


def _largest(sizes: list[int], points: int) -> int:
    """Return the largest sample size, if it leaves a point to test."""
    for n in require_instance("sizes", sizes, list):
        require_positive_int("sizes", n)
    last = max(sizes, default=points)
    if last >= points:
        raise ValueError(f"sizes: {last} of {points} points leave none to test")
    return last


def interpolation_trial(
    features: Tensor,
    y: Tensor,
    sizes: list[int],
    beta: float,
    radius: float,
    generator: torch.Generator,
    cap: float = 1.0,
    draws: int = 4,
) -> Trial:
    r"""Fit the first n points for every n, test on the rest, and compute the bound.

    Parameters
    ----------
    features : Tensor
        Shape (points, M); those after the largest n are test points.
    y : Tensor
        Shape (points,).
    sizes : list of int
        The sample sizes n.
    beta, radius : float
        The predictor's scale, and the KL radius of the class.
    generator : torch.Generator
        For the signs.
    cap : float
        The level :math:`\gamma` of the capped loss.
    draws : int
        Sign vectors.

    Returns
    -------
    Trial
        A value for every size.

    Raises
    ------
    ValueError
        If no test point is left or `cap` is not positive.
    """
    require_number("cap", cap, above=0)
    require_tensor("features", features, 2)
    require_tensor("y", y, 1, last=len(features))
    for name, value, ndim in (("features", features, 2), ("y", y, 1)):
        if value.ndim != ndim:
            raise ValueError(f"{name}: expected no batch, got shape {tuple(value.shape)}")
    last = _largest(sizes, len(features))
    rows = []
    for n in sizes:
        fit = least_kl_interpolant(features[:n], y[:n], beta)
        miss = (fit.predict(features[last:], beta) - y[last:]).abs()
        noise = random_signs(n, draws, generator) @ features[:n] / n
        complexity = beta * ball_supremum(noise.square(), radius).dual.mean()
        capped = (miss / cap).clamp(max=1.0).mean()
        rows.append((miss.mean(), complexity, fit.kl / radius, capped))
    return Trial(*map(torch.stack, zip(*rows, strict=True)))


def limit_trial(
    kernel: Tensor,
    y: Tensor,
    sizes: list[int],
    radius: float,
    generator: torch.Generator,
    cap: float = 1.0,
    draws: int = 64,
) -> Trial:
    r"""Return :func:`interpolation_trial` for :math:`\beta\to\infty` at fixed :math:`\beta^2 r`.

    .. math::

        f = K_\ast K^{-1} y, \qquad \beta^2 KL = \tfrac12\, y^\top K^{-1} y, \qquad
        R_n = E_\epsilon\,\tfrac1n \sqrt{2\beta^2 r\;\epsilon^\top K\epsilon},

    with the kernel :math:`K = K_0` and no particles.

    Parameters
    ----------
    kernel : Tensor
        K on all points, shape (points, points); those after the largest n are test points.
    y : Tensor
        Labels, shape (points,).
    sizes : list of int
        The sample sizes n.
    radius : float
        :math:`\beta^2 r`.
    generator : torch.Generator
        For the signs.
    cap : float
        The level :math:`\gamma` of the capped loss.
    draws : int
        Sign vectors.

    Returns
    -------
    Trial
        A value for every size.

    Raises
    ------
    ValueError
        If no test point is left, a number is not positive or the kernel is singular.
    """
    require_number("cap", cap, above=0)
    require_number("radius", radius, above=0)
    if require_symmetric("kernel", kernel).ndim != 2:
        raise ValueError(f"kernel: expected no batch, got shape {tuple(kernel.shape)}")
    if require_tensor("y", y, 1, last=len(kernel)).ndim != 1:
        raise ValueError(f"y: expected no batch, got shape {tuple(y.shape)}")
    require_alike(kernel=kernel, y=y)
    last = _largest(sizes, len(kernel))
    rows = []
    for n in sizes:
        k = kernel[:n, :n]
        root, info = torch.linalg.cholesky_ex(k)
        if info:
            raise ValueError("kernel: is singular to rounding; drop repeated or close inputs")
        c = torch.cholesky_solve(y[:n, None], root)[:, 0]
        miss = (kernel[last:, :n] @ c - y[last:]).abs()
        # epsilon' K epsilon is the squared length of root' epsilon
        width = (random_signs(n, draws, generator) @ root).norm(dim=-1).mean()
        complexity = math.sqrt(2 * radius) * width / n
        capped = (miss / cap).clamp(max=1.0).mean()
        rows.append((miss.mean(), complexity, 0.5 * (c @ y[:n]) / radius, capped))
    return Trial(*map(torch.stack, zip(*rows, strict=True)))
