"""What a chapter's result depends on: followed, and nothing else is."""

import shutil

import pytest
from conftest import ROOT, cell, notebook, small_checkout

from mflib.book import chapters, inputs
from mflib.claims import register


def marks(checkout):
    return {c.name: inputs.fingerprint(c, {}) for c in chapters.discover(checkout.root)}


def test_modules_are_followed_through_imports_and_no_others(checkout):
    checkout("one")
    files, libraries = inputs.sources(chapters.discover(checkout.root)[0])
    names = {p.name for p in files}
    assert {"claim.py", "checks.py", "intervals.py", "card.py", "provenance.py"} <= names
    assert not names & {"problem.py", "cli.py"} and {"numpy", "scipy"} <= libraries


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import a.b as c, d", {"a.b", "d"}),
        ("def f():\n    from a import b", {"a", "a.b"}),
        ("import importlib\nimportlib.import_module('a.b')", {"importlib", "a.b"}),
        ("%matplotlib inline\nimport a", {"a"}),
        ("%time import a", {"a"}),
        ("%%time\nimport a", {"a"}),
        ("%%capture out\n%time import a", {"a"}),
        ("%%bash\nimport a screenshot", set()),
        ("!import a\nimport b", {"b"}),
        ("len?", set()),
        ("import a\nx = (", set()),
    ],
)
def test_imports_are_found_behind_magics(source, names):
    assert inputs.imported(source) == names


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("x = 1", set()),
        ("try:\n    import a\nexcept E:\n    import b.c\nelse:\n    from d import e", {"d.e", "d"}),
        ("try:\n    x\nfinally:\n    import f", {"f"}),
        (
            "match x:\n    case 1:\n        import g\nfor i in y:\n    with z:\n        import h",
            {"g"},
        ),
        ("def f():\n    class A:\n        import j\nk = [__import__('k')]", {"j", "k"}),
        ("async def f():\n    while x:\n        import l", {"l"}),
    ],
)
def test_imports_inside_of_any_statement_are_found(source, names):
    found = inputs.imported(source)
    assert names <= found and ("import" in source) == bool(found)
    assert {"a", "b.c"} <= found or "import a" not in source


def test_relative_imports_are_resolved_in_their_package():
    package = ("mflib", "claims")
    assert inputs.imported("from . import card", package) == {"mflib.claims", "mflib.claims.card"}
    assert inputs.imported("from .. import kl", package) == {"mflib", "mflib.kl"}


def test_an_edit_in_the_checkout_that_the_kernel_imports_counts(tmp_path):
    """With --root B the kernel imports B's library, and B's edits make chapters stale."""
    checkout = small_checkout(tmp_path)
    (
        checkout("one"),
        checkout("ode", body="import mflib.ode\nseed"),
        checkout("own", body="import own"),
    )
    assert chapters.library(tmp_path) == ROOT
    here = marks(checkout)
    shutil.copytree(
        ROOT / "mflib", tmp_path / "mflib", ignore=shutil.ignore_patterns("__pycache__")
    )
    assert chapters.library(tmp_path) == tmp_path
    same = marks(checkout)
    assert same == here
    for name, file in (("ode", "mflib/ode.py"), ("one", "mflib/claims/checks.py")):
        path = tmp_path / file
        path.write_text(path.read_text() + "\n# changed\n")
        new = marks(checkout)
        assert {n for n in new if new[n] != same[n]} == {name}
        same = new
    (tmp_path / "own.py").write_text("x = 1")
    new = marks(checkout)
    assert {n for n in new if new[n] != same[n]} == {"own"}


def test_the_version_of_every_library_that_is_imported_counts(checkout, monkeypatch):
    (
        checkout("one", body="import sklearn\nseed"),
        checkout("two", body="from mflib import transport"),
    )
    checkout("three", body="seed")
    before = marks(checkout)
    found = inputs.provenance.version
    for library, stale in (
        ("scikit-learn", {"one"}),
        ("POT", {"two"}),
        ("torch", {"one", "two", "three"}),
        ("rich", set()),
    ):
        monkeypatch.setattr(
            inputs.provenance,
            "version",
            lambda name, bad=library: "0" if name == bad else found(name),
        )
        after = marks(checkout)
        assert {n for n in after if after[n] != before[n]} == stale, library


def test_the_records_that_a_chapter_reads_count(checkout):
    checkout("reads", body="from mflib.cifar.records import committed\nseed")
    checkout("records", body="'speaks of records only'\nseed")
    folder = checkout.root / "book" / "records" / "cifar" / "bench"
    folder.mkdir(parents=True)
    before = marks(checkout)
    (folder.parents[1] / "reruns.json").write_text("{}")
    assert marks(checkout) == before
    (folder / "a.json").write_text("{}")
    after = marks(checkout)
    assert after["reads"] != before["reads"] and after["records"] == before["records"]


def test_the_rows_of_the_register_that_a_chapter_names_count(checkout):
    checkout("one", id="A-1"), checkout("two", id="A-2")
    path = checkout.root / "book" / "claims.csv"
    path.parent.mkdir()
    rows = (
        ",".join(register.COLUMNS)
        + "\n"
        + "".join(f"A-{i},lu2020,here,rate,It falls.,derived,one\n" for i in (1, 2))
    )
    path.write_text(rows)
    before = marks(checkout)
    path.write_text(
        rows.replace("A-2,lu2020,here", "A-2,lu2020,there") + "A-3,a,b,rate,c,beyond,\n"
    )
    after = marks(checkout)
    assert after["one"] == before["one"] and after["two"] != before["two"]
    path.write_text("no register")
    with pytest.raises(chapters.ChapterError, match="the first line must be"):
        marks(checkout)


def test_parameters_code_and_prose_count(checkout):
    checkout("one")
    chapter = chapters.discover(checkout.root)[0]
    before = inputs.fingerprint(chapter, {})
    assert inputs.fingerprint(chapter, {"seed": 1}) != before
    prose = {"cell_type": "markdown", "id": "p", "metadata": {}, "source": "words"}
    chapter.path.write_text(notebook(cell("seed: int = 0  # the seed", "parameters"), prose))
    assert inputs.fingerprint(chapter, {}) != before
