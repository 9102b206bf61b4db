"""The ledger as a page: a row a claim, that folds its checks; buttons that filter the rows."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

from ..claims import card, register
from . import badges, coverage
from .tables import address

__all__ = ["ledger"]

#: Columns: what the head says, and what a click sorts by.
_COLUMNS = ("verdict", "claim", "statement", "kind")


def ledger(
    claims: list[dict[str, Any]],
    waiting: list[dict[str, Any]],
    link: Callable[[dict[str, Any]], str],
    name: Callable[[str], str] = str,
    cite: str = "",
) -> str:
    """Return the ledger: filters, and a row a claim, grouped by paper.

    Parameters
    ----------
    claims, waiting : list of dict
        Records and what is planned, as :func:`mflib.book.ledger.ledger` gives them.
    link : callable
        Returns the address of the place where a claim is argued.
    name : callable
        Returns a paper's name; default: its key.
    cite : str
        How the book is cited; a claim's own line begins with its identifier.
    """
    papers = coverage.by_paper(claims, waiting)
    everything = [*claims, *waiting]
    kinds = sorted({claim["kind"] for claim in everything})
    filters = (
        _buttons("paper", [(badges.slug(key), name(key)) for key in papers])
        + _buttons("verdict", [(badges.slug(w), w) for w in badges.counts(everything)])
        + _buttons("kind", [(badges.slug(kind), kind) for kind in kinds])
    )
    bodies = []
    for key, (measured, planned) in papers.items():
        rows = "".join(_row(claim, link(claim), cite) for claim in measured)
        rows += "".join(_row(claim, None, cite) for claim in planned)
        bodies.append(
            f'<tbody><tr class="mf-group"><th colspan="{len(_COLUMNS)}" scope="rowgroup">'
            f"{html.escape(name(key))}: {coverage.counted(measured, planned)} claims measured"
            f"</th></tr>{rows}</tbody>"
        )
    head = "".join(
        f'<th scope="col"><button type="button">{word}</button></th>' for word in _COLUMNS
    )
    return (
        '<div class="mf-ledger tex2jax_process">'
        f"<p><b>{coverage.counted(claims, waiting)}</b> claims measured; "
        "the others are planned and shown as <i>not run</i>.</p>"
        f'<div class="mf-filters" hidden>{filters}'
        '<p><label for="mf-filter">words</label> <input type="search" id="mf-filter" '
        'placeholder="LU-T2, adjoint ..."> '
        '<button type="button" class="mf-reset">show all</button> '
        '<button type="button" class="mf-unfold">unfold what is shown</button></p>'
        '<p id="mf-count" role="status" aria-live="polite"></p></div>'
        f'<table><caption class="mf-spoken">Every claim of the book</caption><thead><tr>{head}'
        f"</tr></thead>{''.join(bodies)}</table></div>"
    )


def _buttons(what: str, values: list[tuple[str, str]]) -> str:
    """Return a row of buttons, each of which shows the rows of one value."""
    made = "".join(
        f'<button type="button" data-filter="{what}" data-value="{html.escape(value)}" '
        f'aria-pressed="false">{html.escape(word)}</button>'
        for value, word in values
    )
    return f'<div role="group" aria-label="{what}"><span>{what}</span>{made}</div>'


def _row(claim: dict[str, Any], place: str | None, cite: str) -> str:
    sign, word = badges.of(claim)
    name = html.escape(claim["id"])
    if place:
        name = f'<a href="{address(place)}">{name}</a>'
    where = f'<div class="mf-where">{card.mathematics(claim["where"])}</div>'
    more = _checks(claim) + _controls(claim) + _about(claim, cite)
    data = "".join(
        f' data-{key}="{badges.slug(value)}"'
        for key, value in (("paper", claim["paper"]), ("verdict", word), ("kind", claim["kind"]))
    )
    return (
        f'<tr class="mf-{badges.tone(word)}"{data}>'
        f'<td data-label="verdict"><span class="mf-badge">{sign} {html.escape(word)}</span></td>'
        f'<td data-label="claim">{name}{where}</td>'
        f'<td data-label="statement"><details><summary><span class="mf-statement">'
        f"{card.mathematics(claim['statement'])}</span></summary>{more}</details></td>"
        f'<td data-label="kind">{html.escape(claim["kind"])}</td></tr>'
    )


def _checks(claim: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{card.mathematics(c['name'])}{_mark(c, claim)}</td>"
        f"<td>{card.mathematics(card.predicted(c))}</td>"
        f"<td>{card.mathematics(card.measured(c))}</td></tr>"
        for c in claim["checks"]
    )
    return rows and (
        '<table class="mf-checks"><thead><tr><th scope="col">check</th>'
        f'<th scope="col">predicted</th><th scope="col">{card.MEASURED}</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _controls(claim: dict[str, Any]) -> str:
    items = "".join(
        f"<li>{'flipped' if c['flipped'] else 'did not flip'}: {card.mathematics(c['name'])}</li>"
        for c in claim["controls"]
    )
    return items and f"<p>Controls</p><ul>{items}</ul>"


def _about(claim: dict[str, Any], cite: str) -> str:
    """Return whose sentence it is, why the verdict is what it is, and how to cite it."""
    row = register.read().get(claim["id"])
    whose = f"{row.origin}: {register.CLASSES[row.origin]}" if row else ""
    lines = [html.escape(whose), card.mathematics(claim.get("reason", ""))]
    if cite:
        lines.append(f"Cite as: {html.escape(claim['id'])}, in: {html.escape(cite)}")
    return "".join(f'<p class="mf-where">{line}</p>' for line in lines if line)


def _mark(check: dict[str, Any], claim: dict[str, Any]) -> str:
    """Say of a check what it is for, that it decides, and what it lacks."""
    words = ["premise"] if check.get("role") == "premise" else []
    words += ["decides"] if check["name"] == claim.get("deciding") else []
    words += check.get("unsaid", [])
    return f" <i>({html.escape(', '.join(words))})</i>" if words else ""
