"""Runs chapters: notebooks through papermill, in parallel, only where inputs changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..provenance import write
from .chapters import (
    Chapter,
    ChapterError,
    discover,
    fingerprint,
    is_fresh,
    noted,
    parameters,
)

__all__ = ["Result", "run"]

_ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    )
}


@dataclass(frozen=True)
class Result:
    """What became of a chapter: ``fresh``, ``done`` or ``failed``, and why."""

    name: str
    status: str
    seconds: float = 0.0
    message: str = ""


def _select(chapters: list[Chapter], given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each chapter's share of the parameters; unknown names are an error."""
    known = {chapter.name: parameters(chapter) for chapter in chapters}
    everywhere = {name for names in known.values() for name in names}
    for name in given:
        if name not in everywhere:
            listed = ", ".join(sorted(everywhere))
            raise ChapterError(f"no parameter {name!r} in the chosen chapters; there are: {listed}")
    return {
        chapter: {n: v for n, v in given.items() if n in names}
        for chapter, names in known.items()
    }


def _prepare(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob(".*.running.ipynb"):
            left.unlink()
        # this interpreter's kernel comes first, whatever is installed elsewhere
        spec = out / ".jupyter" / "kernels" / "python3" / "kernel.json"
        spec.parent.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        write(spec, json.dumps(
            {"argv": argv, "display_name": "Python 3", "language": "python"}))
    except OSError as error:
        raise ChapterError(
            f"{out}: cannot be written ({error.strerror}); choose another folder with --out"
        ) from None


def run(
    root: Path,
    names: Iterable[str] = (),
    given: dict[str, Any] | None = None,
    *,
    out: Path | None = None,
    jobs: int | None = None,
    force: bool = False,
    report: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Run chapters whose inputs changed, several at a time, one torch thread each.

    Parameters
    ----------
    root : Path
        The checkout.
    names : iterable of str
        Chapters; default all.
    given : dict
        Parameters, passed to the chapters that have them.
    out : Path
        Where executed chapters go; default ``_build/chapters``.
    jobs : int
        Processes at a time; default one a core.
    force : bool
        Run even what is fresh.
    report : callable
        Called with each result as it comes.

    Returns
    -------
    list of Result
        In the order of completion.

    Raises
    ------
    ChapterError
        Before anything runs: unknown names, a notebook without a parameters cell, a
        folder that cannot be written.
    """
    out = Path(out) if out else root / "_build" / "chapters"
    chapters = discover(root, names)
    shares = _select(chapters, given or {})
    report = report or (lambda result: None)
    _prepare(out)
    results, todo = [], []
    for chapter in chapters:
        if not force and is_fresh(chapter, out, shares[chapter.name]):
            results.append(Result(chapter.name, "fresh"))
            report(results[-1])
        else:
            todo.append(chapter)
    # the longest first, as far as is known
    todo.sort(key=lambda c: -noted(out, c.name).get("seconds", 1e9))
    running: set[subprocess.Popen] = set()
    stop = threading.Event()
    jobs = max(1, jobs or os.cpu_count() or 1)
    with ThreadPoolExecutor(jobs) as pool:
        futures = [
            pool.submit(_run_one, c, shares[c.name], out, root, running, stop) for c in todo
        ]
        try:
            for future in as_completed(futures):
                results.append(future.result())
                report(results[-1])
        except BaseException:
            stop.set()
            for process in list(running):
                process.kill()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results


def _run_one(
    chapter: Chapter, given: dict[str, Any], out: Path, root: Path, running: set, stop
) -> Result:
    if stop.is_set():
        return Result(chapter.name, "failed", 0.0, "interrupted")
    mark, began = fingerprint(chapter, given), time.perf_counter()
    target, failed = out / f"{chapter.name}.ipynb", out / f"{chapter.name}.failed.ipynb"
    partial, note = out / f".{chapter.name}.running.ipynb", out / f"{chapter.name}.json"
    paths = [str(out / ".jupyter"), os.environ.get("JUPYTER_PATH", "")]
    environment = os.environ | _ONE_THREAD | {
        "JUPYTER_PATH": os.pathsep.join(p for p in paths if p),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    order = json.dumps([str(chapter.path), str(partial), given, str(root)])
    process = subprocess.Popen(
        [sys.executable, "-m", "mflib.book.runner", order], env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )
    running.add(process)
    _, errors = process.communicate()
    running.discard(process)
    seconds = time.perf_counter() - began
    if process.returncode:
        if partial.exists():
            partial.replace(failed)
        last = (errors.strip().splitlines() or ["no message"])[-1]
        return Result(chapter.name, "failed", seconds, f"{last} (see {failed})")
    note.unlink(missing_ok=True)
    partial.replace(target)
    failed.unlink(missing_ok=True)
    write(note, json.dumps(
        {"fingerprint": mark, "parameters": given, "seconds": round(seconds, 1)}))
    return Result(chapter.name, "done", seconds)


def _execute(order: str) -> int:
    """Run one notebook in this process; the last line of stderr says what failed."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    source, target, given, root = json.loads(order)
    try:
        papermill.execute_notebook(
            source, target, parameters=given, kernel_name="python3", progress_bar=False,
            cwd=root, log_output=False,
        )
    except PapermillExecutionError as error:
        name = Path(source).stem
        # the injected cells shift the count: name the cell by its first line as well
        first = next((s for s in error.source.splitlines() if s.strip()), "")
        print(
            f"chapter {name}, cell {error.cell_index} ({first.strip()[:60]!r}): "
            f"{error.ename}: {error.evalue}".replace("\n", " "),
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_execute(sys.argv[1]))
