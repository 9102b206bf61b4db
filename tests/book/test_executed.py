"""Executed chapters: what counts as one, and what only looks like one."""

import json

import pytest
from executed_chapters import pretend

from mflib.book import chapters, executed
from mflib.book.chapters import ChapterError


@pytest.fixture
def chapter(checkout):
    checkout("one")
    return chapters.discover(checkout.root)[0]


def edit(path, change):
    data = json.loads(path.read_text())
    change(data["cells"])
    path.write_text(json.dumps(data))


def test_an_executed_chapter_is_fresh_and_whole(checkout, chapter):
    path = pretend(checkout, seed=3)
    assert executed.is_fresh(chapter, path.parent, {"seed": 3})
    assert executed.is_fresh(chapter, path.parent)
    assert not executed.is_fresh(chapter, path.parent, {})
    assert executed.flaw(path, chapter, {"seed": 3}) == ""


@pytest.mark.parametrize("damage", [lambda s: "", lambda s: s[: len(s) // 2], lambda s: s + " "])
def test_a_notebook_other_than_the_one_noted_is_not_fresh(checkout, chapter, damage):
    path = pretend(checkout)
    path.write_text(damage(path.read_text()))
    assert not executed.is_fresh(chapter, path.parent)


@pytest.mark.parametrize("note", ["", "[]", "{}", "[3]", '[{"fingerprint": 1}]', "null"])
def test_a_damaged_note_makes_the_chapter_run_again(checkout, chapter, note):
    path = pretend(checkout)
    path.with_suffix(".json").write_text(note)
    assert executed.noted(path.parent, "one") == {}
    assert not executed.is_fresh(chapter, path.parent)


def test_between_the_two_steps_of_keeping_neither_run_is_lost(checkout, chapter, monkeypatch):
    path = pretend(checkout)
    monkeypatch.setattr(type(path), "replace", lambda self, target: None)  # killed here
    pretend(checkout, seed=5)
    monkeypatch.undo()
    assert executed.is_fresh(chapter, path.parent, {})
    (path.parent / ".partial").replace(path)
    assert executed.is_fresh(chapter, path.parent, {"seed": 5})


def damages():
    def source(cells):
        cells[-1]["source"] += "\n# another"

    def unrun(cells):
        cells[-1]["execution_count"] = None

    def error(name, value):
        def change(cells):
            cells[1]["outputs"] = [{"output_type": "error", "ename": name, "evalue": value}]

        return change

    return [
        (unrun, "cell 3 .*did not run"),
        (error("SystemExit", "0"), "cell 2 .*SystemExit: 0"),
        (error("ValueError", "no"), "cell 2 .*ValueError: no"),
        (source, "not those of the chapter"),
        (lambda cells: cells.pop(), "not those of the chapter"),
        (lambda cells: cells.pop(1), "asked for were {'seed': 3}"),
        (lambda cells: cells[1].update(source="seed = 4"), "parameters {'seed': 4}"),
        (lambda cells: cells[1].update(source="seed = ("), "cannot be read"),
        (lambda cells: cells.clear(), "holds no code"),
    ]


@pytest.mark.parametrize(("change", "words"), damages())
def test_a_run_that_is_not_whole_is_told_by_its_cell(checkout, chapter, change, words):
    path = pretend(checkout, seed=3)
    edit(path, change)
    import re

    assert re.search(words, executed.flaw(path, chapter, {"seed": 3}))


def test_an_error_that_a_chapter_announces_is_no_flaw(checkout, chapter):
    path = pretend(checkout)

    def change(cells):
        cells[-1]["metadata"] = {"tags": ["raises-exception"]}
        cells[-1]["outputs"] = [{"output_type": "error", "ename": "ValueError", "evalue": ""}]

    edit(path, change)
    assert executed.flaw(path, chapter) == ""


def test_papermills_own_output_is_read_as_the_chapter_it_was_made_of(checkout, chapter):
    path = pretend(checkout, file="out.ipynb", note=False)
    assert executed.lies(checkout.root, path.parent, [chapter]) == {"one": path}
    other = pretend(checkout, file="again.ipynb", note=False)
    with pytest.raises(ChapterError, match="both were made of one; move one"):
        executed.lies(checkout.root, path.parent, [chapter])
    own = pretend(checkout)
    assert executed.lies(checkout.root, own.parent, [chapter]) == {"one": own} != other


def test_a_missing_or_empty_folder_is_an_error(checkout, chapter, tmp_path):
    with pytest.raises(ChapterError, match="is no folder"):
        executed.lies(checkout.root, tmp_path / "none", [chapter])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "note.ipynb").write_text("foreign")
    with pytest.raises(ChapterError, match="holds no executed chapter"):
        executed.lies(checkout.root, tmp_path / "empty", [chapter])
