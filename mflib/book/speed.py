"""The records of the benchmarks as a table and a picture; a page shows them and types nothing."""

from __future__ import annotations

import html
import json
import math
from pathlib import Path
from typing import Any

from ..claims import ClaimError
from . import tables

__all__ = ["drawing", "read", "table"]

#: What a row must hold, and of what kind.
_ROW = {"peer": str, "size": str, "ratio": (int, float), "spread": list, "judged": bool}
#: Size of the picture's parts, in pixels.
_LEFT, _WIDE, _STEP = 330, 300, 20


def read(path: Path) -> dict[str, Any]:
    """Return a record of a benchmark.

    Rows that name a ``peer`` compare with it; others are numbers and words by their columns.

    Raises
    ------
    ClaimError
        If the file is missing or holds no such record; the message names it.
    """
    again = f"run python -m benchmarks {path.stem} --out {path}"
    try:
        record = json.loads(path.read_text("utf-8"))
        if isinstance(record["command"], str):
            again = f"run {record['command']} again"
        good = all(isinstance(record[key], str) for key in ("name", "title", "command"))
        columns = list(record["rows"][0]) if record["rows"] else []
        if "peer" in columns:
            kinds = all(isinstance(r[k], kind) for r in record["rows"] for k, kind in _ROW.items())
            values = [v for row in record["rows"] for v in _numbers(row)]
            good = good and kinds and all(math.isfinite(v) and v > 0 for v in values)
        else:
            values = [row[key] for row in record["rows"] for key in columns]
            same = all(list(row) == columns for row in record["rows"])
            good = good and same and all(isinstance(v, str) or math.isfinite(v) for v in values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClaimError(f"{path}: no record of a benchmark ({error!r}); {again}") from None
    if not (good and columns):
        raise ClaimError(f"{path}: a row is not what a benchmark writes; {again}")
    return record


def _numbers(row: dict[str, Any]) -> list[float]:
    low, high = row["spread"]
    return [row["ratio"], low, high]


def _compares(record: dict[str, Any]) -> bool:
    return "peer" in record["rows"][0]


def _verdict(row: dict[str, Any]) -> str:
    """Return in words whether a goal is met, and otherwise by how much it is missed."""
    if row.get("goal") is None:
        return ""
    if row["ratio"] >= row["goal"]:
        return f"met (at least {row['goal']:g})"
    return f"missed by a factor {row['goal'] / row['ratio']:.2g} (at least {row['goal']:g})"


def _cell(value: Any, shape: str) -> str:
    return "" if value is None else format(value, shape)


def table(record: dict[str, Any]) -> str:
    """Return the rows of a record as an HTML table, with what ran and where below it.

    Parameters
    ----------
    record : dict
        From :func:`read`.
    """
    if not _compares(record):
        head = list(record["rows"][0])
        rows = [
            [format(v, ".4g") if isinstance(v, float) else str(v) for v in row.values()]
            for row in record["rows"]
        ]
        return tables.plain(head, rows, _below(record))
    head = ["size", "peer", "peer's time / ours", "goal", "difference", "MiB", "peer's MiB"]
    rows = [
        [
            row["size"],
            row["peer"],
            f"{row['ratio']:.2f} [{row['spread'][0]:.2f}, {row['spread'][1]:.2f}]",
            _verdict(row),
            _cell(row.get("agreement"), ".0e") + ("" if row["judged"] else " (another problem)"),
            _cell(row.get("peak_mib"), ".0f"),
            _cell(row.get("peer_peak_mib"), ".0f"),
        ]
        for row in record["rows"]
    ]
    return tables.plain(head, rows, _below(record))


def _below(record: dict[str, Any]) -> str:
    machine, words = record.get("machine", {}), []
    if _compares(record):
        words.append(
            f"Medians of {record.get('rounds')} interleaved pairs, the extremes in brackets; one "
            f"thread, tanh by its {machine.get('tanh')} form."
        )
    facts = [str(machine.get("processor"))]
    facts += [f"{machine['cores']} cores"] if "cores" in machine else []
    facts += [f"load {machine['load']:.1f} when it ended"] if "load" in machine else []
    facts += [f"{name} {number}" for name, number in record.get("versions", {}).items() if number]
    facts += [f"commit {record['commit']}"] if record.get("commit") else []
    words.append(", ".join(facts) + ".")
    if record.get("limit_fraction"):
        parts = (f"{part:.0%} at {size}" for size, part in record["limit_fraction"].items())
        words.append("Share of the machine's limit reached: " + ", ".join(parts) + ".")
    if record.get("exponents"):
        parts = (f"{name}: {value:.2f}" for name, value in record["exponents"].items())
        words.append("Exponents of the cost: " + ", ".join(parts) + ".")
    if record.get("kept"):
        parts = (f"{k['what']} {k['value']:.0e} at {k['size']}" for k in record["kept"])
        words.append("What our answers keep: " + ", ".join(parts) + ".")
    if record.get("missing"):
        words.append("Not installed: " + ", ".join(record["missing"]) + ".")
    return " ".join(words)


def drawing(record: dict[str, Any]) -> str:
    """Return the ratios as bars on a logarithmic scale, in SVG; 1 is as fast as the peer.

    Where nothing is compared, there is no drawing.

    Parameters
    ----------
    record : dict
        From :func:`read`.
    """
    if not _compares(record):
        return ""
    values = [v for row in record["rows"] for v in _numbers(row)] + [0.5, 2.0]
    low, high = math.log10(min(values)), math.log10(max(values))

    def at(value: float) -> float:
        return _LEFT + _WIDE * (math.log10(value) - low) / (high - low)

    marks = []
    for place, row in enumerate(record["rows"]):
        y, words = place * _STEP + 14, html.escape(f"{row['size']}, {row['peer']}")
        one, end = sorted((at(1.0), at(row["ratio"])))
        first, last = (at(v) for v in row["spread"])
        marks.append(
            f"<text x='{_LEFT - 6}' y='{y}' text-anchor='end' font-size='10'>{words}</text>"
            f"<rect x='{one:.1f}' y='{y - 9}' width='{end - one:.1f}' height='10' "
            f"class='mf-bar {'mf-ahead' if row['ratio'] >= 1 else 'mf-behind'}'/>"
            f"<line x1='{first:.1f}' x2='{last:.1f}' y1='{y - 4}' y2='{y - 4}' "
            "stroke='currentColor'/>"
        )
    height = _STEP * len(record["rows"]) + 26
    title = html.escape(f"{record['title']}: time of each peer over ours")
    return (
        f"<svg viewBox='0 0 {_LEFT + _WIDE + 10} {height}' role='img' aria-label='{title}' "
        "fill='currentColor'>"
        f"<title>{title}</title>{''.join(marks)}"
        f"<line x1='{at(1.0):.1f}' x2='{at(1.0):.1f}' y1='0' y2='{height - 16}' stroke='gray'/>"
        f"<text x='{at(1.0):.1f}' y='{height - 4}' text-anchor='middle' font-size='10'>1</text>"
        "</svg>"
    )
