r"""Assumption 1 on the activations: bounded, bounded slope, Lipschitz slope."""

from __future__ import annotations

import torch

from ..activations import Activation, activation
from ..arguments import require_number

__all__ = ["modified", "power", "power_tail"]


def modified(
    sigma: str | Activation, size: float = 1.0, scale: float = 1.0, shift: float = 0.0
) -> Activation:
    r"""Return :math:`z \mapsto c\,\sigma(az+b)` with size c, scale a and shift b.

    A shift makes an odd activation neither odd nor even; a small scale is the
    :math:`g(cx)` of fang2021, Lemma 1 (i); the size of :math:`h_2` is its :math:`L_1`.
    """
    s = activation(sigma)
    for name, value in (("size", size), ("scale", scale), ("shift", shift)):
        require_number(name, value)
    return Activation(
        f"{size:g} {s.name}({scale:g} z + {shift:g})",
        lambda z: size * s.f(scale * z + shift),
        lambda z: size * scale * s.df(scale * z + shift),
        lambda z: size * scale**2 * s.d2f(scale * z + shift),
    )


def power(alpha: float) -> Activation:
    r"""Return :math:`(z)_+^\alpha`, the ReLU-type function of fang2021, Lemma 1 (ii)."""
    require_number("alpha", alpha, above=0)
    return Activation(
        f"relu^{alpha:g}",
        lambda z: z.clamp_min(0) ** alpha,
        lambda z: torch.where(z > 0, alpha * z.clamp_min(1e-300) ** (alpha - 1), 0.0 * z),
        lambda z: torch.where(
            z > 0, alpha * (alpha - 1) * z.clamp_min(1e-300) ** (alpha - 2), 0.0 * z
        ),
    )


def power_tail(alpha: float) -> Activation:
    r"""Return :math:`(1+z^2)^{-\alpha/2}`: the tail of fang2021, Lemma 1 (iii), a smooth core."""
    require_number("alpha", alpha, above=0)
    return Activation(
        f"(1+z^2)^-{alpha / 2:g}",
        lambda z: (1 + z**2) ** (-alpha / 2),
        lambda z: -alpha * z * (1 + z**2) ** (-alpha / 2 - 1),
        lambda z: alpha * ((alpha + 1) * z**2 - 1) * (1 + z**2) ** (-alpha / 2 - 2),
    )
