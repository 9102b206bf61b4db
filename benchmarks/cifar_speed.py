r"""Images per second of the CIFAR trainer beside a plain loop, measured by turns in one run.

    python benchmarks/cifar_speed.py [--net small-n3] [--pairs 1] [--out FILE]

The plain loop is the usual one: modules, torch.optim.SGD, a DataLoader that pads, crops,
flips and normalises image by image; ``arrays`` is the same loop fed by the trainer's own
batches, so that the two ratios tell what the data and what the step contribute. On a CPU
time is processor time, so that other work of the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.plain_network import PlainNetwork, copy_parameters  # noqa: E402
from mflib.cifar.architectures import architecture  # noqa: E402
from mflib.cifar.data import DATASETS  # noqa: E402
from mflib.cifar.graphs import use_graphs  # noqa: E402
from mflib.cifar.group import pick_device  # noqa: E402
from mflib.cifar.recipe import config  # noqa: E402
from mflib.cifar.records import SCHEMA, circumstances, write  # noqa: E402
from mflib.cifar.store import Plan, Store, epoch_plan  # noqa: E402
from mflib.cifar.training import Run  # noqa: E402

KINDS = {
    "convolutions": ("conv",),
    "batch norm": ("batch_norm",),
    "ReLU": ("relu", "threshold", "clamp"),
}


class Images(torch.utils.data.Dataset):
    """An epoch's images one at a time: pad, crop, flip and normalise, as tutorials do."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, plan: Plan, pad: int) -> None:
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        self.labels, self.plan = torch.from_numpy(labels), plan
        self.pad, self.size = pad, images.shape[1]
        self.mean = torch.tensor(DATASETS["cifar10"].mean)[:, None, None]
        self.std = torch.tensor(DATASETS["cifar10"].std)[:, None, None]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        i = self.plan.order[place]
        x = F.pad(self.images[i], (self.pad,) * 4)
        top, left = self.plan.crop[place].tolist()
        x = x[:, top : top + self.size, left : left + self.size]
        if self.plan.flip[place]:
            x = x.flip(2)
        return (x.float() / 255 - self.mean) / self.std, self.labels[i]


class PlainLoop:
    """Modules, torch.optim.SGD and batches from an iterator that starts over.

    It begins with the parameters of the run, if that is a vanilla one.
    """

    def __init__(
        self,
        run: Run,
        batches: Callable[[], Any],
        bf16: bool,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.device, self.bf16 = run.device, bf16
        self.net = PlainNetwork(run.net.arch)
        copy_parameters(run.net, run.theta.cpu(), self.net)
        self.net.to(run.device, memory_format=layout)
        self.optimiser = torch.optim.SGD(
            self.net.parameters(), run.cfg.rate, run.cfg.momentum, weight_decay=run.cfg.weight_decay
        )
        self.batches, self._left, self.loss = batches, iter(()), torch.zeros(())

    def step(self) -> int:
        batch = next(self._left, None)
        if batch is None:
            self._left = iter(self.batches())
            batch = next(self._left)
        x, y = (part.to(self.device, non_blocking=True) for part in batch)
        self.optimiser.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = F.cross_entropy(self.net(x), y)
        loss.backward()
        self.optimiser.step()
        self.loss = loss.detach()
        return len(y)


@dataclass(frozen=True)
class Made:
    """Random images, and the store that the trainer draws its batches from."""

    pixels: np.ndarray
    labels: np.ndarray
    store: Store
    pad: int


def runs(
    net: str,
    which: list[tuple[int, str]],
    device: torch.device,
    images: int,
    precision: str = "fp32",
) -> tuple[list[Run], Made]:
    """Return runs (seed, kind of network) on random images: speed knows no content."""
    pad, arch = config(net, "vanilla", 0).pad, architecture(net, 10)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, arch.size, arch.size, 3), dtype=np.uint8)
    labels, ten = rng.integers(0, 10, images), DATASETS["cifar10"]
    store = Store(
        *(pixels, labels, pixels[:100], labels[:100]),
        mean=ten.mean,
        std=ten.std,
        classes=10,
        device=device,
        pad=pad,
    )
    made = [
        Run(config(net, how, seed, precision=precision, epochs=10**6), store) for seed, how in which
    ]
    return made, Made(pixels, labels, store, pad)


def plan(run: Run, made: Made) -> Plan:
    """Return the order, crops and flips of the run's first epoch."""
    return epoch_plan(len(made.pixels), run.cfg.seed, 0, made.pad, made.store.flip)


