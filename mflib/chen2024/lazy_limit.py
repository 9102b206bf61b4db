r"""The training flow of chen2024 in the limit of a large output scale.

In the time :math:`r = \beta^2 t/n` and from a symmetrised start the dynamics are linear
to first order in :math:`1/\beta`: the residual is :math:`b_r = -e^{-rG_2}y`, and the
log-density ratio of a predictor particle at :math:`r = R` obeys

.. math::

    \beta D_\tau \to -\sum_i c_i\, \mathcal L h(x_i,\omega), \qquad
    c = G_2^{-1}(I - e^{-RG_2})\,y, \qquad
    \mathcal L = \Delta - \omega\cdot\nabla .

Hence :math:`\beta^2 KL(\tau_T\|\tau_0) \to \frac12 E_{\tau_0}[(\mathcal L\phi)^2]` with
:math:`\phi=\sum_i c_i h(x_i,\cdot)`. The encoder moves by the adjoint p, which is of order
:math:`1/\beta`, so that :math:`KL(\nu)` is of order :math:`\alpha^2\beta^{-4}`, with a
constant found in the same way.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..activations import Activation
from ..arguments import (
    require_alike,
    require_broadcast,
    require_number,
    require_symmetric,
    require_tensor,
)
from ..blocks import NeuronBlock
from ..gram import neuron_gram
from ..kernels import gaussian_plane, population_gram, resolving_nodes
from .ornstein_uhlenbeck import neuron_generator

__all__ = [
    "displacement_coefficients",
    "encoder_constant",
    "predictor_constant",
    "predictor_constant_population",
]


def _decay(values: Tensor, horizon: float) -> Tensor:
    """Return (1 - exp(-R values)) / values, which is R at 0."""
    small = values.abs() < 1e-14
    safe = torch.where(small, torch.ones_like(values), values)
    return torch.where(
        small, torch.full_like(values, horizon), -torch.expm1(-horizon * safe) / safe
    )


def _regular(name: str, values: Tensor) -> None:
    if not (values[..., 0] > 1e-14 * values[..., -1]).all():
        raise ValueError(
            f"{name}: the Gram matrix is singular to rounding; drop repeated inputs, or take "
            "more particles"
        )


def _horizon(horizon: float) -> None:
    if horizon != math.inf:
        require_number("horizon", horizon, above=0)


def displacement_coefficients(gram: Tensor, y: Tensor, horizon: float) -> Tensor:
    r"""Return :math:`c = G^{-1}(I - e^{-RG})\,y`, minus the integral of the residual to time R.

    Parameters
    ----------
    gram : Tensor
        Symmetric, shape (..., n, n).
    y : Tensor
        Labels, shape (..., n).
    horizon : float
        The rescaled time R; ``math.inf`` gives :math:`G^{-1}y`.

    Returns
    -------
    Tensor
        Shape (..., n).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed, the horizon is not positive, or it is infinite and the
        matrix singular.
    """
    require_tensor("gram", gram, 2, last=require_tensor("y", y, 1).shape[-1])
    _horizon(horizon)
    require_symmetric("gram", gram)
    require_alike(gram=gram, y=y)
    require_broadcast(gram=gram.shape[:-2], y=y.shape[:-1])
    values, vectors = torch.linalg.eigh(gram)
    if math.isinf(horizon):
        _regular("gram", values)
    inner = (vectors.mT @ y.unsqueeze(-1)).squeeze(-1)
    factor = 1.0 / values if math.isinf(horizon) else _decay(values, horizon)
    return (vectors @ (factor * inner).unsqueeze(-1)).squeeze(-1)


def _predictor(
    x: Tensor, y: Tensor, horizon: float, sigma: str | Activation, **particles: Tensor
) -> tuple[NeuronBlock, Tensor]:
    d = require_tensor("x", x, 2).shape[-1]
    require_tensor("y", y, 1, last=x.shape[-2])
    _horizon(horizon)
    block, given = NeuronBlock(d, sigma, out=1), {"x": x.shape[:-2], "y": y.shape[:-1]}
    for name, value in particles.items():
        ndim, k = (2, d + 2) if name == "omega" else (3, 2 * d + 1)
        given[name] = require_tensor(name, value, ndim, last=k).shape[:-ndim]
    require_alike(x=x, y=y, **particles)
    require_broadcast(**given)
    return block, torch.ones_like(x[..., :1])


def predictor_constant(
    omega: Tensor,
    x: Tensor,
    y: Tensor,
    horizon: float,
    sigma: str | Activation = "tanh",
) -> Tensor:
    r"""Return the limit of :math:`\beta^2 KL(\tau_T\|\tau_0)` at large scale.

    .. math::

        \tfrac12\, E_{\tau_0}\big[(\mathcal L\phi)^2\big], \qquad T = nR/\beta^2 .

    Parameters
    ----------
    omega : Tensor
        Symmetrised initial particles, shape (..., K, d+2), mass 1/K each.
    x, y : Tensor
        Inputs (..., n, d) and labels (..., n).
    horizon : float
        The rescaled time R.
    sigma : str or Activation
        The activation.

    Returns
    -------
    Tensor
        Shape (...); exact for the finite set of particles.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.
    """
    block, ones = _predictor(x, y, horizon, sigma, omega=omega)
    c = displacement_coefficients(neuron_gram(block, x, omega, ones), y, horizon)
    values = neuron_generator(block, x, omega) * omega[..., 0].unsqueeze(-2)
    return 0.5 * (c.unsqueeze(-2) @ values).square().mean((-1, -2))


def encoder_constant(
    theta: Tensor,
    omega: Tensor,
    x: Tensor,
    y: Tensor,
    horizon: float,
    sigma: str | Activation = "tanh",
) -> Tensor:
    r"""Return the limit of :math:`\beta^4\alpha^{-2} KL(\nu_T\|\nu_0)`.

    .. math::

        \tfrac12\, E_{\nu_0}\Big[\Big(\sum_i q_i^\top u\, g_i\Big)^2\Big], \quad
        q_i = \int_0^R b_i(r) \sum_j H_{ij}\,c_j(r)\,dr, \quad
        H_{ij} = E_{\tau_0}\big[\nabla_\omega\nabla_z h_i\; \nabla_\omega h_j\big],

    with :math:`g_i = (1+|x_i|^2)\sigma''-\sigma-c_i\sigma'`; the integral over r is in
    closed form in the eigenbasis of :math:`G_2`.

    Parameters
    ----------
    theta, omega : Tensor
        Symmetrised initial particles, shapes (..., L, M, 2d+1) and (..., K, d+2).
    x, y : Tensor
        Inputs (..., n, d) and labels (..., n).
    horizon : float
        The rescaled time R.
    sigma : str or Activation
        The activation.

    Returns
    -------
    Tensor
        Shape (...); exact for the finite set of particles.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.
    """
    block, ones = _predictor(x, y, horizon, sigma, theta=theta, omega=omega)
    encoder = NeuronBlock(x.shape[-1], sigma)
    values, vectors = torch.linalg.eigh(neuron_gram(block, x, omega, ones))
    _regular("x", values)
    inner = (vectors.mT @ y.unsqueeze(-1)).squeeze(-1)
    # K_ab = integral of exp(-l_a r) (1 - exp(-l_b r)) / l_b
    pair = _decay(values.unsqueeze(-1) + values.unsqueeze(-2), horizon)
    overlap = (_decay(values, horizon).unsqueeze(-1) - pair) / values.unsqueeze(-2)
    # H_ij, shape (..., n, n, d)
    a, w, _ = block.split(omega)
    c = block.preactivation(x, omega)
    f, df, d2f = block.sigma.f(c), block.sigma.df(c), block.sigma.d2f(c)
    k, square = omega.shape[-2], a.mT.square()

    def mean(left: Tensor, right: Tensor) -> Tensor:
        return torch.einsum("...ik,...jk,...kd->...ijd", left, right, w) / k

    slopes = (df * square) @ df.mT / k
    h = mean(df, f) + slopes.unsqueeze(-1) * x.unsqueeze(-3)
    h = h + mean(d2f * square, df) * (x @ x.mT + 1.0).unsqueeze(-1)
    moment = -torch.einsum(
        "...ia,...a,...ab,...b,...jb->...ij", vectors, inner, overlap, inner, vectors
    )
    q = torch.einsum("...ij,...ijd->...id", moment, h).unsqueeze(-3)
    z = x.unsqueeze(-3)
    u, _, _ = encoder.split(theta)
    total = ((q @ u.mT) * neuron_generator(encoder, z, theta)).sum(-2)
    return 0.5 * total.square().mean((-1, -2))


def predictor_constant_population(
    x: Tensor,
    y: Tensor,
    horizon: float,
    sigma: str | Activation = "tanh",
    nodes: int | None = None,
) -> Tensor:
    r"""Return :func:`predictor_constant` at infinite width, by quadrature.

    Arguments as there, with the law :math:`\tau_0 = N(0, I)` in place of particles and
    `nodes` as in :func:`mflib.kernels.population_gram`. Returns shape (...).
    """
    block, _ = _predictor(x, y, horizon, sigma)
    sigma = block.sigma
    nodes = resolving_nodes((sigma.f, sigma.d2f, lambda z: z * sigma.df(z)), x, nodes)
    c = displacement_coefficients(population_gram(x, sigma, nodes), y, horizon)
    ci, cj, mass = gaussian_plane(x, nodes=nodes)
    size = (1.0 + x.square().sum(-1))[..., None]

    def profile(z: Tensor, scale: Tensor) -> Tensor:
        return scale * sigma.d2f(z) - sigma.f(z) - z * sigma.df(z)

    left, right = profile(ci, size.unsqueeze(-1)), profile(cj, size.unsqueeze(-2))
    gram = (left * right) @ mass
    return 0.5 * ((c.unsqueeze(-2) @ gram).squeeze(-2) * c).sum(-1)
