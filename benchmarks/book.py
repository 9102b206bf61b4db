"""The book, beside the usual way to build one: papermill in a loop and jupyter-book build.

    python -m benchmarks.book --chapters adjoint,digits --jobs 2 --out book/records/bench/book.json

Both start from nothing: `mflib run` in a folder of its own, `papermill` one chapter after the
other, and the same `jupyter-book build` of the whole site into an empty folder, whose seconds
count for both. The site shows the executed chapters of `_build/chapters`, so that all of them
must be up to date (`mflib run`). Then the book is asked for again with nothing changed. It is
wall time that a reader waits, and it means something on an idle machine only.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.sweep_throughput import ROOT, show
from mflib import provenance
from mflib.book import chapters, executed

PYTHON = sys.executable
SITE = [str(Path(PYTHON).with_name("jupyter-book")), "build", ".", "--quiet"]


def timed(*lines: list[str]) -> tuple[float, float]:
    """Run commands one after the other; return wall and processor seconds."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    for line in lines:
        done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(line)}: {(done.stderr or done.stdout)[-2000:]}")
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(names: list[str], jobs: int) -> dict:
    """Run every way once; return the seconds (wall, processor) of each part."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        out, site = str(Path(folder) / "out"), ["--path-output", str(Path(folder) / "site")]
        run = [PYTHON, "-m", "mflib", "run", *names, "--out", out, "--jobs", str(jobs)]
        found["mflib run"] = timed(run)
        found["mflib run, nothing changed"] = timed(run)
        one = [PYTHON, "-m", "papermill", "--no-progress-bar", "-k", "python3"]
        loop = [[*one, f"notebooks/{n}.ipynb", str(Path(folder) / f"{n}.ipynb")] for n in names]
        found["papermill, loop"] = timed(*loop)
        found["site"] = timed([*SITE, *site])
        found["site, nothing changed"] = timed([*SITE, *site])
    return found


def rows(found: dict, size: str) -> list[dict]:
    """Return the rows of the record: loop and site over run and site, wall and processor."""
    made = []
    for place, peer in enumerate(("papermill loop, jupyter-book build", "the same, processor")):
        ours = found["mflib run"][place] + found["site"][place]
        ratio = (found["papermill, loop"][place] + found["site"][place]) / ours
        row = {"peer": peer, "size": size, "ratio": round(ratio, 3), "seconds": round(ours, 1)}
        row |= {"spread": [row["ratio"]] * 2, "judged": False, "agreement": None, "goal": None}
        made.append(row)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chapters", help="names with commas between; default: all")
    parser.add_argument("--jobs", type=int, default=2, help="processes of mflib run")
    parser.add_argument("--json", action="store_true", help="print the record, not its rows")
    parser.add_argument("--out", metavar="FILE", help="write the record to a file as well")
    options = parser.parse_args()
    asked = options.chapters.split(",") if options.chapters else None
    try:
        names = [c.name for c in chapters.discover(ROOT, asked or ())]
    except chapters.ChapterError as error:
        parser.error(f"--chapters: {error}")
    lie = ROOT / "_build" / "chapters"
    stale = [c.name for c in chapters.discover(ROOT) if not executed.is_fresh(c, lie)]
    if stale:
        raise SystemExit(f"not up to date: {', '.join(stale)}; run mflib run first")
    found = measure(names, options.jobs)
    command = ["python -m benchmarks.book", f"--jobs {options.jobs}", "--json"]
    command[1:1] = [f"--chapters {options.chapters}"] * bool(asked)
    record = {
        "name": "book",
        "title": "Chapters and site from nothing",
        "command": " ".join(command),
        "machine": {"processor": provenance.processor(), "load": os.getloadavg()[0]},
        "versions": provenance.versions("torch", "papermill", "jupyter-book"),
        "commit": provenance.commit(ROOT),
        "rounds": 1,
        "rows": rows(found, f"chapters: {', '.join(names) if asked else 'all'}"),
        "seconds": {part: [round(s, 2) for s in pair] for part, pair in found.items()},
    }
    show(record, options)


if __name__ == "__main__":
    main()
