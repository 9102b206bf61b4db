"""Runs chapters: notebooks through papermill, in parallel, only where inputs changed.

A run holds its folder: no second one works there, and however it ends, its kernels end with
it. A chapter counts when every cell ran, without error, with the parameters asked for.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..provenance import write
from . import chapters
from .chapters import Chapter, ChapterError
from .execute import MARK, SAYS, clear
from .executed import flaw, is_fresh, keep, noted
from .hold import Ended, held, refuse, signals, unwritable
from .inputs import fingerprint

__all__ = ["TIMEOUT", "Ended", "Result", "run"]

#: Seconds that one cell may take.
TIMEOUT = 7200

_ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    )
}


@dataclass(frozen=True)
class Result:
    """What became of a chapter: ``fresh``, ``done``, ``failed`` or ``interrupted``, and why."""

    name: str
    status: str
    seconds: float = 0.0
    message: str = ""


def _path(folder: Path) -> str:
    """Return PYTHONPATH with a folder before what is there; one of packages is found anyway."""
    first = "" if folder.name in ("site-packages", "dist-packages") else str(folder)
    return os.pathsep.join(filter(None, [first, os.environ.get("PYTHONPATH", "")]))


def _kernel(root: Path, out: Path) -> None:
    """Write this interpreter's kernel, which comes before any that is installed."""
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    # the checkout's own library, not the installed one
    spec = {
        "argv": argv,
        "display_name": "Python 3",
        "language": "python",
        "env": {"PYTHONPATH": _path(chapters.library(root)), "MFLIB_ROOT": str(root)},
    }
    try:
        write(out / ".jupyter" / "kernels" / "python3" / "kernel.json", json.dumps(spec))
    except OSError as error:
        raise ChapterError(unwritable(out, error)) from None


@dataclass
class _Work:
    """What the threads of one run share."""

    root: Path
    out: Path
    timeout: int | None
    stopped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: set[subprocess.Popen] = field(default_factory=set)

    def start(self, order: str, partial: Path, said: Any) -> subprocess.Popen | None:
        """Start a chapter's process, unless the run is over."""
        paths = [str(self.out / ".jupyter"), os.environ.get("JUPYTER_PATH", "")]
        environment = (
            os.environ
            | _ONE_THREAD
            | {
                "JUPYTER_PATH": os.pathsep.join(filter(None, paths)),
                "PYTHONPATH": _path(Path(__file__).parents[2]),
                "PYDEVD_DISABLE_FILE_VALIDATION": "1",
                MARK: str(partial),
            }
        )
        with self.lock:
            if self.stopped:
                return None
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mflib.book.execute", order],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
            self.running.add(process)
        return process

    def stop(self) -> None:
        """End every process of the run, and whatever they started."""
        with self.lock:
            self.stopped = True
            processes = list(self.running)
        for process in processes:
            with contextlib.suppress(OSError):
                process.terminate()
        end = time.monotonic() + 5
        while any(p.poll() is None for p in processes) and time.monotonic() < end:
            time.sleep(0.02)
        for process in processes:
            with contextlib.suppress(OSError):
                process.kill()
        clear(self.out)
        for left in self.out.glob(".*.running.ipynb"):
            with contextlib.suppress(OSError):
                left.unlink()


