"""Measurements of speed, as the page shows them; ``benchmarks/cifar_speed.py`` makes them."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from . import CifarError
from .records import SCHEMA

__all__ = ["markdown", "read"]


def read(folder: str | Path) -> list[dict[str, Any]]:
    """Return the measurements in the subfolder ``speed`` of a folder of records.

    Raises
    ------
    CifarError
        If a file is no measurement of this version.
    """
    found = []
    for path in sorted((Path(folder) / "speed").glob("*.json")):
        try:
            measured = json.loads(path.read_text())
            known = measured["schema"] == SCHEMA and bool(measured["ratio"]["DataLoader"])
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise CifarError(f"{path}: is no measurement of this version; move it away")
        found.append(measured)
    return found


def markdown(found: list[dict[str, Any]]) -> str:
    """Return a Markdown table: images per second, ratios, and where a step's time goes."""
    lines = [
        "| network | device | precision | plain loop, DataLoader | plain loop, arrays | "
        "trainer | to DataLoader | to arrays | convolutions |",
        "|" + " --- |" * 9,
    ]
    for m in found:
        rate, ratio, ends = m["images_per_second"], m["ratio"], m["ratio_range"]
        cells = [
            f"{ratio[key]:.2f} ({ends[key][0]:.2f} to {ends[key][1]:.2f})"
            for key in ("DataLoader", "arrays")
        ]
        what = [
            html.escape(str(m[key])).replace("|", "&#124;")
            for key in ("net", "device", "precision")
        ]
        lines.append(
            f"| {' | '.join(what)} | {rate['DataLoader']:,.0f} | "
            f"{rate['arrays']:,.0f} | {rate['alone']:,.0f} | {' | '.join(cells)} | "
            f"{100 * m['time_shares']['convolutions']:.0f} % |"
        )
    return "\n".join(lines)
