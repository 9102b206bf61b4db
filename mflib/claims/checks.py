r"""Checks: a prediction with its tolerance, its measurement, and its controls.

A check is stated first and measured once; the rule that judges it is that of its kind
(:mod:`mflib.claims.rules`), and its controls are judged by the same rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Check", "ClaimError", "Control", "Outcome"]

VERIFIED, REFUTED = "verified", "refuted"
INCONCLUSIVE, NOT_RUN = "inconclusive", "not run"


class ClaimError(ValueError):
    """A claim was used out of order, or with impossible arguments."""


@dataclass(frozen=True)
class Outcome:
    """What a rule says of one measurement.

    Attributes
    ----------
    verdict : str
        verified, refuted or inconclusive.
    measured : float or None
        The number to compare with the prediction.
    interval : tuple of float or None
        At 99.9 %, where the kind has one.
    reason : str
        Why, in a few words.
    details : dict
        Numbers worth keeping: local slopes, power, tightness, trials.
    """

    verdict: str
    measured: float | None
    interval: tuple[float, float] | None = None
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)


class Check:
    """A prediction, stated before its measurement, and the rule that judges it.

    Subclasses define the rule in ``_judge``. A check is measured once it belongs to a
    claim (:meth:`mflib.claims.Claim.predict`); its controls are judged by the same rule.
    """

    kind = "check"
    #: The verdict that supports the claim; None for an open question.
    expected: str | None = VERIFIED
    predicted: Any = None
    tolerance: float | None = None

    def __init__(self, name: str) -> None:
        if not name or not isinstance(name, str):
            raise ClaimError("name: a check needs a short name in words")
        self.name = name
        self.claim: Any = None
        self.outcome: Outcome | None = None
        self.given: tuple[tuple[Any, ...], ...] = ()
        self.controls: list[Control] = []

    def _judge(self, *args: Any, **kwargs: Any) -> Outcome:
        raise NotImplementedError

    def _begin(self) -> None:
        if self.claim is None:
            raise ClaimError(f"{self.name}: predict before measuring, claim.predict(check)")
        self.claim.touch()

    def measure(self, *args: Any, **kwargs: Any) -> None:
        """Judge a measurement; the arguments are those of the kind's rule."""
        self._begin()
        self.outcome = self._judge(*args, **kwargs)
        self.given = (args,)
        self.claim.touch()

    def control(self, name: str, broke: str) -> Control:
        """Announce a control: the same measurement with one hypothesis broken.

        Parameters
        ----------
        name : str
            What is done instead.
        broke : str
            The hypothesis (or step) that is broken; a counterexample's is *restored: ...*.

        Returns
        -------
        Control
            Call its ``measure`` with the arguments of this check's ``measure``.
        """
        made = Control(name, broke, self)
        self.controls = [c for c in self.controls if c.name != name] + [made]
        return made

    @property
    def verdict(self) -> str:
        """The verdict of the measurement, ``not run`` before it."""
        return self.outcome.verdict if self.outcome else NOT_RUN

    @property
    def passed(self) -> bool:
        """Whether the verdict supports the claim."""
        if self.expected is None:
            return self.verdict in (VERIFIED, REFUTED)
        return self.verdict == self.expected

    def record(self) -> dict[str, Any]:
        """Return the check as plain JSON data."""
        outcome = self.outcome or Outcome(NOT_RUN, None)
        return {
            "name": self.name,
            "kind": self.kind,
            "measured": outcome.measured,
            "predicted": self.predicted,
            "interval": list(outcome.interval) if outcome.interval else None,
            "tolerance": self.tolerance,
            "verdict": outcome.verdict,
            "passed": self.passed,
            "reason": outcome.reason,
            "details": outcome.details,
        }


class Control:
    """A check repeated with one hypothesis broken; its verdict must flip.

    Attributes
    ----------
    name, broke : str
        What is done, and which hypothesis that breaks (or, for a counterexample,
        restores).
    check : Check
        The check whose rule judges the control.
    """

    def __init__(self, name: str, broke: str, check: Check) -> None:
        if not name or not broke:
            raise ClaimError("control: say what is done (name) and what it breaks (broke)")
        self.name, self.broke, self.check = name, broke, check
        self.outcome: Outcome | None = None
        self.given: tuple[tuple[Any, ...], ...] = ()

    def measure(self, *args: Any, **kwargs: Any) -> None:
        """Judge the control's measurement by the check's own rule."""
        self.check._begin()
        self.outcome = self.check._judge(*args, **kwargs)
        self.given = (args,)
        self.check.claim.touch()

    @property
    def flipped(self) -> bool:
        """Whether the verdict is the opposite of the check's."""
        if self.outcome is None:
            return False
        pair = {self.check.verdict, self.outcome.verdict}
        if self.check.expected is None and self.check.verdict != REFUTED:
            return self.outcome.verdict == REFUTED
        return pair == {VERIFIED, REFUTED}

    def record(self) -> dict[str, Any]:
        """Return the control as plain JSON data."""
        outcome = self.outcome or Outcome(NOT_RUN, None)
        return {
            "name": self.name,
            "check": self.check.name,
            "kind": self.check.kind,
            "broke": self.broke,
            "measured": outcome.measured,
            "interval": list(outcome.interval) if outcome.interval else None,
            "verdict": outcome.verdict,
            "details": outcome.details,
            "flipped": self.flipped,
        }
