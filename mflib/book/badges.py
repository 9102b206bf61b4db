"""How verdicts are ordered, coloured and counted wherever the book lists claims."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from ..claims import card

__all__ = ["TONES", "counts", "of", "slug", "tone"]

#: Every word that a badge can say, best news first, and the colour in which it is listed.
#: A sentence that fails as predicted has a colour of its own: a cross is not green.
TONES = {
    "verified": "good",
    "verified (a bound in it is not sharp)": "good",
    "holds, not sharp": "good",
    "refuted, as predicted": "counter",
    "reproduced": "open",
    "not reproduced": "open",
    "inconclusive": "open",
    "refuted": "bad",
    "verified, against prediction": "bad",
    "not run": "none",
}


def of(claim: dict[str, Any]) -> tuple[str, str]:
    """Return sign and word of a claim's badge."""
    sign, word, *_ = card.badge(claim)
    return sign, word


def tone(word: str) -> str:
    """Return the colour class of a badge's word; of a new word that of an open question."""
    return TONES.get(word, "open")


def slug(words: str) -> str:
    """Return words as an address or an attribute holds them.

    Examples
    --------
    >>> slug("refuted, as predicted")
    'refuted-as-predicted'
    """
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") or "none"


def counts(claims: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Return how many claims carry each badge, best news first."""
    found = Counter(of(claim)[1] for claim in claims)
    order = [*TONES, *sorted(set(found) - set(TONES))]
    return {word: found[word] for word in order if word in found}
