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
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import brentq, minimize
from torch import Tensor

from ..arguments import (
    require_alike,
    require_callable,
    require_instance,
    require_number,
    require_positive_int,
    require_symmetric,
    require_tensor,
)
from ..rademacher import random_signs
from .interpolant import least_kl_interpolant
from .sphere_kernel import Spectrum

__all__ = [
    "Enclosure",
    "KernelBall",
    "LocalTrial",
    "fixed_point",
    "hidden_member",
    "kl_supremum",
    "local_trial",
    "spectral_formula",
    "worst_interpolant",
]


def _matrix(name: str, value: Tensor) -> Tensor:
    if value.ndim != 2:
        raise ValueError(f"{name}: expected one matrix, got shape {tuple(value.shape)}")
    return value


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
        _matrix("kernel", require_symmetric("kernel", kernel))
        require_positive_int("nodes", nodes)
        require_tensor("y", y, 1, last=len(kernel))
        require_tensor("signs", signs, 2, last=len(kernel))
        require_number("size", size, above=0)
        n = len(kernel)
        k, basis = torch.linalg.eigh(kernel)
        k, s, c = k.clamp_min(0.0), signs @ basis, y @ basis
        # rounding errors dominate the smallest eigenvalues: with the floor a centre slightly
        # outside may pass, and none inside is refused
        if (c**2 / k.clamp_min(1e-10 * float(k[-1]))).sum() > size * (1 + 1e-6):
            raise ValueError("y: lies outside the ellipsoid; raise size")
        t = torch.logspace(-3, 13, nodes, dtype=kernel.dtype)
        self.t = torch.cat([torch.zeros(1, dtype=t.dtype), t])[:, None]
        self.eigenvalues, self.size = k / n, size
        inverse = 1.0 / (1.0 + self.t * k / n)
        self.a = 0.5 * inverse @ (k * s**2 / n**2).T
        self.c = inverse @ (s * c / n).T
        self.b = 0.5 * (size - self.t * (inverse @ (c**2 / n))[:, None])

    def supremum(self, square: float, centred: bool = False) -> Tensor:
        r"""Return the supremum for :math:`e^2` = `square`, shape (draws,); centred: at y = 0."""
        if centred:
            b = 0.5 * (self.size + self.t * square)
            return (2.0 * (self.a * b).sqrt()).amin(0)
        b = (self.b + 0.5 * self.t * square).clamp_min(0.0)
        return (2.0 * (self.a * b).sqrt() - self.c).amin(0)

    def formula(self, square: float) -> float:
        r"""Return :func:`spectral_formula` with the sample's own spectrum.

        With :math:`\hat\lambda_j` the eigenvalues of K/n it bounds the mean of
        :meth:`supremum` for the centred ball: on the cut ellipsoid
        :math:`\sum_j \hat f_j^2/\min(ne^2, n\rho^2\hat\lambda_j) \le 2`; then
        Cauchy-Schwarz with the signs, and Jensen.
        """
        return spectral_formula(
            len(self.eigenvalues), square, self.size, self.eigenvalues.numpy(), np.ones(1)
        )


