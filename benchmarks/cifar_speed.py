r"""Images per second of the trainer beside a plain eager loop, measured in the same run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import CifarError
from .architectures import Architecture, architecture
from .data import DATASETS
from .nets import Network
from .plain import PlainNetwork
from .recipe import config
from .records import SCHEMA, circumstances
from .runner import pick_device
from .store import Store
from .train import Run

__all__ = [
    "EagerLoop", "benchmark", "machine_rates", "markdown", "profile", "read", "time_shares",
    "traffic",
]


class _Images(torch.utils.data.Dataset):
    """Images one at a time: pad, crop, flip and normalise, as tutorials do."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        self.labels = torch.from_numpy(labels)
        self.mean = torch.tensor(DATASETS["cifar10"].mean)[:, None, None]
        self.std = torch.tensor(DATASETS["cifar10"].std)[:, None, None]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        x = F.pad(self.images[i], (4, 4, 4, 4))
        top, left = torch.randint(0, 9, (2,)).tolist()
        x = x[:, top : top + 32, left : left + 32]
        if torch.rand(()) < 0.5:
            x = x.flip(2)
        return (x.float() / 255 - self.mean) / self.std, self.labels[i]


class EagerLoop:
    """The usual loop: a module, a DataLoader, torch.optim.SGD.

    Parameters
    ----------
    arch : Architecture
        The network.
    images, labels : ndarray
        Training data, (N, 32, 32, 3) uint8 and (N,).
    device : torch.device
        Where to train.
    bf16 : bool
        Train under autocast.
    """

    def __init__(
        self, arch: Architecture, images: np.ndarray, labels: np.ndarray,
        device: torch.device, bf16: bool = False,
    ) -> None:
        self.device, self.bf16 = device, bf16
        self.net = PlainNetwork(arch).to(device)
        self.optimiser = torch.optim.SGD(
            self.net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4
        )
        cuda = device.type == "cuda"
        self.loader = torch.utils.data.DataLoader(
            _Images(images, labels), 128, shuffle=True, pin_memory=cuda, drop_last=True,
            num_workers=min(8, os.cpu_count() or 1) if cuda else 0,
            persistent_workers=cuda,
        )
        self._batches = iter(())

    def step(self) -> int:
        """Train on the loader's next batch and return its number of images."""
        batch = next(self._batches, None)
        if batch is None:
            self._batches = iter(self.loader)
            batch = next(self._batches)
        x, y = (part.to(self.device, non_blocking=True) for part in batch)
        self.optimiser.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = F.cross_entropy(self.net(x), y)
        loss.backward()
        self.optimiser.step()
        return len(y)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _rate(step: Callable[[], int], device: torch.device, seconds: float) -> float:
    """Images per second of repeated steps for about `seconds`."""
    _wait(device)
    images, count, began = 0, 0, time.perf_counter()
    while count < 1 or time.perf_counter() - began < seconds:
        images += step()
        count += 1
        if count % 16 == 0:
            _wait(device)
    _wait(device)
    return images / (time.perf_counter() - began)


