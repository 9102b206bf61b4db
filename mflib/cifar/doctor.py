"""What works on this machine, in about a minute: device, capture, bf16, speed, time a row."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from mflib import provenance

from . import CifarError
from .architectures import architecture
from .data import DATASETS, find
from .graphs import Graphs, use_graphs
from .group import pick_device
from .recipe import PROTOCOLS, config
from .store import Store
from .training import Run

__all__ = ["examine", "images_per_second", "noise", "report"]


def noise(net: str, device: torch.device | str = "cpu", images: int = 1280) -> Store:
    """Return random images of the size that a network takes; speed asks for no others."""
    rng, arch = np.random.default_rng(0), architecture(net, 10)
    pixels = rng.integers(0, 256, (images, arch.size, arch.size, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, images)
    ten = DATASETS["cifar10"]
    return Store(
        pixels,
        labels,
        pixels[:128],
        labels[:128],
        mean=ten.mean,
        std=ten.std,
        classes=10,
        device=device,
        pad=config(net, "vanilla", 0).pad,
    )


def images_per_second(run: Run, seconds: float) -> float:
    """Return the speed of a run's steps: per second of processor time on a CPU."""
    now = time.process_time if run.device.type == "cpu" else time.perf_counter

    def step() -> int:
        if run.at_end:
            run.close_epoch(None)
        return run.step()

    step(), step()
    run.wait()
    images, began = 0, now()
    while now() - began < seconds:
        images += step()
    run.wait()
    return images / (now() - began)


def examine(device: str = "auto", seconds: float = 5.0) -> dict[str, Any]:
    """Return what this machine can do, measured on the smallest network of each protocol.

    Parameters
    ----------
    device : str
        auto, cpu, cuda or cuda:N.
    seconds : float
        For one measurement of speed.

    Returns
    -------
    dict
        Device and versions; for (net, precision) images per second, or why it fails, and
        why steps are not captured, if so; the expected minutes of every row of the
        protocols, from the multiply-adds of its network.
    """
    where = pick_device(device)
    cuda = where.type == "cuda"
    found: dict[str, Any] = {
        "device": provenance.device(where),
        "threads": torch.get_num_threads(),
        "versions": provenance.versions("torch", "numpy"),
        "speed": {},
        "minutes": {},
    }
    for name, net in (("small", "small-n3"), ("full", "resnet20")):
        for precision in ("fp32", "bf16") if cuda else ("fp32",):
            about: dict[str, Any] = {"protocol": name, "captured": None}
            found["speed"][net, precision] = about
            try:
                cfg = config(net, "mean-field", 0, precision=precision, epochs=10**6)
                run = Run(cfg, noise(net, where))
                use_graphs(run)
                about["images_per_second"] = images_per_second(run, seconds)
                if isinstance(run.act, Graphs):
                    about["captured"] = "; ".join(run.act.reasons.values()) or True
            except RuntimeError as error:  # CUDA's way to say that something does not work
                about["failed"] = str(error).splitlines()[0]
        speeds = [
            a.get("images_per_second", 0.0) for (n, _), a in found["speed"].items() if n == net
        ]
        for other, rules, seeds in PROTOCOLS[name]:
            cfg = config(other, "vanilla", 0)
            work = architecture(other, 10).macs / architecture(net, 10).macs
            images = len(rules) * seeds * cfg.epochs * 50_000
            minutes = images * work / max(speeds) / 60 if max(speeds) else None
            found["minutes"][name, other, rules] = minutes
    return found


def report(found: dict[str, Any], data: str | None = None) -> str:
    """Return the findings as lines of text."""
    lines = [
        f"device     {found['device']}, {found['threads']} thread(s)",
        "versions   " + ", ".join(f"{k} {v}" for k, v in found["versions"].items()),
    ]
    try:
        lines.append(f"data       {find('cifar10', data)}")
    except CifarError as error:
        lines.append(f"data       {error}")
    for (net, precision), about in found["speed"].items():
        if "failed" in about:
            lines.append(f"{net:10s} {precision}: fails ({about['failed']})")
            continue
        captured = {None: "", True: ", step captured and equal to the written one"}.get(
            about["captured"], f", not captured: {about['captured']}"
        )
        lines.append(
            f"{net:10s} {precision}: {about['images_per_second']:,.0f} images/s, one run"
            f" alone{captured}"
        )
    lines.append("expected minutes, one run after the other, in proportion to multiply-adds")
    for (name, net, rules), minutes in found["minutes"].items():
        what = ", ".join(rules) if len(rules) < 3 else f"{len(rules)} rules"
        time_ = "unknown" if minutes is None else f"{minutes:10,.0f}"
        lines.append(f"  {name:5s} {net:17s} {time_}   {what}")
    return "\n".join(lines)
