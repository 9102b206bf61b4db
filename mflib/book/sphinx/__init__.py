"""The Sphinx extension of the book: executed chapters, the ledger, offline mathematics.

The notebooks in the repository hold no outputs. When Sphinx reads one, this extension
hands it the executed copy, after making sure that the copy is up to date: a page can
never disagree with the code.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from . import assets, boxes, citation, downloads, errata, execution, glance, pictures, placeholders

__all__ = ["setup"]


def _without_fields(
    app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out the fields of a named tuple: its docstring says what each one is."""
    return True if type(member).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension with Sphinx."""
    for part in (
        execution,
        boxes,
        glance,
        pictures,
        placeholders,
        errata,
        citation,
        assets,
        downloads,
    ):
        part.setup(app)
    app.connect("autodoc-skip-member", _without_fields)
    return {"version": "2", "parallel_read_safe": True, "parallel_write_safe": True}
