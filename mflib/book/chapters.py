"""Chapters: the notebooks of a checkout, their cells and their parameters."""

from __future__ import annotations

import ast
import json
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "PRESETS",
    "SHIPPED",
    "Chapter",
    "ChapterError",
    "Parameter",
    "checked",
    "code_cells",
    "discover",
    "find_root",
    "is_aside",
    "label",
    "library",
    "load",
    "parameters",
    "shares",
]

#: The values of the parameter ``preset``: decides every verdict; sharper and slower.
PRESETS = ("quick", "full")

#: The chapters that a wheel brings, laid out as in a checkout; setup.py puts them there.
SHIPPED = Path(__file__).resolve().with_name("shipped")

#: A name that is a file, a page and a word of the command line alike.
_NAME = re.compile(r"[A-Za-z0-9][\w-]*")


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


class Parameter(NamedTuple):
    """A parameter as its notebook declares it: type, default and comment, as text."""

    kind: str
    default: str
    comment: str

    @property
    def choices(self) -> tuple[str, ...]:
        """What a comment that begins ``a | b: ...`` allows; empty where it says nothing."""
        found = re.match(r"\s*(\w+(?:\s*\|\s*\w+)+)\s*(?::|$)", self.comment)
        return tuple(re.split(r"\s*\|\s*", found[1])) if found else ()


def find_root(start: Path | None = None) -> Path:
    """Return the checkout that holds `start`; by default the chapters of the wheel count, too.

    Parameters
    ----------
    start : Path, optional
        Default: MFLIB_ROOT, else the current folder; where that is in no checkout, what the
        installed wheel brings.

    Raises
    ------
    ChapterError
        If no folder upwards holds ``notebooks/`` and ``_toc.yml``.
    """
    given = start or os.environ.get("MFLIB_ROOT")
    start = Path(given or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "notebooks").is_dir() and (folder / "_toc.yml").is_file():
            return folder
    if not given and SHIPPED.is_dir():
        return SHIPPED
    raise ChapterError(
        f"{start}: not inside a checkout of the book (no notebooks/ and _toc.yml upwards); "
        "change to it or set MFLIB_ROOT"
    )


def library(root: Path) -> Path:
    """Return the folder from which a checkout's chapters import mflib.

    That is the checkout where it holds the library, else wherever this one lies.
    """
    here = Path(__file__).parents[2]
    return root if (root / "mflib" / "__init__.py").is_file() else here


def discover(root: Path, names: Iterable[str] = ()) -> list[Chapter]:
    """Return the chapters called `names`, or all of them, whether or not they can be read.

    Raises
    ------
    ChapterError
        If a name is unknown; the message lists the chapters.
    """
    paths = sorted((root / "notebooks").glob("*.ipynb"))
    found = {p.stem: Chapter(p.stem, p) for p in paths if not p.name.startswith(".")}
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in found:
            raise ChapterError(f"no chapter {name!r}; there are: {', '.join(found) or 'none'}")
    return [found[name] for name in names] if names else list(found.values())


def load(path: Path) -> list[dict[str, Any]]:
    """Return a notebook's cells, each with its type, source (one text), tags and outputs.

    Raises
    ------
    ChapterError
        If there is no such file, or it is no notebook; the message names it.
    """
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        for cell in cells:
            if not isinstance(cell["cell_type"], str):
                raise TypeError("a cell without a type")
            cell["source"] = "".join(cell["source"])
            about = cell.get("metadata")
            tags = about.get("tags") if isinstance(about, dict) else None
            cell["metadata"] = about if isinstance(about, dict) else {}
            cell["tags"] = tags if isinstance(tags, list) else []
            outputs = cell.get("outputs")
            cell["outputs"] = [o for o in outputs or () if isinstance(o, dict)]
        return cells
    except OSError as error:
        raise ChapterError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ChapterError(f"{path}: is no readable notebook ({error!r})") from None