def fixed_point(complexity: Callable[[float], float]) -> float:
    r"""Return the positive fixed point of a sub-root function, :math:`\psi(e^2) = e^2`.

    Parameters
    ----------
    complexity : callable
        :math:`\psi`, positive with :math:`\psi(r)/\sqrt r` not increasing, so that it has
        one positive fixed point.

    Returns
    -------
    float
        The fixed point :math:`e^2`, between :math:`e^{-40}` and :math:`e^4`.

    Raises
    ------
    ValueError
        If the function does not cross the diagonal from above in that range.

    Examples
    --------
    >>> round(fixed_point(lambda r: 0.3 * r**0.5), 12)
    0.09
    """

    require_callable("complexity", complexity)

    def excess(log: float) -> float:
        try:
            value = float(complexity(math.exp(log)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"complexity: maps no number to a number ({error})") from error
        return math.log(max(value, 1e-300)) - log

    # from above: the function is known the less accurately the smaller it is
    high = 4.0
    low = high - 2.0
    while excess(low) <= 0.0 and low > -40.0:
        low, high = low - 2.0, low
    if not (excess(low) > 0.0 > excess(high)):
        raise ValueError(
            "complexity: does not cross the diagonal between e^-40 and e^4; a sub-root "
            "function does, scale it into the range"
        )
    return math.exp(brentq(excess, low, high, xtol=1e-15))


def _array(name: str, value: np.ndarray | float) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected numbers, got {value!r}") from None
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise ValueError(f"{name}: expected finite numbers >= 0")
    return array


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
    eigenvalues with multiplicity, of the population or of the sample.
    """
    require_positive_int("n", n)
    require_number("square", square, least=0)
    require_number("size", size, above=0)
    eigenvalues, multiplicity = (
        _array(name, value)
        for name, value in (("eigenvalues", eigenvalues), ("multiplicity", multiplicity))
    )
    if multiplicity.shape not in ((), (1,), eigenvalues.shape):
        raise ValueError(
            f"multiplicity: shape {multiplicity.shape} does not fit {eigenvalues.shape}"
        )
    total = (multiplicity * np.minimum(square, size * eigenvalues)).sum()
    return math.sqrt(2.0 / n * total)


def worst_interpolant(kernel: Tensor, cross: Tensor, test: Tensor, y: Tensor, size: float) -> float:
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

    Raises
    ------
    ValueError
        If shapes disagree, or no member of the ball interpolates y.
    """
    require_number("size", size, above=0)
    _matrix("kernel", require_symmetric("kernel", kernel))
    _matrix("cross", require_tensor("cross", cross, 2, last=len(kernel)))
    require_alike(kernel=kernel, cross=cross, test=test, y=y)
    require_tensor("test", require_symmetric("test", test), 2, last=len(cross))
    require_tensor("y", y, 1, last=len(kernel))
    solved, info = torch.linalg.solve_ex(kernel, torch.cat([cross.mT, y[:, None]], 1))
    if info:
        raise ValueError("kernel: is singular; drop repeated points")
    rest = test - cross @ solved[:, :-1]
    width = torch.linalg.eigvalsh(0.5 * (rest + rest.mT))[-1].clamp_min(0.0) / len(test)
    left = float(size - y @ solved[:, -1])
    if not left >= -1e-9 * size:
        raise ValueError(
            f"size: no member of the ball interpolates y, whose squared norm is "
            f"{size - left:.4g}; raise size"
        )
    return float(width) * max(left, 0.0)


def hidden_member(spectrum: Spectrum, x: Tensor, test: Tensor, fresh: Tensor) -> Tensor:
    r"""Return the worst member of the unit ball of :math:`K_0` that vanishes on a sample.

    .. math::

        g(z) = \frac{\big(K(z, x^\ast) - K(z, x) K^{-1} K(x, x^\ast)\big)\,v}{\sqrt\lambda},

    with :math:`\lambda`, v the top eigenvalue and eigenvector of the same expression on the
    points :math:`x^\ast`: no member that vanishes on x has a larger mean square there.

    Parameters
    ----------
    spectrum : Spectrum
        The kernel.
    x, test, fresh : Tensor
        Unit vectors: the sample (n, d), the points that choose g (m, d), and those at
        which it is returned (k, d).

    Returns
    -------
    Tensor
        Shape (k,).

    Raises
    ------
    ValueError
        If a point is no unit vector, or the sample repeats one.
    """
    require_instance("spectrum", spectrum, Spectrum)
    d = require_tensor("x", x, 2).shape[-1]
    for name, points in (("x", x), ("test", test), ("fresh", fresh)):
        _matrix(name, require_tensor(name, points, 2, last=d))
    solved, info = torch.linalg.solve_ex(spectrum.kernel(x), spectrum.kernel(x, test))
    if info:
        raise ValueError("x: holds a point twice, the kernel is singular; keep distinct ones")

    def rest(at: Tensor) -> Tensor:
        return spectrum.kernel(at, test) - spectrum.kernel(at, x) @ solved

    here = rest(test)
    values, vectors = torch.linalg.eigh(0.5 * (here + here.mT))
    return rest(fresh) @ vectors[:, -1] / values[-1].sqrt()


class LocalTrial(NamedTuple):
    r"""Complexities and errors of :func:`local_trial`, each of shape (sizes,).

    Attributes
    ----------
    local, centred : Tensor
        Fixed point of the local complexity of the ball around the labels, and around 0.
    formula : Tensor
        Fixed point of the formula with the sample's eigenvalues.
    whole : Tensor
        Complexity without localisation.
    worst : Tensor
        :func:`worst_interpolant` of the labels of the ball.
    error, other : Tensor
        Mean squared test error of the least-norm interpolant for the labels of the ball
        and for the others.
    """

    local: Tensor
    centred: Tensor
    formula: Tensor
    whole: Tensor
    worst: Tensor
    error: Tensor
    other: Tensor


def local_trial(
    kernel: Tensor,
    labels: Tensor,
    sizes: list[int],
    test: int,
    size: float,
    generator: torch.Generator,
    draws: int = 64,
) -> LocalTrial:
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
    LocalTrial
        A value for every size.

    Raises
    ------
    TypeError, ValueError
        If a sample overlaps the test points, the labels of a sample lie outside the ball, or
        shapes or dtypes do not fit.
    """
    _matrix("kernel", require_symmetric("kernel", kernel))
    if require_tensor("labels", labels, 2, last=len(kernel)).shape[:-1] != (2,):
        raise ValueError(f"labels: expected shape (2, points), got {tuple(labels.shape)}")
    require_alike(kernel=kernel, labels=labels)
    for n in (*require_instance("sizes", sizes, list), test):
        require_positive_int("sizes", n)
    if max(sizes, default=len(kernel)) + test > len(kernel):
        raise ValueError(
            f"sizes: {sizes} and {test} test points do not fit into {len(kernel)} points"
        )
    rows = []
    for n in sizes:
        k, cross, y = kernel[:n, :n], kernel[-test:, :n], labels[:, :n]
        try:
            ball = KernelBall(k, y[0], size, random_signs(n, draws, generator))
        except ValueError as error:
            raise ValueError(f"labels: the first {n} do not fit ({error})") from None
        local = fixed_point(lambda e, ball=ball: float(ball.supremum(e).mean()))
        centred = fixed_point(lambda e, ball=ball: float(ball.supremum(e, True).mean()))
        whole = float(ball.supremum(1e6).mean())
        worst = worst_interpolant(k, cross, kernel[-test:, -test:], y[0], size)
        miss = cross @ torch.linalg.solve(k, y.mT) - labels[:, -test:].mT
        complexities = [local, centred, fixed_point(ball.formula), whole, worst]
        rows.append(complexities + miss.square().mean(0).tolist())
    return LocalTrial(*torch.tensor(rows, dtype=kernel.dtype).unbind(-1))


class Enclosure(NamedTuple):
    r"""A supremum between two computed numbers."""

    dual: float
    primal: float


def kl_supremum(
    features: Tensor,
    y: Tensor,
    beta: float,
    radius: float,
    square: float,
    signs: Tensor,
) -> Enclosure:
    r"""Enclose the supremum over the KL ball, at finite beta, for one sign vector.

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
    n, count = _matrix("features", require_tensor("features", features, 2)).shape
    for name, value in (("y", y), ("signs", signs)):
        if require_tensor(name, value, 1, last=n).ndim != 1:
            raise ValueError(f"{name}: expected one vector, got shape {tuple(value.shape)}")
    for name, value in (("beta", beta), ("radius", radius), ("square", square)):
        require_number(name, value, above=0)
    require_alike(features=features, y=y, signs=signs)
    inner = float(least_kl_interpolant(features, y, beta).kl)
    if not inner < radius:
        raise ValueError(f"radius: every fit of y has a divergence of {inner:.4g} or more")
    phi, target, s = features.numpy(), y.numpy(), signs.numpy() / n

    def measure(point: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, float]:
        lam, v = math.exp(min(point[0], 300.0)), point[1:]
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

    if not s.any():
        raise ValueError("signs: are all zero")
    scale = beta * math.sqrt(float((s @ phi) ** 2 @ np.ones(count)) / count / (2 * radius))
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
    kl = float((q * np.log(np.maximum(q * count, 1e-300))).sum() + 0.5 * (q * z**2).sum())
    gap = beta * (phi @ (q * z)) - target
    shrink = min(1.0, math.sqrt(square * n / max(gap @ gap, 1e-300)))
    if kl > radius:
        shrink = min(shrink, (radius - inner) / (kl - inner))
    return Enclosure(float(found.fun), float(shrink * (s @ gap)))
