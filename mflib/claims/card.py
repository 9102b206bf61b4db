"""How a claim shows itself: a small card in HTML, and plain text for terminals."""

from __future__ import annotations

import html as _html
import math
import re
from typing import Any

from .intervals import LEVEL

__all__ = [
    "BADGES",
    "MEASURED",
    "deciding",
    "html",
    "number",
    "rounded",
    "span",
    "text",
    "unsaid",
]

#: The head of a column of measurements, with the level of their intervals.
MEASURED = f"measured [{100 * LEVEL:g} %]"

#: Sign, word and colour class of each verdict; a counterexample found is good news.
BADGES = {
    "verified": ("✓", "verified", "good"),
    "holds": ("≤", "holds, not sharp", "good"),
    "refuted as stated": ("✗", "refuted, as predicted", "good"),
    "refuted": ("✗", "refuted", "bad"),
    "inconclusive": ("?", "inconclusive", "open"),
    "not run": ("–", "not run", "open"),
}


def badge(record: dict[str, Any]) -> tuple[str, str, str]:
    """Return sign, word and colour class for a record's verdict."""
    verdict, expected = record["verdict"], record["expected"]
    if verdict == "refuted" and expected == "refuted":
        return BADGES["refuted as stated"]
    if expected is None and verdict in ("verified", "refuted"):
        sign, word, _ = BADGES[verdict]
        return sign, {"verified": "reproduced", "refuted": "not reproduced"}[verdict], "open"
    if expected == "refuted" and verdict == "verified":
        return "✓", "verified, against prediction", "bad"
    if verdict == "verified" and record.get("sharpness") in ("not sharp", "idle", "no ratio"):
        if record["kind"] == "bound":
            return BADGES["holds"]
        return "✓", "verified (a bound in it is not sharp)", "good"
    return BADGES[verdict]


def number(value: Any) -> str:
    """Write a number in at most six significant figures, a tolerance like 1e-12 in one."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.6g}"
    return re.sub(r"\.?0*e", "e", f"{value:.2e}")


def rounded(value: float | None, interval: list[float] | None) -> str:
    """Write a measurement with the digits that its interval supports, at most six.

    Parameters
    ----------
    value : float
        What was measured.
    interval : list of float or None
        Its ends; None for a number without one.

    Examples
    --------
    >>> rounded(-0.50123, [-0.5113, -0.4912]), rounded(2.877029, None), rounded(0.99996, [0.9, 1.1])
    ('-0.50', '2.87703', '1.0')
    """
    half = (interval[1] - interval[0]) / 2 if interval else 0.0
    if value is None or not 0 < half < math.inf:
        return number(value)
    if not 1e-3 <= max(map(abs, interval)) < 1e5:
        return number(value)
    digits = max(0, min(6, -math.floor(math.log10(half))))
    return f"{round(value, digits) + 0.0:.{digits}f}"


def span(interval: list[float]) -> str:
    """Write an interval, both ends with the digits that it supports."""
    return f"[{', '.join(rounded(end, interval) for end in interval)}]"


def predicted(check: dict[str, Any]) -> str:
    """Write a check's prediction with its tolerance."""
    if check["kind"] == "identity":
        return f"0 within {number(check['tolerance'])}"
    if check["kind"] in ("rate", "limit"):
        return f"{number(check['predicted'])} ± {number(check['tolerance'])}"
    return number(check["predicted"])


def measured(check: dict[str, Any]) -> str:
    """Write what a check or a control measured, with its interval."""
    value = rounded(check["measured"], check["interval"])
    if check["kind"] == "bound" and check["measured"] is not None:
        ratio = check["details"].get("tightness") is not None
        value = f"{'worst ratio' if ratio else 'excess'} {value}"
        if check.get("word") and ratio:
            value += f", {check['word']}"
    if check["interval"]:
        lo, hi = check["interval"]
        if lo != hi:
            value += f" {span([lo, hi])}"
        level = check["details"].get("level", LEVEL)
        if level != LEVEL:
            value += f" at {100 * level:g} %"
    return value


