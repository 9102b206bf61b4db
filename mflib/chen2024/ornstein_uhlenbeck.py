r"""The Ornstein-Uhlenbeck generator on sums of neurons, in closed form.

.. math::

    \mathcal L = \Delta - \omega\cdot\nabla, \qquad
    \int \mathcal L\phi\, d\gamma = 0 \quad\text{for } \gamma = N(0, I), \qquad
    \mathcal L\,\big(u\,\sigma(w\cdot x+b)\big) = u\,\big[(1+|x|^2)\,\sigma''(c)
        - \sigma(c) - c\,\sigma'(c)\big], \quad c = w\cdot x+b .

It is the rate of the log-density ratio to the Gaussian along a gradient flow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..blocks import NeuronBlock

__all__ = ["drift", "neuron_generator"]


def neuron_generator(block: NeuronBlock, x: Tensor, theta: Tensor) -> Tensor:
    r"""Return what the generator makes of a neuron, but for its output weight.

    .. math::

        \mathcal L\,\big(u_j\,\sigma(c_{ij})\big) = u_j\, g_{ij}, \qquad
        g = (1+|x|^2)\,\sigma''(c) - \sigma(c) - c\,\sigma'(c).

    Parameters
    ----------
    block : NeuronBlock
        The neuron.
    x : Tensor
        Points, shape (..., n, d).
    theta : Tensor
        Particles, shape (..., N, k).

    Returns
    -------
    Tensor
        Shape (..., n, N).

    Raises
    ------
    ValueError
        If the particles do not have the block's dimension.
    """
    c = block.preactivation(x, theta)
    size = (1.0 + x.square().sum(-1)).unsqueeze(-1)
    return size * block.sigma.d2f(c) - block.sigma.f(c) - c * block.sigma.df(c)


def drift(
    block: NeuronBlock, x: Tensor, theta: Tensor, p: Tensor, mass: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return gradient, Laplacian and radial derivative of a sum of neurons.

    .. math::

        \Phi(\theta) = \sum_i m_i\, p_i^\top u\, \sigma(c_i), \quad c_i = w\cdot x_i+b:
        \qquad
        \Delta\Phi = \sum_i m_i\, p_i^\top u\,(|x_i|^2+1)\,\sigma''(c_i),
        \qquad
        \theta\cdot\nabla\Phi = \sum_i m_i\, p_i^\top u\,(\sigma(c_i)+c_i\sigma'(c_i)).

    Parameters
    ----------
    block : NeuronBlock
        The neuron.
    x : Tensor
        Points, shape (..., n, d).
    theta : Tensor
        Particles or probes, shape (..., N, k).
    p : Tensor
        Costates, shape (..., n, d_out).
    mass : Tensor
        Coefficients m, shape (..., n).

    Returns
    -------
    gradient : Tensor
        Shape (..., N, k).
    laplacian, radial : Tensor
        Shape (..., N).

    Raises
    ------
    ValueError
        If the particles do not have the block's dimension.
    """
    u, _, _ = block.split(theta)
    c, q = block.preactivation(x, theta), p * mass.unsqueeze(-1)
    along = q @ u.mT
    value, slope, bend = block.sigma.f(c), block.sigma.df(c), block.sigma.d2f(c)
    steep = along * slope
    gradient = torch.cat(
        [value.mT @ q, steep.mT @ x, steep.sum(-2).unsqueeze(-1)], -1
    )
    size = (x.square().sum(-1) + 1.0).unsqueeze(-1)
    laplacian = (along * size * bend).sum(-2)
    radial = (along * value + steep * c).sum(-2)
    return gradient, laplacian, radial
