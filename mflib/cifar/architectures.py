"""The shapes of the networks: convolutions, stages, movable blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from . import CifarError

__all__ = ["NETWORKS", "Architecture", "Conv", "Stage", "architecture", "residual"]


@dataclass(frozen=True)
class Conv:
    """A bias-free convolution with zero padding that keeps the size at stride 1."""

    cin: int
    cout: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the weight."""
        return (self.cout, self.cin // self.groups, self.kernel, self.kernel)

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        if self.kernel == 1 < self.stride and self.cin // self.groups < 8 and not x.is_cuda:
            # oneDNN's backward pass of this case, channels last, writes past its buffer on
            # processors without AVX-512 (torch 2.13; the process aborts, or worse). To take
            # every other pixel first is the same convolution, of stride 1.
            return F.conv2d(x[:, :, :: self.stride, :: self.stride], weight, groups=self.groups)
        return F.conv2d(x, weight, None, self.stride, self.kernel // 2, 1, self.groups)


@dataclass(frozen=True)
class Stage:
    """A stage: perhaps a width-changing block, then `movable` blocks of one shape."""

    first: tuple[Conv, ...]
    shortcut: Conv | None
    branch: tuple[Conv, ...]
    movable: int


@dataclass(frozen=True)
class Architecture:
    """The shapes of a network; `size` is the side of the images."""

    name: str
    stem: Conv
    stages: tuple[Stage, ...]
    classes: int
    size: int = 32

    @property
    def movable(self) -> tuple[int, ...]:
        """Movable blocks a stage."""
        return tuple(stage.movable for stage in self.stages)

    @property
    def width(self) -> int:
        """Channels before the head."""
        return self.stages[-1].branch[-1].cout

    @property
    def macs(self) -> int:
        """Multiply-adds of one image, forward."""
        total, side = 0, self.size
        for stage in (None, *self.stages):
            convs = (self.stem,) if stage is None else stage.first
            for conv in convs:
                side //= conv.stride
                total += math.prod(conv.shape) * side**2
            if stage is not None:
                for conv in stage.branch * stage.movable:
                    total += math.prod(conv.shape) * side**2
                if stage.shortcut is not None:
                    total += math.prod(stage.shortcut.shape) * side**2
        return total + self.width * self.classes


def residual(
    name: str,
    blocks: tuple[int, ...],
    widths: tuple[int, ...],
    classes: int,
    *,
    inner: tuple[int, ...] | None = None,
    stem: int | None = None,
    groups: int = 1,
    channels: int = 3,
    size: int = 32,
) -> Architecture:
    r"""Return a pre-activation residual network.

    Parameters
    ----------
    name : str
        Its name.
    blocks : tuple of int
        Blocks a stage, the width-changing one included.
    widths : tuple of int
        Channels of the stages' states.
    classes : int
        Outputs.
    inner : tuple of int, optional
        Channels inside a bottleneck (1x1, 3x3, 1x1); without it blocks are basic
        (3x3, 3x3).
    stem : int, optional
        Channels of the stem, default ``widths[0]``.
    groups : int
        Of the bottleneck's 3x3 convolution.
    channels, size : int
        Of the images.

    Returns
    -------
    Architecture
    """
    state, stages = widths[0] if stem is None else stem, []
    start = Conv(channels, state)
    for index, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        mid = width if inner is None else inner[index]

        def branch(cin, stride, width=width, mid=mid):
            if inner is None:
                return (Conv(cin, width, 3, stride), Conv(width, width))
            return (Conv(cin, mid, 1), Conv(mid, mid, 3, stride, groups), Conv(mid, width, 1))

        stride = 1 if index == 0 else 2
        changes = stride != 1 or state != width
        first = branch(state, stride) if changes else ()
        shortcut = Conv(state, width, 1, stride) if changes else None
        stages.append(Stage(first, shortcut, branch(width, 1), count - changes))
        state = width
    return Architecture(name, start, tuple(stages), classes, size)


def _basic(depth: int):
    n = (depth - 2) // 6
    return lambda name, k: residual(name, (n, n, n), (16, 32, 64), k)


def _resnext(groups: int):
    inner = (64 * groups, 128 * groups, 256 * groups)
    return lambda name, k: residual(
        name, (3, 3, 3), (256, 512, 1024), k, inner=inner, stem=64, groups=groups
    )


def _small(n: int):
    return lambda name, k: residual(name, (n, n, n), (8, 16, 32), k, size=16)


#: The networks of Table 1 and, for averaged images, of the small protocol, by name.
NETWORKS = {
    **{f"small-n{n}": _small(n) for n in (3, 5, 7, 9)},
    **{f"resnet{depth}": _basic(depth) for depth in (20, 32, 44, 56, 110)},
    "resnet164": lambda name, k: residual(
        name, (18, 18, 18), (64, 128, 256), k, inner=(16, 32, 64), stem=16
    ),
    "resnext29-8x64d": _resnext(8),
    "resnext29-16x64d": _resnext(16),
}


def architecture(name: str, classes: int) -> Architecture:
    """Return a network by its name.

    Raises
    ------
    CifarError
        If the name is unknown.
    """
    if name not in NETWORKS:
        raise CifarError(f"net: {name!r} is none of {', '.join(NETWORKS)}")
    return NETWORKS[name](name, classes)
