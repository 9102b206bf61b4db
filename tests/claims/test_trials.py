"""The record of trials: what the page on verdicts says of levels and power."""

import json

import numpy as np
import pytest
from conftest import ROOT

from mflib.claims import ClaimError, trials

RECORD = ROOT / "book" / "records" / "verdicts.json"


@pytest.mark.parametrize("name", trials.LAWS)
def test_every_law_has_no_slope_of_its_own(name):
    statistic, draw = trials.LAWS[name]
    errors = draw(np.random.default_rng(0), 40_000)
    average = (
        np.log(errors).mean(0) if statistic == "geometric" else np.log((errors**2).mean(0)) / 2
    )
    slope = np.polyfit(np.log(trials.SIZES), average, 1)[0]
    assert errors.shape == (40_000, 5) and (errors > 0).all()
    assert slope == pytest.approx(0.0, abs=0.04)


@pytest.mark.parametrize("name", trials.MEANS)
def test_every_sample_has_mean_one(name):
    draws = trials.MEANS[name](np.random.default_rng(0), 200_000)
    assert draws.mean() == pytest.approx(1, abs=0.02)


def test_counts_are_those_of_their_seed_and_another_seed_differs():
    first = [
        trials.verdicts(trials.CURVES["1 + .1/x"], 24, 0.08, 40, generator=g) for g in (0, 0, 1)
    ]
    assert first[0] == first[1] != first[2]
    law = "lognormal, sigma 1"
    assert trials.misses("mean", law, 8, 400) == trials.misses("mean", law, 8, 400)
    assert trials.misses("mean", law, 8, 400) > 0


def test_the_exact_law_is_verified_and_what_is_far_from_it_refuted():
    few = dict(seeds=24, noise=0.04, trials=20)
    assert trials.verdicts(trials.CURVES["1 (the law itself)"], **few)["verified"] == 20
    for name in (
        "floor, 50 % of the last error",
        "a logarithm not divided out",
        "exponent off by .12",
    ):
        assert trials.verdicts(trials.CURVES[name], **few)["refuted"] == 20
    assert (
        trials.verdicts(trials.CURVES["exponent off by the tolerance, .06"], **few)["verified"] == 0
    )


def test_the_committed_record_supports_the_level_that_is_printed():
    found = trials.read(RECORD)
    assert {row["law"] for row in found["misses"]} == {*trials.LAWS, *trials.MEANS}
    assert {row["curve"] for row in found["curves"]} == set(trials.CURVES)
    assert all(row["trials"] >= 2000 for row in found["misses"])
    assert found["level"] == 0.99 and trials.worst(found, "slope") <= 0.01
    exact = [row for row in found["curves"] if row["curve"].startswith("1 (")]
    assert all(row["refuted"] == 0 for row in exact)
    edge = [row for row in found["curves"] if "tolerance" in row["curve"]]
    assert all(row["verified"] <= 0.01 * row["trials"] for row in edge)
    for row in found["power"]:
        if row["statistic"] == "geometric":
            assert row["refuted"] >= 0.94 * row["trials"]


def test_the_worst_share_is_that_of_its_kind_and_seeds():
    rows = [
        {"kind": k, "law": "a", "seeds": s, "trials": 100, "missed": m}
        for k, s, m in (("slope", 8, 3), ("slope", 12, 1), ("mean", 8, 7))
    ]
    assert trials.worst({"misses": rows}, "slope") == 0.03
    assert trials.worst({"misses": rows}, "slope", fewest=12) == 0.01
    assert trials.worst({"misses": rows}, "mean") == 0.07
    assert trials.standard_error(0.5, 100) == 0.05 and trials.standard_error(0.0, 100) > 0


def test_a_record_is_written_by_its_command_and_a_foreign_file_is_named(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(
        trials, "record", lambda n: {"schema": 1, "misses": [n], "curves": [1], "power": [1]}
    )
    path = tmp_path / "verdicts.json"
    assert trials.main([str(path), "--trials", "100"]) == 0
    assert trials.read(path)["misses"] == [100]
    with pytest.raises(SystemExit):
        trials.main([str(path), "--trials", "3"])
    assert "at least 100" in capsys.readouterr().err
    for text in ("{", json.dumps({"schema": 0}), json.dumps({"schema": 1, "misses": []})):
        path.write_text(text)
        with pytest.raises(ClaimError, match="python -m mflib.claims.trials"):
            trials.read(path)
    with pytest.raises(ClaimError, match="no record of trials"):
        trials.read(tmp_path / "none.json")
