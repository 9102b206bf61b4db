r"""A claim: a numbered statement, its predictions, its controls and its verdict."""

from __future__ import annotations

import itertools
import math
import os
import time
from typing import Any

from .. import provenance
from . import card, register
from .checks import (
    INCONCLUSIVE,
    NOT_RUN,
    REFUTED,
    VERIFIED,
    Check,
    ClaimError,
    Control,
)

__all__ = ["KINDS", "SCHEMA", "Claim"]

#: Version of the record that travels inside an executed notebook.
SCHEMA = 1

#: The kinds of claim and the verdict that each expects.
KINDS: dict[str, str | None] = {
    "identity": VERIFIED,
    "rate": VERIFIED,
    "bound": VERIFIED,
    "limit": VERIFIED,
    "counterexample": REFUTED,
    "reproduction": None,
}

_instances = itertools.count()


class Claim:
    r"""A statement of a paper, with its predictions stated before anything is measured.

    Parameters
    ----------
    id : str
        The claim's identifier in the register ``book/claims.csv``, for instance ``LU-T2``:
        paper, place, kind and sentence come from there. An identifier that begins with
        ``X-`` is a reader's own, and the four texts are given here.
    seed : int, optional
        The chapter's seed.
    device : str
        Where it was measured.
    paper : str
        The bib key (of an ``X-`` claim, as are the next three).
    where : str
        Where in the paper.
    kind : {"identity", "rate", "bound", "limit", "counterexample", "reproduction"}
        What sort of statement it is; a counterexample's statement is the sentence that
        is expected to be refuted.
    statement : str
        One sentence; LaTeX between dollar signs.

    Raises
    ------
    ClaimError
        If the identifier, paper or kind is unknown, a text is missing, or a text is given
        that the register holds.

    Notes
    -----
    The weakest check decides. A claim is never ``verified`` without a control, nor with
    one that did not flip. In a counterexample the :class:`Counterexample` checks decide,
    and every other check is a premise that must hold for the instance to count.
    """

    def __init__(
        self,
        id: str,
        *,
        seed: int | None = None,
        device: str = "cpu",
        paper: str | None = None,
        where: str | None = None,
        kind: str | None = None,
        statement: str | None = None,
    ) -> None:
        row = register.look_up(id, paper, where, kind, statement)
        if row.kind not in KINDS:
            raise ClaimError(f"kind: {row.kind!r} is none of {', '.join(KINDS)}")
        self.id, self.paper, self.where, self.kind = row.id, row.paper, row.where, row.kind
        self.statement = row.statement
        self.seed, self.device = seed, device
        self.expected = KINDS[row.kind]
        self.checks: list[Check] = []
        self._began = time.perf_counter()
        self._seconds = 0.0
        self._measured = False
        self._instance = f"{os.getpid()}-{next(_instances)}"

    def predict(self, check: Check) -> Any:
        """Add a prediction and return it; only before the first measurement.

        Raises
        ------
        ClaimError
            After a measurement, or if the check's name is taken.
        """
        if self._measured:
            raise ClaimError(
                f"{self.id}: state every prediction before the first measurement"
            )
        if any(check.name == other.name for other in self.checks):
            raise ClaimError(f"{self.id}: two checks are called {check.name!r}")
        check.claim = self
        self.checks.append(check)
        return check

    def touch(self) -> None:
        """Note that something was measured now."""
        self._measured = True
        self._seconds = time.perf_counter() - self._began

    @property
    def controls(self) -> list[Control]:
        """All controls, in the order of their checks."""
        return [control for check in self.checks for control in check.controls]

    def judge(self) -> tuple[str, str]:
        """Return the verdict and the reason for it."""
        if all(check.outcome is None for check in self.checks):
            return NOT_RUN, "nothing was measured"
        for check in self.checks:
            if check.outcome is None:
                return INCONCLUSIVE, f"{check.name}: not measured"
        stuck = [c for c in self.controls if not c.flipped]
        if self.kind == "counterexample":
            return self._judge_sentence(stuck)
        for verdict in (REFUTED, INCONCLUSIVE):
            for check in self.checks:
                if check.verdict == verdict:
                    return verdict, f"{check.name}: {check.outcome.reason}"
        if not self.controls:
            return INCONCLUSIVE, "no control: a check that cannot fail proves nothing"
        if stuck:
            return INCONCLUSIVE, f"the control {stuck[0].name!r} did not flip"
        return VERIFIED, "every check holds and every control flipped"

    def _judge_sentence(self, stuck: list[Control]) -> tuple[str, str]:
        sentences = [c for c in self.checks if c.expected == REFUTED]
        premises = [c for c in self.checks if c.expected != REFUTED]
        if not sentences:
            return INCONCLUSIVE, "no counterexample was stated"
        for check in premises:
            if check.verdict != VERIFIED:
                return INCONCLUSIVE, f"premise {check.name}: {check.outcome.reason}"
        if any(check.verdict == INCONCLUSIVE for check in sentences):
            return INCONCLUSIVE, "an instance is undecided"
        if any(check.verdict == VERIFIED for check in sentences):
            return VERIFIED, "an instance satisfies the sentence"
        if not self.controls:
            return INCONCLUSIVE, "no control: the sentence was never seen to hold"
        if stuck:
            return INCONCLUSIVE, f"the control {stuck[0].name!r} did not flip"
        return REFUTED, "the instance violates the sentence; its control satisfies it"

    @property
    def verdict(self) -> str:
        """verified, refuted, inconclusive or not run."""
        return self.judge()[0]

    def record(self) -> dict[str, Any]:
        """Return the claim as plain JSON data, as the ledger reads it."""
        verdict, reason = self.judge()
        return _plain({
            "schema": SCHEMA,
            "instance": self._instance,
            "id": self.id,
            "paper": self.paper,
            "where": self.where,
            "kind": self.kind,
            "statement": self.statement,
            "expected": self.expected,
            "verdict": verdict,
            "reason": reason,
            "checks": [check.record() for check in self.checks],
            "controls": [control.record() for control in self.controls],
            "seed": self.seed,
            "seconds": round(self._seconds, 3),
            "device": self.device,
            "versions": provenance.versions("torch", "numpy", "scipy"),
        })

    def __repr__(self) -> str:
        return card.text(self.record())

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        record = self.record()
        bundle = {"text/plain": card.text(record), "text/html": card.html(record)}
        return bundle, {"mflib": record}


def _plain(value: Any) -> Any:
    """Return JSON data without NaN or infinity, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
