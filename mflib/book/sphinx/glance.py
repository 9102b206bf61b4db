"""Puts the computed facts into the box at the head of a chapter."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

from .. import chapters, executed, glance, ledger

__all__ = ["setup"]


def _fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    boxes = [n for n in doctree.findall(nodes.admonition) if "glance" in n["classes"]]
    if not boxes or not docname.startswith("notebooks/"):
        return
    name, out = Path(docname).name, chapters.find_root(Path(app.srcdir)) / "_build" / "chapters"
    path = out / f"{name}.ipynb"
    words = glance.facts(
        glance.minutes(chapters.load(path)),
        executed.noted(out, name).get("seconds"),
        ledger.claims_of(path),
    )
    boxes[0] += nodes.raw("", words, format="html")


def setup(app: Sphinx) -> None:
    """Connect the box to Sphinx."""
    app.connect("doctree-resolved", _fill)
