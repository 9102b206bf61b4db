"""A new chapter: a notebook of the book's shape that runs as it is and claims nothing yet.

Whatever is to be measured is NaN at first, so that every claim of a fresh chapter is
inconclusive, never verified by a stand-in.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import provenance
from ..claims import KINDS, ClaimError, register
from .chapters import ChapterError, discover
from .portable import needs

__all__ = ["new"]

#: The code of each kind: constructor, what is measured, and the picture.
_CODE = {
    "rate": (
        'Rate("the error, in words", slope=-1.0, over="n", competing=-0.5)',
        """sizes = [16, 32, 64, 128]


def errors(broken=False):  # yours: (seeds, sizes), both cases in one code
    return torch.full((24, len(sizes)), math.nan, dtype=torch.float64)


rate.measure(sizes, errors())
rate.control(
    "what is done instead", broke="the hypothesis that this breaks",
).measure(sizes, errors(broken=True))""",
        'figures.rate(ax, rate)\nax.set(xlabel="the size $n$", ylabel="the error")',
    ),
    "identity": (
        'Identity("left = right, in words", tolerance=1e-12)',
        """def sides(broken=False):  # yours: left and right, one shape
    left, right = torch.full((2, 24), math.nan, dtype=torch.float64)
    return left, right


identity.measure(*sides())
identity.control(
    "what is done instead", broke="the hypothesis that this breaks",
).measure(*sides(broken=True))""",
        'figures.identity(ax, identity)\nax.set(xlabel="right side", ylabel="left side")',
    ),
    "bound": (
        'Bound("left <= right, in words")',
        """def both(broken=False):  # yours: left and right of every trial
    left, right = torch.full((2, 24), math.nan, dtype=torch.float64)
    return left, right


bound.measure(*both())
bound.control(
    "what is done instead", broke="the hypothesis that this breaks",
).measure(*both(broken=True))""",
        'figures.bound(ax, bound)\nax.set(xlabel="right side", ylabel="left side")',
    ),
    "limit": (
        'Limit("the quantity, in words", value=1.0, tolerance=0.05)',
        """def values(broken=False):  # yours: one number a seed
    return torch.full((24,), math.nan, dtype=torch.float64)


limit.measure(values())
limit.control(
    "what is done instead", broke="the hypothesis that this breaks",
).measure(values(broken=True))""",
        'figures.limit(ax, limit)\nax.set(xlabel="the quantity")',
    ),
    "counterexample": (
        'Counterexample(\n    "the instance, in words", "the sentence, left <= right", "<=")',
        """def instance(restored=False):  # yours: left and right, two numbers
    return math.nan, math.nan


sentence.measure(*instance())
sentence.control(
    "what is done instead", broke="restored: the missing hypothesis",
).measure(*instance(restored=True))""",
        '# yours: the smallest picture that shows the instance\nax.set(xlabel="in words")',
    ),
    "reproduction": (
        'Reproduction("the quantity, in words", ">", value=0.0)',
        """def differences(broken=False):  # yours: one number a seed
    return torch.full((24,), math.nan, dtype=torch.float64)


question.measure(differences())
question.control(
    "what is done instead", broke="the hypothesis that this breaks",
).measure(differences(broken=True))""",
        'figures.limit(ax, question)\nax.set(xlabel="the quantity")',
    ),
}

#: The sentence of a claim that stands in no register.
_OWN = "Yours, in one sentence."

_NAMES = {"counterexample": "sentence", "reproduction": "question"}

#: The kind of box that a place in a paper asks for; else a proposition.
_BOXES = ("Theorem", "Lemma", "Proposition", "Corollary", "Definition", "Remark", "Algorithm")


def new(root: Path, name: str, paper: str, ids: Sequence[str], kind: str = "identity") -> Path:
    """Write a chapter from the template, into the table of contents and the register.

    Parameters
    ----------
    root : Path
        The checkout.
    name : str
        The chapter's name: small letters, digits and underscores.
    paper : str
        The paper's bib key.
    ids : sequence of str
        The claims, of that paper; ``X-`` claims bring their texts, which are to be filled in.
    kind : str
        The kind of the ``X-`` claims.

    Returns
    -------
    Path
        The notebook.

    Raises
    ------
    ChapterError
        If the name is taken or no name, a claim is unknown, of another paper, or stands in
        another chapter; nothing is written then.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ChapterError(f"CHAPTER {name!r}: use small letters, digits and underscores")
    if not ids or len(set(ids)) < len(ids):
        raise ChapterError("--claims: name at least one claim, and each once")
    path, toc = root / "notebooks" / f"{name}.ipynb", root / "_toc.yml"
    if path.exists():
        raise ChapterError(f"{path}: is there already; choose another name")
    rows = [_row(root, name, paper, id, kind) for id in ids]
    contents = _listed(toc.read_text("utf-8"), name, paper)
    text = _registered(root / "book" / "claims.csv", name, ids)
    provenance.write(path, _notebook(name, rows))
    provenance.write(toc, contents)
    if text is not None:
        provenance.write(root / "book" / "claims.csv", text)
    return path


