r"""The learning speed of a network of finite shape, at the start of its training.

Gradient descent with maximal local updates changes the outputs by
:math:`-\frac{\eta}{n}\Theta r`, where the tangent kernel is the sum of a part from V and a part
from U. With :math:`\varepsilon = D/(LM)` its mean exceeds its large-scale limit: exactly by
:math:`(1+\varepsilon/L)^{L-1}` for a linear activation, and in the proportional limit (D to
infinity with L and :math:`\varepsilon` fixed) by what two recursions along depth say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..activations import Activation, activation
from ..arguments import require_instance, require_number, require_positive_int
from ..kernels import normal_rule
from ..ode import adjoint
from .shaped_network import Run, ShapedNetwork

__all__ = ["Speed", "linear_speed", "proportional_speed", "tangent_kernel"]


class Speed(NamedTuple):
    """The two parts of a tangent kernel, from V and from U, of one shape."""

    v: Tensor
    u: Tensor

    @property
    def total(self) -> Tensor:
        """The whole kernel, V's part and U's part."""
        return self.v + self.u


def tangent_kernel(net: ShapedNetwork, run: Run) -> Speed:
    r"""Return the tangent kernel at a run, in the units of maximal local updates.

    .. math::

        \Theta_V(i,k) = \frac1L\sum_l \frac{b_i^{l+1}\cdot b_k^{l+1}}{D}\,
            \frac1M\sum_j \sigma\sigma, \qquad
        \Theta_U(i,k) = \frac1L\sum_l \frac{h_i^l\cdot h_k^l}{D}\,
            \frac1M\sum_j \sigma'\sigma' \frac{V_j\cdot b_i^{l+1}}{D}
            \frac{V_j\cdot b_k^{l+1}}{D},

    with :math:`b^l = D\,\partial f/\partial h_l` the backward states.

    Parameters
    ----------
    net : ShapedNetwork
        The data and the read-out, with branch 1.
    run : Run
        From :meth:`mflib.beyond.shaped_network.ShapedNetwork.forward`.

    Returns
    -------
    Speed
        Two tensors of shape (..., n, n).

    Raises
    ------
    TypeError
        If an argument is of another class.

    Examples
    --------
    One layer: the backward state is the read-out, and :math:`\Theta_V = \frac1M\sum\sigma^2`.

    >>> net = ShapedNetwork(torch.ones(1, 1), torch.zeros(1), torch.ones(1), sigma="linear")
    >>> tangent_kernel(net, net.forward(torch.tensor([[[3.0, 2.0, 0.0]]])))
    Speed(v=tensor([[4.]]), u=tensor([[9.]]))
    """
    require_instance("net", net, ShapedNetwork)
    require_instance("run", run, Run)
    d = net.x.shape[-1]
    block, states = net.block, run.trajectory.stages[..., 0, :, :]
    p1 = (net.readout.unsqueeze(-2) / d).expand_as(run.hidden)
    p = adjoint(block, run.trajectory, p1).stages[..., 0, :, :]
    u, _, _ = block.split(run.theta)
    c = block.preactivation(states, run.theta)
    s = block.sigma.f(c)
    t = block.sigma.df(c) * (p @ u.mT)
    width = run.theta.shape[-2]
    v_part = d * (p @ p.mT) * (s @ s.mT) / width
    u_part = (states @ states.mT) * (t @ t.mT) / (d * width)
    return Speed(v_part.mean(-3), u_part.mean(-3))


def linear_speed(x: Tensor, readout: Tensor, L: int, M: int) -> Tensor:
    r"""Return the mean of either part of the tangent kernel of a linear network, exactly.

    .. math::

        \mathbb E\,\Theta_V(i,k) = \mathbb E\,\Theta_U(i,k) = \frac{x_i\cdot x_k}{D}\,
            \frac{|W_U|^2}{D}\,\Big(1+\frac{D}{L^2M}\Big)^{L-1}.

    Parameters
    ----------
    x : Tensor
        Embedded inputs, shape (..., n, D).
    readout : Tensor
        Shape (..., D).
    L, M : int
        Depth and hidden width.

    Returns
    -------
    Tensor
        Shape (..., n, n).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.

    Examples
    --------
    >>> linear_speed(torch.ones(1, 1), torch.ones(1), 2, 1)  # 1 + 1/4
    tensor([[1.2500]])
    """
    net = ShapedNetwork(x, torch.zeros_like(x[..., 0]) if isinstance(x, Tensor) else x, readout)
    require_positive_int("L", L)
    require_positive_int("M", M)
    d = net.x.shape[-1]
    start = (x @ x.mT) / d * (readout.square().sum(-1) / d)[..., None, None]
    return start * (1.0 + d / (L * L * M)) ** (L - 1)


def proportional_speed(q: float, eps: float, L: int, sigma: str | Activation = "tanh") -> Speed:
    r"""Return the tangent kernel of one input in the proportional limit.

    .. math::

        q_{l+1} = q_l + \tfrac{\varepsilon}{L} s_0(q_l), \quad
        \beta_l = \beta_{l+1}\big(1 + \tfrac{\varepsilon}{L} s_1(q_l)\big), \quad
        \Theta = \tfrac1L\sum_l \beta_{l+1}\big(s_0(q_l) + q_l s_1(q_l)\big),

    with :math:`q_0 = |x|^2/D`, :math:`\beta_L = 1` (the read-out's :math:`|W_U|^2/D`),
    :math:`s_0(q) = \mathbb E\,\sigma(\sqrt q G)^2` and
    :math:`s_1(q) = \mathbb E\,\sigma'(\sqrt q G)^2`. At :math:`\varepsilon = 0` it is the
    mean-field kernel.

    Parameters
    ----------
    q : float
        The mean square :math:`q_0` of the embedded input.
    eps : float
        The ratio :math:`\varepsilon = D/(LM)`.
    L : int
        The depth.
    sigma : str or Activation
        The activation.

    Returns
    -------
    Speed
        Two numbers.

    Raises
    ------
    ValueError
        If a number is impossible.

    Examples
    --------
    >>> proportional_speed(1.0, 1.0, 4, "linear").v  # (1 + 1/4)^3
    tensor(1.9531, dtype=torch.float64)
    """
    require_number("q", q, above=0)
    require_number("eps", eps, least=0)
    require_positive_int("L", L)
    act = activation(sigma)
    at, mass = normal_rule()

    def mean(f: Callable[[Tensor], Tensor], level: Tensor) -> Tensor:
        return (mass * f(level.sqrt() * at).square()).sum()

    levels, level = [], torch.tensor(float(q), dtype=torch.float64)
    for _ in range(L):
        levels.append((level, mean(act.f, level), mean(act.df, level)))
        level = level + eps / L * levels[-1][1]
    beta, v, u = torch.ones((), dtype=torch.float64), 0.0, 0.0
    for level, s0, s1 in reversed(levels):
        v, u = v + beta * s0 / L, u + beta * level * s1 / L
        beta = beta * (1.0 + eps / L * s1)
    if not bool(torch.isfinite(v + u)):
        raise ValueError("eps: the level leaves the finite numbers; the activation grows too fast")
    return Speed(v, u)