def _extra(check: dict[str, Any]) -> str:
    details, words = check["details"], []
    if check.get("role") == "premise":
        words.append("a premise: needed, proves nothing")
    if check.get("word"):
        factor = details.get("tightness")
        loose = check["word"] in ("not sharp", "idle") and factor
        words.append(check["word"] + (f" (a factor {1 / factor:.3g})" if loose else ""))
    if details.get("end_slope") is not None:
        lo, hi = details["end_interval"]
        words.append(
            f"at the {details['toward']} end {details['end_slope']:.3f} [{lo:.3f}, {hi:.3f}]"
        )
    if details.get("local_slopes"):
        slopes = ", ".join(f"{s:.3f}" for s in details["local_slopes"])
        words.append(f"local slopes {slopes}")
    if details.get("power"):
        what = "an exponent" if check["kind"] == "rate" else "a value"
        words.append(f"refutes, 97.5 % of the time, {what} off by {number(details['power'])}")
    if details.get("competing") is not None:
        words.append(f"nearest competing exponent {number(details['competing'])}")
    if details.get("seeds", 0) > 1:
        words.append(f"{details['seeds']} seeds")
        effective = details.get("effective_seeds", details["seeds"])
        if effective < min(12, 0.9 * details["seeds"]):
            words.append(f"the average rests on {effective:.1f} of them")
    if (details.get("other") or {}).get("disjoint"):
        words.append(
            f"the {details['other']['statistic']} average has the slope "
            f"{details['other']['slope']:.3f}: the exponent depends on the average"
        )
    if abs(details.get("skewness") or 0) > 1 and details["seeds"] < 48:
        words.append(
            f"skewness {details['skewness']:.1f}: the interval of such a mean misses "
            "more often than 1 %"
        )
    if details.get("share"):
        words.append(f"at least {details['share']:.0%} of all seeds")
    if details.get("trials"):
        words.append(f"{details['trials']} trials")
    if details.get("trivial"):
        words.append(f"{details['trivial']} of them 0 <= 0")
    if details.get("adversary") is not None:
        words.append(f"adversary {number(details['adversary'])}")
    if details.get("change", 0) > 0.01:
        words.append(f"{details['change']:.0%} likely to change in a rerun")
    return "; ".join(words + check.get("unsaid", []))


def deciding(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the check that decided a claim, the first one where none is named."""
    checks = record["checks"]
    named = (check for check in checks if check["name"] == record.get("deciding"))
    return next(named, checks[0] if checks else None)


def unsaid(record: dict[str, Any]) -> list[str]:
    """Return what the rules ask for and a claim's checks do not say, one line each."""
    return [
        f"{check['name']}: {word}" for check in record["checks"] for word in check.get("unsaid", ())
    ]


def _state(control: dict[str, Any]) -> str:
    """Write why a control did not flip."""
    if control.get("state") == "weak":
        return f"decides nothing: {control['reason']}"
    if control.get("state") == "undecided":
        return "its check decides nothing"
    return control.get("state", "stuck")


def broken(control: dict[str, Any]) -> str:
    """Write which hypothesis a control breaks or, for a counterexample, restores."""
    words = control["broke"]
    return words if words.startswith("restored:") else f"broken: {words}"


def text(record: dict[str, Any]) -> str:
    """Return the card as plain text.

    Parameters
    ----------
    record : dict
        From :meth:`mflib.claims.Claim.record`.

    Returns
    -------
    str
    """
    sign, word, _ = badge(record)
    lines = [
        f"{sign} {record['id']}: {word}   ({record['paper']}, {record['where']})",
        f"  {record['statement']}",
    ]
    for check in record["checks"]:
        lines.append(
            f"  [{check['verdict']}] {check['name']}: predicted {predicted(check)}, "
            f"measured {measured(check)}"
        )
        if extra := _extra(check):
            lines.append(f"      {extra}")
    for control in record["controls"]:
        flip = "flipped" if control["flipped"] else f"DID NOT FLIP ({_state(control)})"
        lines.append(
            f"  control, {flip}: {control['name']} ({broken(control)}); "
            f"{control['check']}: {measured(control)}, {control['verdict']}"
        )
    lines.append(f"  {record['reason']}")
    return "\n".join(lines)


_SIGNS = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "epsilon": "ε",
    "lambda": "λ",
    "mu": "μ",
    "nu": "ν",
    "pi": "π",
    "rho": "ρ",
    "sigma": "σ",
    "varsigma": "ς",
    "tau": "τ",
    "theta": "θ",
    "chi": "χ",
    "omega": "ω",
    "Lambda": "Λ",
    "Phi": "Φ",
    "grad": "∇",
    "sqrt": "√",
}
_NAME = re.compile(rf"(?<![A-Za-z])({'|'.join(_SIGNS)})(?![A-Za-z])")

