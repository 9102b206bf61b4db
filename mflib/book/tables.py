"""Tables of claims and verdicts as HTML; what a record says is text there, never markup."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..claims import card, trials
from . import badges, referee

__all__ = ["address", "again", "apart", "claims", "plain", "planted", "trial", "verdicts"]

#: Where one thing that is said ends and another begins.
_BLOCK = re.compile(r"(?=</?(?:div|h\d|li|p|t[dhr]|tbody|thead|table|ul)\b)")


def apart(words: str) -> str:
    """Return HTML whose cells stand apart without their tags too, as the search sees them."""
    return _BLOCK.sub("\n", words)


def address(words: str) -> str:
    """Return an address as an attribute holds it; one that is no page's leads nowhere."""
    return html.escape(words if not re.match(r"\s*\w+:", words) else "#", quote=True)


#: Works of at most so many claims share a row of bars, if there are more of them than that.
_FEW = 3


def verdicts(
    claims: list[dict[str, Any]],
    page: str = "ledger.html",
    name: Callable[[str], str] = str,
) -> str:
    """Return how many claims of each paper came out how, as bars that lead to those claims.

    Works of few claims each, if they are many, share one row.

    Parameters
    ----------
    claims : list of dict
        Records and what is planned.
    page : str
        The address of the ledger.
    name : callable
        Returns a paper's name; default: its key.
    """
    papers: dict[str, list[dict[str, Any]]] = {}
    for claim in claims:
        papers.setdefault(claim["paper"], []).append(claim)
    few = [paper for paper, mine in papers.items() if len(mine) <= _FEW]
    few = few if len(few) > _FEW else []
    groups = [(name(paper), [paper]) for paper in papers if paper not in few]
    rows = ""
    for title, keys in [*groups, *([(f"{len(few)} other works", few)] if few else [])]:
        mine = [claim for paper in keys for claim in papers[paper]]
        bars = ""
        for word, count in badges.counts(mine).items():
            query = f"paper={'+'.join(map(badges.slug, keys))}&verdict={badges.slug(word)}"
            bars += (
                f'<a class="mf-bar mf-{badges.tone(word)}" style="flex-grow:{count}" '
                f'href="{address(page + "?" + query)}" '
                f'aria-label="{html.escape(f"{title}: {count} {word}")}">{count}</a>'
            )
        rows += (
            f'<div class="mf-tally"><div class="mf-paper">{html.escape(title)}'
            f'<span class="mf-where"> {len(mine)} claim{"s"[len(mine) == 1 :]}</span></div>'
            f'<div class="mf-bars">{bars}</div></div>'
        )
    total = ", ".join(
        f'<a href="{address(page + "?verdict=" + badges.slug(word))}">'
        f'<span class="mf-dot mf-{badges.tone(word)}"></span>{count} {html.escape(word)}</a>'
        for word, count in badges.counts(claims).items()
    )
    return f'<div class="mf-tallies">{rows}<p class="mf-legend">{total}.</p></div>'


