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

from ..arguments import require_alike, require_broadcast, require_instance, require_tensor
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
    if require_instance("law", law, TwoLayer).block.weighted:
        raise ValueError("law: its neurons carry output weights; use RidgeBlock(weighted=False)")
    require_tensor("centres", centres, 2, last=law.block.d)
    require_alike(law=law.x, centres=centres)
    require_broadcast(law=law.batch, centres=centres.shape[:-2])
    slope = law.block.sigma.df(law.x @ centres.mT)
    slope = slope * law.mass.sqrt().unsqueeze(-1)
    pushed = slope.unsqueeze(-1) * law.x.unsqueeze(-2)  # (..., n, J, d)
    return _finite("centres", torch.einsum("...nia,...njb->...ijab", pushed, pushed))


def _finite(name: str, value: Tensor) -> Tensor:
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name}: the result left the finite numbers")
    return value


def _require_blocks(blocks: Tensor) -> None:
    shape = require_tensor("blocks", blocks, 4).shape
    if shape[-4] != shape[-3] or shape[-2] != shape[-1]:
        raise ValueError(f"blocks: expected shape (..., J, J, d, d), got {tuple(shape)}")
    if not torch.allclose(blocks, blocks.transpose(-4, -3).mT):
        raise ValueError("blocks: H_ij is not the transpose of H_ji; see cluster_blocks")


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

    Raises
    ------
    TypeError, ValueError
        If a shape does not fit, a mass is negative or the blocks are not symmetric.
    """
    _require_blocks(blocks)
    require_tensor("alpha", alpha, 1, last=blocks.shape[-3])
    require_alike(blocks=blocks, alpha=alpha)
    require_broadcast(blocks=blocks.shape[:-4], alpha=alpha.shape[:-1])
    if bool((alpha < 0).any()):
        raise ValueError("alpha: holds a negative mass; pass the masses of the clusters")
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

    Raises
    ------
    TypeError, ValueError
        If there are not two clusters, or :math:`H_{11}` is singular.
    """
    _require_blocks(blocks)
    if blocks.shape[-4:-2] != (2, 2):
        raise ValueError(f"blocks: expected two clusters, got shape {tuple(blocks.shape)}")
    H = [[blocks[..., i, j, :, :] for j in (0, 1)] for i in (0, 1)]
    try:
        left = H[1][1] - H[1][0] @ torch.linalg.solve(H[0][0], H[0][1])
    except torch.linalg.LinAlgError:
        raise ValueError("blocks: H_11 is singular; the first cluster has no rate") from None
    _finite("blocks", left)
    return torch.linalg.eigvalsh(0.5 * (left + left.mT))[..., 0]