def loader(run: Run, made: Made) -> torch.utils.data.DataLoader:
    """Return the run's first epoch, image by image."""
    cuda = run.device.type == "cuda"
    return torch.utils.data.DataLoader(
        Images(made.pixels, made.labels, plan(run, made), made.pad),
        run.cfg.batch,
        pin_memory=cuda,
        drop_last=True,
        num_workers=min(8, os.cpu_count() or 1) if cuda else 0,
        persistent_workers=cuda,
    )


def arrays(run: Run, made: Made) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the batches of the run's first epoch as the trainer makes them."""
    parts = plan(run, made)
    index, crop, flip = (p.to(run.device) for p in (parts.order, parts.crop, parts.flip))
    for at in torch.arange(len(index), device=run.device).split(run.cfg.batch):
        yield (
            made.store.batch(index[at], crop[at], flip[at], torch.float32),
            made.store.labels[index[at]],
        )


def rate(step: Callable[[], int], device: torch.device, seconds: float) -> float:
    """Images per second of repeated steps for about `seconds`."""
    cuda = device.type == "cuda"
    now = time.perf_counter if cuda else time.process_time

    def wait() -> None:
        if cuda:
            torch.cuda.synchronize(device)

    wait()
    images, count, began = 0, 0, now()
    while count < 1 or now() - began < seconds:
        images += step()
        count += 1
        if count % 16 == 0:
            wait()
    wait()
    return images / (now() - began)


def time_shares(run: Run, steps: int = 3) -> dict[str, float]:
    """Which share of a written step's computing time each kind of operation takes."""
    cuda = run.device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] * cuda
    with torch.profiler.profile(activities=activities) as found:
        for _ in range(steps):
            run.position.zero_()
            run.eager(run.cfg.batch)
        run.wait()
    spent = dict.fromkeys([*KINDS, "the rest"], 0.0)
    for event in found.key_averages():
        kind = next(
            (kind for kind, words in KINDS.items() if any(word in event.key for word in words)),
            "the rest",
        )
        if event.key.startswith("aten::"):
            spent[kind] += event.self_device_time_total if cuda else event.self_cpu_time_total
    total = sum(spent.values()) or 1.0
    return {kind: part / total for kind, part in spent.items()}


def measure(
    net: str = "small-n3",
    pairs: int = 1,
    device: str = "auto",
    seconds: float = 3.0,
    rounds: int = 5,
    images: int = 12_800,
) -> dict[str, Any]:
    """Measure the trainer and the plain loops by turns; medians over the rounds count."""
    where = pick_device(device)
    cuda = where.type == "cuda"
    precision = "bf16" if cuda else "fp32"
    which = [(seed, how) for seed in range(pairs) for how in ("vanilla", "mean-field")]
    made, data = runs(net, which, where, images, precision)
    for run in made:
        use_graphs(run)

    def trainer(chosen: list[Run]) -> Callable[[], int]:
        def step() -> int:
            for run in chosen:
                if run.at_end:
                    run.close_epoch(None)
            return sum(run.step() for run in chosen)

        return step

    images_one_by_one = loader(made[0], data)
    loops = {
        "DataLoader": PlainLoop(made[0], lambda: images_one_by_one, cuda).step,
        "arrays": PlainLoop(made[0], lambda: arrays(made[0], data), cuda).step,
        "alone": trainer(made[1:2]),
        "together": trainer(made),
    }
    for step in loops.values():
        step()
    rates: dict[str, list[float]] = {key: [] for key in loops}
    for _ in range(rounds):
        for key, step in loops.items():
            rates[key].append(rate(step, where, seconds))
    ratios = {
        key: [a / b for a, b in zip(rates["alone"], rates[key], strict=True)]
        for key in ("DataLoader", "arrays")
    }
    return {
        "schema": SCHEMA,
        "net": net,
        **circumstances(where),
        "precision": precision,
        "runs_together": len(made),
        "rounds": rounds,
        "seconds_each": seconds,
        "images_per_second": {key: median(values) for key, values in rates.items()},
        "ratio": {key: median(values) for key, values in ratios.items()},
        "ratio_range": {key: [min(v), max(v)] for key, v in ratios.items()},
        "time_shares": time_shares(made[1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="small-n3")
    parser.add_argument("--pairs", type=int, default=1, help="pairs of runs together")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=3.0, help="for one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved measurements")
    parser.add_argument("--out", metavar="FILE", help="write the JSON to a file as well")
    options = parser.parse_args()
    found = measure(options.net, options.pairs, options.device, options.seconds, options.rounds)
    text = json.dumps(found, indent=1)
    if options.out:
        write(Path(options.out), text + "\n")
    print(text)


if __name__ == "__main__":
    main()
