r"""One pass through depth and back, a block of samples at a time.

.. math::

    X^{l+1} = X^l + \frac1L F_l(X^l), \qquad
    p^l = p^{l+1} + \frac1L\, p^{l+1}\, \nabla F_l(X^l),

for Euler, and the transpose of the whole step for the other one-step methods: with the
stage states :math:`Z_s = X + h \sum_{j<s} a_{sj} F_j` and :math:`X^+ = X + h \sum_s b_s F_s`
the costate of the field at stage s is :math:`g_s = b_s\, p + h \sum_{j>s} a_{js}\, q_j`,
where :math:`q_j = g_j \nabla F_j`, and :math:`p^- = p + h \sum_s q_s`.

The samples do not feel each other, so a block of them goes through the whole depth and
back while its tiles stay in the processor's cache; small problems of a batch go together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .blocks import Block
from .neurons import Neurons, Textbook
from .stepping import Tableau, tableau

__all__ = ["Kernel", "Layers", "Network", "backward", "forward", "sweep", "watched"]

#: What a pass uses of its layers.
Kernel = Neurons | Textbook
#: Bytes of the tiles that a block of samples keeps: they fit the last cache.
_ROOM = 48 * 2**20
#: Products run best on tiles of 32 to 128 samples.
_FEWEST, _MOST = 32, 128
#: Problems with fewer entries in a tile go together, the others one by one.
_SMALL = 2**13


class Layers(NamedTuple):
    """A block with the particles (..., I, N, k) and the masses (..., I, N) of I layers."""

    block: Block
    theta: Tensor
    weights: Tensor


def forward(
    kernel: Kernel, X: Tensor, table: Tableau, steps: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the L+1 states and the stage states, L times S, that start from `X`."""
    h, last = 1.0 / steps, len(table.b) - 1
    states, stages = [X], []
    for step in range(steps):
        end, slopes = X, []
        for s, (row, b) in enumerate(zip(table.a, table.b, strict=True)):
            Z, i = _moved(X, row, slopes, h), step * (last + 1) + s
            stages.append(Z)
            if s == last:
                X = kernel.field(i, Z, end, h * b)
            else:
                slopes.append(kernel.field(i, Z, torch.zeros_like(X), 1.0))
                end = torch.add(end, slopes[-1], alpha=h * b)
        states.append(X)
    return states, stages


