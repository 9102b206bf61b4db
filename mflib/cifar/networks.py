r"""Pre-activation residual networks whose blocks are rows of one flat vector.

A stage holds :math:`m` blocks of one shape. All their convolutions and batch norms are
the rows of an (m, K) view of the flat parameter vector, so that a block can change its
place by a gather of rows, momentum and running statistics included. A residual step
:math:`X + h f(X)` is folded in the last convolution of :math:`f`: the mean-field network
costs no more than the plain one, and with :math:`h = 1` it is the same to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .architectures import Architecture, Conv, architecture

__all__ = ["Network", "network"]

_ALIGN = 64  # elements; keeps every weight aligned for tensor cores


def _padded(n: int) -> int:
    return -(-n // _ALIGN) * _ALIGN


@dataclass(frozen=True)
class _Pack:
    """How (rows, K) parameters hold a list of tensors, each one aligned."""

    shapes: tuple[tuple[int, ...], ...]
    rows: int = 1

    @cached_property
    def width(self) -> int:
        return sum(_padded(math.prod(shape)) for shape in self.shapes)

    def views(self, rows: Tensor) -> list[Tensor]:
        """Return the tensors, each (rows, ...); weights lie channels last."""
        parts = rows.split([_padded(math.prod(s)) for s in self.shapes], 1)
        out = []
        for part, shape in zip(parts, self.shapes, strict=True):
            part = part[:, : math.prod(shape)]
            if len(shape) == 4:
                o, i, kh, kw = shape
                part = part.unflatten(1, (o, kh, kw, i)).permute(0, 1, 4, 2, 3)
            else:
                part = part.unflatten(1, shape)
            out.append(part)
        return out


def _norm_shapes(convs: tuple[Conv, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple((conv.cin,) for conv in convs for _ in range(2))


def _by_block(stacks: list[Tensor]) -> list[tuple[Tensor, ...]]:
    """Turn stacks, whose rows are blocks, into one tuple of tensors a block."""
    return list(zip(*(stack.unbind(0) for stack in stacks), strict=True))


def _act(x: Tensor, norm: Sequence, stat: Sequence, training: bool) -> Tensor:
    """Batch norm and ReLU; `stat` (None, None) takes batch statistics and keeps none."""
    return F.relu(F.batch_norm(x, *stat, *norm, training, 0.1, 1e-5), inplace=True)


def _branch(
    convs: tuple[Conv, ...],
    x: Tensor,
    weights: Sequence,
    norms: Sequence,
    stats: Sequence,
    training: bool,
) -> Tensor:
    """The branch f(x) of one block: norm, ReLU and convolution, in turn."""
    for j, conv in enumerate(convs):
        pair = slice(2 * j, 2 * j + 2)
        x = conv(_act(x, norms[pair], stats[pair], training), weights[j])
    return x


class Network:
    r"""The functions of an architecture on flat vectors of parameters and statistics.

    Parameters
    ----------
    arch : Architecture
        The shapes.

    Attributes
    ----------
    parameters, statistics : int
        Lengths of the flat vectors, alignment included.
    stacks : list of tuple
        For each stage (movable, parameter slice, statistics slice).
    """

    def __init__(self, arch: Architecture) -> None:
        self.arch = arch
        self._theta: dict[str, _Pack] = {"stem": _Pack((arch.stem.shape,))}
        self._stats: dict[str, _Pack] = {}
        for s, stage in enumerate(arch.stages):
            for key, convs, rows in (
                (f"first{s}", stage.first, 1),
                (f"stack{s}", stage.branch, stage.movable),
            ):
                if convs and rows:
                    shapes = tuple(conv.shape for conv in convs) + _norm_shapes(convs)
                    if key.startswith("first"):
                        shapes += (stage.shortcut.shape,)
                    self._theta[key] = _Pack(shapes, rows)
                    self._stats[key] = _Pack(_norm_shapes(convs), rows)
        last = ((arch.width,), (arch.width,))
        self._theta["head"] = _Pack(((arch.classes, arch.width), (arch.classes,), *last))
        self._stats["head"] = _Pack(last)
        self.parameters = sum(p.rows * p.width for p in self._theta.values())
        self.statistics = sum(p.rows * p.width for p in self._stats.values())
        self.stacks = [
            (
                stage.movable,
                self._slice(self._theta, f"stack{s}"),
                self._slice(self._stats, f"stack{s}"),
            )
            for s, stage in enumerate(arch.stages)
        ]

    @staticmethod
    def _slice(packs: dict[str, _Pack], key: str) -> slice:
        start = 0
        for name, pack in packs.items():
            if name == key:
                return slice(start, start + pack.rows * pack.width)
            start += pack.rows * pack.width
        return slice(0, 0)

    @staticmethod
    def _views(packs: dict[str, _Pack], flat: Tensor) -> dict[str, list[Tensor]]:
        parts = flat.split([pack.rows * pack.width for pack in packs.values()])
        return {
            key: pack.views(part.view(pack.rows, pack.width))
            for (key, pack), part in zip(packs.items(), parts, strict=True)
        }

    def views(self, theta: Tensor) -> dict[str, list[Tensor]]:
        """Return the parameters by part: convolutions, then (gain, offset) pairs."""
        return self._views(self._theta, theta)

    def statistics_views(self, stats: Tensor) -> dict[str, list[Tensor]]:
        """Return the running (mean, variance) pairs by part."""
        return self._views(self._stats, stats)

    def initial(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        r"""Return He-initialised parameters (normal, fan out) and fresh statistics.

        Parameters
        ----------
        generator : torch.Generator
            On the CPU, so that a seed means the same on every device.

        Returns
        -------
        theta, stats : Tensor
            Flat vectors, float32.
        """
        theta, stats = torch.zeros(self.parameters), torch.zeros(self.statistics)
        for key, tensors in self.views(theta).items():
            convs = [t for t in tensors if t.ndim == 5]
            for weight in convs:
                fan_out = weight.shape[1] * weight.shape[3] * weight.shape[4]
                draw = torch.randn(weight.shape, generator=generator)
                weight.copy_(draw * math.sqrt(2.0 / fan_out))
            norms = tensors[2:] if key == "head" else [t for t in tensors if t.ndim == 2]
            for gain in norms[::2]:
                gain.fill_(1.0)
        weight = self.views(theta)["head"][0]
        bound = 1.0 / math.sqrt(self.arch.width)
        draw = torch.rand(weight.shape, generator=generator)
        weight.copy_((2.0 * draw - 1.0) * bound)
        for tensors in self.statistics_views(stats).values():
            for variance in tensors[1::2]:
                variance.fill_(1.0)
        return theta, stats

    def __call__(
        self,
        theta: Tensor,
        stats: Tensor,
        x: Tensor,
        steps: list[Tensor] | None = None,
        training: bool = True,
        states: list[list[Tensor]] | None = None,
    ) -> Tensor:
        r"""Return the logits.

        Parameters
        ----------
        theta, stats : Tensor
            Flat vectors; the statistics are updated in place when training.
        x : Tensor
            Shape (B, C, H, W); its dtype is the one the convolutions run in, batch
            norm and head keep the dtype of theta.
        steps : list of Tensor, optional
            For each stage the residual steps, shape (movable,); None means all 1.
        training : bool
            Batch statistics or running ones.
        states : list, optional
            Receives for each stage the states before, between and after its movable
            blocks, movable + 1 tensors.

        Returns
        -------
        Tensor
            Shape (B, classes), dtype of theta.
        """
        parts = self.views(theta)
        cast = parts if x.dtype == theta.dtype else self.views(theta.to(x.dtype))
        running = self.statistics_views(stats)

        def rows(key, convs):
            n, tensors = len(convs), parts[key]
            weights = list(cast[key][:n])
            return weights, tensors[n : 3 * n], running[key]

        x = self.arch.stem(x, cast["stem"][0][0])
        for s, stage in enumerate(self.arch.stages):
            if stage.first:
                weights, norm, stat = rows(f"first{s}", stage.first)
                norm, stat = [t[0] for t in norm], [t[0] for t in stat]
                h = _act(x, norm[:2], stat[:2], training)
                x = stage.shortcut(h, cast[f"first{s}"][-1][0])
                h = stage.first[0](h, weights[0][0])
                rest = [w[0] for w in weights[1:]]
                x = x + _branch(stage.first[1:], h, rest, norm[2:], stat[2:], training)
            if states is not None:
                states.append([x])
            if not stage.movable:
                continue
            weights, norm, stat = rows(f"stack{s}", stage.branch)
            if steps is not None:
                last = parts[f"stack{s}"][len(stage.branch) - 1]
                weights[-1] = (steps[s][:, None, None, None, None] * last).to(x.dtype)
            for block in zip(*(_by_block(ts) for ts in (weights, norm, stat)), strict=True):
                x = x + _branch(stage.branch, x, *block, training)
                if states is not None:
                    states[-1].append(x)
        gain, offset = (t[0] for t in parts["head"][2:])
        x = _act(x, (gain, offset), [t[0] for t in running["head"]], training)
        weight, bias = (t[0] for t in parts["head"][:2])
        return F.linear(x.mean((2, 3), dtype=theta.dtype), weight, bias)

    def branches(
        self, theta: Tensor, stage: int, dtype: torch.dtype
    ) -> list[Callable[[Tensor], Tensor]]:
        """Return the branches f of a stage's movable blocks, in their places.

        They run in `dtype` with the batch statistics of their argument, and leave the
        running statistics alone.
        """
        convs, n = self.arch.stages[stage].branch, len(self.arch.stages[stage].branch)
        tensors = self.views(theta)[f"stack{stage}"]
        weights = _by_block([t.to(dtype) for t in tensors[:n]])
        norms, stats = _by_block(tensors[n:]), [None] * (2 * n)
        return [
            partial(_branch, convs, weights=w, norms=norm, stats=stats, training=True)
            for w, norm in zip(weights, norms, strict=True)
        ]


@lru_cache(maxsize=None)
def network(name: str, classes: int) -> Network:
    """Return the functions of a named network."""
    return Network(architecture(name, classes))
