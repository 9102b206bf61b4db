"""Executed chapters: what is noted of a run, and whether the notebook is all of it."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path
from typing import Any

from .. import provenance
from .chapters import Chapter, ChapterError, code_cells, label, load
from .inputs import fingerprint

__all__ = ["flaw", "is_fresh", "keep", "lies", "noted"]


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def noted(out: Path, name: str) -> dict[str, Any]:
    """Return what was noted of the executed chapter that lies in a folder, empty if nothing.

    ``fingerprint``, ``parameters``, ``seconds`` and the notebook's ``sha256``: a note of
    another notebook does not count.
    """
    kinds = {"fingerprint": str, "parameters": dict, "seconds": (int, float), "sha256": str}
    try:
        notes = json.loads((out / f"{name}.json").read_text("utf-8"))
        digest = _hash(out / f"{name}.ipynb")
        for note in notes:
            good = all(isinstance(note[key], kind) for key, kind in kinds.items())
            if good and note["sha256"] == digest:
                return note
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {}


def keep(partial: Path, target: Path, about: dict[str, Any]) -> None:
    """Let an executed chapter count: note what it is, then rename it.

    The note of the one that lies there stays beside it, so that a process killed between
    the two steps loses neither.

    Raises
    ------
    OSError
        If it cannot be written; what was there before is intact.
    """
    before = noted(target.parent, target.stem)
    notes = [about | {"sha256": _hash(partial)}, *([before] if before else [])]
    provenance.write(target.with_suffix(".json"), json.dumps(notes))
    partial.replace(target)


def is_fresh(chapter: Chapter, out: Path, given: dict[str, Any] | None = None) -> bool:
    """Say whether the executed chapter in `out` belongs to today's inputs.

    With `given` None, to the parameters it was last run with. The notebook must be, byte
    for byte, the one that was noted when it was run.
    """
    note = noted(out, chapter.name)
    if not note:
        return False
    try:
        given = note["parameters"] if given is None else given
        return note["fingerprint"] == fingerprint(chapter, given)
    except (OSError, ChapterError):
        return False


def _injected(source: str) -> dict[str, Any]:
    """Return the values that a cell of papermill's sets."""
    values = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = ast.literal_eval(node.value)
    return values


def flaw(path: Path, chapter: Chapter | None = None, given: dict[str, Any] | None = None) -> str:
    """Return why an executed notebook is not a whole run of a chapter, or an empty text.

    Parameters
    ----------
    path : Path
        The executed notebook.
    chapter : Chapter, optional
        Its code cells must be those of the chapter, in order.
    given : dict, optional
        The injected parameters must be these; None asks for nothing.

    Returns
    -------
    str
        The cell and what is wrong with it: it raised, was left by ``sys.exit``, or did not
        run.

    Raises
    ------
    ChapterError
        If the file is no notebook.
    """
    cells = load(path)
    if not any(cell["cell_type"] == "code" for cell in cells):
        return "it holds no code"
    values: dict[str, Any] = {}
    for index, cell in enumerate(cells):
        if cell["cell_type"] != "code" or not cell["source"].strip():
            continue
        if "injected-parameters" in cell["tags"]:
            try:
                values = _injected(cell["source"])
            except (SyntaxError, ValueError):
                return f"{label(cells, index)}: its parameters cannot be read"
        allowed = "raises-exception" in cell["tags"]
        for output in cell["outputs"]:
            if output.get("output_type") == "error" and not allowed:
                what = f"{output.get('ename')}: {output.get('evalue')}"
                if output.get("ename") == "SystemExit":
                    what += " (a chapter does not leave: the cells after it would not run)"
                return f"{label(cells, index)}: {what}"
        if not isinstance(cell.get("execution_count"), int):
            return f"{label(cells, index)}: did not run"
    if given is not None and values != given:
        return f"it was run with the parameters {values}, asked for were {given}"
    if chapter is not None:
        own = [
            c["source"]
            for c in cells
            if c["cell_type"] == "code" and "injected-parameters" not in c["tags"]
        ]
        asked = [c["source"] for c in code_cells(chapter) if "injected-parameters" not in c["tags"]]
        if own != asked:
            return "its cells are not those of the chapter; run it again"
    return ""


def lies(root: Path, out: Path, chapters: list[Chapter]) -> dict[str, Path]:
    """Return where the executed copy of each chapter lies in a folder.

    It is called after its chapter; what papermill wrote under a name of its own is known
    by the input that it notes.

    Raises
    ------
    ChapterError
        If there is no such folder, it holds no executed chapter, or two of one.
    """
    if not out.is_dir():
        raise ChapterError(f"{out}: is no folder; mflib run makes it")
    found = {c.name: out / f"{c.name}.ipynb" for c in chapters}
    found = {name: path for name, path in found.items() if path.is_file()}
    names = {c.name for c in chapters} - set(found)
    others: dict[str, Path] = {}
    for path in sorted(out.glob("*.ipynb")):
        stem = _of(path)
        if path.name.startswith(".") or path.name.endswith(".failed.ipynb") or stem not in names:
            continue
        if stem in others:
            raise ChapterError(f"{path} and {others[stem]}: both were made of {stem}; move one")
        others[stem] = path
    if not found and not others:
        raise ChapterError(f"{out}: holds no executed chapter; mflib run makes them")
    return {c.name: (found | others)[c.name] for c in chapters if c.name in found | others}


def _of(path: Path) -> str | None:
    """Return the stem of the notebook of which papermill says that it made this one."""
    try:
        about = json.loads(path.read_text("utf-8"))["metadata"]["papermill"]
        return Path(about["input_path"]).stem
    except (OSError, ValueError, KeyError, TypeError):
        return None
