r"""The strong universal approximation constant, exactly (fang2021, Assumption 2).

.. math::

    \bar\lambda(C) = \inf_{\|f_2\|_\infty\le C}\lambda_{\min}
    \int h\big(\tfrac1dXv+f_2(v)\big)\,h(\cdot)^\top dN(0,I)(v)
    = \min_{|a|=1}\mathbb E\,\operatorname{dist}^2\Big(0,\;\sum_i a_i\,
    h\big([\beta_i-C,\beta_i+C]\big)\Big).

The two infima commute, and the one over :math:`f_2` is taken point by point: for each v the
sum :math:`a\cdot h(\beta+f_2)` fills an interval, and the adversary takes its point of least
modulus. What is left is a minimisation over the unit sphere of :math:`\mathbb R^N`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..activations import Activation, activation
from ..arguments import (
    require_generator,
    require_number,
    require_positive_int,
    require_tensor,
)
from ..kernels import normal_rule

__all__ = ["Adversary", "adversary", "gaussian_points", "parallel", "value_range"]


def gaussian_points(d: int, nodes: int = 61) -> tuple[Tensor, Tensor]:
    r"""Return a tensor rule for :math:`N(0, I_d)`: points (d, nodes^d) and masses.

    The rule reaches far enough that Gaussian tails are resolved in relative terms.

    Raises
    ------
    ValueError
        If the rule would have more than two million points.
    """
    require_positive_int("d", d)
    t, m = normal_rule(nodes)
    if nodes**d > 2_000_000:
        raise ValueError(f"nodes: {nodes}^{d} points are too many; take Sobol points instead")
    grid = torch.stack(torch.meshgrid(*[t] * d, indexing="ij")).reshape(d, -1)
    mass = torch.stack(torch.meshgrid(*[m] * d, indexing="ij")).reshape(d, -1).prod(0)
    return grid, mass


def value_range(
    h: str | Activation, centre: Tensor, radius: float, turning: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Return the least and the largest value of h on :math:`[c-r, c+r]`, entrywise.

    Parameters
    ----------
    h : str or Activation
        A continuous function, monotone between its turning points.
    centre : Tensor
        The centres c.
    radius : float
        :math:`r\ge0`.
    turning : Tensor, optional
        All points where h turns; none for monotone h.

    Raises
    ------
    ValueError
        If the radius is negative.
    """
    require_number("radius", radius, least=0)
    require_tensor("centre", centre, 0)
    if turning is not None:
        require_tensor("turning", turning, 1)
    try:
        f = activation(h).f
    except (ValueError, TypeError) as error:
        raise ValueError(f"h: {error}") from None
    ends = torch.stack([f(centre - radius), f(centre + radius)])
    low, high = ends.amin(0), ends.amax(0)
    for point in () if turning is None else turning:
        inside = (centre - point).abs() <= radius
        value = f(point)
        low = torch.where(inside, torch.minimum(low, value), low)
        high = torch.where(inside, torch.maximum(high, value), high)
    return low, high


def parallel(x: Tensor) -> Tensor:
    r"""Return the largest :math:`|\cos|` between two of the inputs (N, d); 1 if parallel."""
    if require_tensor("x", x, 2).ndim != 2 or len(x) < 2:
        raise ValueError(f"x: shape {tuple(x.shape)} is not (N, d) with at least two inputs")
    if not (x.norm(dim=-1) > 0).all():
        raise ValueError("x: an input is zero and has no direction; remove it")
    unit = x / x.norm(dim=-1, keepdim=True)
    cosine = (unit @ unit.mT).abs()
    return (cosine - torch.eye(len(x), dtype=x.dtype)).amax()


