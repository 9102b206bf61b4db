r"""Expectations over Gaussian preactivations, and the infinitely wide Gram matrix.

Every expectation is a trapezium sum over the whole line,

.. math::

    E\,\varphi(g) \approx \sum_k m_k\, \varphi(t_k), \qquad
    m_k \propto e^{-t_k^2/2}, \quad t_k \text{ equidistant in } [-R, R].

For :math:`\varphi` analytic in the strip :math:`|\mathrm{Im}\, t| < a` its error falls
like :math:`e^{-2\pi a/h}` in the spacing h. The poles of :math:`\tanh(\sqrt2\,t)`, at
:math:`a = \pi/2\sqrt2`, make Gauss-Hermite nodes slow (120 of them leave 3 %
in an eigenvalue of 3e-6), while the trapezium sum is exact to rounding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .activations import Activation, activation
from .arguments import require_positive_int, require_tensor

__all__ = ["gaussian_plane", "hermite_coefficients", "normal_rule", "population_gram"]

#: Largest number of values held at once.
_ROOM = 2**23


def normal_rule(nodes: int = 121) -> tuple[Tensor, Tensor]:
    r"""Return nodes and weights of the trapezium rule for the standard Gaussian.

    The range R balances what it cuts off, :math:`e^{-R^2/2}`, against the error of
    the spacing for a pole at the distance 1.1: :math:`R^3 = 7\,(\text{nodes} - 1)`.

    Parameters
    ----------
    nodes : int
        At least 2.

    Returns
    -------
    tuple of Tensor
        Nodes and weights, shape (nodes,); the weights sum to 1.

    Raises
    ------
    ValueError
        If `nodes` is below 2.
    """
    if require_positive_int("nodes", nodes) < 2:
        raise ValueError("nodes: a trapezium rule needs at least 2")
    reach = (7.0 * (nodes - 1)) ** (1 / 3)
    t = torch.linspace(-reach, reach, nodes, dtype=torch.float64)
    m = torch.exp(-0.5 * t**2)
    return t, m / m.sum()


def hermite_coefficients(
    sigma: str | Activation, degree: int = 80, scale: float = math.sqrt(2.0)
) -> Tensor:
    r"""Return :math:`\mu_r = E[\sigma(\text{scale}\, g)\,\mathrm{He}_r(g)/\sqrt{r!}]`.

    Parameters
    ----------
    sigma : str or Activation
        A smooth activation.
    degree : int
        The largest r.
    scale : float
        Standard deviation of the preactivation.

    Returns
    -------
    Tensor
        Shape (degree + 1,), by the trapezium rule, exact to rounding up to degree 400
        for tanh; from there on the coefficients are below rounding.

    Raises
    ------
    ValueError
        If `degree` is no positive integer.
    """
    require_positive_int("degree", degree)
    g, w = normal_rule(max(401, degree))
    values = w * activation(sigma).f(scale * g)
    low, high = torch.ones_like(g), g.clone()
    rows = [low, high]
    for r in range(1, degree):
        low, high = high, (g * high - math.sqrt(r) * low) / math.sqrt(r + 1)
        rows.append(high)
    return torch.stack(rows) @ values


def gaussian_plane(
    x: Tensor, other: Tensor | None = None, nodes: int = 121
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return quadrature points of the pairs :math:`(w\cdot x_i + b,\; w\cdot x'_j + b)`.

    Parameters
    ----------
    x, other : Tensor
        Inputs, shapes (..., n, d) and (..., m, d); other defaults to x. The weights
        (w, b) are standard Gaussian, so the covariance is :math:`x_i\cdot x'_j + 1`.
    nodes : int
        Nodes an axis.

    Returns
    -------
    first, second : Tensor
        Values of the two preactivations, shape (..., n, m, nodes squared).
    weights : Tensor
        Shape (nodes squared,), sum 1.

    Raises
    ------
    TypeError, ValueError
        If an input is malformed.
    """
    require_tensor("x", x, 2)
    other = x if other is None else require_tensor("other", other, 2, last=x.shape[-1])
    t, m = normal_rule(nodes)
    first, second = (v.flatten() for v in torch.meshgrid(t, t, indexing="ij"))
    cov = x @ other.mT + 1.0
    si = (x.square().sum(-1) + 1.0).sqrt().unsqueeze(-1).expand_as(cov)
    sj = (other.square().sum(-1) + 1.0).sqrt().unsqueeze(-2).expand_as(cov)
    rho = (cov / (si * sj)).clamp(-1.0, 1.0).unsqueeze(-1)
    ci = si.unsqueeze(-1) * first
    cj = sj.unsqueeze(-1) * (rho * first + (1.0 - rho**2).sqrt() * second)
    return ci, cj, torch.outer(m, m).flatten()


def population_gram(
    x: Tensor, sigma: str | Activation = "tanh", nodes: int = 121
) -> Tensor:
    r"""Return :math:`G_2(\tau_0,\nu_0)` of the infinitely wide network by quadrature.

    .. math::

        [G_2]_{ij} = E[\sigma(c_i)\sigma(c_j)] + (x_i\cdot x_j+1)\,
        E[\sigma'(c_i)\sigma'(c_j)], \qquad
        \operatorname{Cov}(c_i, c_j) = x_i\cdot x_j + 1

    (chen2024, eq. (20), at initialisation, where :math:`Z_{\nu_0}(x, 1) = x`).

    Parameters
    ----------
    x : Tensor
        Inputs, shape (..., n, d).
    sigma : str or Activation
        A smooth activation; at a kink the rule is of order 2 only.
    nodes : int
        Nodes an axis.

    Returns
    -------
    Tensor
        Shape (..., n, n).

    Raises
    ------
    TypeError, ValueError
        If `x` is malformed.
    """
    require_tensor("x", x, 2)
    sigma, rows = activation(sigma), []
    for part in x.split(max(1, _ROOM // (x[..., 0].numel() * nodes**2)), dim=-2):
        ci, cj, mass = gaussian_plane(part, x, nodes)
        slope = (sigma.df(ci) * sigma.df(cj)) @ mass
        rows.append((sigma.f(ci) * sigma.f(cj)) @ mass + (part @ x.mT + 1.0) * slope)
    gram = torch.cat(rows, -2)
    return 0.5 * (gram + gram.mT)
