"""Which result rests on which: the arrows of the map, beside the register of claims."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..claims import ClaimError, register

__all__ = ["RELATIONS", "Arrow", "hypothesis", "layers", "ordered", "part_of", "read"]

#: What an arrow can say of the result at its head.
RELATIONS = {
    "rests on": "its proof, or its statement, uses",
    "repairs": "says what is true instead of",
    "limits": "shows where it stops, or that a reading of it fails:",
    "extends": "goes on from, sharpens, or measures more of",
}
_COLUMNS = ("result", "relation", "on")


class Arrow(NamedTuple):
    """One row: a claim, how it is related, and to which claim or hypothesis.

    Parameters
    ----------
    result : str
        A claim's identifier.
    relation : str
        One of ``RELATIONS``.
    on : str
        A claim's identifier, or a hypothesis as "lu2020: Assumption 1.3, universal kernel".
    """

    result: str
    relation: str
    on: str


def hypothesis(node: str) -> bool:
    """Say whether a node is a hypothesis of a paper, and no claim."""
    return ": " in node


def part_of(node: str, entries: dict[str, register.Entry]) -> str:
    """Return the part of the map that a node belongs to: the key of its paper, or "beyond".

    A paper of which only ``X-`` claims are taken up is no part of its own; what goes beyond
    the papers may lean on all of them.
    """
    if hypothesis(node):
        return node.split(": ")[0]
    paper = entries[node].paper
    own = any(e.paper == paper and not id.startswith("X-") for id, e in entries.items())
    return paper if own else "beyond"


def read(path: Path, entries: dict[str, register.Entry]) -> list[Arrow]:
    """Return the arrows of a table, checked against the register.

    Parameters
    ----------
    path : Path
        The table, ``book/implications.csv``.
    entries : dict
        The register, from :func:`mflib.claims.register.read`.

    Raises
    ------
    ClaimError
        If the table cannot be read, names an unknown claim, paper or relation, joins two
        parts other than "beyond", gives an arrow twice, or has a circle.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [tuple(row) for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ClaimError(f"{path}: cannot be read as a table of arrows ({error})") from None
    if not rows or rows[0] != _COLUMNS:
        raise ClaimError(f"{path}: the first line must be {','.join(_COLUMNS)}")
    papers = {entry.paper for entry in entries.values()}
    arrows: list[Arrow] = []
    for number, row in enumerate(rows[1:], start=2):
        where = f"{path}: row {number} ({', '.join(row)})"
        if len(row) != len(_COLUMNS) or row[1] not in RELATIONS:
            raise ClaimError(f"{where}: needs {', '.join(_COLUMNS)}; a relation is one of "
                             f"{', '.join(RELATIONS)}")  # fmt: skip
        arrow = Arrow(*row)
        for node in (arrow.result, arrow.on):
            known = node.split(": ")[0] in papers if hypothesis(node) else node in entries
            if not known:
                raise ClaimError(f"{where}: {node!r} is neither a claim of the register nor "
                                 "'paper: hypothesis'")  # fmt: skip
        part = part_of(arrow.result, entries)
        if part not in ("beyond", part_of(arrow.on, entries)):
            raise ClaimError(f"{where}: joins two papers")
        if any(arrow[::2] == other[::2] for other in arrows):
            raise ClaimError(f"{where}: stands there twice")
        arrows.append(arrow)
    layers(arrows)
    return arrows


def layers(arrows: Iterable[Arrow]) -> dict[str, int]:
    """Return each node's layer: 0 for what rests on nothing, else one above its highest ground.

    Raises
    ------
    ClaimError
        If the arrows have a circle.

    Examples
    --------
    >>> layers([Arrow("T", "rests on", "L"), Arrow("L", "rests on", "lu2020: A")])
    {'T': 2, 'L': 1, 'lu2020: A': 0}
    """
    grounds: dict[str, list[str]] = {}
    for arrow in arrows:
        grounds.setdefault(arrow.result, []).append(arrow.on)
        grounds.setdefault(arrow.on, [])
    height: dict[str, int] = {}
    left = dict(grounds)
    while left:
        ready = [node for node, on in left.items() if all(ground in height for ground in on)]
        if not ready:
            raise ClaimError(f"the arrows among {', '.join(sorted(left))} go round in a circle")
        for node in ready:
            height[node] = max((height[ground] + 1 for ground in left.pop(node)), default=0)
    return {node: height[node] for node in grounds}


def ordered(arrows: list[Arrow], rounds: int = 8) -> list[list[str]]:
    """Return the nodes layer by layer, each layer in an order with few crossings.

    The order is by the mean place of a node's neighbours, swept forth and back.
    """
    height = layers(arrows)
    found = [[n for n in height if height[n] == level] for level in sorted(set(height.values()))]
    neighbours: dict[str, list[str]] = {node: [] for node in height}
    for arrow in arrows:
        neighbours[arrow.result].append(arrow.on)
        neighbours[arrow.on].append(arrow.result)
    for sweep in range(rounds):
        place = {node: i / len(layer) for layer in found for i, node in enumerate(layer)}
        for layer in found if sweep % 2 else found[::-1]:
            mean = {
                node: sum(place[n] for n in neighbours[node]) / len(neighbours[node])
                for node in layer
            }
            layer.sort(key=mean.__getitem__)
            place |= {node: i / len(layer) for i, node in enumerate(layer)}
    return found
