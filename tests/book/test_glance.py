"""The shape of a chapter: its box, its picture, its statements and its exercises."""

import json
import re

import pytest
from conftest import ROOT
from docutils import nodes
from sphinx_proof.nodes import theorem_node

from mflib.book import chapters, glance
from mflib.book.sphinx import boxes

#: The primer claims nothing, and has a shape of its own.
NOTEBOOKS = [
    path
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    if "(claim-" in path.read_text("utf-8")
]
STATEMENT = re.compile(r"^:::\{prf:\w+\} (.*)$", re.MULTILINE)
SOURCES = ("{cite}`", "Teacher-student paper", "Derived here", "New in this book", "Remark after")


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: p.stem)
def cells(request):
    return chapters.load(request.param)


def prose(cells):
    return "\n\n".join(c["source"] for c in cells if c["cell_type"] == "markdown")


def test_a_chapter_says_first_what_is_needed_and_what_to_remember(cells):
    box = cells[0]["source"].split(":::{admonition} At a glance\n:class: tip glance\n")[1]
    needed, remember = box.split("\n:::")[0].split("\n\n")
    assert needed.startswith("**Needed first:** ")
    assert remember.startswith("**To remember:** ")


def test_a_picture_comes_before_the_first_claim(cells):
    for cell in cells:
        assert "(claim-" not in cell["source"], "no figure before the first claim"
        if "plt.subplots" in cell["source"] and "hide-input" in cell["tags"]:
            break


def test_statements_are_called_by_their_source_and_followed_by_a_reason(cells):
    text = prose(cells)
    for title in STATEMENT.findall(text):
        assert title.startswith(SOURCES), title
    anchors = re.split(r"^\(claim-[^)]+\)=$", text, flags=re.MULTILINE)[1:]
    for section in anchors:
        if STATEMENT.search(section) or ":class: warning" in section:
            assert "**Why" in section, section[:200]


def test_little_code_stands_between_the_reader_and_the_point(cells):
    folded = {"hide-input", "hide-cell", "remove-input", "remove-cell", "parameters"}
    lines = 0
    for cell in cells:
        if cell["cell_type"] == "markdown":
            lines = 0 if "(claim-" in cell["source"] else lines
        elif not folded & set(cell["tags"]) and cell["source"].strip() != "claim":
            lines += sum(bool(line.strip()) for line in cell["source"].splitlines())
        assert lines <= 55, "fold what is not the claim itself (tag hide-input)"


def test_exercises_say_their_level_and_have_solutions(cells):
    if any("no-claims" in cell["tags"] for cell in cells):
        pytest.skip("the primer has an exercise a section, solved in its place")
    text = prose(cells).split("## Exercises")[1]
    asked = re.findall(r"^(\d+)\. (.*)$", text.split("dropdown")[0], re.MULTILINE)
    assert asked
    marks = re.findall(r"\*\((?:easy|medium|hard), [^)]+\)\*", text)
    solved = len(re.findall(r"^\d+\\?\. ", text[text.index("dropdown") :], re.MULTILINE))
    solved = max(solved, text.count("Solution"))
    assert len(marks) >= len(asked) and solved >= len(asked)


def test_minutes_count_words_formulas_and_code_in_view_but_no_folded_text_nor_exercises():
    def prose_cell(source):
        return {"cell_type": "markdown", "source": source, "tags": []}

    def code_cell(source, *tags):
        return {"cell_type": "code", "source": source, "tags": list(tags)}

    words = prose_cell("word " * 1800)
    assert glance.minutes([words]) == 10
    assert glance.minutes([words, prose_cell("$$x$$ " * 8)]) == 12
    assert glance.minutes([words, code_cell("a = 1\n" * 60)]) == 12
    assert glance.minutes([words, code_cell("a = 1\n" * 60, "hide-input")]) == 10
    assert glance.minutes([words, prose_cell(":::{dropdown} S\n" + "word " * 900 + "\n:::")]) == 10
    assert glance.minutes([words, prose_cell("## Exercises\n" + "word " * 900), words]) == 10
    assert glance.minutes([words, *[code_cell("claim", "remove-input")] * 4]) == 12
    assert glance.minutes([words, *[code_cell("slider(move)", "hide-input")] * 3]) == 11
    assert glance.minutes([]) == 1


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_the_main_text_of_a_chapter_can_be_read_in_one_sitting(path):
    assert 8 <= glance.minutes(chapters.load(path)) <= 25


def test_facts_show_each_claim_with_its_badge_and_escape_what_a_record_says():
    record = {"id": "X-<b>", "verdict": "verified", "expected": "verified", "kind": "identity"}
    words = glance.facts(12, 33.3, [record])
    assert "12 minutes" in words and "33 seconds" in words
    assert "X-&lt;b&gt;" in words and "#claim-x-%3Cb%3E" in words and "verified" in words
    assert "ran in" not in glance.facts(12, None, [])
    assert "Claims" not in glance.facts(12, None, []) and "Claims" in words


def test_numbered_boxes_become_admonitions_that_keep_title_label_and_place():
    box = theorem_node("", nodes.title("", "Lu et al., Theorem 3"), ids=["thm-a"], label="thm-a")
    box["classes"] = ["proof", "theorem"]
    page = nodes.section("", nodes.paragraph("", "before"), box, nodes.paragraph("", "after"))
    assert boxes.unnumbered(page) == {"thm-a"}
    plain = page[1]
    assert type(plain) is nodes.admonition and plain["ids"] == ["thm-a"]
    assert plain["classes"] == ["proof", "theorem"]
    assert plain.astext() == "Lu et al., Theorem 3" and page[2].astext() == "after"
    assert boxes.unnumbered(page) == set()


def test_notebooks_are_read_as_they_are_committed():
    for path in NOTEBOOKS:
        assert json.loads(path.read_text("utf-8"))["nbformat"] == 4
