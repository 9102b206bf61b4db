r"""The Ornstein-Uhlenbeck generator on sums of neurons, in closed form.

.. math::

    \mathcal L = \Delta - \omega\cdot\nabla, \qquad
    \int \mathcal L\phi\, d\gamma = 0 \quad\text{for } \gamma = N(0, I), \qquad
    \mathcal L\,\big(u\,\sigma(w\cdot x+b)\big) = u\,\big[(1+|x|^2)\,\sigma''(c)
        - \sigma(c) - c\,\sigma'(c)\big], \quad c = w\cdot x+b .

Along a gradient flow it is the rate at which a particle's log-density ratio to the
Gaussian changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import require_alike, require_broadcast, require_instance, require_tensor
from ..blocks import NeuronBlock
from ..sweep import Kernel, Layers, sweep

__all__ = ["NeuronSum", "neuron_generator"]


def neuron_generator(block: NeuronBlock, x: Tensor, theta: Tensor) -> Tensor:
    r"""Return :math:`\mathcal L(u\sigma)/u`, the generator on a neuron of unit output weight.

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
        The values g, shape (..., n, N).

    Raises
    ------
    TypeError, ValueError
        If points or particles are malformed or of another dimension than the block's.
    """
    require_instance("block", block, NeuronBlock)
    require_tensor("x", x, 2, last=block.d)
    require_alike(x=x, theta=require_tensor("theta", theta, 2, last=block.k))
    require_broadcast(x=x.shape[:-2], theta=theta.shape[:-2])
    c = block.preactivation(x, theta)
    size = (1.0 + x.square().sum(-1)).unsqueeze(-1)
    return size * block.sigma.d2f(c) - block.sigma.f(c) - c * block.sigma.df(c)


@dataclass(frozen=True)
class NeuronSum:
    r"""A function of particles that is a weighted sum of neurons, one at each data point.

    .. math::

        \Phi(\theta) = \sum_i m_i\, p_i^\top u\, \sigma(c_i), \qquad c_i = w\cdot x_i+b.

    Attributes
    ----------
    block : NeuronBlock
        The neuron.
    x : Tensor
        Points, shape (..., n, d).
    p : Tensor
        Costates, shape (..., n, d_out).
    mass : Tensor
        Coefficients m, shape (..., n).

    Examples
    --------
    >>> block, one = NeuronBlock(1, "quadratic", out=1), torch.ones(1, 1)
    >>> phi = NeuronSum(block, 2 * one, one, one[0])  # u (2 w + b)^2
    >>> at = torch.tensor([[3.0, 1.0, -1.0]])
    >>> phi.value(at), phi.gradient(at), phi.laplacian(at)
    (tensor([3.]), tensor([[ 1., 12.,  6.]]), tensor([30.]))
    """

    block: NeuronBlock
    x: Tensor
    p: Tensor
    mass: Tensor

    def value(self, theta: Tensor) -> Tensor:
        r"""Return :math:`\Phi` at particles (..., N, k), shape (..., N)."""
        return torch.einsum(
            "...ij,...i->...j", self.block.pairing(self.x, theta, self.p), self.mass
        )

    def gradient(self, theta: Tensor) -> Tensor:
        r"""Return :math:`\nabla\Phi` at particles (..., N, k), shape (..., N, k)."""
        return self.slopes(theta, laplacian=False)[0]

    def slopes(self, theta: Tensor, laplacian: bool = True) -> tuple[Tensor, ...]:
        r"""Return :math:`\nabla\Phi` and :math:`\Delta\Phi` together, at half the cost.

        Parameters
        ----------
        theta : Tensor
            Particles, shape (..., N, k).
        laplacian : bool
            Whether the second is wanted.
        """
        batch = torch.broadcast_shapes(
            theta.shape[:-2], self.x.shape[:-2], self.p.shape[:-2], self.mass.shape[:-1]
        )
        theta = theta.expand(*batch, *theta.shape[-2:]).unsqueeze(-3)
        q = self.p * self.mass.unsqueeze(-1)
        data = [v.expand(*batch, *v.shape[-2:]) for v in (self.x, q)]

        def walk(kernel: Kernel, x: Tensor, q: Tensor) -> tuple:
            kernel.slope(0, kernel.lift(x), q.mT)
            return ()

        layers = Layers(self.block, theta, torch.ones_like(theta[..., 0]))
        gradient, _, *rest = sweep(batch, [layers], data, walk, gathers=True, laplacian=laplacian)
        return gradient.squeeze(-3), *(v.squeeze(-2) for v in rest)

    def laplacian(self, theta: Tensor) -> Tensor:
        r"""Return :math:`\Delta\Phi` at particles (..., N, k), shape (..., N).

        .. math::

            \Delta\Phi = \sum_i m_i\, p_i^\top u\,(1+|x_i|^2)\,\sigma''(c_i).
        """
        return self.slopes(theta)[1]
