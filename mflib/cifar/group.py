"""A group of runs on one device: advanced together, resuming, saved, recorded as they end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import CifarError, data
from .graphs import use_graphs
from .progress import Progress
from .recipe import Config
from .records import circumstances, describe, load_checkpoint, prepare, save_checkpoint
from .store import Store
from .training import Run

__all__ = ["Place", "advance", "pick_device", "run_group"]


@dataclass(frozen=True)
class Place:
    """Where a run finds its data and leaves its files.

    Attributes
    ----------
    data : str or None
        Folder of the official files.
    out, work : str
        Folder of the records, folder of the checkpoints.
    device : str
        auto, cpu, cuda or cuda:N.
    every : float
        Seconds between checkpoints.
    quiet, overwrite : bool
        No progress; replace records.
    """

    data: str | None
    out: str
    work: str
    device: str = "auto"
    every: float = 60.0
    quiet: bool = False
    overwrite: bool = False


def pick_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is the GPU where there is one.

    Raises
    ------
    CifarError
        If it does not exist here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise CifarError(f"device: {name!r} is none of auto, cpu, cuda, cuda:N") from None
    if device.type == "cuda" and (
        not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()
    ):
        raise CifarError(f"device: {name} is not here; use --device cpu or auto")
    if device.type not in ("cpu", "cuda"):
        raise CifarError(f"device: {name!r} is none of auto, cpu, cuda, cuda:N")
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
    else:
        threads = os.environ.get("OMP_NUM_THREADS", "1").split(",")[0]
        torch.set_num_threads(int(threads) if threads.isdigit() and int(threads) else 1)
    return device


_stores: dict[tuple, Store] = {}


def _store(cfg: Config, place: Place, device: torch.device) -> Store:
    """The data set on the device, kept for the next group."""
    key = (cfg.data, place.data, cfg.subset, cfg.verified, cfg.pad, str(device))
    if key not in _stores:
        _stores.clear()
        _stores[key] = data.load(cfg.data, place.data, cfg.subset, device, cfg.verified, cfg.pad)
    return _stores[key]


def advance(
    runs: list[Run],
    *,
    stop: Callable[[], bool] | None = None,
    save: Callable[[Run], None] | None = None,
    finish: Callable[[Run], None] | None = None,
    progress: Callable[[int, Run | None, dict | None], None] | None = None,
    every: float = 60.0,
) -> bool:
    r"""Advance runs together, a step each in turn, until all are finished.

    Parameters
    ----------
    runs : list of Run
        On one device.
    stop : callable, optional
        Asked between steps; when it answers yes, every run is saved and left.
    save, finish : callable, optional
        Called with an unfinished run to save it, with a finished one to record it.
    progress : callable, optional
        Called with (images of this tick, run or None, epoch entry or None).
    every : float
        Seconds between saves.

    Returns
    -------
    bool
        Whether all runs finished.
    """
    active = [run for run in runs if not run.finished]
    # on a CPU processor time counts: it does not depend on what else the machine does
    cpu = all(run.device.type == "cpu" for run in runs)
    now = time.process_time if cpu else time.monotonic
    saved, clock = time.monotonic(), now()
    while active:
        images = sum(run.step() for run in active)
        ended = [run for run in active if run.at_end]
        pending = [
            (run, run.errors() if run.cfg.evaluates(run.epoch + 1) else None) for run in ended
        ]
        if progress:
            progress(images, None, None)
        for run, wrong in pending:
            entry = run.close_epoch(wrong)
            if progress:
                progress(0, run, entry)
        for run in active:
            run.seconds += now() - clock
        clock = now()
        for run in ended:
            if run.finished and finish:
                finish(run)
        active = [run for run in active if not run.finished]
        late = stop is not None and stop()
        if active and save and (late or time.monotonic() - saved >= every):
            for run in active:
                save(run)
            saved = time.monotonic()
        if late:
            break
    return not active


def run_group(
    configs: list[Config],
    place: Place,
    stop: Callable[[], bool] | None = None,
    keep: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Advance one group until it ends or has to stop; a run with a checkpoint goes on from it.

    Parameters
    ----------
    configs : list of Config
        One of :func:`mflib.cifar.executor.groups`.
    place : Place
        Data and files.
    stop : callable, optional
        Asked between steps; when it answers yes, every run is saved and left.
    keep : callable, optional
        Takes each record as soon as its run has finished. Without it they are returned: a
        worker has no folder of records.

    Returns
    -------
    list of dict
        The records that nobody took.
    """
    device = pick_device(place.device)
    circumstances(device)  # of the code as it is now, not when the run ends
    store = _store(configs[0], place, device)
    work, finished = Path(place.work), []
    keep = keep or finished.append
    prepare(work)
    runs = [Run(cfg, store) for cfg in configs]
    for run in runs:
        use_graphs(run)
        if load_checkpoint(work, run) and not place.quiet:
            print(
                f"{run.cfg.name}  goes on after {run.epoch} epochs and {run.done} images",
                file=sys.stderr,
            )
    left = sum((r.cfg.epochs - r.epoch) * r.images - r.done for r in runs)
    advance(
        runs,
        stop=stop,
        progress=Progress(left, place.quiet),
        every=place.every,
        finish=lambda run: keep(describe(run, len(runs))),
        save=lambda run: save_checkpoint(work, run),
    )
    return finished
