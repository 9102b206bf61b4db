"""Boxes of statements: each is called by its paper's own name, no number is added.

A box whose title reads "Lu et al., Theorem 3" would be headed "Theorem 5 (Lu et al.,
Theorem 3)"; what counts it becomes an admonition of the same look under its own title.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx_proof.nodes import NODE_TYPES

__all__ = ["setup", "unnumbered"]


def unnumbered(doctree: nodes.document) -> set[str]:
    """Replace the numbered boxes of a page by admonitions; return their labels."""
    labels = set()
    for box in list(doctree.findall(lambda n: isinstance(n, tuple(NODE_TYPES.values())))):
        plain = nodes.admonition("", *box.children, ids=box["ids"], classes=box["classes"])
        labels.add(box["label"])
        box.replace_self(plain)
    return labels


def _read(app: Sphinx, doctree: nodes.document) -> None:
    for label in unnumbered(doctree):
        app.env.proof_list[label]["nonumber"] = True


def setup(app: Sphinx) -> None:
    """Connect the boxes to Sphinx."""
    app.connect("doctree-read", _read)
