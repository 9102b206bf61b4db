"""What the pages load: offline mathematics, no more scripts than are used, the search index."""

from __future__ import annotations

import json
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from ... import provenance
from .. import chapters
from .. import ledger as books

__all__ = ["setup"]


def _mathjax(app: Sphinx, error: Exception | None) -> None:
    """Copy one file of the installed MathJax into the site: no page asks another host."""
    if error or app.builder.format != "html":
        return
    files = metadata.files("sphinx-mathjax-offline") or []
    script = next((f for f in files if f.name == "tex-svg.js"), None)
    if script is None:
        raise ExtensionError("sphinx-mathjax-offline holds no tex-svg.js; install it again")
    target = Path(app.outdir) / "_static" / "mathjax" / "tex-svg.js"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(script.locate(), target)


def _without_thebe(app: Sphinx, page: str, template: str, context: dict, doctree: Any) -> None:
    """Leave out the scripts for live kernels, which would be asked of another host."""
    context["script_files"] = [
        script
        for script in context.get("script_files", ())
        if "thebe" not in (str(script) + str(getattr(script, "attributes", ""))).lower()
    ]


def _searchable(app: Sphinx, error: Exception | None) -> None:
    """Add the words of every claim's identifier to the search index.

    The index holds stems (ts becomes t), the search leaves words of two letters as they
    are; so neither would find TS-E8.
    """
    index = Path(app.outdir) / "searchindex.js"
    if error or app.builder.format != "html" or not index.is_file():
        return
    text = index.read_text("utf-8")
    begin, end = text.index("{"), text.rindex("}") + 1
    found = json.loads(text[begin:end])
    place = {name: number for number, name in enumerate(found["docnames"])}
    for claim in books.ledger(chapters.find_root(Path(app.srcdir)))["claims"]:
        pages = (f"notebooks/{claim['notebook']}", "book/ledger")
        for word in re.split(r"[^a-z0-9]+", claim["id"].lower()):
            known = found["terms"].get(word, [])
            known = known if isinstance(known, list) else [known]
            numbers = {*known, *(place[page] for page in pages if page in place)}
            found["terms"][word] = sorted(numbers)
    provenance.write(index, text[:begin] + json.dumps(found) + text[end:])


def setup(app: Sphinx) -> None:
    """Register what is done when pages are written and when the site is."""
    app.set_html_assets_policy("always")
    app.connect("html-page-context", _without_thebe, priority=900)
    app.connect("build-finished", _mathjax)
    app.connect("build-finished", _searchable)
