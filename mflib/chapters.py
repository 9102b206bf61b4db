"""Runs chapters: notebooks through papermill, in parallel, only where inputs changed."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = [
    "Chapter",
    "ChapterError",
    "Result",
    "discover",
    "find_root",
    "fingerprint",
    "is_fresh",
    "noted",
    "parameters",
    "run",
    "write",
]

_ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    )
}
_VERSIONED = ("torch", "numpy", "scipy")


class ChapterError(RuntimeError):
    """A chapter, parameter or folder that cannot be used; one line, with the remedy."""


@dataclass(frozen=True)
class Chapter:
    """A notebook of the book.

    Attributes
    ----------
    name : str
        The file's stem, by which the command line knows it.
    path : Path
        The notebook.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class Result:
    """What became of a chapter: ``fresh``, ``done`` or ``failed``, and why."""

    name: str
    status: str
    seconds: float = 0.0
    message: str = ""


def find_root(start: Path | None = None) -> Path:
    """Return the checkout that holds `start` (default: MFLIB_ROOT, else the current folder).

    Raises
    ------
    ChapterError
        If no folder upwards holds ``notebooks/`` and ``_toc.yml``.
    """
    start = Path(start or os.environ.get("MFLIB_ROOT") or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "notebooks").is_dir() and (folder / "_toc.yml").is_file():
            return folder
    raise ChapterError(
        f"{start}: not inside a checkout of the book (no notebooks/ and _toc.yml upwards); "
        "change to it or set MFLIB_ROOT"
    )


def discover(root: Path, names: Iterable[str] = ()) -> list[Chapter]:
    """Return the chapters called `names`, or all of them.

    Raises
    ------
    ChapterError
        If a name is unknown; the message lists the chapters.
    """
    found = {p.stem: Chapter(p.stem, p) for p in sorted((root / "notebooks").glob("*.ipynb"))}
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in found:
            raise ChapterError(f"no chapter {name!r}; there are: {', '.join(found) or 'none'}")
    return [found[name] for name in names] if names else list(found.values())


def _cells(chapter: Chapter) -> list[dict[str, Any]]:
    try:
        cells = json.loads(chapter.path.read_text("utf-8"))["cells"]
        return [cell for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise ChapterError(f"{chapter.path}: is no readable notebook ({error})") from None


def parameters(chapter: Chapter) -> dict[str, tuple[str, str, str]]:
    """Return the chapter's parameters: name to (type, default, comment).

    Raises
    ------
    ChapterError
        If no cell is tagged ``parameters``.
    """
    for cell in _cells(chapter):
        if "parameters" in cell.get("metadata", {}).get("tags", ()):
            rows = re.finditer(
                r"^(\w+)\s*(?::\s*([^=#]+?))?\s*=\s*(.+?)\s*(?:#\s*(.*))?$",
                "".join(cell["source"]), re.MULTILINE,
            )
            return {r[1]: (r[2] or "", r[3], r[4] or "") for r in rows}
    raise ChapterError(f"{chapter.path}: no cell is tagged 'parameters'; tag the one that sets them")


def _imported(source: str, package: tuple[str, ...] = ()) -> set[str]:
    """Return the mflib modules that a piece of Python, in a package, imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "mflib"}


def _sources(cells: list[dict[str, Any]]) -> list[Path]:
    """Return every file of mflib that the cells import, directly or not."""
    home = Path(__file__).parents[1]
    code = "\n".join("".join(cell["source"]) for cell in cells)
    code = "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))
    todo, files = _imported(code), set()
    while todo:
        where = home.joinpath(*todo.pop().split("."))
        for file in (where.with_suffix(".py"), where / "__init__.py"):
            if file.is_file() and file not in files:
                files.add(file)
                package = file.parent.relative_to(home).parts
                todo |= _imported(file.read_text("utf-8"), package)
    return sorted(files)


def _version(package: str) -> str:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return "none"


def fingerprint(chapter: Chapter, given: dict[str, Any]) -> str:
    """Return a digest of everything a chapter's result depends on.

    That is its code and prose, the mflib modules it imports, directly or not, the
    committed records that they read (``book/records/X`` belongs to ``mflib.X.records``),
    the parameters, and the versions of Python, torch, numpy and scipy.
    """
    digest = hashlib.sha256(chapter.path.read_bytes())
    sources = _sources(_cells(chapter))
    kept = chapter.path.parents[1] / "book" / "records"
    records = [
        record for file in sources if file.name == "records.py"
        for record in sorted((kept / file.parent.name).rglob("*.json"))
    ]
    for file in [*sources, *records]:
        digest.update(file.name.encode() + file.read_bytes())
    versions = [platform.python_version(), *(_version(p) for p in _VERSIONED)]
    digest.update(json.dumps([sorted(given.items()), versions]).encode())
    return digest.hexdigest()


def noted(out: Path, name: str) -> dict[str, Any]:
    """Return what is noted of an executed chapter: fingerprint, parameters, seconds."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((out / f"{name}.json").read_text("utf-8"))
    return {}


def is_fresh(chapter: Chapter, out: Path, given: dict[str, Any] | None = None) -> bool:
    """Say whether the executed chapter in `out` belongs to today's inputs.

    With `given` None, to the parameters it was last run with.
    """
    note = noted(out, chapter.name)
    if not note or not (out / f"{chapter.name}.ipynb").is_file():
        return False
    given = note.get("parameters", {}) if given is None else given
    return note.get("fingerprint") == fingerprint(chapter, given)


def write(path: Path, text: str) -> None:
    """Write to a temporary name, then rename: never a half-written file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


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
        [sys.executable, "-m", "mflib.chapters", order], env=environment,
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
