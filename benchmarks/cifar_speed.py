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
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plain_network import PlainNetwork  # noqa: E402

from mflib.cifar.architectures import architecture  # noqa: E402
from mflib.cifar.data import DATASETS  # noqa: E402
from mflib.cifar.graphs import use_graphs  # noqa: E402
from mflib.cifar.group import pick_device  # noqa: E402
from mflib.cifar.recipe import config  # noqa: E402
from mflib.cifar.records import SCHEMA, circumstances, write  # noqa: E402
from mflib.cifar.store import Store  # noqa: E402
from mflib.cifar.training import Run  # noqa: E402

KINDS = {
    "convolutions": ("conv",),
    "batch norm": ("batch_norm",),
    "ReLU": ("relu", "threshold", "clamp"),
}


class Images(torch.utils.data.Dataset):
    """Images one at a time: pad, crop, flip and normalise, as tutorials do."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, pad: int) -> None:
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        self.labels, self.pad, self.size = torch.from_numpy(labels), pad, images.shape[1]
        self.mean = torch.tensor(DATASETS["cifar10"].mean)[:, None, None]
        self.std = torch.tensor(DATASETS["cifar10"].std)[:, None, None]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        x = F.pad(self.images[i], (self.pad,) * 4)
        top, left = torch.randint(0, 2 * self.pad + 1, (2,)).tolist()
        x = x[:, top : top + self.size, left : left + self.size]
        if torch.rand(()) < 0.5:
            x = x.flip(2)
        return (x.float() / 255 - self.mean) / self.std, self.labels[i]


class PlainLoop:
    """Modules, torch.optim.SGD and batches from an iterator that starts over."""

    def __init__(self, run: Run, batches: Callable[[], Any], bf16: bool) -> None:
        self.device, self.bf16 = run.device, bf16
        self.net = PlainNetwork(run.net.arch).to(run.device)
        self.optimiser = torch.optim.SGD(
            self.net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4
        )
        self.batches, self._left = batches, iter(())

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
        return len(y)


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
    model, arch = config(net, "vanilla", 0), architecture(net, 10)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, arch.size, arch.size, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, images)
    ten = DATASETS["cifar10"]
    store = Store(
        pixels,
        labels,
        pixels[:100],
        labels[:100],
        mean=ten.mean,
        std=ten.std,
        classes=10,
        device=where,
        pad=model.pad,
    )
    runs = [
        Run(config(net, how, seed, precision=precision, epochs=10**6), store)
        for seed in range(pairs)
        for how in ("vanilla", "mean-field")
    ]
    for run in runs:
        use_graphs(run)

    def trainer(chosen: list[Run]) -> Callable[[], int]:
        def step() -> int:
            for run in chosen:
                if run.at_end:
                    run.close_epoch(None)
            return sum(run.step() for run in chosen)

        return step

    loader = torch.utils.data.DataLoader(
        Images(pixels, labels, model.pad),
        128,
        shuffle=True,
        pin_memory=cuda,
        drop_last=True,
        num_workers=min(8, os.cpu_count() or 1) if cuda else 0,
        persistent_workers=cuda,
    )

    def arrays() -> Any:
        run = runs[0]
        order = torch.randperm(images, device=where)
        for part in order.split(128):
            batch = store.batch(part, run.crop[part], run.flip[part], torch.float32)
            yield batch, store.labels[part]

    loops = {
        "DataLoader": PlainLoop(runs[0], lambda: loader, cuda).step,
        "arrays": PlainLoop(runs[0], arrays, cuda).step,
        "alone": trainer(runs[1:2]),
        "together": trainer(runs),
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
        "runs_together": len(runs),
        "rounds": rounds,
        "seconds_each": seconds,
        "images_per_second": {key: median(values) for key, values in rates.items()},
        "ratio": {key: median(values) for key, values in ratios.items()},
        "ratio_range": {key: [min(v), max(v)] for key, v in ratios.items()},
        "time_shares": time_shares(runs[1]),
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
