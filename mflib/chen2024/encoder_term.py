r"""What a moving encoder adds to the Rademacher complexity of a KL ball (chen2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import require_alike, require_number, require_positive_int, require_tensor
from ..rademacher import ball_supremum
from ..stepping import runge_kutta_step

__all__ = ["EncoderTerm", "encoder_difference", "encoder_term"]


def _require_flat(**matrices: Tensor) -> None:
    for name, value in matrices.items():
        if value.ndim != 2:
            raise ValueError(f"{name}: expected 2 dimensions, got shape {tuple(value.shape)}")


@dataclass(frozen=True)
class EncoderTerm:
    r"""The maximum of the bilinear form B of :func:`encoder_term`, and where it is attained.

    Attributes
    ----------
    value : Tensor
        The maximum, a local one, for every sign vector, shape (draws,).
    norm : Tensor
        Operator norm of :math:`\frac1n\sum_i\epsilon_i\,\phi_i\otimes\psi_i`, shape
        (draws,); the value tends to 2 r times it as r falls.
    u, a : Tensor
        Mean outer weights of the maximisers times their mass, encoder (draws, M, d) and
        head (draws, M).
    """

    value: Tensor
    norm: Tensor
    u: Tensor
    a: Tensor


def encoder_term(
    signs: Tensor,
    x: Tensor,
    encoder: Tensor,
    head: Tensor,
    radius: float,
    sweeps: int = 4,
    power: int = 30,
) -> EncoderTerm:
    r"""Maximise the bilinear part of the moving encoder's term over two KL balls.

    .. math::

        B(\tau, \nu) = \frac1n\sum_i \epsilon_i\, m_\tau(x_i)\cdot g_\nu(x_i), \qquad
        m_\tau = E_\tau[a\,\sigma_0'(c_x)\,w], \quad g_\nu = E_\nu[u\,\sigma_0(c_x)],

    which times :math:`\alpha\beta` is the leading part of :math:`\frac1n\sum_i
    \epsilon_i (f_{\tau,\nu} - f_{\tau,\nu_0})(x_i)`, here for tanh. With its partner
    fixed each half is a linear functional on a ball, solved exactly; the halves take
    turns, from the leading singular pair.

    Parameters
    ----------
    signs : Tensor
        Sign vectors :math:`\epsilon`, shape (draws, n).
    x : Tensor
        Shape (n, d).
    encoder, head : Tensor
        Inner particles (w, b) of both laws, shapes (M, d + 1).
    radius : float
        Of both balls.
    sweeps : int
        Alternations, along which B never falls.
    power : int
        Power iterations for the leading singular pair; they also give the norm.

    Returns
    -------
    EncoderTerm

    Raises
    ------
    ValueError
        If shapes disagree or the radius is not positive.
    """
    require_tensor("x", x, 2)
    require_tensor("signs", signs, 2, last=len(x))
    require_tensor("head", head, 2, last=x.shape[1] + 1)
    require_tensor("encoder", encoder, 2, last=x.shape[1] + 1)
    require_alike(signs=signs, x=x, encoder=encoder, head=head)
    _require_flat(signs=signs, x=x, encoder=encoder, head=head)
    require_number("radius", radius, above=0)
    require_positive_int("sweeps", sweeps)
    require_positive_int("power", power)
    w, eps = head[:, :-1], signs[..., None] / len(x)
    slope = 1.0 - torch.tanh(x @ w.T + head[:, -1]) ** 2
    value = torch.tanh(x @ encoder[:, :-1].T + encoder[:, -1])

    def to_head(u: Tensor) -> Tensor:  # (draws, M, d), summed over particles -> (draws, M)
        return ((slope.T @ (eps * (value @ u))) * w).sum(-1)

    def to_encoder(t: Tensor) -> Tensor:  # (draws, M), summed over particles -> (draws, M, d)
        return value.T @ (eps * (slope @ (t[..., None] * w)))

    def pull(y: Tensor) -> Tensor:  # D Phi D y, on (draws, n, d)
        return eps * ((eps * y).flatten(1) @ phi).unflatten(1, x.shape)

    # leading singular pair: power iteration on the (n d x n d) Gram matrices
    phi = (slope[:, None] * w.T).flatten(0, 1)  # (n d, M), one row a component
    phi, psi = phi @ phi.T / len(head), value @ value.T / len(encoder)
    y = eps * psi.sum(-1)[:, None] * torch.ones_like(x)
    for _ in range(power):
        y = y / y.square().sum((-1, -2), keepdim=True).sqrt()
        image = psi @ pull(y)
        norm = image.square().sum((-1, -2)).sqrt().sqrt()
        y = image
    if not torch.isfinite(norm).all():
        raise ValueError("x: the form vanishes for some signs, all neurons are saturated there")
    u = value.T @ pull(y)
    t = to_head(u)
    for _ in range(sweeps):
        tau = ball_supremum(t.square(), radius)
        a = tau.mu[:, None] * tau.weights * t
        field = to_encoder(a)
        nu = ball_supremum(field.square().sum(-1), radius)
        u = (nu.mu[:, None] * nu.weights)[..., None] * field
        t = to_head(u)
    return EncoderTerm(nu.primal, norm, u, a)


def encoder_difference(
    x: Tensor,
    encoder: Tensor,
    head: Tensor,
    u: Tensor,
    a: Tensor,
    alpha: float = 1.0,
    steps: int = 8,
) -> Tensor:
    r"""Return :math:`(f_{\tau,\nu} - f_{\tau,\nu_0})(x_i)/\beta` of the true network.

    Classical Runge-Kutta in depth for :math:`\dot Z = \alpha E_\nu[u\,\tanh(v\cdot Z
    + c)]`; under the initial law :math:`Z = x`.

    Parameters
    ----------
    x : Tensor
        Shape (n, d).
    encoder, head : Tensor
        Inner particles, shapes (M, d + 1).
    u, a : Tensor
        Mean outer weights times mass, as :class:`EncoderTerm` has them, shapes
        (draws, M, d) and (draws, M).
    alpha : float
        The encoder's scale.
    steps : int
        In depth.

    Returns
    -------
    Tensor
        Shape (draws, n).

    Raises
    ------
    ValueError
        If shapes disagree.
    """
    d = require_tensor("x", x, 2).shape[-1]
    for name, value in (("encoder", encoder), ("head", head)):
        require_tensor(name, value, 2, last=d + 1)
    require_tensor("a", a, 2, last=len(head))
    if require_tensor("u", u, 3, last=d).shape != (len(a), len(encoder), d):
        raise ValueError(
            f"u: shape {tuple(u.shape)}, expected {(len(a), len(encoder), d)} as a and encoder say"
        )
    require_alike(x=x, encoder=encoder, head=head, u=u, a=a)
    _require_flat(x=x, encoder=encoder, head=head, a=a)
    require_number("alpha", alpha)
    require_positive_int("steps", steps)

    def field(z: Tensor) -> Tensor:
        return alpha * (torch.tanh(z @ encoder[:, :-1].T + encoder[:, -1]) @ u)

    def output(z: Tensor) -> Tensor:
        return (torch.tanh(z @ head[:, :-1].T + head[:, -1]) @ a[..., None])[..., 0]

    start = z = x.expand(len(a), *x.shape)
    for _ in range(steps):
        z = runge_kutta_step(field, z, 1.0 / steps)
    return output(z) - output(start)
