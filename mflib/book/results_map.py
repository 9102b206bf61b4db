"""The map of results: a picture of who rests on whom, and a list that says the same."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable
from typing import Any

from ..claims import card
from . import badges
from .implications import RELATIONS, Arrow, hypothesis, layers, ordered
from .tables import address

__all__ = ["drawing", "listing"]

#: Size of a box and the gaps between boxes, in pixels.
_WIDE, _HIGH, _ACROSS, _DOWN = 122, 42, 28, 12


def _words(node: str, claims: dict[str, dict[str, Any]]) -> tuple[str, str, str]:
    """Return the two lines in a node's box and its tone."""
    if hypothesis(node):
        first, _, second = node.split(": ", 1)[1].partition(", ")
        return first, second, "given"
    sign, word = badges.of(claims[node])
    return f"{sign} {node}", claims[node]["where"], badges.tone(word)


def _said(node: str, claims: dict[str, dict[str, Any]]) -> str:
    """Return a node in words."""
    if hypothesis(node):
        return node.split(": ", 1)[1]
    return f"{node} ({claims[node]['where']}), {badges.of(claims[node])[1]}"


def drawing(
    arrows: list[Arrow],
    claims: dict[str, dict[str, Any]],
    link: Callable[[dict[str, Any]], str],
    title: str,
) -> str:
    """Return the map of one paper as SVG: boxes that are links, arrows to what rests on them.

    Parameters
    ----------
    arrows : list of Arrow
        All of one paper.
    claims : dict
        Records, measured or planned, by identifier.
    link : callable
        Returns the address of the place where a claim is argued.
    title : str
        What the picture shows.
    """
    columns = ordered(arrows)
    height = max(map(len, columns)) * (_HIGH + _DOWN) + _DOWN
    width = len(columns) * (_WIDE + _ACROSS) - _ACROSS + 4
    place: dict[str, tuple[float, float]] = {}
    for i, column in enumerate(columns):
        step = min(height / len(column), 1.8 * (_HIGH + _DOWN))
        top = (height - step * len(column)) / 2
        for j, node in enumerate(column):
            place[node] = (2 + i * (_WIDE + _ACROSS), top + (j + 0.5) * step - _HIGH / 2)
    lines = "".join(_line(arrow, place) for arrow in arrows)
    boxes = "".join(_box(node, *place[node], claims, link) for node in layers(arrows))
    return (
        f'<div class="mf-map" tabindex="0" role="region" aria-label="{html.escape(title)}">'
        f'<svg viewBox="0 0 {width} {height:g}" width="{width}" height="{height:g}">'
        f"<title>{html.escape(title)}</title>"
        f'<g class="mf-arrows" aria-hidden="true">{lines}</g>{boxes}</svg></div>'
    )


def _line(arrow: Arrow, place: dict[str, tuple[float, float]]) -> str:
    (x0, y0), (x1, y1) = place[arrow.on], place[arrow.result]
    x0, y0, y1 = x0 + _WIDE, y0 + _HIGH / 2, y1 + _HIGH / 2
    bend = max(24.0, (x1 - x0) / 2)
    head = f"M{x1 - 7:g} {y1 - 4:g}L{x1:g} {y1:g}L{x1 - 7:g} {y1 + 4:g}"
    return (
        f'<path class="mf-{badges.slug(arrow.relation)}" '
        f'data-from="{html.escape(arrow.on)}" data-to="{html.escape(arrow.result)}" '
        f'd="M{x0:g} {y0:g}C{x0 + bend:g} {y0:g} {x1 - bend:g} {y1:g} {x1:g} {y1:g}{head}"/>'
    )


def _box(
    node: str,
    x: float,
    y: float,
    claims: dict[str, dict[str, Any]],
    link: Callable[[dict[str, Any]], str],
) -> str:
    first, second, tone = _words(node, claims)
    short = second
    if len(second) > 19:
        cut = textwrap.shorten(second, 18, placeholder="").rstrip(",/ ") or second[:18]
        short = f"{cut}…"
    inner = (
        f"<title>{html.escape(_said(node, claims))}</title>"
        f'<rect x="{x:g}" y="{y:g}" width="{_WIDE}" height="{_HIGH}" rx="6"/>'
        f'<text x="{x + 8:g}" y="{y + 18:g}">{html.escape(first)}</text>'
        f'<text class="mf-place" x="{x + 8:g}" y="{y + 35:g}">{html.escape(short)}</text>'
    )
    about = f'class="mf-node mf-{tone}" data-node="{html.escape(node)}"'
    if hypothesis(node):
        return f"<g {about}>{inner}</g>"
    return f'<a {about} href="{address(link(claims[node]))}">{inner}</a>'


def listing(
    arrows: list[Arrow],
    claims: dict[str, dict[str, Any]],
    link: Callable[[dict[str, Any]], str],
) -> str:
    """Return the same as a list: every claim, its verdict, and its arrows in words.

    Claims without an arrow stand at the end.

    Parameters
    ----------
    arrows, claims, link
        As in :func:`drawing`; claims are those of the paper alone.
    """
    height = layers(arrows)
    nodes = sorted(claims, key=lambda node: height.get(node, len(height)))
    items = []
    for node in nodes:
        sign, word = badges.of(claims[node])
        place = address(link(claims[node]))
        told = "".join(
            f"; {relation} " + ", ".join(_short(arrow.on, claims, link) for arrow in mine)
            for relation in RELATIONS
            if (mine := [a for a in arrows if a.result == node and a.relation == relation])
        )
        onward = [arrow.result for arrow in arrows if arrow.on == node]
        if onward:
            told += "; leads to " + ", ".join(_short(next_, claims, link) for next_ in onward)
        items.append(
            f'<li class="mf-{badges.tone(word)}"><a href="{place}">{html.escape(node)}</a> '
            f"({card.mathematics(claims[node]['where'])}), "
            f'<span class="mf-badge">{sign} {html.escape(word)}</span>'
            f"{told or '; stands alone'}.</li>"
        )
    return f'<ul class="mf-list">{"".join(items)}</ul>'


def _short(
    node: str, claims: dict[str, dict[str, Any]], link: Callable[[dict[str, Any]], str]
) -> str:
    if hypothesis(node):
        return html.escape(node.split(": ", 1)[1])
    return f'<a href="{address(link(claims[node]))}">{html.escape(node)}</a>'
