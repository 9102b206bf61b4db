"""Runs chapters: notebooks through papermill, in parallel, only where inputs changed.

A run holds its folder: no second one works there, and however it ends, its kernels end with
it. A chapter counts when every cell ran, without error, with the parameters asked for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..provenance import write
from ..workers import Workers, WorkersError, completed, local
from . import chapters, execute
from .chapters import Chapter, ChapterError
from .executed import is_fresh, keep, noted
from .hold import Ended, held, refuse, signals
from .inputs import fingerprint

__all__ = ["TIMEOUT", "Ended", "Result", "run"]

#: Seconds that one cell may take.
TIMEOUT = 7200


@dataclass(frozen=True)
class Result:
    """What became of a chapter: ``fresh``, ``done``, ``failed`` or ``interrupted``, and why."""

    name: str
    status: str
    seconds: float = 0.0
    message: str = ""


def run(
    root: Path,
    names: Iterable[str] = (),
    given: dict[str, Any] | None = None,
    *,
    out: Path | None = None,
    jobs: int | None = None,
    workers: Callable[[], AbstractContextManager[Workers]] | None = None,
    force: bool = False,
    timeout: int | None = TIMEOUT,
    report: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Run chapters whose inputs changed, several at a time, one torch thread each.

    Each runs in a fork of its worker's warm process, here or where a scheduler has workers.

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
    workers : callable
        Gives other workers as a context; default those processes of this machine.
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
    with held(out), signals():
        for result in unreadable:
            tell(result)
        todo = {}
        for chapter in readable:
            if not force and is_fresh(chapter, out, shares[chapter.name]):
                tell(Result(chapter.name, "fresh"))
            else:
                todo[chapter.name] = chapter
        if not todo:
            return results
        # the longest first, as far as is known
        order = sorted(todo.values(), key=lambda c: -noted(out, c.name).get("seconds", 1e9))
        processes = min(jobs or os.cpu_count() or 1, len(todo))
        place = workers or (lambda: local(processes, 1, {execute.MARK: str(out / ".warm")}))
        try:
            with place() as some:
                orders = _orders(root, out, order, shares, timeout, some)
                for task, future in completed(some, orders):
                    chapter = todo[task[1]["chapter"]]
                    tell(_settle(out, chapter, shares[chapter.name], execute.outcome(future)))
        except WorkersError as error:
            raise ChapterError(f"{error}; chapters that were done are kept") from None
        finally:
            execute.clear(out)
            for left in out.glob(f".*{execute.RUNNING}"):
                with contextlib.suppress(OSError):
                    left.unlink()
    return results


def _orders(
    root: Path,
    out: Path,
    todo: list[Chapter],
    shares: dict[str, dict[str, Any]],
    timeout: int | None,
    workers: Workers,
) -> Iterator[tuple]:
    """Give every chapter to the workers; those elsewhere must have the same version."""
    for chapter in todo:
        given = shares[chapter.name]
        try:
            mark = fingerprint(chapter, given) if workers.remote else None
        except (OSError, ChapterError):
            mark = None  # its run will say what is wrong
        yield (
            execute.work,
            {
                "chapter": chapter.name,
                "given": given,
                "root": str(root),
                "mark": mark,
                "cell": timeout,
                "whole": None,
                "where": None if workers.remote else str(out),
                "keep": True,
            },
        )


def _settle(out: Path, chapter: Chapter, given: dict[str, Any], found: dict[str, Any]) -> Result:
    """Let a chapter that ran count, or say why not."""
    target = out / f"{chapter.name}.ipynb"
    failed = out / f"{chapter.name}.failed.ipynb"
    partial = out / f".{chapter.name}.{os.getpid()}{execute.RUNNING}"
    wrong = found["wrong"]

    def result(status: str, message: str = "") -> Result:
        return Result(chapter.name, status, found["seconds"] or 0.0, message)

    try:
        if not wrong and fingerprint(chapter, given) != found["mark"]:
            wrong = "its inputs changed while it ran; run it again"
        if wrong.endswith(": interrupted"):
            return result("interrupted", f"chapter {chapter.name}, {wrong}")
        if wrong:
            kept = ""
            if found["notebook"]:
                with contextlib.suppress(OSError):
                    write(failed, found["notebook"])
                    kept = f" (see {failed})"
            return result("failed", f"chapter {chapter.name}, {' '.join(wrong.split())}{kept}")
        write(partial, found["notebook"])
        about = {
            "fingerprint": found["mark"],
            "parameters": given,
            "seconds": round(found["seconds"], 1),
        }
        keep(partial, target, about)
        failed.unlink(missing_ok=True)
        return result("done")
    except ChapterError as error:
        return result("failed", str(error))
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        reason = f"{error.strerror or error} ({error.filename or out})"
        return result("failed", f"chapter {chapter.name}: {reason}")
