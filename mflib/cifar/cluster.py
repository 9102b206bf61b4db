"""Independent runs spread over a running Dask cluster, one worker a device."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from . import CifarError
from .recipe import Config
from .records import drop_checkpoint, write_record
from .runner import Place, groups, run_group

__all__ = ["connect", "has_gpu", "run_on_cluster"]


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
    configs: list[Config], place: Place, client: Any, together: int | None = None,
    say: Callable[[str], None] = print,
) -> tuple[int, int]:
    """Run all configurations on the workers of a client.

    A group whose worker dies is given to another one, and goes on from its last
    checkpoint where the folder of checkpoints is shared.

    Returns
    -------
    done, left : int
        Runs recorded and runs that remain.

    Raises
    ------
    CifarError
        If a group failed; the others are recorded.
    """
    from distributed import as_completed

    cuda = place.device.startswith("cuda") or (place.device == "auto" and has_gpu(client))
    parts, done, failed = groups(configs, together, cuda), 0, []
    futures = {client.submit(_task, part, place, pure=False, retries=3): part for part in parts}
    for future in as_completed(futures, loop=client.loop):
        names = ", ".join(cfg.name for cfg in futures[future])
        if future.status != "finished":
            failed.append(f"{names}: {future.exception()}")
            say(f"failed: {failed[-1]}")
            continue
        for record in future.result():
            write_record(Path(place.out), record, place.overwrite)
            done += 1
            say(f"{record['name']}: {record['status']}")
        for cfg in futures[future]:
            drop_checkpoint(Path(place.work), cfg)
    if failed:
        raise CifarError(f"{len(failed)} of {len(parts)} groups failed: {failed[0]}")
    return done, len(configs) - done
