"""Numbers in prose: what a check predicted and measured, read from the ledger, never typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..claims import ClaimError, card

__all__ = ["ROLES", "look_up"]


def _measured(check: dict[str, Any]) -> str:
    return card.rounded(check["measured"], check["interval"])


def _interval(check: dict[str, Any]) -> str:
    ends = check["interval"]
    return card.span(ends) if ends else card.number(check["measured"])


#: What a role says of a check; ``verdict`` speaks of the claim.
ROLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "measured": _measured,
    "interval": _interval,
    "predicted": lambda check: card.predicted(check),
    "verdict": lambda check: check["verdict"],
}


def look_up(claims: dict[str, dict[str, Any]], role: str, text: str) -> tuple[dict[str, Any], str]:
    """Return a claim and what a role says of its check.

    Parameters
    ----------
    claims : dict
        Records by identifier.
    role : {"measured", "interval", "predicted", "verdict"}
        What is asked for.
    text : str
        ``"LU-T2"`` for the check that decided, or ``"LU-T2: remainder"``, where the words
        occur in the name of one check alone, or of one of its controls after ``control:``.

    Raises
    ------
    ClaimError
        If there is no such claim, or the words fit no check or several; the message lists
        the checks.
    """
    id, _, words = (part.strip() for part in text.partition(":"))
    if id not in claims:
        raise ClaimError(f"{{{role}}}`{text}`: no claim {id!r}; see book/claims.csv")
    claim = claims[id]
    if role == "verdict" or claim["verdict"] == "not run":
        return claim, claim["verdict"]
    rows, kind = claim["checks"], "checks"
    if words.startswith("control:"):
        rows, kind, words = claim["controls"], "controls", words[len("control:") :].strip()
    if not words:
        found = [row for row in [card.deciding(claim)] if row]
    else:
        exact = [row for row in rows if row["name"] == words]
        found = exact or [row for row in rows if words in row["name"]]
    if len({row["name"] for row in found}) != 1 or found[0]["measured"] is None:
        names = "; ".join(row["name"] for row in rows)
        raise ClaimError(
            f"{{{role}}}`{text}`: {len(found)} {kind} of {id} fit {words!r}, one that is measured "
            f"is needed; there are: {names}"
        )
    return claim, ROLES[role](found[0])