def machine_rates(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Measure what the device reaches: matrix TFLOP/s and memory GB/s of a copy."""
    big = device.type == "cuda"
    n, length = (8192, 1 << 30) if big else (1024, 1 << 26)
    a = torch.randn(n, n, device=device).to(dtype)
    source = torch.empty(length, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def seconds(work: Callable[[], Any]) -> float:
        work()
        times = []
        for _ in range(5):
            _wait(device)
            began = time.perf_counter()
            work()
            _wait(device)
            times.append(time.perf_counter() - began)
        return min(times)

    return {
        "matrix_tflops": 2.0 * n**3 / seconds(lambda: a @ a) / 1e12,
        "memory_gb_s": 2.0 * length / seconds(lambda: target.copy_(source)) / 1e9,
    }


def traffic(net: Network, bytes_per_value: int) -> float:
    r"""Return a model of the memory traffic of one image in a training step, in bytes.

    Each batch norm with its ReLU reads its input twice and writes once forward, reads
    input, output and gradient and writes a gradient (twice over) backward; each
    convolution reads and writes once forward and three times that backward; a residual
    sum reads two and writes one. Nothing is assumed to stay in the cache.
    """
    arch, side = net.arch, net.arch.size
    values = 4 * (arch.stem.cin + arch.stem.cout) * side**2
    for stage in arch.stages:
        for convs in (stage.first, *([stage.branch] * stage.movable)):
            for conv in convs:
                before = conv.cin * side**2
                side //= conv.stride
                values += 11 * before + 4 * (before + conv.cout * side**2)
            if convs:
                values += 5 * convs[-1].cout * side**2
    return float(values * bytes_per_value)


def benchmark(
    name: str = "resnet20", pairs: int = 8, device: str = "auto",
    precision: str | None = None, seconds: float = 5.0, rounds: int = 3,
) -> dict[str, Any]:
    r"""Measure the trainer alone, several runs together, and the eager loop, by turns.

    Parameters
    ----------
    name : str
        The network.
    pairs : int
        Pairs (vanilla, mean-field) advanced together.
    device, precision : str
        Default: the GPU with bf16 where there is one, else the CPU with fp32.
    seconds : float
        For one measurement.
    rounds : int
        Measurements of each, interleaved; the medians count.

    Returns
    -------
    dict
        Images per second, ratios to the eager loop (medians over the rounds), where a
        step's time goes, the fractions of the device's measured matrix rate and copy
        bandwidth that the step reaches, and the provenance of a record.
    """
    began = time.perf_counter()
    where = pick_device(device)
    precision = precision or ("bf16" if where.type == "cuda" else "fp32")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12_800, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, len(images))
    store = Store(
        images, labels, images[:1000], labels[:1000], mean=DATASETS["cifar10"].mean,
        std=DATASETS["cifar10"].std, classes=10, device=where,
    )
    runs = [
        Run(config(name, how, seed, precision=precision, epochs=10**6), store)
        for seed in range(pairs)
        for how in ("vanilla", "mean-field")
    ]

    def together(chosen: list[Run]) -> Callable[[], int]:
        def step() -> int:
            for run in chosen:
                if run.at_end:
                    run.close_epoch(None)
            return sum(run.step() for run in chosen)
        return step

    arch = architecture(name, 10)
    loops = {
        "eager": EagerLoop(arch, images, labels, where, precision == "bf16").step,
        "alone": together(runs[1:2]),
        "together": together(runs),
    }
    for step in loops.values():
        step()
    rates: dict[str, list[float]] = {key: [] for key in loops}
    for _ in range(rounds):
        for key, step in loops.items():
            rates[key].append(_rate(step, where, seconds))
    found = {key: median(values) for key, values in rates.items()}
    ratios = {
        key: [a / b for a, b in zip(rates[key], rates["eager"], strict=True)]
        for key in ("alone", "together")
    }
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    peak = machine_rates(where, dtype)
    net, width = runs[0].net, torch.finfo(dtype).bits // 8
    best = max(found["alone"], found["together"])
    return {
        "schema": SCHEMA,
        "net": name,
        **circumstances(where),
        "precision": precision,
        "runs_together": len(runs),
        "seeds": list(range(pairs)),
        "rounds": rounds,
        "seconds_each": seconds,
        "images_per_second": found,
        "ratio_alone": median(ratios["alone"]),
        "ratio_together": median(ratios["together"]),
        "ratios_by_round": ratios,
        "time_shares": time_shares(runs[1]),
        **peak,
        "fraction_of_matrix_rate": 6.0 * arch.macs * best / (peak["matrix_tflops"] * 1e12),
        "fraction_of_bandwidth_modelled":
            traffic(net, width) * best / (peak["memory_gb_s"] * 1e9),
        "hours_for_16_runs_of_160_epochs": 16 * 160 * 50_000 / best / 3600,
        "wall_seconds": time.perf_counter() - began,
    }


def read(folder: str | Path) -> list[dict[str, Any]]:
    """Return the measurements in the subfolder ``bench`` of a folder of records.

    Raises
    ------
    CifarError
        If a file is no measurement of this version.
    """
    found = []
    for path in sorted((Path(folder) / "bench").glob("*.json")):
        try:
            measured = json.loads(path.read_text())
            known = measured["schema"] == SCHEMA and bool(measured["images_per_second"])
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise CifarError(f"{path}: is no measurement of this version; move it away")
        found.append(measured)
    return found


def markdown(found: list[dict[str, Any]]) -> str:
    """Return a Markdown table: images per second, ratios, and what a step reaches.

    The last three columns are the share of a step's time that convolutions take, and the
    shares of the measured matrix rate and (by the model of :func:`traffic`) of the measured
    copy bandwidth.
    """
    lines = ["| network | device | precision | eager loop | one run | runs together | "
             "ratio, one run | ratio, together | convolutions | matrix rate | memory |",
             "|" + " --- |" * 11]
    for m in found:
        rate = m["images_per_second"]
        lines.append(
            f"| {m['net']} | {m['device']} | {m['precision']} | {rate['eager']:,.0f} | "
            f"{rate['alone']:,.0f} | {rate['together']:,.0f} ({m['runs_together']} runs) | "
            f"{m['ratio_alone']:.2f} | {m['ratio_together']:.2f} | "
            f"{100 * m['time_shares']['convolutions']:.0f} % | "
            f"{100 * m['fraction_of_matrix_rate']:.0f} % | "
            f"{100 * m['fraction_of_bandwidth_modelled']:.0f} % |"
        )
    return "\n".join(lines)


_KINDS = {"convolutions": ("conv",), "batch norm": ("batch_norm",),
          "ReLU": ("relu", "threshold", "clamp")}


def time_shares(run: Run, steps: int = 2) -> dict[str, float]:
    """Return which share of a step's computing time each kind of operation takes."""
    found = _profiled(run, steps)
    cuda = run.device.type == "cuda"
    spent = dict.fromkeys([*_KINDS, "the rest"], 0.0)
    for event in found.key_averages():
        time = event.self_device_time_total if cuda else event.self_cpu_time_total
        kind = next(
            (kind for kind, words in _KINDS.items() if any(w in event.key for w in words)),
            "the rest",
        )
        if event.key.startswith("aten::"):
            spent[kind] += time
    total = sum(spent.values()) or 1.0
    return {kind: time / total for kind, time in spent.items()}


def _profiled(run: Run, steps: int) -> Any:
    if run.at_end:
        run.close_epoch(None)
    run.step()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if run.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as found:
        for _ in range(steps):
            run.position.zero_()
            run._step(run.cfg.batch)
        _wait(run.device)
    return found


def profile(name: str = "resnet20", device: str = "auto", steps: int = 3) -> str:
    """Return the operations that take most of the time of eager steps, as a table."""
    where = pick_device(device)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (128, 32, 32, 3), dtype=np.uint8)
    store = Store(
        images, rng.integers(0, 10, 128), images, rng.integers(0, 10, 128),
        mean=DATASETS["cifar10"].mean, std=DATASETS["cifar10"].std, classes=10,
        device=where,
    )
    cuda = where.type == "cuda"
    run = Run(config(name, "mean-field", 0, precision="bf16" if cuda else "fp32"), store)
    key = "self_device_time_total" if cuda else "self_cpu_time_total"
    return _profiled(run, steps).key_averages().table(sort_by=key, row_limit=12)
