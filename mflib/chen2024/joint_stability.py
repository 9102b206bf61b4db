r"""How far states and Gram matrix can move when both laws do, with the encoder's law in motion.

Around a start with mirror images the encoder's field vanishes at *every* state,
:math:`\int\sigma(z,\cdot)\,d\nu_0=0`. So only the difference :math:`\nu-\nu_0` drives the states,
and no exponential of :math:`\alpha` alone comes in. For :math:`|\sigma_0|, |\sigma_0'| \le 1` and
:math:`|\sigma_0''| \le \kappa`, as for tanh (chen2024, Lemmas C.1, C.3 and 4.4, derived here).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import require_alike, require_broadcast, require_number, require_tensor
from .stability import KAPPA, gram_root_modulus

__all__ = ["half_radius", "joint_root_modulus", "second_moment", "state_modulus"]


def second_moment(values: Tensor, mass: Tensor | None = None) -> Tensor:
    r"""Return :math:`\lambda_{\max}(E[m\,vv^\top])`, of vectors (..., N, k), shape (...).

    Parameters
    ----------
    values : Tensor
        The vectors v, shape (..., N, k), mass 1/N each.
    mass : Tensor, optional
        Factors m >= 0, shape (..., N); default 1.

    Examples
    --------
    >>> second_moment(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    tensor(2.)
    """
    count = require_tensor("values", values, 2).shape[-2]
    heavy = values
    if mass is not None:
        require_tensor("mass", mass, 1, last=count)
        require_alike(values=values, mass=mass)
        require_broadcast(values=values.shape[:-2], mass=mass.shape[:-1])
        if bool((mass < 0).any()):
            raise ValueError("mass: holds a negative factor")
        heavy = values * mass.unsqueeze(-1)
    return torch.linalg.eigvalsh(heavy.mT @ values / count)[..., -1].clamp_min(0)


def state_modulus(theta: Tensor, x: Tensor, w: Tensor | float, alpha: float = 1.0) -> Tensor:
    r"""Return how far the state of every input can be from the input, within distance W.

    .. math::

        |Z_\nu(x,1)-x| \le \frac{\sqrt{1+\lambda(1+|x|^2)}}{\sqrt\lambda}\,
            \big(e^{\alpha\sqrt\lambda\,W}-1\big), \qquad
        W=\int_0^1 W_2(\nu^s,\nu_0^s)\,ds, \quad
        \lambda=\max_s\lambda_{\max}(E_{\nu_0^s}uu^\top),

    for a start whose particles come in mirrored pairs :math:`(\pm u, w, b)`; for the Gaussian
    :math:`\lambda=1` and the factor is :math:`\sqrt3` for inputs of norm 1.

    Parameters
    ----------
    theta : Tensor
        The particles of :math:`\nu_0`, shape (..., L, M, 2d+1).
    x : Tensor
        Inputs, shape (..., n, d).
    w : Tensor or float
        The distance W, broadcast against (...).
    alpha : float
        The encoder's scale.

    Returns
    -------
    Tensor
        Shape (..., n).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed or a distance negative.

    Examples
    --------
    >>> u = torch.tensor([[[1.0, 0, 0], [-1.0, 0, 0]]])  # d = 1, one layer
    >>> state_modulus(u, torch.ones(1, 1), 0.0)
    tensor([0.])
    """
    d = require_tensor("x", x, 2).shape[-1]
    require_tensor("theta", theta, 3, last=2 * d + 1)
    require_alike(theta=theta, x=x)
    require_number("alpha", alpha, above=0)
    w = _distances("w", w, x)
    require_broadcast(theta=theta.shape[:-3], x=x.shape[:-2], w=w.shape)
    size = second_moment(theta[..., :d]).amax(-1, keepdim=True).clamp_min(1e-300)
    # a bound of e^200 says nothing, and stays a number
    grown = torch.expm1((alpha * size.sqrt() * w.unsqueeze(-1)).clamp_max(200.0))
    return (1 / size + 1 + x.square().sum(-1)).sqrt() * grown


def _distances(name: str, w: Tensor | float, x: Tensor) -> Tensor:
    if not isinstance(w, Tensor):
        return torch.tensor(require_number(name, w, least=0), dtype=x.dtype)
    if not (require_tensor(name, w, 0) >= 0).all():
        raise ValueError(f"{name}: a distance is negative")
    return w.to(x.dtype)


def joint_root_modulus(
    omega: Tensor,
    theta: Tensor,
    x: Tensor,
    head: Tensor | float,
    encoder: Tensor | float,
    alpha: float = 1.0,
) -> Tensor:
    r"""Return how much :math:`\sqrt{v^\top G_2(\tau,\nu)\,v}`, v of norm 1, can change.

    .. math::

        \Big|\sqrt{v^\top G_2(\tau,\nu)v}-\sqrt{v^\top G_2(\tau_0,\nu_0)v}\Big|
            \le c\,\zeta + S_\zeta\,\big(W+\Psi^{1/2}\big), \qquad
        c^2 = \lambda_w + \big((E a^2)^{1/2}+\kappa R\,\lambda_{aw}^{1/2}\big)^2,

    with :math:`\zeta` the root of the sum of squares of :func:`state_modulus`,
    :math:`\lambda_w` and :math:`\lambda_{aw}` the largest eigenvalues of :math:`E\,ww^\top` and
    :math:`E\,a^2ww^\top`, :math:`R^2=1+\max|x_i|^2`, and the second part as in
    :func:`~mflib.chen2024.stability.gram_root_modulus` at points that have moved by
    :math:`\zeta`. For the Gaussian and inputs of norm 1, c is 2.316.

    Parameters
    ----------
    omega : Tensor
        The particles of :math:`\tau_0`, shape (..., K, d+2).
    theta : Tensor
        Those of :math:`\nu_0` in mirrored pairs, shape (..., L, M, 2d+1).
    x : Tensor
        Inputs, shape (..., n, d).
    head, encoder : Tensor or float
        The distances of :math:`\tau` and of :math:`\nu`, broadcast against (...).
    alpha : float
        The encoder's scale.

    Returns
    -------
    Tensor
        Shape (...).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed or a distance negative.
    """
    encoder = _distances("encoder", encoder, require_tensor("x", x, 2))
    moved = state_modulus(theta, x, encoder, alpha).square().sum(-1).sqrt()
    require_tensor("omega", omega, 2, last=x.shape[-1] + 2)
    require_alike(omega=omega, x=x)
    head = _distances("head", head, x)
    require_broadcast(
        omega=omega.shape[:-2], x=x.shape[:-2], theta=theta.shape[:-3], head=head.shape
    )
    a, w = omega[..., 0], omega[..., 1:-1]
    reach = (1 + x.square().sum(-1).amax(-1)).sqrt()
    slope = a.square().mean(-1).sqrt() + KAPPA * reach * second_moment(w, a.square()).sqrt()
    c = (second_moment(w) + slope**2).sqrt()
    return c * moved + gram_root_modulus(omega, x, head, moved)


def half_radius(
    omega: Tensor, theta: Tensor, x: Tensor, smallest: Tensor, alpha: float = 1.0
) -> Tensor:
    r"""Return a distance r within which both laws leave half of the smallest eigenvalue.

    The solution of :math:`J(r, r) = (1-\tfrac1{\sqrt2})\sqrt\Lambda` with J of
    :func:`joint_root_modulus`, by bisection of its logarithm; J grows with both distances.

    Parameters
    ----------
    omega : Tensor
        The particles of :math:`\tau_0`, shape (..., K, d+2).
    theta : Tensor
        Those of :math:`\nu_0` in mirrored pairs, shape (..., L, M, 2d+1).
    x : Tensor
        Inputs, shape (..., n, d).
    alpha : float
        The encoder's scale.
    smallest : Tensor
        :math:`\Lambda=\lambda_{\min}(G_2(\tau_0,\nu_0))`, positive, shape (...).

    Returns
    -------
    Tensor
        Shape (...), from below.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed, or the radius lies outside :math:`[10^{-12}, 10]`.
    """
    if not (require_tensor("smallest", smallest, 0) > 0).all():
        raise ValueError("smallest: an eigenvalue is not positive, half of it is none")
    joint_root_modulus(omega, theta, x, 0.0, 0.0, alpha)  # looks at the arguments
    require_broadcast(smallest=smallest.shape, x=x.shape[:-2], omega=omega.shape[:-2])
    goal = (1 - math.sqrt(0.5)) * smallest.sqrt()
    low = torch.full_like(goal + x[..., 0, 0] * 0, -12.0)
    high = torch.ones_like(low)

    def allowed(log: Tensor) -> Tensor:
        return joint_root_modulus(omega, theta, x, 10.0**log, 10.0**log, alpha) <= goal

    if not allowed(low).all():
        raise ValueError("smallest: an eigenvalue is so small that no radius is left")
    for _ in range(50):
        middle = 0.5 * (low + high)
        fine = allowed(middle)
        low, high = torch.where(fine, middle, low), torch.where(fine, high, middle)
    return 10.0**low
