"""The Sphinx extension of the book: executed chapters, the ledger, offline mathematics.

The notebooks in the repository hold no outputs. When Sphinx reads one, this extension
hands it the executed copy, after making sure that the copy is up to date: a page can
never disagree with the code.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging

from .. import provenance
from ..claims import trials
from . import chapters, executed, reruns, runner, tables
from . import ledger as books

__all__ = ["portable", "setup"]

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
        executed = _root(app) / "_build" / "chapters" / f"{Path(docname).name}.ipynb"
        source[0] = _described(executed.read_text("utf-8"))
        app.env.note_dependency(str(executed))


def _described(text: str) -> str:
    """Give every figure its caption as the words that stand for the image."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        shown = cell["metadata"].get("mystnb", {})
        if caption := shown.get("figure", {}).get("caption"):
            shown.setdefault("image", {}).setdefault("alt", caption.replace("$", ""))
    return json.dumps(notebook, ensure_ascii=False)


def _outdated(app: Sphinx, env: Any, added: set, changed: set, removed: set) -> list[str]:
    """Read the prose pages, which may show claims, whenever anything else is read."""
    return [d for d in env.found_docs if d.startswith("book/")]


def _raw(words: str) -> nodes.raw:
    return nodes.raw("", tables.apart(words), format="html")


class _Shown(nodes.General, nodes.Element):
    """Placeholder for a table that needs the address of its page."""


class _LedgerDirective(Directive):
    def run(self) -> list[nodes.Node]:
        return [_Shown(table="ledger")]


class _VerdictsDirective(Directive):
    def run(self) -> list[nodes.Node]:
        return [_Shown(table="verdicts")]


class _RerunsDirective(Directive):
    """The committed record of reruns, a file below the checkout."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        app = self.state.document.settings.env.app
        path = _root(app) / self.arguments[0]
        app.env.note_dependency(str(path))
        return [_raw(tables.again(reruns.read(path)))]


class _TrialsDirective(Directive):
    """A part of the committed record of trials: slope, mean, power or curves."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        app = self.state.document.settings.env.app
        path = _root(app) / self.arguments[0]
        app.env.note_dependency(str(path))
        try:
            table = tables.trial(trials.read(path), self.arguments[1])
        except ValueError as error:
            raise ExtensionError(str(error)) from None
        return [_raw(table)]


class _ClaimsDirective(Directive):
    """The claims of a paper, or of several, named by bib keys, chapter by chapter."""

    required_arguments = 1
    optional_arguments = 20

    def run(self) -> list[nodes.Node]:
        return [_Shown(table="claims", papers=self.arguments)]


def _fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace placeholders by tables, now that pages have addresses."""
    for node in list(doctree.findall(nodes.raw)):
        if "mf-card" in node.astext():
            node.replace_self(_raw(node.astext()))
    shown = list(doctree.findall(_Shown))
    if not shown:
        return
    pages = app.env.toctree_includes.get(app.config.root_doc, [])
    place = {page: number for number, page in enumerate(pages)}

    def name(claim: dict[str, Any]) -> str:
        return f"notebooks/{claim['notebook']}"

    def link(claim: dict[str, Any]) -> str:
        page = app.builder.get_relative_uri(docname, name(claim))
        return f"{page}#claim-{quote(claim['id'].lower())}"

    book = books.ledger(_root(app))
    claims, waiting = book["claims"], book["planned"]
    claims.sort(key=lambda claim: place.get(name(claim), len(place)))  # as the book goes
    for node in shown:
        if node["table"] == "claims":
            mine = [claim for claim in claims if claim["paper"] in node["papers"]]
            table = tables.claims(mine, link, lambda c: app.env.titles[f"notebooks/{c}"].astext())
        elif node["table"] == "ledger":
            table = tables.ledger(claims, waiting, link)
        else:
            table = tables.verdicts([*claims, *waiting])
        node.replace_self(_raw(table))


def portable(notebook: str, source: str) -> str:
    """Return a notebook that says, where mflib is missing, what to install; once.

    Parameters
    ----------
    notebook : str
        The text of an ``.ipynb`` file.
    source : str
        What pip is to install.
    """
    data = json.loads(notebook)
    words = [
        "try:\n",
        "    import mflib\n",
        "except ModuleNotFoundError:\n",
        "    raise SystemExit(\n",
        '        "This chapter needs the library of its book. Run in a cell\\n\\n"\n',
        f"        {f'    %pip install {source}'!r}\n",
        '        "\\n\\nand then the chapter from its first cell."\n',
        "    ) from None",
    ]
    cell = {
        "cell_type": "code",
        "id": "needs-mflib",
        "metadata": {"tags": ["hide-cell"]},
        "source": words,
        "outputs": [],
        "execution_count": None,
    }
    if not any(c.get("id") == cell["id"] for c in data["cells"]):
        data["cells"].insert(0, cell)
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _source(root: Path) -> str:
    """Return what pip installs the library from: the public repository where one is known."""
    server, name = (os.environ.get(f"GITHUB_{word}") for word in ("SERVER_URL", "REPOSITORY"))
    if server and name:
        return f"git+{server}/{name}"
    origin = provenance.git(root, "remote", "get-url", "origin") or ""
    return f"git+{origin}" if origin.startswith("https://") else "FOLDER_OF_THE_BOOK"


def _downloads(app: Sphinx, error: Exception | None) -> None:
    """Let the chapters that a reader downloads say what they need."""
    if error or app.builder.format != "html":
        return
    for path in (Path(app.outdir) / "_sources" / "notebooks").glob("*.ipynb*"):
        made = portable(path.read_text("utf-8"), _source(_root(app)))
        provenance.write(path, made)


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
    for claim in books.ledger(_root(app))["claims"]:
        pages = (f"notebooks/{claim['notebook']}", "book/ledger")
        for word in re.split(r"[^a-z0-9]+", claim["id"].lower()):
            known = found["terms"].get(word, [])
            known = known if isinstance(known, list) else [known]
            numbers = {*known, *(place[page] for page in pages if page in place)}
            found["terms"][word] = sorted(numbers)
    provenance.write(index, text[:begin] + json.dumps(found) + text[end:])


def _without_fields(
    app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out the fields of a named tuple: its docstring says what each one is."""
    return True if type(member).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension with Sphinx."""
    app.add_node(_Shown)
    app.add_directive("ledger", _LedgerDirective)
    app.add_directive("verdicts", _VerdictsDirective)
    app.add_directive("claims", _ClaimsDirective)
    app.add_directive("reruns", _RerunsDirective)
    app.add_directive("trials", _TrialsDirective)
    app.set_html_assets_policy("always")
    app.connect("builder-inited", _execute)
    app.connect("autodoc-skip-member", _without_fields)
    app.connect("build-finished", _searchable)
    app.connect("source-read", _substitute)
    app.connect("env-get-outdated", _outdated)
    app.connect("doctree-resolved", _fill)
    app.connect("html-page-context", _without_thebe, priority=900)
    app.connect("build-finished", _mathjax)
    app.connect("build-finished", _downloads)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