def run(
    root: Path,
    names: Iterable[str] = (),
    given: dict[str, Any] | None = None,
    *,
    out: Path | None = None,
    jobs: int | None = None,
    force: bool = False,
    timeout: int | None = TIMEOUT,
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
    timeout : int or None
        Seconds that one cell may take; None for no limit.
    report : callable
        Called with each result as it comes.

    Returns
    -------
    list of Result
        In the order of completion. A chapter that cannot be read has failed; the others
        run.

    Raises
    ------
    ChapterError
        Before anything runs: an unknown chapter or parameter, a value of another type, a
        folder that cannot be written, lies over sources, or holds another run.
    """
    root = Path(root).resolve()
    out = (Path(out) if out else root / "_build" / "chapters").resolve()
    refuse(root, out)
    chosen, results = chapters.discover(root, names), []
    report = report or (lambda result: None)

    def tell(result: Result) -> None:
        results.append(result)
        report(result)

    readable, unreadable = [], []
    declared: dict[str, dict[str, chapters.Parameter]] = {}
    for chapter in chosen:
        try:
            chapters.code_cells(chapter)
            declared[chapter.name] = chapters.parameters(chapter) if given else {}
            readable.append(chapter)
        except ChapterError as error:
            unreadable.append(Result(chapter.name, "failed", 0.0, str(error)))
    shares = chapters.shares(declared, given or {})
    work = _Work(root, out, timeout)
    with held(out), signals():
        for result in unreadable:
            tell(result)
        todo = []
        for chapter in readable:
            if not force and is_fresh(chapter, out, shares[chapter.name]):
                tell(Result(chapter.name, "fresh"))
            else:
                todo.append(chapter)
        if not todo:
            return results
        _kernel(root, out)
        # the longest first, as far as is known
        todo.sort(key=lambda c: -noted(out, c.name).get("seconds", 1e9))
        with ThreadPoolExecutor(max(1, jobs or os.cpu_count() or 1)) as pool:
            try:
                futures = [pool.submit(_run_one, work, c, shares[c.name]) for c in todo]
                for future in as_completed(futures):
                    tell(future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                work.stop()
                pool.shutdown(wait=True)
                raise
    return results


def _inspectable(partial: Path, failed: Path) -> str:
    """Keep what a failed chapter wrote, where it can be read, and say where it lies."""
    try:
        chapters.load(partial)
    except ChapterError:
        # a full disk cut it short; the room is for the others
        partial.unlink(missing_ok=True)
        return ""
    partial.replace(failed)
    return f" (see {failed})"


def _run_one(work: _Work, chapter: Chapter, given: dict[str, Any]) -> Result:
    """Run a chapter and let it count, or say why not."""
    began = time.perf_counter()
    target = work.out / f"{chapter.name}.ipynb"
    failed = work.out / f"{chapter.name}.failed.ipynb"
    partial = work.out / f".{chapter.name}.{os.getpid()}.running.ipynb"

    def result(status: str, message: str = "") -> Result:
        return Result(chapter.name, status, time.perf_counter() - began, message)

    try:
        mark = fingerprint(chapter, given)
        order = json.dumps([str(chapter.path), str(partial), given, str(work.root), work.timeout])
        with tempfile.TemporaryFile() as said:
            process = work.start(order, partial, said)
            if process is None:
                return result("interrupted")
            # its input stays open: the end of it would say that this process is gone
            process.wait()
            process.stdin.close()
            with work.lock:
                work.running.discard(process)
            said.seek(0)
            words = said.read().decode("utf-8", "replace").splitlines()
        if process.returncode == 0:
            wrong = flaw(partial, chapter, given)
            if not wrong and fingerprint(chapter, given) != mark:
                wrong = "its inputs changed while it ran; run it again"
        else:
            clear(partial)
            told = [line for line in words if line.startswith(SAYS)]
            wrong = (
                told[-1].removeprefix(SAYS)
                if told
                else (
                    f"its process ended by itself (status {process.returncode}); most often the "
                    "memory was too little (fewer processes with --jobs)"
                )
            )
        if not wrong:
            about = {
                "fingerprint": mark,
                "parameters": given,
                "seconds": round(time.perf_counter() - began, 1),
            }
            keep(partial, target, about)
            failed.unlink(missing_ok=True)
            return result("done")
        if work.stopped or wrong.endswith(": interrupted"):
            partial.unlink(missing_ok=True)
            return result("interrupted", f"chapter {chapter.name}, {wrong}")
        kept = _inspectable(partial, failed)
        return result("failed", f"chapter {chapter.name}, {wrong}{kept}")
    except ChapterError as error:
        return result("failed", str(error))
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        reason = f"{error.strerror or error} ({error.filename or work.out})"
        return result("failed", f"chapter {chapter.name}: {reason}")
