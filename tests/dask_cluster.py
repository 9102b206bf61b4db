"""A scheduler and workers, each a process of its own, that talk over TCP on 127.0.0.1."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import distributed

ROOT = Path(__file__).parents[1]


class Cluster:
    """Processes that a test may kill."""

    def __init__(self, folder: Path, workers: int = 2, **environment: str) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        self.environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path} | environment
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0")
        self.workers = [self.worker() for _ in range(workers)]
        self.client = distributed.Client(scheduler_file=str(self.file), set_as_default=False)
        self.client.wait_for_workers(workers, timeout=120)
        self.address = self.client.scheduler.address

    def _start(self, *words: str) -> subprocess.Popen:
        common = ["--scheduler-file", str(self.file), "--no-dashboard"]
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *words, *common],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment,
            cwd=self.folder,
        )

    def worker(self) -> subprocess.Popen:
        """Start one more worker."""
        words = ["--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder)]
        return self._start("worker", "--host", "127.0.0.1", *words)

    def busy(self) -> list[int]:
        """Return the processes of the workers that have something to do."""
        there = [name for name, tasks in self.client.processing().items() if tasks]
        return list(self.client.run(os.getpid, workers=there).values()) if there else []

    def close(self) -> None:
        """End all of it."""
        with contextlib.suppress(Exception):
            self.client.close(timeout=1)
        for child in [*self.workers, self.scheduler]:
            child.kill()
            child.wait()


def until(condition, seconds=120.0):
    """Wait until a condition holds; return what it gave last."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return found
