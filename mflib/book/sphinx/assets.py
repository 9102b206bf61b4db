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


#: What the theme loads and no page needs: icons drawn by a script, and whole fonts of icons.
_NEEDLESS = re.compile(
    r"\s*<script src=\"[^\"]*fontawesome/[^\"]*\"></script>"
    r"|\s*<link rel=\"preload\"[^>]*fa-[a-z]+-[49]00[^>]*>"
    r"|\s*<link rel=\"preload\" as=\"script\"[^>]*fontawesome[^>]*>"
)


#: What the theme writes and readers of screens stumble over, and what they are told instead.
_SPOKEN = (
    # a label that is not what the button says
    (re.compile(r'(<button class="btn search-button-field[^>]*?) aria-label="Search"'), r"\1"),
    (re.compile(r'<summary aria-label="Toggle hidden content">'), "<summary>"),
    # a fold without a word
    (
        re.compile(r'<summary>(?=<span class="toctree-toggle")'),
        '<summary aria-label="pages below">',
    ),
    # a list of definitions that defines nothing: the lines of a long signature
    (
        re.compile(r"<dl>\n((?:<dd><em class=\"sig-param\">.*?</dd>\n)+)</dl>"),
        lambda found: '<span class="mf-params">{}</span>'.format(
            found[1].replace("<dd>", "<span>").replace("</dd>", "</span>")
        ),
    ),
)


#: A formula within a line, and what may not begin the next line.
_HELD = re.compile(
    r'(?<!mf-held">)(<span class="math notranslate nohighlight">[^<]*</span>)([.,;:!?)]+)'
)


def _light(app: Sphinx, error: Exception | None) -> None:
    """Take out of the pages what the theme loads and no page needs, and mend its labels."""
    if error or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text("utf-8")
        better = _NEEDLESS.sub("", text)
        for pattern, words in _SPOKEN:
            better = pattern.sub(words, better)
        better = _HELD.sub(r'<span class="mf-held">\1\2</span>', better)
        if better != text:
            provenance.write(path, better)


#: A class that names an icon.
_ICON = re.compile(r"\bfa-([a-z0-9-]+)")
#: Icons that spin and beat.
_MOTION = re.compile(r"@(?:-webkit-)?(?:keyframes|media)[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}")


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
    text = _MOTION.sub("", sheet.read_text("utf-8"))
    rules = re.findall(r"[^{}]+\{[^{}]*\}", text)
    kept, glyphs = [], set()
    for rule in rules:
        code = re.search(r'content:"\\([0-9a-f]+)"', rule)
        font = re.search(r"@font-face[^}]*fa-(?!solid)", rule)
        if not font and (code is None or used & set(_ICON.findall(rule.split("{")[0]))):
            kept.append(rule)
            glyphs |= {int(code[1], 16)} if code else set()
    if len(kept) < len(rules):
        text = re.sub(r"url\([^)]*\.woff2\) format\(\"woff2\"\),", "", "".join(kept))
        provenance.write(sheet, text)
        _subset(home / "webfonts", glyphs)


def _subset(folder: Path, glyphs: set[int]) -> None:
    """Keep one font of icons with these glyphs, and no other file."""
    from fontTools import subset
    from fontTools.ttLib import TTFont

    font = folder / "fa-solid-900.ttf"
    opened = TTFont(font)
    small = subset.Subsetter()
    small.populate(unicodes=glyphs)
    small.subset(opened)
    opened.save(font)
    for other in folder.iterdir():
        if other != font:
            other.unlink()


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
