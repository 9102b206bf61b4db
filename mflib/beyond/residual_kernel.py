r"""The covariance of a residual ReLU network at infinite width, block by block.

With :math:`h_{l+1} = h_l + L^{-a} W_l\, \mathrm{relu}(h_l)`, entries of :math:`W_l` independent
of variance 1/d, the products :math:`K_l = h_l \cdot h_l' / d` become deterministic as the width d
grows (hayou2023):

.. math::

    K_{l+1} = K_l + L^{-2a} R(K_l), \qquad
    R(K) = \frac{\sqrt{k k'}}{2\pi}\big(\sin\theta + (\pi - \theta)\cos\theta\big),

where :math:`\cos\theta` is the correlation. For a = 1/2 they are Euler steps of
:math:`\dot K = R(K)`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import require_int, require_number, require_positive_int, require_tensor
from ..stepping import runge_kutta_step

__all__ = ["relu_covariance", "residual_covariance", "residual_covariance_limit"]


def _require_covariance(name: str, value: object) -> Tensor:
    k = require_tensor(name, value, 2)
    if k.shape[-1] != k.shape[-2] or not torch.allclose(k, k.mT):
        raise ValueError(f"{name}: shape {tuple(k.shape)}, expected symmetric (..., n, n)")
    diagonal = k.diagonal(dim1=-2, dim2=-1)
    bound = (diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2)).clamp_min(0).sqrt()
    if not bool((diagonal > 0).all()) or bool((k.abs() > bound * (1 + 1e-9)).any()):
        raise ValueError(f"{name}: is no covariance of positive variances")
    return k


def _relu(k: Tensor) -> Tensor:
    size = k.diagonal(dim1=-2, dim2=-1).sqrt()
    size = size.unsqueeze(-1) * size.unsqueeze(-2)
    cos = (k / size).clamp(-1.0, 1.0)
    angle = torch.acos(cos)
    mixed = size / (2 * torch.pi) * ((1 - cos * cos).sqrt() + (torch.pi - angle) * cos)
    return torch.where(torch.eye(k.shape[-1], dtype=torch.bool), 0.5 * k, mixed)


def relu_covariance(k: Tensor) -> Tensor:
    r"""Return :math:`R(K) = \mathbb E\,\mathrm{relu}(g)\,\mathrm{relu}(g')` of normal g, g'.

    Parameters
    ----------
    k : Tensor
        Covariances, shape (..., n, n).

    Raises
    ------
    TypeError, ValueError
        If they are no covariances.

    Examples
    --------
    >>> relu_covariance(torch.tensor([[2.0, 0.0], [0.0, 2.0]]))
    tensor([[1.0000, 0.3183],
            [0.3183, 1.0000]])
    """
    return _relu(_require_covariance("k", k))


def residual_covariance(k: Tensor, L: int, power: float = 0.5) -> Tensor:
    r"""Return :math:`K_L` of L blocks with branches of scale :math:`L^{-a}`.

    Parameters
    ----------
    k : Tensor
        The covariances :math:`K_0`, shape (..., n, n).
    L : int
        The depth.
    power : float
        The exponent a.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.

    Examples
    --------
    >>> residual_covariance(torch.ones(1, 1), 2)  # (1 + 1/4)^2
    tensor([[1.5625]])
    """
    _require_covariance("k", k)
    require_positive_int("L", L)
    require_number("power", power, least=0)
    for _ in range(L):
        k = k + L ** (-2.0 * power) * _relu(k)
    if not bool(torch.isfinite(k).all()):
        raise ValueError("power: the covariance leaves the finite numbers; scale the branches down")
    return k


def residual_covariance_limit(k: Tensor, steps: int = 64) -> Tensor:
    r"""Return the solution of :math:`\dot K = R(K)` at depth 1, shape (..., n, n).

    Parameters
    ----------
    k : Tensor
        The covariances :math:`K_0`, shape (..., n, n).
    steps : int
        Steps of the classical Runge-Kutta method.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.

    Examples
    --------
    >>> residual_covariance_limit(torch.ones(1, 1))  # the square root of e
    tensor([[1.6487]])
    """
    _require_covariance("k", k)
    require_int("steps", steps, 1)
    for _ in range(steps):
        k = runge_kutta_step(_relu, k, 1.0 / steps)
    return k