def _row(root: Path, name: str, paper: str, id: str, kind: str) -> register.Entry:
    """Return the row of a claim of the new chapter, or say why it cannot be one."""
    table = register.find(root)
    try:
        entries = register.read(table)
    except ClaimError as error:
        raise ChapterError(str(error)) from None
    papers = list(dict.fromkeys(row.paper for row in entries.values()))
    if paper not in papers:
        raise ChapterError(f"--paper {paper!r}: is none of {', '.join(papers)}")
    if id not in entries and id.startswith(register.PRIVATE):
        if kind not in KINDS:
            raise ChapterError(f"--kind {kind!r}: is none of {', '.join(KINDS)}")
        return register.Entry(id, paper, "beyond", kind, _OWN, "beyond", "")
    if id not in entries:
        raise ChapterError(
            f"--claims {id}: is not in {table}; add its row there first, or call it "
            f"{register.PRIVATE}... for a claim of your own"
        )
    row = entries[id]
    if row.paper != paper:
        raise ChapterError(f"--claims {id}: is a claim about {row.paper}, not {paper}")
    present = {chapter.name for chapter in discover(root)}
    if row.chapter in present and row.chapter != name:
        raise ChapterError(f"--claims {id}: stands in the chapter {row.chapter}")
    return row


def _registered(table: Path, name: str, ids: Sequence[str]) -> str | None:
    """Return the register with the chapter's name in its rows; None if nothing changes."""
    if not table.is_file():
        if all(id.startswith(register.PRIVATE) for id in ids):
            return None
        raise ChapterError(f"{table}: this checkout has no register; only X- claims can be made")
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    changed = [row for row in rows if row[0] in ids and row[-1] != name]
    for row in changed:
        row[-1] = name
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue() if changed else None


def _listed(toc: str, name: str, paper: str) -> str:
    """Return the table of contents with the chapter at the end of its paper's part."""
    lines = toc.splitlines()
    starts = [i for i, line in enumerate(lines) if re.match(r"\s*- caption:", line)]
    if not starts:
        raise ChapterError("_toc.yml: has no parts (- caption: ...); add the chapter by hand")
    entry = f"      - file: notebooks/{name}"
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        part = lines[start:end]
        if any(re.search(rf"file:\s*book/{re.escape(paper)}\s*$", line) for line in part):
            last = max(i for i, line in enumerate(part) if "file:" in line)
            lines.insert(start + last + 1, entry)
            break
    else:  # the paper's first chapter: a part of its own, before the last one
        lines[starts[-1] : starts[-1]] = [f"  - caption: {paper}", "    chapters:", entry]
    return "\n".join(lines) + "\n"


