"""What a page says in one word and the ledger knows: tables, bars, maps, values of checks.

A directive or a role leaves a placeholder; it is filled when every page has its address.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxRole

from ...claims import ClaimError, register, trials
from .. import (
    badges,
    chapters,
    implications,
    ledger_table,
    numbers,
    papers,
    referee,
    results_map,
    speed,
    tables,
)
from .. import ledger as books
from .citation import line as citation

__all__ = ["Shown", "anchor", "raw", "setup"]


class Shown(nodes.General, nodes.Inline, nodes.Element):
    """Placeholder for what needs the ledger, or the address of its page."""


def raw(words: str) -> nodes.raw:
    """Return HTML as a node whose cells stand apart for the search."""
    return nodes.raw("", tables.apart(words), format="html")


def anchor(id: str) -> str:
    """Return the anchor at which a chapter argues a claim."""
    return f"claim-{quote(id.lower())}"


def _root(app: Sphinx) -> Path:
    return chapters.find_root(Path(app.srcdir))


def _word(table: str, needs: int = 0, more: int = 0) -> type[Directive]:
    """Return a directive that leaves a placeholder; its arguments become ``words``."""

    class Word(Directive):
        required_arguments = needs
        optional_arguments = more

        def run(self) -> list[nodes.Node]:
            return [Shown(table=table, words=list(self.arguments))]

    return Word


class _Benchmark(Directive):
    """The committed record of a benchmark, by its name."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        app = self.state.document.settings.env.app
        path = _root(app) / "book" / "records" / "bench" / f"{self.arguments[0]}.json"
        if not path.exists():  # a dependency that is missing would be read at every build
            words = (
                f"Not measured: no record of the benchmark {self.arguments[0]} is committed yet."
            )
            return [nodes.paragraph("", words)]
        app.env.note_dependency(str(path))
        try:
            record = speed.read(path)
        except ClaimError as error:
            raise ExtensionError(str(error)) from None
        command = nodes.literal_block(record["command"], record["command"], language="bash")
        return [raw(speed.drawing(record)), command, raw(speed.table(record))]


class _Referee(Directive):
    """The last committed record of the referee, in a folder below the checkout."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        app = self.state.document.settings.env.app
        path = referee.latest(_root(app) / self.arguments[0])
        app.env.note_dependency(str(path))
        return [raw(tables.again(referee.read(path), partial(papers.name, _root(app))))]


class _Trials(Directive):
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
        return [raw(table)]


class _Planted(Directive):
    """The committed record of planted bugs, a file below the checkout."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        app = self.state.document.settings.env.app
        path = _root(app) / self.arguments[0]
        app.env.note_dependency(str(path))
        try:
            return [raw(tables.planted(path))]
        except ValueError as error:
            raise ExtensionError(str(error)) from None


