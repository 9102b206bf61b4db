r"""Standard and regularised initialisation (fang2021, Algorithm 2).

Standard weights of variance of order m keep the features alive but diverge with the width.
Algorithm 2 replaces them by the least weights that give the same features,

.. math::

    \hat v_{\ell,\cdot,j} = \operatorname{argmin} \frac1m\sum_i v_i^2
    \quad\text{subject to}\quad \hat\alpha_{\ell,j} = \frac1m\sum_i v_i\,
    h_1(\hat\beta_{\ell-1,i}),

and Lemma 5 gives :math:`\hat v_{\ell,i,j} = h_1(\hat\beta_{\ell-1,i})^\top
\hat K_{\ell-1}^{-1}\hat\alpha_{\ell,j}`: of rank N, whatever the width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_batch,
    require_broadcast,
    require_generator,
    require_instance,
    require_masses,
    require_number,
    require_positive_int,
    require_symmetric,
    require_tensor,
)
from .connections import Connection, Dense, LowRank
from .network import Features, Network, Weights

__all__ = [
    "algorithm_two",
    "correlated_normals",
    "feature_gram",
    "independent_weights",
    "regression",
    "square_root",
    "standard_features",
    "weights_from_features",
]


def feature_gram(values: Tensor, mass: Tensor | None = None) -> Tensor:
    r"""Return :math:`\int h h^\top dp` of features h (..., N, m), shape (..., N, N)."""
    require_tensor("values", values, 2)
    if mass is not None:
        require_tensor("mass", mass, 1, last=values.shape[-1])
    weighted = values / values.shape[-1] if mass is None else values * mass.unsqueeze(-2)
    return weighted @ values.mT


def square_root(matrix: Tensor, power: float = 0.5, name: str = "matrix") -> Tensor:
    r"""Return the symmetric power :math:`S^{p}` of positive matrices.

    Parameters
    ----------
    matrix : Tensor
        Symmetric, shape (..., k, k).
    power : float
        The power p.
    name : str
        What an error calls the matrix.

    Returns
    -------
    Tensor
        Shape (..., k, k).

    Raises
    ------
    ValueError
        If a negative power is asked of a matrix that is singular to rounding.
    """
    require_symmetric(name, matrix)
    require_number("power", power)
    values, vectors = torch.linalg.eigh(matrix)
    if (values[..., 0] < -1e-9 * values[..., -1].abs().clamp_min(1e-300)).any():
        raise ValueError(f"{name}: has a negative eigenvalue; a root needs a positive matrix")
    floor = 1e-13 * values.amax(-1, keepdim=True)
    if power < 0 and (values <= floor).any():
        raise ValueError(
            f"{name}: is singular to rounding; are two inputs parallel or equal? A ridge helps"
        )
    return (vectors * values.clamp_min(0).unsqueeze(-2) ** power) @ vectors.mT


def regression(
    values: Tensor, alpha: Tensor, mass: Tensor | None = None, ridge: float | Tensor = 0.0
) -> LowRank:
    r"""Return the least weights that produce `alpha` from `values` (fang2021, Lemma 5).

    .. math::

        v(\Theta, \bar\Theta) = h(\Theta)^\top (\hat K + \lambda)^{-1} \alpha(\bar\Theta);

    with :math:`\lambda>0` the minimiser of :math:`\frac\lambda m|v|^2+|\alpha-\frac1mHv|^2`,
    the soft version of footnote 2 read as a sum of squares.

    Parameters
    ----------
    values : Tensor
        Features :math:`h_1(\beta_{\ell-1})` of the units that send, shape (..., N, m).
    alpha : Tensor
        Residuals to produce, shape (..., N, m').
    mass : Tensor, optional
        Masses of the senders, shape (..., m); default 1/m.
    ridge : float or Tensor
        :math:`\lambda \ge 0`, broadcast against (..., 1, 1).

    Raises
    ------
    ValueError
        If the Gram matrix is singular and there is no ridge.
    """
    require_tensor("values", values, 2)
    n, m = values.shape[-2:]
    require_tensor("alpha", alpha, 2)
    require_alike(values=values, alpha=alpha)
    if alpha.shape[-2] != n:
        raise ValueError(f"alpha: has {alpha.shape[-2]} rows, the features have {n}")
    if mass is not None:
        require_masses("mass", mass, m)
    if not isinstance(ridge, Tensor):
        require_number("ridge", ridge, least=0)
    eye = torch.eye(n, dtype=values.dtype)
    factor, info = torch.linalg.cholesky_ex(feature_gram(values, mass) + ridge * eye)
    least = factor.diagonal(dim1=-2, dim2=-1)
    if (info != 0).any() or (least.amin(-1) <= 1e-7 * least.amax(-1)).any():
        raise ValueError(
            "values: the Gram matrix of the features is singular to rounding; are two inputs "
            "parallel or equal? Remove one, or pass a ridge"
        )
    return LowRank(values, torch.cholesky_solve(alpha, factor))


def correlated_normals(
    shape: tuple[int, ...], generator: torch.Generator, share: float = 0.0
) -> Tensor:
    r"""Return standard normals, shape (..., m), that share a factor over the last axis.

    :math:`\sqrt{1-\rho}\,g_i+\sqrt\rho\,g` with one g for all units: `share` :math:`\rho=0`
    is independence.
    """
    if not isinstance(shape, tuple) or not shape:
        raise ValueError(f"shape: expected a tuple that ends in the units, got {shape!r}")
    for size in shape:
        require_positive_int("shape", size)
    require_number("share", share, least=0, most=1)
    own = torch.randn(*shape, generator=require_generator(generator), dtype=torch.float64)
    if not share:
        return own
    common = torch.randn(*shape[:-1], 1, generator=generator, dtype=torch.float64)
    return math.sqrt(1.0 - share) * own + math.sqrt(share) * common


def standard_features(
    net: Network,
    m: int,
    generator: torch.Generator,
    sigma: float = 1.0,
    batch: tuple[int, ...] = (),
    share: float = 0.0,
) -> tuple[Tensor, tuple[Dense, ...], Features]:
    r"""Draw the standard initialisation, lines 2 to 9 of Algorithm 2.

    Parameters
    ----------
    net : Network
        The architecture and its data.
    m : int
        The width.
    generator : torch.Generator
        The source of randomness.
    sigma : float
        :math:`\sigma_1`: :math:`v_1\sim N(0,d\sigma_1^2)`, the others
        :math:`N(0,m\sigma_1^2)`.
    batch : tuple of int
        Leading batch dimensions, an independent draw each.
    share : float
        Correlation of the units of a layer, through their incoming weights; 0 in the paper.

    Returns
    -------
    first : Tensor
        :math:`v_1`, shape (batch..., d, m).
    middle : tuple of Dense
        The standard weights, entries of order :math:`\sqrt m`.
    features : Features
        Their features, which Algorithm 2 keeps; the output is not set (zeros).
    """
    require_instance("net", net, Network)
    require_positive_int("m", m)
    require_number("sigma", sigma, above=0)
    require_batch(batch)
    d = net.x.shape[-1]
    first = sigma * math.sqrt(d) * correlated_normals((*batch, d, m), generator, share)
    beta, alpha, middle = [net.first_features(first)], [], []
    mass = torch.full((m,), 1.0 / m, dtype=torch.float64)
    for _ in range(net.depth - 1):
        v = correlated_normals((*batch, m, m), generator, share)
        middle.append(Dense(v.mul_(sigma * math.sqrt(m))))
        alpha.append(middle[-1].forward(net.h1.f(beta[-1]), mass))
        beta.append(net.join(alpha[-1], beta[-1]))
    zero = torch.zeros(beta[-1].shape[:-1], dtype=torch.float64)
    return first, tuple(middle), Features(tuple(beta), tuple(alpha), zero)


def weights_from_features(
    net: Network,
    first: Tensor,
    f: Features,
    last: float | Tensor = 1.0,
    mass: Tensor | None = None,
    ridge: float | Tensor = 0.0,
) -> Weights:
    r"""Return the least weights with these features, lines 10 to 14 of Algorithm 2.

    Parameters
    ----------
    net : Network
        The architecture and its data.
    first : Tensor
        :math:`v_1`, shape (..., d, m).
    f : Features
        Features and residuals to be kept.
    last : float or Tensor
        :math:`v_{L+1}`: the constant :math:`C_7` of the paper, or shape (..., m).
    mass : Tensor, optional
        Masses of the units, shape (m,); default 1/m.
    ridge : float or Tensor
        As in :func:`regression`.
    """
    require_instance("net", net, Network)
    require_tensor("first", first, 2)
    require_instance("f", f, Features)
    m = first.shape[-1]
    if any(part.shape[-1] != m for part in (*f.beta, *f.alpha)):
        raise ValueError(f"first: has {m} units, the features f another number")
    if isinstance(last, Tensor):
        require_tensor("last", last, 0)
        require_broadcast(first=(*first.shape[:-2], m), last=last.shape)
    else:
        require_number("last", last)
    mass = torch.full((m,), 1.0 / m, dtype=torch.float64) if mass is None else mass
    middle: list[Connection] = [
        regression(net.h1.f(below), a, mass, ridge)
        for below, a in zip(f.beta[:-1], f.alpha, strict=True)
    ]
    top = torch.as_tensor(last, dtype=torch.float64).expand(*first.shape[:-2], m)
    return Weights(first, tuple(middle), top, mass)


def algorithm_two(
    net: Network,
    m: int,
    generator: torch.Generator,
    sigma: float = 1.0,
    last: float = 1.0,
    batch: tuple[int, ...] = (),
    share: float = 0.0,
) -> tuple[Weights, Features]:
    r"""Draw a network by Algorithm 2: standard features, then regression.

    Parameters as in :func:`standard_features`, and `last` the constant output weight.

    Returns
    -------
    weights : Weights
        Of rank N in the middle layers.
    features : Features
        The features of the standard start, before the regression.
    """
    require_number("last", last)
    first, _, f = standard_features(net, m, generator, sigma, batch, share)
    return weights_from_features(net, first, f, last), f


def independent_weights(
    net: Network,
    m: int,
    generator: torch.Generator,
    mean: float = 0.0,
    deviation: float | None = 1.0,
    batch: tuple[int, ...] = (),
) -> Weights:
    r"""Draw weights that are i.i.d. from one law in every layer, as Proposition 1 assumes.

    Parameters
    ----------
    net : Network
        The architecture and its data.
    m : int
        The width.
    generator : torch.Generator
        The source of randomness.
    mean : float
        The mean of every weight.
    deviation : float or None
        The standard deviation of the weights of the middle layers; None for
        :math:`\sqrt m`, the standard scale. First and last layer have deviation 1.
    batch : tuple of int
        Leading batch dimensions.
    """
    require_instance("net", net, Network)
    require_positive_int("m", m)
    require_number("mean", mean)
    require_batch(batch)
    if deviation is not None:
        require_number("deviation", deviation, least=0)
    d = net.x.shape[-1]
    size = math.sqrt(m) if deviation is None else deviation
    draw = dict(generator=require_generator(generator), dtype=torch.float64)
    first = mean + torch.randn(*batch, d, m, **draw)
    middle = tuple(
        Dense(torch.randn(*batch, m, m, **draw).mul_(size).add_(mean)) for _ in range(net.depth - 1)
    )
    last = mean + torch.randn(*batch, m, **draw)
    return Weights(first, middle, last, torch.full((m,), 1.0 / m, dtype=torch.float64))
