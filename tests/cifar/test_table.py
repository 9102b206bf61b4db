"""The tables: paired, corrected as stated first, never a typed-in number."""

import json

import numpy as np
import pytest
from scipy import stats

from mflib.cifar import recipe, table
from mflib.cifar.recipe import PAPER
from mflib.claims.families import holm, paired

NET = "small-n3"


def record(net=NET, how="vanilla", seed=0, error=38.0, status="finished", moved=0, **more):
    """A record as read_records returns it, with the parts that the table reads."""
    cfg = recipe.config(net, how, seed, **more)
    return {
        "status": status,
        "source": "same",
        "config": vars(cfg),
        "protocol": cfg.protocol,
        "final": {"test_error": error if status == "finished" else None, "best_error": error},
        "shuffled": {"mean": 80.0},
        "epochs": [{"reorderings": [moved, 0, 0]}, {"reorderings": [0, 0, 0]}],
    }


def pairs(differences, how="mean-field", **more):
    out = []
    for seed, d in enumerate(differences):
        base = 38.0 + 0.1 * (seed % 3)
        out += [
            record(seed=seed, error=base, **more),
            record(seed=seed, how=how, error=base - d, **more),
        ]
    return out


def noise(n, seed=0):
    return np.random.default_rng(seed).normal(0, 0.05, n).round(2)


def row_of(found, family="small", **wanted):
    (row,) = [
        r
        for r in table.answers(found)[family]
        if all(r[key] == value for key, value in wanted.items())
    ]
    return row


def test_without_records_every_question_is_not_run():
    found = table.answers([])
    assert {r["verdict"] for rows in found.values() for r in rows} == {"not run"}
    assert [(r["net"], r["data"]) for r in found["full"]] == list(PAPER)
    assert [r["net"] for r in found["small"]] == [f"small-n{n}" for n in (3, 5, 9, 7)]
    assert [(r["rule"], r["against"]) for r in found["sort"]] == [
        ("mean-field", "blocks-stay"),
        ("mean-field", "others-move"),
    ]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("shift", "verdict", "side"), [(0.6, "better", 1), (-0.6, "worse", -1), (0.0, "equal", 0)]
)
def test_the_verdict_follows_the_pairs(shift, verdict, side):
    row = row_of(pairs(shift + noise(16)), net=NET)
    assert (row["verdict"], row["side"], row["pairs"]) == (verdict, side, 16)
    assert row["difference"] == pytest.approx(shift + noise(16).mean())
    assert row["simultaneous"][0] < row["interval"][0] < row["difference"] < row["interval"][1]


def test_a_wide_scatter_is_open_and_not_equal():
    row = row_of(pairs(12 * noise(16)), net=NET)
    assert row["verdict"] == "open"


def test_interval_and_p_values_are_students_at_the_level_of_the_looks():
    d = 0.1 + noise(16)
    row = row_of(pairs(d), net=NET)
    assert row["interval"] == pytest.approx(paired(d, 1 - 0.0294).interval)
    assert row["simultaneous"] == pytest.approx(paired(d, 1 - 0.0294 / 4).interval)
    assert row["student"] == pytest.approx(stats.ttest_1samp(d, 0).pvalue * 0.05 / 0.0294)


@pytest.mark.parametrize(("had", "judged"), [(7, 7), (8, 8), (15, 8), (16, 16)])
def test_sixteen_pairs_are_looked_at_twice_and_in_between_the_earlier_look_stands(had, judged):
    d = 0.6 + noise(16)
    row = row_of(pairs(d[:had]), net=NET)
    assert (row["pairs"], row["had"], row["complete"]) == (judged, had, had >= 8)
    assert row["verdict"] == ("better" if had >= 8 else "open")
    assert row["difference"] == pytest.approx(d[:judged].mean())


