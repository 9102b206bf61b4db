r"""Residual blocks :math:`f(x, \theta)` with their derivatives in closed form.

Every method takes points `x` of shape (..., n, d) and particles `theta` of shape
(..., N, k); leading dimensions broadcast, so seeds and sizes are batched.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .activations import Activation, activation
from .arguments import require_int

__all__ = ["Block", "MatrixBlock", "NeuronBlock"]


class Block:
    r"""A residual block :math:`f : \mathbb R^d \times \mathbb R^k \to \mathbb R^{d_{out}}`.

    The methods are kernels: they take finite tensors of fitting shapes and one dtype, which
    :func:`~mflib.ode.flow` and :class:`~mflib.problem.Problem` make sure of.

    Attributes
    ----------
    d, d_out, k : int
        Dimensions of the state, of the value and of one particle.
    group : int
        How many neurons :math:`u\,\sigma(w\cdot x + b)` a particle is the sum of; 0 where it
        is no such sum. A block of neurons says which by ``neurons``, and
        :mod:`~mflib.sweep` then takes its pass through depth in blocks of samples.
    """

    d: int
    d_out: int
    k: int
    group: int = 0

    def neurons(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return u (..., d_out, M) and (w, b), (..., d+1, M), with M = group N neurons."""
        raise NotImplementedError

    def gather(self, slopes: Tensor) -> Tensor:
        r"""Return the gradient (..., N, k) from that by the neurons (..., d_out+d+1, M)."""
        raise NotImplementedError

    def value(self, x: Tensor, theta: Tensor) -> Tensor:
        r"""Return :math:`f(x_i, \theta_j)`, shape (..., n, N, d_out)."""
        raise NotImplementedError

    def jacobian(self, x: Tensor, theta: Tensor) -> Tensor:
        r"""Return :math:`\nabla_x f(x_i, \theta_j)`, shape (..., n, N, d_out, d)."""
        raise NotImplementedError

    def field(self, x: Tensor, theta: Tensor, weights: Tensor) -> Tensor:
        r"""Return :math:`F(x_i) = \sum_j w_j f(x_i, \theta_j)`, shape (..., n, d_out)."""
        raise NotImplementedError

    def jvp(self, x: Tensor, theta: Tensor, weights: Tensor, v: Tensor) -> Tensor:
        r"""Return :math:`\nabla_x F(x_i)\, v_i`, shape (..., n, d_out)."""
        raise NotImplementedError

    def vjp(self, x: Tensor, theta: Tensor, weights: Tensor, p: Tensor) -> Tensor:
        r"""Return the row vectors :math:`p_i^\top \nabla_x F(x_i)`, shape (..., n, d)."""
        raise NotImplementedError

    def pairing(self, x: Tensor, theta: Tensor, p: Tensor) -> Tensor:
        r"""Return :math:`p_i^\top f(x_i, \theta_j)`, shape (..., n, N)."""
        raise NotImplementedError

    def pairing_grad(self, x: Tensor, theta: Tensor, p: Tensor, mass: Tensor) -> Tensor:
        r"""Return :math:`\nabla_\theta \sum_i m_i\, p_i^\top f(x_i, \theta_j)`, (..., N, k)."""
        raise NotImplementedError


