"""Records and the table: written whole or not at all, never a typed-in number."""

import ast
import errno
import json
import math
import subprocess

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats

from mflib.cifar import CifarError, bench, recipe, records, table
from mflib.cifar.recipe import PAPER, protocol
from mflib.claims.intervals import QUANTILE, mean_interval


def record(net="resnet20", how="vanilla", seed=0, error=8.0, status="finished", **more):
    cfg = recipe.config(net, how, seed, **more)
    return {
        "schema": records.SCHEMA, "name": cfg.name, "status": status,
        "source": "same", "reduced": cfg.reduced, "train_images": cfg.subset or 50_000,
        "config": {**vars(cfg)},
        "final": {"test_error": error if status == "finished" else None, "best_error": error},
        "shuffled": {"mean": 50.0},
        "epochs": [{"reorderings": [1, 0, 2]}, {"reorderings": [0, 0, 0]}],
    }


def pairs(differences, how="mean-field", **more):
    out = []
    for seed, d in enumerate(differences):
        out += [record(seed=seed, error=8.0 + 0.1 * seed, **more),
                record(seed=seed, how=how, error=8.0 + 0.1 * seed - d, **more)]
    return out


def test_without_records_every_row_is_not_run():
    rows = table.summary([])["rows"]
    assert [(r["net"], r["data"]) for r in rows] == list(PAPER)
    assert {r["verdict"] for r in rows} == {"not run"}
    assert all(r["vanilla"] is None and r["pairs"] == 0 for r in rows)
    keys = {"net", "data", "paper", "vanilla", "mean_field", "difference", "interval",
            "pairs", "verdict"}
    assert keys <= set(rows[0])
    json.dumps(rows, allow_nan=False)


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.6, "verified"), (-0.6, "refuted"), (0.0, "inconclusive")]
)
def test_the_verdict_follows_the_interval(shift, verdict):
    noise = np.array([0.05, -0.05, 0.08, -0.02, 0.03, -0.06, 0.01, -0.04])
    row = table.summary(pairs(shift + noise))["rows"][0]
    assert row["pairs"] == 8 and row["verdict"] == verdict
    assert row["difference"] == pytest.approx(shift + noise.mean())
    assert row["interval"][0] < row["difference"] < row["interval"][1]


@pytest.mark.parametrize("more", [{"epochs": 6}, {"subset": 5000}, {"verified": False}])
def test_reduced_runs_never_enter_the_table(more):
    found = table.summary(pairs([0.6] * 3, **more) + pairs([0.7] * 3, how="T1", **more))
    assert {row["verdict"] for row in found["rows"]} == {"not run"}
    assert found["ablations"] == []
    assert [row["method"] for row in found["reduced"]] == ["mean-field", "T1"]
    assert all(row["paper"] is None and row["pairs"] == 3 for row in found["reduced"])


def test_pairs_from_different_code_are_left_out_and_counted():
    rows = pairs([0.6] * 4)
    rows[1]["source"] = "changed"
    row = table.summary(rows)["rows"][0]
    assert row["seeds"] == [1, 2, 3] and row["unlike"] == 1
    assert "3 (1 unlike)" in table.markdown([row])


@pytest.mark.parametrize("how", ["vanilla", "mean-field"])
def test_a_diverged_run_of_either_method_leaves_the_row_undecided(how):
    rows = pairs([0.6] * 8)
    assert table.summary(rows)["rows"][0]["verdict"] == "verified"
    row = table.summary([*rows, record(how=how, seed=8, status="diverged")])["rows"][0]
    assert row["interval"] is None and row["verdict"] == "inconclusive"
    assert "8 (1 diverged)" in table.markdown([row])


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_pairs_are_inconclusive_and_have_no_interval(count):
    row = table.summary(pairs([0.5] * count))["rows"][0]
    assert row["interval"] is None and row["verdict"] == "inconclusive"


def test_only_seeds_that_both_have_are_compared_and_diverged_runs_are_counted():
    rows = pairs([0.5, 0.5, 0.5])
    rows[5] = record(how="mean-field", seed=2, status="diverged")
    rows.append(record(how="vanilla", seed=9, error=99.0))
    row = table.summary(rows)["rows"][0]
    assert row["pairs"] == 2 and row["seeds"] == [0, 1] and row["diverged"] == 1
    assert row["vanilla"] == pytest.approx(8.05)


