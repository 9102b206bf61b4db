"""Records and checkpoints: whole or not at all, and nothing taken on trust."""

import ast
import dataclasses
import errno
import json
import subprocess

import pytest
import torch
from cifar_files import random_store
from cifar_runs import TOY, made
from conftest import ROOT

from mflib.cifar import CifarError, records
from mflib.cifar.architectures import residual
from mflib.cifar.networks import Network
from mflib.cifar.recipe import PAPER, config, protocol
from mflib.cifar.training import Run


def begun(seed=0):
    return Run(config("resnet20", "vanilla", seed, epochs=2, subset=50), random_store(), TOY)


def test_a_record_is_read_as_it_was_written_with_its_protocol_beside(tmp_path):
    record = made()
    records.write_record(tmp_path, record)
    assert records.read_records(tmp_path) == [record | {"protocol": None}]


def test_the_same_run_is_not_written_twice_unless_asked(tmp_path):
    first, path = made(together=1), records.write_record(tmp_path, made(together=1))
    records.write_record(tmp_path, made(together=2))  # the same end, by another process
    assert records.read_record(path)["together"] == 1
    other = first | {"final": first["final"] | {"weights_sha256": "other"}}
    with pytest.raises(CifarError, match="ends otherwise; add --overwrite"):
        records.write_record(tmp_path, other)
    assert records.read_record(path)["final"] == first["final"]
    records.write_record(tmp_path, other, overwrite=True)
    assert records.read_record(path)["final"] == other["final"]


def test_no_space_left_is_one_error_and_earlier_records_stay(tmp_path, monkeypatch):
    records.write_record(tmp_path, made())
    other, run = made(seed=1), begun()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(records.os, "fsync", full)
    with pytest.raises(CifarError, match="no space left"):
        records.write_record(tmp_path, other)
    with pytest.raises(CifarError, match="no space left"):
        records.save_checkpoint(tmp_path, run)
    assert len(list(tmp_path.iterdir())) == len(records.read_records(tmp_path)) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"schema": 99}', "schema 99"),
        ("{", "no record"),
        ('{"a": 1}', "no record"),
        ("", "no record"),
        ('{"schema": 2, "config": {}}', "no record"),
    ],
)
def test_a_foreign_or_empty_file_is_named(tmp_path, text, words):
    records.write_record(tmp_path, made())
    (tmp_path / "z.json").write_text(text)
    with pytest.raises(CifarError, match=words) as caught:
        records.read_records(tmp_path)
    assert "z.json" in str(caught.value)


def last_error(record, value):
    record["epochs"][-1]["test_error"] = record["final"]["test_error"] = value
    errors = [e["test_error"] for e in record["epochs"]]
    record["final"]["best_error"] = min(errors)


