"""Sphinx reads the executed copy of a notebook, after making sure that it is up to date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
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


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in paths if p.is_file()):
        digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()


def _prose(env: Any) -> set[str]:
    """Return the pages that may show claims and are no chapters."""
    return {d for d in env.found_docs if d.startswith("book/") and not d.startswith("book/api/")}


def _outdated(app: Sphinx, env: Any, added: set, changed: set, removed: set) -> set[str]:
    """Read the prose pages when tables that they show, or the code that shows them, changed.

    What a page notes as its dependency is Sphinx's to look after.
    """
    root, package = _root(app), Path(__file__).parents[2]
    paths = [p for p in (root / "book").rglob("*") if p.suffix in (".csv", ".json", ".bib")]
    paths += [p for room in ("book", "claims") for p in (package / room).rglob("*.py")]
    seen, before = _digest([root / "_toc.yml", *paths]), getattr(env, "mflib_shown", None)
    env.mflib_shown = seen
    env.mflib_moved = bool(added or changed or removed)
    return set() if seen == before else _prose(env)


def _updated(app: Sphinx, env: Any) -> set[str]:
    """Write the prose pages, without reading them, when a result or another page changed.

    What they show of results are placeholders, filled as a page is written.
    """
    seen = _digest((_root(app) / "_build" / "chapters").glob("*.json"))
    before, env.mflib_results = getattr(env, "mflib_results", None), seen
    return _prose(env) if seen != before or env.mflib_moved else set()


def setup(app: Sphinx) -> None:
    """Register what is done before and while pages are read."""
    app.connect("builder-inited", _execute)
    app.connect("source-read", _substitute)
    app.connect("env-get-outdated", _outdated)
    app.connect("env-updated", _updated)
