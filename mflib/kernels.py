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
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .activations import Activation, activation
from .arguments import (
    require_callable,
    require_instance,
    require_int,
    require_number,
    require_positive_int,
    require_tensor,
)

__all__ = [
    "gaussian_plane",
    "hermite_coefficients",
    "normal_rule",
    "population_gram",
    "resolving_nodes",
]

#: Largest number of values held at once.
_ROOM = 2**23


def normal_rule(nodes: int = 121, reach: float | None = None) -> tuple[Tensor, Tensor]:
    r"""Return nodes and weights of the trapezium rule for the standard Gaussian.

    Parameters
    ----------
    nodes : int
        At least 2.
    reach : float, optional
        The range R. The default balances what it cuts off, :math:`e^{-R^2/2}`, against the
        error of the spacing for a pole at the distance 1.1:
        :math:`R^3 = 7\,(\text{nodes} - 1)`.

    Returns
    -------
    tuple of Tensor
        Nodes and weights, shape (nodes,); the weights sum to 1.

    Raises
    ------
    ValueError
        If `nodes` is below 2 or the range not positive.

    Examples
    --------
    >>> t, m = normal_rule()
    >>> round(float(m @ t**4), 12)  # the fourth moment
    3.0
    """
    if require_positive_int("nodes", nodes) < 2:
        raise ValueError("nodes: a trapezium rule needs at least 2")
    reach = (7.0 * (nodes - 1)) ** (1 / 3) if reach is None else reach
    require_number("reach", reach, above=0)
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

    Examples
    --------
    >>> mu = hermite_coefficients("quadratic", 2, scale=1.0)  # g^2 = 1 + sqrt(2) He_2/sqrt(2)
    >>> [round(float(c), 4) for c in mu.abs()]
    [1.0, 0.0, 1.4142]
    """
    require_positive_int("degree", degree)
    require_number("scale", scale, above=0)
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
        Nodes an axis; how many resolve a function, :func:`resolving_nodes` says.

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

    Examples
    --------
    >>> x = torch.eye(2).double()
    >>> first, second, mass = gaussian_plane(x)
    >>> (first * second) @ mass  # the covariance x . x' + 1
    tensor([[2.0000, 1.0000],
            [1.0000, 2.0000]], dtype=torch.float64)
    """
    require_tensor("x", x, 2)
    other = x if other is None else require_tensor("other", other, 2, last=x.shape[-1])
    t, m = _plane_rule(nodes)
    first, second = (v.flatten() for v in torch.meshgrid(t, t, indexing="ij"))
    cov = x @ other.mT + 1.0
    si = (x.square().sum(-1) + 1.0).sqrt().unsqueeze(-1).expand_as(cov)
    sj = (other.square().sum(-1) + 1.0).sqrt().unsqueeze(-2).expand_as(cov)
    rho = (cov / (si * sj)).clamp(-1.0, 1.0).unsqueeze(-1)
    # at rho = 1 the derivative of the root is infinite, but that of rho is zero where both
    # inputs are one; a constant root makes 0 of the product 0 times infinity
    rest = 1.0 - rho**2
    root = torch.where(rest > 0, rest, 1.0).sqrt() * (rest > 0)
    ci = si.unsqueeze(-1) * first
    cj = sj.unsqueeze(-1) * (rho * first + root * second)
    return ci, cj, torch.outer(m, m).flatten()


def _plane_rule(nodes: int) -> tuple[Tensor, Tensor]:
    require_positive_int("nodes", nodes)
    # more nodes than 121 serve a finer spacing: beyond 9.5 the Gaussian is below rounding
    reach = None if nodes <= 122 else 9.5
    return normal_rule(nodes, reach)


def resolving_nodes(
    functions: Sequence[Callable[[Tensor], Tensor]], x: Tensor, nodes: int | None = None
) -> int:
    r"""Return how many nodes an axis resolve functions of the preactivations of `x`.

    The spacing that the trapezium rule needs shrinks with the standard deviation
    :math:`(|x|^2+1)^{1/2}` of a preactivation. Nodes are doubled until the mean square of
    every function on a line agrees with that on a finer rule to :math:`10^{-12}`.

    Parameters
    ----------
    functions : sequence of callables
        Each maps preactivations entrywise.
    x : Tensor
        Inputs, shape (..., n, d).
    nodes : int, optional
        The wanted number, which is returned if it leaves an error of less than 1 %.

    Returns
    -------
    int
        At least 121, or `nodes`.

    Raises
    ------
    ValueError
        If `nodes` are too few, or 1921 are: the inputs are too large or a function is not
        smooth.

    Examples
    --------
    >>> x = torch.eye(2).double()
    >>> resolving_nodes([torch.tanh], x), resolving_nodes([torch.tanh], 10 * x)
    (121, 961)
    """
    require_tensor("x", x, 2)
    for function in require_instance("functions", functions, Sequence):
        require_callable("functions", function)
    if not functions:
        raise ValueError("functions: is empty; pass at least one")
    spread = (x.detach().square().sum(-1) + 1.0).sqrt().amax()

    def squares(count: int) -> Tensor:
        t, m = _plane_rule(count)
        return torch.stack([f(spread * t).square() @ m for f in functions])

    def error(count: int) -> float:
        # no whole multiple: a wave must not meet the nodes of both rules at its period
        value, finer = squares(count), squares(8 * count // 5)
        return float(((value - finer).abs() / finer.clamp_min(1e-300)).max())

    if nodes is not None:
        if require_int("nodes", nodes, 2) and error(nodes) > 0.01:
            raise ValueError(
                f"nodes: {nodes} an axis leave an error of {error(nodes):.0%} at preactivations "
                f"of standard deviation {float(spread):.3g}; leave nodes out, or raise them"
            )
        return nodes
    for count in (121, 241, 481, 961, 1921):
        if error(count) < 1e-12:
            return count
    raise ValueError(
        f"x: quadrature does not resolve preactivations of standard deviation "
        f"{float(spread):.3g}; scale the inputs down, take an activation without a kink, or "
        "choose nodes for a coarse value"
    )


def population_gram(
    x: Tensor, sigma: str | Activation = "tanh", nodes: int | None = None
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
        A smooth activation. At a kink the rule is of order 1 in the spacing, and `nodes`
        must be given.
    nodes : int, optional
        Nodes an axis. Default: as many as give the diagonal to rounding, see
        :func:`resolving_nodes`.

    Returns
    -------
    Tensor
        Shape (..., n, n); it may be differentiated by x.

    Raises
    ------
    TypeError, ValueError
        If `x` is malformed, or the nodes do not resolve the activation at inputs so large.

    Examples
    --------
    >>> population_gram(torch.eye(2).double(), "linear")  # 2 (x . x' + 1)
    tensor([[4.0000, 2.0000],
            [2.0000, 4.0000]], dtype=torch.float64)
    """
    require_tensor("x", x, 2)
    sigma, rows = activation(sigma), []
    nodes = resolving_nodes((sigma.f, sigma.df), x, nodes)
    for part in x.split(max(1, _ROOM // (x[..., 0].numel() * nodes**2)), dim=-2):
        ci, cj, mass = gaussian_plane(part, x, nodes)
        slope = (sigma.df(ci) * sigma.df(cj)) @ mass
        rows.append((sigma.f(ci) * sigma.f(cj)) @ mass + (part @ x.mT + 1.0) * slope)
    gram = torch.cat(rows, -2)
    return 0.5 * (gram + gram.mT)
