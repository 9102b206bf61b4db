r"""How a claim's verdict follows from its checks and controls, from their records alone.

The claim that is being measured and the ledger that reads it back ask the same function,
so that a record cannot say more than follows from its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .bound import tightness_word
from .checks import INCONCLUSIVE, NOT_RUN, PREDICTED, PREMISE, REFUTED, VERIFIED, flips
from .families import family

__all__ = ["KINDS", "Judgement", "closeness", "judge", "role"]

#: The kinds of claim and the verdict that each expects.
KINDS: dict[str, str | None] = {
    "identity": VERIFIED,
    "rate": VERIFIED,
    "bound": VERIFIED,
    "limit": VERIFIED,
    "counterexample": REFUTED,
    "reproduction": None,
}

_OPPOSITE = {VERIFIED: REFUTED, REFUTED: VERIFIED}


class Judgement(NamedTuple):
    """A verdict, the reason for it, and the name of the check that decided."""

    verdict: str
    reason: str
    deciding: str | None


def role(kind: str, check: dict[str, Any]) -> str:
    """Return what a check is for, in a claim of this kind.

    In a counterexample or a reproduction a check of another kind is a premise.
    """
    aside = kind in ("counterexample", "reproduction") and check["kind"] != kind
    return PREMISE if aside else check.get("role", PREDICTED)


def closeness(check: dict[str, Any]) -> float:
    """Return how near a check came to failing: 0 far, 1 at the edge of its tolerance.

    For the tables, which name one check of a claim: the one that came nearest.
    """
    measured, interval = check["measured"], check["interval"]
    if measured is None:
        return 0.0
    if (ratio := check["details"].get("tightness")) is not None:
        return ratio
    if check["kind"] in ("identity", "below"):
        return measured / check["tolerance"]
    if check["kind"] in ("rate", "limit") and interval and None not in interval:
        return max(abs(end - check["predicted"]) for end in interval) / check["tolerance"]
    return 0.0


def judge(
    kind: str, checks: Sequence[dict[str, Any]], controls: Sequence[dict[str, Any]]
) -> Judgement:
    """Return the verdict of a claim; the weakest part decides.

    In this order: a premise that does not hold (nothing follows), a check that is not
    measured, one that is refuted, one that is inconclusive, a predicted check without a
    control of its own, a control that did not flip, and bounds of which no trial came near
    any.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    checks, controls : sequence of dict
        The records of :class:`mflib.claims.Check` and :class:`mflib.claims.Control`.

    Returns
    -------
    Judgement
    """
    if all(check["verdict"] == NOT_RUN for check in checks):
        return Judgement(NOT_RUN, "nothing was measured", None)
    predicted = [check for check in checks if role(kind, check) == PREDICTED]
    for check in checks:
        holds = REFUTED if check["kind"] == "counterexample" else VERIFIED
        if role(kind, check) == PREMISE and check["verdict"] != holds:
            why = check["reason"] if check["verdict"] != NOT_RUN else "not measured"
            return Judgement(INCONCLUSIVE, f"premise {check['name']}: {why}", check["name"])
    if not predicted:
        return Judgement(INCONCLUSIVE, "no check is predicted", None)
    for check in predicted:
        if check["verdict"] == NOT_RUN:
            return Judgement(INCONCLUSIVE, f"{check['name']}: not measured", check["name"])
    found, expected = _of_the_predicted(kind, predicted), KINDS[kind]
    if found.verdict == INCONCLUSIVE or found.verdict != (expected or found.verdict):
        return found
    named = {check["name"]: check for check in checks}
    for check in predicted:
        if not any(control["check"] == check["name"] for control in controls):
            return Judgement(INCONCLUSIVE, f"no control of {check['name']}", check["name"])
    for control in controls:
        check = named.get(control["check"])
        if not check or not flips(check["kind"], check["verdict"], control["verdict"]):
            return Judgement(INCONCLUSIVE, _unflipped(control), control["check"])
    words = {
        tightness_word(check["details"].get("tightness"))
        for check in predicted
        if check["kind"] in ("bound", "mean bound")
    }
    if words == {"idle"} and all(check["kind"] in ("bound", "mean bound") for check in predicted):
        reason = "no case came near the bound: it could not have failed"
        return Judgement(INCONCLUSIVE, reason, found.deciding)
    return found


def _of_the_predicted(kind: str, predicted: list[dict[str, Any]]) -> Judgement:
    """Return what the predicted checks say together, controls aside."""
    nearest, expected = max(predicted, key=closeness)["name"], KINDS[kind]
    if expected is None:
        sides = {VERIFIED: 1, REFUTED: -1}
        return Judgement(*family(sides.get(c["verdict"], 0) for c in predicted), nearest)
    order = (_OPPOSITE[expected], INCONCLUSIVE)
    for verdict in order if expected == VERIFIED else order[::-1]:
        for check in predicted:
            if check["verdict"] == verdict:
                return Judgement(verdict, f"{check['name']}: {check['reason']}", check["name"])
    if expected == REFUTED:
        reason = "the instance violates the sentence; its control satisfies it"
        return Judgement(REFUTED, reason, nearest)
    return Judgement(VERIFIED, "every check holds and every control flipped", nearest)


def _unflipped(control: dict[str, Any]) -> str:
    what = f"the control {control['name']!r} of {control['check']}"
    if control["verdict"] == NOT_RUN:
        return f"{what} was not measured"
    if control["verdict"] == INCONCLUSIVE:
        return f"{what} decides nothing: {control.get('reason', '')}"
    return f"{what} did not flip"
