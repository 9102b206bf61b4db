"""Runs many configurations in groups, here under a time limit or on a cluster's workers."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..workers import PATIENCE, Inline, Workers, WorkersError, completed
from . import CifarError
from .group import Place, run_group
from .recipe import Config
from .records import drop_checkpoint, read_record, write_record

__all__ = ["Stop", "groups", "on_gpu", "run_all", "written"]

#: Runs advanced together on a GPU, by network; what is not named: 16.
TOGETHER = {"resnet110": 6, "resnet164": 6, "resnext29-8x64d": 2, "resnext29-16x64d": 1}


def on_gpu(name: str, workers: Workers) -> bool:
    """Say whether the device of a name is a GPU on the workers; nothing else counts."""
    if name == "auto":
        return bool(workers.anywhere(torch.cuda.is_available))
    return name.startswith("cuda")


class Stop:
    """Says when to stop: after some minutes, or on the first Ctrl-C or SIGTERM.

    The second Ctrl-C interrupts at once, and the last checkpoint counts. Where the runs are
    elsewhere there is nothing to save here, and already the first one does (`noted` false).
    """

    def __init__(self, minutes: float | None = None, noted: bool = True) -> None:
        self._noted = noted and threading.current_thread() is threading.main_thread()
        self._deadline = None if minutes is None else time.monotonic() + 60.0 * minutes
        self._earlier: dict[int, Any] = {}
        self.interrupted = False

    def __enter__(self) -> Stop:
        if self._noted:
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


def run_all(
    configs: list[Config],
    place: Place,
    workers: Workers | None = None,
    *,
    together: int | None = None,
    minutes: float | None = None,
    skip: Callable[[Config], bool] | None = None,
    patience: float = PATIENCE,
) -> tuple[int, int]:
    """Run everything in order; a record is written here as soon as it is known.

    When its turn has come, a run counts as finished without being run if another process
    has written its record meanwhile, or if `skip` says so. A group whose worker dies is given
    to another one, and goes on from its last checkpoint where their folder is shared.

    Parameters
    ----------
    configs : list of Config
        What is to run.
    place : Place
        Data and files; ``out`` is a folder here, the others are on the workers.
    workers : Workers, optional
        Default: this process.
    together : int, optional
        Runs of a group; default by network on a GPU, else 1.
    minutes : float, optional
        After which it stops; of this process only.
    skip : callable, optional
        Says whether a run needs no running.
    patience : float
        Seconds without any worker after which it gives up.

    Returns
    -------
    done, left : int
        Runs that are finished and runs that remain.

    Raises
    ------
    CifarError
        If a group failed, or no worker is left; what was finished is recorded.
    KeyboardInterrupt
        After an interruption, with everything saved.
    """
    workers = workers or Workers(Inline())
    parts = groups(configs, together, on_gpu(place.device, workers))
    named, done, failed = {cfg.name: cfg for cfg in configs}, 0, []

    def keep(record: dict[str, Any]) -> None:
        nonlocal done
        write_record(Path(place.out), record, place.overwrite)
        drop_checkpoint(Path(place.work), named[record["name"]])
        done += 1

    def tasks(stop: Stop) -> Iterator[tuple]:
        nonlocal done
        for part in parts:
            if stop():
                return
            known = set() if place.overwrite else set(written(part, place.out))
            left = [cfg for cfg in part if cfg not in known and not (skip and skip(cfg))]
            done += len(part) - len(left)
            if left and workers.remote:
                yield run_group, left, replace(place, quiet=True)
            elif left:
                yield run_group, left, place, stop, keep

    try:
        with Stop(minutes, noted=not workers.remote) as stop:
            for (_, part, *_), future in completed(workers, tasks(stop), patience):
                error = future.exception()
                if error is not None and not workers.remote:
                    raise error  # what is wrong here is so for all of them
                if error is not None:
                    failed.append(f"{', '.join(cfg.name for cfg in part)}: {error}")
                    print(f"failed: {failed[-1]}")
                for record in [] if error else future.result():
                    keep(record)
                    print(f"{record['name']}: {record['status']}")
    except WorkersError as error:
        raise CifarError(
            f"{error}; {done} runs are recorded, start workers and give the same command with "
            "--missing"
        ) from None
    if stop.interrupted:
        raise KeyboardInterrupt
    if failed:
        raise CifarError(f"{len(failed)} of {len(parts)} groups failed: {failed[0]}")
    return done, len(configs) - done
