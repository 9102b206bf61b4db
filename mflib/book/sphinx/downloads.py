"""Notebooks that a reader downloads: what they need, said in their first cell."""

from __future__ import annotations

import os
from pathlib import Path

from sphinx.application import Sphinx

from ... import provenance
from .. import chapters
from ..portable import UNKNOWN, portable

__all__ = ["setup", "source"]


def source(root: Path) -> str:
    """Return what pip installs the library from: the public repository where one is known."""
    server, name = (os.environ.get(f"GITHUB_{word}") for word in ("SERVER_URL", "REPOSITORY"))
    if server and name:
        return f"git+{server}/{name}"
    origin = provenance.git(root, "remote", "get-url", "origin") or ""
    return f"git+{origin}" if origin.startswith("https://") else UNKNOWN


def _downloads(app: Sphinx, error: Exception | None) -> None:
    """Let the chapters that a reader downloads say what they need."""
    if error or app.builder.format != "html":
        return
    root = chapters.find_root(Path(app.srcdir))
    place = source(root)
    for path in (Path(app.outdir) / "_sources" / "notebooks").glob("*.ipynb*"):
        executed = root / "_build" / "chapters" / path.name
        made = executed.stat().st_mtime_ns
        # what was made has the time of what it was made of, which no copy of Sphinx's has
        if path.stat().st_mtime_ns == made and f"install {place}" in path.read_text("utf-8"):
            continue
        provenance.write(path, portable(executed.read_text("utf-8"), place))
        os.utime(path, ns=(made, made))


def setup(app: Sphinx) -> None:
    """Let downloaded chapters be made when the site is."""
    app.connect("build-finished", _downloads)
