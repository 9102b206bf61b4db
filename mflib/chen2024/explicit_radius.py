r"""An explicit ceiling for the divergence of the trained head, for all time.

With the kernels :math:`K_1=E[\nabla h\cdot\nabla h']` and
:math:`K_2=E[\mathcal Lh\,\mathcal Lh']` of the particles at the start,
:math:`\Lambda=\lambda_{\min}(K_1)` and
:math:`\chi=\lambda_{\max}(K_1^{-1/2}K_2K_1^{-1/2})`,

.. math::

    KL(\tau_t\|\tau_0) \le \frac{1+\varepsilon}{(1-\delta)^4}\,
        \frac{\chi\,|y|^2}{2\,\beta^2\Lambda} \qquad\text{for all } t,

if :math:`\delta`, the share of :math:`\sqrt\Lambda` that laws this near can lose, is then below
:math:`1-1/\sqrt2` (chen2024, Lemmas C.6 to C.11 and Theorem 4.7, derived here).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_number,
    require_positive_int,
    require_tensor,
)
from ..blocks import NeuronBlock
from ..gram import neuron_gram
from .joint_stability import joint_root_modulus
from .ornstein_uhlenbeck import neuron_generator
from .stability import gram_root_modulus

__all__ = ["Ceiling", "FeltKernels", "felt_kernels", "kl_ceiling", "least_scale"]

#: Half of the smallest eigenvalue remains: the share of its root that may be lost.
_LOST = 1 - math.sqrt(0.5)


class FeltKernels(NamedTuple):
    r"""The kernels of the particles and what the bound takes from them.

    Attributes
    ----------
    first, second : Tensor
        :math:`K_1` and :math:`K_2`, shape (..., n, n).
    smallest, degree : Tensor
        :math:`\Lambda` and :math:`\chi`, the largest Hermite degree that the data feel, plus
        one; shape (...).
    """

    first: Tensor
    second: Tensor
    smallest: Tensor
    degree: Tensor


def felt_kernels(omega: Tensor, x: Tensor) -> FeltKernels:
    r"""Return :math:`K_1`, :math:`K_2`, :math:`\Lambda` and :math:`\chi` for tanh.

    Parameters
    ----------
    omega : Tensor
        The particles of :math:`\tau_0`, shape (..., K, d+2), mass 1/K each.
    x : Tensor
        Inputs, shape (..., n, d).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed or :math:`K_1` is singular.

    Examples
    --------
    One input at the origin and two neurons (a, w, b) = (1, 0, 0): K_1 = 1, and L h = 0.

    >>> pair = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]])
    >>> felt_kernels(pair, torch.zeros(1, 1)).smallest
    tensor(1.)
    """
    d = require_tensor("x", x, 2).shape[-1]
    require_tensor("omega", omega, 2, last=d + 2)
    require_alike(omega=omega, x=x)
    require_broadcast(omega=omega.shape[:-2], x=x.shape[:-2])
    block = NeuronBlock(d, out=1)
    first = neuron_gram(block, x, omega, torch.ones_like(x[..., :1]))
    values = neuron_generator(block, x, omega) * omega[..., 0].unsqueeze(-2)
    second = values @ values.mT / omega.shape[-2]
    eigenvalues, vectors = torch.linalg.eigh(first)
    if not (eigenvalues[..., 0] > 1e-13 * eigenvalues[..., -1]).all():
        raise ValueError("x: K_1 is singular to rounding; drop repeated inputs")
    root = vectors / eigenvalues.sqrt().unsqueeze(-2)
    degree = torch.linalg.eigvalsh(root.mT @ second @ root)[..., -1]
    return FeltKernels(first, second, eigenvalues[..., 0], degree)


class Ceiling(NamedTuple):
    r"""The ceiling of the divergence, and the share :math:`\delta` of the root that is lost."""

    kl: Tensor
    lost: Tensor


def _improve(
    kernels: FeltKernels, size: Tensor, y: Tensor, beta: Tensor, lost: Tensor, kl: Tensor
) -> Tensor:
    """Return the ceiling for a known share that is lost and a known ceiling (for epsilon)."""
    least = torch.linalg.eigvalsh(kernels.second)[..., 0].clamp_min(1e-300)
    x = kl * size**2 * y.shape[-1] / least
    room = ((1 + torch.where(x > 1e-8, torch.expm1(x) / x.clamp_min(1e-8), 1 + x / 2)) / 2) ** 2
    plain = kernels.degree * y.square().sum(-1) / (2 * beta**2 * kernels.smallest)
    return room / (1 - lost) ** 4 * plain


def kl_ceiling(
    omega: Tensor,
    x: Tensor,
    y: Tensor,
    beta: Tensor | float,
    theta: Tensor | None = None,
    alpha: float = 1.0,
    sweeps: int = 30,
) -> Ceiling:
    r"""Return the ceiling of :math:`KL(\tau_t\|\tau_0)` for all times, from a mirrored start.

    As long as half of :math:`\Lambda` is left, the ceiling holds with
    :math:`\delta=1-1/\sqrt2`. Within :math:`W_2\le\sqrt{2KL}` the laws can lose a share
    :math:`\delta_1` of the root. If that is less, the half is never reached, the ceiling
    holds with :math:`\delta_1` for all times, and so on.

    Parameters
    ----------
    omega : Tensor
        The particles of :math:`\tau_0` in mirrored pairs, shape (..., K, d+2).
    x, y : Tensor
        Inputs (..., n, d) and labels (..., n).
    beta : Tensor or float
        The predictor's scale, broadcast against (...).
    theta : Tensor, optional
        The particles of :math:`\nu_0` in mirrored pairs, shape (..., L, M, 2d+1): the ceiling is
        then that of the sum of both divergences, to leading order in :math:`1/\beta`. Default:
        the encoder is frozen.
    alpha : float
        The encoder's scale.
    sweeps : int
        How often the ceiling is improved.

    Returns
    -------
    Ceiling
        Shape (...) each.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed, :math:`K_1` is singular, or `beta` is so small that nothing
        is said.
    """
    found = _ceiling(omega, x, y, beta, theta, alpha, sweeps)
    if not found.kl.isfinite().all():
        raise ValueError("beta: at so small a scale there is no ceiling; see least_scale")
    return found


def _ceiling(
    omega: Tensor,
    x: Tensor,
    y: Tensor,
    beta: Tensor | float,
    theta: Tensor | None,
    alpha: float,
    sweeps: int,
) -> Ceiling:
    """Return the ceiling, infinite where `beta` is too small."""
    kernels = felt_kernels(omega, x)
    require_positive_int("sweeps", sweeps)
    require_tensor("y", y, 1, last=x.shape[-2])
    require_alike(x=x, y=y)
    if not isinstance(beta, Tensor):
        beta = torch.tensor(require_number("beta", beta, above=0), dtype=x.dtype)
    elif not (require_tensor("beta", beta, 0) > 0).all():
        raise ValueError("beta: a scale is not positive")
    require_broadcast(x=x.shape[:-2], omega=omega.shape[:-2], y=y.shape[:-1], beta=beta.shape)
    c = torch.linspace(-12, 12, 24_001, dtype=x.dtype)
    v = torch.tanh(c)
    reach = 1 + x.square().sum(-1).amax(-1)
    bend = reach.unsqueeze(-1) * -2 * v * (1 - v**2)
    size = (bend - v - c * (1 - v**2)).abs().amax(-1)

    def share(kl: Tensor) -> Tensor:
        w = (2 * kl).sqrt()
        if theta is None:
            modulus = gram_root_modulus(omega, x, w)
        else:
            modulus = joint_root_modulus(omega, theta, x, w, w, alpha)
        return modulus / kernels.smallest.sqrt()

    plain = torch.zeros_like(kernels.smallest * beta * y.sum(-1))
    lost = torch.full_like(plain, _LOST)
    kl = _improve(kernels, size, y, beta, lost, plain)
    for _ in range(3):  # epsilon needs a ceiling itself
        kl = _improve(kernels, size, y, beta, lost, kl.clamp_max(1.0))
    speaks = (kl < 1) & (share(kl.clamp_max(1.0)) < _LOST)
    for _ in range(sweeps):
        safe = torch.where(speaks, kl, 0.0)
        lost = torch.where(speaks, share(safe), lost)
        kl = torch.where(speaks, _improve(kernels, size, y, beta, lost, safe), kl)
    nothing = torch.ones_like(kl)
    return Ceiling(torch.where(speaks, kl, nothing * math.inf), torch.where(speaks, lost, nothing))


def least_scale(
    omega: Tensor, x: Tensor, y: Tensor, theta: Tensor | None = None, alpha: float = 1.0
) -> Tensor:
    r"""Return the least :math:`\beta` at which :func:`kl_ceiling` says something, from above.

    By bisection of its logarithm.

    Parameters
    ----------
    omega : Tensor
        The particles of :math:`\tau_0` in mirrored pairs, shape (..., K, d+2).
    x, y : Tensor
        Inputs (..., n, d) and labels (..., n).
    theta, alpha
        As there.

    Returns
    -------
    Tensor
        Shape (...).

    Raises
    ------
    TypeError, ValueError
        As there.
    """
    _ceiling(omega, x, y, 1.0, theta, alpha, 1)  # the arguments are looked at once
    low = torch.full_like(x[..., 0, 0] + y[..., 0] + omega[..., 0, 0], -6.0)
    high = torch.full_like(low, 12.0)
    for _ in range(40):
        middle = 0.5 * (low + high)
        fine = _ceiling(omega, x, y, 10.0**middle, theta, alpha, 1).kl.isfinite()
        low, high = torch.where(fine, low, middle), torch.where(fine, middle, high)
    return 10.0**high