def test_a_question_of_eight_pairs_waits_for_the_eighth():
    seven = pairs(0.6 + noise(7), net="small-n5")
    assert row_of(seven, net="small-n5")["verdict"] == "open"
    eight = row_of(pairs(0.6 + noise(8), net="small-n5"), net="small-n5")
    assert eight["verdict"] == "better"
    assert eight["interval"] == pytest.approx(paired(0.6 + noise(8), 0.95).interval)


def test_where_pairing_does_not_help_the_unpaired_interval_stands_beside():
    found = pairs(0.3 + noise(8), net="small-n5")
    assert row_of(found, net="small-n5")["welch"] is None
    for r in found:  # the two rules' errors now go opposite ways
        if r["config"]["rule"] == "mean-field":
            r["final"]["test_error"] = 37.7 - 0.1 * (r["config"]["seed"] % 3)
    row = row_of(found, net="small-n5")
    assert row["correlation"] < 0
    a, b = (
        [r["final"]["test_error"] for r in found if r["config"]["rule"] == how]
        for how in ("vanilla", "mean-field")
    )
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert row["welch"] == pytest.approx(tuple(expected))


def test_holm_decides_the_family_together():
    """A single question may pass at 5 % and fail beside three others."""
    d = noise(8, 3)
    d = d - d.mean()
    d += stats.t.ppf(1 - 0.03 / 2, 7) * d.std(ddof=1) / np.sqrt(8)  # Student's p is .03
    row = row_of(pairs(d, net="small-n5"), net="small-n5")
    assert row["student"] == pytest.approx(0.03, abs=1e-3) and row["side"] == 0
    assert holm([0.03]) == [True] and holm([0.03, 1, 1, 1])[0] is False


def test_student_without_the_signs_decides_nothing(monkeypatch):
    found = pairs(0.6 + noise(8), net="small-n5")
    assert row_of(found, net="small-n5")["side"] == 1
    real = table.paired

    def doubtful(values, level):
        got = real(values, level)
        return type(got)(**{**vars(got), "flips": 0.06})

    monkeypatch.setattr(table, "paired", doubtful)
    assert row_of(found, net="small-n5")["side"] == 0


@pytest.mark.parametrize("how", ["vanilla", "mean-field"])
def test_a_diverged_run_of_either_rule_leaves_the_question_open(how):
    found = pairs(0.6 + noise(8), net="small-n5")
    lost = record("small-n5", how, seed=8, status="diverged")
    row = row_of([*found, lost], net="small-n5")
    assert row["interval"] is None and row["verdict"] == "open" and row["diverged"] == 1
    assert "8 (1 diverged)" in table.markdown([row])


def test_pairs_from_different_code_are_left_out_and_counted():
    found = pairs([0.6] * 4, net="small-n5")
    found[1]["source"] = "changed"
    row = row_of(found, net="small-n5")
    assert row["seeds"] == [1, 2, 3] and row["unlike"] == 1
    assert "3 of 8 (1 unlike)" in table.markdown([row])


def test_only_seeds_that_both_rules_have_are_compared():
    found = [*pairs([0.5, 0.7], net="small-n5"), record("small-n5", seed=9, error=99.0)]
    row = row_of(found, net="small-n5")
    assert row["seeds"] == [0, 1] and row["error_against"] == pytest.approx(38.05)


@pytest.mark.parametrize(
    "more", [{"epochs": 6}, {"subset": 5000}, {"verified": False}, {"precision": "bf16"}]
)
def test_what_is_not_of_the_protocol_enters_no_table(more):
    found = pairs([0.6] * 8, **more) + pairs([0.7] * 8, how="T1", **more)
    assert {r["verdict"] for rows in table.answers(found).values() for r in rows} == {"not run"}


def test_small_and_full_records_never_mix():
    found = pairs([5.0] * 8, net="resnet20") + pairs([0.3] * 8, net=NET)
    assert row_of(found, net=NET)["difference"] == pytest.approx(0.3)
    assert row_of(found, "full", net="resnet20")["difference"] == pytest.approx(5.0)


