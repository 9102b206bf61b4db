"""The tables of the page on verdicts: every number comes from the record."""

import json
import re

import pytest
from conftest import ROOT

from mflib.book.tables import planted, trial
from mflib.claims import trials

FOUND = {
    "versions": {"numpy": "2"},
    "misses": [
        {"kind": kind, "law": law, "seeds": seeds, "trials": 2000, "missed": missed}
        for kind, law, seeds, missed in (
            ("slope", "a < b", 8, 12),
            ("slope", "a < b", 12, 0),
            ("mean", "c", 8, 60),
        )
    ],
    "curves": [
        {
            "curve": "1 + x",
            "noise": noise,
            "seeds": 24,
            "trials": 400,
            "verified": verified,
            "refuted": 3,
        }
        for noise, verified in ((0.04, 399), (0.08, 10))
    ],
    "power": [{"statistic": "rms", "seeds": 48, "offset": 0.1234, "refuted": 340, "trials": 400}],
}


def cells(part):
    return re.findall(r"<t[dh]>(.*?)</t[dh]>", trial(FOUND, part))


def test_misses_are_shown_in_percent_by_law_and_seeds():
    assert cells("slope") == ["misses in percent", "8 seeds", "12 seeds", "a &lt; b", "0.6", "0"]
    assert cells("mean") == ["misses in percent", "8 seeds", "c", "3"]
    assert "the largest is 0.6 % (± 0.2)" in trial(FOUND, "slope")
    assert "the largest is 3 %" in trial(FOUND, "mean")


def test_power_and_curves_are_shown_in_percent():
    assert cells("power")[-4:] == ["rms", "48", "0.123", "85"]
    assert cells("curves") == [
        "curve",
        "verified, noise 0.04",
        "refuted, noise 0.04",
        "verified, noise 0.08",
        "refuted, noise 0.08",
        "1 + x",
        "99.8",
        "0.75",
        "2.5",
        "0.75",
    ]


def test_another_part_is_named():
    with pytest.raises(ValueError, match="none of slope, mean"):
        trial(FOUND, "level")


def test_the_committed_record_fills_every_table_of_the_page():
    found = trials.read(ROOT / "book" / "records" / "verdicts.json")
    page = (ROOT / "book" / "verdicts.md").read_text("utf-8")
    parts = re.findall(r"\{trials\} book/records/verdicts.json (\w+)", page)
    assert parts == ["slope", "mean", "power", "curves"]
    for part in parts:
        assert "<td>" in trial(found, part)


def test_planted_bugs_are_counted_from_the_record(tmp_path):
    path = tmp_path / "planted.json"
    rows = [
        dict(kind="a <generator>", planted=5, before=2, after=5),
        dict(kind="an index", planted=7, before=6, after=6),
    ]
    path.write_text(json.dumps(rows))
    cells = re.findall(r"<t[dh]>(.*?)</t[dh]>", planted(path))
    assert cells[4:8] == ["a &lt;generator&gt;", "5", "2", "5"]
    assert cells[8:] == ["an index", "7", "6", "6", "all", "12", "8", "11"]
    assert planted(ROOT / "book" / "records" / "planted.json")


@pytest.mark.parametrize(
    "text", ["", "{}", "[{}]", '[{"kind": "a", "planted": 1, "before": 2, "after": 1}]', "[3]"]
)
def test_a_record_of_planted_bugs_that_does_not_add_up_is_refused(tmp_path, text):
    path = tmp_path / "planted.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="planted"):
        planted(path)
