r"""Gelbrich's distance: the transport distance that mean and covariance alone enforce."""

from __future__ import annotations

import torch
from torch import Tensor

from .arguments import require_symmetric, require_tensor

__all__ = ["gelbrich", "moments"]


def gelbrich(
    mean: Tensor, cov: Tensor, mean0: Tensor | None = None, cov0: Tensor | None = None
) -> Tensor:
    r"""Return Gelbrich's distance: W2 of Gaussians, a lower bound of W2 for other laws.

    .. math::

        W^2 = |m-m_0|^2 + \operatorname{tr}
              \big(S + S_0 - 2(S_0^{1/2} S S_0^{1/2})^{1/2}\big).

    Parameters
    ----------
    mean, cov : Tensor
        Moments of the first law, shapes (..., k) and (..., k, k).
    mean0, cov0 : Tensor, optional
        Moments of the second; default those of N(0, I).

    Returns
    -------
    Tensor
        The distance, shape (...).

    Raises
    ------
    TypeError, ValueError
        If a matrix is not symmetric.

    Notes
    -----
    For the default reference the trace is :math:`\|S^{1/2} - I\|_F^2`, which has no
    cancellation near the identity.
    """
    k = require_symmetric("cov", cov).shape[-1]
    shift = require_tensor("mean", mean, 1, last=k)
    if mean0 is not None:
        shift = shift - require_tensor("mean0", mean0, 1, last=k)
    shift = shift.square().sum(-1)
    if cov0 is None:
        roots = torch.linalg.eigvalsh(cov).clamp_min(0).sqrt()
        return (shift + (roots - 1.0).square().sum(-1)).sqrt()
    values, vectors = torch.linalg.eigh(require_symmetric("cov0", cov0))
    root0 = (vectors * values.clamp_min(0).sqrt().unsqueeze(-2)) @ vectors.mT
    cross = torch.linalg.eigvalsh(root0 @ cov @ root0).clamp_min(0).sqrt().sum(-1)
    traces = (cov + cov0).diagonal(dim1=-2, dim2=-1).sum(-1)
    return (shift + traces - 2.0 * cross).clamp_min(0).sqrt()


def moments(points: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return mean (..., k) and covariance (..., k, k) of points (..., N, k)."""
    require_tensor("points", points, 2)
    mean = points.mean(-2)
    centred = points - mean.unsqueeze(-2)
    return mean, centred.mT @ centred / points.shape[-2]
