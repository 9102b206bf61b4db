"""Sphinx reads the executed copy of a notebook, after making sure that it is up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging

from .. import chapters, executed, runner
from . import rerun_box
from .pictures import alternative

__all__ = ["dressed", "setup"]

log = logging.getLogger(__name__)


def _root(app: Sphinx) -> Path:
    return chapters.find_root(Path(app.srcdir))


def _execute(app: Sphinx) -> None:
    """Run the chapters whose inputs changed; a failed one fails the build."""
    root = _root(app)

    def report(result: runner.Result) -> None:
        if result.status != "fresh":
            log.info("chapter %s: %s (%.0f s)", result.name, result.status, result.seconds)

    stale = [
        c.name
        for c in chapters.discover(root)
        if not executed.is_fresh(c, root / "_build" / "chapters")
    ]
    try:
        results = runner.run(root, stale, report=report) if stale else []
    except chapters.ChapterError as error:
        raise ExtensionError(str(error)) from None
    except runner.Ended as ended:
        raise SystemExit(128 + ended.args[0]) from None
    failed = [r.message for r in results if r.status in ("failed", "interrupted")]
    if failed:
        raise ExtensionError("; ".join(failed))


def _substitute(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give Sphinx the executed copy of a notebook."""
    if docname.startswith("notebooks/"):
        root, name = _root(app), Path(docname).name
        path = root / "_build" / "chapters" / f"{name}.ipynb"
        source[0] = dressed(path.read_text("utf-8"), rerun_box.section(root, name))
        app.env.note_dependency(str(path))


def dressed(notebook: str, foot: str) -> str:
    """Return a notebook whose figures have words that stand for them, with a last section.

    Parameters
    ----------
    notebook : str
        The text of an executed ``.ipynb`` file.
    foot : str
        A section in MyST.
    """
    data = json.loads(notebook)
    for cell in data["cells"]:
        shown = cell["metadata"].get("mystnb", {})
        if caption := shown.get("figure", {}).get("caption"):
            shown.setdefault("image", {}).setdefault("alt", alternative(caption))
    data["cells"].append(
        {"cell_type": "markdown", "id": "rerun-chapter", "metadata": {}, "source": foot}
    )
    return json.dumps(data, ensure_ascii=False)


def _outdated(app: Sphinx, env: Any, added: set, changed: set, removed: set) -> list[str]:
    """Read the prose pages, which may show claims, whenever anything else is read."""
    return [d for d in env.found_docs if d.startswith("book/") and not d.startswith("book/api/")]


def setup(app: Sphinx) -> None:
    """Register what is done before and while pages are read."""
    app.connect("builder-inited", _execute)
    app.connect("source-read", _substitute)
    app.connect("env-get-outdated", _outdated)
