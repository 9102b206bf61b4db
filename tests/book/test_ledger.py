"""The ledger: reads what chapters carry, and believes nothing that does not follow."""

import json

import pytest
from executed_chapters import pretend

from mflib.book import chapters, ledger
from mflib.book.cli import main
from mflib.claims import card


def run(checkout, *argv):
    return main(["--root", str(checkout.root), *argv])


def test_the_json_has_the_promised_fields(checkout, capsys):
    checkout("one")
    pretend(checkout, seed=4)
    assert run(checkout, "ledger", "--json") == 0
    book = json.loads(capsys.readouterr().out)
    assert book["schema"] == 1 and "commit" in book
    (claim,) = book["claims"]
    assert set(claim) >= set(
        "id paper where kind statement expected verdict checks controls notebook seed seconds "
        "device versions".split()
    )
    assert set(claim["checks"][0]) >= set(
        "name measured predicted interval tolerance passed".split()
    )
    assert set(claim["controls"][0]) >= {"name", "broke", "measured", "flipped"}
    assert claim["verdict"] == "verified" and claim["notebook"] == "one" and claim["seed"] == 4
    assert ledger.problems(checkout.root) == []


ALONE = """from mflib.claims import Claim, Identity
claim = Claim("X-1", paper="lu2020", where="here", kind="identity",
              statement="One is one.", seed=seed)
check = claim.predict(Identity("1 = 1", tolerance=1e-12))
error = seed * 1e-14
check.measure(error)
claim"""

TWO = """from mflib.claims import Bound, Claim
claim = Claim("X-1", paper="lu2020", where="here", kind="bound", statement="A.", seed=seed)
near, far = (claim.predict(Bound(name)) for name in ("far from it", "near it"))
for check, ratio in ((near, 0.1), (far, 0.7)):
    check.measure(ratio, 1.0)
    check.control("twice", broke="a factor").measure(2 + ratio, 1.0)
claim"""


def test_the_ledger_names_the_deciding_check_and_its_tightness(checkout, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "220")
    checkout("one", body=TWO)
    pretend(checkout)
    assert run(checkout, "ledger") == 0
    shown = capsys.readouterr().out
    assert "near it" in shown and "worst ratio 0.7, sharp" in shown
    assert "holds, not sharp" in shown and "measured [99 %]" in shown
    assert ledger.ledger(checkout.root)["claims"][0]["deciding"] == "near it"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(error="1.0"), "X-1: is refuted, expected verified"),
        (dict(control="0.0"), "X-1: the control '2' did not flip"),
        (dict(error="float('nan')"), "X-1: is inconclusive, expected verified"),
        (dict(body="seed"), "one: carries no claim"),
        (dict(body=ALONE), "X-1: 1 = 1: no control of its own"),
        (dict(body=ALONE), "X-1: is inconclusive, expected verified (no control of 1 = 1)"),
    ],
)
def test_the_check_says_what_is_wrong(checkout, capsys, change, message):
    checkout("one", **change)
    pretend(checkout)
    assert run(checkout, "ledger", "--check") == 1
    assert message in capsys.readouterr().err


def forged():
    def verdict(record):
        record["checks"][0] |= {"verdict": "refuted", "measured": 1.0}

    def inside(record):
        record["checks"][0]["measured"] = 1e-3

    def unmeasured(record):
        record["checks"][0]["measured"] = None

    def stuck(record):
        record["controls"][0]["verdict"] = "verified"

    def elsewhere(record):
        record["controls"][0]["check"] = "no such check"

    return {
        "no checks": (lambda r: r.update(checks=[]), "states no check(.|\n)*controls say not run"),
        "checks gone": (lambda r: r.pop("checks"), "'checks' is a required property"),
        "no controls": (
            lambda r: r.update(controls=[]),
            "says verified, its checks .* inconclusive",
        ),
        "controls gone": (lambda r: r.pop("controls"), "'controls' is a required property"),
        "a refuted check": (verdict, "says verified, its checks and controls say refuted"),
        "a control that stuck": (stuck, "say inconclusive"),
        "a control of nothing": (elsewhere, "say inconclusive"),
        "numbers outside": (inside, "1 = 1: says verified, its numbers do not"),
        "no number": (unmeasured, "1 = 1: says verified, its numbers do not"),
        "another kind": (lambda r: r.update(kind="counterexample"), "its kind counterexample does"),
        "an unknown verdict": (lambda r: r.update(verdict="sure"), "verdict: 'sure' is not one of"),
        "an empty id": (lambda r: r.update(id=" "), "id: ' ' does not match"),
        "another schema": (lambda r: r.update(schema=99), "schema: 1 was expected"),
    }


