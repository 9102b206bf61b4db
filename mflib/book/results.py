"""The table of a sweep: a row a check a point, on the disk as soon as the point is done.

``results.csv`` is what counts. The rows of a point are appended by one write; they say how
many they are, so that a point of which a killed process or a full disk left a part is seen
and run again. ``results.parquet`` holds the same for those who read it with its types.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..provenance import write
from .chapters import ChapterError

__all__ = ["COLUMNS", "Table", "key", "rows_of"]

#: The columns beside the parameters, which stand after the chapter.
COLUMNS = (
    "claim",
    "claim_verdict",
    "check",
    "kind",
    "measured",
    "predicted",
    "tolerance",
    "low",
    "high",
    "verdict",
    "controls",
    "flipped",
    "seconds",
    "worker",
    "attempt",
    "error",
    "fingerprint",
    "point",
    "row",
    "rows",
)


_NUMBERS = ("measured", "predicted", "tolerance", "low", "high", "seconds")
_WHOLE = ("controls", "flipped", "attempt", "row", "rows")


def key(chapter: str, given: dict[str, Any]) -> str:
    """Return the name of a point: a digest of its chapter and parameters."""
    text = json.dumps([chapter, sorted(given.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def rows_of(claims: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each check of some claims' records.

    Parameters
    ----------
    claims : iterable of dict
        As :func:`mflib.book.ledger.claims_of` gives them.
    """
    rows = []
    for claim in claims:
        for check in claim["checks"]:
            controls = [c for c in claim["controls"] if c["check"] == check["name"]]
            low, high = check["interval"] or (None, None)
            predicted = check["predicted"]
            rows.append(
                {
                    "claim": claim["id"],
                    "claim_verdict": claim["verdict"],
                    "check": check["name"],
                    "kind": check["kind"],
                    "measured": check["measured"],
                    "predicted": predicted if not isinstance(predicted, str) else None,
                    "tolerance": check["tolerance"],
                    "low": low,
                    "high": high,
                    "verdict": check["verdict"],
                    "controls": len(controls),
                    "flipped": sum(control["flipped"] for control in controls),
                }
            )
    return rows