#: A number with a sign or exponent, which no line may break at its hyphen.
_HYPHENED = re.compile(r"(?<![\w.])(?:-?\d[\d.]*e-\d+|-\d[\d.]*\d|-\d)(?!\w)")


def mathematics(words: str) -> str:
    r"""Write text as HTML: ``$...$`` as ``\(...\)`` for MathJax, else signs for ASCII.

    Names are typed so that a terminal can show them; here ``beta^2 <= tau_0`` becomes
    β² ≤ τ₀.
    """
    pieces = [_html.escape(piece, quote=False) for piece in re.split(r"\$([^$]+)\$", words)]
    for i, piece in enumerate(pieces):
        if i % 2:
            pieces[i] = rf"\({piece}\)"
            continue
        piece = piece.replace("&lt;=", "≤").replace("&gt;=", "≥")
        piece = _NAME.sub(lambda found: _SIGNS[found[0]], piece)
        piece = re.sub(r"\^(\w+)", r"<sup>\1</sup>", piece)
        piece = re.sub(r"(?<=[\w∇])_(\w+)", r"<sub>\1</sub>", piece)
        pieces[i] = _HYPHENED.sub(r'<span class="mf-number">\g<0></span>', piece)
    return "".join(pieces)


def html(record: dict[str, Any]) -> str:
    """Return the card as HTML; its style sheet is the book's.

    Parameters
    ----------
    record : dict
        From :meth:`mflib.claims.Claim.record`.

    Returns
    -------
    str
    """
    sign, word, colour = badge(record)
    rows = []
    for check in record["checks"]:
        extra = _extra(check)
        rows.append(
            f'<tr class="mf-{check["verdict"].replace(" ", "-")}">'
            f"<td>{mathematics(check['name'])}"
            + (f'<div class="mf-extra">{_html.escape(extra)}</div>' if extra else "")
            + f"</td><td>{mathematics(predicted(check))}</td>"
            f"<td>{mathematics(measured(check))}</td><td>{check['verdict']}</td></tr>"
        )
    controls = "".join(
        f'<li class="mf-{"flipped" if c["flipped"] else "stuck"}">'
        f"<b>{'flipped' if c['flipped'] else 'did not flip, ' + _html.escape(_state(c))}</b>: "
        f"{mathematics(c['name'])} ({mathematics(broken(c))}); "
        f"<i>{mathematics(c['check'])}</i>: "
        f"{mathematics(measured(c))}, {c['verdict']}</li>"
        for c in record["controls"]
    )
    return (
        f'<div class="mf-card mf-{colour} tex2jax_process">'
        f'<div class="mf-head"><span class="mf-badge">{sign} {word}</span> '
        f"<b>{_html.escape(record['id'])}</b> "
        f'<span class="mf-where">{_html.escape(record["paper"])}, '
        f"{mathematics(record['where'])}</span></div>"
        f'<p class="mf-statement">{mathematics(record["statement"])}</p>'
        '<table class="mf-checks"><thead><tr><th>check</th><th>predicted</th>'
        f"<th>{MEASURED}</th><th>verdict</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
        + (f'<p class="mf-title">Controls</p><ul>{controls}</ul>' if controls else "")
        + f'<p class="mf-reason">{mathematics(record["reason"])}</p></div>'
    )