@pytest.mark.parametrize("name", forged())
def test_a_record_that_does_not_follow_from_itself_fails_the_check(checkout, capsys, name):
    change, words = forged()[name]
    checkout("one"), checkout("two", id="X-2")
    pretend(checkout, change=change), pretend(checkout, "two")
    assert run(checkout, "ledger", "--check") == 1
    import re

    error = capsys.readouterr().err
    assert re.search(words, error) and "X-2" not in error
    assert run(checkout, "ledger", "--check", "two") == 0


def test_a_record_that_is_no_object_or_has_more_fields_than_known(checkout):
    checkout("one")
    pretend(
        checkout,
        change=lambda r: r.update(
            level=0.99, checks=[c | {"premise": False, "tightness": 0.5} for c in r["checks"]]
        ),
    )
    assert ledger.problems(checkout.root) == []
    path = pretend(checkout)
    path.write_text(path.read_text().replace('"mflib": {', '"mflib": 3, "other": {'))
    with pytest.raises(chapters.ChapterError, match="the record: 3 is not of type 'object'"):
        ledger.claims_of(path)


def test_missing_stale_repeated_unreadable_and_foreign_chapters_are_seen(checkout, capsys):
    checkout("one"), checkout("two"), checkout("three", id="X-3")
    pretend(checkout), pretend(checkout, "two")
    (checkout.root / "notebooks" / "four.ipynb").mkdir()
    lines = ledger.problems(checkout.root)
    assert "X-1: given twice, in one and in two" in lines
    assert any(line.startswith("three: was not run") for line in lines)
    assert any(line.startswith("four: ") and "cannot be read" in line for line in lines)
    checkout("two", id="X-2")
    assert [x for x in ledger.problems(checkout.root) if x.startswith("two: is stale")]
    path = pretend(checkout, "two")
    for text in ("", '{"cells": [', '{"cells": []}'):
        path.write_text(text)
        assert [x for x in ledger.problems(checkout.root) if x.startswith("two: ")], text
    assert run(checkout, "ledger", "--check", "one") == 0


def test_the_copy_that_papermill_made_is_shown_and_its_inputs_are_not_vouched_for(checkout):
    checkout("one")
    path = pretend(checkout, file="out.ipynb", note=False)
    (claim,) = ledger.ledger(checkout.root)["claims"]
    assert claim["id"] == "X-1" and claim["notebook"] == "one"
    (line,) = ledger.problems(checkout.root)
    assert "out.ipynb notes no inputs" in line
    data = json.loads(path.read_text())
    data["cells"][-1]["execution_count"] = None
    path.write_text(json.dumps(data))
    assert "did not run" in ledger.problems(checkout.root)[0]


@pytest.mark.parametrize("argv", [["ledger"], ["ledger", "--check"], ["ledger", "--json"]])
def test_a_missing_or_empty_folder_is_an_error(checkout, capsys, argv):
    checkout("one")
    assert run(checkout, *argv) == 2
    assert "is no folder" in capsys.readouterr().err
    (checkout.root / "_build" / "chapters").mkdir(parents=True)
    assert run(checkout, *argv) == 2
    assert "holds no executed chapter" in capsys.readouterr().err


MANY = """from mflib.claims import Claim, Identity
claim = Claim("X-1", paper="lu2020", where="here", kind="identity", statement="So.", seed=seed)
first = claim.predict(Identity("first", tolerance=1e-3))
second = claim.predict(Identity("second", tolerance=1e-3))
one, two, broken, three = {0}, {1}, 1.5, {2}
first.measure(one)
second.measure(two)
first.control("2", broke="1").measure(broken)
second.control("3", broke="1").measure(three)
claim"""


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        ((1e-4, 1.0, 1.0), "second"),
        ((1.0, 1e-4, 1.0), "first"),
        ((1e-4, 9e-4, 1.0), "second"),
        ((9e-4, 1e-4, 1.0), "first"),
        ((1e-4, 1e-5, 0.0), "second"),
    ],
)
def test_the_check_that_decided_is_shown(checkout, numbers, name):
    checkout("one", body=MANY.format(*numbers))
    pretend(checkout)
    (claim,) = ledger.ledger(checkout.root)["claims"]
    assert card.deciding(claim)["name"] == name


def test_markup_in_a_record_is_shown_as_text(checkout, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # a narrow table breaks the words
    checkout("one", id="X-[bold]1")
    pretend(checkout)
    assert run(checkout, "ledger") == 0
    assert "X-[bold]1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("body", "lines"),
    [("seed", []), (None, ["X-1: one is tagged no-claims"])],
    ids=["without claims", "with a claim"],
)
def test_a_chapter_that_is_to_claim_nothing_does_not(checkout, body, lines):
    checkout("one", body=body)
    path = checkout.root / "notebooks" / "one.ipynb"
    path.write_text(path.read_text().replace('"parameters"', '"parameters", "no-claims"'))
    pretend(checkout)
    assert ledger.problems(checkout.root) == lines