def test_reduced_unverified_and_other_precision_never_mix_with_full_runs():
    full = pairs([0.2, 0.3], precision="bf16")
    other = pairs([5.0], precision="fp32")
    reduced = pairs([9.0, 9.0], epochs=2, subset=500) + pairs([7.0], verified=False)
    found = table.summary(full + other + reduced)
    assert found["rows"][0]["pairs"] == 2
    assert found["rows"][0]["difference"] == pytest.approx(0.25)
    assert [(r["epochs"], r["train_images"]) for r in found["reduced"]] == [
        (2, 500), (160, 50_000)]


def test_ablations_are_compared_with_vanilla():
    found = table.summary(pairs([0.1, 0.2]) + pairs([0.3, 0.3], how="T1"))
    (row,) = found["ablations"]
    assert row["method"] == "T1" and row["difference"] == pytest.approx(0.3)
    assert row["reorderings_per_epoch"] == pytest.approx(1.5)
    assert "T1" in table.markdown(found["ablations"], "ablations")


def test_the_quantile_is_that_of_the_whole_book():
    assert (1 + table.LEVEL) / 2 == pytest.approx(QUANTILE)


@pytest.mark.parametrize("count", [3, 4, 8])
def test_the_interval_is_never_narrower_than_students(count):
    values = np.random.default_rng(count).normal(0.3, 0.2, count)
    low, high = table.paired_interval(values)
    mean, half = values.mean(), stats.t.ppf(QUANTILE, count - 1) * stats.sem(values)
    assert low <= mean - half + 1e-6 < mean < mean + half - 1e-6 <= high


@pytest.mark.parametrize("freedom", [1, 2, 7, 30])
def test_student_quantiles_equal_scipy(freedom):
    got = table._student(0.9995, freedom)
    assert got == pytest.approx(stats.t.ppf(0.9995, freedom), rel=1e-6)


def test_the_interval_covers_the_mean_of_normal_differences():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(60):
        low, high = table.paired_interval(rng.normal(0.3, 0.2, 8), level=0.95)
        inside += low <= 0.3 <= high
    assert inside >= 52


def test_the_same_run_is_not_written_twice_unless_asked(tmp_path):
    records.write_record(tmp_path, record(error=8.0))
    with pytest.raises(CifarError, match="--overwrite"):
        records.write_record(tmp_path, record(error=9.0))
    assert records.read_records(tmp_path)[0]["final"]["test_error"] == 8.0
    records.write_record(tmp_path, record(error=9.0), overwrite=True)
    assert records.read_records(tmp_path)[0]["final"]["test_error"] == 9.0


def test_no_space_left_is_one_error_and_earlier_records_stay(tmp_path, monkeypatch):
    records.write_record(tmp_path, record(seed=0))

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(records.os, "fsync", full)
    with pytest.raises(CifarError, match="no space left"):
        records.write_record(tmp_path, record(seed=1))
    with pytest.raises(CifarError, match="no space left"):
        records.save_checkpoint(tmp_path, recipe.config("resnet20", "vanilla", 0), {})
    assert [p.name for p in tmp_path.iterdir()] == [record(seed=0)["name"] + ".json"]
    assert len(records.read_records(tmp_path)) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"schema": 99}', "schema 99"), ("{", "no record"), ('{"a": 1}', "no record"),
     ('{"schema": 1, "config": {}}', "no record")],
)
def test_a_foreign_record_is_named(tmp_path, text, words):
    records.write_record(tmp_path, record())
    (tmp_path / "z.json").write_text(text)
    with pytest.raises(CifarError, match=words) as caught:
        records.read_records(tmp_path)
    assert "z.json" in str(caught.value)


def test_a_damaged_checkpoint_is_named(tmp_path):
    cfg = recipe.config("resnet20", "vanilla", 0)
    records.save_checkpoint(tmp_path, cfg, {"epoch": 1})
    assert records.load_checkpoint(tmp_path, cfg) == {"epoch": 1}
    path = records.checkpoint_path(tmp_path, cfg)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CifarError, match="damaged checkpoint"):
        records.load_checkpoint(tmp_path, cfg)


def test_a_checkpoint_begun_by_other_code_is_refused(tmp_path, monkeypatch):
    cfg = recipe.config("resnet20", "vanilla", 0)
    records.save_checkpoint(tmp_path, cfg, {"epoch": 1})
    monkeypatch.setattr(records, "_SOURCE", "changed")
    with pytest.raises(CifarError, match="begun by other code.*delete it"):
        records.load_checkpoint(tmp_path, cfg)


