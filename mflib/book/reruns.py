"""Reruns: the verdicts of one book over several runs, with fresh seeds or another preset."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import provenance
from ..claims import SCHEMA
from . import chapters
from . import ledger as books

__all__ = ["collect", "counted", "differing", "read"]


def collect(root: Path, folders: Iterable[Path]) -> dict[str, Any]:
    """Return every claim's verdicts over several folders of executed chapters.

    Parameters
    ----------
    root : Path
        The checkout.
    folders : iterable of Path
        What ``mflib run --out`` wrote, one folder a run.

    Returns
    -------
    dict
        ``{"schema", "commit", "versions", "runs": [{"name", "parameters", "seconds"}],
        "claims": [...]}``; a claim has its verdict in every run (None where it is missing),
        the controls that did not flip, and the range of each check's measurement.

    Raises
    ------
    ChapterError
        If there is no folder, or one holds no chapter, or a chapter of other code.
    """
    folders = list(folders)
    if not folders:
        raise chapters.ChapterError("reruns: name at least one folder of executed chapters")
    runs, ledgers = [], []
    for folder in folders:
        notes = {c.name: chapters.noted(folder, c.name) for c in chapters.discover(root)}
        notes = {name: note for name, note in notes.items() if note}
        if not notes:
            raise chapters.ChapterError(
                f"{folder}: holds no executed chapter; mflib run --out {folder}")
        for chapter in chapters.discover(root, notes):
            if not chapters.is_fresh(chapter, folder):
                raise chapters.ChapterError(
                    f"{folder}: {chapter.name} was run with other code; run it again")
        parameters = {k: v for note in notes.values() for k, v in note["parameters"].items()}
        seconds = sum(note["seconds"] for note in notes.values())
        runs.append({"name": folder.name, "parameters": parameters, "seconds": round(seconds)})
        ledgers.append({claim["id"]: claim for claim in books.ledger(root, folder)["claims"]})
    first = {id: claim for found in reversed(ledgers) for id, claim in found.items()}
    names = list(dict.fromkeys(id for found in ledgers for id in found))
    return {
        "schema": SCHEMA,
        "commit": provenance.commit(root),
        "versions": next(iter(first.values()))["versions"] if first else {},
        "runs": runs,
        "claims": [_over(first[id], [found.get(id) for found in ledgers]) for id in names],
    }


def _over(claim: dict[str, Any], found: list[dict[str, Any] | None]) -> dict[str, Any]:
    there = [each for each in found if each]
    checks = []
    for check in claim["checks"]:
        values = [
            other["measured"] for each in there for other in each["checks"]
            if other["name"] == check["name"] and isinstance(other["measured"], (int, float))
        ]
        checks.append({
            "name": check["name"], "predicted": check["predicted"],
            "tolerance": check["tolerance"],
            "range": [min(values), max(values)] if values else None,
        })
    return {
        "id": claim["id"], "paper": claim["paper"], "notebook": claim["notebook"],
        "expected": claim["expected"],
        "verdicts": [each["verdict"] if each else None for each in found],
        "stuck": sorted({c["name"] for each in there for c in each["controls"] if not c["flipped"]}),
        "checks": checks,
    }


def differing(claim: dict[str, Any]) -> int:
    """Return in how many runs a claim's verdict is not the expected one.

    For an open question, which expects none, that is: not the most frequent one.
    """
    seen = [verdict for verdict in claim["verdicts"] if verdict is not None]
    expected = claim["expected"]
    if expected is None:
        return len(seen) - max(Counter(seen).values(), default=0)
    return sum(verdict != expected for verdict in seen)


def counted(claim: dict[str, Any]) -> str:
    """Return a claim's verdicts in words, the most frequent first: *5 verified*.

    An open question is *reproduced* or not, as its card says.
    """
    words = {"verified": "reproduced", "refuted": "not reproduced"}
    said = words if claim["expected"] is None else {}
    seen = Counter(said.get(v, v) if v else "missing" for v in claim["verdicts"])
    return ", ".join(f"{count} {verdict}" for verdict, count in seen.most_common())


def read(path: Path) -> dict[str, Any]:
    """Return a committed record of :func:`collect`.

    Raises
    ------
    ChapterError
        If the file is no such record.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        if found["schema"] == SCHEMA and found["claims"] and found["runs"]:
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise chapters.ChapterError(
        f"{path}: is no record of reruns of this version; mflib reruns FOLDER... --record {path}")
