"""The ledger: every claim of the executed chapters, read from the notebooks themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .. import provenance
from ..claims import SCHEMA
from . import chapters, coverage

__all__ = ["claims_of", "ledger", "problems"]


def claims_of(notebook: Path) -> list[dict[str, Any]]:
    """Return the claims that an executed notebook carries, each as it stood last.

    Raises
    ------
    ChapterError
        If the file is no notebook, or holds a claim of another schema.
    """
    try:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise chapters.ChapterError(
            f"{notebook}: is no readable executed chapter ({error}); run it again with --force"
        ) from None
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in cells:
        for output in cell.get("outputs", ()):
            record = output.get("metadata", {}).get("mflib")
            if record is None:
                continue
            if record.get("schema") != SCHEMA:
                raise chapters.ChapterError(
                    f"{notebook}: a claim has schema {record.get('schema')!r}, "
                    f"expected {SCHEMA}; run the chapter again with --force"
                )
            found[record["id"], record["instance"]] = record | {"notebook": notebook.stem}
    return list(found.values())


def ledger(root: Path, out: Path | None = None) -> dict[str, Any]:
    """Return the ledger as plain data: schema, commit and all claims.

    Parameters
    ----------
    root : Path
        The checkout.
    out : Path
        Where the executed chapters lie; default ``_build/chapters``.

    Returns
    -------
    dict
        ``{"schema": 1, "commit": ..., "claims": [...], "planned": [...]}``, chapters in
        order; planned is what the register holds and no chapter carries.
    """
    out = Path(out) if out else root / "_build" / "chapters"
    claims = []
    for chapter in chapters.discover(root):
        executed = out / f"{chapter.name}.ipynb"
        if executed.is_file():
            claims += claims_of(executed)
    return {"schema": SCHEMA, "commit": provenance.commit(root), "claims": claims,
            "planned": coverage.planned(root, claims)}


def problems(root: Path, out: Path | None = None) -> list[str]:
    """Return what is wrong with the ledger, one line each; empty if all is well.

    A verdict that differs from the expected one, a control that did not flip, an
    identifier given twice, a chapter that is missing, failed or stale, without claims, or
    without one that the register gives it.
    """
    out = Path(out) if out else root / "_build" / "chapters"
    lines, seen = [], {}
    for chapter in chapters.discover(root):
        executed = out / f"{chapter.name}.ipynb"
        if (out / f"{chapter.name}.failed.ipynb").is_file():
            lines.append(f"{chapter.name}: the last run failed; see {chapter.name}.failed.ipynb")
        if not executed.is_file():
            lines.append(f"{chapter.name}: was not run; mflib run {chapter.name}")
            continue
        if not chapters.is_fresh(chapter, out):
            lines.append(f"{chapter.name}: is stale, its inputs changed; mflib run {chapter.name}")
        claims = claims_of(executed)
        if not claims:
            lines.append(f"{chapter.name}: carries no claim")
        lines += coverage.lacking(root, chapter.name, claims)
        for claim in claims:
            name = claim["id"]
            if name in seen:
                lines.append(f"{name}: given twice, in {seen[name]} and in {chapter.name}")
            seen[name] = chapter.name
            if claim["expected"] is not None and claim["verdict"] != claim["expected"]:
                lines.append(
                    f"{name}: is {claim['verdict']}, expected {claim['expected']} "
                    f"({claim['reason']})"
                )
            lines += [
                f"{name}: the control {control['name']!r} did not flip"
                for control in claim["controls"] if not control["flipped"]
            ]
    return lines
