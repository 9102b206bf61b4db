"""Chapters as files: found, read, and their parameters checked before anything runs."""

import json

import pytest
from conftest import cell, notebook

from mflib.book import chapters
from mflib.book.chapters import ChapterError, Parameter


def only(checkout):
    (found,) = chapters.discover(checkout.root)
    return found


def test_parameters_are_read_by_papermill_with_type_default_and_comment(checkout):
    checkout(
        "one",
        parameters="# what may be set\n"
        "seed: int = 0  # the seed\n"
        'preset: str = "quick"  # quick | full: more seeds\n'
        "plain = 3",
    )
    found = chapters.parameters(only(checkout))
    assert found["seed"] == ("int", "0", "the seed")
    assert found["preset"].choices == ("quick", "full")
    assert found["plain"] == ("", "3", "")


def test_a_checkout_in_a_folder_with_braces_is_read(tmp_path):
    from conftest import small_checkout

    (tmp_path / "{a}").mkdir()
    checkout = small_checkout(tmp_path / "{a}")
    checkout("one")
    assert "seed" in chapters.parameters(only(checkout))


@pytest.mark.parametrize(
    ("kind", "default", "text", "value"),
    [
        ("int", "0", "7", 7),
        ("int", "0", "-3", -3),
        ("int", "0", 5, 5),
        ("float", "1.0", "2", 2),
        ("float", "1.0", "1e-3", 1e-3),
        ("str", '""', "7", "7"),
        ("str", '""', "abc", "abc"),
        ("bool", "True", "false", False),
        ("bool", "True", "True", True),
        ("list", "[]", "[1, 2]", [1, 2]),
        ("", "3", "4", 4),
        ("", "f(2)", "anything", "anything"),
    ],
)
def test_a_value_is_read_as_its_declared_type(kind, default, text, value):
    found = chapters.checked("x", text, Parameter(kind, default, ""))
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "default", "text"),
    [
        ("int", "0", "abc"),
        ("int", "0", "1.5"),
        ("int", "0", "1j"),
        ("int", "0", "True"),
        ("int", "0", ""),
        ("int", "0", "[1]"),
        ("float", "1.0", "nan"),
        ("float", "1.0", "1e999"),
        ("float", "1.0", "b'x'"),
        ("bool", "True", "1"),
        ("dict", "{}", "{1: 2}"),
        ("", "3", "abc"),
        ("", "f(2)", "{1, 2}"),
        ("int", "0", "(" * 5000),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(kind, default, text):
    with pytest.raises(ChapterError, match="parameter x: .* is no "):
        chapters.checked("x", text, Parameter(kind, default, ""))


def test_presets_are_one_vocabulary_and_a_comment_may_name_choices():
    preset = Parameter("str", '"quick"', "any comment")
    with pytest.raises(ChapterError, match="'bogus' is none of quick, full"):
        chapters.checked("preset", "bogus", preset)
    for name in chapters.PRESETS:
        assert chapters.checked("preset", name, preset) == name
    with pytest.raises(ChapterError, match="none of relu, tanh"):
        chapters.checked("sigma", "erf", Parameter("str", '"relu"', "relu | tanh: the kink"))


def test_each_chapter_takes_its_share_and_unknown_names_are_listed():
    number = Parameter("int", "0", "")
    declared = {"one": {"seed": number}, "two": {"seed": number, "dim": number}}
    assert chapters.shares(declared, {"seed": "1", "dim": "2"}) == {
        "one": {"seed": 1},
        "two": {"seed": 1, "dim": 2},
    }
    with pytest.raises(ChapterError, match="no parameter 'size' .* there are: dim, seed"):
        chapters.shares(declared, {"size": 3})


@pytest.mark.parametrize(
    "text",
    [
        '{"cells": [',
        "[]",
        '{"cells": 3}',
        '{"cells": [{"cell_type": "code"}]}',
        '{"cells": [{"cell_type": 1, "source": ""}]}',
        '{"cells": ["x"]}',
        "",
        "\x00",
    ],
)
def test_what_is_no_notebook_is_named(checkout, text):
    (checkout.root / "notebooks" / "broken.ipynb").write_text(text)
    with pytest.raises(ChapterError, match=r"broken.ipynb: is no readable notebook"):
        chapters.code_cells(only(checkout))


def test_a_folder_a_dangling_link_and_a_name_that_no_page_can_have_are_named(checkout):
    folder = checkout.root / "notebooks"
    (folder / "folder.ipynb").mkdir()
    (folder / "link.ipynb").symlink_to("nowhere")
    checkout("two words"), checkout("one.failed")
    (folder / ".hidden.ipynb").write_text("a lock of an editor")
    for chapter in chapters.discover(checkout.root):
        with pytest.raises(ChapterError, match=f"{chapter.name}.ipynb: (cannot be read|call it)"):
            chapters.code_cells(chapter)
    assert len(chapters.discover(checkout.root)) == 4


@pytest.mark.parametrize("odd", [None, 3, [], {"tags": None}, {"tags": "parameters"}])
def test_odd_metadata_does_not_hide_the_other_cells(checkout, odd):
    checkout("one")
    chapter = only(checkout)
    data = json.loads(chapter.path.read_text())
    data["cells"].append(cell("1") | {"metadata": odd})
    chapter.path.write_text(json.dumps(data))
    assert [c["source"] for c in chapters.code_cells(chapter)][-1] == "1"


def test_without_a_parameters_cell_the_remedy_is_named(checkout):
    checkout("one", tagged=False)
    with pytest.raises(ChapterError, match="no cell is tagged 'parameters'; tag the one"):
        chapters.parameters(only(checkout))


def test_a_cell_is_named_by_its_number_and_first_line_of_code():
    cells = [cell("# only words\n\nx = 1\ny = 2"), cell("")]
    assert chapters.label(cells, 0) == "cell 1 ('x = 1')"
    assert chapters.label(cells, 1) == "cell 2 ('empty')"
    assert json.loads(notebook(*cells))["nbformat"] == 4


def test_outside_a_checkout_the_remedy_is_named(tmp_path, monkeypatch, checkout):
    monkeypatch.delenv("MFLIB_ROOT", raising=False)
    (tmp_path / "elsewhere").mkdir()
    assert chapters.find_root(checkout.root / "notebooks") == checkout.root
    monkeypatch.setenv("MFLIB_ROOT", "/")
    with pytest.raises(ChapterError, match="set MFLIB_ROOT"):
        chapters.find_root()
