"""The chapter with records and without: the claim follows them, whichever way."""

import json
from pathlib import Path

import matplotlib
from conftest import ROOT
from test_cifar_train import finish, make

from mflib.cifar import recipe, records
from mflib.cifar.recipe import PAPER

matplotlib.use("Agg")


def chapter(folder):
    """Run the chapter's code with the smallest live part; return its variables."""
    text = (ROOT / "notebooks" / "cifar_table.ipynb").read_text("utf-8")
    scope = {"__name__": "chapter"}
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            exec(source.replace('"quick": (3, 8)', '"quick": (1, 1)'), scope)
            if "parameters" in cell["metadata"].get("tags", ()):
                scope |= {"records": str(folder), "blocks": 3, "width": 8}
    scope["plt"].close("all")
    return scope


def write(folder, rows, shift, seeds=8):
    """Full records with made-up errors; everything else from a small run."""
    model = records.describe(finish(make("mean-field")))
    for net, _ in rows:
        for seed in range(seeds):
            for how in ("vanilla", "mean-field"):
                cfg = recipe.config(net, how, seed)
                error = 8.0 + 0.03 * (seed % 3) - (shift + 0.01 * seed) * (how != "vanilla")
                final = model["final"] | {"test_error": error, "best_error": error}
                made = model | {"config": vars(cfg), "name": cfg.name, "reduced": False,
                                "final": final}
                (folder / f"{cfg.name}.json").write_text(json.dumps(made))


def rows_of(scope):
    return [check.verdict for check in scope["rows"].values()]


def test_without_records_every_row_is_not_run_and_the_claim_undecided(tmp_path):
    scope = chapter(tmp_path)
    assert rows_of(scope) == ["not run"] * 8
    claim = scope["claim"]
    assert claim.verdict == "inconclusive" and len(claim.controls) == 2
    assert scope["uniform"].verdict == scope["swap"].verdict == "verified"
    assert all(control.flipped for control in claim.controls)


def test_the_verdicts_follow_the_records(tmp_path):
    write(tmp_path, PAPER, 0.5)
    write(tmp_path, list(PAPER)[1:2], -0.5)
    scope = chapter(tmp_path)
    assert rows_of(scope) == ["verified", "refuted", *["verified"] * 6]
    assert scope["claim"].verdict == "refuted"


def test_two_pairs_decide_nothing(tmp_path):
    write(tmp_path, list(PAPER)[:1], 0.5, seeds=2)
    scope = chapter(tmp_path)
    assert rows_of(scope) == ["inconclusive", *["not run"] * 7]
    assert scope["claim"].verdict == "inconclusive"


def test_the_chapter_types_in_no_result():
    """Decimal numbers in the code of the chapter are drawing, never errors."""
    text = Path(ROOT / "notebooks" / "cifar_table.ipynb").read_text("utf-8")
    code = "\n".join("".join(c["source"]) for c in json.loads(text)["cells"]
                     if c["cell_type"] == "code")
    for paper in PAPER.values():
        assert all(f"{error:.2f}" not in code for error in paper)
