"""Building again: what did not change is not read, what shows results is written."""

import json

import pytest
from sphinx.application import Sphinx

PARTS = ["myst_nb", "mflib.book.sphinx.execution", "mflib.book.sphinx.placeholders"]


def record(ratio):
    row = {"peer": "a", "size": "n=3", "ratio": ratio, "spread": [ratio, ratio], "judged": True}
    return {"name": "adjoint", "title": "A job", "command": "do", "rows": [row]}


@pytest.fixture
def built(tmp_path):
    """Build a small book; return which pages were read, and which were written."""
    for folder in ("notebooks", "book/records/bench", "_build/chapters"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "_toc.yml").write_text("root: index\n")
    (tmp_path / "book/claims.csv").write_text("one\n")
    (tmp_path / "index.md").write_text("# Book\n\n```{toctree}\nbook/speed\nbook/prose\n```\n")
    (tmp_path / "book/speed.md").write_text("# Speed\n\n```{benchmark} adjoint\n```\n")
    (tmp_path / "book/prose.md").write_text("# Prose\n\nWords.\n")

    def build():
        out = tmp_path / "_build"
        app = Sphinx(
            *(tmp_path, None, out / "html", out / "doctrees", "html"),
            confoverrides={"extensions": PARTS, "exclude_patterns": ["_build"]},
            status=None,
            warning=None,
        )
        read, written = set(), set()
        app.connect("source-read", lambda app, page, source: read.add(page))
        app.connect("html-page-context", lambda app, page, *rest: written.add(page))
        app.build()
        assert app.statuscode == 0
        return read, written & set(app.env.found_docs)

    assert build()[0] == {"index", "book/speed", "book/prose"}
    return build


def test_nothing_is_read_or_written_when_nothing_changed_not_even_where_a_record_is_missing(built):
    assert built() == (set(), set())


def test_a_result_that_changed_lets_prose_be_written_and_not_read(built, tmp_path):
    (tmp_path / "_build/chapters/one.json").write_text("[]")
    read, written = built()
    assert read == set() and {"book/speed", "book/prose"} <= written
    assert built() == (set(), set())


def test_a_page_that_changed_is_the_only_one_read(built, tmp_path):
    (tmp_path / "book/prose.md").write_text("# Prose\n\nOther words.\n")
    read, written = built()
    assert read == {"book/prose"} and "book/speed" in written


def test_a_record_that_was_made_or_changed_is_read(built, tmp_path):
    path = tmp_path / "book/records/bench/adjoint.json"
    page = tmp_path / "_build/html/book/speed.html"
    assert "Not measured" in page.read_text()
    for ratio in (1.25, 1.75):
        path.write_text(json.dumps(record(ratio)))
        assert "book/speed" in built()[0]
        assert f"{ratio:.2f} [{ratio:.2f}" in page.read_text()
    assert built() == (set(), set())


def test_a_table_that_prose_shows_lets_it_be_read(built, tmp_path):
    (tmp_path / "book/claims.csv").write_text("two\n")
    assert {"book/speed", "book/prose"} <= built()[0]