@dataclass(frozen=True)
class Adversary:
    r"""All functions :math:`f_2` bounded by C, at given points of v.

    Parameters
    ----------
    low, high : Tensor
        The ranges of :math:`h(\beta_i+f_{2,i})`, shape (N, P), from :func:`value_range`.
    mass : Tensor
        Masses of the points, shape (P,).
    """

    low: Tensor
    high: Tensor
    mass: Tensor

    def interval(self, a: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return the ends of the interval that :math:`a\cdot h` fills, a (..., N), (..., P)."""
        up, down = a.clamp_min(0), a.clamp_max(0)
        return up @ self.low + down @ self.high, up @ self.high + down @ self.low

    def value(self, a: Tensor) -> Tensor:
        r"""Return :math:`\mathbb E\,\mathrm{dist}^2(0, a\cdot h)` for a of shape (..., N)."""
        left, right = self.interval(a)
        return (left.clamp_min(0) ** 2 + right.clamp_max(0) ** 2) @ self.mass

    def response(self, a: Tensor) -> Tensor:
        r"""Return the adversary's features :math:`h(\beta+f_2)` against a (N,), shape (N, P)."""
        left, right = self.interval(a)
        share = (-left / (right - left).clamp_min(1e-300)).clamp(0.0, 1.0)
        upper = torch.where(a.unsqueeze(-1) > 0, self.high, self.low)
        lower = torch.where(a.unsqueeze(-1) > 0, self.low, self.high)
        return lower + share * (upper - lower)

    def gram(self, a: Tensor) -> Tensor:
        r"""Return :math:`\int hh^\top` of the adversary's features against a, shape (N, N)."""
        h = self.response(a)
        return (h * self.mass) @ h.mT

    def _objective(self, a: np.ndarray) -> tuple[float, np.ndarray]:
        size = np.linalg.norm(a)
        u = torch.as_tensor(a / size)
        left, right = self.interval(u)
        s, t = left.clamp_min(0) * self.mass, right.clamp_max(0) * self.mass
        value = float((s * left).sum() + (t * right).sum())
        up = u > 0
        slope = 2.0 * torch.where(up, self.low @ s + self.high @ t, self.high @ s + self.low @ t)
        tangent = (slope - (slope @ u) * u).numpy() / size
        return value, tangent

    def least(self, generator: torch.Generator, starts: int = 12) -> tuple[float, Tensor]:
        r"""Return :math:`\bar\lambda(C)` and a minimiser a (N,), the best of several descents.

        A search gives an upper bound; :meth:`gram` at the minimiser gives the certificate
        that an admissible :math:`f_2` reaches the value.
        """
        from scipy.optimize import minimize

        n = self.low.shape[0]
        require_positive_int("starts", starts)
        middle = 0.5 * (self.low + self.high)
        first = torch.linalg.eigh((middle * self.mass) @ middle.mT)[1][:, : min(n, 2)].mT
        noise = torch.randn(starts, n, generator=require_generator(generator), dtype=torch.float64)
        scale = float(self.value(torch.eye(n, dtype=torch.float64)).max()) or 1.0
        best = (float("inf"), first[0])
        for start in torch.cat([first, noise]):
            found = minimize(
                lambda a: tuple(v / scale for v in self._objective(a)),
                start.numpy(),
                jac=True,
                method="L-BFGS-B",
                options=dict(maxiter=200, ftol=1e-15, gtol=1e-10),
            )
            a = torch.as_tensor(found.x / np.linalg.norm(found.x))
            value = float(self.value(a))
            if value < best[0]:
                best = (value, a)
        return best


def adversary(
    x: Tensor,
    h: str | Activation,
    radius: float,
    rule: tuple[Tensor, Tensor] | None = None,
    turning: Tensor | None = None,
    sigma: float | None = None,
) -> Adversary:
    r"""Return the adversary of inputs x (N, d) for an activation and a bound C.

    `rule` holds points (d, P) and masses of the standard Gaussian; by default
    :func:`gaussian_points`. The law of :math:`v` is N(0, I) as in Assumption 2, or with
    `sigma` the :math:`N(0, d\sigma^2 I)` of Algorithm 2.
    """
    d = require_tensor("x", x, 2).shape[-1]
    if rule is not None and not (isinstance(rule, tuple) and len(rule) == 2):
        raise TypeError("rule: expected points (d, P) and masses (P,), a tuple of two tensors")
    points, mass = gaussian_points(d) if rule is None else rule
    require_tensor("rule", points, 2)
    require_tensor("rule", mass, 1, last=points.shape[-1])
    if points.shape[0] != d:
        raise ValueError(f"rule: its points have dimension {points.shape[0]}, the inputs {d}")
    if sigma is not None:
        require_number("sigma", sigma, above=0)
    size = 1.0 if sigma is None else sigma * d**0.5
    low, high = value_range(h, size * (x @ points) / d, radius, turning)
    return Adversary(low, high, mass)
