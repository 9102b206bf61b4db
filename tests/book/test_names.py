"""A chapter's names: none is bound again to another kind of thing, so a section can be rerun."""

import ast
import json

import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


class Bindings(ast.NodeVisitor):
    """Collects what a cell binds at its own level, as (name, kind of thing)."""

    def __init__(self):
        self.found = []

    def bind(self, target, kind):
        if isinstance(target, ast.Name):
            self.found.append((target.id, kind))
        elif isinstance(target, (ast.Tuple, ast.List)):
            for each in target.elts:
                self.bind(each.value if isinstance(each, ast.Starred) else each, "value")

    def visit_FunctionDef(self, node):
        self.found.append((node.name, "function"))

    def visit_Import(self, node):
        self.found += [(a.asname or a.name.split(".")[0], "import") for a in node.names]

    visit_ImportFrom = visit_Import

    def visit_Assign(self, node):
        for target in node.targets:
            self.bind(target, kind(node.value))

    def visit_For(self, node):
        self.bind(node.target, "value")
        for each in (*node.body, *node.orelse):
            self.visit(each)

    def ignore(self, node):
        pass

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_Lambda = ignore


def kind(value):
    """Return what an expression makes: a claim, a check of a kind, a function, or a value."""
    if isinstance(value, ast.Lambda):
        return "function"
    if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "Claim":
        return "claim"
    made = sorted(
        {
            getattr(call.args[0].func, "id", "?")
            for call in ast.walk(value)
            if isinstance(call, ast.Call)
            and getattr(call.func, "attr", "") in ("predict", "premise")
            and call.args
            and isinstance(call.args[0], ast.Call)
        }
    )
    if made:
        return "check " + ", ".join(made) + ("" if isinstance(value, ast.Call) else ", several")
    return "value"


def rebound(sources):
    """Return the names that cells bind to more than one kind of thing, with the kinds."""
    kinds = {}
    for source in sources:
        visitor = Bindings()
        visitor.visit(ast.parse(source))
        for name, made in visitor.found:
            kinds.setdefault(name, set()).add(made)
    return {name: made for name, made in kinds.items() if len(made) > 1}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_name_is_bound_again_to_another_kind_of_thing(notebook):
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    assert rebound("".join(c["source"]) for c in cells if c["cell_type"] == "code") == {}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("def gap(x):\n    return x", "gap = 1"),
        ("half = claim.predict(Bound('a'))", "for half in (1, 2):\n    pass"),
        ("rate = claim.predict(Rate('a', 1.0))", "rate = claim.predict(Bound('b'))"),
        ("from mflib.ode import flow", "flow = Flow()"),
        ("claim = Claim('X-1')", "claim = 3"),
        ("rows = {k: claim.predict(Rate(k, 1.0)) for k in 'ab'}", "rows, x = [], 1"),
    ],
)
def test_what_the_test_would_see(first, second):
    assert len(rebound([first, second])) == 1
    assert rebound([first, first]) == {} == rebound(["x = [gap for gap in y]", "x = 2"])
