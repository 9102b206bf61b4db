"""Errata: one entry a note, with its anchor, and the table that lists them."""

from __future__ import annotations

import html
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from .. import badges, tables
from . import placeholders

__all__ = ["CLASSES", "setup"]

#: What an entry can be; only the first is called an error.
CLASSES = ("printed", "informal remark", "reading", "scope note")


class Entry(nodes.General, nodes.Element):
    """One note: its title, its argument folded below it."""


class Listing(nodes.General, nodes.Element):
    """Placeholder for the table of all entries of the page."""


class _Erratum(SphinxDirective):
    """``:::{erratum} title`` with the options ``claim``, ``class`` and ``note``."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec = {
        "claim": directives.unchanged,
        "class": directives.unchanged_required,
        "note": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        kind = self.options.get("class", "")
        if kind not in CLASSES:
            raise self.error(f"class {kind!r} is none of {', '.join(CLASSES)}")
        claims = self.options.get("claim", "").split()
        entry = Entry(claims=claims, kind=kind, note=self.options.get("note", ""))
        title, messages = self.state.inline_text(self.arguments[0], self.lineno)
        name = badges.slug(claims[0] if claims else self.arguments[0])
        taken = self.env.temp_data.setdefault("errata", set())
        while name in taken:
            name += "-2"
        taken.add(name)
        entry["ids"].append(f"erratum-{name}")
        entry += nodes.inline("", "", *title, classes=["mf-title"])
        body = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, body)
        entry += body
        return [entry, *messages]


class _Errata(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return [Listing()]


def _open(self: Any, node: Entry) -> None:
    self.body.append(f'<details class="mf-erratum" id="{node["ids"][0]}"><summary>')
    node.children[0].walkabout(self)
    self.body.append(f"</summary>{node['about']}")
    node.children[1].walkabout(self)
    self.body.append("</details>\n")
    raise nodes.SkipNode


def _close(self: Any, node: Entry) -> None:
    """Nothing: the node is written whole when it is met."""


def _fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Give every entry its claims, and the table its rows."""
    entries = list(doctree.findall(Entry))
    listings = list(doctree.findall(Listing))
    if not entries and not listings:
        return
    records, link = placeholders.records(app), placeholders.claim_link(app, docname)
    for entry in entries:
        for claim in entry["claims"]:
            if claim not in records:
                raise ExtensionError(f"{docname}: {entry['ids'][0]}: no claim {claim!r}")
        linked = ", ".join(_claim(records[claim], link) for claim in entry["claims"])
        words = "; ".join(word for word in (entry["kind"], entry["note"]) if word)
        entry["about"] = f'<p class="mf-where">{html.escape(words)}. {linked}</p>'
    for listing in listings:
        rows: list[nodes.Node] = []
        for entry in entries:
            rows.append(_row(entry, records))
        head = "".join(f"<th scope='col'>{word}</th>" for word in ("paper", "about", "class",
                                                                   "claim"))  # fmt: skip
        wrapped = nodes.container(classes=["mf-errata"])
        wrapped += nodes.raw("", f"<table><thead><tr>{head}</tr></thead><tbody>", format="html")
        wrapped += rows
        wrapped += nodes.raw("", "</tbody></table>", format="html")
        listing.replace_self(wrapped)


def _claim(record: dict[str, Any], link: Any) -> str:
    sign, word = badges.of(record)
    return (
        f'<a href="{tables.address(link(record))}">{html.escape(record["id"])}</a> '
        f'<span class="mf-{badges.tone(word)}"><span class="mf-badge">{sign} '
        f"{html.escape(word)}</span></span>"
    )


def _row(entry: Entry, records: dict[str, Any]) -> nodes.Node:
    """Return a row of the table: it leads to the entry."""
    section = entry.parent
    while section is not None and not isinstance(section, nodes.section):
        section = section.parent
    paper = section.next_node(nodes.title).astext() if section is not None else ""
    claims = ", ".join(
        f"{html.escape(claim)} {badges.of(records[claim])[0]}" for claim in entry["claims"]
    )
    row = nodes.inline()
    row += nodes.raw("", f"<tr><td>{html.escape(paper)}</td><td>", format="html")
    link = nodes.reference("", "", internal=True, refid=entry["ids"][0])
    link += [child.deepcopy() for child in entry.children[0].children]
    row += link
    row += nodes.raw(
        "",
        f"</td><td>{html.escape(entry['kind'])}</td><td>{claims or '–'}</td></tr>",
        format="html",
    )
    return row


def setup(app: Sphinx) -> None:
    """Register the directives."""
    app.add_node(Entry, html=(_open, _close))
    app.add_node(Listing)
    app.add_directive("erratum", _Erratum)
    app.add_directive("errata", _Errata)
    app.connect("doctree-resolved", _fill)
