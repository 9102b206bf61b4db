"""Runs many configurations: in groups, resuming, under a time limit, or on a cluster."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from . import CifarError, data
from .graphs import use_graphs
from .progress import Progress
from .recipe import Config
from .records import (
    circumstances,
    describe,
    drop_checkpoint,
    load_checkpoint,
    prepare,
    read_record,
    save_checkpoint,
    write_record,
)
from .store import Store
from .training import Run

__all__ = [
    "Place",
    "Stop",
    "advance",
    "connect",
    "groups",
    "has_gpu",
    "pick_device",
    "run_all",
    "run_group",
    "run_on_cluster",
    "written",
]

#: Seconds without any worker of a cluster after which the client gives up.
PATIENCE = 60.0
#: Runs advanced together on a GPU, by network; what is not named: 16.
TOGETHER = {"resnet110": 6, "resnet164": 6, "resnext29-8x64d": 2, "resnext29-16x64d": 1}


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


class Stop:
    """Says when to stop: after some minutes, or on the first Ctrl-C or SIGTERM.

    The second Ctrl-C interrupts at once, and the last checkpoint counts.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self._deadline = None if minutes is None else time.monotonic() + 60.0 * minutes
        self._earlier: dict[int, Any] = {}
        self.interrupted = False

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._earlier[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        self.interrupted = True
        signal.signal(number, self._earlier[number])

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        late = self._deadline is not None and time.monotonic() >= self._deadline
        return self.interrupted or late


def written(configs: list[Config], out: str | Path) -> list[Config]:
    """Return those whose record exists; an empty file is none.

    Raises
    ------
    CifarError
        If a file of that name is no record.
    """
    paths = {cfg: Path(out) / f"{cfg.name}.json" for cfg in configs}
    found = [cfg for cfg, path in paths.items() if path.is_file() and path.stat().st_size]
    for cfg in found:
        read_record(paths[cfg])
    return found


def groups(configs: list[Config], together: int | None, cuda: bool) -> list[list[Config]]:
    """Split into groups that share network, data and subset, in the given order."""
    out: list[list[Config]] = []
    for cfg in configs:
        size = together or (TOGETHER.get(cfg.net, 16) if cuda else 1)
        last = out[-1] if out else []
        key = (cfg.net, cfg.data, cfg.subset, cfg.verified)
        if (
            last
            and len(last) < size
            and key == (last[0].net, last[0].data, last[0].subset, last[0].verified)
        ):
            last.append(cfg)
        else:
            out.append([cfg])
    return out


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
    stop: Stop | None = None,
    records: bool = True,
) -> list[dict[str, Any]]:
    """Advance one group until it ends or has to stop; return the finished records.

    A run with a checkpoint goes on from it; a finished run's record is written before
    its checkpoint is deleted.
    """
    device = pick_device(place.device)
    circumstances(device)  # of the code as it is now, not when the run ends
    store = _store(configs[0], place, device)
    work, finished = Path(place.work), []
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

    def finish(run: Run) -> None:
        record = describe(run, len(runs))
        if records:
            write_record(Path(place.out), record, place.overwrite)
            drop_checkpoint(work, run.cfg)
        finished.append(record)

    advance(
        runs,
        stop=stop,
        progress=Progress(left, place.quiet),
        every=place.every,
        finish=finish,
        save=lambda run: save_checkpoint(work, run),
    )
    return finished


def run_all(
    configs: list[Config],
    place: Place,
    together: int | None = None,
    minutes: float | None = None,
    skip: Callable[[Config], bool] | None = None,
) -> tuple[int, int]:
    """Run everything in order; return how many finished and how many remain.

    When its turn has come, a run counts as finished without being run if another process
    has written its record meanwhile, or if `skip` says so.

    Raises
    ------
    KeyboardInterrupt
        After an interruption, with everything saved.
    """
    cuda, done = pick_device(place.device).type == "cuda", 0
    with Stop(minutes) as stop:
        for group in groups(configs, together, cuda):
            if stop():
                break
            known = set() if place.overwrite else set(written(group, place.out))
            left = [cfg for cfg in group if cfg not in known and not (skip and skip(cfg))]
            done += len(group) - len(left)
            done += len(run_group(left, place, stop)) if left else 0
    if stop.interrupted:
        raise KeyboardInterrupt
    return done, len(configs) - done


# a cluster ---------------------------------------------------------------------------
def connect(scheduler: str, timeout: float = 20.0) -> Any:
    """Return a client of a running scheduler.

    Raises
    ------
    CifarError
        If dask is not installed, the scheduler does not answer, or it has no worker.
    """
    if not re.search(r"[^:/]+:\d+$", scheduler):
        raise CifarError(f"scheduler: {scheduler!r} is not like tcp://host:8786")
    try:
        from distributed import Client
    except ImportError:
        raise CifarError("scheduler: needs dask (pip install 'dask[distributed]')") from None
    try:
        client = Client(scheduler, timeout=timeout, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise CifarError(f"scheduler: {scheduler} does not answer ({error})") from None
    if not client.nthreads():
        client.close()
        raise CifarError(f"scheduler: {scheduler} has no worker; start one, dask worker ...")
    return client


def has_gpu(client: Any) -> bool:
    """Say whether a worker has a GPU; the caller's own machine does not count."""
    return bool(client.submit(torch.cuda.is_available, pure=False).result())


def _task(configs: list[Config], place: Place) -> list[dict[str, Any]]:
    """Run a group on a worker and send its records back; the client writes them."""
    return run_group(configs, replace(place, quiet=True), records=False)


def run_on_cluster(
    configs: list[Config],
    place: Place,
    client: Any,
    together: int | None = None,
    say: Callable[[str], None] = print,
    patience: float = PATIENCE,
) -> tuple[int, int]:
    """Run all configurations on the workers of a client.

    A group whose worker dies is given to another one, and goes on from its last
    checkpoint where the folder of checkpoints is shared.

    Parameters
    ----------
    patience : float
        Seconds without any worker after which it gives up.

    Returns
    -------
    done, left : int
        Runs recorded and runs that remain.

    Raises
    ------
    CifarError
        If a group failed, or no worker is left; what was finished is recorded.
    """
    from distributed import wait

    cuda = place.device.startswith("cuda") or (place.device == "auto" and has_gpu(client))
    parts, done, failed = groups(configs, together, cuda), 0, []
    pending = {client.submit(_task, part, place, pure=False, retries=3): part for part in parts}
    seen = time.monotonic()
    while pending:
        ready: set = set()
        with contextlib.suppress(TimeoutError), client.as_current():
            ready = wait(list(pending), min(patience / 4, 5.0), "FIRST_COMPLETED").done
        if ready or client.nthreads():
            seen = time.monotonic()
        elif time.monotonic() - seen > patience:
            raise CifarError(
                f"scheduler: for {patience:g} seconds there has been no worker; {done} runs are "
                "recorded, start workers and give the same command with --missing"
            )
        for future in ready:
            part = pending.pop(future)
            if future.status != "finished":
                failed.append(f"{', '.join(c.name for c in part)}: {future.exception()}")
                say(f"failed: {failed[-1]}")
                continue
            for record in future.result():
                write_record(Path(place.out), record, place.overwrite)
                done += 1
                say(f"{record['name']}: {record['status']}")
            for cfg in part:
                drop_checkpoint(Path(place.work), cfg)
    if failed:
        raise CifarError(f"{len(failed)} of {len(parts)} groups failed: {failed[0]}")
    return done, len(configs) - done