@pytest.mark.parametrize("value", [-500, 100.5, float("nan"), True, "8.0", 41.3])
def test_an_impossible_test_error_is_refused(tmp_path, value):
    """The toy's 20 test images know multiples of 5 % only."""
    record = made()
    last_error(record, value if value != "8.0" else 40.0)
    if value == "8.0":
        record["final"]["test_error"] = "8.0"
    path = tmp_path / f"{record['name']}.json"
    path.write_text(json.dumps(record))
    with pytest.raises(CifarError, match="no share of 20 images|is no error|not those of its"):
        records.read_records(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(name="other"), "its configuration is that of"),
        (lambda r: r["config"].update(seed=5), "its configuration is that of"),
        (lambda r: r["config"].update(rule="magic"), "unknown rule"),
        (lambda r: r["config"].update(reduced=False), "no record of a run"),
        (lambda r: r["epochs"].pop(), "epochs, and called finished"),
        (lambda r: r.update(status="running"), "neither finished nor diverged"),
        (lambda r: r["final"].update(test_error=0.0), "not those of its epochs"),
        (lambda r: r.update(status="diverged"), "has no final error"),
        (lambda r: r["shuffled"].update(test_errors=[200.0]), "no share"),
        (lambda r: r["advanced_by"][0].update(source="other"), "advanced by different code"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(tmp_path, change, words):
    record = made()
    path = tmp_path / f"{record['name']}.json"
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(CifarError, match=words):
        records.read_records(tmp_path)


def test_the_protocol_is_recomputed_whatever_the_file_says(tmp_path):
    record = made() | {"protocol": "full", "reduced": False}
    path = records.write_record(tmp_path, record)
    assert '"full"' in path.read_text()
    assert records.read_records(tmp_path)[0]["protocol"] is None


def test_a_run_of_a_protocol_has_all_the_images(tmp_path):
    record, cfg = made(), config("small-n3", "mean-field", 0)
    model = record["epochs"][0]
    record |= {"name": cfg.name, "config": dataclasses.asdict(cfg)}
    record["epochs"] = [model | {"epoch": e} for e in range(1, 21)]
    last_error(record, 40.0)
    path = tmp_path / f"{cfg.name}.json"
    for images, right in (((50, 20), False), ((50_000, 10_000), True)):
        record |= dict(zip(("train_images", "test_images"), images, strict=True))
        path.write_text(json.dumps(record))
        if right:
            assert records.read_records(tmp_path)[0]["protocol"] == "small"
        else:
            with pytest.raises(CifarError, match="50000 training"):
                records.read_records(tmp_path)


def test_a_damaged_checkpoint_is_named_set_aside_and_started_over(tmp_path, capsys):
    run = begun()
    run.step()
    records.save_checkpoint(tmp_path, run)
    again = begun()
    assert records.load_checkpoint(tmp_path, again) and again.done == run.done > 0
    path = records.checkpoint_path(tmp_path, run.cfg)
    path.write_bytes(path.read_bytes()[:-40])
    fresh = begun()
    assert not records.load_checkpoint(tmp_path, fresh) and fresh.done == 0
    said = capsys.readouterr().err
    assert path.name in said and "starts over" in said and len(said.splitlines()) == 1
    assert not path.exists() and path.with_suffix(".damaged").exists()


def test_a_checkpoint_begun_by_other_code_is_refused(tmp_path, monkeypatch):
    records.save_checkpoint(tmp_path, begun())
    monkeypatch.setattr(records, "_SOURCE", "changed")
    with pytest.raises(CifarError, match="begun by other code.*delete it"):
        records.load_checkpoint(tmp_path, begun())


def test_dropping_a_checkpoint_takes_what_a_killed_process_left(tmp_path):
    for run in (begun(0), begun(1)):
        records.save_checkpoint(tmp_path, run)
        path = records.checkpoint_path(tmp_path, run.cfg)
        (tmp_path / f".{path.name}.123.part").write_bytes(b"half")
    records.drop_checkpoint(tmp_path, begun(0).cfg)
    left = records.checkpoint_path(tmp_path, begun(1).cfg).name
    assert {p.name for p in tmp_path.iterdir()} == {left, f".{left}.123.part"}


def test_the_hash_counts_what_computes_and_nothing_else():
    text = '"""A page."""\nimport torch\n\n\ndef f(x):\n    """Two."""\n    return 2 * x  # so\n'

    def digest(source):
        return records.source_hash(lambda name: source.encode(), ("a",))

    same = [
        "import math\n\ndef f(x):\n    return 2*x\n",
        text.replace("Two", "Twice"),
        "__all__ = ['f']\n" + text,
        text.replace("f(x)", "f(\n    x: int,\n) -> int"),
        text.replace("2 * x", "(2 * x)"),
    ]
    assert {digest(one) for one in same} == {digest(text)}
    assert digest(text.replace("2 *", "3 *")) != digest(text)
    assert digest(text.replace("2 * x", '"2 x"')) != digest(text.replace("2 * x", '"3 x"'))


def test_every_module_that_computes_is_in_the_hash(monkeypatch):
    """Whatever a step runs through lies in the modules that are hashed, or is arithmetic."""
    import sys

    seen, folder = set(), ROOT / "mflib" / "cifar"

    def note(frame, event, argument):
        file = frame.f_code.co_filename
        if file.startswith(str(folder)):
            seen.add(file.rsplit("/", 1)[1].removesuffix(".py"))

    runs = [
        Run(config("resnet20", how, 0, epochs=1, subset=50), random_store(), TOY)
        for how in ("others-move", "flow")
    ]
    sys.setprofile(note)
    try:
        for run in runs:
            while not run.at_end:
                run.step()
            run.close_epoch(run.errors())
    finally:
        sys.setprofile(None)
    assert seen == set(records.SOURCES)


def test_settled_is_what_another_run_says_already(tmp_path):
    asked = config("resnet20", "blocks-stay", 0, epochs=2, subset=50)
    assert not records.settled(asked, tmp_path)
    record = made("mean-field")
    assert records.sorted_times(record) == 0
    records.write_record(tmp_path, record)
    assert records.settled(asked, tmp_path)
    for cfg in (
        dataclasses.replace(asked, seed=1),
        dataclasses.replace(asked, rule="T1"),
        dataclasses.replace(asked, rule="T1-blocks-stay"),
    ):
        assert not records.settled(cfg, tmp_path)
    record["epochs"][0]["reorderings"] = [1]
    records.write_record(tmp_path, record, overwrite=True)
    assert not records.settled(asked, tmp_path)


@pytest.mark.parametrize("how", ["blocks-stay", "others-move"])
def test_until_something_is_sorted_its_twin_is_the_same_to_the_last_bit(how):
    """The claim behind `settled`, and that it ends with the first sort."""

    def trained(rule, rate):
        cfg = dataclasses.replace(
            config("resnet20", rule, 0, epochs=2, subset=50), rate=rate, batch=16
        )
        net = Network(residual("toy", (4,), (8,), 10, size=8))
        run = Run(cfg, random_store(), net)
        while not run.finished:
            run.step()
            if run.at_end:
                run.close_epoch(run.errors())
        return run

    calm, still = (trained(rule, 0.05) for rule in ("mean-field", how))
    assert records.sorted_times(records.describe(calm)) == 0
    assert calm.theta.equal(still.theta) and calm.history == still.history
    wild, other = (trained(rule, 2.0) for rule in ("T1", f"T1-{how}"))
    assert records.sorted_times(records.describe(wild)) > 0
    assert not wild.theta.equal(other.theta)


def test_the_recipes_are_the_stated_ones():
    ten, small = config("resnet20", "vanilla", 0), config("small-n3", "vanilla", 0)
    hundred = config("resnext29-8x64d", "vanilla", 0)
    assert (ten.data, ten.epochs, ten.weight_decay, ten.pad) == ("cifar10", 160, 1e-4, 4)
    assert (hundred.data, hundred.epochs, hundred.weight_decay) == ("cifar100", 300, 5e-4)
    assert (small.data, small.epochs, small.weight_decay, small.pad) == (
        "cifar10-16px",
        20,
        1e-4,
        2,
    )
    assert {(c.batch, c.rate, c.momentum) for c in (ten, small, hundred)} == {(128, 0.1, 0.9)}
    assert [e for e in range(1, 161) if ten.evaluates(e)] == [
        *range(10, 151, 10),
        156,
        157,
        158,
        159,
        160,
    ]
    assert [e for e in range(1, 21) if small.evaluates(e)] == [5, 10, 15, 20]


@pytest.mark.parametrize(
    ("net", "epochs", "cuts"), [("small-n3", 20, (10, 15)), ("resnet20", 160, (80, 120))]
)
def test_the_rate_falls_at_one_half_and_three_quarters(net, epochs, cuts):
    run = begun()
    run.cfg = dataclasses.replace(run.cfg, epochs=epochs)
    for epoch in range(epochs):
        run.epoch = epoch
        run.begin_epoch()
        passed = sum(epoch >= cut for cut in cuts)
        assert float(run.rate) == pytest.approx(0.1 * 0.1**passed)


def test_full_runs_come_in_order_with_enough_seeds():
    names = [(c.net, c.rule, c.seed) for c in protocol("full", "bf16")]
    assert len(set(names)) == len(names)
    nets = list(dict.fromkeys(net for net, how, _ in names if how == "vanilla"))
    assert nets == [f"resnet{d}" for d in (20, 32, 44, 56, 110, 164)]
    for net, count in (("resnet20", 8), ("resnet56", 8), ("resnet110", 3), ("resnet164", 3)):
        assert sum(n == net and how == "vanilla" for n, how, _ in names) == count
    assert {c.net for c in protocol("full", resnext=True)} == {n for n, _ in PAPER}
    assert {c.protocol for c in protocol("full", resnext=True)} == {"full"}


def test_small_runs_come_in_order_in_pairs():
    runs = protocol("small")
    assert {c.protocol for c in runs} == {"small"} and len(runs) == len(set(runs)) == 136
    first = [(c.net, c.rule, c.seed) for c in runs[:32]]
    assert first == [("small-n3", how, s) for s in range(16) for how in ("vanilla", "mean-field")]
    nets = [c.net for c in runs]
    assert list(dict.fromkeys(nets)) == [f"small-n{n}" for n in (3, 5, 9, 7)]
    second = {c.rule for c in runs[32:72]}
    assert second == {"blocks-stay", "normalised", "others-move", "flow", "T1"}
    assert nets[32:72] == ["small-n3"] * 40


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 19},
        {"batch": 64},
        {"rate": 0.2},
        {"momentum": 0.8},
        {"weight_decay": 5e-4},
        {"pad": 4},
        {"precision": "bf16"},
        {"subset": 50_000},
        {"verified": False},
        {"data": "cifar10"},
    ],
)
def test_any_other_number_is_no_run_of_the_small_protocol(change):
    cfg = config("small-n3", "mean-field", 3)
    assert cfg.protocol == "small"
    assert dataclasses.replace(cfg, **change).protocol is None


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(CifarError, match="seeds"):
        config("small-n3", "vanilla", seed)


