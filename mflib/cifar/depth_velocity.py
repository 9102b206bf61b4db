r"""The depth velocity of the flow: each block evaluated at its neighbours' states.

Algorithm 1 moves :math:`\tau` by the gradient of the loss, which is a gradient in step
sizes. In the flow (14) of lu2020 a particle moves in depth by minus the depth derivative
of the first variation :math:`\Phi`, a Lie bracket of its branch with its neighbours'.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .networks import Network

__all__ = ["depth_gradient"]


@torch.no_grad()
def depth_gradient(
    net: Network, theta: Tensor, states: list[list[Tensor]], costates: list[list[Tensor]]
) -> Tensor:
    r"""Return the derivative in depth of every movable block's first variation.

    .. math::

        \Phi_i(j)=\langle p_{j+1},f_i(X_j)\rangle,\qquad
        g_i=\frac{\Phi_i(\ell_i+1)-\Phi_i(\ell_i-1)}{2/m}

    for the block :math:`i` in place :math:`\ell_i` of :math:`m`; one-sided in the first
    and last place, zero for a single block. The blocks' masses are equal, and depth runs
    from 0 to 1 through a stage: its :math:`\theta_i` moves by minus
    :math:`\nabla_\theta\Phi_i`, its depth by minus :math:`g_i`.

    Parameters
    ----------
    net : Network
        The functions of the network.
    theta : Tensor
        Its flat parameters.
    states, costates : list of list of Tensor
        For each stage :math:`X_0,\dots,X_m` and, for the same places, the gradient of
        the loss :math:`p_j` (the first is not used).

    Returns
    -------
    Tensor
        Shape (sum of movable,), dtype of theta; the blocks in their places.
    """
    parts = []
    for s, (x, p) in enumerate(zip(states, costates, strict=True)):
        movable = len(x) - 1
        if movable == 0:
            continue
        out = theta.new_zeros(movable)
        for place, branch in enumerate(net.branches(theta, s, x[0].dtype)):
            before, after = max(place - 1, 0), min(place + 1, movable - 1)
            if before == after:
                continue
            ends = [
                (p[j + 1].to(theta.dtype) * branch(x[j]).to(theta.dtype)).sum()
                for j in (before, after)
            ]
            out[place] = movable * (ends[1] - ends[0]) / (after - before)
        parts.append(out)
    return torch.cat(parts)
