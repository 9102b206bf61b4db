r"""The field of a layer of neurons, its transpose and its gradient, on one tile of memory.

For samples :math:`x_i` and neurons :math:`(u_j, v_j)`, :math:`v = (w, b)`, with masses
:math:`m_j`, everything that a pass through depth needs of a layer is a product of a small
matrix with the tile :math:`S_{ij} = \sigma(v_j \cdot (x_i, 1))` or with
:math:`A_{ij} = (q_i \cdot u_j)\, \sigma'(v_j \cdot (x_i, 1))`:

.. math::

    F_i = \sum_j S_{ij}\, m_j u_j, \qquad
    (\nabla F_i)^\top q_i = \sum_j A_{ij}\, m_j w_j, \qquad
    \partial_{u_j} = \sum_i S_{ij}\, q_i, \qquad
    \partial_{v_j} = \sum_i A_{ij}\, (x_i, 1).

The small dimension stands first in every array but the tiles, (samples, neurons): so the
products run at twice the speed of the other order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .activations import form
from .blocks import Block

__all__ = ["Neurons", "Textbook"]


def _columns(part: Tensor, width: int, rows: int) -> Tensor:
    """Return an array of `rows` rows and `width` columns that begins with `part`."""
    whole = part.new_zeros(*part.shape[:-2], rows, width)
    whole[..., : part.shape[-2], : part.shape[-1]] = part
    return whole


class Neurons:
    r"""The layers of a network of neurons, as a pass through depth uses them.

    A kernel, which trusts its arguments; :mod:`~mflib.sweep` makes them. States are
    (..., d+1, m), the last row 1, which carries the bias; costates (..., d, m).

    Parameters
    ----------
    block : Block
        A block that is a sum of neurons.
    theta, weights : Tensor
        Particles (I, N, k) of I layers and their masses (I, N), or both with one batch
        dimension in front.
    x : Tensor
        All samples, (..., n, d): they bound the preactivations.
    rows : int
        The most samples of a tile.
    keep : bool
        Whether the states of all layers are kept for the way back.
    gradient, laplacian : bool
        Whether the way back gathers the gradient by the particles, and the Laplacian.

    Notes
    -----
    A shift of the activation by 1 would cost a correction in each layer. Instead one more
    neuron, always saturated, carries it: its slope is exactly zero.
    """

    def __init__(
        self,
        block: Block,
        theta: Tensor,
        weights: Tensor,
        x: Tensor,
        rows: int,
        keep: bool = False,
        gradient: bool = False,
        laplacian: bool = False,
    ) -> None:
        theta = theta.movedim(theta.ndim - 3, 0)
        weights = weights.movedim(weights.ndim - 2, 0)
        u, v = block.neurons(theta)
        reach = (1.0 + x.square().sum(-1).amax()).sqrt()
        self.form = form(block.sigma, float(torch.linalg.vector_norm(v, dim=-2).amax() * reach))
        self.block, self.count = block, u.shape[-1]
        width = self.count + self.form.shift
        width += -width % 8 if width > 64 else 0
        layers, lead, d = len(theta), theta.shape[1:-2], block.d
        outer = _columns(u, width, block.d_out + 1)
        inner = v = _columns(v, width, d + 1).mul_(self.form.scale)
        self.plain = outer[..., : block.d_out, :]
        self.share = float(weights.reshape(-1)[0])
        if bool((weights != self.share).any()):
            self.share, mass = 1.0, weights.repeat_interleave(block.group, -1).unsqueeze(-2)
            outer, inner = outer.clone(), v.clone()
            outer[..., : self.count] *= mass
            inner[..., : self.count] *= mass
        if self.form.shift:
            v[..., d, self.count] = 80.0
            outer[..., self.count] = -0.5 * outer.sum(-1)
        depth = layers if keep else 1
        self.stack = u.new_empty(self.form.tiles, depth, *lead, rows, width)
        self.work = u.new_empty(*lead, rows, width)
        self.u, self.v = self.plain.unbind(0), v.unbind(0)
        self.outer, self.inner = outer.unbind(0), inner[..., :d, :].unbind(0)
        self.product, self.add, self.accumulate = (
            (torch.bmm, torch.baddbmm, Tensor.baddbmm_)
            if lead
            else (torch.mm, torch.addmm, Tensor.addmm_)
        )
        if gradient:
            self.slopes = u.new_zeros(layers, *lead, block.d_out + d + 1, width)
            self.by_u = self.slopes[..., : block.d_out, :].unbind(0)
            self.by_v = self.slopes[..., block.d_out :, :].unbind(0)
        if laplacian:
            self.second = u.new_zeros(layers, *lead, 1, width)
        self.keep, self.wanted = keep, (gradient, laplacian)
        self.resize(rows)

    def resize(self, rows: int) -> None:
        """Take tiles of that many samples."""
        self.tiles = list(zip(*(part[..., :rows, :].unbind(0) for part in self.stack), strict=True))
        self.tile = self.work[..., :rows, :]

    @staticmethod
    def lift(x: Tensor) -> Tensor:
        """Return samples (..., m, d) as states (..., d+1, m)."""
        return torch.cat([x.mT, torch.ones_like(x[..., :1]).mT], -2)

    def _state(self, i: int, z: Tensor) -> tuple[Tensor, ...]:
        tiles = self.tiles[i % len(self.tiles)]
        self.product(z.mT, self.v[i], out=tiles[0])
        self.form.state(*tiles)
        return tiles

    def field(self, i: int, z: Tensor, base: Tensor, h: float) -> Tensor:
        r"""Return `base` :math:`+ h F` with the field F of layer `i` at the states `z`."""
        tiles = self._state(i, z)
        h = h * self.share * self.form.outer
        return self.add(base, self.outer[i], tiles[0].mT, alpha=h)

    def slope(self, i: int, z: Tensor, q: Tensor) -> Tensor:
        r"""Return the tile A of layer `i`, and gather what is wanted of the particles."""
        gradient, laplacian = self.wanted
        tiles = self.tiles[i] if len(self.tiles) > 1 else self._state(i, z)
        a = self.tile
        self.product(q.mT, self.u[i], out=a)
        if gradient:
            self.accumulate(self.by_u[i], q, tiles[0], alpha=self.form.outer)
        self.form.slope(a, *tiles)
        if gradient:
            self.accumulate(self.by_v[i], z, a, alpha=self.form.inner)
        if laplacian:
            self._bend(i, z, q, tiles[0])
        return a

    def _bend(self, i: int, z: Tensor, q: Tensor, state: Tensor) -> None:
        """Gather sum_i q_i u_j |z_i|^2 sigma'', from the tile A where the form knows how."""
        if self.form.curve:
            constant, linear = self.form.curve
            bend = state.mul_(linear).add_(constant).mul_(self.tile)
        else:
            bend = self.block.sigma.d2f(z.mT @ self.v[i]) * (q.mT @ self.u[i])
        size = z.square().sum(-2, keepdim=True)
        self.accumulate(self.second[i], size, bend, alpha=self.form.inner)

    def pull(self, i: int, z: Tensor, q: Tensor, base: Tensor, h: float) -> Tensor:
        r"""Return `base` :math:`+ h\,(\nabla F)^\top q` with the field of layer `i` at `z`."""
        a = self.slope(i, z, q)
        h = h * self.share * self.form.inner / self.form.scale
        return self.add(base, self.inner[i], a.mT, alpha=h)

    def gathered(self) -> tuple[Tensor, ...]:
        r"""Return, once, the gradient (..., I, N, k), values and Laplacians (..., I, N).

        The value of a particle is :math:`\sum_i q_i \cdot f(x_i, \theta_j)`.
        """
        o, n, lead = self.block.d_out, self.count, self.work.ndim - 2
        if self.form.shift:
            self.slopes[..., :o, :] -= 0.5 * self.slopes[..., :o, n : n + 1]
        values = (self.plain[..., :n] * self.slopes[..., :o, :n]).sum(-2)
        values = values.unflatten(-1, (-1, self.block.group)).sum(-1)
        found = [self.block.gather(self.slopes[..., :n]), values]
        if self.wanted[1]:
            found.append(self.second[..., 0, :n])
        return tuple(v.movedim(0, lead) for v in found)


class Textbook:
    r"""The layers of any block by its own methods, as a pass through depth uses them.

    It stands where a block is no sum of neurons or where autograd watches. Arguments as in
    :class:`Neurons`, any batch; states are (..., d, m).
    """

    def __init__(
        self,
        block: Block,
        theta: Tensor,
        weights: Tensor,
        gradient: bool = False,
        laplacian: bool = False,
    ) -> None:
        self.block, self.sums = block, [()] * theta.shape[-3]
        self.theta, self.weights = theta.movedim(-3, 0), weights.movedim(-2, 0)
        self.wanted = gradient, laplacian

    def resize(self, rows: int) -> None:
        """Nothing is kept."""

    @staticmethod
    def lift(x: Tensor) -> Tensor:
        """Return samples (..., m, d) as states (..., d, m)."""
        return x.mT

    def field(self, i: int, z: Tensor, base: Tensor, h: float) -> Tensor:
        r"""Return `base` :math:`+ h F`."""
        return base + h * self.block.field(z.mT, self.theta[i], self.weights[i]).mT

    def slope(self, i: int, z: Tensor, q: Tensor) -> None:
        """Gather what is wanted of the particles."""
        gradient, laplacian = self.wanted
        if not gradient:
            return
        at, ones = (z.mT, self.theta[i], q.mT), torch.ones_like(q[..., 0, :])
        self.sums[i] = self.block.pairing_grad(*at, ones), self.block.pairing(*at).sum(-2)
        if laplacian:
            self.sums[i] += (self.block.pairing_laplacian(*at, ones),)

    def pull(self, i: int, z: Tensor, q: Tensor, base: Tensor, h: float) -> Tensor:
        r"""Return `base` :math:`+ h\,(\nabla F)^\top q`."""
        self.slope(i, z, q)
        return base + h * self.block.vjp(z.mT, self.theta[i], self.weights[i], q.mT).mT

    def gathered(self) -> tuple[Tensor, ...]:
        r"""Return the gradient (..., I, N, k), values and Laplacians (..., I, N)."""
        gradient, *rest = zip(*self.sums, strict=True)
        return torch.stack(gradient, -3), *(torch.stack(v, -2) for v in rest)