def test_dropping_a_checkpoint_takes_what_a_killed_process_left(tmp_path):
    cfg, other = (recipe.config("resnet20", "vanilla", seed) for seed in (0, 1))
    for each in (cfg, other):
        records.save_checkpoint(tmp_path, each, {})
        path = records.checkpoint_path(tmp_path, each)
        (tmp_path / f".{path.name}.123.part").write_bytes(b"half")
    records.drop_checkpoint(tmp_path, cfg)
    left = records.checkpoint_path(tmp_path, other).name
    assert {p.name for p in tmp_path.iterdir()} == {left, f".{left}.123.part"}


def test_measurements_of_speed_are_read_and_shown(tmp_path):
    assert bench.read(tmp_path) == []
    (tmp_path / "bench").mkdir()
    rate = {"eager": 100.0, "alone": 150.0, "together": 1600.0}
    found = {"schema": 1, "net": "resnet20", "device": "a card", "precision": "bf16",
             "images_per_second": rate, "runs_together": 16, "ratio_alone": 1.5,
             "ratio_together": 16.0, "time_shares": {"convolutions": 0.5},
             "fraction_of_matrix_rate": 0.04, "fraction_of_bandwidth_modelled": 0.3}
    (tmp_path / "bench" / "a.json").write_text(json.dumps(found))
    assert bench.read(tmp_path) == [found]
    assert "| a card | bf16 | 100 | 150 | 1,600 (16 runs) | 1.50 | 16.00 | 50 % | 4 % | 30 % |" in (
        bench.markdown([found]))
    assert records.read_records(tmp_path) == []
    (tmp_path / "bench" / "b.json").write_text("{")
    with pytest.raises(CifarError, match="b.json: is no measurement"):
        bench.read(tmp_path)


def test_the_recipe_is_the_papers():
    ten = recipe.config("resnet20", "vanilla", 0)
    hundred = recipe.config("resnext29-8x64d", "vanilla", 0)
    assert (ten.epochs, ten.milestones, ten.weight_decay) == (160, (80, 120), 1e-4)
    assert (hundred.data, hundred.epochs, hundred.milestones) == ("cifar100", 300, (150, 225))
    assert (hundred.weight_decay, ten.batch, ten.rate, ten.momentum) == (5e-4, 128, 0.1, 0.9)
    assert [e for e in range(1, 161) if ten.evaluates(e)] == [
        *range(10, 151, 10), 156, 157, 158, 159, 160]


def test_the_protocol_runs_rows_in_order_with_enough_seeds():
    names = [(c.net, c.method, c.seed) for c in protocol("bf16")]
    assert len(set(names)) == len(names)
    nets = list(dict.fromkeys((net, m in ("vanilla", "mean-field")) for net, m, _ in names))
    assert [n for n, main in nets if main] == [
        f"resnet{d}" for d in (20, 32, 44, 56, 110, 164)]
    for net, count in (("resnet20", 8), ("resnet56", 8), ("resnet110", 3), ("resnet164", 3)):
        assert sum(n == net and m == "vanilla" for n, m, _ in names) == count
    assert {c.net for c in protocol("bf16", resnext=True)} == set(n for n, _ in PAPER)


COMMITTED = sorted((ROOT / "book" / "records" / "cifar").glob("*.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_a_committed_record_is_whole_and_made_by_the_code_of_its_commit(path):
    found = next(r for r in records.read_records(path.parent) if r["name"] == path.stem)
    cfg = recipe.Config(**found["config"])
    assert cfg.name == path.stem and cfg.verified and found["reduced"] == cfg.reduced
    assert found["versions"]["torch"] and found["device"] and not found["modified"]
    if found["status"] == "finished":
        last = found["epochs"][-1]
        assert len(found["epochs"]) == cfg.epochs
        assert math.isclose(found["final"]["test_error"], last["test_error"])

    def git(*words):
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True)

    if git("cat-file", "-e", found["commit"]).returncode:
        pytest.skip("the commit is not in this clone")

    def then(name):
        return git("show", f"{found['commit']}:mflib/cifar/{name}").stdout

    counted = next(
        ast.literal_eval(node.value) for node in ast.parse(then("records.py")).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "SOURCES")
    assert records.source_hash(then, counted) == found["source"]


def test_records_of_the_table_were_made_in_matched_pairs():
    found = records.read_records(ROOT / "book" / "records" / "cifar")
    rows = [row for kind in table.summary(found).values() for row in kind]
    assert all(row["unlike"] == 0 for row in rows)
