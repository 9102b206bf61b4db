"""The ledger knows what is planned: 1 of 3, and a chapter owes what the register gives it."""

import json

import pytest
import torch
from conftest import cell, notebook

from mflib.book import chapters, coverage, inputs, ledger
from mflib.book.cli import main
from mflib.claims import Claim, Counterexample, Identity, register

REGISTER = (
    ",".join(register.COLUMNS)
    + """
LU-A,lu2020,Theorem 1,identity,One is one.,printed,one
LU-B,lu2020,Theorem 2,counterexample,Two is one.,reading,
CHEN-A,chen2024,Lemma 1,identity,It falls.,derived,two
"""
)


@pytest.fixture
def planned(checkout, monkeypatch):
    """A checkout whose register plans three claims, and whose chapter one measured LU-A."""
    monkeypatch.setenv("MFLIB_ROOT", str(checkout.root))
    (checkout.root / "book").mkdir()
    (checkout.root / "book" / "claims.csv").write_text(REGISTER)
    checkout("one", body='claim = Claim("LU-A", seed=seed)')
    executed(checkout, "one", "LU-A")
    return checkout


def executed(checkout, name, *ids):
    """Write a chapter as executed, with these claims measured."""
    cells = [cell("seed: int = 0  # the seed", "parameters")]
    for id in ids:
        claim = Claim(id, seed=0)
        if claim.kind == "identity":
            one = torch.ones(3, dtype=torch.float64)
            check = claim.predict(Identity("1 = 1", tolerance=1e-12))
            check.measure(one, one * 1)
            check.control("2", broke="1 = 1").measure(2 * one, one)
        else:
            claim.predict(Counterexample("two", "two is one", "=="))
        shown = cell("claim") | {
            "outputs": [
                {"output_type": "display_data", "data": {}, "metadata": {"mflib": claim.record()}}
            ]
        }
        cells.append(shown)
    out = checkout.root / "_build" / "chapters"
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.ipynb").write_text(notebook(*cells))


def owed(checkout):
    return [line for line in ledger.problems(checkout.root) if "register" in line]


def test_the_ledger_lists_what_is_planned_as_not_run(planned):
    book = ledger.ledger(planned.root)
    assert [claim["id"] for claim in book["claims"]] == ["LU-A"]
    assert [claim["id"] for claim in book["planned"]] == ["LU-B", "CHEN-A"]
    assert all(claim["verdict"] == "not run" for claim in book["planned"])
    assert [claim["expected"] for claim in book["planned"]] == ["refuted", "verified"]
    assert [claim["notebook"] for claim in book["planned"]] == ["", "two"]
    assert coverage.counted(book["claims"], book["planned"]) == "1 of 3"
    assert list(coverage.by_paper(book["claims"], book["planned"])) == ["lu2020", "chen2024"]


def test_the_command_groups_by_paper_and_counts(planned, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["--root", str(planned.root), "ledger"]) == 0
    text = capsys.readouterr().out
    assert text.index("LU-A") < text.index("LU-B") < text.index("CHEN-A")
    assert text.count("not run") == 2 and "1 of 2" in text and "0 of 1" in text
    assert "1 of 3 claims measured" in text
    assert main(["--root", str(planned.root), "ledger", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["planned"]) == 2


def test_an_unmeasured_claim_and_a_readers_own_do_not_count(planned):
    bare = Claim("LU-B").record()
    own = dict(bare, id="X-1", verdict="verified")
    claims = [*ledger.ledger(planned.root)["claims"], bare, own]
    waiting = coverage.planned(planned.root, claims)
    assert [claim["id"] for claim in waiting] == ["CHEN-A"]
    assert coverage.counted(claims, waiting) == "1 of 3"


def test_a_chapter_that_is_present_owes_the_claims_that_the_register_gives_it(planned):
    assert owed(planned) == []  # chapter two is planned, and not there yet
    planned("two", body="seed")
    executed(planned, "two")
    (line,) = owed(planned)
    assert line.startswith("two: lacks CHEN-A, which the register gives it")
    executed(planned, "two", "CHEN-A")
    assert owed(planned) == []


def test_a_claim_stands_in_the_chapter_that_the_register_says(planned):
    planned("two", body="seed")
    executed(planned, "two", "CHEN-A", "LU-B")
    (line,) = owed(planned)
    assert line.startswith("two: measures LU-B, which the register gives to no chapter")


def test_the_fingerprint_follows_a_chapters_own_rows_alone(planned):
    chapter = chapters.discover(planned.root)[0]
    table = planned.root / "book" / "claims.csv"

    def mark(text):
        table.write_text(text)
        return inputs.fingerprint(chapter, {})

    before = mark(REGISTER)
    assert mark(REGISTER + "LU-C,lu2020,here,rate,More.,printed,\n") == before
    assert mark(REGISTER.replace("Two is one", "Two is two")) == before
    assert mark(REGISTER.replace("One is one", "One is 1")) != before
    assert mark(REGISTER.replace("Theorem 1", "Theorem 3")) != before
