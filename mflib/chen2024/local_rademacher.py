r"""Local Rademacher complexity: a KL ball cut by a small empirical error.

Both constraints are convex, so the supremum has a finite convex dual,

.. math::

    \sup\Big\{\frac{s\cdot(f - y)}n : KL(\tau\|\tau_0) \le r,\
        \frac{\|f - y\|^2}n \le e^2\Big\}
    = \min_{\lambda > 0,\, v}\ \lambda r + \lambda \log E\, e^{S^2/2} - v\cdot y
      + \sqrt n\, e\, \Big\|\frac sn - v\Big\|,

with :math:`f_i = \beta E_\tau[a\,\sigma_0(c_i)]` and :math:`S = \frac\beta\lambda
\sum_i v_i\,\sigma_0(c_i)`. For :math:`\beta\to\infty` at fixed :math:`\beta^2 r`
the ball is the ellipsoid :math:`f^\top K^{-1} f \le 2\beta^2 r`, and one scalar
remains.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..arguments import require_tensor
from ..rademacher import random_signs

__all__ = [
    "KernelBall",
    "fixed_point",
    "kl_supremum",
    "local_trial",
    "spectral_formula",
    "worst_interpolant",
]


class KernelBall:
    r"""Suprema over an ellipsoid cut by a small empirical error, for many signs and e.

    .. math::

        \sup\Big\{\frac{s\cdot(f-y)}n : f^\top K^{-1} f \le \rho^2,\
            \frac{\|f-y\|^2}n \le e^2\Big\}
        = \min_{t \ge 0}\ 2\sqrt{A(t)\,B(t)} - C(t),

    where, in the eigenbasis of K and with :math:`d_j = 1 + t k_j / n`,
    :math:`A = \frac12\sum_j k_j \hat s_j^2/(n^2 d_j)`,
    :math:`B = \frac12(\rho^2 + t e^2 - \frac tn \sum_j \hat y_j^2/d_j)` and
    :math:`C = \frac1n\sum_j \hat s_j \hat y_j/d_j`.

    Parameters
    ----------
    kernel : Tensor
        K, shape (n, n).
    y : Tensor
        The centre, shape (n,), inside the ellipsoid.
    size : float
        :math:`\rho^2`.
    signs : Tensor
        Shape (draws, n).
    nodes : int
        Values of t, logarithmically spaced, beside t = 0; the minimum over them is an
        upper bound, sharp to the square of their spacing.

    Raises
    ------
    ValueError
        If shapes disagree, the size is not positive, or y lies outside the ellipsoid.
    """

    def __init__(
        self, kernel: Tensor, y: Tensor, size: float, signs: Tensor, nodes: int = 400
    ) -> None:
        require_tensor("kernel", kernel, 2, last=kernel.shape[-2])
        require_tensor("y", y, 1, last=len(kernel))
        require_tensor("signs", signs, 2, last=len(kernel))
        if not (math.isfinite(size) and size > 0):
            raise ValueError(f"size: expected a positive squared radius, got {size!r}")
        n = len(kernel)
        k, basis = torch.linalg.eigh(kernel)
        k, s, c = k.clamp_min(0.0), signs @ basis, y @ basis
        # rounding spoils the smallest eigenvalues: a floor can only forgive
        if (c**2 / k.clamp_min(1e-10 * float(k[-1]))).sum() > size * (1 + 1e-6):
            raise ValueError("y: lies outside the ellipsoid; raise size")
        t = torch.logspace(-3, 13, nodes, dtype=kernel.dtype)
        self.t = torch.cat([torch.zeros(1, dtype=t.dtype), t])[:, None]
        inverse = 1.0 / (1.0 + self.t * k / n)
        self.a = 0.5 * inverse @ (k * s**2 / n**2).T
        self.c = inverse @ (s * c / n).T
        self.b = 0.5 * (size - self.t * (inverse @ (c**2 / n))[:, None])

    def supremum(self, square: float) -> Tensor:
        r"""Return the supremum for :math:`e^2` = `square`, shape (draws,)."""
        b = (self.b + 0.5 * self.t * square).clamp_min(0.0)
        return (2.0 * (self.a * b).sqrt() - self.c).amin(0)


def fixed_point(complexity: Callable[[float], float], steps: int = 60) -> float:
    r"""Return the largest e^2 with complexity(e^2) >= e^2, for a sub-root function."""
    low, high = -40.0, 4.0
    for _ in range(steps):
        middle = 0.5 * (low + high)
        if complexity(math.exp(middle)) > math.exp(middle):
            low = middle
        else:
            high = middle
    return math.exp(0.5 * (low + high))


def spectral_formula(
    n: int,
    square: float,
    size: float,
    eigenvalues: np.ndarray,
    multiplicity: np.ndarray,
) -> float:
    r"""Return the eigenvalue formula for the local complexity of a kernel ball.

    .. math::

        \Big(\frac2n \sum_j \min(e^2,\, \rho^2 \lambda_j)\Big)^{1/2},

    two-sided up to constants, for :math:`e^2` = `square`, :math:`\rho^2` = `size` and
    population eigenvalues with multiplicity.
    """
    total = (multiplicity * np.minimum(square, size * eigenvalues)).sum()
    return math.sqrt(2.0 / n * total)


def worst_interpolant(
    kernel: Tensor, cross: Tensor, test: Tensor, y: Tensor, size: float
) -> float:
    r"""Return the largest squared error of the least-norm interpolant f of a sample.

    .. math::

        \sup_{g}\ \frac1m \sum_{j\le m} (f - g)^2(x^\ast_j)
        = \frac{\lambda_{\max}(K_{\ast\ast} - K_\ast K^{-1} K_\ast^\top)}m
        \,\big(\rho^2 - y^\top K^{-1} y\big)

    over all g of the kernel ball that agree with y on the sample: f - g is any function
    that vanishes there and has squared norm at most :math:`\rho^2 - y^\top K^{-1} y`.

    Parameters
    ----------
    kernel, cross, test : Tensor
        K on the sample (n, n), between test points and sample (m, n), on the test
        points (m, m).
    y : Tensor
        Labels of the sample, shape (n,).
    size : float
        :math:`\rho^2`.

    Returns
    -------
    float
        Negative if no member of the ball interpolates y.
    """
    require_tensor("kernel", kernel, 2, last=len(kernel))
    require_tensor("cross", cross, 2, last=len(kernel))
    require_tensor("test", test, 2, last=len(cross))
    require_tensor("y", y, 1, last=len(kernel))
    solved = torch.linalg.solve(kernel, torch.cat([cross.mT, y[:, None]], 1))
    rest = test - cross @ solved[:, :-1]
    width = torch.linalg.eigvalsh(0.5 * (rest + rest.mT))[-1] / len(test)
    return float(width * (size - y @ solved[:, -1]))


def local_trial(
    kernel: Tensor,
    labels: Tensor,
    sizes: list[int],
    test: int,
    size: float,
    generator: torch.Generator,
    draws: int = 64,
) -> Tensor:
    r"""Return complexities and errors of the least-norm interpolant for every n.

    Parameters
    ----------
    kernel : Tensor
        K on all points, shape (points, points); the last `test` of them are test points.
    labels : Tensor
        Shape (2, points): labels of the ball, then others for the same points.
    sizes : list of int
        Sample sizes n, taken from the first points.
    test : int
        Test points.
    size : float
        :math:`\rho^2`.
    generator : torch.Generator
        For the signs.
    draws : int
        Sign vectors.

    Returns
    -------
    Tensor
        Shape (sizes, 5): fixed point of the local complexity, complexity without
        localisation, :func:`worst_interpolant`, and the mean squared test error for
        both labels.

    Raises
    ------
    ValueError
        If a sample overlaps the test points.
    """
    if max(sizes) + test > len(kernel):
        raise ValueError(
            f"sizes: {max(sizes)} and {test} test points are more than {len(kernel)}"
        )
    rows = []
    for n in sizes:
        k, cross, y = kernel[:n, :n], kernel[-test:, :n], labels[:, :n]
        ball = KernelBall(k, y[0], size, random_signs(n, draws, generator))
        local = fixed_point(lambda e, ball=ball: float(ball.supremum(e).mean()))
        whole = float(ball.supremum(1e6).mean())
        worst = worst_interpolant(k, cross, kernel[-test:, -test:], y[0], size)
        miss = cross @ torch.linalg.solve(k, y.mT) - labels[:, -test:].mT
        rows.append([local, whole, worst, *miss.square().mean(0).tolist()])
    return torch.tensor(rows, dtype=kernel.dtype)


def kl_supremum(
    features: Tensor,
    y: Tensor,
    beta: float,
    radius: float,
    square: float,
    signs: Tensor,
) -> tuple[float, float]:
    r"""Return the supremum over the KL ball, at finite beta, for one sign vector.

    Parameters
    ----------
    features : Tensor
        Shape (n, M), mass 1/M each.
    y, signs : Tensor
        Shape (n,).
    beta, radius, square : float
        The scale, the KL radius r and :math:`e^2`.

    Returns
    -------
    dual : float
        The minimum of the dual (L-BFGS on :math:`\log\lambda` and v).
    primal : float
        The value of the dual's measure, shrunk towards the least-KL fit of y until both
        constraints hold: a lower bound, so the pair encloses the supremum.
    """
    from scipy.optimize import minimize

    from .interpolant import least_kl_interpolant

    require_tensor("features", features, 2)
    n, count = features.shape
    phi, target, s = features.numpy(), y.numpy(), signs.numpy() / n

    def measure(point: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, float]:
        lam, v = math.exp(point[0]), point[1:]
        z = beta / lam * (v @ phi)
        top = (0.5 * z**2).max()
        q = np.exp(0.5 * z**2 - top)
        k = top + math.log(q.mean())
        q /= q.sum()
        return k, q, z, lam

    def dual(point: np.ndarray) -> tuple[float, np.ndarray]:
        k, q, z, lam = measure(point)
        v, gap = point[1:], s - point[1:]
        norm = math.sqrt(gap @ gap + 1e-30)
        value = lam * (radius + k) - v @ target + math.sqrt(n * square) * norm
        f = beta * (phi @ (q * z))
        slope_v = f - target - math.sqrt(n * square) * gap / norm
        slope_l = lam * (radius + k - (q * z**2).sum())
        return value, np.concatenate([[slope_l], slope_v])

    scale = beta * math.sqrt(
        float((s @ phi) ** 2 @ np.ones(count)) / count / (2 * radius)
    )
    start = np.concatenate([[math.log(scale)], 0.5 * s])
    found = minimize(
        dual,
        start,
        jac=True,
        method="L-BFGS-B",
        options={
            "maxiter": 3000,
            "maxfun": 4000,
            "ftol": 1e-15,
            "gtol": 1e-12,
            "maxcor": 30,
        },
    )
    k, q, z, _ = measure(found.x)
    kl = float(
        (q * np.log(np.maximum(q * count, 1e-300))).sum() + 0.5 * (q * z**2).sum()
    )
    gap = beta * (phi @ (q * z)) - target
    inner = float(least_kl_interpolant(features, y, beta).kl)
    shrink = min(1.0, math.sqrt(square * n / (gap @ gap)))
    if kl > radius:
        shrink = min(shrink, (radius - inner) / (kl - inner))
    return float(found.fun), float(shrink * (s @ gap))