def again(found: dict[str, Any], name: Callable[[str], str] = str) -> str:
    """Return how the verdicts of several runs compare, from :func:`mflib.book.referee.collect`."""
    papers: dict[str, list[dict[str, Any]]] = {}
    for claim in found["claims"]:
        papers.setdefault(claim["paper"], []).append(claim)
    body, told = "", []
    for paper, claims in papers.items():
        verdicts = sum(v is not None for claim in claims for v in claim["verdicts"])
        body += (
            f"<tr><td>{html.escape(name(paper))}</td><td>{len(claims)}</td><td>{verdicts}</td>"
            f"<td>{sum(map(referee.differing, claims))}</td>"
            f"<td>{sum(bool(claim['stuck']) for claim in claims)}</td></tr>"
        )
        told += [
            f"<li>{html.escape(claim['id'])}"
            + (" (an open question)" if claim["expected"] is None else "")
            + f": {html.escape(referee.counted(claim))}"
            + "".join(f"; changed: {card.mathematics(name)}" for name in referee.changed(claim))
            + "".join(f"; did not flip: {card.mathematics(name)}" for name in claim["stuck"])
            + "</li>"
            for claim in claims
            if claim["expected"] is None
            or referee.differing(claim)
            or claim["stuck"]
            or referee.changed(claim)
        ]
    runs = "; ".join(
        (", ".join(f"{k} {v}" for k, v in run["parameters"].items()) or "as committed")
        + f" ({run['seconds'] / 60:.0f} minutes of one core)"
        for run in found["runs"]
    )
    versions = ", ".join(f"{k} {v}" for k, v in found["versions"].items())
    where = f"; {found['device']}; {found['date']}" if "device" in found else ""
    return (
        '<div class="mf-verdicts tex2jax_process"><table><thead><tr><th>paper</th><th>claims</th>'
        "<th>verdicts</th><th>that differ</th><th>claims with a control that did not flip</th>"
        f"</tr></thead><tbody>{body}</tbody></table>"
        f"<ul>{''.join(told)}</ul><p>{html.escape(referee.summary(found))}.</p>"
        f"{_stability(found)}"
        f'<p class="mf-where">Runs: {html.escape(runs)}. Commit '
        f"{html.escape(str(found['commit'])[:12])}; {html.escape(versions + where)}.</p></div>"
    )


def _stability(found: dict[str, Any]) -> str:
    """Return every check of every claim with its verdicts and the range measured, folded."""
    rows = ""
    for claim in found["claims"]:
        for one in claim["checks"]:
            if "verdicts" not in one:
                continue
            span = one["range"]
            shown = " to ".join(dict.fromkeys(f"{end:.4g}" for end in span)) if span else "–"
            rows += (
                f"<tr><td>{html.escape(claim['id'])}</td><td>{card.mathematics(one['name'])}</td>"
                f"<td>{html.escape(referee.counted(claim | {'verdicts': one['verdicts']}))}</td>"
                f"<td>{html.escape(shown)}</td></tr>"
            )
    if not rows:
        return ""
    return (
        "<details><summary>Every check, its verdicts and the range that was measured</summary>"
        "<table><thead><tr><th>claim</th><th>check</th><th>verdicts</th><th>measured</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></details>"
    )


def claims(
    found: list[dict[str, Any]], link: Callable[[dict[str, Any]], str], title: Callable[[str], str]
) -> str:
    """Return the claims of one paper, chapter by chapter.

    Parameters
    ----------
    found : list of dict
        Records, in the order of the book.
    link : callable
        Returns the address of the place where a claim is argued.
    title : callable
        Returns a chapter's title.
    """
    rows, chapter = [], None
    for claim in found:
        if claim["notebook"] != chapter:
            chapter = claim["notebook"]
            rows.append(
                f'<tr><th colspan="2"><a href="{address(link(claim).split("#")[0])}">'
                f"{html.escape(title(chapter))}</a></th></tr>"
            )
        sign, word = badges.of(claim)
        rows.append(
            f'<tr class="mf-{badges.tone(word)}"><td><a href="{address(link(claim))}">'
            f"{html.escape(claim['id'])}</a>"
            f'<div class="mf-badge">{sign} {word}</div></td>'
            f"<td>{card.mathematics(claim['statement'])}"
            f'<div class="mf-where">{card.mathematics(claim["where"])}</div></td></tr>'
        )
    return (
        '<div class="mf-claims tex2jax_process"><table><tbody>'
        f"{''.join(rows)}</tbody></table></div>"
    )


def _percent(count: int, of: int) -> str:
    return f"{100 * count / of:.3g}"


def plain(head: list[str], rows: list[list[str]], words: str) -> str:
    """Return a table of texts under their titles, with some words below; all of it is escaped."""
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="mf-verdicts"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody>'
        f'</table><p class="mf-where">{html.escape(words)}</p></div>'
    )


