"""The first use of every word of the glossary leads there, on each page."""

import json
import re

import pytest
from conftest import ROOT
from docutils import nodes
from docutils.core import publish_doctree

from mflib.book.glossary import PAGE, Entry, link

LAW = Entry(("law",), "term-law", "A measure.")
POWER = Entry(("power law",), "term-power-law", "A line.")
FIELD = Entry(("mean field", "mean-field equation"), "term-mean-field", "All of them.")


def linked(text, *known):
    tree = publish_doctree(text)
    count = link(tree, list(known), lambda place: f"glossary.html#{place}")
    found = [
        (n.astext(), n["refuri"])
        for n in tree.findall(nodes.reference)
        if "mf-term" in n["classes"]
    ]
    assert count == len(found)
    return tree, found


def test_the_first_use_is_linked_and_no_later_one():
    tree, found = linked("One law here.\n\nAnd a law there; two laws.", LAW)
    assert found == [("law", "glossary.html#term-law")]
    assert tree.astext() == "One law here.\n\nAnd a law there; two laws."
    (word,) = tree.findall(nodes.reference)
    assert word["reftitle"] == "A measure." and word.parent.astext() == "One law here."


@pytest.mark.parametrize("text", ["The laws.", "Laws.", "*law*", "1. item: law"])
def test_plurals_capitals_emphasis_and_lists_count(text):
    assert len(linked(text, LAW)[1]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "lawful outlaw law-like",
        "``law``",
        "`law <https://a.b>`_",
        "A law\n=====\n\nBody.\n\nNo law\n======\n\nBody.".replace("Body.", "Nothing."),
        "::\n\n    law",
        ".. raw:: html\n\n    law",
    ],
)
def test_parts_of_words_titles_links_and_code_do_not(text):
    assert linked(text, LAW)[1] == []


def test_the_longest_word_wins_and_leaves_the_shorter_one_its_own_first_use():
    _, found = linked("A power law is no law.", LAW, POWER)
    assert [word for word, _ in found] == ["power law", "law"]


def test_hyphens_spaces_and_line_ends_are_alike_and_forms_share_one_link():
    for text in (
        "the mean-field view",
        "the mean field",
        "the mean\nfield, the mean-field equation",
    ):
        assert len(linked(text, FIELD)[1]) == 1


def test_nothing_is_linked_where_nothing_is_known():
    assert linked("A law.")[1] == []


def page():
    return (ROOT / f"{PAGE}.md").read_text("utf-8")


def explained():
    """Return (words, explanation) of every entry, read from the source of the page."""
    found = []
    for body in re.findall(r"```\{glossary\}\n(.*?)```", page(), re.DOTALL):
        for entry in body.strip("\n").split("\n\n"):
            lines = entry.split("\n")
            words = [line for line in lines if not line.startswith("  ")]
            found.append((words, " ".join(line.strip() for line in lines[len(words) :])))
    return found


def test_every_word_is_explained_once_by_a_first_sentence_without_formulas():
    words = [word.lower() for names, _ in explained() for word in names]
    assert len(words) == len(set(words)) > 40
    first = {names[0]: re.split(r"(?<=[.;])\s", says)[0] for names, says in explained()}
    assert [n for n, says in first.items() if len(says) < 20 or re.search(r"[${]", says)] == []


def test_the_book_uses_every_word_that_the_glossary_explains():
    prose = [
        "".join(cell["source"])
        for path in (ROOT / "notebooks").glob("*.ipynb")
        for cell in json.loads(path.read_text("utf-8"))["cells"]
        if cell["cell_type"] == "markdown"
    ]
    prose += [p.read_text("utf-8") for p in (ROOT / "book").glob("*.md") if p.stem != "glossary"]
    text = re.sub(r"[-\s]+", " ", "\n".join(prose)).lower()
    for names, _ in explained():
        assert any(re.sub(r"[-\s]+", " ", name).lower() in text for name in names), names
