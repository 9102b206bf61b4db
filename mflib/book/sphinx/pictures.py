"""Pictures of executed chapters: words that stand for them, and one shown on another page."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ... import provenance
from .. import chapters
from ..panels import panels

__all__ = ["Picture", "alternative", "setup"]


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
    """A figure of a chapter, by the chapter's name and its own, with a link to it.

    The content, where there is one, is its caption here; ``phone`` lists the panels, counted
    from one, that a phone shows.
    """

    required_arguments = 2
    has_content = True
    option_spec = {"phone": directives.positive_int_list}

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
        caption = " ".join(self.content) or figure["caption"]
        image = nodes.image(uri=f"/_build/pictures/{name}.png", alt=alternative(caption))
        image["phone"] = self.options.get("phone", [])
        shown = nodes.figure("", image)
        words, messages = self.state.inline_text(caption, self.lineno)
        more, _ = self.state.inline_text(
            f" From the chapter {{doc}}`/notebooks/{chapter}`.", self.lineno
        )
        shown += nodes.caption("", "", *words, *more)
        return [shown, *messages]


def _visit(self: Any, node: nodes.image) -> None:
    """Write an image with its size, and where its panels lie, for the script of the page."""
    before = len(self.body)
    type(self).visit_image(self, node)
    if about := node.get("about"):
        written = "".join(self.body[before:])
        self.body[before:] = [written.replace("<img ", f"<img {about} ", 1)]


def _depart(self: Any, node: nodes.image) -> None:
    type(self).depart_image(self, node)


def _measured(app: Sphinx, doctree: nodes.document) -> None:
    """Note the size of the page's pictures, and where their panels lie."""
    from PIL import Image

    for image in doctree.findall(nodes.image):
        path = Path(app.srcdir) / image["uri"].lstrip("/")
        if path.suffix == ".png" and path.is_file():
            with Image.open(path) as opened:
                width, height = opened.size
            about = f'loading="lazy" width="{width}" height="{height}"'
            found = panels(path.read_bytes())
            if phone := image.get("phone"):
                found = [found[number - 1] for number in phone if number <= len(found)]
            if len(found) > 1:
                about += f' data-panels="{" ".join(f"{a:g}-{b:g}" for a, b in found)}"'
            image["about"] = about


def setup(app: Sphinx) -> None:
    """Register the directive, and what writes images."""
    app.add_directive("picture", Picture)
    app.add_node(nodes.image, override=True, html=(_visit, _depart))
    app.connect("doctree-read", _measured)
