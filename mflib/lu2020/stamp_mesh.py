r"""Time stamps as a mesh (lu2020, Section 4: "an adaptive time marching scheme").

One input, :math:`\dot X = \theta(t) X`, :math:`X(0) = 1`, a curve :math:`\theta` that stays
fixed, and Euler steps :math:`h_l` between n stamps with total time 1,

.. math::

    X^n = \prod_l \big(1 + h_l\, \theta(\tau_l)\big), \qquad \tau_l = \sum_{m<l} h_m .

With the density of the local error :math:`e = \frac12 X(1)\,(\theta' + \theta^2)` and the
density :math:`\omega` of the mesh, n times the error tends to :math:`\int e/\omega`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from ..arguments import (
    require_callable,
    require_instance,
    require_number,
    require_positive_int,
    require_tensor,
)

__all__ = ["Curve", "MeshConstants", "euler_end", "mesh_constants", "train_steps"]


@dataclass(frozen=True)
class Curve:
    r"""A curve :math:`\theta(t)`, its slope, and :math:`\int_0^1 \theta`.

    Attributes
    ----------
    value, slope : callable
        Map depths to finite numbers, one each.
    integral : float
        At most 300 in size: the flow multiplies by its exponential.

    Raises
    ------
    TypeError, ValueError
        If a part is no function, or the integral no such number.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    integral: float

    def __post_init__(self) -> None:
        require_callable("value", self.value)
        require_callable("slope", self.slope)
        require_number("integral", self.integral, least=-300, most=300)


def _at(curve: Curve, part: str, depths: Tensor) -> Tensor:
    found = getattr(curve, part)(depths)
    if not isinstance(found, Tensor) or found.shape != depths.shape:
        raise ValueError(f"curve: {part} maps no depths of shape {tuple(depths.shape)} to as many")
    if not torch.isfinite(found).all():
        raise ValueError(f"curve: {part} is NaN or infinite at a depth")
    return found


class MeshConstants(NamedTuple):
    r"""Limits of n times the error: uniform mesh, and the best one if e keeps its sign."""

    uniform: float
    best: float


def euler_end(curve: Curve, steps: Tensor) -> Tensor:
    r"""Return :math:`X^n` for Euler steps of shape (..., n)."""
    require_instance("curve", curve, Curve)
    require_tensor("steps", steps, 1)
    return _end(curve, steps)


def _end(curve: Curve, steps: Tensor) -> Tensor:
    before = steps.cumsum(-1) - steps
    end = (1 + steps * _at(curve, "value", before)).prod(-1)
    if not torch.isfinite(end.detach()).all():
        raise ValueError("steps: the product overflows; take shorter ones")
    return end


def mesh_constants(curve: Curve, nodes: int = 200) -> MeshConstants:
    r"""Return :math:`\int |e|` and :math:`(\int \sqrt{|e|})^2` by Gauss-Legendre quadrature.

    The second is the least of :math:`\int |e|/\omega` over densities :math:`\omega`, by the
    inequality of Cauchy and Schwarz, attained at :math:`\omega \propto \sqrt{|e|}`.
    """
    require_instance("curve", curve, Curve)
    require_positive_int("nodes", nodes)
    at, mass = (torch.from_numpy(v) / 2 for v in np.polynomial.legendre.leggauss(nodes))
    at = at + 0.5
    e = 0.5 * np.exp(curve.integral) * (_at(curve, "slope", at) + _at(curve, "value", at) ** 2)
    return MeshConstants(float((mass * e.abs()).sum()), float((mass * e.abs().sqrt()).sum() ** 2))


def train_steps(curve: Curve, n: int) -> Tensor:
    r"""Return n steps of total time 1 that minimise :math:`\frac12 (X^n - X(1))^2`.

    By BFGS from equal steps, over logarithms of the steps.

    Parameters
    ----------
    curve : Curve
        The curve, which is not trained.
    n : int
        The number of steps.

    Returns
    -------
    Tensor
        Positive, sum 1, shape (n,).

    Raises
    ------
    ValueError
        If Euler's method is exact on equal steps, and nothing is left to train.
    """
    require_instance("curve", curve, Curve)
    require_positive_int("n", n)
    target = float(np.exp(curve.integral))
    scale = abs(float(_end(curve, torch.full((n,), 1.0 / n, dtype=torch.float64))) - target)

    if not scale > 1e-14 * target:
        raise ValueError("curve: equal steps are exact to rounding, there is nothing to train")

    def loss(z: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.from_numpy(z).requires_grad_()
        value = 0.5 * ((_end(curve, torch.softmax(leaf, 0)) - target) / scale).square()
        value.backward()
        return value.item(), leaf.grad.numpy()

    found = minimize(loss, np.zeros(n), jac=True, method="BFGS", options={"gtol": 1e-9})
    return torch.softmax(torch.from_numpy(found.x), 0)
