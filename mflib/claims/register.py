r"""The register: every claim of the book, measured or planned, one row of a table.

The table is ``book/claims.csv``, so that a claim is written down once: a chapter names its
identifier, and paper, place, kind and sentence come from here.
"""

from __future__ import annotations

import csv
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from .evidence import ClaimError

__all__ = ["CLASSES", "COLUMNS", "PRIVATE", "Entry", "find", "look_up", "read"]

#: The columns of the table, in order.
COLUMNS = ("id", "paper", "where", "kind", "statement", "class", "chapter")

#: Whose sentence a statement is.
CLASSES = {
    "printed": "the paper's own statement, in our words; quoted where it is refuted",
    "informal remark": "said by the paper in passing, without a proof",
    "reading": "a reader's extension, not the authors' claim",
    "derived": "ours within the paper's setting: repaired, sharpened or made quantitative",
    "beyond": "a question that the paper does not ask",
}

#: Identifiers that begin so may stand in no register: then they are a reader's own.
PRIVATE = "X-"


class Entry(NamedTuple):
    """A row of the register.

    Parameters
    ----------
    id, paper, where, kind, statement : str
        As in :class:`mflib.claims.Claim`.
    origin : str
        Whose sentence it is, the table's column ``class``, one of ``CLASSES``.
    chapter : str
        The chapter that measures it; empty while none is planned.
    """

    id: str
    paper: str
    where: str
    kind: str
    statement: str
    origin: str
    chapter: str


def find(start: Path | None = None) -> Path:
    """Return the register of the checkout that holds `start`, else the package's own copy.

    Parameters
    ----------
    start : Path, optional
        Default: MFLIB_ROOT, else the current folder. The checkout is looked for upwards,
        so that a notebook finds it from the root as well as from its own folder.

    Returns
    -------
    Path
    """
    start = Path(start or os.environ.get("MFLIB_ROOT") or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "_toc.yml").is_file() and (folder / "book" / "claims.csv").is_file():
            return folder / "book" / "claims.csv"
    return Path(__file__).with_name("claims.csv")


def read(path: Path | None = None) -> dict[str, Entry]:
    """Return the rows of a register by their identifiers, in its order.

    Parameters
    ----------
    path : Path, optional
        Default: what :func:`find` finds.

    Raises
    ------
    ClaimError
        If the table cannot be read, lacks a column, or gives an identifier twice.
    """
    path = path or find()
    try:
        stat = path.stat()
        return _read(path, stat.st_mtime_ns, stat.st_size)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ClaimError(f"{path}: cannot be read as the register ({error})") from None


@lru_cache(maxsize=8)
def _read(path: Path, changed: int, size: int) -> dict[str, Entry]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise ClaimError(f"{path}: the first line must be {','.join(COLUMNS)}")
    entries: dict[str, Entry] = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(COLUMNS) or not all(cell.strip() for cell in row[:-1]):
            raise ClaimError(
                f"{path}: row {number} ({', '.join(row[:1])}) lacks a column; "
                "only the chapter may be empty"
            )
        if row[5] not in CLASSES:
            raise ClaimError(f"{path}: {row[0]}: class {row[5]!r} is none of {', '.join(CLASSES)}")
        if row[0] in entries:
            raise ClaimError(f"{path}: {row[0]} stands there twice")
        entries[row[0]] = Entry(*row)
    return entries


def look_up(
    id: str,
    paper: str | None = None,
    where: str | None = None,
    kind: str | None = None,
    statement: str | None = None,
) -> Entry:
    """Return a claim's row; a reader's own claim brings the four texts itself.

    Raises
    ------
    ClaimError
        If the register has no such identifier or paper, a text is missing, or a text is
        given that the register holds; the message names the remedy.
    """
    if not isinstance(id, str) or not id.strip():
        raise ClaimError(f"id: a claim needs a non-empty text, got {id!r}")
    given = {"paper": paper, "where": where, "kind": kind, "statement": statement}
    path = find()
    entries = read(path)
    if id in entries or not id.startswith(PRIVATE):
        if id not in entries:
            raise ClaimError(
                f"id: {id!r} is not in the register {path}; add its row there, or call a claim "
                f"of your own {PRIVATE}... and give it paper, where, kind and statement"
            )
        for name, value in given.items():
            if value is not None:
                raise ClaimError(
                    f"{name}: of {id} stands in the register {path}; leave it out "
                    "here and change it there"
                )
        return entries[id]
    for name, value in given.items():
        if not isinstance(value, str) or not value.strip():
            raise ClaimError(f"{name}: {id} needs a non-empty text, got {value!r}")
    papers = list(dict.fromkeys(row.paper for row in entries.values()))
    if paper not in papers:
        raise ClaimError(
            f"paper: {paper!r} is none of {', '.join(papers)}; a new paper needs "
            f"a row in the register {path}"
        )
    return Entry(id, paper, where, kind, " ".join(statement.split()), "beyond", "")