class _Value(SphinxRole):
    """A number of a check, as ``CLAIM`` or ``CLAIM: part of the check's name``."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        claim = self.text.split(":")[0].strip()
        row = register.read(register.find(_root(self.env.app))).get(claim)
        if row and row.chapter:
            folder = _root(self.env.app) / "_build" / "chapters"
            self.env.note_dependency(str(folder / f"{row.chapter}.ipynb"))
        return [Shown(table="value", words=[self.name, self.text], where=self.get_location())], []


class _Page:
    """Fills the placeholders of one page."""

    def __init__(self, app: Sphinx, docname: str, book: dict[str, Any]) -> None:
        self.app, self.docname, self.book = app, docname, book
        self.root = _root(app)
        self.claims, self.waiting = book["claims"], book["planned"]
        self.name = partial(papers.name, self.root)

    def link(self, claim: dict[str, Any]) -> str:
        """Return the address of a claim's place; of a planned one in the ledger."""
        page = f"notebooks/{claim['notebook']}"
        if claim["verdict"] == "not run" and not claim["checks"]:
            return self.app.builder.get_relative_uri(self.docname, "book/ledger")
        return self.app.builder.get_relative_uri(self.docname, page) + "#" + anchor(claim["id"])

    def title(self, chapter: str) -> str:
        return self.app.env.titles[f"notebooks/{chapter}"].astext()

    def fill(self, table: str, words: list[str]) -> nodes.Node:
        return getattr(self, f"_{table}")(*words)

    def _ledger(self) -> nodes.Node:
        cite = citation(self.root)
        return raw(ledger_table.ledger(self.claims, self.waiting, self.link, self.name, cite))

    def _verdicts(self) -> nodes.Node:
        page = self.app.builder.get_relative_uri(self.docname, "book/ledger")
        return raw(tables.verdicts([*self.claims, *self.waiting], page, self.name))

    def _claims(self, *keys: str) -> nodes.Node:
        mine = [claim for claim in self.claims if claim["paper"] in keys]
        return raw(tables.claims(mine, self.link, self.title))

    def _map(self, part: str) -> nodes.Node:
        entries = register.read(register.find(self.root))
        table = self.root / "book" / "implications.csv"
        arrows = implications.read(table, entries)
        mine = [a for a in arrows if implications.part_of(a.result, entries) == part]
        if not mine:
            raise ClaimError(f"{table}: has no arrow of the part {part!r}")
        ends = {arrow.on for arrow in mine}
        here = {
            claim["id"]: claim
            for claim in [*self.claims, *self.waiting]
            if claim["id"] in ends
            or (claim["id"] in entries and implications.part_of(claim["id"], entries) == part)
        }
        name = "Beyond the four papers" if part == "beyond" else self.name(part)
        title = f"{name}: which result rests on which"
        return raw(
            results_map.drawing(mine, here, self.link, title)
            + '<details class="mf-same"><summary>The same as a list</summary>'
            + f'<div class="tex2jax_process">{results_map.listing(mine, here, self.link)}</div>'
            + "</details>"
        )

    def _value(self, role: str, text: str) -> nodes.Node:
        records = {claim["id"]: claim for claim in [*self.claims, *self.waiting]}
        claim, found = numbers.look_up(records, role, text)
        if role != "verdict":
            return nodes.inline("", found, classes=["mf-value"])
        sign, word = badges.of(claim)
        link = nodes.reference("", f"{sign} {word}", internal=True, refuri=self.link(claim))
        return nodes.inline("", "", link, classes=["mf-badge", f"mf-{badges.tone(word)}"])


def _book(app: Sphinx) -> dict[str, Any]:
    """Return the ledger, its claims in the order of the book; read once a build."""
    book = getattr(app, "_mflib_ledger", None)
    if book is None:
        book = books.ledger(_root(app))
        pages = app.env.toctree_includes.get(app.config.root_doc, [])
        place = {page: number for number, page in enumerate(pages)}
        book["claims"].sort(key=lambda c: place.get(f"notebooks/{c['notebook']}", len(place)))
        app._mflib_ledger = book  # type: ignore[attr-defined]
    return book


def _named(root: Path, card: str) -> str:
    """Return a card that calls its paper by its name instead of its key."""
    return re.sub(
        r'(?<=<span class="mf-where">)(\w+)(?=, )',
        lambda found: html.escape(papers.name(root, found[1])),
        card,
    )


def _fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace placeholders, now that pages have addresses."""
    for node in list(doctree.findall(nodes.raw)):
        if "mf-card" in node.astext():
            node.replace_self(raw(_named(_root(app), node.astext())))
    shown = list(doctree.findall(Shown))
    if not shown:
        return
    page = _Page(app, docname, _book(app))
    for node in shown:
        try:
            node.replace_self(page.fill(node["table"], node["words"]))
        except ClaimError as error:
            raise ExtensionError(f"{docname}: {error}") from None


def claim_link(app: Sphinx, docname: str) -> Callable[[dict[str, Any]], str]:
    """Return what gives the address of a claim's place, seen from a page."""
    return _Page(app, docname, _book(app)).link


def records(app: Sphinx) -> dict[str, dict[str, Any]]:
    """Return every claim, measured or planned, by its identifier."""
    book = _book(app)
    return {claim["id"]: claim for claim in [*book["claims"], *book["planned"]]}


def setup(app: Sphinx) -> None:
    """Register directives and roles."""
    app.add_node(Shown)
    for name, *counts in (("ledger",), ("verdicts",), ("claims", 1, 20), ("map", 1)):
        app.add_directive(name, _word(name, *counts))
    app.add_directive("referee", _Referee)
    app.add_directive("benchmark", _Benchmark)
    app.add_directive("trials", _Trials)
    app.add_directive("planted", _Planted)
    for role in numbers.ROLES:
        app.add_role(role, _Value())
    app.connect("doctree-resolved", _fill)
