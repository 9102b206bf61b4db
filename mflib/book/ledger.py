"""The ledger: every claim of the executed chapters, read from the notebooks themselves.

What is read is not believed: a record must have the fields of a claim, and its verdict must
follow from its checks and controls.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import provenance
from ..claims import KINDS, SCHEMA, ClaimError, card
from ..claims.verdict import judge
from . import chapters, coverage, executed

__all__ = ["RECORD", "claims_of", "ledger", "problems", "strain", "verdict"]

_WORDS = ["verified", "refuted", "inconclusive", "not run"]
_NUMBER = {"type": ["number", "null"]}
_INTERVAL = {"type": ["array", "null"], "items": _NUMBER, "minItems": 2, "maxItems": 2}
_TEXT = {"type": "string", "pattern": r"\S"}
_MEASURED = {
    "name": _TEXT,
    "kind": _TEXT,
    "measured": _NUMBER,
    "interval": _INTERVAL,
    "verdict": {"enum": _WORDS},
    "details": {"type": "object"},
}

#: The record of a claim, as JSON schema; more fields than these are welcome.
RECORD: dict[str, Any] = {
    "type": "object",
    "required": [
        "schema",
        "instance",
        "id",
        "paper",
        "where",
        "kind",
        "statement",
        "expected",
        "verdict",
        "reason",
        "checks",
        "controls",
        "seconds",
        "device",
        "versions",
    ],
    "properties": {
        "schema": {"const": SCHEMA},
        "instance": _TEXT,
        "id": _TEXT,
        "paper": _TEXT,
        "where": _TEXT,
        "statement": _TEXT,
        "kind": {"enum": list(KINDS)},
        "expected": {"enum": ["verified", "refuted", None]},
        "verdict": {"enum": _WORDS},
        "reason": {"type": "string"},
        "checks": {
            "type": "array",
            "items": {
                "type": "object",
                "required": [*_MEASURED, "predicted", "tolerance", "passed", "reason"],
                "properties": _MEASURED
                | {
                    "predicted": {"type": ["number", "string", "null"]},
                    "tolerance": _NUMBER,
                    "passed": {"type": "boolean"},
                    "reason": {"type": "string"},
                    "premise": {"type": "boolean"},
                    "role": {"enum": ["predicted", "premise"]},
                },
            },
        },
        "controls": {
            "type": "array",
            "items": {
                "type": "object",
                "required": [*_MEASURED, "check", "broke", "flipped"],
                "properties": _MEASURED
                | {
                    "check": _TEXT,
                    "broke": _TEXT,
                    "flipped": {"type": "boolean"},
                },
            },
        },
        "seed": {"type": ["integer", "null"]},
        "seconds": {"type": "number"},
        "device": {"type": "string"},
        "versions": {"type": "object"},
    },
}


def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(RECORD)


def claims_of(notebook: Path, name: str | None = None) -> list[dict[str, Any]]:
    """Return the claims that an executed notebook carries, each as it stood last.

    Parameters
    ----------
    notebook : Path
        The executed notebook.
    name : str, optional
        The chapter's name; default the file's.

    Raises
    ------
    ChapterError
        If the file is no notebook, or holds a claim of another schema.
    """
    validator = _validator()
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in chapters.load(notebook):
        for output in cell["outputs"]:
            about = output.get("metadata")
            record = about.get("mflib") if isinstance(about, dict) else None
            if record is None:
                continue
            for error in validator.iter_errors(record):
                where = "/".join(map(str, error.absolute_path)) or "the record"
                who = record.get("id") if isinstance(record, dict) else None
                raise chapters.ChapterError(
                    f"{notebook}: claim {who!r}: {where}: {error.message[:200]}; run the chapter "
                    "again with --force"
                )
            record = record | {"notebook": name or notebook.stem}
            found[record["id"], record["instance"]] = record
    return list(found.values())


def verdict(record: dict[str, Any]) -> str:
    """Return the verdict that a record's own checks and controls give."""
    return judge(record["kind"], record["checks"], record["controls"]).verdict


def strain(check: dict[str, Any]) -> float:
    """Return the share of its tolerance that a measurement uses: at most 1 where it holds.

    For a bound the ratio of its sides; 0 for kinds without a tolerance, NaN where the
    numbers are missing.
    """
    kind, tolerance, value = check["kind"], check["tolerance"], check["measured"]
    if kind == "bound":
        return min(1.0, max(0.0, check["details"].get("tightness") or 0.0))
    if kind not in ("identity", "rate", "limit"):
        return 0.0
    ends = [value] if kind == "identity" else check["interval"] or [None]
    if None in ends or not tolerance or isinstance(check["predicted"], (str, type(None))):
        return float("nan")
    # to rounding: the interval may end on the edge
    return max(abs(end - check["predicted"]) for end in ends) / tolerance * (1 - 1e-9)


def _folder(root: Path, out: Path | None) -> Path:
    return Path(out) if out else root / "_build" / "chapters"


