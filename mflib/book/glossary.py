"""The first use of every word of the glossary leads there, on each page, without being marked.

The page ``book/glossary`` is the only place where a word is entered; its other forms stand
above the same explanation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.application import Sphinx

__all__ = ["PAGE", "Entry", "entries", "link", "setup"]

#: The page that explains the words.
PAGE = "book/glossary"

#: Pages on the program, whose words (a kernel, a block) mean something else.
_APART = ("book/api", "book/rerun", "book/references", "book/ledger")

#: What is no running text.
_QUIET = (nodes.reference, nodes.literal, nodes.math, nodes.raw, nodes.target, nodes.citation)


class Entry(NamedTuple):
    """One explanation: its words, the place on the page, its first sentence."""

    words: tuple[str, ...]
    anchor: str
    says: str


def entries(tree: nodes.document) -> list[Entry]:
    """Return what a glossary page explains.

    Parameters
    ----------
    tree : docutils.nodes.document
        The page as Sphinx has read it.
    """
    found = []
    for item in tree.findall(nodes.definition_list_item):
        terms = list(item.findall(nodes.term))
        anchor = next((term["ids"][0] for term in terms if term["ids"]), None)
        if anchor:
            said = " ".join(next(item.findall(nodes.definition)).astext().split())
            words = tuple(term.astext() for term in terms)
            found.append(Entry(words, anchor, re.split(r"(?<=[.;])\s", said)[0].rstrip(";")))
    return found


def _pattern(known: Iterable[Entry]) -> tuple[re.Pattern[str], dict[str, Entry]]:
    """Return what finds a word, the longest where several begin, and whose word it is."""
    owner = {_key(word): entry for entry in known for word in entry.words}
    forms = (
        r"[-\s]+".join(map(re.escape, re.split(r"[-\s]+", word)))
        for word in sorted(owner, key=len, reverse=True)
    )
    return re.compile(rf"(?<![\w-])({'|'.join(forms)})s?(?![\w-])", re.IGNORECASE), owner


def _key(word: str) -> str:
    return re.sub(r"[-\s]+", " ", word).lower()


def link(tree: nodes.Element, known: list[Entry], address: Callable[[str], str]) -> int:
    """Link the first use of every word in the running text below a node; return how many.

    Parameters
    ----------
    tree : docutils.nodes.Element
        A page, or a part of it; it is changed.
    known : list of Entry
        The words.
    address : callable
        Returns the address of an entry's anchor.
    """
    if not known:
        return 0
    pattern, owner = _pattern(known)
    seen: set[Entry] = set()
    for text in list(tree.findall(nodes.Text)):
        if not _running(text):
            continue
        parts, end = [], 0
        for match in pattern.finditer(text):
            entry = owner[_key(match[1])]
            if entry in seen:
                continue
            seen.add(entry)
            where = dict(refuri=address(entry.anchor), reftitle=entry.says, internal=True)
            word = nodes.reference("", "", nodes.inline("", match[0]), classes=["mf-term"], **where)
            parts += [nodes.Text(text[end : match.start()]), word]
            end = match.end()
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(text[end:])])
    return len(seen)


def _running(text: nodes.Text) -> bool:
    """Say whether a text belongs to a sentence, and is no title, link, code or formula."""
    node, inside = text.parent, False
    while node is not None:
        if isinstance(node, _QUIET):
            return False
        inside |= isinstance(node, nodes.paragraph)
        node = node.parent
    return inside


def _linked(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    if PAGE not in app.env.found_docs or docname.startswith(_APART):
        return
    if docname == PAGE:
        known = entries(doctree)
        for item in list(doctree.findall(nodes.definition_list_item)):
            own = {term.astext() for term in item.findall(nodes.term)}
            link(item, [e for e in known if not own & set(e.words)], lambda place: f"#{place}")
        return
    page = app.builder.get_relative_uri(docname, PAGE)
    link(doctree, entries(app.env.get_doctree(PAGE)), lambda place: f"{page}#{place}")


def _outdated(app: Sphinx, env: Any, added: set, changed: set, removed: set) -> list[str]:
    """Every page shows the glossary's words: read all again when it has changed."""
    return sorted(env.found_docs) if PAGE in added | changed else []


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension with Sphinx."""
    app.connect("env-get-outdated", _outdated)
    app.connect("doctree-resolved", _linked)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
