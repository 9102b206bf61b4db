"""Executed chapters without a kernel: what a run would have written, for tests that read."""

from __future__ import annotations

import json
from typing import Any

from mflib.book import chapters, executed, inputs


def run_cells(source: str, names: dict[str, Any]) -> dict[str, Any] | None:
    """Run a cell here; return the record of the claim that its last line shows, if any."""
    body = source.rstrip().splitlines()
    exec("\n".join(body), names)
    shown = names.get(body[-1].strip()) if body else None
    return shown.record() if hasattr(shown, "record") else None


def pretend(checkout, name="one", seed=0, change=None, note=True, file=None):
    """Write the executed copy of a chapter as a run with `seed` would, records changed."""
    chapter = next(c for c in chapters.discover(checkout.root) if c.name == name)
    out = checkout.root / "_build" / "chapters"
    out.mkdir(parents=True, exist_ok=True)
    given = {"seed": seed} if seed else {}
    cells, names = [], {}
    for cell in json.loads(chapter.path.read_text())["cells"]:
        record = run_cells(cell["source"], names)
        cell["execution_count"] = len(cells) + 1
        if record is not None:
            if change:
                change(record)
            cell["outputs"] = [
                {
                    "output_type": "execute_result",
                    "data": {"text/plain": "x"},
                    "execution_count": len(cells) + 1,
                    "metadata": {"mflib": record},
                }
            ]
        cells.append(cell)
        if "parameters" in cell["metadata"]["tags"] and given:
            source = f"# Parameters\nseed = {seed}\n"
            run_cells(source, names)
            cells.append(
                cell
                | {
                    "source": source,
                    "execution_count": len(cells) + 1,
                    "metadata": {"tags": ["injected-parameters"]},
                }
            )
    path = out / (file or f"{name}.ipynb")
    partial = out / ".partial"
    partial.write_text(
        json.dumps(
            {
                "cells": cells,
                "nbformat": 4,
                "nbformat_minor": 5,
                "metadata": {"papermill": {"input_path": f"notebooks/{name}.ipynb"}},
            }
        )
    )
    if note:
        about = {
            "fingerprint": inputs.fingerprint(chapter, given),
            "parameters": given,
            "seconds": 1.0,
        }
        executed.keep(partial, path, about)
    else:
        partial.replace(path)
    return path