def backward(
    kernel: Kernel, stages: list[Tensor], p: Tensor, table: Tableau
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the L+1 adjoints and the stage costates that end in `p`; the kernel gathers."""
    count = len(table.b)
    steps = len(stages) // count
    h, rows, costates = 1.0 / steps, [p], []
    for step in reversed(range(steps)):
        start, pulled = p, {}
        for s in reversed(range(count)):
            # what the end and the later stages of the step feel of a change of this field
            later = [table.a[j][s] for j in range(s + 1, count)]
            g = p if count == 1 else _moved(table.b[s] * p, later, list(pulled.values())[::-1], h)
            i = step * count + s
            if s == 0:
                start = kernel.pull(i, stages[i], g, start, h)
            else:
                pulled[s] = kernel.pull(i, stages[i], g, torch.zeros_like(p), 1.0)
                start = torch.add(start, pulled[s], alpha=h)
            costates.append(g)
        p = start
        rows.append(p)
    return rows[::-1], costates[::-1]


def _moved(base: Tensor, coefficients: tuple | list, slopes: list[Tensor], h: float) -> Tensor:
    for c, slope in zip(coefficients, slopes, strict=True):
        if c:
            base = torch.add(base, slope, alpha=h * c)
    return base


def _cut(n: int, most: int) -> list[slice]:
    """Cut n into equal parts of at most so many."""
    count = -(-n // most)
    return [slice(n * b // count, n * (b + 1) // count) for b in range(count)]


def sweep(
    batch: Sequence[int],
    layers: Sequence[Layers],
    data: Sequence[Tensor],
    walk: Callable[..., Sequence[Tensor]],
    *,
    back: bool = False,
    gathers: bool = False,
    laplacian: bool = False,
) -> list[Tensor]:
    r"""Walk through layers with a block of samples at a time.

    A driver, which trusts its arguments.

    Parameters
    ----------
    batch : torch.Size
        The batch dimensions.
    layers : sequence of Layers
        What is walked through.
    data : sequence of Tensor
        What belongs to the samples, (batch..., n, c) or (batch..., I, n, c); the first are
        states.
    walk : callable
        Takes a kernel for each of the layers and the data of some samples, and returns
        tensors that have the samples in the last dimension but one.
    back : bool
        Whether the walk comes back through the states it has seen on the way up.
    gathers, laplacian : bool
        Whether gradients and Laplacians at the particles are wanted.

    Returns
    -------
    list of Tensor
        What the walk returned, for all samples; then, if wanted, for each of the layers the
        gradient (batch..., I, N, k), the value and the Laplacian (batch..., I, N).
    """
    size, first = math.prod(batch), len(batch)

    def flat(v: Tensor, inner: int) -> Tensor:
        return v.expand(*batch, *v.shape[v.ndim - inner :]).reshape(
            size, *v.shape[v.ndim - inner :]
        )

    laws = [(part.block, flat(part.theta, 3), flat(part.weights, 2)) for part in layers]
    data = [flat(v, v.ndim - first) for v in data]
    n, textbook = data[0].shape[-2], _textbook(laws, data)
    together, rows = (size, n) if textbook else _share(laws, n, back)

    def run(some: slice | int) -> list[Tensor]:
        cuts = _cut(n, rows)
        most = max(part.stop - part.start for part in cuts)
        kernels: list[Any] = [
            Textbook(block, theta[some], weights[some], gathers, laplacian)
            if textbook
            else Neurons(
                block, theta[some], weights[some], data[0][some], most, back, gathers, laplacian
            )
            for block, theta, weights in laws
        ]
        parts = []
        for samples in cuts:
            for kernel in kernels:
                kernel.resize(samples.stop - samples.start)
            parts.append(walk(*kernels, *(v[some][..., samples, :] for v in data)))
        found = [_joined(v, -2) for v in zip(*parts, strict=True)]
        return found + [v for kernel in kernels * gathers for v in kernel.gathered()]

    if size == 1:
        return [v.reshape(*batch, *v.shape) for v in run(0)]
    if together == 1:
        found = [torch.stack(v) for v in zip(*map(run, range(size)), strict=True)]
    else:
        found = [_joined(v, 0) for v in zip(*map(run, _cut(size, together)), strict=True)]
    return [v.reshape(*batch, *v.shape[1:]) for v in found]


def _joined(parts: Sequence[Tensor], axis: int) -> Tensor:
    return torch.cat(parts, axis) if len(parts) > 1 else parts[0]


def _textbook(laws: list[tuple[Block, Tensor, Tensor]], data: list[Tensor]) -> bool:
    """Whether a block is no sum of neurons, or a derivative is being taken."""
    tensors = [v for _, *law in laws for v in law] + data
    return any(map(watched, tensors)) or not all(block.group for block, *_ in laws)


def watched(v: Tensor) -> bool:
    """Whether autograd follows a tensor, in reverse, forward or by torch.func."""
    return (
        (v.requires_grad and torch.is_grad_enabled())
        or torch._C._functorch.is_functorch_wrapped_tensor(v)
        or forward_ad.unpack_dual(v).tangent is not None
    )


def _share(laws: list[tuple[Block, Tensor, Tensor]], n: int, back: bool) -> tuple[int, int]:
    """Return how many problems, and of one problem how many samples, go together."""
    widths = [theta.shape[-2] * block.group for block, theta, _ in laws]
    depths = [theta.shape[-3] if back else 1 for _, theta, _ in laws]
    sample = laws[0][1].element_size() * sum(map(math.prod, zip(widths, depths, strict=True)))
    together = 1 if n * max(widths) > _SMALL else max(1, _ROOM // (n * sample))
    rows = _MOST
    while rows > _FEWEST and rows * sample > _ROOM:
        rows //= 2
    return together, rows if together == 1 else n


class Network(NamedTuple):
    r"""The layers of a discrete flow, which states go up through and costates come down.

    A kernel, which trusts its arguments; ``mflib.ode.network`` makes it from a law.

    Attributes
    ----------
    block : Block
        The residual block.
    theta, weights : Tensor
        Particles (..., L, S, N, k) and weights (..., L, S, N) at the stages.
    method : str
        The one-step method.
    """

    block: Block
    theta: Tensor
    weights: Tensor
    method: str

    @property
    def table(self) -> Tableau:
        """The method's coefficients."""
        return tableau(self.method)

    @property
    def steps(self) -> int:
        """The number L of steps."""
        return self.theta.shape[-4]

    @property
    def layers(self) -> Layers:
        """The stages one after the other."""
        return Layers(self.block, self.theta.flatten(-4, -3), self.weights.flatten(-3, -2))

    def flow(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return states (..., L+1, n, d) and stages (..., L, S, n, d), from x (..., n, d)."""

        def walk(kernel: Kernel, x: Tensor) -> list[Tensor]:
            return [self._path(v) for v in forward(kernel, kernel.lift(x), self.table, self.steps)]

        batch = x.shape[:-2]
        X, stages = sweep(batch, [self.layers], [x], walk)
        return X, self._staged(stages)

    def adjoint(self, stages: Tensor, p1: Tensor) -> tuple[Tensor, Tensor]:
        """Return adjoints and costates that end in p1, along known stages."""

        def walk(kernel: Kernel, stages: Tensor, p1: Tensor) -> list[Tensor]:
            seen = [kernel.lift(z) for z in stages.unbind(-3)]
            return [self._path(v) for v in backward(kernel, seen, p1.mT, self.table)]

        data = [stages.flatten(-4, -3), p1]
        p, costates = sweep(p1.shape[:-2], [self.layers], data, walk)
        return p, self._staged(costates)

    def gather(self, stages: Tensor, costates: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return gradient and value at the particles, along known stages and costates.

        Sums over the samples and a step's stages, (..., L, N, k) and (..., L, N).
        """

        def walk(kernel: Kernel, stages: Tensor, costates: Tensor) -> tuple:
            for i, (z, g) in enumerate(zip(stages.unbind(-3), costates.unbind(-3), strict=True)):
                kernel.slope(i, kernel.lift(z), g.mT)
            return ()

        data = [v.flatten(-4, -3) for v in (stages, costates)]
        found = sweep(stages.shape[:-4], [self.layers], data, walk, gathers=True)
        return self.of_steps(*found)

    def of_steps(self, gradient: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient and value, (..., L, N, k) and (..., L, N), summed over the stages."""
        if len(self.table.b) == 1:
            return gradient, value
        return self._staged(gradient).sum(-3), self._staged(value, 2).sum(-2)

    def round_trip(
        self,
        x: Tensor,
        data: Sequence[Tensor],
        ends: Callable[..., tuple[Tensor, ...]],
        heads: Sequence[Layers] = (),
        keep: bool = False,
        laplacian: bool = False,
    ) -> list[Tensor]:
        r"""Go up and come down in one sweep.

        Parameters
        ----------
        x : Tensor
            Initial states (..., n, d), with all batch dimensions.
        data : sequence of Tensor
            Numbers that belong to the samples, (..., n).
        ends : callable
            What happens at depth 1: takes states (..., d+1, m), a row (..., 1, m) of each of
            the data and a kernel of each of the heads; returns costates (..., d, m) and
            further rows.
        heads : sequence of Layers
            Layers at depth 1.
        keep : bool
            Whether to return states and adjoints instead of sums at the particles.
        laplacian : bool
            Whether the Laplacian is one of the sums.

        Returns
        -------
        list of Tensor
            The further rows, (..., n) each; then states, stages, adjoints and costates; or,
            for the network and for each of the heads, gradient, value and Laplacian as in
            :func:`sweep`.
        """

        def walk(kernel: Kernel, *rest: Any) -> list[Tensor]:
            tops, (x, *rows) = rest[: len(heads)], rest[len(heads) :]
            states, stages = forward(kernel, kernel.lift(x), self.table, self.steps)
            p1, *more = ends(states[-1], *(v.mT for v in rows), *tops)
            rows, costates = backward(kernel, stages, p1, self.table)
            kept = [self._path(v) for v in (states, stages, rows, costates)] if keep else []
            return [v.mT for v in more] + kept

        batch = x.shape[:-2]
        columns = [v.expand(*batch, x.shape[-2]).unsqueeze(-1) for v in data]
        found = sweep(
            batch,
            [self.layers, *heads],
            [x, *columns],
            walk,
            back=True,
            gathers=not keep,
            laplacian=laplacian,
        )
        if keep:
            *more, X, stages, p, costates = found
            kept = [X, self._staged(stages), p, self._staged(costates)]
            return [v.squeeze(-1) for v in more] + kept
        more = len(found) - (2 + laplacian) * (1 + len(heads))
        return [v.squeeze(-1) for v in found[:more]] + found[more:]

    def _path(self, states: list[Tensor]) -> Tensor:
        """Return states or costates as samples, (..., I, m, d), without the row of ones."""
        return torch.stack([z[..., : self.block.d, :].mT for z in states], -3)

    def _staged(self, v: Tensor, inner: int = 3) -> Tensor:
        return v.unflatten(-inner, self.theta.shape[-4:-2])
