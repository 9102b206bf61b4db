"""The committed notebooks as data: no outputs, fixed style, every one in the book."""

import ast
import json
import re

import pytest
import yaml
from conftest import ROOT

from mflib.book import inputs
from mflib.book.portable import needs

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: p.stem)
def cells(request):
    return json.loads(request.param.read_text("utf-8"))["cells"]


def code(cells):
    return [c for c in cells if c["cell_type"] == "code"]


def test_no_outputs_and_no_execution_counts(cells):
    for cell in code(cells):
        assert cell["outputs"] == [] and cell["execution_count"] is None


def test_the_code_of_a_figure_is_folded_behind_it(cells):
    for cell in code(cells):
        if "figure" in cell["metadata"].get("mystnb", {}):
            assert "hide-input" in cell["metadata"].get("tags", ()), cell["source"][0]


def test_the_first_code_says_what_to_install_where_the_library_is_missing(cells):
    assert code(cells)[0] == needs()


def test_cells_are_short_and_narrow(cells):
    for cell in code(cells):
        lines = "".join(cell["source"]).splitlines()
        assert len(lines) <= 30, lines[0]
        for line in lines:
            assert len(line) <= 79, line


def test_functions_live_in_the_library(cells):
    for cell in code(cells):
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                assert node.end_lineno - node.lineno <= 8, f"{node.name} belongs into mflib"


def test_parameters_are_typed_commented_and_begin_with_the_seed(cells):
    tagged = [c for c in code(cells) if "parameters" in c["metadata"].get("tags", ())]
    assert len(tagged) == 1
    lines = "".join(tagged[0]["source"]).splitlines()
    assert lines[0].startswith("seed: int = 0")
    assert any(line.startswith('preset: str = "quick"') for line in lines)
    for line in lines:
        assert re.match(r"\w+: \w+ = .+  # .+", line), line


def test_every_claim_has_its_anchor_and_is_shown(cells):
    prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    source = "\n".join("".join(c["source"]) for c in code(cells))
    ids = re.findall(r'Claim\(\s*"([^"]+)"', source)
    aside = any("no-claims" in c["metadata"].get("tags", ()) for c in code(cells))
    assert bool(ids) is not aside
    for name in ids:
        assert f"(claim-{name.lower()})=" in prose, name
    # each shown once, as the last expression of a cell
    shown = sum(
        "".join(c["source"]).rstrip().endswith("\nclaim") or "".join(c["source"]).strip() == "claim"
        for c in code(cells)
    )
    assert shown >= len(ids)


def test_there_are_exercises_and_figures_have_captions(cells):
    prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    assert "## Exercises" in prose or "{admonition} Exercise" in prose
    for cell in code(cells):
        if "plt.subplots" in "".join(cell["source"]):
            assert cell["metadata"].get("mystnb", {}).get("figure", {}).get("caption")


def test_every_notebook_is_in_the_table_of_contents_and_nothing_else_is():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = {c["file"] for part in toc["parts"] for c in part["chapters"]}
    assert {f for f in listed if f.startswith("notebooks/")} == {
        f"notebooks/{p.stem}" for p in NOTEBOOKS
    }
    for file in listed - {f"notebooks/{p.stem}" for p in NOTEBOOKS}:
        assert (ROOT / f"{file}.md").is_file()


def test_claims_are_given_once_over_all_notebooks():
    ids = [
        i
        for p in NOTEBOOKS
        for c in code(json.loads(p.read_text("utf-8"))["cells"])
        for i in re.findall(r'Claim\(\s*"([^"]+)"', "".join(c["source"]))
    ]
    assert len(ids) == len(set(ids))


def test_the_library_never_imports_a_notebook_and_claims_no_mathematics():
    for file in (ROOT / "mflib").rglob("*.py"):
        imported = inputs.imported(file.read_text("utf-8"))
        assert not any("notebooks" in name for name in imported)
        if file.parent.name == "claims":
            inside = inputs.imported(file.read_text("utf-8"), ("mflib", "claims"))
            for name in (name for name in inside if name.startswith("mflib.")):
                assert name.startswith(("mflib.claims", "mflib.provenance")), name