def code_cells(chapter: Chapter) -> list[dict[str, Any]]:
    """Return a chapter's code cells, as :func:`load` does.

    Raises
    ------
    ChapterError
        If it cannot be run: its name, its file, or no cell tagged ``parameters``.
    """
    if not _NAME.fullmatch(chapter.name):
        raise ChapterError(f"{chapter.path}: call it by letters, digits, _ and - only")
    cells = [cell for cell in load(chapter.path) if cell["cell_type"] == "code"]
    if not any("parameters" in cell["tags"] for cell in cells):
        raise ChapterError(
            f"{chapter.path}: no cell is tagged 'parameters'; tag the one that sets them"
        )
    return cells


def is_aside(chapter: Chapter) -> bool:
    """Say whether a chapter teaches and claims nothing: its parameters are tagged ``no-claims``."""
    return any({"parameters", "no-claims"} <= set(cell["tags"]) for cell in code_cells(chapter))


def label(cells: list[dict[str, Any]], index: int) -> str:
    """Name a cell as a reader finds it: its number among all cells and its first line."""
    lines = (line.strip() for line in cells[index]["source"].splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "empty")
    return f"cell {index + 1} ({first[:60]!r})"


def parameters(chapter: Chapter) -> dict[str, Parameter]:
    """Return the chapter's parameters by name.

    Raises
    ------
    ChapterError
        If the chapter cannot be run, or its parameters cannot be read.
    """
    from papermill import inspect_notebook

    code_cells(chapter)
    path = str(chapter.path).replace("{", "{{").replace("}", "}}")
    try:
        rows = inspect_notebook(path).values()
    except Exception as error:  # whatever a notebook with odd metadata makes papermill raise
        raise ChapterError(
            f"{chapter.path}: papermill cannot read its parameters ({error!r})"
        ) from None
    unknown = ("None", "NoneType")
    return {
        r["name"]: Parameter(
            "" if r["inferred_type_name"] in unknown else r["inferred_type_name"].strip(),
            r["default"],
            r["help"],
        )
        for r in rows
    }


_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}


def _plain(value: Any) -> bool:
    """Say whether papermill can hand a value to a notebook and get the same one back."""
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) and _plain(v) for k, v in value.items())
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (bool, int, str))


def checked(name: str, value: Any, declared: Parameter) -> Any:
    """Return a parameter's value if its declaration allows it.

    Parameters
    ----------
    name : str
        The parameter.
    value : object
        A value, or text as the command line gives it, which is read as Python is.
    declared : Parameter
        Type and choices; a type that is not int, float, str, bool, list or dict is the
        type of the default.

    Raises
    ------
    ChapterError
        If the type or the choice is another; the message says which are allowed.
    """
    kind = declared.kind.split("[")[0].strip()
    if kind not in _KINDS:
        try:
            kind = type(ast.literal_eval(declared.default)).__name__
        except (ValueError, SyntaxError):
            kind = ""
    if isinstance(value, str) and kind != "str":
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = {"true": True, "false": False}.get(value.lower(), value)
    fits = _plain(value) and (kind not in _KINDS or isinstance(value, _KINDS[kind]))
    if not fits or (isinstance(value, bool) and kind in ("int", "float")):
        raise ChapterError(
            f"parameter {name}: {value!r} is no {kind or 'value that a notebook can take'}"
            f" (default: {declared.default})"
        )
    choices = PRESETS if name == "preset" else declared.choices
    if choices and str(value) not in choices:
        raise ChapterError(f"parameter {name}: {value!r} is none of {', '.join(choices)}")
    return value


def shares(
    declared: dict[str, dict[str, Parameter]], given: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return each chapter's share of the parameters, checked before anything runs.

    Parameters
    ----------
    declared : dict
        Each chapter's parameters.
    given : dict
        Values by name; a chapter takes those that it has.

    Raises
    ------
    ChapterError
        If no chapter has a parameter, or a value does not fit its declaration.
    """
    everywhere = {name for names in declared.values() for name in names}
    for name in given:
        if name not in everywhere:
            listed = ", ".join(sorted(everywhere)) or "none"
            raise ChapterError(f"no parameter {name!r} in the chosen chapters; there are: {listed}")
    return {
        chapter: {n: checked(n, v, names[n]) for n, v in given.items() if n in names}
        for chapter, names in declared.items()
    }
