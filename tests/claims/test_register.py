"""The register: one row a claim, read from the checkout or from the package."""

import re
import shutil

import pytest
from conftest import ROOT

from mflib.claims import KINDS, Claim, ClaimError, register

TABLE = ROOT / "book" / "claims.csv"
HEAD = ",".join(register.COLUMNS) + "\n"
ROW = "LU-P,lu2020,here,rate,A sentence.,printed,\n"


def checkout(folder, text):
    (folder / "book").mkdir(parents=True)
    (folder / "_toc.yml").write_text("root: index\n")
    (folder / "book" / "claims.csv").write_text(text, encoding="utf-8")
    return folder


def test_every_row_is_complete_and_of_a_known_kind_class_and_paper():
    entries = register.read(TABLE)
    papers = re.findall(r"^@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(), re.M)
    assert len(entries) >= 121
    for id, row in entries.items():
        assert row.kind in KINDS and row.paper in papers, id
        assert row.statement.endswith("."), id
        words = row.statement.split(":")[0]
        if words in ("Printed", "Reading", "Informal remark"):
            assert row.origin == words.lower() and row.kind == "counterexample", id
        assert (row.where == "beyond") <= (row.origin == "beyond"), id


def test_the_rows_of_a_paper_stand_together():
    papers = [row.paper for row in register.read(TABLE).values()]
    assert sum(a != b for a, b in zip(papers, papers[1:], strict=False)) == len(set(papers)) - 1


def test_a_registered_claim_takes_everything_from_its_row():
    claim, row = Claim("LU-T2", seed=3), register.read(TABLE)["LU-T2"]
    assert (claim.paper, claim.where, claim.kind) == ("lu2020", "Theorem 2", "rate")
    assert claim.statement == row.statement and "second derivative" in claim.statement
    assert claim.seed == 3 and claim.expected == "verified"
    assert Claim("LU-T2r").expected == "refuted"


def test_the_register_is_found_upwards_then_in_the_package(tmp_path, monkeypatch):
    monkeypatch.delenv("MFLIB_ROOT", raising=False)
    mine = checkout(tmp_path / "mine", HEAD + ROW)
    (mine / "notebooks").mkdir()
    for folder in (mine, mine / "notebooks"):
        monkeypatch.chdir(folder)
        assert register.find() == mine / "book" / "claims.csv"
        assert Claim("LU-P").statement == "A sentence."
        with pytest.raises(ClaimError, match="LU-T2.*not in the register"):
            Claim("LU-T2")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "claims.csv").write_text("of another house")
    monkeypatch.chdir(tmp_path)
    assert register.read() == register.read(TABLE)
    monkeypatch.setenv("MFLIB_ROOT", str(mine))
    assert Claim("LU-P").statement == "A sentence."


def test_the_packages_copy_is_the_same_table():
    package = ROOT / "mflib" / "claims" / "claims.csv"
    assert package.read_bytes() == TABLE.read_bytes()


def test_a_changed_table_is_read_anew(tmp_path, monkeypatch):
    mine = checkout(tmp_path / "mine", HEAD + ROW)
    monkeypatch.setenv("MFLIB_ROOT", str(mine))
    assert Claim("LU-P").statement == "A sentence."
    (mine / "book" / "claims.csv").write_text(HEAD + ROW.replace("A sent", "Another sent"))
    assert Claim("LU-P").statement == "Another sentence."


OWN = dict(paper="lu2020", where="here", kind="rate", statement="Mine.")


def test_a_readers_own_claim_brings_its_texts():
    claim = Claim("X-1", **OWN | {"statement": "  Mine,\n all of it. "})
    assert claim.statement == "Mine, all of it." and claim.paper == "lu2020"


def test_a_registered_claim_may_begin_like_a_readers_own(tmp_path, monkeypatch):
    mine = checkout(tmp_path, HEAD + ROW.replace("LU-P", "X-P"))
    monkeypatch.setenv("MFLIB_ROOT", str(mine))
    assert Claim("X-P").statement == "A sentence."
    with pytest.raises(ClaimError, match="kind: of X-P stands in the register"):
        Claim("X-P", kind="rate")
    assert Claim("X-Q", **OWN).statement == "Mine."


@pytest.mark.parametrize(
    ("id", "given", "message"),
    [
        ("LU-T99", {}, "LU-T99.*not in the register.*add its row.*X-"),
        ("lu-t2", {}, "not in the register"),
        ("", {}, "id: "),
        (None, {}, "id: "),
        ("LU-T2", {"kind": "rate"}, "kind: of LU-T2 stands in the register"),
        ("LU-T2", {"statement": "Other."}, "statement: of LU-T2 stands"),
        ("X-1", {}, "paper: X-1 needs a non-empty text"),
        ("X-1", OWN | {"statement": " "}, "statement: X-1 needs"),
        ("X-1", OWN | {"where": 3}, "where: X-1 needs"),
        ("X-1", OWN | {"paper": "lu2021"}, "paper: 'lu2021' is none of lu2020, fang2021"),
        ("X-1", OWN | {"kind": "guess"}, "kind: 'guess' is none of"),
    ],
)
def test_unknown_ids_papers_and_kinds_are_errors_that_name_the_remedy(id, given, message):
    with pytest.raises(ClaimError, match=message):
        Claim(id, **given)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first line must be id,paper"),
        ("id,paper\nLU-P,lu2020\n", "the first line must be"),
        (HEAD + "LU-P,lu2020,here,rate\n", "row 2 .LU-P. lacks a column"),
        (HEAD + ROW.replace("here", " "), "row 2 .LU-P. lacks"),
        (HEAD + ROW.replace("printed", "guess"), "LU-P: class 'guess' is none of printed"),
        (HEAD + ROW + ROW, "LU-P stands there twice"),
        (b"\xff\xfe", "cannot be read as the register"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, text, message):
    path = tmp_path / "claims.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ClaimError, match=message) as error:
        register.read(path)
    assert str(path) in str(error.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ClaimError, match="cannot be read as the register"):
        register.read(tmp_path / "claims.csv")
    shutil.copy(TABLE, tmp_path / "claims.csv")
    assert len(register.read(tmp_path / "claims.csv")) >= 121
