r"""How much a scaled network can change when its laws move by W in the Wasserstein distance.

Explicit constants for :math:`|\sigma_0|, |\sigma_0'| \le 1` and
:math:`|\sigma_0''| \le \kappa`, as for tanh, where :math:`\kappa = 4/3\sqrt3`. The
constants of chen2024 (Lemmas 4.4, B.6, B.7, C.2) were not at hand; these are derived here.
Laws at every depth are compared in :math:`W^2 = \int_0^1 W_2(\nu^s, \nu'^s)^2\, ds`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_instance,
    require_number,
    require_tensor,
)
from ..gram import neuron_gram
from ..ode import Trajectory
from .magnus import propagator
from .network import ScaledResNet

__all__ = [
    "GronwallBounds",
    "KAPPA",
    "gram_modulus",
    "gram_root_modulus",
    "gronwall_bounds",
    "state_sensitivity",
]

#: The largest second derivative of tanh.
KAPPA = 4.0 / (3.0 * math.sqrt(3.0))


def _distance(name: str, w: Tensor | float) -> Tensor:
    if not isinstance(w, Tensor):
        return torch.tensor(require_number(name, w, least=0), dtype=torch.float64)
    if not (require_tensor(name, w, 0) >= 0).all():
        raise ValueError(f"{name}: expected finite distances W >= 0, got {w}")
    return w.double()


def gram_modulus(omega: Tensor, w: Tensor | float) -> Tensor:
    r"""Return :math:`C_G(W)` with :math:`|[G_2(\tau) - G_2(\tau_0)]_{ij}| \le C_G(W)\, W`.

    .. math::

        C_G(W) = 2\sqrt2 + 2\,\big(2 (E a^2)^{1/2} + W\big)
            + 4\sqrt2\,\kappa\, (E a^4)^{1/2}, \qquad W = W_2(\tau, \tau_0),

    for :math:`\|x_i\| = 1` and a frozen encoder, with moments of the output weight a
    under :math:`\tau_0`; for the Gaussian :math:`C_G(0) = 2\sqrt2 + 4 + 4\sqrt6\,\kappa`
    (chen2024, Lemma 4.4 and C.2, derived here).

    Parameters
    ----------
    omega : Tensor
        The particles of :math:`\tau_0`, shape (..., K, d+2), mass 1/K each.
    w : Tensor or float
        The distance W, broadcast against (...).

    Returns
    -------
    Tensor
        Shape (...).

    Raises
    ------
    TypeError, ValueError
        If the particles are malformed or a distance is negative.
    """
    a, w = require_tensor("omega", omega, 2)[..., 0], _distance("w", w)
    second, fourth = a.square().mean(-1).sqrt(), a.pow(4).mean(-1).sqrt()
    root = math.sqrt(2.0)
    return 2 * root + 2 * (2 * second + w) + 4 * root * KAPPA * fourth


def gram_root_modulus(
    omega: Tensor, x: Tensor, w: Tensor | float, moved: Tensor | float = 0.0
) -> Tensor:
    r"""Return how much :math:`\sqrt{v^\top G_2 v}`, v of norm 1, can change within distance W.

    .. math::

        \Big|\sqrt{v^\top G_2(\tau)\,v} - \sqrt{v^\top G_2(\tau_0)\,v}\Big|
            \le S\,\big(W + \Psi(W)^{1/2}\big), \qquad
        \Psi(W) = \sup\big\{E[a^2y] : 0 \le y \le 1,\ E\,y \le \kappa^2 R^2 W^2\big\},

    for a frozen encoder, with S the operator norm of the matrix of rows :math:`(x_i, 1)`,
    R its longest row and a the output weight under :math:`\tau_0`. Gram matrices are squares of
    norms in :math:`L^2(\tau)`, and norms add by Minkowski's inequality, so no factor n enters
    (chen2024, Lemma 4.4, derived here).

    Parameters
    ----------
    omega : Tensor
        The particles of :math:`\tau_0`, shape (..., K, d+2), mass 1/K each.
    x : Tensor
        The points at which the predictor reads, shape (..., n, d).
    w : Tensor or float
        The distance W, broadcast against (...).
    moved : Tensor or float
        How far the points may be from `x` together, :math:`(\sum_i|\delta x_i|^2)^{1/2}`: S
        and R grow by as much. Shape (...).

    Returns
    -------
    Tensor
        Shape (...).

    Raises
    ------
    TypeError, ValueError
        If the particles or points are malformed, their dimensions differ, or a distance is
        negative.

    Examples
    --------
    Silent neurons, a = 0, at one point of norm 1: only the first term is left.

    >>> gram_root_modulus(torch.zeros(2, 4), torch.tensor([[1.0, 0.0]]), 0.5) / 2**0.5
    tensor(0.5000, dtype=torch.float64)
    """
    d = require_tensor("x", x, 2).shape[-1]
    a, w = require_tensor("omega", omega, 2, last=d + 2)[..., 0], _distance("w", w)
    require_alike(omega=omega, x=x)
    moved = _distance("moved", moved)
    require_broadcast(omega=omega.shape[:-2], x=x.shape[:-2], w=w.shape, moved=moved.shape)
    rows = torch.cat([x, torch.ones_like(x[..., :1])], -1)
    reach = rows.norm(dim=-1).amax(-1) + moved
    # the worst y is 1 on the largest weights, up to its mean
    squares = a.square().sort(-1, descending=True).values
    mass = (KAPPA * reach * w).square().unsqueeze(-1) * squares.shape[-1]
    share = (mass - torch.arange(squares.shape[-1], dtype=mass.dtype)).clamp(0, 1)
    psi = (share * squares).mean(-1)
    return (torch.linalg.matrix_norm(rows, 2) + moved) * (w + psi.sqrt())


def state_sensitivity(net: ScaledResNet, theta: Tensor, trajectory: Trajectory) -> Tensor:
    r"""Return matrices whose largest eigenvalue is the square of a state's steepest slope in W2.

    .. math::

        S_i = \frac{\alpha^2}{L} \sum_l E_{\nu^l}\big[
            \nabla_\theta(q_{l+1}\sigma(Z_l, \theta))\,
            \nabla_\theta(q_{l+1}\sigma(Z_l, \theta))^\top\big],
        \qquad \sup_{W \le r} |\delta Z_i(1)| = r \sqrt{\lambda_{\max}(S_i)} + o(r),

    the Gram matrix of the encoder with the rows of the propagator in place of the
    adjoint.

    Parameters
    ----------
    net : ScaledResNet
        The network.
    theta : Tensor
        Encoder particles, shape (..., L, M, 2d+1).
    trajectory : Trajectory
        ``net.features(theta, x)``.

    Returns
    -------
    Tensor
        Shape (..., n, d, d).
    """
    require_instance("net", net, ScaledResNet)
    require_instance("trajectory", trajectory, Trajectory)
    layers = require_tensor("theta", theta, 3, last=net.encoder.k).shape[-3]
    if trajectory.X.shape[-3] != layers + 1 or trajectory.stages.shape[-3] != 1:
        raise ValueError(f"trajectory: is none of net.features for {layers} layers")
    q = propagator(net.encoder, trajectory)[..., 1:, :, :, :]
    z = trajectory.X[..., :-1, :, :].unsqueeze(-2).expand(q.shape)
    gram = neuron_gram(net.encoder, z, theta.unsqueeze(-3), q)
    return net.scales(3)[0] ** 2 * gram.mean(-4)


class GronwallBounds(NamedTuple):
    r"""Bounds for the change of every layer's state and adjoint, both of shape (..., n)."""

    state: Tensor
    adjoint: Tensor