def trial(found: dict[str, Any], part: str) -> str:
    """Return one table of the record of trials, every number read from it.

    Parameters
    ----------
    found : dict
        From :func:`mflib.claims.trials.read`.
    part : {"slope", "mean", "power", "curves"}
        Which table.
    """
    versions = ", ".join(f"{k} {v}" for k, v in found["versions"].items())
    if part in ("slope", "mean"):
        rows = [row for row in found["misses"] if row["kind"] == part]
        seeds = list(dict.fromkeys(row["seeds"] for row in rows))
        missed = {(row["law"], row["seeds"]): row for row in rows}
        table = [
            [law] + [_percent(missed[law, n]["missed"], missed[law, n]["trials"]) for n in seeds]
            for law in dict.fromkeys(row["law"] for row in rows)
        ]
        most = trials.worst(found, part)
        error = trials.standard_error(most, rows[0]["trials"])
        return plain(
            ["misses in percent", *(f"{n} seeds" for n in seeds)],
            table,
            f"{rows[0]['trials']} trials an entry; the largest is {100 * most:.2g} % "
            f"(± {100 * error:.1g}). {versions}.",
        )
    if part == "power":
        table = [
            [
                row["statistic"],
                str(row["seeds"]),
                f"{row['offset']:.3f}",
                _percent(row["refuted"], row["trials"]),
            ]
            for row in found["power"]
        ]
        return plain(
            ["average", "seeds", "offset shown", "refuted, percent"],
            table,
            f"{found['power'][0]['trials']} trials an entry, half of them off to either side; "
            "every seed has a lognormal scale of its own.",
        )
    if part == "curves":
        noises = list(dict.fromkeys(row["noise"] for row in found["curves"]))
        both = {(row["curve"], row["noise"]): row for row in found["curves"]}
        table = []
        for curve in dict.fromkeys(row["curve"] for row in found["curves"]):
            cells = [both[curve, noise] for noise in noises]
            table.append(
                [curve]
                + [
                    _percent(row[word], row["trials"])
                    for row in cells
                    for word in ("verified", "refuted")
                ]
            )
        return plain(
            ["curve"]
            + [f"{word}, noise {noise:g}" for noise in noises for word in ("verified", "refuted")],
            table,
            f"In percent of {found['curves'][0]['trials']} trials with "
            f"{found['curves'][0]['seeds']} seeds; the rest is inconclusive. The noise is the "
            "standard deviation of the logarithm of an error; tolerance .06.",
        )
    raise ValueError(f"trials: {part!r} is none of slope, mean, power, curves")


def planted(path: Path) -> str:
    """Return the table of planted bugs, every number read from the committed record.

    Parameters
    ----------
    path : Path
        A JSON list of rows with ``kind``, ``planted``, ``before`` and ``after``: bugs of a
        kind, and how many of them the tests noticed before and after they were mended.

    Raises
    ------
    ValueError
        If the file cannot be read, or a row counts more than were planted.
    """
    try:
        rows = json.loads(path.read_text("utf-8"))
        table = [[row["kind"], *(row[word] for word in _COUNTS)] for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: is no record of planted bugs ({error})") from None
    if not table:
        raise ValueError(f"{path}: the record of planted bugs is empty")
    for kind, *counts in table:
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in counts)
        if not whole or not 0 <= counts[1] <= counts[2] <= counts[0]:
            raise ValueError(f"{path}: {kind!r} counts {counts}, planted, before and after")
    sums = [sum(column) for column in zip(*(row[1:] for row in table), strict=True)]
    return plain(
        ["kind of bug", "planted", "noticed at first", "noticed now"],
        [[kind, *map(str, counts)] for kind, *counts in [*table, ["all", *sums]]],
        "Each was planted alone, in a copy of the library, and the tests of its module were run.",
    )


_COUNTS = ("planted", "before", "after")
