r"""Loss functions :math:`\varphi(z, y)` with their derivative in the prediction z."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LOSSES", "Loss", "loss"]


@dataclass(frozen=True)
class Loss:
    r"""A loss :math:`\varphi(z, y)` of a prediction z and a label y (fang2021, eq. (3.6)).

    Attributes
    ----------
    name : str
        The name under which :func:`loss` finds it.
    value, slope : callable
        :math:`\varphi` and :math:`\varphi_1' = \partial_z\varphi`, each of two tensors.
    """

    name: str
    value: Callable[[Tensor, Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]


def _log_cosh(z: Tensor, y: Tensor) -> Tensor:
    r = (z - y).abs()
    # log cosh r = r - log 2 + log(1 + exp(-2 r)), and sinh^2 where r is small
    return torch.where(
        r < 0.1,
        0.5 * torch.log1p(torch.sinh(r.clamp_max(0.2)) ** 2),
        r - torch.log(torch.full_like(r, 2.0)) + torch.log1p(torch.exp(-2.0 * r)),
    )


def _root(z: Tensor, y: Tensor) -> Tensor:
    r = z - y
    return -torch.sign(r) * r.abs().sqrt()


#: Every loss of these chapters, by name.
LOSSES: dict[str, Loss] = {
    row.name: row
    for row in (
        # convex, slope within [-1, 1] and 1-Lipschitz: Assumption 1 holds
        Loss("log-cosh", _log_cosh, lambda z, y: torch.tanh(z - y)),
        # its slope is unbounded: outside Assumption 1
        Loss("squared", lambda z, y: 0.5 * (z - y) ** 2, lambda z, y: z - y),
        # a shallow well near z = y and a deeper one near z = y + 3: not convex, else as above
        Loss(
            "two wells",
            lambda z, y: _log_cosh(z, y) - 3.0 * torch.exp(-((z - y - 3.0) ** 2)),
            lambda z, y: torch.tanh(z - y) + 6.0 * (z - y - 3.0) * torch.exp(-((z - y - 3.0) ** 2)),
        ),
        # a slope that is not Lipschitz where it vanishes, and repels: L_5 is infinite
        Loss("repelling root", lambda z, y: -((z - y).abs() ** 1.5) / 1.5, _root),
        # repels too, with a slope that is Lipschitz
        Loss("repelling log-cosh", lambda z, y: -_log_cosh(z, y), lambda z, y: -torch.tanh(z - y)),
    )
}


def loss(name: str | Loss) -> Loss:
    r"""Return the loss called `name`; a :class:`Loss` is returned as it is.

    Raises
    ------
    ValueError
        If no loss has that name; the message lists those that exist.
    """
    if isinstance(name, Loss):
        return name
    if not isinstance(name, str) or name not in LOSSES:
        raise ValueError(f"name: no loss {name!r}; choose one of {', '.join(sorted(LOSSES))}")
    return LOSSES[name]
