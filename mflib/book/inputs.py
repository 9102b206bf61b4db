"""Inputs: what a chapter's result depends on, as one digest."""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import provenance
from ..claims import ClaimError, register
from .chapters import Chapter, ChapterError, code_cells, library

__all__ = ["fingerprint", "fingerprints", "imported", "sources"]

#: Libraries whose versions always count.
_ALWAYS = ("torch", "numpy", "scipy")


def _parsed(source: str) -> list[ast.AST]:
    """Return the syntax trees of a cell; none where it is no Python, which its run will say.

    Magics are followed: what ``%time`` or ``%%capture`` is given is Python too.
    """
    try:
        return [ast.parse(source)]
    except (SyntaxError, ValueError):
        pass
    try:
        from IPython.core.inputtransformer2 import TransformerManager

        tree = ast.parse(TransformerManager().transform_cell(source))
    except (SyntaxError, ValueError):
        return []
    trees: list[ast.AST] = [tree]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "").startswith("run_"):
            for word in node.args[1:]:
                if isinstance(word, ast.Constant) and isinstance(word.value, str):
                    trees += _parsed(word.value) if word.value.strip() != source.strip() else []
    return trees


def _nodes(tree: ast.AST, all_of_them: bool) -> Iterator[ast.AST]:
    """Yield the statements of a tree, or, which takes ten times longer, every node."""
    if all_of_them:
        yield from ast.walk(tree)
        return
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            todo += getattr(node, part, ())


@lru_cache(maxsize=1024)
def imported(source: str, package: tuple[str, ...] = ()) -> frozenset[str]:
    """Return the modules that a piece of Python, in a package, may import.

    ``from a import b`` counts as a and a.b; imports inside functions count, and so does
    ``import_module("a")``.
    """
    if "import" not in source:
        return frozenset()
    found = set()
    calls = "import_module" in source or "__import__" in source
    for node in (node for tree in _parsed(source) for node in _nodes(tree, calls)):
        if isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            word = getattr(node.args[0], "value", None)
            if name in ("import_module", "__import__") and isinstance(word, str):
                found.add(word)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return frozenset(found - {""})


def sources(chapter: Chapter) -> tuple[list[Path], set[str]]:
    """Return the files that a chapter imports, directly or not, and the libraries beside.

    The files are those of the checkout (``mflib``, or a module beside it), as the kernel
    finds them; the libraries are the top-level names of everything else.
    """
    root = chapter.path.parents[1]
    todo = {name for cell in code_cells(chapter) for name in imported(cell["source"])}
    files: dict[Path, None] = {}
    seen, names = set(), set()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        first, *rest = module.split(".")
        home = library(root) if first == "mflib" else root
        if not ((home / first / "__init__.py").is_file() or (home / f"{first}.py").is_file()):
            names.add(first)
            continue
        # a package's own file runs before what lies in it
        for depth in range(1, len(rest) + 2):
            where = home.joinpath(first, *rest[: depth - 1])
            for file in (where.with_name(f"{where.name}.py"), where / "__init__.py"):
                if file.is_file() and file not in files:
                    files[file] = None
                    package = file.parent.relative_to(home).parts
                    todo |= imported(file.read_text("utf-8"), package)
    return sorted(files), names - set(sys.stdlib_module_names)


@lru_cache(maxsize=1)
def _distributions() -> dict[str, list[str]]:
    return {name: sorted(set(of)) for name, of in metadata.packages_distributions().items()}


def _rows(chapter: Chapter, cells: list[dict[str, Any]]) -> list[register.Entry]:
    """Return the rows of the register whose identifiers the chapter's code names."""
    try:
        entries = register.read(register.find(chapter.path.parent))
    except ClaimError as error:
        raise ChapterError(str(error)) from None
    code = "\n".join(cell["source"] for cell in cells)
    return [row for id, row in entries.items() if f'"{id}"' in code or f"'{id}'" in code]


def fingerprints(chapter: Chapter, given: Iterable[dict[str, Any]]) -> list[str]:
    """Return :func:`fingerprint` for several sets of parameters, with one look at the files."""
    known, facts = _base(chapter)
    found = []
    for some in given:
        digest = known.copy()
        digest.update(json.dumps([sorted(some.items()), *facts]).encode())
        found.append(digest.hexdigest())
    return found


def fingerprint(chapter: Chapter, given: dict[str, Any]) -> str:
    """Return a digest of everything a chapter's result depends on.

    That is its code and prose, the modules that the kernel imports, directly or not, the
    committed records that they read (``book/records/X`` belongs to ``mflib.X.records``),
    the register's rows of its claims, the parameters, and the versions of Python, torch,
    numpy, scipy and of every library that it or those modules import.

    Parameters
    ----------
    chapter : Chapter
        The chapter.
    given : dict
        The parameters it is run with.

    Raises
    ------
    ChapterError
        If the chapter cannot be read.
    """
    return fingerprints(chapter, [given])[0]


def _base(chapter: Chapter) -> tuple[Any, list[Any]]:
    """Return the digest of the files, and the facts, as they are without parameters."""
    cells = code_cells(chapter)
    root = chapter.path.parents[1]
    files, names = sources(chapter)
    home, kept = library(root), root / "book" / "records"
    digest = hashlib.sha256(chapter.path.read_bytes())
    for file in files:
        base = home if file.is_relative_to(home) else root
        digest.update(file.relative_to(base).as_posix().encode() + file.read_bytes())
        if file.name == "records.py":
            for record in sorted((kept / file.parent.name).rglob("*.json")):
                digest.update(record.name.encode() + record.read_bytes())
    known = {of for name in names for of in _distributions().get(name, ())}
    versions = provenance.versions(*sorted(known | set(_ALWAYS)))
    return digest, [sorted(versions.items()), _rows(chapter, cells)]
