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

from ..arguments import require_alike, require_positive_int, require_symmetric, require_tensor

__all__ = ["MarginClassifier", "least_norm_margin"]


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
        Cap on the steps of L-BFGS-B.

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
    start = np.full(len(q), 1.0 / q.diagonal().sum())
    found = minimize(
        minus_dual, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(q), options=options
    )
    margin = float((q @ found.x).min())
    if not margin > 0:
        raise ValueError("iterations: no margin was reached, the labels do not separate; raise it")
    a = found.x / margin
    return MarginClassifier(y * torch.as_tensor(a), float(a @ q @ a), -float(found.fun))
