"""The chapter with no, some and all records: its sentences and claims follow them."""

import dataclasses
import json
import re

import matplotlib
import numpy as np
import pytest
from cifar_runs import made
from conftest import ROOT

from mflib.cifar import recipe, records, table
from mflib.cifar.recipe import PAPER

matplotlib.use("Agg")
NOTEBOOK = ROOT / "notebooks" / "cifar_table.ipynb"
LIVE = "run_of = {", "trace_of", "run_of["  # the digits are not the subject here


def chapter(folder):
    """Run the chapter's code without its live part; return its variables and its words."""
    scope, said = {"__name__": "chapter"}, []
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or any(word in source for word in LIVE):
            continue
        exec(re.sub(r"(?m)^Markdown\(", "said = Markdown(", source), scope)
        if "parameters" in cell["metadata"].get("tags", ()):
            scope |= {"records": str(folder), "blocks": 3, "width": 8}
        if "said" in scope:
            said.append(scope.pop("said").data)
    scope["plt"].close("all")
    return scope, "\n".join(said)


def small_and_sort(scope):
    """The claims of the small protocol, whose name the chapter binds again."""
    return next(iter(scope["asked"].values())).claim, scope["sorts"].claim


MODEL = made("mean-field")


def record(folder, net, how, seed, error, moved=0):
    """A record with a made-up error; its parts are those of a real small run."""
    cfg = recipe.config(net, how, seed)
    movable = recipe.NETWORKS[net](net, 10)
    tau = [[1.01 * (i + 1) for i in range(m)] for m in movable.movable]
    entry = {
        "loss": 1.0,
        "train_error": 40.0,
        "test_error": error,
        "reorderings": [moved, 0, 0],
        "tau": tau,
    }
    data = MODEL | {
        "name": cfg.name,
        "config": dataclasses.asdict(cfg),
        "train_images": 50_000,
        "test_images": 10_000,
        "epochs": [entry | {"epoch": e} for e in range(1, cfg.epochs + 1)],
        "final": MODEL["final"] | {"test_error": error, "best_error": error},
        "shuffled": {
            "draws": 1,
            "test_errors": [80.0],
            "mean": 80.0 + seed / 10 + sum(map(ord, net)) / 1e4,
        },
    }
    folder.mkdir(exist_ok=True)
    records.write_record(folder, data)


def write(folder, net, shift, seeds=8, how="mean-field", moved=0):
    """Pairs in which `how` gains about `shift` points."""
    for seed in range(seeds):
        base = 30 + (seed % 4) / 10
        if not (folder / f"{recipe.config(net, 'vanilla', seed).name}.json").exists():
            record(folder, net, "vanilla", seed, base)
        gain = shift + len(how) * (seed % 3) / 500 + seed / 1000
        record(folder, net, how, seed, round(base - gain, 2), moved)


def test_without_records_nothing_is_answered_and_nothing_verified(tmp_path):
    scope, said = chapter(tmp_path)
    assert "Not answered yet" in said and "Fewer than four vanilla runs" in said
    assert "0 of 8 run" in said
    small, sort = small_and_sort(scope)
    assert small.verdict == sort.verdict == "not run"
    claim = scope["claim"]
    assert claim.verdict == "inconclusive" and len(claim.controls) == 2
    assert scope["uniform"].verdict == scope["swap"].verdict == "verified"
    assert all(control.flipped for control in claim.controls)


def test_three_pairs_are_shown_and_decide_nothing(tmp_path):
    write(tmp_path, "small-n3", 0.5, seeds=3)
    scope, said = chapter(tmp_path)
    assert "Open on the smallest network" in said and "over 3 pairs" in said
    assert "16 pairs are planned" in said and "In 3 runs of Algorithm 1 no stamp" in said
    assert small_and_sort(scope)[0].verdict == "not run"


def test_four_vanilla_runs_say_what_sixteen_pairs_can_see(tmp_path):
    write(tmp_path, "small-n3", 0.5, seeds=4)
    scope, said = chapter(tmp_path)
    scatter = np.std([30.0, 30.1, 30.2, 30.3], ddof=1)
    assert f"scatter by {scatter:.2f} points" in said
    assert f"{table.detectable(2**0.5 * scatter, 16, 4):.2f} points in 80 cases" in said


@pytest.mark.parametrize(
    ("shift", "word", "verdict"), [(0.5, "Yes", "verified"), (-0.5, "No", "refuted")]
)
def test_the_sentence_and_the_claim_follow_all_records(tmp_path, shift, word, verdict):
    for n, seeds in ((3, 16), (5, 8), (9, 8), (7, 8)):
        write(tmp_path, f"small-n{n}", shift, seeds)
    for how in ("normalised", "flow", "T1"):
        write(tmp_path, "small-n3", shift / 2, 8, how, moved=2)
    for net, _ in PAPER:
        write(tmp_path, net, shift, 8)
    scope, said = chapter(tmp_path)
    assert f"{word} on the smallest network" in said
    assert ("4 better" if shift > 0 else "4 worse") in said
    assert {c.verdict for c in scope["asked"].values()} == {verdict}
    planned = {row["net"]: row["planned"] for row in scope["answers"]["full"]}
    assert {c.verdict for net, c in scope["rows"].items() if planned[net] == 8} == {verdict}
    assert {c.verdict for net, c in scope["rows"].items() if planned[net] == 3} == {"not run"}
    assert "8 of 8 run" in said and "| small-n3 | flow |" in said
    assert "the sort had nothing to do" in said
    small, sort = small_and_sort(scope)
    assert small.verdict == verdict
    assert all(control.flipped for control in small.controls)
    assert sort.verdict == "refuted"  # nothing was sorted, so nothing gained by it
    assert all(control.flipped for control in sort.controls)


def test_is_it_the_sorting_follows_its_own_runs(tmp_path):
    write(tmp_path, "small-n3", 0.5, 8, moved=1)
    for how, loss in (("blocks-stay", -0.5), ("others-move", -0.7)):
        write(tmp_path, "small-n3", loss, 8, how, moved=1)
    scope, said = chapter(tmp_path)
    assert scope["sorts"].claim.verdict == scope["sorts"].verdict == "verified"
    assert "In 8 of 8 runs of Algorithm 1 blocks changed places" in said


def test_the_chapter_types_in_no_result():
    """Decimal numbers in the code of the chapter are drawing, never errors."""
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    for paper in PAPER.values():
        assert all(f"{error:.2f}" not in code for error in paper)
    prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    published = prose.index("| network | He et al.")
    for row in prose[published : prose.index("digit for digit")].splitlines()[2:]:
        name = row.split("|")[1].strip().lower() if "|" in row else ""
        if (name, "cifar10") in PAPER:
            cells_ = [cell.strip() for cell in row.split("|")[4:6]]
            assert cells_ == [f"{error:.2f}" for error in PAPER[name, "cifar10"]]
