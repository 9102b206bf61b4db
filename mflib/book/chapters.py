"""Chapters: the notebooks of a checkout, their parameters, and whether a run is up to date."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import provenance
from ..claims import register

__all__ = [
    "Chapter",
    "ChapterError",
    "discover",
    "find_root",
    "fingerprint",
    "is_fresh",
    "noted",
    "parameters",
]

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
    home = Path(__file__).parents[2]
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


def _rows(chapter: Chapter) -> list[register.Entry]:
    """Return the rows of the register whose identifiers the chapter's code names."""
    entries = register.read(register.find(chapter.path.parent))
    code = "\n".join("".join(cell["source"]) for cell in _cells(chapter))
    return [row for id, row in entries.items() if f'"{id}"' in code or f"'{id}'" in code]


def fingerprint(chapter: Chapter, given: dict[str, Any]) -> str:
    """Return a digest of everything a chapter's result depends on.

    That is its code and prose, the rows of the register that it names, the mflib modules
    it imports, directly or not, the committed records that they read (``book/records/X``
    belongs to ``mflib.X.records``), the parameters, and the versions of Python, torch, numpy
    and scipy.
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
    digest.update(json.dumps(_rows(chapter)).encode())
    versions = provenance.versions(*_VERSIONED)
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
