"""The Sphinx extension of the book: executed chapters, the ledger, offline mathematics.

The notebooks in the repository hold no outputs. When Sphinx reads one, this extension
hands it the executed copy, after making sure that the copy is up to date: a page can
never disagree with the code.
"""

from __future__ import annotations

import html
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging

from ..claims import card
from . import chapters, coverage, reruns, runner
from . import ledger as books

__all__ = ["setup"]

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
        c.name for c in chapters.discover(root)
        if not chapters.is_fresh(c, root / "_build" / "chapters")
    ]
    results = runner.run(root, stale, report=report) if stale else []
    failed = [r.message for r in results if r.status == "failed"]
    if failed:
        raise ExtensionError("; ".join(failed))


def _substitute(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give Sphinx the executed copy of a notebook."""
    if docname.startswith("notebooks/"):
        executed = _root(app) / "_build" / "chapters" / f"{Path(docname).name}.ipynb"
        source[0] = executed.read_text("utf-8")
        app.env.note_dependency(str(executed))


def _outdated(app: Sphinx, env: Any, added: set, changed: set, removed: set) -> list[str]:
    """Read the prose pages, which may show claims, whenever anything else is read."""
    return [d for d in env.found_docs if d.startswith("book/")]


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
        return [nodes.raw("", _reruns_html(reruns.read(path)), format="html")]


class _ClaimsDirective(Directive):
    """The claims of one paper, named by its bib key, chapter by chapter."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return [_Shown(table="claims", paper=self.arguments[0])]


def _ledger_html(claims: list[dict[str, Any]], waiting: list[dict[str, Any]], link: Any) -> str:
    bodies = []
    for paper, (measured, planned) in coverage.by_paper(claims, waiting).items():
        rows = "".join(_ledger_row(claim, link(claim)) for claim in measured)
        rows += "".join(_ledger_row(claim, None) for claim in planned)
        bodies.append(
            f'<tbody><tr class="mf-group"><th colspan="5">{html.escape(paper)}: '
            f"{coverage.counted(measured, planned)} claims measured</th></tr>{rows}</tbody>"
        )
    return (
        '<div class="mf-ledger tex2jax_process">'
        f"<p><b>{coverage.counted(claims, waiting)}</b> claims measured; "
        "the others are planned and shown as <i>not run</i>.</p>"
        '<p><label>Show only rows with <input type="search" id="mf-filter" '
        'placeholder="refuted, lu2020, rate ..."></label> <span id="mf-count"></span></p>'
        "<table><thead><tr><th>verdict</th><th>claim</th><th>statement</th>"
        '<th><span class="mf-pairs"><span>predicted</span><span>measured [99.9 %]</span></span>'
        f"</th><th>controls</th></tr></thead>{''.join(bodies)}</table></div>"
    )


def _ledger_row(claim: dict[str, Any], address: str | None) -> str:
    sign, word, colour = card.badge(claim)
    checks = "".join(
        f"<div>{card.mathematics(c['name'])}: "
        f"<b>{card.mathematics(card.predicted(c))}</b></div>"
        f"<div>{card.mathematics(card.measured(c))}</div>"
        for c in claim["checks"]
    )
    controls = "".join(
        f"<div>{'✓' if c['flipped'] else '✗'} {card.mathematics(c['name'])}</div>"
        for c in claim["controls"]
    )
    name = html.escape(claim["id"])
    if address:
        name = f'<a href="{html.escape(address)}">{name}</a>'
    return (
        f'<tr class="mf-{colour}"><td data-label="verdict"><span class="mf-badge">'
        f'{sign} {word}</span></td><td data-label="claim">{name}</td>'
        f'<td data-label="statement">{card.mathematics(claim["statement"])}'
        f'<div class="mf-where">{html.escape(claim["paper"])}, '
        f"{card.mathematics(claim['where'])}; {html.escape(claim['kind'])}</div></td>"
        f'<td data-label="predicted, and measured [99.9 %]"><div class="mf-pairs">'
        f"{checks}</div></td>"
        f'<td data-label="controls that flipped ✓">{controls or "–"}</td></tr>'
    )


def _verdicts_html(claims: list[dict[str, Any]]) -> str:
    papers: dict[str, dict[str, int]] = {}
    for claim in claims:
        sign, word, _ = card.badge(claim)
        counts = papers.setdefault(claim["paper"], {})
        counts[f"{sign} {word}"] = counts.get(f"{sign} {word}", 0) + 1
    words = sorted({word for counts in papers.values() for word in counts}, reverse=True)
    head = "".join(f"<th>{w}</th>" for w in words)
    body = "".join(
        f"<tr><td>{html.escape(paper)}</td>"
        + "".join(f"<td>{counts.get(w, 0)}</td>" for w in words) + "</tr>"
        for paper, counts in papers.items())
    return (
        f'<div class="mf-verdicts"><table><thead><tr><th>paper</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _reruns_html(found: dict[str, Any]) -> str:
    papers: dict[str, list[dict[str, Any]]] = {}
    for claim in found["claims"]:
        papers.setdefault(claim["paper"], []).append(claim)
    body, told = "", []
    for paper, claims in papers.items():
        verdicts = sum(v is not None for claim in claims for v in claim["verdicts"])
        body += (
            f"<tr><td>{html.escape(paper)}</td><td>{len(claims)}</td><td>{verdicts}</td>"
            f"<td>{sum(map(reruns.differing, claims))}</td>"
            f"<td>{sum(bool(claim['stuck']) for claim in claims)}</td></tr>")
        told += [
            f"<li>{html.escape(claim['id'])}"
            + (" (an open question)" if claim["expected"] is None else "")
            + f": {html.escape(reruns.counted(claim))}"
            + "".join(f"; did not flip: {card.mathematics(name)}" for name in claim["stuck"])
            + "</li>"
            for claim in claims
            if claim["expected"] is None or reruns.differing(claim) or claim["stuck"]
        ]
    runs = "; ".join(
        (", ".join(f"{k} {v}" for k, v in run["parameters"].items()) or "as committed")
        + f" ({run['seconds'] / 60:.0f} minutes of one core)" for run in found["runs"])
    versions = ", ".join(f"{k} {v}" for k, v in found["versions"].items())
    return (
        '<div class="mf-verdicts tex2jax_process"><table><thead><tr><th>paper</th><th>claims</th>'
        "<th>verdicts</th><th>that differ</th><th>claims with a control that did not flip</th>"
        f"</tr></thead><tbody>{body}</tbody></table>"
        f"<ul>{''.join(told)}</ul>"
        f'<p class="mf-where">Runs: {html.escape(runs)}. Commit '
        f"{html.escape(str(found['commit'])[:12])}; {html.escape(versions)}.</p></div>"
    )


def _claims_html(claims: list[dict[str, Any]], link: Any, title: Any) -> str:
    rows, chapter = [], None
    for claim in claims:
        if claim["notebook"] != chapter:
            chapter = claim["notebook"]
            rows.append(
                f'<tr><th colspan="2"><a href="{link(claim).split("#")[0]}">'
                f"{html.escape(title(chapter))}</a></th></tr>")
        sign, word, colour = card.badge(claim)
        rows.append(
            f'<tr class="mf-{colour}"><td><a href="{link(claim)}">{html.escape(claim["id"])}</a>'
            f'<div class="mf-badge">{sign} {word}</div></td>'
            f"<td>{card.mathematics(claim['statement'])}"
            f'<div class="mf-where">{card.mathematics(claim["where"])}</div></td></tr>')
    return (
        '<div class="mf-claims tex2jax_process"><table><tbody>'
        f"{''.join(rows)}</tbody></table></div>"
    )


def _fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace placeholders by tables, now that pages have addresses."""
    shown = list(doctree.findall(_Shown))
    if not shown:
        return
    pages = app.env.toctree_includes.get(app.config.root_doc, [])
    place = {page: number for number, page in enumerate(pages)}

    def name(claim: dict[str, Any]) -> str:
        return f"notebooks/{claim['notebook']}"

    def link(claim: dict[str, Any]) -> str:
        page = app.builder.get_relative_uri(docname, name(claim))
        return f"{page}#claim-{claim['id'].lower()}"

    book = books.ledger(_root(app))
    claims, waiting = book["claims"], book["planned"]
    claims.sort(key=lambda claim: place.get(name(claim), len(place)))  # as the book goes
    for node in shown:
        if node["table"] == "claims":
            mine = [claim for claim in claims if claim["paper"] == node["paper"]]
            table = _claims_html(mine, link, lambda c: app.env.titles[f"notebooks/{c}"].astext())
        elif node["table"] == "ledger":
            table = _ledger_html(claims, waiting, link)
        else:
            table = _verdicts_html([*claims, *waiting])
        node.replace_self(nodes.raw("", table, format="html"))


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
        script for script in context.get("script_files", ())
        if "thebe" not in (str(script) + str(getattr(script, "attributes", ""))).lower()
    ]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension with Sphinx."""
    app.add_node(_Shown)
    app.add_directive("ledger", _LedgerDirective)
    app.add_directive("verdicts", _VerdictsDirective)
    app.add_directive("claims", _ClaimsDirective)
    app.add_directive("reruns", _RerunsDirective)
    app.set_html_assets_policy("always")
    app.connect("builder-inited", _execute)
    app.connect("source-read", _substitute)
    app.connect("env-get-outdated", _outdated)
    app.connect("doctree-resolved", _fill)
    app.connect("html-page-context", _without_thebe, priority=900)
    app.connect("build-finished", _mathjax)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
