"""Training step of a small residual network on images, on a CPU.

Batches of 128 in single precision, all from the same order, crops and flips. ``eager,
DataLoader`` is the usual loop: modules, torch.optim.SGD, images padded, cropped, flipped and
normalised one by one; ``channels-last`` is the same loop with weights laid out channels last and
the trainer's own batches. A call takes two steps and returns their losses, so that the update is
compared as well; the mean-field network is another one than the peers', and costs no more.
"""

from __future__ import annotations

import torch

from ..cifar_speed import PlainLoop, arrays, loader, runs
from ..harness import Case

SIZES = [("small-n3", "vanilla", 12_800), ("small-n3", "mean-field", 12_800)]
TOY = [("small-n3", "vanilla", 256)]


def two_steps(run):
    """The trainer's steps; a loss is what a step adds to the epoch's total."""

    def step():
        if run.at_end:
            run.close_epoch(None)
        before = run.totals[0].clone()
        size = run.step()
        return (run.totals[0] - before) / size

    return lambda: torch.stack([step(), step()])


def plain_steps(run, batches, layout):
    loop = PlainLoop(run, batches, bf16=False, layout=layout)

    def step():
        loop.step()
        return loop.loss

    return lambda: torch.stack([step(), step()])


def case(size):
    net, how, images = size
    (run,), store = runs(net, [(0, how)], torch.device("cpu"), images)
    kept = torch.contiguous_format
    return Case(
        f"{net} {how}",
        two_steps(run),
        {
            "eager, DataLoader": plain_steps(run, lambda: loader(run, store), kept),
            "channels-last": plain_steps(run, lambda: arrays(run, store), torch.channels_last),
        },
        tolerance=1e-4,  # single precision, summed in another order
        differs=() if how == "vanilla" else ("eager, DataLoader", "channels-last"),
        goals={"eager, DataLoader": 1.2, "channels-last": 1.0},
    )


def cases(toy):
    return [lambda size=size: case(size) for size in (TOY if toy else SIZES)]
