"""What a point of a sweep costs besides its computation: ten thousand that compute nothing.

    python -m benchmarks.sweep_scaling --points 10000 --out book/records/bench/sweep_scaling.json

A scheduler and workers run as processes of their own, the command's part in this one; the
processor time of each is counted. The table is the real one, on the disk after every point.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.sweep_throughput import ROOT, arguments, checkout, describe, show
from mflib import workers
from mflib.book import grid


def nothing(order: dict) -> dict:
    """Answer as a worker does, with three checks of one claim and without computing."""
    check = {"kind": "identity", "measured": 0.1, "predicted": 0.0, "tolerance": 1.0}
    check |= {"interval": [0.0, 0.2], "verdict": "verified"}
    checks = [check | {"name": f"check {number}"} for number in range(3)]
    claim = {"id": "X-1", "verdict": "verified", "checks": checks, "controls": []}
    return {
        "wrong": "",
        "version": False,
        "notebook": None,
        "claims": [claim],
        "mark": order["mark"],
        "seconds": 0.0,
        "worker": str(os.getpid()),
    }


def spent(process: psutil.Process) -> float:
    """Return the processor seconds of a process."""
    times = process.cpu_times()
    return times.user + times.system


@contextlib.contextmanager
def cluster(folder: Path, count: int):
    """Start a scheduler and workers over TCP; give the processes and the address."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    file = folder / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard"]

    def start(*words: str) -> psutil.Popen:
        line = [sys.executable, "-m", "dask", *words, *common]
        return psutil.Popen(line, env=environment, cwd=folder, stderr=subprocess.DEVNULL)

    made = [start("scheduler", "--host", "127.0.0.1", "--port", "0")]
    made += [start("worker", "--nthreads", "1", "--no-nanny") for _ in range(count)]
    try:
        import distributed

        with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(count, timeout=120)
            address = client.scheduler.address
        yield made, address
    finally:
        for process in made[::-1]:
            process.kill()
            process.wait()


def measure(points: int, count: int) -> dict:
    """Run the points on some workers; return the row."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root, out = checkout(folder, 0.0), folder / "runs"
        with cluster(folder, count) as (processes, address):
            todo = grid.points(root, ["second"], {"seed": list(range(points))})
            before = [spent(p) for p in processes]
            began, mine = time.monotonic(), time.process_time()
            place = lambda: workers.connect(address)  # noqa: E731
            done = grid.run(root, todo, out, place, say=lambda line: None, work=nothing)
            wall, mine = time.monotonic() - began, time.process_time() - mine
            used = [spent(p) - b for p, b in zip(processes, before, strict=True)]
        assert done.done == points and done.failed == 0, done
        sizes = [(out / f"results.{kind}").stat().st_size for kind in ("csv", "parquet")]
    milli = 1e3 / points
    return {
        "points": points,
        "workers": count,
        "wall, ms a point": wall * milli,
        "scheduler, ms a point": used[0] * milli,
        "command and table, ms a point": mine * milli,
        "worker, ms a point": sum(used[1:]) * milli,
        "csv, bytes a point": sizes[0] / points,
        "parquet, bytes a point": sizes[1] / points,
    }


def main() -> None:
    options = arguments(__doc__.splitlines()[0], 10_000).parse_args()
    rows = [measure(options.points, count) for count in (1, 2)]
    # 10^5 points on 200 workers: what one process must do, which no worker shares
    for row in rows:
        slow = max(row["scheduler, ms a point"], row["command and table, ms a point"])
        row["floor for 1e5 points, min"] = 1e5 * slow / 6e4
        row["csv for 1e5 points, MB"] = row["csv, bytes a point"] * 0.1
    show(describe(options, "sweep_scaling", __doc__.splitlines()[0], rows), options)


if __name__ == "__main__":
    main()
