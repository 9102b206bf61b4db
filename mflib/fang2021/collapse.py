r"""How far the features of one layer lie apart, and how this changes in training.

.. math::

    s_\ell = \Big(\frac1N\sum_n\frac1m\sum_i\big(\beta_{\ell,i}(n)
    - \bar\beta_\ell(n)\big)^2\Big)^{1/2}.

With i.i.d. weights of bounded variance :math:`s_\ell=O(m^{-1/2})` in the middle layers: all
units of a layer become one unit (fang2021, Proposition 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import require_instance, require_positive_int, require_tensor
from .network import Network, Weights

__all__ = ["expected_range", "largest_spread", "spread", "spread_through_training"]


def spread(beta: Tensor) -> Tensor:
    r"""Return the rms distance of features (..., N, m) from their mean unit, shape (...)."""
    require_tensor("beta", beta, 2)
    return beta.var(-1, correction=0).mean(-1).sqrt()


def largest_spread(beta: Tensor) -> Tensor:
    r"""Return :math:`\max_{i,i'}\|\beta_i-\beta_{i'}\|_\infty`, the distance of Proposition 1."""
    require_tensor("beta", beta, 2)
    return (beta.amax(-1) - beta.amin(-1)).amax(-1)


def expected_range(m: int) -> Tensor:
    r"""Return the expected range of m standard normals, :math:`\int1-\Phi^m-(1-\Phi)^m\,dx`."""
    require_positive_int("m", m)
    x = torch.linspace(-9.0, 9.0, 4001, dtype=torch.float64)
    below = torch.special.ndtr(x)
    return torch.trapezoid(1.0 - below**m - (1.0 - below) ** m, x)


def spread_through_training(
    net: Network, w: Weights, eta: float, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return the largest spreads of every layer over a training run.

    Parameters
    ----------
    net : Network
        The architecture and its data.
    w : Weights
        The start.
    eta, steps : float, int
        Of Algorithm 1.

    Returns
    -------
    rms, largest : Tensor
        :func:`spread` and :func:`largest_spread`, the largest over the run, shape (..., L).
    losses : Tensor
        Shape (..., steps + 1).
    """
    require_instance("net", net, Network).fits(w)
    rms = largest = None
    losses = []
    for _, f, _ in net.descend(w, eta, steps):
        now = torch.stack([spread(b) for b in f.beta], -1)
        far = torch.stack([largest_spread(b) for b in f.beta], -1)
        rms = now if rms is None else torch.maximum(rms, now)
        largest = far if largest is None else torch.maximum(largest, far)
        losses.append(net.risk(f))
    return rms, largest, torch.stack(losses, -1)
