"""What the register promises and the chapters have measured: 49 of 121."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..claims import KINDS, register

__all__ = ["by_paper", "counted", "lacking", "planned"]


def planned(root: Path, claims: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the register holds and no chapter carries, as claims that were not run.

    Parameters
    ----------
    root : Path
        The checkout, whose register is read.
    claims : iterable of dict
        The claims of the executed chapters.

    Returns
    -------
    list of dict
        In the register's order; `notebook` is the chapter that is to measure it, or empty.
    """
    carried = {claim["id"] for claim in claims}
    return [
        {
            "id": row.id,
            "paper": row.paper,
            "where": row.where,
            "kind": row.kind,
            "statement": row.statement,
            "expected": KINDS[row.kind],
            "verdict": "not run",
            "reason": "no chapter measures it yet" if not row.chapter else "not measured yet",
            "checks": [],
            "controls": [],
            "notebook": row.chapter,
        }
        for row in register.read(register.find(root)).values()
        if row.id not in carried
    ]


def counted(claims: Iterable[dict[str, Any]], waiting: Iterable[dict[str, Any]]) -> str:
    """Return how many registered claims were measured, as words: "49 of 121"."""
    rows = register.read()
    known = [c for c in claims if c["id"] in rows or not c["id"].startswith(register.PRIVATE)]
    measured = sum(c["verdict"] != "not run" for c in known)
    return f"{measured} of {len(known) + len(list(waiting))}"


def by_paper(
    claims: list[dict[str, Any]], waiting: list[dict[str, Any]]
) -> dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Return each paper's measured and planned claims; papers in the order they are met."""
    papers = dict.fromkeys(claim["paper"] for claim in [*claims, *waiting])
    return {
        paper: (
            [claim for claim in claims if claim["paper"] == paper],
            [claim for claim in waiting if claim["paper"] == paper],
        )
        for paper in papers
    }


def lacking(root: Path, chapter: str, claims: Iterable[dict[str, Any]]) -> list[str]:
    """Return where an executed chapter and the register disagree, one line each.

    Parameters
    ----------
    root : Path
        The checkout, whose register is read.
    chapter : str
        The chapter's name.
    claims : iterable of dict
        The claims that it carries.
    """
    rows = register.read(register.find(root))
    carried = {claim["id"] for claim in claims}
    lines = [
        f"{chapter}: lacks {row.id}, which the register gives it; measure it there, or change "
        f"the chapter of its row in book/claims.csv"
        for row in rows.values()
        if row.chapter == chapter and row.id not in carried
    ]
    return lines + [
        f"{chapter}: measures {id}, which the register gives to {rows[id].chapter or 'no chapter'}"
        f"; write {chapter} into its row of book/claims.csv"
        for id in sorted(carried & set(rows))
        if rows[id].chapter != chapter
    ]
