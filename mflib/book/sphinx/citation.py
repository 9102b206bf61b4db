"""How the book is cited, and the footer of its pages: commit, date and seed."""

from __future__ import annotations

import html
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from ... import provenance
from .. import chapters

__all__ = ["bibtex", "footer", "line", "setup"]


@lru_cache(maxsize=4)
def _about(root: Path) -> dict[str, str]:
    """Return title, authors, year and commit of the book."""
    cff = yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))
    commit = (provenance.commit(root) or "no commit")[:12]
    date = provenance.git(root, "log", "-1", "--format=%cs") or ""
    names = [author.get("name") or author["family-names"] for author in cff["authors"]]
    return {
        "title": cff["title"],
        "authors": " and ".join(names),
        "year": date[:4],
        "date": date,
        "commit": commit,
        "address": cff.get("repository-code", ""),
    }


def line(root: Path) -> str:
    """Return the line by which the book is cited."""
    about = _about(root)
    parts = [about["authors"], about["title"], about["year"], f"commit {about['commit']}"]
    return ", ".join(part for part in [*parts, about["address"]] if part)


def bibtex(root: Path) -> str:
    """Return the book's BibTeX entry."""
    about = _about(root)
    fields = {
        "author": f"{{{about['authors']}}}",
        "title": about["title"],
        "year": about["year"],
        "note": f"Commit {about['commit']}",
        "url": about["address"],
    }
    body = ",\n".join(f"  {key} = {{{value}}}" for key, value in fields.items() if value)
    return f"@misc{{mean_field_resnets,\n{body}\n}}"


def _seed(root: Path, chapter: str) -> Any:
    """Return the seed of an executed chapter, or None."""
    try:
        path = root / "_build" / "chapters" / f"{chapter}.ipynb"
        about = json.loads(path.read_text("utf-8"))["metadata"]["papermill"]
        return about["parameters"].get("seed", 0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def footer(root: Path, page: str) -> str:
    """Return the footer of a page as HTML.

    Parameters
    ----------
    root : Path
        The checkout.
    page : str
        The page's name, for instance "notebooks/adjoint".
    """
    about = _about(root)
    words = [f"Commit {about['commit']}", about["date"]]
    chapter = page.removeprefix("notebooks/")
    if chapter != page and (seed := _seed(root, chapter)) is not None:
        words.append(f"seed {seed}")
    return html.escape(", ".join(word for word in words if word))


class _Cite(Directive):
    """The book's citation as text and as BibTeX."""

    def run(self) -> list[nodes.Node]:
        root = chapters.find_root(Path(self.state.document.settings.env.app.srcdir))
        made = nodes.literal_block("", bibtex(root), language="bibtex")
        return [nodes.paragraph("", line(root) + "."), made]


def _add(app: Sphinx, page: str, template: str, context: dict, doctree: Any) -> None:
    context["theme_extra_footer"] = f'<p class="mf-footer">{footer(_root(app), page)}</p>'


def _root(app: Sphinx) -> Path:
    return chapters.find_root(Path(app.srcdir))


def setup(app: Sphinx) -> None:
    """Register the directive and the footer."""
    app.add_directive("cite-the-book", _Cite)
    app.connect("html-page-context", _add)
