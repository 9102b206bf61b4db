"""Pictures of executed chapters: words that stand for them, and one shown on another page."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from ... import provenance
from .. import chapters

__all__ = ["Picture", "alternative"]


def alternative(caption: str) -> str:
    """Return a caption as the words that stand for the image: no markup, no line breaks.

    Examples
    --------
    >>> alternative(r"Error of $p(x,0)$, see {cite}`lu2020`.")
    'Error of p(x,0), see lu2020.'
    """
    words = re.sub(r"\{[\w:]+\}`([^`<]*?)(?: *<[^`]*>)?`", r"\1", caption)
    return " ".join(words.replace("$", "").split())


def _found(path: Path, name: str) -> tuple[dict[str, Any], str] | None:
    """Return the figure of that name in an executed chapter: its metadata and its PNG."""
    for cell in chapters.load(path):
        figure = cell["metadata"].get("mystnb", {}).get("figure", {})
        if figure.get("name") == name:
            for output in cell["outputs"]:
                if png := output.get("data", {}).get("image/png"):
                    return figure, "".join(png)
    return None


class Picture(SphinxDirective):
    """A figure of a chapter, by the chapter's name and its own, with a link to it."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        chapter, name = self.arguments
        root = chapters.find_root(Path(self.env.app.srcdir))
        path = root / "_build" / "chapters" / f"{chapter}.ipynb"
        self.env.note_dependency(str(path))
        try:
            found = _found(path, name)
        except chapters.ChapterError as error:
            raise self.error(str(error)) from None
        if found is None:
            raise self.error(f"{chapter} shows no figure {name!r}")
        figure, png = found
        target = root / "_build" / "pictures" / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        provenance.write(target, base64.b64decode(png))
        alt = alternative(figure["caption"])
        shown = nodes.figure("", nodes.image(uri=f"/_build/pictures/{name}.png", alt=alt))
        words, messages = self.state.inline_text(figure["caption"], self.lineno)
        more, _ = self.state.inline_text(
            f" From the chapter {{doc}}`/notebooks/{chapter}`.", self.lineno
        )
        shown += nodes.caption("", "", *words, *more)
        return [shown, *messages]
