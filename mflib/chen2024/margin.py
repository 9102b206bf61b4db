r"""The classifier of least norm with margin 1: the radius that labels :math:`\pm1` need.

.. math::

    \min\{f^\top K^{-1} f : y_i f_i \ge 1\}
    = \max_{a\ge0}\ 2\sum_i a_i - a^\top Q\,a, \qquad Q_{ij} = y_i K_{ij}\, y_j ,

a support-vector machine without a bias. At the solution :math:`f = K(\cdot, x)\,(y\odot a)`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from ..arguments import (
    require_alike,
    require_number,
    require_positive_int,
    require_symmetric,
    require_tensor,
)
from ..rademacher import random_signs
from .ramp import ramp_loss

__all__ = ["MarginClassifier", "MarginTrial", "ball_fit", "least_norm_margin", "margin_trial"]


class MarginClassifier(NamedTuple):
    r"""A function with margin at least 1 on the sample.

    Attributes
    ----------
    coefficients : Tensor
        c, shape (n,): the function is :math:`\sum_i c_i K(\cdot, x_i)`.
    square : float
        Its squared norm :math:`c^\top K c`, at least the minimum.
    dual : float
        The dual's value, at most the minimum.
    """

    coefficients: Tensor
    square: float
    dual: float


def least_norm_margin(kernel: Tensor, y: Tensor, iterations: int = 2000) -> MarginClassifier:
    r"""Return the function of least norm with :math:`y_i f(x_i) \ge 1`.

    The dual's iterate is scaled until its smallest margin is 1, so that `square` is a norm
    that a function with this margin has, whether or not the iteration has converged.

    Parameters
    ----------
    kernel : Tensor
        K, shape (n, n).
    y : Tensor
        Labels :math:`\pm1`, shape (n,).
    iterations : int
        Cap on the steps of L-BFGS-B, which is begun again at most 20 times where it stalls.

    Returns
    -------
    MarginClassifier

    Raises
    ------
    ValueError
        If a label is no sign, or no margin was reached.

    Examples
    --------
    >>> found = least_norm_margin(2 * torch.eye(3).double(), torch.ones(3).double())
    >>> round(found.square, 9)  # f = 1 at three orthogonal points
    1.5
    """
    if require_symmetric("kernel", kernel).ndim != 2:
        raise ValueError(f"kernel: expected one matrix, got shape {tuple(kernel.shape)}")
    if require_tensor("y", y, 1, last=len(kernel)).ndim != 1 or (y.abs() != 1).any():
        raise ValueError("y: expected one vector of labels +1 and -1")
    require_alike(kernel=kernel, y=y)
    require_positive_int("iterations", iterations)
    q = (y[:, None] * kernel * y).numpy()

    def minus_dual(a: np.ndarray) -> tuple[float, np.ndarray]:
        qa = q @ a
        return float(a @ qa - 2 * a.sum()), 2 * (qa - 1)

    options = {"maxiter": iterations, "maxfun": 2 * iterations, "ftol": 1e-15, "gtol": 1e-7}
    at = np.full(len(q), 1.0 / q.diagonal().sum())
    for _ in range(20):  # a search that stalls goes on with a fresh memory
        found = minimize(
            minus_dual,
            at,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, None)] * len(q),
            options=options,
        )
        at, margin = found.x, float((q @ found.x).min())
        if margin > 0 and at @ q @ at / margin**2 <= (1 + 1e-6) * -found.fun:
            break
    if not margin > 0:
        raise ValueError("iterations: no margin was reached, the labels do not separate; raise it")
    a = found.x / margin
    return MarginClassifier(y * torch.as_tensor(a), float(a @ q @ a), -float(found.fun))


def ball_fit(kernel: Tensor, y: Tensor, size: float) -> Tensor:
    r"""Return the coefficients of the best fit of given norm at most.

    .. math::

        \min\Big\{\sum_i(f(x_i)-y_i)^2 : f = K(\cdot, x)\,c,\ c^\top K c \le \rho^2\Big\},
        \qquad c = (K+\lambda)^{-1}y,

    with the least :math:`\lambda\ge0` for which the norm is allowed, by bisection.

    Parameters
    ----------
    kernel : Tensor
        K, shape (n, n), regular.
    y : Tensor
        Targets, shape (n,).
    size : float
        :math:`\rho^2`, positive.

    Returns
    -------
    Tensor
        c, shape (n,).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed or the kernel singular.

    Examples
    --------
    >>> ball_fit(torch.eye(2).double(), torch.tensor([3.0, 4.0]).double(), 1.0)
    tensor([0.6000, 0.8000], dtype=torch.float64)
    """
    if require_symmetric("kernel", kernel).ndim != 2:
        raise ValueError(f"kernel: expected one matrix, got shape {tuple(kernel.shape)}")
    if require_tensor("y", y, 1, last=len(kernel)).ndim != 1:
        raise ValueError(f"y: expected one vector, got shape {tuple(y.shape)}")
    require_alike(kernel=kernel, y=y)
    require_number("size", size, above=0)
    values, vectors = torch.linalg.eigh(kernel)
    if not values[0] > 1e-14 * values[-1]:
        raise ValueError("kernel: is singular to rounding; drop repeated or close inputs")
    inner = vectors.mT @ y

    def norm(ridge: float) -> float:
        return float((values * (inner / (values + ridge)) ** 2).sum())

    low, high = -20.0, 20.0
    if norm(0.0) <= size:
        return vectors @ (inner / values)
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if norm(10.0**middle) > size else (low, middle)
    return vectors @ (inner / (values + 10.0**high))


class MarginTrial(NamedTuple):
    r"""Norms and losses of :func:`margin_trial`, each of shape ().

    Attributes
    ----------
    margin, interpolant : Tensor
        Squared norms of the margin classifier and of the interpolant of the labels.
    loss, other : Tensor
        Mean ramp loss :math:`\min\{1, (1-yf)_+\}` on the test points: of the margin
        classifier, and of the interpolant of the other labels.
    width : Tensor
        :math:`E_\epsilon \frac1n\sqrt{\epsilon^\top K \epsilon}`, the complexity of the unit ball.
    gap : Tensor
        Primal over dual of the margin problem, minus 1.
    """

    margin: Tensor
    interpolant: Tensor
    loss: Tensor
    other: Tensor
    width: Tensor
    gap: Tensor


def margin_trial(
    kernel: Tensor,
    y: Tensor,
    other: Tensor,
    n: int,
    generator: torch.Generator,
    draws: int = 64,
) -> MarginTrial:
    r"""Classify from the first n points and test on the last points, at least a quarter of all.

    Parameters
    ----------
    kernel : Tensor
        K on all points, shape (points, points).
    y, other : Tensor
        Labels :math:`\pm1`, shape (points,).
    n : int
        The sample size, at most three quarters of the points.
    generator : torch.Generator
        For the signs of the complexity.
    draws : int
        Sign vectors.

    Returns
    -------
    MarginTrial

    Raises
    ------
    ValueError
        If n is too large, a label is no sign or the kernel is singular.
    """
    require_symmetric("kernel", kernel)
    for name, labels in (("y", y), ("other", other)):
        one = require_tensor(name, labels, 1, last=len(kernel)).ndim == 1
        if not one or (labels.abs() != 1).any():
            raise ValueError(f"{name}: expected one vector of labels +1 and -1")
    test = len(kernel) - len(kernel) // 4
    if require_positive_int("n", n) > test:
        raise ValueError(f"n: {n} of {len(kernel)} points, at most {test} leave a quarter to test")
    try:
        found = least_norm_margin(kernel[:n, :n], y[:n])
    except ValueError as error:
        raise ValueError(f"kernel: no margin on the first {n} points ({error})") from None
    root, info = torch.linalg.cholesky_ex(kernel[:n, :n])
    if info:
        raise ValueError("kernel: is singular to rounding; drop repeated or close inputs")
    fit = torch.cholesky_solve(torch.stack([y[:n], other[:n]], 1), root)
    far = kernel[test:, :n]

    return MarginTrial(
        torch.tensor(found.square, dtype=kernel.dtype),
        y[:n] @ fit[:, 0],
        ramp_loss(far @ found.coefficients, y[test:]).mean(),
        ramp_loss(far @ fit[:, 1], other[test:]).mean(),
        (random_signs(n, draws, generator) @ root).norm(dim=-1).mean() / n,
        torch.tensor(found.square / found.dual - 1, dtype=kernel.dtype),
    )