def test_the_two_precisions_of_the_full_protocol_never_mix():
    found = pairs([0.2, 0.3], net="resnet20", precision="bf16") + pairs([5.0], net="resnet20")
    row = row_of(found, "full", net="resnet20")
    assert row["pairs"] == 2 and row["difference"] == pytest.approx(0.25)


def test_ablations_are_compared_with_vanilla():
    found = pairs([0.1, 0.2]) + pairs([0.3, 0.3], how="T1", moved=3)
    row = row_of(found, "small-ablations", net=NET, rule="T1")
    assert row["difference"] == pytest.approx(0.3)
    assert row["reorderings_per_epoch"] == pytest.approx(1.5)
    assert "T1" in table.markdown([row], "small-ablations")


def test_where_nothing_was_sorted_rules_that_differ_in_the_sort_are_the_same_run():
    still = row_of(pairs([0.3] * 8), "sort", against="blocks-stay")
    assert still["pairs"] == 8 and still["identical"] == 8 and still["differences"] == [0.0] * 8
    assert still["verdict"] == "equal" and still["side"] == 0
    sorting = row_of(pairs([0.3] * 8, moved=1), "sort", against="blocks-stay")
    assert sorting["verdict"] == "not run"
    own = [record(how="blocks-stay", seed=s, error=38.5 + 0.1 * (s % 3)) for s in range(8)]
    measured = row_of([*pairs([0.3] * 8, moved=1), *own], "sort", against="blocks-stay")
    assert measured["verdict"] == "better" and measured["identical"] == 0


def test_a_diverged_twin_stands_for_nothing():
    found = [record(how="mean-field", seed=s, status="diverged") for s in range(8)]
    assert row_of(found, "sort", against="blocks-stay")["pairs"] == 0


def test_the_scatter_waits_for_the_first_four_and_takes_no_other():
    errors = [38.0, 38.3, 37.9, 38.2, 99.0]
    found = [record(seed=s, error=e) for s, e in enumerate(errors)]
    assert table.scatter(found[1:]) is None
    assert table.scatter(found) == pytest.approx(np.std(errors[:4], ddof=1))
    assert table.scatter(found + pairs([9.0] * 4, how="T1")[1::2]) == table.scatter(found)


@pytest.mark.parametrize(
    ("pairs", "questions", "power", "expected"),
    [
        (8, 1, 0.8, 1.16),
        (16, 1, 0.8, 0.75),
        (16, 1, 0.975, 1.05),
        (8, 6, 0.8, 1.65),
        (16, 8, 0.975, 1.35),
    ],
)
def test_the_detectable_difference_is_that_of_students_test(pairs, questions, power, expected):
    """In units of the scatter; the numbers are those of a simulation made elsewhere."""
    assert table.detectable(1.0, pairs, questions, power) == pytest.approx(expected, abs=0.011)
    assert table.detectable(0.3, pairs, questions, power) == pytest.approx(
        0.3 * table.detectable(1.0, pairs, questions, power)
    )


def test_the_sentence_follows_the_row():
    say = {
        shift: table.sentence(row_of(pairs(shift + noise(16)), net=NET))
        for shift in (0.6, -0.6, 0.0)
    }
    assert "lower over 16 pairs" in say[0.6] and "the gain is decided" in say[0.6]
    assert "higher" in say[-0.6] and "the loss is decided" in say[-0.6]
    assert "equal within 0.2 points" in say[0.0]
    assert "not run" in table.sentence(row_of([], net=NET))
    assert "16 pairs are planned" in table.sentence(row_of(pairs([0.5, 0.6]), net=NET))


def test_every_family_has_its_table():
    found = pairs(0.1 + noise(8)) + pairs([0.2] * 8, net="resnet20")
    for kind, rows in table.answers(found).items():
        lines = table.markdown(rows, kind).splitlines()
        assert len(lines) == 2 + len(rows)
        assert len({line.count("|") for line in lines}) == 1
