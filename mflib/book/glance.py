"""The box at the head of a chapter: how long it takes, and how its claims came out.

A chapter says what is needed first and what to remember, in an admonition of class
``glance``; minutes, seconds, claims and badges are computed and put below these words.
"""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import quote

from . import badges

__all__ = ["facts", "minutes"]

#: Words a minute; seconds for a displayed formula, a figure, a card and a line of code.
_WORDS, _DISPLAY, _FIGURE, _CARD, _LINE = 180, 15, 20, 30, 2

_FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell", "parameters"}


def minutes(cells: list[dict[str, Any]]) -> int:
    """Return the minutes that the main text of a chapter takes to read.

    Counted are words (a formula within a line is one), displayed formulas, figures, the
    cards of claims and lines of code in view; not the exercises, nor what is folded.

    Parameters
    ----------
    cells : list of dict
        As :func:`mflib.book.chapters.load` gives them.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> minutes([{"cell_type": "markdown", "source": "word " * 900, "tags": []}])
    5
    """
    words = displays = figures = cards = lines = 0
    for cell in cells:
        text = cell["source"]
        if cell["cell_type"] == "code":
            figures += "plt.subplots" in text or "slider(" in text
            cards += text.strip().splitlines()[-1:] == ["claim"]
            folded = bool(_FOLDED & set(cell["tags"]))
            lines += 0 if folded else sum(bool(line.strip()) for line in text.splitlines())
            continue
        text, *exercises = re.split(r"^## Exercises", text, flags=re.MULTILINE)
        text = re.sub(r"^(:{3,})\{dropdown\}.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
        text, shown = re.subn(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
        text = re.sub(r"\$[^$]+\$", "x", text)
        words, displays = words + len(re.findall(r"\w[\w'-]*", text)), displays + shown
        if exercises:
            break
    spent = words * 60 / _WORDS + displays * _DISPLAY + lines * _LINE
    return max(1, round((spent + figures * _FIGURE + cards * _CARD) / 60))


def facts(read: int, seconds: float | None, claims: list[dict[str, Any]]) -> str:
    """Return what is computed of a chapter, as HTML.

    Parameters
    ----------
    read : int
        Minutes to read.
    seconds : float or None
        What the run took whose results the page shows; None if it was not noted.
    claims : list of dict
        The records of its claims.
    """
    took = f"about {read} minutes to read"
    if seconds is not None:
        run = f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
        took += f"; it ran in {run} on one core for this page"
    shown = []
    for claim in claims:
        sign, word = badges.of(claim)
        shown.append(
            f'<li class="mf-{badges.tone(word)}"><a href="#claim-{quote(claim["id"].lower())}">'
            f'{html.escape(claim["id"])}</a> <span class="mf-badge">{sign} {word}</span></li>'
        )
    listed = f'<p><b>Claims:</b></p><ul class="mf-glance">{"".join(shown)}</ul>' if shown else ""
    return f"<p><b>Time:</b> {took}.</p>{listed}"
