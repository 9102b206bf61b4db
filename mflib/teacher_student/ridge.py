r"""Ridge neurons :math:`\sigma(x \cdot \theta)`, the units of the teacher-student paper."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..activations import Activation, activation
from ..arguments import require_choice, require_positive_int
from ..blocks import Block

__all__ = ["RidgeBlock"]


@dataclass(frozen=True)
class RidgeBlock(Block):
    r"""A neuron without bias, :math:`f(x, \theta) = \sigma(x \cdot \theta)` (eq. (1)).

    With ``weighted=True`` a particle is :math:`(w, \theta)` and
    :math:`f = w\, \sigma(x \cdot \theta)` (Appendix 5.1).

    Parameters
    ----------
    dim : int
        The input's dimension d.
    sigma : str or Activation
        The activation.
    weighted : bool
        Whether a particle carries an output weight, its first coordinate: k = d + 1, else d.

    Raises
    ------
    ValueError
        If the dimension is no positive integer, or the activation unknown.

    Examples
    --------
    >>> import torch
    >>> block = RidgeBlock(2, "relu")
    >>> block.value(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 5.0]])).item()
    3.0
    """

    dim: int
    sigma: str | Activation = "tanh"
    weighted: bool = False

    def __post_init__(self) -> None:
        require_positive_int("dim", self.dim)
        require_choice("weighted", self.weighted, (False, True))
        object.__setattr__(self, "sigma", activation(self.sigma))
        object.__setattr__(self, "d", self.dim)
        object.__setattr__(self, "d_out", 1)
        object.__setattr__(self, "k", self.dim + self.weighted)

    def split(self, theta: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the output weights (..., N), or None, and the directions (..., N, d)."""
        if theta.shape[-1] != self.k:
            raise ValueError(f"theta: last dimension is {theta.shape[-1]}, expected k = {self.k}")
        return (theta[..., 0], theta[..., 1:]) if self.weighted else (None, theta)

    def _z(self, x: Tensor, theta: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        w, direction = self.split(theta)
        return w, direction, x @ direction.mT

    def pairing(self, x: Tensor, theta: Tensor, p: Tensor) -> Tensor:
        w, _, z = self._z(x, theta)
        values = self.sigma.f(z) * p
        return values if w is None else values * w.unsqueeze(-2)

    def value(self, x: Tensor, theta: Tensor) -> Tensor:
        return self.pairing(x, theta, torch.ones_like(x[..., :1])).unsqueeze(-1)

    def field(self, x: Tensor, theta: Tensor, weights: Tensor) -> Tensor:
        w, _, z = self._z(x, theta)
        mass = weights if w is None else weights * w
        return self.sigma.f(z) @ mass.unsqueeze(-1)

    def jacobian(self, x: Tensor, theta: Tensor) -> Tensor:
        w, direction, z = self._z(x, theta)
        slope = self.sigma.df(z) if w is None else self.sigma.df(z) * w.unsqueeze(-2)
        return (slope.unsqueeze(-1) * direction.unsqueeze(-3)).unsqueeze(-2)

    def jvp(self, x: Tensor, theta: Tensor, weights: Tensor, v: Tensor) -> Tensor:
        w, direction, z = self._z(x, theta)
        mass = weights if w is None else weights * w
        return (self.sigma.df(z) * (v @ direction.mT)) @ mass.unsqueeze(-1)

    def vjp(self, x: Tensor, theta: Tensor, weights: Tensor, p: Tensor) -> Tensor:
        w, direction, z = self._z(x, theta)
        mass = weights if w is None else weights * w
        return (self.sigma.df(z) * p * mass.unsqueeze(-2)) @ direction

    def pairing_grad(self, x: Tensor, theta: Tensor, p: Tensor, mass: Tensor) -> Tensor:
        w, _, z = self._z(x, theta)
        q = p * mass.unsqueeze(-1)
        slope = self.sigma.df(z) * q
        if w is None:
            return slope.mT @ x
        by_weight = (self.sigma.f(z) * q).sum(-2)
        return torch.cat([by_weight.unsqueeze(-1), w.unsqueeze(-1) * (slope.mT @ x)], -1)
