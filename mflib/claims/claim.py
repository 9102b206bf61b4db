r"""A claim: a numbered statement, its predictions, its controls and its verdict."""

from __future__ import annotations

import itertools
import math
import os
import time
from typing import Any

from .. import provenance
from . import card, register
from .bound import Bound
from .checks import (
    INCONCLUSIVE,
    NOT_RUN,
    PREDICTED,
    PREMISE,
    REFUTED,
    VERIFIED,
    Check,
    Control,
)
from .evidence import ClaimError
from .families import family
from .thresholds import MeanBound

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
        ``X-`` and stands in no register is a reader's own; the four texts are given here.
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
    The weakest decides, in this order: a premise that does not hold (nothing follows), a
    check that is not measured, one that is refuted, one that is inconclusive, a predicted
    check without a control of its own, a control that did not flip, and bounds of which
    no trial came near any. In a counterexample and in a reproduction every check of
    another kind is a premise.

    Examples
    --------
    >>> import numpy as np
    >>> from mflib.claims import Claim, Identity
    >>> claim = Claim("X-1", paper="lu2020", where="eq. (1)", kind="identity",
    ...               statement="A sine is odd.")
    >>> odd = claim.predict(Identity("sin(-x) = -sin(x)", 1e-12))
    >>> x = np.linspace(0.1, 1.0, 10)
    >>> odd.measure(np.sin(-x), -np.sin(x))
    >>> odd.control("cosine", broke="the sine").measure(np.cos(-x), -np.cos(x))
    >>> claim.verdict
    'verified'
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
        self._checks: list[Check] = []
        self._began = time.perf_counter()
        self._seconds = 0.0
        self._measured = False
        self._instance = f"{os.getpid()}-{next(_instances)}"

    def predict(self, check: Check) -> Any:
        """Add a prediction and return it; only before the first measurement.

        In a counterexample or a reproduction a check of another kind is a premise.

        Raises
        ------
        ClaimError
            After a measurement, or if the check's name is taken.
        """
        aside = self.kind in ("counterexample", "reproduction") and check.kind != self.kind
        return self._add(check, PREMISE if aside else PREDICTED)

    def premise(self, check: Check) -> Any:
        """Add a premise and return it: what the argument needs, and proves nothing.

        A premise must hold for the claim to be judged at all, needs no control, and is
        shown as what it is.

        Raises
        ------
        ClaimError
            After a measurement, or if the check's name is taken.
        """
        return self._add(check, PREMISE)

    def _add(self, check: Check, role: str) -> Check:
        if self._measured:
            raise ClaimError(f"{self.id}: state every prediction before the first measurement")
        if any(check.name == other.name for other in self.checks):
            raise ClaimError(f"{self.id}: two checks are called {check.name!r}")
        if check.claim is not None:
            raise ClaimError(f"{check.name}: belongs to {check.claim.id} already")
        check.role = role
        check._claim = self
        self._checks.append(check)
        return check

    @property
    def checks(self) -> tuple[Check, ...]:
        """All checks, in the order in which they were stated."""
        return tuple(self._checks)

    @property
    def predicted(self) -> list[Check]:
        """The checks that make up the statement; the others are premises."""
        return [check for check in self._checks if check.role == PREDICTED]

    def begin(self) -> None:
        """Close the predictions: from now on things are measured.

        Raises
        ------
        ClaimError
            If no predicted check is of the claim's kind.
        """
        if not any(self.kind in check.carries for check in self.predicted):
            raise ClaimError(
                f"{self.id}: a claim of kind {self.kind} predicts a check of that kind"
            )
        self.touch()

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
        return self._weakest()[:2]

    def _weakest(self) -> tuple[str, str, Check | None]:
        """Return verdict, reason and the check that decided; the first line that applies."""
        if all(check.outcome is None for check in self.checks):
            return NOT_RUN, "nothing was measured", None
        for check in self.checks:
            if check.role == PREMISE and check.verdict != (check.expected or VERIFIED):
                reason = check.outcome.reason if check.outcome else "not measured"
                return INCONCLUSIVE, f"premise {check.name}: {reason}", check
        for check in self.predicted:
            if check.outcome is None:
                return INCONCLUSIVE, f"{check.name}: not measured", check
        verdict, reason, check = self._of_the_predicted()
        if verdict == INCONCLUSIVE or verdict != (self.expected or verdict):
            return verdict, reason, check
        for each in self.predicted:
            if not each.controls:
                return INCONCLUSIVE, f"no control of {each.name}", each
        for control in self.controls:
            if not control.flipped:
                return INCONCLUSIVE, self._unflipped(control), control.check
        words = [each.word for each in self.predicted if isinstance(each, (Bound, MeanBound))]
        if words and len(words) == len(self.predicted) and set(words) == {"idle"}:
            return INCONCLUSIVE, "no case came near the bound: it could not have failed", check
        return verdict, reason, check

    def _of_the_predicted(self) -> tuple[str, str, Check]:
        """Return what the predicted checks say together, controls aside."""
        nearest = max(self.predicted, key=closeness)
        if self.kind == "reproduction":
            sides = {VERIFIED: 1, REFUTED: -1}
            return *family(sides.get(check.verdict, 0) for check in self.predicted), nearest
        against = {VERIFIED: REFUTED, REFUTED: VERIFIED}
        order = (against[self.expected], INCONCLUSIVE)
        for verdict in order if self.expected == VERIFIED else order[::-1]:
            for check in self.predicted:
                if check.verdict == verdict:
                    return verdict, f"{check.name}: {check.outcome.reason}", check
        if self.expected == REFUTED:
            return REFUTED, "the instance violates the sentence; its control satisfies it", nearest
        return VERIFIED, "every check holds and every control flipped", nearest

    @staticmethod
    def _unflipped(control: Control) -> str:
        what = f"the control {control.name!r} of {control.check.name}"
        if control.outcome is None:
            return f"{what} was not measured"
        if control.state == "weak":
            return f"{what} decides nothing: {control.outcome.reason}"
        return f"{what} did not flip"

    @property
    def sharpness(self) -> str | None:
        """The word of the least sharp predicted bound; None without a bound."""
        words = [check.word for check in self.predicted if isinstance(check, (Bound, MeanBound))]
        order = ("no ratio", "idle", "not sharp", "sharp", "attained")
        return min(words, key=order.index) if words and self._measured else None

    @property
    def verdict(self) -> str:
        """verified, refuted, inconclusive or not run."""
        return self.judge()[0]

    def record(self) -> dict[str, Any]:
        """Return the claim as plain JSON data, as the ledger reads it."""
        verdict, reason, deciding = self._weakest()
        return _plain(
            {
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
                "deciding": deciding.name if deciding else None,
                "sharpness": self.sharpness,
                "checks": [check.record() for check in self.checks],
                "controls": [control.record() for control in self.controls],
                "seed": self.seed,
                "seconds": round(self._seconds, 3),
                "device": self.device,
                "versions": provenance.versions("torch", "numpy", "scipy"),
            }
        )

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


def closeness(check: Check) -> float:
    """Return how near a check came to failing: 0 far, 1 at the edge of its tolerance.

    For the tables, which name one check of a claim: the one that came nearest.
    """
    outcome = check.outcome
    if outcome is None or outcome.measured is None:
        return 0.0
    if (ratio := outcome.details.get("tightness")) is not None:
        return ratio
    if check.kind in ("identity", "below"):
        return outcome.measured / check.tolerance
    if check.kind in ("rate", "limit") and outcome.interval:
        return max(abs(end - check.predicted) for end in outcome.interval) / check.tolerance
    return 0.0