class Table:
    """The rows of a sweep in a folder, opened for going on.

    Parameters
    ----------
    folder : Path
        Where ``results.csv`` lies or is to lie.
    parameters : iterable of str
        Names that have a column of their own; those that the file has are added.

    Raises
    ------
    ChapterError
        If the file is no such table, or cannot be read or written.
    """

    def __init__(self, folder: Path, parameters: Iterable[str] = ()) -> None:
        self.path = Path(folder) / "results.csv"
        before, whole = self._read()
        self.parameters = list(dict.fromkeys([*before, *parameters]))
        clash = sorted(set(self.parameters) & {"chapter", *COLUMNS})
        if clash:
            raise ChapterError(f"parameter {clash[0]}: the table has a column of that name")
        self._size = self.path.stat().st_size if self.path.is_file() else 0
        self._due = self._synced = 0.0
        if not whole or self.parameters != before:
            self._rewrite()

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        return ["chapter", *self.parameters, *COLUMNS]

    def _read(self) -> tuple[list[str], bool]:
        """Read what is there; return its parameters, and whether nothing of it is lacking."""
        #: The rows of each point, the last that were written.
        self.points: dict[str, list[dict[str, str]]] = {}
        if not self.path.is_file():
            return [], False
        try:
            text = self.path.read_bytes().decode("utf-8", "replace")
        except OSError as error:
            raise ChapterError(f"{self.path}: cannot be read ({error.strerror})") from None
        if not text:
            return [], False
        # the number of a point's rows stands last, and may be cut itself
        lines = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
        names = lines.fieldnames or []
        if names[:1] != ["chapter"] or tuple(names[-len(COLUMNS) :]) != COLUMNS:
            raise ChapterError(
                f"{self.path}: is no table of a sweep of this version; choose another folder "
                "with --out"
            )
        count, group, whole = 0, [], text.endswith("\n")
        with contextlib.suppress(csv.Error):
            for line in lines:
                count += 1
                if group and line["point"] != group[0]["point"] or line["row"] == "1":
                    group = []
                group.append(line)
                if line["row"] == str(len(group)) and line["rows"] == str(len(group)):
                    self.points.pop(line["point"], None)
                    self.points[line["point"]] = group
                    count, group = count - len(group), []
        return names[1 : -len(COLUMNS)], whole and not count

    def _text(self, rows: Iterable[dict[str, Any]], head: bool = False) -> bytes:
        out = io.StringIO(newline="")
        lines = csv.DictWriter(out, self.columns, restval="", lineterminator="\n")
        if head:
            lines.writeheader()
        lines.writerows(rows)
        return out.getvalue().encode("utf-8", "replace")

    def _unwritable(self, error: OSError) -> ChapterError:
        return ChapterError(
            f"{self.path}: cannot be written ({error.strerror or error}); what is in it is whole; "
            "make room and give the same command again"
        )

    def _rewrite(self) -> None:
        every = (row for rows in self.points.values() for row in rows)
        try:
            write(self.path, self._text(every, head=True))
        except OSError as error:
            raise self._unwritable(error) from None
        self._size = self.path.stat().st_size

    def add(self, chapter: str, given: dict[str, Any], rows: list[dict], **same: Any) -> None:
        """Append the rows of one point.

        Parameters
        ----------
        chapter : str
            Its chapter.
        given : dict
            Its parameters.
        rows : list of dict
            What differs by row; none make one row that says what is the same.
        **same
            What all rows have: ``seconds``, ``worker``, ``attempt``, ``error``,
            ``fingerprint``.

        Raises
        ------
        ChapterError
            If it cannot be written; the table is as it was.
        """
        name = key(chapter, given)
        rows = rows or [{}]
        shown = {
            k: v if isinstance(v, (str, int, float)) else json.dumps(v) for k, v in given.items()
        }
        made = [
            {"chapter": chapter, **shown, **row, **same, "point": name}
            | {"row": number, "rows": len(rows)}
            for number, row in enumerate(rows, 1)
        ]
        data = self._text(made)
        # first of all: whatever interrupts the rest, finish() writes it
        before = self.points.pop(name, None)
        self.points[name] = [
            {k: "" if row.get(k) is None else str(row[k]) for k in self.columns} for row in made
        ]
        try:
            with open(self.path, "r+b") as file:
                try:
                    file.seek(self._size)
                    file.write(data)
                    file.flush()
                    # a killed process loses nothing from here on, a power cut at most a second
                    if time.monotonic() - self._synced > 1:
                        os.fsync(file.fileno())
                        self._synced = time.monotonic()
                except OSError:
                    with contextlib.suppress(OSError):
                        file.truncate(self._size)
                    raise
        except OSError as error:
            del self.points[name]
            if before is not None:
                self.points[name] = before
            raise self._unwritable(error) from None
        self._size += len(data)

    def parquet(self, last: bool = False) -> str:
        """Write ``results.parquet`` if it is time, or for the last time; return why it was not.

        It is written anew each time, so the next time is not before this one has been a
        twentieth of what passed.
        """
        began = time.monotonic()
        if not last and began < self._due:
            return ""
        try:
            from pyarrow import csv as reader
            from pyarrow import parquet
        except ImportError:
            return "results.parquet needs pyarrow (pip install pyarrow); results.csv holds the same"
        out = io.BytesIO()
        texts = ("claim", "check", "error", "worker", "fingerprint", "point", "kind")
        options = reader.ConvertOptions(
            column_types=dict.fromkeys(
                ("measured", "predicted", "tolerance", "low", "high"), "float64"
            )
            | dict.fromkeys((*texts, "chapter", "verdict", "claim_verdict"), "string"),
            strings_can_be_null=False,
        )
        parsed = reader.read_csv(
            str(self.path),
            parse_options=reader.ParseOptions(newlines_in_values=True),
            convert_options=options,
        )
        parquet.write_table(parsed, out)
        try:
            write(self.path.with_suffix(".parquet"), out.getvalue())
        except OSError as error:
            raise self._unwritable(error) from None
        self._due = time.monotonic() + max(10.0, 20 * (time.monotonic() - began))
        return ""

    def finish(self) -> str:
        """Leave one set of rows a point, and both files alike; return what was left out."""
        self._rewrite()
        return self.parquet(last=True)
