r"""The same vanilla networks, written the ordinary way: the reference and the baseline."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mflib.cifar.architectures import Architecture, Conv
from mflib.cifar.networks import Network

__all__ = ["PlainNetwork", "copy_parameters"]


def _conv(conv: Conv) -> nn.Conv2d:
    return nn.Conv2d(
        conv.cin,
        conv.cout,
        conv.kernel,
        conv.stride,
        conv.kernel // 2,
        groups=conv.groups,
        bias=False,
    )


class _Block(nn.Module):
    def __init__(self, convs: tuple[Conv, ...], shortcut: Conv | None) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(conv.cin) for conv in convs)
        self.convs = nn.ModuleList(_conv(conv) for conv in convs)
        self.shortcut = None if shortcut is None else _conv(shortcut)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norms[0](x))
        if self.shortcut is not None:
            x = self.shortcut(h)
        h = self.convs[0](h)
        for norm, conv in zip(self.norms[1:], self.convs[1:], strict=True):
            h = conv(torch.relu(norm(h)))
        return x + h


class PlainNetwork(nn.Module):
    """A pre-activation residual network of ordinary modules.

    Parameters
    ----------
    arch : Architecture
        The shapes.
    """

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.stem, blocks = _conv(arch.stem), []
        for stage in arch.stages:
            if stage.first:
                blocks.append(_Block(stage.first, stage.shortcut))
            blocks += [_Block(stage.branch, None) for _ in range(stage.movable)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.BatchNorm2d(arch.width)
        self.head = nn.Linear(arch.width, arch.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, shape (B, classes)."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(torch.relu(self.norm(x)).mean((2, 3)))


def copy_parameters(net: Network, theta: Tensor, module: PlainNetwork) -> None:
    """Copy a flat parameter vector of `net` into the modules, in place."""
    parts, blocks = net.views(theta.detach()), iter(module.blocks)
    with torch.no_grad():
        module.stem.weight.copy_(parts["stem"][0][0])
        for s, stage in enumerate(net.arch.stages):
            for key, rows in ((f"first{s}", bool(stage.first)), (f"stack{s}", stage.movable)):
                for row in range(int(rows)):
                    block, tensors = next(blocks), [t[row] for t in parts[key]]
                    n = len(block.convs)
                    for j in range(n):
                        block.convs[j].weight.copy_(tensors[j])
                        block.norms[j].weight.copy_(tensors[n + 2 * j])
                        block.norms[j].bias.copy_(tensors[n + 2 * j + 1])
                    if block.shortcut is not None:
                        block.shortcut.weight.copy_(tensors[-1])
        weight, bias, gain, offset = (t[0] for t in parts["head"])
        module.head.weight.copy_(weight)
        module.head.bias.copy_(bias)
        module.norm.weight.copy_(gain)
        module.norm.bias.copy_(offset)
