r"""The law p of skip-connected paths :math:`\Theta = (v_1, \alpha_2, \ldots, \alpha_L)`.

.. math::

    v_1 \sim N(0, d\sigma_1^2 I), \qquad
    \alpha_{\ell+1} \sim N(0, \sigma_1^2 K_\ell), \qquad
    K_\ell = \int h_1(\beta_\ell)\, h_1(\beta_\ell)^\top dp,

all independent (fang2021, eq. (A.1) and (A.2)). Given points of the standard Gaussian in
:math:`d + (L-1)N` dimensions, with masses, the paths are made layer by layer, each Gram
matrix from the points themselves: the constraint (3.8) then holds for the points exactly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import require_instance, require_masses, require_number, require_tensor
from ..sampling import sobol_gaussian
from .initialisation import feature_gram, square_root, weights_from_features
from .network import Features, Network, Weights

__all__ = ["continuous_start", "dimension", "path_grams", "paths"]


def dimension(net: Network) -> int:
    r"""Return :math:`d + (L-1)N`, the number of coordinates of a path."""
    require_instance("net", net, Network)
    return net.x.shape[-1] + (net.depth - 1) * net.samples


def paths(
    net: Network, normals: Tensor, sigma: float = 1.0, mass: Tensor | None = None
) -> tuple[Tensor, Features, list[Tensor]]:
    r"""Turn points of the standard Gaussian into skip-connected paths.

    Parameters
    ----------
    net : Network
        The architecture and its data.
    normals : Tensor
        Points, shape (..., P, d + (L-1)N).
    sigma : float
        :math:`\sigma_1`.
    mass : Tensor, optional
        Masses of the points, shape (P,), zeros allowed; default 1/P.

    Returns
    -------
    first : Tensor
        :math:`v_1`, shape (..., d, P).
    features : Features
        Residuals and features along the paths; the output is not set (zeros).
    grams : list of Tensor
        :math:`K_1, \ldots, K_L`, shape (..., N, N) each.
    """
    require_tensor("normals", normals, 2, last=dimension(net))
    if normals.dtype != net.x.dtype:
        raise TypeError(f"normals: is {normals.dtype}, the net's x is {net.x.dtype}; convert one")
    require_number("sigma", sigma, above=0)
    if mass is not None:
        require_masses("mass", mass, normals.shape[-2])
    d, n = net.x.shape[-1], net.samples
    first = sigma * math.sqrt(d) * normals[..., :d].mT
    beta, alpha, grams = [net.first_features(first)], [], []
    for block in normals[..., d:].unflatten(-1, (net.depth - 1, n)).unbind(-2):
        grams.append(feature_gram(net.h1.f(beta[-1]), mass))
        alpha.append(sigma * square_root(grams[-1]) @ block.mT)
        beta.append(net.join(alpha[-1], beta[-1]))
    grams.append(feature_gram(net.h1.f(beta[-1]), mass))
    zero = torch.zeros(beta[-1].shape[:-1], dtype=normals.dtype)
    return first, Features(tuple(beta), tuple(alpha), zero), grams


def path_grams(
    net: Network, generator: torch.Generator, points: int = 2**15, sigma: float = 1.0
) -> list[Tensor]:
    r"""Return :math:`K_1..K_L` of the infinitely wide network from Sobol points.

    Parameters as in :func:`paths`; `points` a power of two. With 2**15 of them the entries
    are exact to some 1e-5 in the cases of these chapters.
    """
    return paths(net, sobol_gaussian(points, dimension(net), generator), sigma)[2]


def continuous_start(
    net: Network,
    normals: Tensor,
    sigma: float = 1.0,
    last: float = 1.0,
    mass: Tensor | None = None,
) -> Weights:
    r"""Return the continuous network of Theorem 1 on given points of the Gaussian.

    .. math::

        v_\ell(\Theta, \bar\Theta) = h_1(\beta_{\ell-1}(\Theta))^\top K_{\ell-1}^{-1}
        \bar\alpha_\ell

    (fang2021, eq. (A.3)). The forward constraint holds exactly for the law that the points
    and their masses make; how close that law is to p is a matter of the points.
    """
    first, f, _ = paths(net, normals, sigma, mass)
    try:
        return weights_from_features(net, first, f, last, mass)
    except ValueError as error:
        raise ValueError(f"normals: too few different points ({error})") from None
