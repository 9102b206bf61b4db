"""The verdicts of several runs, on a chapter whose measurement depends on the seed."""

import json

import pytest
from conftest import small_checkout

from mflib.book import chapters, referee
from mflib.book.cli import main


def run(checkout, *argv):
    return main(["--root", str(checkout.root), *argv])


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return small_checkout(tmp_path_factory.mktemp("referee"))


@pytest.fixture(scope="module")
def folders(checkout):
    """Three runs of two chapters: one claim breaks at seed 7, one control sticks there."""
    checkout("one", error="seed * 1e-13 if seed < 5 else 1.0")
    checkout("two", id="X-2", control="0.0 if seed > 5 else 1.0")
    out = [checkout.root / "runs" / str(seed) for seed in (1, 2, 7)]
    for folder in out:
        assert run(checkout, "run", "-p", "seed", folder.name, "--out", str(folder)) == 0
    return out


def test_every_verdict_of_every_run_is_kept_with_the_range_measured(checkout, folders):
    found = referee.collect(checkout.root, folders)
    assert [r["parameters"] for r in found["runs"]] == [{"seed": s} for s in (1, 2, 7)]
    one, two = found["claims"]
    assert one["verdicts"] == ["verified", "verified", "refuted"]
    assert one["checks"][0]["range"] == [1e-13, 1.0] and one["checks"][0]["predicted"] == 0.0
    assert two["verdicts"] == ["verified", "verified", "inconclusive"]
    assert [referee.differing(c) for c in (one, two)] == [1, 1]
    assert one["stuck"] == ["2"] and two["stuck"] == ["2"]
    assert one["checks"][0]["verdicts"] == ["verified", "verified", "refuted"]
    assert two["checks"][0]["verdicts"] == ["verified"] * 3
    assert two["controls"][0]["verdicts"] == ["refuted", "refuted", "verified"]
    assert (two["controls"][0]["check"], two["controls"][0]["range"]) == ("1 = 1", [0.0, 1.0])
    assert referee.counted(one) == "2 verified, 1 refuted"
    assert found["versions"]["torch"]


def test_the_checks_that_changed_are_named_even_where_the_claim_did_not(checkout, folders):
    one, two = referee.collect(checkout.root, folders)["claims"]
    assert referee.changed(one) == ["1 = 1"]
    assert referee.changed(two) == ["control 2 of 1 = 1"]
    assert [referee.changed(c) for c in referee.collect(checkout.root, folders[:2])["claims"]] == [
        [],
        [],
    ]


def changing(verdicts, checks):
    return {
        "verdicts": verdicts,
        "checks": [
            {"name": str(i), "verdicts": each, "change": 0.5} for i, each in enumerate(checks)
        ],
    }


@pytest.mark.parametrize(
    ("verdicts", "checks", "names"),
    [
        (["verified"] * 2, [["verified", "verified"], ["verified", "inconclusive"]], ["1"]),
        (["refuted"] * 2, [["refuted", "verified"], ["verified", "refuted"]], ["0", "1"]),
        (["verified", None], [["verified", None]], []),  # the claim itself was not run
        (["verified"] * 2, [["verified", None]], ["0"]),  # a check that a run lacks
        (["verified"] * 2, [["verified"] * 2], []),
    ],
)
def test_every_check_is_compared_not_only_the_claim(verdicts, checks, names):
    assert referee.changed(changing(verdicts, checks)) == names


def test_a_record_from_before_the_checks_were_kept_names_none():
    old = {"verdicts": ["verified"], "checks": [{"name": "a", "range": None}]}
    assert referee.changed(old) == []
    assert referee.summary({"claims": [old], "runs": [1]}).startswith("0 of 0 checks")


def test_the_changes_are_counted_beside_the_expected_ones():
    found = {
        "runs": [1, 2, 3],
        "claims": [
            changing(["verified"] * 3, [["verified", "verified", "refuted"], ["verified"] * 3])
        ],
    }
    # two reruns at one half each: 3/4 of every check
    assert referee.summary(found) == (
        "1 of 2 checks and controls changed their verdict in 3 runs; about 1.5 were expected to"
    )


def test_an_open_question_differs_where_it_leaves_the_majority():
    claim = {"expected": None, "verdicts": ["verified", None, "verified", "inconclusive"]}
    assert referee.differing(claim) == 1
    assert referee.counted(claim) == "2 reproduced, 1 missing, 1 inconclusive"


def test_the_command_counts_checks_and_writes_a_record(checkout, folders, capsys):
    names = [str(folder) for folder in folders]
    assert run(checkout, "referee", *names) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 of 6 verdicts in 3 runs differ" in shown
    assert "2 of 4 checks and controls changed their verdict in 3 runs" in shown
    assert run(checkout, "referee", *names, "--check") == 1
    assert run(checkout, "referee", *names[:2], "--check") == 0
    record = checkout.root / "book" / "records" / "referee.json"
    assert run(checkout, "referee", *names, "--record", str(record)) == 0
    assert referee.read(record) == referee.collect(checkout.root, folders)
    capsys.readouterr()
    assert run(checkout, "referee", *names, "--json") == 0
    assert json.loads(capsys.readouterr().out) == referee.read(record)


def test_an_empty_or_stale_folder_or_a_foreign_record_is_named(checkout, folders, tmp_path, capsys):
    assert run(checkout, "referee", str(tmp_path / "none")) == 2
    assert "holds no executed chapter" in capsys.readouterr().err
    checkout("one", error="0.5")
    assert run(checkout, "referee", str(folders[0])) == 2
    assert "one was run with other code" in capsys.readouterr().err
    foreign = tmp_path / "foreign.json"
    foreign.write_text('{"schema": 0}')
    with pytest.raises(chapters.ChapterError, match="no record of reruns"):
        referee.read(foreign)
    with pytest.raises(chapters.ChapterError, match="at least one folder"):
        referee.collect(checkout.root, [])


def test_a_chapter_that_fails_at_one_seed_does_not_keep_the_other_seeds_waiting(tmp_path, capsys):
    made = small_checkout(tmp_path)
    made("one", error="1 / (seed - 4)")
    out = tmp_path / "runs"
    assert run(made, "referee", "--seeds", "4-6", "--jobs", "1", "--out", str(out)) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "seed 4: not whole; the same command goes on from there" in said
    assert sorted(p.parent.name[-1] for p in out.glob("*/one.json")) == ["5", "6"]
