r"""The ideal network beside a discrete one, and how far apart the two are.

.. math::

    \bar\alpha_{\ell+1} = K_\ell^{1/2}\hat K_\ell^{-1/2}\hat\alpha_{\ell+1}, \qquad
    \bar v_{\ell+1}(\Theta,\bar\Theta) = h_1(\bar\beta_\ell(\Theta))^\top K_\ell^{-1}
    \bar\alpha_{\ell+1}(\bar\Theta)

(fang2021, A.2.3). Given the features below, :math:`\hat\alpha\sim N(0,\sigma_1^2\hat K)`, so
:math:`\bar\alpha\sim N(0,\sigma_1^2K)` exactly: the ideal units are independent draws of p.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_callable,
    require_instance,
    require_masses,
    require_symmetric,
    require_tensor,
)
from .connections import LowRank
from .initialisation import feature_gram, square_root, weights_from_features
from .network import Features, Network

__all__ = [
    "closeness",
    "coupling_constant",
    "distances",
    "gap",
    "ideal_network",
    "root_bound",
    "whitening",
]


def whitening(k: Tensor, empirical: Tensor) -> Tensor:
    r"""Return :math:`K^{1/2}\hat K^{-1/2}`, shape (..., N, N).

    Parameters
    ----------
    k, empirical : Tensor
        Positive matrices, shape (..., N, N).

    Raises
    ------
    ValueError
        If :math:`\hat K` is singular to rounding.
    """
    require_symmetric("k", k)
    require_symmetric("empirical", empirical)
    require_alike(k=k, empirical=empirical)
    return square_root(k, name="k") @ square_root(empirical, -0.5, name="empirical")


def _require_grams(net: Network, grams: list[Tensor], least: int) -> None:
    if not isinstance(grams, (list, tuple)) or len(grams) < least:
        raise TypeError(f"grams: expected a list of at least {least} Gram matrices")
    for k in grams:
        if require_symmetric("grams", k).shape[-1] != net.samples:
            raise ValueError(f"grams: shape {tuple(k.shape)} for {net.samples} samples")


def ideal_network(
    net: Network,
    f: Features,
    grams: list[Tensor],
    coupling: Callable[[Tensor, Tensor], Tensor] = whitening,
) -> tuple[Features, tuple[LowRank, ...]]:
    r"""Return the ideal features and weights next to those of a discrete start.

    Parameters
    ----------
    net : Network
        The architecture and its data.
    f : Features
        The features of a start of mass 1/m a unit.
    grams : list of Tensor
        The Gram matrices :math:`K_1, K_2, \ldots` of the infinitely wide network, (N, N).
        With fewer than L-1 of them, only as many layers are made.
    coupling : callable
        The matrix that takes :math:`\hat\alpha` to :math:`\bar\alpha`, a function of
        :math:`K` and :math:`\hat K`; the paper's by default.

    Returns
    -------
    features : Features
        The ideal features.
    middle : tuple of LowRank
        The ideal weights.
    """
    require_instance("net", net, Network)
    require_instance("f", f, Features)
    require_callable("coupling", coupling)
    _require_grams(net, grams, 1)
    beta, alpha, middle = [f.beta[0]], [], []
    for a, below, k in zip(f.alpha, f.beta[:-1], grams, strict=False):
        moved = coupling(k, feature_gram(net.h1.f(below))) @ a
        middle.append(LowRank(net.h1.f(beta[-1]), torch.linalg.solve(k, moved)))
        alpha.append(moved)
        beta.append(net.join(moved, beta[-1]))
    return replace(f, beta=tuple(beta), alpha=tuple(alpha)), tuple(middle)


def gap(one: LowRank, other: LowRank) -> Tensor:
    r"""Return the rms difference of two connections over all pairs of units, shape (...)."""
    require_instance("one", one, LowRank)
    require_instance("other", other, LowRank)
    a = torch.cat([one.a, other.a], -2)
    b = torch.cat([one.b, -other.b], -2)
    squares = (feature_gram(a) * feature_gram(b)).sum((-1, -2))
    return squares.clamp_min(0).sqrt()


def distances(
    net: Network, first: Tensor, f: Features, grams: list[Tensor]
) -> tuple[Tensor, Tensor]:
    r"""Return how far residuals and weights are from the ideal ones, the worst layer of each.

    Parameters
    ----------
    net : Network
        The architecture and its data.
    first : Tensor
        :math:`v_1`, shape (..., d, m).
    f : Features
        The features of a start of mass 1/m a unit.
    grams : list of Tensor
        The Gram matrices :math:`K_1..K_{L-1}` of the infinitely wide network.

    Returns
    -------
    residuals, weights : Tensor
        Rms over units and over pairs of units, shape (...).
    """
    ideal, there = ideal_network(net, f, grams)
    here = weights_from_features(net, first, f).middle
    pairs = zip(f.alpha, ideal.alpha, strict=True)
    residuals = [(a - b).square().sum(-2).mean(-1).sqrt() for a, b in pairs]
    weights = [gap(a, b) for a, b in zip(here, there, strict=True)]
    return torch.stack(residuals).amax(0), torch.stack(weights).amax(0)


def closeness(one: LowRank, other: LowRank, size: Tensor) -> Tensor:
    r"""Return :math:`\max_{ij}|v_{ij}-v'_{ij}|/(1+s_i+s_j)` (fang2021, Definition 2 (3)).

    Parameters
    ----------
    one, other : LowRank
        The two connections, of width m.
    size : Tensor
        :math:`s_i=\|\bar\Theta_i\|_\infty`, shape (..., m).

    Returns
    -------
    Tensor
        Shape (...); exact to six digits, since the m x m array of differences is formed in
        single precision.
    """
    require_instance("one", one, LowRank)
    require_instance("other", other, LowRank)
    require_tensor("size", size, 1, last=one.a.shape[-1])
    a = torch.cat([one.a, other.a], -2).float()
    b = torch.cat([one.b, -other.b], -2).float()
    size = size.float()
    weight = 1.0 + size.unsqueeze(-1) + size.unsqueeze(-2)
    return ((a.mT @ b).abs_() / weight).amax((-1, -2)).double()


def coupling_constant(values: Tensor, mass: Tensor) -> Tensor:
    r"""Return :math:`\lim_m m\,\mathbb E|\bar\alpha-\hat\alpha|^2/\sigma_1^2` of the first layer.

    .. math::

        \sum_{ij} \frac{V_{ij}}{(\sqrt{\lambda_i}+\sqrt{\lambda_j})^2}, \qquad
        V_{ij} = \operatorname{Var}\big[(u_i\cdot h)(u_j\cdot h)\big],

    with :math:`\lambda_i, u_i` the eigenpairs of :math:`K=\mathbb E\,hh^\top`.

    Parameters
    ----------
    values : Tensor
        Features h at quadrature points, shape (N, P).
    mass : Tensor
        Their masses, shape (P,).
    """
    require_tensor("values", values, 2)
    require_masses("mass", mass, values.shape[-1])
    require_alike(values=values, mass=mass)
    for name, given, ndim in (("values", values, 2), ("mass", mass, 1)):
        if given.ndim > ndim:
            raise ValueError(f"{name}: expected {ndim} dimensions, got shape {tuple(given.shape)}")
    roots, u = torch.linalg.eigh(feature_gram(values, mass))
    turned = u.mT @ values
    pairs = turned.unsqueeze(0) * turned.unsqueeze(1)
    variance = (pairs**2 @ mass) - (pairs @ mass) ** 2
    roots = roots.clamp_min(0).sqrt()
    if not bool(roots[0] > 0):
        raise ValueError("values: their Gram matrix is singular; the constant has no limit")
    return (variance / (roots.unsqueeze(0) + roots.unsqueeze(1)) ** 2).sum()


def root_bound(k: Tensor, other: Tensor, least: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""Return both sides of the perturbation bound of the matrix square root.

    .. math::

        \|\hat K^{1/2}-K^{1/2}\|_2 \le
        \frac{\|\hat K-K\|_2}{\sqrt{\lambda_{\min}(\hat K)}+\sqrt{\lambda_{\min}(K)}}.

    With `least` given the denominator is :math:`\sqrt{2\lambda}`, which is the constant of
    fang2021, (A.14), for eigenvalues of at least :math:`\lambda` and :math:`\lambda/2`.

    Parameters
    ----------
    k, other : Tensor
        Symmetric positive matrices, shape (..., N, N).
    least : Tensor, optional
        :math:`\lambda`, shape (...).

    Returns
    -------
    tuple of Tensor
        Left and right side, shape (...).
    """
    for name, value in (("k", k), ("other", other)):
        require_symmetric(name, value)
    if least is not None:
        require_tensor("least", least, 0)
        if not (least > 0).all():
            raise ValueError("least: an eigenvalue is not positive")
    roots = square_root(other, name="other") - square_root(k, name="k")
    left = torch.linalg.matrix_norm(roots, 2)
    if least is None:
        ends = [torch.linalg.eigvalsh(s)[..., 0].clamp_min(0).sqrt() for s in (k, other)]
        below = ends[0] + ends[1]
    else:
        below = (2.0 * least).sqrt()
    return left, torch.linalg.matrix_norm(other - k, 2) / below