def gronwall_bounds(
    net: ScaledResNet, theta: Tensor, omega: Tensor, x: Tensor, w: Tensor | float
) -> GronwallBounds:
    r"""Bound the change of state and adjoint when the encoder's law moves by W.

    With :math:`\bar A = \alpha\langle E|u||w|\rangle`, :math:`\langle\cdot\rangle` the mean
    over layers, :math:`\|u\| = (E|u|^2)^{1/2}` and
    :math:`r^2 = 1 + (|x| + \alpha\langle E|u|\rangle + \alpha W)^2`,

    .. math::

        |\delta Z| &\le e^{\bar A}\, \alpha\, \langle 1 + r^2\|u\|^2\rangle^{1/2}\, W
            =: e, \\
        |\delta p| &\le e^{\bar A + \alpha h W + \alpha W^2/2} \Big(
            \kappa\, E_\tau[|a||w|^2]\, e + \alpha\, E_\tau[|a||w|]\, e^{\bar A} \big(
            \kappa \langle E|u||w|^2\rangle\, e + H W + \tfrac12 W^2\big)\Big),

    where :math:`h = \langle(\|u\| + \|w\|)^2\rangle^{1/2}` and
    :math:`H = \langle(\kappa r\,(E|u|^2|w|^2)^{1/2} + \|u\| + \|w\|)^2\rangle^{1/2}`
    (chen2024, Lemmas B.6 and B.7, derived here; exact for the discrete network).

    Parameters
    ----------
    net : ScaledResNet
        The network; its activation must satisfy the bounds of this module.
    theta, omega : Tensor
        Particles of the unperturbed network, shapes (..., L, M, 2d+1) and (..., K, d+2).
    x : Tensor
        Inputs, shape (..., n, d).
    w : Tensor or float
        The distance W, broadcast against (...).

    Returns
    -------
    GronwallBounds
        One bound for the states and one for the adjoints of all layers, shape (..., n).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed or a distance is negative.
    """
    require_instance("net", net, ScaledResNet)
    require_tensor("theta", theta, 3, last=net.encoder.k)
    require_tensor("omega", omega, 2, last=net.predictor.k)
    require_tensor("x", x, 2, last=net.dim)
    require_alike(x=x, theta=theta, omega=omega)
    w, alpha = _distance("w", w), net.scales(1)[0]
    require_broadcast(x=x.shape[:-2], theta=theta.shape[:-3], omega=omega.shape[:-2], w=w.shape)
    w = w.unsqueeze(-1)
    u, v, _ = net.encoder.split(theta)
    u, v = u.norm(dim=-1), v.norm(dim=-1)
    a, head, _ = net.predictor.split(omega)
    a, head = a.squeeze(-1).abs(), head.norm(dim=-1)

    def layers(values: Tensor) -> Tensor:  # mean over layers, against (..., n)
        return values.mean(-1).unsqueeze(-1)

    growth = alpha * layers((u * v).mean(-1))
    norm_u, norm_v = u.square().mean(-1).sqrt(), v.square().mean(-1).sqrt()
    reach = x.norm(dim=-1) + alpha * layers(u.mean(-1)) + alpha * w
    r = (1.0 + reach.square()).sqrt()
    state = growth.exp() * alpha * (1.0 + r**2 * layers(norm_u**2)).sqrt() * w

    both = norm_u + norm_v
    mixed = (u * v).square().mean(-1).sqrt()
    H = KAPPA * r.unsqueeze(-1) * mixed.unsqueeze(-2) + both.unsqueeze(-2)
    H = H.square().mean(-1).sqrt()
    bend = KAPPA * layers((u * v**2).mean(-1)) * state + H * w + 0.5 * w**2
    end = KAPPA * (a * head**2).mean(-1).unsqueeze(-1) * state
    size = (a * head).mean(-1).unsqueeze(-1) * growth.exp()
    h = layers(both**2).sqrt()
    factor = (growth + alpha * h * w + 0.5 * alpha * w**2).exp()
    return GronwallBounds(state, factor * (end + alpha * size * bend))
