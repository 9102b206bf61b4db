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


#: The parts of MathJax that the pages use: TeX, letters as a font, words for screen readers.
_MATHJAX = (
    "startup.js",
    "core.js",
    "input/tex.js",
    "output/chtml.js",
    "output/chtml/fonts/tex.js",
    "output/chtml/fonts/woff-v2",
    "a11y/assistive-mml.js",
)


def _mathjax(app: Sphinx, error: Exception | None) -> None:
    """Copy parts of the installed MathJax into the site: no page asks another host."""
    if error or app.builder.format != "html":
        return
    files = metadata.files("sphinx-mathjax-offline") or []
    start = next((f for f in files if str(f).endswith("static/mathjax/startup.js")), None)
    if start is None:
        raise ExtensionError("sphinx-mathjax-offline holds no startup.js; install it again")
    home, target = Path(str(start.locate())).parent, Path(app.outdir) / "_static" / "mathjax"
    shutil.rmtree(target, ignore_errors=True)
    for part in _MATHJAX:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (home / part).is_dir() else shutil.copyfile
        copy(home / part, target / part)


#: What the theme loads and no page needs: icons drawn by a script, and two fonts of icons.
_NEEDLESS = re.compile(
    r"\s*<script src=\"[^\"]*fontawesome/[^\"]*\"></script>"
    r"|\s*<link rel=\"preload\"[^>]*fa-(?:brands|regular)-400[^>]*>"
    r"|\s*<link rel=\"preload\" as=\"script\"[^>]*fontawesome[^>]*>"
)


def _light(app: Sphinx, error: Exception | None) -> None:
    """Take out of the pages what the theme loads and no page needs."""
    if error or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text("utf-8")
        lighter = _NEEDLESS.sub("", text)
        if lighter != text:
            provenance.write(path, lighter)


#: A class that names an icon.
_ICON = re.compile(r"\bfa-([a-z0-9-]+)")


def _icons(app: Sphinx, error: Exception | None) -> None:
    """Keep of the theme's thousands of icons those that the pages and scripts name.

    The style sheet keeps its rules that name no icon or one of these, the font their glyphs.
    """
    home = next((Path(app.outdir) / "_static" / "vendor" / "fontawesome").glob("*"), None)
    if error or app.builder.format != "html" or home is None:
        return
    folder = Path(app.outdir)
    texts = [*folder.rglob("*.html"), *(folder / "_static").glob("**/*.js")]
    used = {name for path in texts if "fontawesome" not in str(path)
            for name in _ICON.findall(path.read_text("utf-8", "ignore"))}  # fmt: skip
    sheet = home / "css" / "all.min.css"
    rules = re.findall(r"[^{}]+\{[^{}]*\}", sheet.read_text("utf-8"))
    kept, glyphs = [], set()
    for rule in rules:
        code = re.search(r'content:"\\([0-9a-f]+)"', rule)
        if code is None or used & set(_ICON.findall(rule.split("{")[0])):
            if not re.search(r"fa-(?:brands|regular|v4compatibility)|FontAwesome", rule):
                kept.append(rule)
                glyphs |= {int(code[1], 16)} if code else set()
    if len(kept) < len(rules):
        provenance.write(sheet, "".join(kept))
        _subset(home / "webfonts" / "fa-solid-900.ttf", glyphs)


def _subset(font: Path, glyphs: set[int]) -> None:
    """Write a font's glyphs, no others, beside it as woff2 where the style sheet looks."""
    from fontTools import subset
    from fontTools.ttLib import TTFont

    opened = TTFont(font)
    small = subset.Subsetter()
    small.populate(unicodes=glyphs)
    small.subset(opened)
    opened.save(font)
    # of the two files that the style sheet names, browsers take the first that is there
    provenance.write(font.with_suffix(".woff2"), font.read_bytes())


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
    app.connect("build-finished", _light)
    app.connect("build-finished", _icons)
    app.connect("build-finished", _searchable)
