"""Measurements of speed: made by turns, read whole, shown escaped."""

import json

import cifar_files  # noqa: F401  puts benchmarks on the path
import pytest
from cifar_speed import measure
from conftest import ROOT

from mflib.cifar import CifarError, speed


def test_the_trainer_is_measured_beside_both_plain_loops(tmp_path):
    found = measure(device="cpu", seconds=0.01, rounds=2, images=256)
    for key in ("DataLoader", "arrays"):
        assert found["ratio_range"][key][0] <= found["ratio"][key] <= found["ratio_range"][key][1]
    assert sum(found["time_shares"].values()) == pytest.approx(1)
    assert found["time_shares"]["convolutions"] > 0.2
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed" / "a.json").write_text(json.dumps(found))
    assert speed.read(tmp_path) == [found]


def test_what_a_measurement_says_of_itself_is_escaped():
    (found,) = speed.read(ROOT / "book" / "records" / "cifar")
    shown = speed.markdown([found | {"device": "<b>a|b</b>"}])
    assert "<b>" not in shown and len({line.count("|") for line in shown.splitlines()}) == 1


def test_a_file_that_is_no_measurement_is_named(tmp_path):
    assert speed.read(tmp_path) == []
    (tmp_path / "speed").mkdir()
    for text in ("{", "", '{"schema": 2}'):
        (tmp_path / "speed" / "b.json").write_text(text)
        with pytest.raises(CifarError, match="b.json: is no measurement"):
            speed.read(tmp_path)


def test_the_committed_measurement_was_made_by_committed_code():
    for found in speed.read(ROOT / "book" / "records" / "cifar"):
        assert found["modified"] is False and found["commit"]