def ledger(root: Path, out: Path | None = None, names: Iterable[str] = ()) -> dict[str, Any]:
    """Return the ledger as plain data: schema, commit and all claims.

    Parameters
    ----------
    root : Path
        The checkout.
    out : Path
        Where the executed chapters lie; default ``_build/chapters``.
    names : iterable of str
        Chapters; default all.

    Returns
    -------
    dict
        ``{"schema": 1, "commit": ..., "claims": [...], "planned": [...]}``, chapters in
        order; planned is what the register holds and no chapter carries.

    Raises
    ------
    ChapterError
        If the folder is missing or holds no executed chapter, a record is no claim's, or
        the register cannot be read.
    """
    chosen, claims = chapters.discover(root, names), []
    lies = executed.lies(root, _folder(root, out), chapters.discover(root))
    for chapter in chosen:
        if chapter.name in lies:
            claims += claims_of(lies[chapter.name], chapter.name)
    try:
        planned = coverage.planned(root, claims)
    except ClaimError as error:
        raise chapters.ChapterError(str(error)) from None
    return {
        "schema": SCHEMA,
        "commit": provenance.commit(root),
        "claims": claims,
        "planned": planned,
    }


def problems(root: Path, out: Path | None = None, names: Iterable[str] = ()) -> list[str]:
    """Return what is wrong with the ledger, one line each; empty if all is well.

    A verdict that differs from the expected one or does not follow from the checks, a
    control that did not flip, what the rules ask for and a check does not say, an identifier
    given twice, a chapter that is missing, failed, stale, not wholly run, without claims, or
    without one that the register gives it.

    Parameters
    ----------
    root, out, names
        As in :func:`ledger`.

    Raises
    ------
    ChapterError
        If the folder is missing or holds no executed chapter.
    """
    out = _folder(root, out)
    lines: list[str] = []
    seen: dict[str, str] = {}
    chosen = chapters.discover(root, names)
    lies = executed.lies(root, out, chapters.discover(root))
    for chapter in chosen:
        if (out / f"{chapter.name}.failed.ipynb").is_file():
            lines.append(f"{chapter.name}: the last run failed; see {chapter.name}.failed.ipynb")
        if chapter.name not in lies:
            lines.append(
                _unread(chapter) or f"{chapter.name}: was not run; mflib run {chapter.name}"
            )
            continue
        try:
            lines += _state(chapter, out, lies[chapter.name])
            claims = claims_of(lies[chapter.name], chapter.name)
            aside = chapters.is_aside(chapter)
        except chapters.ChapterError as error:
            lines.append(f"{chapter.name}: {error}")
            continue
        if aside:
            lines += [f"{c['id']}: {chapter.name} is tagged no-claims" for c in claims]
        elif not claims:
            lines.append(f"{chapter.name}: carries no claim")
        lines += coverage.lacking(root, chapter.name, claims)
        for claim in claims:
            name = claim["id"]
            if name in seen:
                lines.append(f"{name}: given twice, in {seen[name]} and in {chapter.name}")
            seen[name] = chapter.name
            lines += _wrong(claim)
    return lines


def _unread(chapter: chapters.Chapter) -> str:
    try:
        chapters.code_cells(chapter)
    except chapters.ChapterError as error:
        return f"{chapter.name}: {error}"
    return ""


def _state(chapter: chapters.Chapter, out: Path, path: Path) -> list[str]:
    """Return what is wrong with an executed chapter as a run of today's inputs."""
    name = chapter.name
    if path.stem != name:
        if wrong := executed.flaw(path, chapter):
            return [f"{name}: {path.name}: {wrong}"]
        return [f"{name}: {path.name} notes no inputs, as mflib run does; mflib run {name}"]
    if wrong := executed.flaw(path):
        return [f"{name}: {wrong}; mflib run {name} --force"]
    if not executed.is_fresh(chapter, out):
        return [f"{name}: is stale, its inputs changed; mflib run {name}"]
    return []


def _wrong(claim: dict[str, Any]) -> list[str]:
    """Return what is wrong with one claim."""
    name, lines = claim["id"], []
    if not claim["checks"]:
        lines.append(f"{name}: states no check")
    if claim["expected"] != KINDS[claim["kind"]]:
        lines.append(f"{name}: expects {claim['expected']}, its kind {claim['kind']} does not")
    if claim["expected"] is not None and claim["verdict"] != claim["expected"]:
        lines.append(
            f"{name}: is {claim['verdict']}, expected {claim['expected']} ({claim['reason']})"
        )
    lines += [
        f"{name}: {check['name']}: says verified, its numbers do not (measured "
        f"{check['measured']}, interval {check['interval']}, tolerance {check['tolerance']})"
        for check in claim["checks"]
        if check["verdict"] == "verified" and not strain(check) <= 1
    ]
    if claim["verdict"] != (found := verdict(claim)):
        lines.append(f"{name}: says {claim['verdict']}, its checks and controls say {found}")
    lines += [
        f"{name}: the control {control['name']!r} did not flip"
        for control in claim["controls"]
        if not control["flipped"]
    ]
    # what was not run, as a row that waits for a GPU, lacks nothing yet
    measured = [check for check in claim["checks"] if check["verdict"] != "not run"]
    return lines + [f"{name}: {words}" for words in card.unsaid(claim | {"checks": measured})]
