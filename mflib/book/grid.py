"""Grids: a chapter at every point of one, under many seeds, into one table; a *sweep*."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import provenance
from ..workers import Workers, WorkersError, completed
from . import chapters, execute
from .chapters import Chapter, ChapterError
from .hold import held, refuse, signals
from .inputs import fingerprints
from .results import Table, key, rows_of

__all__ = ["Count", "Point", "points", "run", "seeds_of", "values_of"]

#: Points of one sweep, at most: a mistyped range is noticed before it runs for a year.
MOST = 10**6


@dataclass(frozen=True)
class Point:
    """A chapter and the parameters that it is run with."""

    chapter: Chapter
    given: dict[str, Any]

    @property
    def key(self) -> str:
        """The name of the point in the table."""
        return key(self.chapter.name, self.given)


@dataclass
class Count:
    """How many points there are, were done before, were stale, had failed; ran, and failed.

    ``others`` are in the table and not among them.
    """

    points: int = 0
    others: int = 0
    fresh: int = 0
    stale: int = 0
    again: int = 0
    done: int = 0
    failed: int = 0


def seeds_of(text: str) -> list[int]:
    """Return the seeds of ``0-49``, ``3,5`` or a mixture.

    Raises
    ------
    ChapterError
        If the text cannot be read, or names no seed.

    Examples
    --------
    >>> seeds_of("0-2,7")
    [0, 1, 2, 7]
    """
    found: dict[int, None] = {}
    try:
        for part in filter(None, text.replace(" ", "").split(",")):
            first, dash, last = part.partition("-")
            ends = int(first), int(last if dash else first)
            if ends[1] - ends[0] >= MOST:
                raise ChapterError(f"--seeds {text}: {part} are more than {MOST}")
            found |= dict.fromkeys(range(ends[0], ends[1] + 1))
    except ValueError:
        raise ChapterError(f"--seeds {text}: is not like 0-49 or 0,2,5") from None
    if not found:
        raise ChapterError(f"--seeds {text}: names no seed; give for instance 0-49")
    return list(found)


def values_of(text: str) -> tuple[str, list[Any]]:
    """Return name and values of ``width=64,256,1024``, as text or as Python reads them.

    Raises
    ------
    ChapterError
        If the text has no such form.

    Examples
    --------
    >>> values_of("width=64,256")
    ('width', [64, 256])
    >>> values_of("act=tanh,relu")
    ('act', ['tanh', 'relu'])
    """
    name, sign, words = text.partition("=")
    if not sign or not name.strip().isidentifier() or not words.strip(", "):
        raise ChapterError(f"--grid {text}: is not like width=64,256,1024")
    try:
        found = ast.literal_eval(f"[{words}]")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = [word.strip() for word in words.split(",")]
    if len(set(map(repr, found))) < len(found):
        raise ChapterError(f"--grid {text}: names a value twice")
    return name.strip(), found


def points(
    root: Path,
    names: Iterable[str],
    grid: dict[str, list[Any]],
    given: dict[str, Any] | None = None,
) -> list[Point]:
    """Return the points of chapters times grids, checked before anything runs.

    Parameters
    ----------
    root : Path
        The checkout.
    names : iterable of str
        Chapters; default all. Each takes the parameters that it has.
    grid : dict
        The values of each parameter; the first varies slowest.
    given : dict
        Parameters that are the same everywhere.

    Raises
    ------
    ChapterError
        If a chapter or parameter is unknown, or a value does not fit its declaration.
    """
    given = given or {}
    if twice := sorted(set(grid) & set(given)):
        raise ChapterError(f"parameter {twice[0]}: is given once as a grid and once as a value")
    chosen = chapters.discover(root, names)
    declared = {chapter.name: chapters.parameters(chapter) for chapter in chosen}
    same = chapters.shares(declared, given)
    for name, values in grid.items():
        for value in values:
            chapters.shares(declared, {name: value})
    found = []
    for chapter in chosen:
        mine = declared[chapter.name]
        axes = [
            [(name, chapters.checked(name, value, mine[name])) for value in values]
            for name, values in grid.items()
            if name in mine
        ]
        size = 1
        for axis in axes:
            size *= len(axis)
        if size > MOST:
            raise ChapterError(f"{chapter.name}: {size} points are more than {MOST}")
        found += [
            Point(chapter, dict(some) | same[chapter.name]) for some in itertools.product(*axes)
        ]
    return found


def run(
    root: Path,
    todo: list[Point],
    out: Path,
    workers: Callable[[], AbstractContextManager[Workers]],
    *,
    timeout: float | None = None,
    keep: bool = False,
    force: bool = False,
    say: Callable[[str], None] = print,
    work: Callable[[dict[str, Any]], dict[str, Any]] = execute.work,
) -> Count:
    """Run the points that are missing, stale or failed; every result is on the disk at once.

    Parameters
    ----------
    root : Path
        The checkout.
    todo : list of Point
        The sweep.
    out : Path
        The folder of the table and of the notebooks that are kept.
    workers : callable
        Gives the workers as a context; it is called where there is something to do.
    timeout : float or None
        Seconds that a point may take.
    keep : bool
        Keep every executed notebook; those of failures are kept anyway.
    force : bool
        Run what is done, too.
    say : callable
        Called with a line for the reader.
    work : callable
        What a worker does for a point; a benchmark of the rest gives another.

    Raises
    ------
    ChapterError
        If the folder cannot be used, the workers are lost, or a worker has another version;
        what was finished is in the table.
    """
    root, out = Path(root).resolve(), Path(out).resolve()
    refuse(root, out)
    with held(out), signals():
        table = Table(out, dict.fromkeys(name for p in todo for name in p.given))
        marks = _marks(todo)
        count, waiting = Count(points=len(todo), others=len(set(table.points) - set(marks))), []
        for point in todo:
            row = table.points.get(point.key, [None])[0]
            if row and row["fingerprint"] != marks[point.key]:
                count.stale += 1
            elif row and row["error"]:
                count.again += 1
            elif row and not force and _whole(out, point, keep):
                count.fresh += 1
                continue
            waiting.append(point)
        say(_begin(count))
        try:
            if waiting:
                with workers() as some:
                    if some.link:
                        say(f"dashboard: {some.link}")
                    _all(root, waiting, marks, out, some, timeout, keep, table, count, say, work)
        except WorkersError as error:
            raise ChapterError(
                f"{error}; {count.done} points more are in {table.path}; give the same command "
                "again, which goes on from there"
            ) from None
        finally:
            execute.clear(out)
            if words := table.finish():
                say(words)
    return count


def _marks(todo: list[Point]) -> dict[str, str]:
    """Return the fingerprint of every point."""
    by_chapter: dict[Chapter, list[Point]] = {}
    for point in todo:
        by_chapter.setdefault(point.chapter, []).append(point)
    return {
        point.key: mark
        for chapter, some in by_chapter.items()
        for point, mark in zip(some, fingerprints(chapter, [p.given for p in some]), strict=True)
    }


def _begin(count: Count) -> str:
    words = [f"{count.points} points"]
    if count.fresh:
        words.append(f"{count.fresh} are done")
    if count.stale:
        words.append(f"{count.stale} are stale (code, libraries or records changed) and run again")
    if count.others:
        words.append(f"{count.others} others stay in the table")
    if count.again:
        words.append(f"{count.again} had failed and run again")
    return ", ".join(words)


def _notebook(out: Path, point: Point, failed: bool = False) -> Path:
    return out / "notebooks" / f"{point.chapter.name}-{point.key}{'.failed' * failed}.ipynb"


def _whole(out: Path, point: Point, keep: bool) -> bool:
    """Say whether nothing of a point that is in the table is lacking."""
    return not keep or _notebook(out, point).is_file()


def _all(
    root: Path,
    waiting: list[Point],
    marks: dict[str, str],
    out: Path,
    workers: Workers,
    timeout: float | None,
    keep: bool,
    table: Table,
    count: Count,
    say: Callable[[str], None],
    work: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    """Run points; those that failed once more."""
    where = None if workers.remote else str(out)

    def orders(some: list[Point]) -> Iterator[tuple]:
        for point in some:
            yield (
                work,
                {
                    "chapter": point.chapter.name,
                    "given": point.given,
                    "root": str(root),
                    "mark": marks[point.key],
                    "cell": None,
                    "whole": timeout,
                    "where": where,
                    "keep": keep,
                },
            )

    total = len(waiting)
    for attempt in (1, 2):
        failed = []
        by_key = {point.key: point for point in waiting}
        for task, future in completed(workers, orders(waiting)):
            point = by_key[key(task[1]["chapter"], task[1]["given"])]
            found = execute.outcome(future)
            if found["version"]:
                raise ChapterError(found["wrong"])
            _record(table, point, marks[point.key], found, attempt, out)
            if found["wrong"]:
                failed.append(point)
            else:
                count.done += 1
            table.parquet()
            _tell(point, found, count, total, attempt, say)
        count.failed, waiting = len(failed), failed
        if not failed:
            break


def _record(
    table: Table, point: Point, mark: str, found: dict[str, Any], attempt: int, out: Path
) -> None:
    if found["notebook"] is not None:
        path = _notebook(out, point, bool(found["wrong"]))
        try:
            provenance.write(path, found["notebook"])
        except OSError as error:
            raise ChapterError(f"{path}: cannot be written ({error.strerror or error})") from None
    if not found["wrong"]:
        _notebook(out, point, failed=True).unlink(missing_ok=True)
    seconds = found["seconds"]
    table.add(
        point.chapter.name,
        point.given,
        [] if found["wrong"] else rows_of(found["claims"]),
        seconds=None if seconds is None else round(seconds, 3),
        worker=found["worker"],
        attempt=attempt,
        error=" ".join(found["wrong"].split()),
        fingerprint=mark,
    )


def _tell(
    point: Point,
    found: dict[str, Any],
    count: Count,
    total: int,
    attempt: int,
    say: Callable[[str], None],
) -> None:
    given = ", ".join(f"{k}={v}" for k, v in point.given.items())
    what = f"{point.chapter.name} {given}".strip()
    if found["wrong"]:
        more = "; it is tried once more" if attempt == 1 else ""
        say(f"✗ {what}: {found['wrong']}{more}")
    else:
        say(f"✓ {count.done}/{total} {what}: {found['seconds']:.1f} s")
