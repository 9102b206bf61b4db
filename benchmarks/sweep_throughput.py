"""Fifty seeds of a one-second chapter: a sweep on two workers beside papermill in a loop.

    python -m benchmarks.sweep_throughput --points 50 --json
    python -m benchmarks.sweep_throughput --points 50 --out book/records/bench/sweep_throughput.json

The chapter imports what ours import, computes for a second of processor time, draws a figure
and states a claim. `loop` is the shell's: one `papermill` command a seed. `python loop` calls
`papermill.execute_notebook` in one process. `sweep, 1` and `sweep, 2` are `mflib sweep` with
one and two workers, with all that starting and ending them takes. Points a minute of wall
time mean something on an idle machine only; processor seconds a point on any.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mflib import provenance

ROOT = Path(__file__).parents[1]
CELLS = [
    "import time\nimport matplotlib.pyplot as plt\nimport torch\nfrom scipy import stats\n"
    "from mflib.book import figures\nfrom mflib.book.notebook import begin\n"
    "from mflib.claims import Claim, Identity\ngenerator = begin(seed)",
    "began = time.process_time()\nx = torch.randn(200, 200, generator=generator)\n"
    "while time.process_time() - began < seconds:\n    y = torch.linalg.matrix_norm(x @ x.mT)",
    "fig, ax = plt.subplots()\nax.plot(x[0]);",
    'claim = Claim("X-1", paper="lu2020", where="here", kind="identity",\n'
    '              statement="One is one.", seed=seed)\n'
    'check = claim.predict(Identity("1 = 1", tolerance=1e-12))\n'
    "check.measure(float(x.mean() - x.mean()))\n"
    'check.control("2", broke="1 = 1").measure(float(x.mean() - x.mean() + 1))\nclaim',
]


def checkout(folder: Path, seconds: float) -> Path:
    """Write a checkout with the one chapter."""
    made = [("parameters", f"seed: int = 0\nseconds: float = {seconds}")]
    cells = [
        {
            "cell_type": "code",
            "id": f"c{number}",
            "metadata": {"tags": [tag] if tag else []},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for number, (tag, source) in enumerate([*made, *(("", c) for c in CELLS)])
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {
        "cells": cells,
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": kernel},
    }
    (folder / "notebooks").mkdir()
    (folder / "_toc.yml").write_text("root: index\n")
    (folder / "notebooks" / "second.ipynb").write_text(json.dumps(notebook))
    return folder


LOOP = """import sys, papermill
for seed in range(int(sys.argv[1])):
    papermill.execute_notebook("notebooks/second.ipynb", f"{seed}.ipynb", {"seed": seed},
                               kernel_name="python3", progress_bar=False)"""


def commands(points: int) -> dict[str, list[list[str]]]:
    """Return the commands of each way."""
    python = sys.executable
    sweep = [python, "-m", "mflib", "sweep", "second", "--seeds", f"0-{points - 1}"]
    one = [python, "-m", "papermill", "--no-progress-bar", "notebooks/second.ipynb"]
    return {
        "papermill, loop": [[*one, f"{s}.ipynb", "-p", "seed", str(s)] for s in range(points)],
        "papermill, python loop": [[python, "-c", LOOP, str(points)]],
        "sweep, 1 worker": [[*sweep, "--jobs", "1", "--out", "runs/1"]],
        "sweep, 2 workers": [[*sweep, "--jobs", "2", "--out", "runs/2"]],
    }


def measure(points: int, seconds: float) -> list[dict]:
    """Run every way; return a row for each."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    rows = []
    for name, lines in commands(points).items():
        with tempfile.TemporaryDirectory() as folder:
            checkout(Path(folder), seconds)
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            for line in lines:
                subprocess.run(line, cwd=folder, env=environment, check=True, capture_output=True)
            wall = time.monotonic() - began
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        rows.append(
            {
                "way": name,
                "points": points,
                "computing, s": seconds,
                "points a minute": 60 * points / wall,
                "processor seconds a point": cpu / points,
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    for row in rows:
        row["times the loop"] = row["points a minute"] / rows[0]["points a minute"]
    return rows


def describe(options: argparse.Namespace, name: str, title: str, rows: list[dict]) -> dict:
    """Return the record: the rows, what ran and where, and the command that does it again."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    seconds = f" --seconds {options.seconds:g}" if "seconds" in options else ""
    return {
        "name": name,
        "title": title.rstrip("."),
        "command": f"python -m benchmarks.{name} --points {options.points}{seconds} --json",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": {
            "processor": provenance.processor(),
            "cores": cores,
            "load": os.getloadavg()[0],
        },
        "versions": provenance.versions("torch", "papermill", "distributed", "ipykernel"),
        "commit": provenance.commit(ROOT),
        "rows": rows,
    }


def show(found: dict, options: argparse.Namespace) -> None:
    """Print the record, and write it where it is asked for."""
    text = json.dumps(found, indent=1) + "\n"
    if options.out:
        provenance.write(Path(options.out), text)
    print(text if options.json else "\n".join(map(str, found["rows"])))


def arguments(words: str, points: int) -> argparse.ArgumentParser:
    """Return the options that the benchmarks of sweeps share."""
    parser = argparse.ArgumentParser(description=words)
    parser.add_argument("--points", type=int, default=points)
    parser.add_argument("--json", action="store_true", help="print the record, not a table")
    parser.add_argument("--out", metavar="FILE", help="write the record to a file as well")
    return parser


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], 50)
    parser.add_argument("--seconds", type=float, default=1.0, help="that the chapter computes")
    options = parser.parse_args()
    if options.points < 1 or not 0 <= options.seconds < 1e6:
        parser.error("--points and --seconds: at least one point, and no negative time")
    rows = measure(options.points, options.seconds)
    show(describe(options, "sweep_throughput", __doc__.splitlines()[0], rows), options)


if __name__ == "__main__":
    main()
