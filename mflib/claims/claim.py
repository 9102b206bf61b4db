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
from .checks import PREDICTED, PREMISE, Check, Control
from .evidence import ClaimError
from .thresholds import MeanBound
from .verdict import KINDS, Judgement, judge, role

__all__ = ["KINDS", "SCHEMA", "Claim"]

#: Version of the record that travels inside an executed notebook.
SCHEMA = 1

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
    The weakest part decides, see :func:`mflib.claims.verdict.judge`. In a counterexample and
    in a reproduction every check of another kind is a premise.

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
        return self._add(check, role(self.kind, {"kind": check.kind, "role": PREDICTED}))

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
        return self._judgement()[:2]

    def _judgement(self) -> Judgement:
        return judge(
            self.kind,
            [check.record() for check in self.checks],
            [control.record() for control in self.controls],
        )

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
        verdict, reason, deciding = self._judgement()
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
                "deciding": deciding,
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