def _notebook(name: str, rows: Sequence[register.Entry]) -> str:
    cells = [
        _prose(
            f"# {name.replace('_', ' ').capitalize()}\n\n"
            "*Yours: the phenomenon in three sentences, for a reader who meets the subject; then a "
            "picture.*\n\n"
            ":::{admonition} At a glance\n:class: tip glance\n"
            "**Needed first:** *yours: what one must know, with links.*\n\n"
            "**To remember:** *yours: one sentence.*\n:::"
        ),
        _code(
            "seed: int = 0  # every random number of the chapter follows from it\n"
            'preset: str = "quick"  # quick | full: more seeds',
            "parameters",
        ),
        _code(_imports(rows), "hide-input"),
        _code("generator = begin(seed)", "hide-input"),
    ]
    for row in rows:
        cells += _section(row)
    cells.append(
        _prose(
            "## What this teaches, and what it does not\n\n"
            "*Yours: what breaks the statements, and what they do not say.*\n\n"
            "## Exercises\n\n"
            "1. *(easy, 10 minutes)* *Yours: change one parameter and predict what happens.*\n\n"
            ":::{dropdown} Solution\n*Yours.*\n:::"
        )
    )
    for number, cell in enumerate(cells):
        cell["id"] = f"{name.replace('_', '-')[:50]}-{number:02}"
    cells.insert(1, needs())
    return (
        json.dumps(
            {
                "cells": cells,
                "metadata": {
                    "kernelspec": {
                        "display_name": "Python 3",
                        "language": "python",
                        "name": "python3",
                    },
                    "language_info": {"name": "python"},
                },
                "nbformat": 4,
                "nbformat_minor": 5,
            },
            indent=1,
            ensure_ascii=False,
        )
        + "\n"
    )


def _imports(rows: Sequence[register.Entry]) -> str:
    kinds = sorted({"Claim"} | {row.kind.capitalize() for row in rows})
    names = f"from mflib.claims import {', '.join(kinds)}"
    if len(names) > 79:
        names = "from mflib.claims import (\n" + "".join(f"    {k},\n" for k in kinds) + ")"
    torch = any(row.kind != "counterexample" for row in rows)
    return (
        "import math\n\nimport matplotlib.pyplot as plt\n"
        + "import torch\n" * torch
        + "\nfrom mflib.book import figures\nfrom mflib.book.notebook import begin\n"
        + names
    )


def _section(row: register.Entry) -> list[dict[str, Any]]:
    """Return the cells of one claim: statement, prediction, measurement, figure, card."""
    constructor, measurement, picture = _CODE[row.kind]
    variable = _NAMES.get(row.kind, row.kind)
    given = ", seed=seed"
    if row.statement == _OWN:
        given += (
            f', paper="{row.paper}",\n    where="{row.where}", kind="{row.kind}",\n'
            f'    statement="{row.statement}"'
        )
    anchor = row.id.lower()
    statement = (
        f"(claim-{anchor})=\n## {row.where}\n\n"
        f":::{{prf:{_box(row)}}} {{cite}}`{row.paper}`, {row.where}\n:label: stm-{anchor}\n"
        f"{row.statement}\n:::\n\n"
        "**Why it should be true.** *Yours: three to six plain sentences.*\n\n"
        "**Prediction.** *Yours: the number and its tolerance, before anything is measured.* "
        "**Control.**\n*Yours: the hypothesis that is broken, and what happens then.*"
    )
    figure = {
        "caption": "Yours: what is drawn, over how many seeds; dashed, the prediction.",
        "name": f"fig-{anchor}",
    }
    return [
        _prose(statement),
        _code(
            f'claim = Claim("{row.id}"{given})\n{variable} = claim.predict(\n'
            + "".join(f"    {line}\n" for line in constructor.splitlines())
            + ")"
        ),
        _code(measurement),
        _code(
            f"fig, ax = plt.subplots()\n{picture}\nax.legend();",
            "hide-input",
            mystnb={"figure": figure},
        ),
        _code("claim", "remove-input"),
    ]


def _box(row: register.Entry) -> str:
    if row.origin in ("reading", "informal remark"):
        return "remark"
    return next((box.lower() for box in _BOXES if row.where.startswith(box)), "proposition")


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _prose(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": "", "metadata": {}, "source": _lines(text)}


def _code(text: str, *tags: str, **metadata: Any) -> dict[str, Any]:
    if tags:
        metadata["tags"] = list(tags)
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": "",
        "metadata": metadata,
        "outputs": [],
        "source": _lines(text),
    }
