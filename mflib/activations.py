r"""Scalar activations with their first two derivatives in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ACTIVATIONS", "Activation", "activation"]


@dataclass(frozen=True)
class Activation:
    r"""An entrywise activation :math:`\sigma` with :math:`\sigma'` and :math:`\sigma''`.

    At a kink the derivative is the one torch uses (0 for ReLU at 0); a claim that
    needs differentiability there must say so itself.

    Attributes
    ----------
    name : str
        The name under which :func:`activation` finds it.
    f, df, d2f : callable
        Value, first and second derivative, each mapping a tensor entrywise.
    """

    name: str
    f: Callable[[Tensor], Tensor]
    df: Callable[[Tensor], Tensor]
    d2f: Callable[[Tensor], Tensor]

    def __call__(self, z: Tensor) -> Tensor:
        return self.f(z)


def _dtanh(z: Tensor) -> Tensor:
    return 1.0 - torch.tanh(z) ** 2


def _d2tanh(z: Tensor) -> Tensor:
    s = torch.tanh(z)
    return -2.0 * s * (1.0 - s**2)


def _dsigmoid(z: Tensor) -> Tensor:
    return torch.sigmoid(z) * torch.sigmoid(-z)


def _d2sigmoid(z: Tensor) -> Tensor:
    return _dsigmoid(z) * (1.0 - 2.0 * torch.sigmoid(z))


def _gaussian(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z**2)


def _table(*rows: Activation) -> dict[str, Activation]:
    return {row.name: row for row in rows}


#: Every activation of the book, by name.
ACTIVATIONS: dict[str, Activation] = _table(
    Activation("tanh", torch.tanh, _dtanh, _d2tanh),
    Activation("sigmoid", torch.sigmoid, _dsigmoid, _d2sigmoid),
    Activation(
        "shifted sigmoid",
        lambda z: torch.sigmoid(z + 1.0) - torch.sigmoid(torch.ones_like(z)),
        lambda z: _dsigmoid(z + 1.0),
        lambda z: _d2sigmoid(z + 1.0),
    ),
    Activation(
        "softplus",
        lambda z: torch.logaddexp(z, torch.zeros_like(z)),
        torch.sigmoid,
        _dsigmoid,
    ),
    Activation(
        "relu",
        torch.relu,
        lambda z: (z > 0).to(z.dtype),
        torch.zeros_like,
    ),
    Activation(
        "gaussian",
        _gaussian,
        lambda z: -z * _gaussian(z),
        lambda z: (z**2 - 1.0) * _gaussian(z),
    ),
    Activation(
        "quadratic",
        lambda z: z**2,
        lambda z: 2.0 * z,
        lambda z: torch.full_like(z, 2.0),
    ),
    Activation("linear", lambda z: z, torch.ones_like, torch.zeros_like),
    Activation(
        "arctan",
        torch.atan,
        lambda z: 1.0 / (1.0 + z**2),
        lambda z: -2.0 * z / (1.0 + z**2) ** 2,
    ),
    Activation("sin", torch.sin, torch.cos, lambda z: -torch.sin(z)),
    Activation(
        "cos",
        torch.cos,
        lambda z: -torch.sin(z),
        lambda z: -torch.cos(z),
    ),
    Activation(
        "gelu",
        lambda z: 0.5 * z * (1.0 + torch.erf(z / math.sqrt(2.0))),
        lambda z: (
            0.5 * (1.0 + torch.erf(z / math.sqrt(2.0)))
            + z * _gaussian(z) / math.sqrt(2.0 * math.pi)
        ),
        lambda z: (2.0 - z**2) * _gaussian(z) / math.sqrt(2.0 * math.pi),
    ),
)


def activation(sigma: str | Activation) -> Activation:
    r"""Return the activation of that name.

    Parameters
    ----------
    sigma : str or Activation
        A key of :data:`ACTIVATIONS`; an :class:`Activation` is returned as it is.

    Returns
    -------
    Activation

    Raises
    ------
    ValueError
        If no activation has that name; the message lists those that exist.

    Examples
    --------
    >>> activation("tanh").df(torch.tensor(0.0))
    tensor(1.)
    """
    if isinstance(sigma, Activation):
        return sigma
    if not isinstance(sigma, str) or sigma not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(f"sigma: no activation {sigma!r}; choose one of {known}")
    return ACTIVATIONS[sigma]
