"""The referee: the whole book under fresh seeds, every verdict and check compared."""

from __future__ import annotations

import json
import re
import secrets
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import provenance
from ..claims import SCHEMA
from . import chapters, executed
from . import ledger as books
from .grid import seeds_of

__all__ = [
    "changed",
    "collect",
    "counted",
    "differing",
    "fresh_seeds",
    "latest",
    "over",
    "read",
    "summary",
]


def fresh_seeds(out: Path, asked: str) -> dict[int, Path]:
    """Return the seeds of a referee's runs with the folder of each.

    Parameters
    ----------
    out : Path
        Holds a folder ``s<seed>`` for each run; those that are there count first, so that
        the same words go on with what was begun.
    asked : str
        How many, or which: ``5``, ``401-405``, ``3,9``.

    Raises
    ------
    ChapterError
        If the text names no seed.
    """
    if asked.strip().isdigit():
        count = int(asked)
        if not 1 <= count <= 1000:
            raise chapters.ChapterError(f"--seeds {asked}: from 1 to 1000 runs, or a list like 1-5")
        there = (re.fullmatch(r"s(\d+)", path.name) for path in sorted(Path(out).glob("s*")))
        seeds = [int(name[1]) for name in there if name][:count]
        while len(seeds) < count:
            seed = 1000 + secrets.randbelow(10**6)  # not one that a chapter was made with
            seeds += [seed] if seed not in seeds else []
    else:
        seeds = seeds_of(asked)
    return {seed: Path(out) / f"s{seed}" for seed in seeds}


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
        ``{"schema", "commit", "date", "device", "versions", "runs": [{"name", "parameters",
        "seconds"}], "claims": [...]}``; a claim has its verdict in every run (None where it is
        missing), the controls that did not flip, and every check and control with its verdict in
        every run, the range of its measurement, and how likely the first run thought a
        change to be.

    Raises
    ------
    ChapterError
        If there is no folder, or one holds no chapter, or a chapter of other code.
    """
    folders = list(folders)
    if not folders:
        raise chapters.ChapterError("referee: name at least one folder of executed chapters")
    runs, ledgers = [], []
    for folder in folders:
        notes = {c.name: executed.noted(folder, c.name) for c in chapters.discover(root)}
        notes = {name: note for name, note in notes.items() if note}
        if not notes:
            raise chapters.ChapterError(
                f"{folder}: holds no executed chapter; mflib run --out {folder}"
            )
        for chapter in chapters.discover(root, notes):
            if not executed.is_fresh(chapter, folder):
                raise chapters.ChapterError(
                    f"{folder}: {chapter.name} was run with other code; run it again"
                )
        parameters = {k: v for note in notes.values() for k, v in note["parameters"].items()}
        seconds = sum(note["seconds"] for note in notes.values())
        runs.append({"name": folder.name, "parameters": parameters, "seconds": round(seconds)})
        ledgers.append({claim["id"]: claim for claim in books.ledger(root, folder)["claims"]})
    first = {id: claim for found in reversed(ledgers) for id, claim in found.items()}
    names = list(dict.fromkeys(id for found in ledgers for id in found))
    return {
        "schema": SCHEMA,
        "commit": provenance.commit(root),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "device": next(iter(first.values()))["device"] if first else "",
        "versions": next(iter(first.values()))["versions"] if first else {},
        "runs": runs,
        "claims": [over(first[id], [found.get(id) for found in ledgers]) for id in names],
    }


def over(claim: dict[str, Any], found: list[dict[str, Any] | None]) -> dict[str, Any]:
    """Return one claim over several runs: its record in one of them, and in each or None."""
    there = [each for each in found if each]
    checks = _each(there, found, "checks", ("name",), ("predicted", "tolerance"))
    return {
        "id": claim["id"],
        "paper": claim["paper"],
        "notebook": claim["notebook"],
        "expected": claim["expected"],
        "verdicts": [each["verdict"] if each else None for each in found],
        "stuck": sorted(
            {c["name"] for each in there for c in each["controls"] if not c["flipped"]}
        ),
        "checks": checks,
        "controls": _each(there, found, "controls", ("name", "check"), ()),
    }


def _each(
    there: list[dict[str, Any]],
    found: list[dict[str, Any] | None],
    part: str,
    key: tuple[str, ...],
    kept: tuple[str, ...],
) -> list[dict[str, Any]]:
    """Return every check, or control, that any run has, with its verdicts over the runs."""

    def name(one: dict[str, Any]) -> tuple:
        return tuple(one[k] for k in key)

    first = {name(one): one for each in reversed(there) for one in each[part]}
    rows = []
    for mark in dict.fromkeys(name(one) for each in there for one in each[part]):
        mine = [
            next((one for one in each[part] if name(one) == mark), None) if each else None
            for each in found
        ]
        values = [
            one["measured"] for one in mine if one and isinstance(one["measured"], (int, float))
        ]
        rows.append(
            {k: first[mark][k] for k in (*key, *kept)}
            | {
                "verdicts": [one["verdict"] if one else None for one in mine],
                "change": first[mark]["details"].get("change", 0.0),
                "range": [min(values), max(values)] if values else None,
            }
        )
    return rows


def changed(claim: dict[str, Any]) -> list[str]:
    """Return the names of a claim's checks and controls whose verdict differs between runs.

    A check that one run has and another lacks counts as changed, unless the whole claim
    is missing there.
    """

    def moved(one: dict[str, Any]) -> bool:
        seen = [v for v, whole in zip(one["verdicts"], claim["verdicts"], strict=True) if whole]
        return len(set(seen)) > 1

    names = [one["name"] for one in claim["checks"] if "verdicts" in one and moved(one)]
    return names + [
        f"control {one['name']} of {one['check']}"
        for one in claim.get("controls", ())
        if moved(one)
    ]


def summary(found: dict[str, Any]) -> str:
    """Return how many verdicts of checks changed, and how many were expected to, in words."""
    rows = [
        one
        for claim in found["claims"]
        for part in ("checks", "controls")
        for one in claim.get(part, ())
        if "verdicts" in one
    ]
    moved = sum(len(changed(claim)) for claim in found["claims"])
    runs = len(found["runs"])
    expected = sum(1.0 - (1.0 - one["change"]) ** (runs - 1) for one in rows)
    return (
        f"{moved} of {len(rows)} checks and controls changed their verdict in {runs} runs; "
        f"about {expected:.1f} were expected to"
    )


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


def latest(folder: Path) -> Path:
    """Return the last of the committed records, by their dates.

    Raises
    ------
    ChapterError
        If the folder holds no record, or one that cannot be read.
    """
    paths = sorted(Path(folder).glob("*.json"))
    if not paths:
        raise chapters.ChapterError(f"{folder}: holds no record; mflib referee --record writes one")
    return max(paths, key=lambda path: (read(path).get("date", ""), path.name))


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
        f"{path}: is no record of reruns of this version; mflib referee FOLDER... --record {path}"
    )
