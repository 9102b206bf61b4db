r"""The ultra-fast diffusion of features on the unit torus, by trigonometric collocation.

.. math::

    \partial_t\mu = -\tfrac12\,\partial_\omega\big(\mu\,\partial_\omega (\nu/\mu)^2\big)
        = -\partial_\omega\big(\nu\,\partial_\omega (\nu/\mu)\big),

the law of the features of a two-layer network whose output weights are solved for at every
time, in the limit of a vanishing penalty (barboni2025fast); :math:`\nu` is the teacher's law. With
:math:`\mu = \nu(1 + g)` and small g it is the heat equation
:math:`\nu\,\partial_t g = \partial_\omega(\nu\,\partial_\omega g)` of the weighted Laplacian.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import require_alike, require_broadcast, require_number, require_tensor
from ..stepping import runge_kutta_step

__all__ = ["fourier_derivative", "relax", "relaxation_rates"]

#: A step of the classical method is stable up to 2.78 over the largest eigenvalue.
_STABLE = 2.5

#: Steps after which the largest eigenvalue is computed anew.
_EVERY = 32

#: Steps that are too many: the law has long relaxed.
_MOST = 1e6


def fourier_derivative(values: Tensor) -> Tensor:
    r"""Return the derivative of periodic functions at an odd number of equal nodes of [0, 1).

    Exact for trigonometric polynomials of degree below half the number of nodes.

    Parameters
    ----------
    values : Tensor
        Values at 0, 1/Q, ..., shape (..., Q), Q odd.

    Returns
    -------
    Tensor
        Shape (..., Q).

    Raises
    ------
    TypeError, ValueError
        If `values` is malformed or Q is even, where one frequency has no derivative.

    Examples
    --------
    >>> at = torch.arange(5, dtype=torch.float64) / 5
    >>> slope = fourier_derivative(torch.sin(2 * torch.pi * at))
    >>> bool(torch.allclose(slope, 2 * torch.pi * torch.cos(2 * torch.pi * at)))
    True
    """
    _require_odd("values", values)
    return values @ _matrix(values).mT


def _require_odd(name: str, values: Tensor) -> None:
    require_tensor(name, values, 1)
    if values.shape[-1] % 2 == 0:
        raise ValueError(f"{name}: {values.shape[-1]} nodes; their number must be odd")


def _matrix(like: Tensor) -> Tensor:
    """Return the skew matrix (Q, Q) of the derivative."""
    nodes = like.shape[-1]
    gap = torch.arange(nodes, dtype=like.dtype, device=like.device)
    gap = gap[:, None] - gap
    sign = 1.0 - 2.0 * (gap.abs() % 2)
    angle = torch.sin(math.pi * gap / nodes)
    return torch.where(gap == 0, 0.0, math.pi * sign / torch.where(gap == 0, 1.0, angle))


def _require_density(name: str, density: Tensor) -> None:
    _require_odd(name, density)
    if not bool((density > 0).all()):
        raise ValueError(f"{name}: a density must be positive at every node")
    if not bool(((density.mean(-1) - 1).abs() < 1e-6).all()):
        raise ValueError(f"{name}: the mean over the nodes must be 1; divide by the mean")


def relax(mu: Tensor, nu: Tensor, time: float) -> Tensor:
    r"""Return the law of the features after `time`, from `mu` towards the teacher `nu`.

    The classical Runge-Kutta method. Its step follows the fastest rate of the linearised
    equation, which falls with time: by the maximum principle the range of :math:`\nu/\mu` shrinks.

    Parameters
    ----------
    mu : Tensor
        Density at the nodes 0, 1/Q, ... of the unit torus, shape (..., Q), Q odd.
    nu : Tensor
        The teacher's density, shape (..., Q).
    time : float
        At least 0.

    Returns
    -------
    Tensor
        Shape (..., Q). The mean over the nodes, the mass, is kept to rounding.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed, a density is not positive with mean 1, or the time is so long
        that nothing moves any more.

    Examples
    --------
    A teacher that is met already:

    >>> nu = torch.tensor([0.8, 1.2, 1.0])
    >>> relax(nu, nu, 0.1)
    tensor([0.8000, 1.2000, 1.0000])
    """
    for name, density in (("mu", mu), ("nu", nu)):
        _require_density(name, density)
    require_alike(mu=mu, nu=nu)
    require_broadcast(mu=mu.shape, nu=nu.shape)
    require_number("time", time, least=0)
    derivative, left, count = _matrix(mu).mT, time, 0
    while left > 0:
        if count % _EVERY == 0:
            step = _STABLE / float(_linearised(mu, nu)[..., -1].max())
            if left > _MOST * step:
                raise ValueError(f"time: {time:g} takes more than {_MOST:g} steps; shorten it")
        h = min(step, left)
        mu = runge_kutta_step(lambda at: -(nu * ((nu / at) @ derivative)) @ derivative, mu, h)
        left, count = left - h, count + 1
    return mu


def _linearised(mu: Tensor, nu: Tensor) -> Tensor:
    r"""Return the rates (..., Q) at which small changes of mu decay, increasing."""
    change = nu.sqrt() / mu
    stretched = nu.sqrt().unsqueeze(-1) * _matrix(mu) * change.unsqueeze(-2)
    return torch.linalg.eigvalsh(stretched.mT @ stretched)


def relaxation_rates(nu: Tensor) -> Tensor:
    r"""Return the rates :math:`\lambda` of :math:`-(\nu g')' = \lambda\,\nu g`, increasing.

    The first is 0, of constants, which mass forbids; the second is the gap at which
    :math:`\mu` converges to :math:`\nu`.

    Parameters
    ----------
    nu : Tensor
        Density at the nodes 0, 1/Q, ... of the unit torus, shape (..., Q), Q odd.

    Returns
    -------
    Tensor
        Shape (..., Q).

    Raises
    ------
    TypeError, ValueError
        If `nu` is malformed, or no positive density with mean 1.

    Examples
    --------
    >>> rates = relaxation_rates(torch.ones(5, dtype=torch.float64)) / (2 * torch.pi) ** 2
    >>> [round(abs(float(rate)), 6) for rate in rates]
    [0.0, 1.0, 1.0, 4.0, 4.0]
    """
    _require_density("nu", nu)
    return _linearised(nu, nu)
