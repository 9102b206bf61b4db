"""The rooms of the house: who may import whom, read from the sources."""

from __future__ import annotations

import ast
import json
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mflib"
PAPERS = {"lu2020", "fang2021", "chen2024", "teacher_student", "beyond"}
#: Rooms that are no mathematics, and the top-level modules that serve every room.
MACHINERY = {"claims", "book", "cifar"}
NEUTRAL = {"provenance", "workers"}
#: Arrows that are on their way out; an entry without its arrow fails too.
LEAVING: set[tuple[str, str]] = set()
#: From top-level mathematics, low to high; a module may import what stands before it.
ALLOWED = {
    "top": {"top"},
    "paper": {"top"},  # and its own room
    "claims": NEUTRAL,
    "book": {"claims"} | NEUTRAL,
    "cifar": {"claims"} | NEUTRAL,
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(source: str, package: str | None) -> set[str]:
    """Return the modules of mflib that a source imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join(parts[: len(parts) - node.level + 1] + ([base] if base else []))
            found |= {f"{base}.{alias.name}" for alias in node.names} | {base}
    return {name for name in found if name in SOURCES and name != "mflib"}


@cache
def graph() -> dict[str, set[str]]:
    arrows = {}
    for name, path in SOURCES.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        arrows[name] = imported(path.read_text("utf-8"), package) - {name}
    return arrows


def room(name: str) -> str:
    """Return the paper or machinery that a module belongs to, ``top`` or ``provenance``."""
    parts = name.split(".")
    if len(parts) > 2 or (len(parts) == 2 and parts[1] in PAPERS | MACHINERY):
        return parts[1]
    return parts[1] if len(parts) == 2 and parts[1] in NEUTRAL else "top"


def arrows():
    return [(a, b) for a, targets in graph().items() for b in targets]


def test_the_graph_sees_the_arrows_that_are_there():
    assert "mflib.ode" in graph()["mflib.problem"]
    assert "mflib.problem" in graph()["mflib.lu2020.wasserstein_flow"]
    assert {room(name) for name in SOURCES} >= {"top", "lu2020", "chen2024", "claims", "book"}


def test_no_arrow_leads_up_or_into_the_room_of_another_paper():
    wrong = []
    for a, b in arrows():
        here, there = room(a), room(b)
        if a in ("mflib", "mflib.__main__", "mflib.book.cli"):  # faces of the command line
            continue
        kind = "paper" if here in PAPERS else here
        if here != there and there not in ALLOWED.get(kind, set()) and (a, b) not in LEAVING:
            wrong.append(f"{a} imports {b}")
    assert not wrong, "\n".join(wrong)
    assert LEAVING <= set(arrows()), "has left: empty LEAVING"


def test_there_is_no_circle():
    state: dict[str, int] = {}

    def visit(name: str, way: tuple[str, ...]) -> None:
        if state.get(name) == 2:
            return
        assert state.get(name) != 1, " -> ".join((*way, name))
        state[name] = 1
        for target in sorted(graph()[name]):
            # a package's face is not what its modules need
            if not name.startswith(f"{target}."):
                visit(target, (*way, name))
        state[name] = 2

    for name in graph():
        visit(name, ())


@cache
def reached() -> set[str]:
    """Every module that a chapter reaches, directly or through others."""
    todo = set()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        for cell in cells:
            if cell["cell_type"] == "code":
                todo |= imported("".join(cell["source"]), None)
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        seen.add(name)
        todo |= graph()[name] - seen
    return seen


@pytest.mark.parametrize("paper", sorted(PAPERS))
def test_a_chapter_reaches_every_module_of_a_paper(paper):
    modules = {
        name
        for name, path in SOURCES.items()
        if name.startswith(f"mflib.{paper}.") and path.name != "__init__.py"
    }
    assert modules <= reached(), sorted(modules - reached())


def test_a_face_of_a_paper_exports_nothing():
    """Fingerprints follow imports: a face with content would make every chapter stale."""
    for paper in PAPERS:
        face = PACKAGE / paper / "__init__.py"
        if face.exists():
            body = ast.parse(face.read_text("utf-8")).body
            assert all(isinstance(node, ast.Expr) for node in body), face
