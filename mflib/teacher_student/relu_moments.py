r"""The two-layer ReLU network in one dimension, solved in closed form.

Inputs :math:`x > 0` see the law only through :math:`M_+ = \int_{\theta>0} \theta\,
\rho(d\theta)`, inputs :math:`x < 0` through :math:`M_- = \int_{\theta<0} |\theta|\,
\rho(d\theta)`. With :math:`s_\pm = \int_{\pm x>0} x^2 \mu(dx)` and the masses
:math:`P_\pm` of the half-lines,

.. math::

    E = \tfrac12 \sum_\pm s_\pm (M_\pm - M_\pm^*)^2, \qquad
    \dot M_\pm = -s_\pm P_\pm (M_\pm - M_\pm^*),

as long as no particle crosses 0 (derived from teacher_student, eq. (2)).
"""

from __future__ import annotations

import torch
from scipy import stats
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_number,
    require_positive_int,
    require_tensor,
)

__all__ = ["expected_loss", "final_loss", "half_line_moments"]


def half_line_moments(theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return :math:`(M_+, M_-)` and :math:`(P_+, P_-)` of a law on the line.

    Parameters
    ----------
    theta : Tensor
        Shape (..., N, 1).
    weights : Tensor
        Shape (..., N).

    Returns
    -------
    moments, masses : Tensor
        Shape (..., 2) each.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.
    """
    require_tensor("theta", theta, 2, last=1)
    require_tensor("weights", weights, 1, last=theta.shape[-2])
    require_alike(theta=theta, weights=weights)
    require_broadcast(theta=theta.shape[:-2], weights=weights.shape[:-1])
    line = theta.squeeze(-1)
    signs = torch.stack([line, -line], -2)
    mass = torch.where(signs > 0, weights.unsqueeze(-2), 0.0)
    return (mass * signs).sum(-1), mass.sum(-1)


def _require_pairs(**pairs: Tensor) -> None:
    for name, value in pairs.items():
        require_tensor(name, value, 1, last=2)
    require_alike(**pairs)
    require_broadcast(**{name: value.shape[:-1] for name, value in pairs.items()})
    for name in ("s", "variance"):
        if name in pairs and bool((pairs[name] < 0).any()):
            raise ValueError(f"{name}: holds a negative number; it is a mean of squares")


def _finite(loss: Tensor) -> Tensor:
    if not bool(torch.isfinite(loss).all()):
        raise ValueError("time: the loss left the finite numbers")
    return loss


def final_loss(
    moments: Tensor, masses: Tensor, target: Tensor, s: Tensor, time: float | Tensor
) -> Tensor:
    r"""Return :math:`E` after a training time.

    .. math::

        E(t) = \tfrac12 \sum_\pm s_\pm (M_\pm - M_\pm^*)^2\, e^{-2 s_\pm P_\pm t}

    Parameters
    ----------
    moments, masses : Tensor
        :math:`M_\pm` and :math:`P_\pm` at the start, shape (..., 2) each.
    target, s : Tensor
        :math:`M_\pm^*` and :math:`s_\pm`, shape (..., 2) each.
    time : float or Tensor
        The training time; a tensor has shape (..., 1).

    Returns
    -------
    Tensor
        Shape (...).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.
    """
    _require_pairs(moments=moments, masses=masses, target=target, s=s)
    if isinstance(time, Tensor):
        require_tensor("time", time, 0)
        require_broadcast(moments=(moments + masses + target + s).shape, time=time.shape)
    else:
        require_number("time", time)
    left = (moments - target) * torch.exp(-s * masses * time)
    return _finite(0.5 * (s * left**2).sum(-1))


def expected_loss(
    number: int,
    share: Tensor,
    mean: Tensor,
    variance: Tensor,
    target: Tensor,
    s: Tensor,
    time: float,
) -> Tensor:
    r"""Return the mean of :math:`E_N(t)` over N independent particles, exactly.

    On each half-line the number of particles is binomial, and given it the moment is a mean
    of independent sizes, so that

    .. math::

        \mathbb E\, E_N = \tfrac12 \sum_\pm s_\pm\, \mathbb E_n \Big[
            \Big(\big(\tfrac nN m_\pm - M_\pm^*\big)^2 + \tfrac n{N^2} v_\pm\Big)
            e^{-2 s_\pm n t / N}\Big].

    Parameters
    ----------
    number : int
        N.
    share, mean, variance : Tensor
        :math:`P_\pm`, and mean :math:`m_\pm` and variance :math:`v_\pm` of the size
        :math:`|\theta|` on each half-line, shape (..., 2).
    target : Tensor
        :math:`M_\pm^*`, shape (..., 2).
    s : Tensor
        Shape (..., 2).
    time : float
        The training time.

    Returns
    -------
    Tensor
        Shape (...).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.
    """
    require_positive_int("number", number)
    _require_pairs(share=share, mean=mean, variance=variance, target=target, s=s)
    if bool((share < 0).any()) or bool((share > 1).any()):
        raise ValueError("share: holds a number outside [0, 1]; pass the masses of the half-lines")
    require_number("time", time)
    n = torch.arange(number + 1, dtype=s.dtype)
    chance = torch.as_tensor(stats.binom.pmf(n.numpy(), number, share.unsqueeze(-1).numpy()))
    part = n / number
    square = (part * mean.unsqueeze(-1) - target.unsqueeze(-1)) ** 2
    square = square + part / number * variance.unsqueeze(-1)
    decay = torch.exp(-2.0 * s.unsqueeze(-1) * part * time)
    return _finite(0.5 * (s * (chance * square * decay).sum(-1)).sum(-1))
