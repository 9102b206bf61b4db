"""Fixtures for the house: a tiny checkout with notebooks of our own."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
torch.set_num_threads(1)
# a shell's job in the background ignores Ctrl-C, and so would every process that a test starts
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # as nohup leaves it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

CLAIM = """from mflib.claims import Claim, Identity
claim = Claim("{id}", paper="lu2020", where="here", kind="identity",
              statement="One is one.", seed=seed)
check = claim.predict(Identity("1 = 1", tolerance=1e-12))
error = {error}
check.measure(error)
broken = {control}  # a stand-in for what a chapter computes
check.control("2", broke="1 = 1").measure(broken)
claim"""


def cell(source: str, *tags: str) -> dict:
    return {
        "cell_type": "code",
        "id": f"c{abs(hash(source)) % 10**8}",
        "metadata": {"tags": list(tags)},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }


def notebook(*cells: dict) -> str:
    return json.dumps(
        {
            "cells": list(cells),
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {
                "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
            },
        }
    )


def small_checkout(tmp_path):
    """Return a function that writes a chapter into a small checkout, and its root."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_toc.yml").write_text("root: index\n")

    def chapter(
        name="one",
        body=None,
        id="X-1",
        error="0.0",
        control="1.0",
        tagged=True,
        cells=None,
        parameters="seed: int = 0  # the seed",
    ):
        body = CLAIM.format(id=id, error=error, control=control) if body is None else body
        first = cell(parameters, *(["parameters"] if tagged else []))
        rest = map(cell, [body] if cells is None else cells)
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(notebook(first, *rest))

    chapter.root = tmp_path
    return chapter


@pytest.fixture
def checkout(tmp_path):
    """A small checkout of one test's own."""
    return small_checkout(tmp_path)
