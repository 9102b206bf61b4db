r"""Rates at which clusters of neurons converge to the neurons of a teacher.

At the solution :math:`\rho = \sum_i \alpha_i \delta_{c_i}` a small displacement
:math:`\delta_i` of cluster i obeys

.. math::

    \dot\delta_i = -\sum_j H_{ij}\, \alpha_j\, \delta_j, \qquad
    H_{ij} = \int \sigma'(x \cdot c_i)\, \sigma'(x \cdot c_j)\, x x^\top \mu(dx)

(derived from teacher_student, Section 2.2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import require_tensor
from .two_layer import TwoLayer

__all__ = ["cluster_blocks", "cluster_rates", "schur_rate"]


def cluster_blocks(law: TwoLayer, centres: Tensor) -> Tensor:
    r"""Return the blocks :math:`H_{ij}`, shape (..., J, J, d, d).

    Parameters
    ----------
    law : TwoLayer
        A problem with neurons without output weights.
    centres : Tensor
        The :math:`c_i`, shape (..., J, d).

    Raises
    ------
    TypeError, ValueError
        If the neurons carry weights or `centres` is malformed.
    """
    if law.block.weighted:
        raise ValueError("law: its neurons carry output weights; use RidgeBlock(weighted=False)")
    require_tensor("centres", centres, 2, last=law.block.d)
    slope = law.block.sigma.df(law.x @ centres.mT)
    slope = slope * law.mass.sqrt().unsqueeze(-1)
    pushed = slope.unsqueeze(-1) * law.x.unsqueeze(-2)  # (..., n, J, d)
    return torch.einsum("...nia,...njb->...ijab", pushed, pushed)


def cluster_rates(blocks: Tensor, alpha: Tensor) -> Tensor:
    r"""Return the rates of decay, the eigenvalues of :math:`(H_{ij} \alpha_j)`, ascending.

    Parameters
    ----------
    blocks : Tensor
        Shape (..., J, J, d, d).
    alpha : Tensor
        Masses of the clusters, shape (..., J), positive.

    Returns
    -------
    Tensor
        Shape (..., J d). They are real, since the matrix is similar to the symmetric
        :math:`(\sqrt{\alpha_i} H_{ij} \sqrt{\alpha_j})`.
    """
    require_tensor("alpha", alpha, 1, last=blocks.shape[-3])
    root = alpha.sqrt()
    scaled = root[..., :, None, None, None] * blocks * root[..., None, :, None, None]
    return torch.linalg.eigvalsh(scaled.transpose(-3, -2).flatten(-2).flatten(-3, -2))


def schur_rate(blocks: Tensor) -> Tensor:
    r"""Return :math:`\lambda_{\min}(H_{22} - H_{21} H_{11}^{-1} H_{12})` of two clusters.

    With a light second cluster, the slow rate is :math:`\alpha_2` times this: the first
    cluster follows every move of the second at once, and takes part of its error away.

    Parameters
    ----------
    blocks : Tensor
        Shape (..., 2, 2, d, d).

    Returns
    -------
    Tensor
        Shape (...).
    """
    if blocks.shape[-4:-2] != (2, 2):
        raise ValueError(f"blocks: expected two clusters, got shape {tuple(blocks.shape)}")
    H = [[blocks[..., i, j, :, :] for j in (0, 1)] for i in (0, 1)]
    left = H[1][1] - H[1][0] @ torch.linalg.solve(H[0][0], H[0][1])
    return torch.linalg.eigvalsh(0.5 * (left + left.mT))[..., 0]