COMMITTED = sorted((ROOT / "book" / "records" / "cifar").glob("*.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_a_committed_record_is_of_a_protocol_and_made_by_the_code_of_its_commit(path):
    found = records.read_record(path)
    assert found["protocol"] and found["advanced_by"]

    def git(*words):
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True)

    for by in found["advanced_by"]:
        assert by["versions"]["torch"] and by["device"] and not by["modified"]
        assert by["source"] == found["source"]
        if git("cat-file", "-e", by["commit"]).returncode:
            pytest.skip("the commit is not in this clone")

        def then(name, commit=by["commit"]):
            return git("show", f"{commit}:mflib/cifar/{name}").stdout

        counted = next(
            ast.literal_eval(node.value)
            for node in ast.parse(then("records.py")).body
            if isinstance(node, ast.Assign) and node.targets[0].id == "SOURCES"
        )
        assert records.source_hash(then, counted) == found["source"]


def test_committed_records_were_made_by_the_code_as_it_is():
    """Pairs of a table must come from one code: what is run next continues this one."""
    sources = {records.read_record(path)["source"] for path in COMMITTED}
    assert sources <= {records._SOURCE}


def test_torch_loads_a_checkpoint_without_running_code(tmp_path):
    records.save_checkpoint(tmp_path, begun())
    saved = torch.load(records.checkpoint_path(tmp_path, begun().cfg), weights_only=True)
    assert saved["config"]["rule"] == "vanilla"