@dataclass(frozen=True)
class MatrixBlock(Block):
    r"""The block of lu2020, :math:`f(x, \theta) = \sigma(\theta x)`, with a matrix :math:`\theta`.

    Parameters
    ----------
    d : int
        The state's dimension; a particle is the row-major matrix, k = d d.
    sigma : str or Activation
        The entrywise activation.

    Raises
    ------
    ValueError
        If the dimension is no positive integer or the activation unknown.

    Examples
    --------
    >>> block = MatrixBlock(2, "linear")
    >>> turn = torch.tensor([[0.0, -1.0, 1.0, 0.0]])  # one particle
    >>> block.value(torch.tensor([[1.0, 0.0]]), turn)
    tensor([[[0., 1.]]])
    """

    d: int
    sigma: str | Activation = "tanh"

    def __post_init__(self) -> None:
        require_int("d", self.d, 1)
        object.__setattr__(self, "sigma", activation(self.sigma))

    @property
    def d_out(self) -> int:
        """The dimension of the value, d."""
        return self.d

    @property
    def k(self) -> int:
        """The size of a particle, d d."""
        return self.d**2

    @property
    def group(self) -> int:
        """The number of neurons of a particle, one row of the matrix each."""
        return self.d

    def neurons(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        w = self._matrices(theta).flatten(-3, -2).mT
        u = torch.eye(self.d, dtype=w.dtype).repeat(1, theta.shape[-2])
        return u.expand(*w.shape[:-2], -1, -1), torch.cat([w, torch.zeros_like(w[..., :1, :])], -2)

    def gather(self, slopes: Tensor) -> Tensor:
        return slopes[..., self.d : -1, :].mT.unflatten(-2, (-1, self.d)).flatten(-2)

    def _matrices(self, theta: Tensor) -> Tensor:
        if theta.shape[-1] != self.k:
            raise ValueError(f"theta: last dimension is {theta.shape[-1]}, expected k = {self.k}")
        return theta.unflatten(-1, (self.d, self.d))

    def preactivation(self, x: Tensor, theta: Tensor) -> Tensor:
        r"""Return :math:`\theta_j x_i`, shape (..., n, N, d)."""
        return torch.einsum("...jab,...ib->...ija", self._matrices(theta), x)

    def value(self, x: Tensor, theta: Tensor) -> Tensor:
        return self.sigma.f(self.preactivation(x, theta))

    def jacobian(self, x: Tensor, theta: Tensor) -> Tensor:
        slope = self.sigma.df(self.preactivation(x, theta)).unsqueeze(-1)
        return slope * self._matrices(theta).unsqueeze(-4)

    def field(self, x: Tensor, theta: Tensor, weights: Tensor) -> Tensor:
        return torch.einsum("...ija,...j->...ia", self.value(x, theta), weights)

    def jvp(self, x: Tensor, theta: Tensor, weights: Tensor, v: Tensor) -> Tensor:
        ds = self.sigma.df(self.preactivation(x, theta))
        return torch.einsum("...ija,...ija,...j->...ia", ds, self.preactivation(v, theta), weights)

    def vjp(self, x: Tensor, theta: Tensor, weights: Tensor, p: Tensor) -> Tensor:
        q = (
            self.sigma.df(self.preactivation(x, theta))
            * p.unsqueeze(-2)
            * weights[..., None, :, None]
        )
        return torch.einsum("...ija,...jab->...ib", q, self._matrices(theta))

    def pairing(self, x: Tensor, theta: Tensor, p: Tensor) -> Tensor:
        return torch.einsum("...ija,...ia->...ij", self.value(x, theta), p)

    def pairing_grad(self, x: Tensor, theta: Tensor, p: Tensor, mass: Tensor) -> Tensor:
        q = self.sigma.df(self.preactivation(x, theta)) * (p * mass[..., None]).unsqueeze(-2)
        return torch.einsum("...ija,...ib->...jab", q, x).flatten(-2)


@dataclass(frozen=True)
class NeuronBlock(Block):
    r"""A neuron with output weights, :math:`f(x, (u, w, b)) = u\, \sigma(w \cdot x + b)`.

    With ``out = d`` it is the encoder block of chen2024, with ``out = 1`` its predictor
    :math:`h(z, (a, w, b))`.

    Parameters
    ----------
    d : int
        The state's dimension.
    sigma : str or Activation
        The activation.
    out : int, optional
        The output dimension, default d. A particle is (u, w, b), k = out + d + 1.

    Raises
    ------
    ValueError
        If a dimension is no positive integer or the activation unknown.

    Examples
    --------
    >>> block = NeuronBlock(1, "relu")
    >>> block.k  # u, w and b
    3
    >>> block.field(torch.tensor([[2.0]]), torch.tensor([[3.0, 1.0, 1.0]]), torch.ones(1))
    tensor([[9.]])
    """

    d: int
    sigma: str | Activation = "tanh"
    out: int | None = None

    def __post_init__(self) -> None:
        require_int("d", self.d, 1)
        if self.out is not None:
            require_int("out", self.out, 1)
        object.__setattr__(self, "sigma", activation(self.sigma))

    @property
    def d_out(self) -> int:
        """The dimension of the value."""
        return self.d if self.out is None else self.out

    @property
    def k(self) -> int:
        """The size of a particle (u, w, b)."""
        return self.d_out + self.d + 1

    @property
    def group(self) -> int:
        """A particle is one neuron."""
        return 1

    def neurons(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        u, _, _ = self.split(theta)
        return u.mT, theta[..., self.d_out :].mT

    def gather(self, slopes: Tensor) -> Tensor:
        return slopes.mT

    def split(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return u (..., N, d_out), w (..., N, d) and b (..., N)."""
        if theta.shape[-1] != self.k:
            raise ValueError(f"theta: last dimension is {theta.shape[-1]}, expected k = {self.k}")
        o, d = self.d_out, self.d
        return theta[..., :o], theta[..., o : o + d], theta[..., o + d]

    def preactivation(self, x: Tensor, theta: Tensor) -> Tensor:
        r"""Return :math:`c_{ij} = w_j \cdot x_i + b_j`, shape (..., n, N)."""
        _, w, b = self.split(theta)
        return x @ w.transpose(-1, -2) + b.unsqueeze(-2)

    def value(self, x: Tensor, theta: Tensor) -> Tensor:
        u, _, _ = self.split(theta)
        return self.sigma.f(self.preactivation(x, theta)).unsqueeze(-1) * u.unsqueeze(-3)

    def jacobian(self, x: Tensor, theta: Tensor) -> Tensor:
        u, w, _ = self.split(theta)
        slope = self.sigma.df(self.preactivation(x, theta))
        outer = u.unsqueeze(-1) * w.unsqueeze(-2)
        return slope[..., None, None] * outer.unsqueeze(-4)

    def field(self, x: Tensor, theta: Tensor, weights: Tensor) -> Tensor:
        u, _, _ = self.split(theta)
        return self.sigma.f(self.preactivation(x, theta)) @ (weights.unsqueeze(-1) * u)

    def jvp(self, x: Tensor, theta: Tensor, weights: Tensor, v: Tensor) -> Tensor:
        u, w, _ = self.split(theta)
        slope = self.sigma.df(self.preactivation(x, theta)) * (v @ w.transpose(-1, -2))
        return slope @ (weights.unsqueeze(-1) * u)

    def vjp(self, x: Tensor, theta: Tensor, weights: Tensor, p: Tensor) -> Tensor:
        u, w, _ = self.split(theta)
        slope = self.sigma.df(self.preactivation(x, theta)) * (p @ u.transpose(-1, -2))
        return slope @ (weights.unsqueeze(-1) * w)

    def pairing(self, x: Tensor, theta: Tensor, p: Tensor) -> Tensor:
        u, _, _ = self.split(theta)
        return self.sigma.f(self.preactivation(x, theta)) * (p @ u.transpose(-1, -2))

    def pairing_grad(self, x: Tensor, theta: Tensor, p: Tensor, mass: Tensor) -> Tensor:
        u, _, _ = self.split(theta)
        c, q = self.preactivation(x, theta), p * mass[..., None]
        du = self.sigma.f(c).transpose(-1, -2) @ q
        slope = self.sigma.df(c) * (q @ u.transpose(-1, -2))
        dw = slope.transpose(-1, -2) @ x
        return torch.cat([du, dw, slope.sum(-2).unsqueeze(-1)], -1)

    def pairing_laplacian(self, x: Tensor, theta: Tensor, p: Tensor, mass: Tensor) -> Tensor:
        r"""Return :math:`\Delta_\theta \sum_i m_i\, p_i^\top f(x_i, \theta_j)`, (..., N).

        .. math::

            \sum_i m_i\, p_i^\top u\,(1+|x_i|^2)\,\sigma''(c_i).
        """
        u, _, _ = self.split(theta)
        size = mass * (1.0 + x.square().sum(-1))
        along = (p * size.unsqueeze(-1)) @ u.mT
        return (along * self.sigma.d2f(self.preactivation(x, theta))).sum(-2)
