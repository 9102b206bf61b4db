"""A new chapter: it runs as it is, claims nothing yet, and CONTRIBUTING's example holds."""

import json
import re
import shutil

import pytest
import yaml
from conftest import ROOT

from mflib.book import chapters, ledger, runner
from mflib.book.cli import main
from mflib.claims import KINDS, register

KEPT = ("_toc.yml", "book/claims.csv")
GUIDE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


@pytest.fixture
def house(tmp_path):
    """A checkout with the book's own table of contents and register, and no chapter."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book").mkdir()
    for name in KEPT:
        shutil.copy(ROOT / name, tmp_path / name)
    table = tmp_path / "book" / "claims.csv"
    lines = table.read_text("utf-8").splitlines()
    for k, line in enumerate(lines):  # two claims that no chapter has measured yet
        if line.startswith(("LU-E11,", "FANG-P1,")):
            lines[k] = line.rpartition(",")[0] + ","
    table.write_text("\n".join(lines) + "\n", "utf-8")
    return tmp_path


def new(house, *argv):
    return main(["--root", str(house), "new", *argv])


def cells(house, name):
    return json.loads((house / "notebooks" / f"{name}.ipynb").read_text("utf-8"))["cells"]


def one_of_each_kind():
    rows = register.read(ROOT / "book" / "claims.csv").values()
    return {
        kind: next(r for r in rows if r.kind == kind and r.paper == "chen2024") for kind in KINDS
    }


def test_a_new_chapter_of_every_kind_runs_and_is_inconclusive(house, capsys):
    rows = one_of_each_kind()
    table = house / "book" / "claims.csv"
    text = table.read_text("utf-8")
    for row in rows.values():  # as if no chapter had them
        text = re.sub(rf",{row.chapter}$", ",", text, flags=re.M)
    table.write_text(text, "utf-8")
    assert (
        new(
            house,
            "fresh",
            "--paper",
            "chen2024",
            "--claims",
            *[row.id for row in rows.values()],
            "X-1",
        )
        == 0
    )
    (result,) = runner.run(house)
    assert result.status == "done", result.message
    claims = ledger.ledger(house)["claims"]
    assert [claim["kind"] for claim in claims] == [*KINDS, "identity"]
    for claim in claims:
        assert claim["verdict"] == "inconclusive", claim["id"]
        assert "NaN" in claim["checks"][0]["reason"], claim["id"]
        assert len(claim["controls"]) == 1 and not claim["controls"][0]["flipped"]
    executed = json.loads((house / "_build" / "chapters" / "fresh.ipynb").read_text("utf-8"))
    pictures = [
        o
        for c in executed["cells"]
        for o in c.get("outputs", ())
        if "image/png" in o.get("data", {})
    ]
    assert len(pictures) == len(claims)
    capsys.readouterr()
    assert main(["--root", str(house), "ledger", "--check"]) == 1
    words = capsys.readouterr().err
    assert all(f"{claim['id']}: " in words for claim in claims)


def test_a_new_chapter_obeys_the_rules_of_the_committed_ones(house):
    """Those of test_notebooks.py, on the template."""
    assert new(house, "fresh", "--paper", "lu2020", "--claims", "LU-E11", "X-1") == 0
    code = [c for c in cells(house, "fresh") if c["cell_type"] == "code"]
    prose = "\n".join(
        "".join(c["source"]) for c in cells(house, "fresh") if c["cell_type"] == "markdown"
    )
    for cell in code:
        assert cell["outputs"] == [] and cell["execution_count"] is None
        lines = "".join(cell["source"]).splitlines()
        assert len(lines) <= 30 and max(map(len, lines)) <= 79
        if "figure" in cell["metadata"].get("mystnb", {}):
            assert "hide-input" in cell["metadata"]["tags"]
    assert "(claim-lu-e11)=" in prose and "(claim-x-1)=" in prose and "## Exercises" in prose
    assert list(chapters.parameters(chapters.discover(house)[0])) == ["seed", "preset"]
    ids = [cell["id"] for cell in cells(house, "fresh")]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[\w-]{1,64}", id) for id in ids)
    path = house / "notebooks" / "fresh.ipynb"
    again = json.dumps(json.loads(path.read_text("utf-8")), indent=1, ensure_ascii=False) + "\n"
    assert path.read_text("utf-8") == again


@pytest.mark.parametrize(("paper", "id"), [("lu2020", "LU-E11"), ("fang2021", "FANG-P1")])
def test_it_is_listed_in_its_papers_part_and_in_the_register(house, paper, id):
    before = {name: (house / name).read_text("utf-8") for name in KEPT}
    assert new(house, "fresh", "--paper", paper, "--claims", id) == 0
    toc = yaml.safe_load((house / "_toc.yml").read_text())
    old = yaml.safe_load(before["_toc.yml"])
    (part,) = (p for p in toc["parts"] if {"file": "notebooks/fresh"} in p["chapters"])
    assert part["chapters"][-1] == {"file": "notebooks/fresh"}
    files = [c["file"] for p in toc["parts"] for c in p["chapters"]]
    assert [f for f in files if f != "notebooks/fresh"] == [
        c["file"] for p in old["parts"] for c in p["chapters"]
    ]
    assert part["caption"] == paper or {"file": f"book/{paper}"} in part["chapters"]
    assert toc["parts"][-1] == old["parts"][-1]
    lines = (house / "book" / "claims.csv").read_text("utf-8").splitlines()
    changed = [
        (a, b) for a, b in zip(before["book/claims.csv"].splitlines(), lines, strict=True) if a != b
    ]
    ((was, now),) = changed
    assert now == was.rstrip(",") + ",fresh" and now.startswith(id)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["Fresh", "--paper", "lu2020", "--claims", "LU-E11"], "CHAPTER 'Fresh': use small"),
        (["../x", "--paper", "lu2020", "--claims", "LU-E11"], "CHAPTER '../x': use small"),
        (["fresh", "--paper", "lu2021", "--claims", "LU-E11"], "--paper 'lu2021': is none of"),
        (["fresh", "--paper", "lu2020", "--claims", "LU-0"], "LU-0: is not in .*X-"),
        (["fresh", "--paper", "lu2020", "--claims", "CHEN-T41"], "is a claim about chen2024"),
        (["fresh", "--paper", "lu2020", "--claims", "LU-E11", "LU-E11"], "each once"),
        (["there", "--paper", "lu2020", "--claims", "LU-E11"], "is there already"),
        (["fresh", "--paper", "lu2020", "--claims", "LU-T2"], "stands in the chapter adjoint"),
    ],
)
def test_a_wrong_order_is_refused_before_anything_is_written(house, capsys, argv, message):
    for name in ("there", "adjoint"):
        shutil.copy(ROOT / "notebooks" / "adjoint.ipynb", house / "notebooks" / f"{name}.ipynb")
    before = {p: p.read_bytes() for p in house.rglob("*") if p.is_file()}
    assert new(house, *argv) == 2
    assert re.search(message, capsys.readouterr().err)
    assert {p: p.read_bytes() for p in house.rglob("*") if p.is_file()} == before


def test_without_a_register_only_ones_own_claims_can_be_made(checkout, capsys):
    (checkout.root / "_toc.yml").write_bytes((ROOT / "_toc.yml").read_bytes())
    package = (ROOT / "mflib" / "claims" / "claims.csv").read_bytes()
    assert new(checkout.root, "fresh", "--paper", "lu2020", "--claims", "LU-E11") == 2
    assert "no register" in capsys.readouterr().err
    assert new(checkout.root, "fresh", "--paper", "lu2020", "--claims", "X-1") == 0
    assert (ROOT / "mflib" / "claims" / "claims.csv").read_bytes() == package


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_example_of_the_guide_is_verified_in_twenty_lines(house, monkeypatch, seed):
    monkeypatch.setenv("MFLIB_ROOT", str(house))
    import matplotlib

    matplotlib.use("Agg")
    row, example = blocks("text")[0], blocks("python")[0]
    with (house / "book" / "claims.csv").open("a", encoding="utf-8") as table:
        table.write(row)
    lines = [line for line in example.splitlines() if line.strip()]
    assert len(lines) <= 26 and max(map(len, lines)) <= 79
    names = {"seed": seed}
    exec(compile(example, "CONTRIBUTING.md", "exec"), names)
    claim = names["claim"]
    assert claim.verdict == "verified", claim
    assert all(control.flipped for control in claim.controls)


def test_the_commands_of_the_guide_are_the_real_ones(house):
    row = blocks("text")[0]
    with (house / "book" / "claims.csv").open("a", encoding="utf-8") as table:
        table.write(row)
    line = next(line for line in "\n".join(blocks("bash")).splitlines() if "mflib new" in line)
    argv = line.split("mflib ", 1)[1].split("#")[0].split()
    assert main(["--root", str(house), *argv]) == 0
    assert (house / "notebooks" / f"{argv[1]}.ipynb").is_file()
    entries = register.read(house / "book" / "claims.csv")
    assert entries[argv[-1]].chapter == argv[1]
