r"""Checks: a prediction with its tolerance, its measurement, and its controls.

A check is stated first and measured once; the rule that judges it is that of its kind
(:mod:`mflib.claims`), and its controls are judged by the same rule.
"""

from __future__ import annotations

import math
import numbers
import sys
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np

from .evidence import ClaimError, digest, suspicion

__all__ = ["Check", "ClaimError", "Control", "Outcome"]

VERIFIED, REFUTED = "verified", "refuted"
INCONCLUSIVE, NOT_RUN = "inconclusive", "not run"

#: Independent seeds below which nothing random is decided.
FEWEST = 8

#: The largest tolerance of a rate, and of a limit relative to its value or scale.
CAP = 0.15

#: Relative difference below which two floats are one.
ROUNDING = 4 * np.finfo(float).eps

#: What a check is for.
PREDICTED, PREMISE = "predicted", "premise"


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
        At 99 %, where the kind has one.
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


def not_finite(what: str) -> Outcome:
    """Return the outcome of a measurement that holds NaN or infinity."""
    return Outcome(INCONCLUSIVE, None, reason=f"{what} is NaN or infinite")


def finite(name: str, value: Any, positive: bool = False) -> float:
    """Return a finite real number, positive where asked; else raise ClaimError."""
    good = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        if good and math.isfinite(value) and (value > 0 or not positive):
            return float(value)
    except OverflowError:
        pass
    kind = "positive finite" if positive else "finite"
    raise ClaimError(f"{name}: expected a {kind} number, got {value!r}")


def flips(kind: str, verdict: str, control: str) -> bool:
    """Return whether the verdict of a control is the opposite of its check's.

    The control of an open question must be refuted, and where the question itself came
    out on the other side, verified.
    """
    if kind == "reproduction" and verdict != REFUTED:
        return control == REFUTED
    return {verdict, control} == {VERIFIED, REFUTED}


class Check:
    """A prediction, stated before its measurement, and the rule that judges it.

    Subclasses define the rule in ``_judge``. A check is measured, once, when it belongs
    to a claim (:meth:`mflib.claims.Claim.predict`); its controls are judged by the same
    rule. From then on its prediction and its tolerance cannot be changed.
    """

    kind = "check"
    #: The kinds of claim that such a check can carry.
    carries: tuple[str, ...] = ()
    #: The verdict that supports the claim; None for an open question.
    expected: str | None = VERIFIED
    predicted: Any = None
    tolerance: float | None = None

    def __init__(self, name: str) -> None:
        if not name or not isinstance(name, str):
            raise ClaimError("name: a check needs a short name in words")
        self.name = name
        self.role = PREDICTED
        self._claim: Any = None
        self._outcome: Outcome | None = None
        self._given: tuple[tuple[Any, ...], ...] = ()
        self._digest: str | None = None
        self._controls: list[Control] = []

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and self.__dict__.get("_claim") is not None:
            raise AttributeError(f"{self.name}: {name} is fixed once the check is predicted")
        super().__setattr__(name, value)

    def _judge(self, *args: Any, control: bool = False, **kwargs: Any) -> Outcome:
        raise NotImplementedError

    @property
    def claim(self) -> Any:
        """The claim that the check belongs to, None before it is predicted."""
        return self._claim

    @property
    def outcome(self) -> Outcome | None:
        """What the rule said of the measurement, None before it."""
        return self._outcome

    @property
    def given(self) -> tuple[tuple[Any, ...], ...]:
        """The arguments of `measure`, then those of an adversary, as they were judged."""
        return self._given

    @property
    def controls(self) -> tuple[Control, ...]:
        """The controls that were announced."""
        return tuple(self._controls)

    def _begin(self) -> None:
        if self._claim is None:
            raise ClaimError(f"{self.name}: predict before measuring, claim.predict(check)")
        self._claim.begin()

    def measure(self, *args: Any, **kwargs: Any) -> None:
        """Judge a measurement; the arguments are those of the kind's rule.

        Raises
        ------
        ClaimError
            If the check belongs to no claim, was measured before, or the arguments are
            impossible.
        """
        self._begin()
        if self._outcome is not None:
            raise ClaimError(
                f"{self.name}: is measured already; a second measurement would choose between"
                " them (run the chapter from its claim on)"
            )
        outcome, self._digest = _judged(self, False, args, kwargs, sys._getframe(1))
        self._outcome, self._given = outcome, (args,)
        self._claim.touch()

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

        Raises
        ------
        ClaimError
            If the check has a control of that name: the first one stays.
        """
        if any(other.name == name for other in self._controls):
            raise ClaimError(f"{self.name}: two controls are called {name!r}")
        made = Control(name, broke, self)
        self._controls.append(made)
        return made

    @property
    def verdict(self) -> str:
        """The verdict of the measurement, ``not run`` before it."""
        return self._outcome.verdict if self._outcome else NOT_RUN

    @property
    def passed(self) -> bool:
        """Whether the verdict supports the claim."""
        if self.expected is None:
            return self.verdict in (VERIFIED, REFUTED)
        return self.verdict == self.expected

    def unsaid(self) -> list[str]:
        """What the rules ask for and the check does not say, a few words each."""
        if self.role == PREMISE or self._controls:
            return []
        return ["no control of its own"]

    def record(self) -> dict[str, Any]:
        """Return the check as plain JSON data."""
        outcome = self._outcome or Outcome(NOT_RUN, None)
        return {
            "name": self.name,
            "kind": self.kind,
            "role": self.role,
            "measured": outcome.measured,
            "predicted": self.predicted,
            "interval": list(outcome.interval) if outcome.interval else None,
            "tolerance": self.tolerance,
            "verdict": outcome.verdict,
            "passed": self.passed,
            "reason": outcome.reason,
            "details": outcome.details,
            "unsaid": self.unsaid(),
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
        self._outcome: Outcome | None = None
        self._given: tuple[tuple[Any, ...], ...] = ()
        self._digest: str | None = None

    @property
    def outcome(self) -> Outcome | None:
        """What the check's rule said of the control, None before it."""
        return self._outcome

    @property
    def given(self) -> tuple[tuple[Any, ...], ...]:
        """The arguments of `measure`, as they were judged."""
        return self._given

    def measure(self, *args: Any, **kwargs: Any) -> None:
        """Judge the control's measurement by the check's own rule.

        A literal is no control, nor are the numbers of another check's control: the
        outcome is then inconclusive, and says so.

        Raises
        ------
        ClaimError
            If the control was measured before.
        """
        self.check._begin()
        if self._outcome is not None:
            raise ClaimError(f"{self.check.name}: the control {self.name!r} is measured already")
        outcome, self._digest = _judged(self.check, True, args, kwargs, sys._getframe(1))
        for other in self.check.claim.controls:
            if other is not self and other._digest == self._digest:
                where = f"{other.name!r} of {other.check.name!r}"
                outcome = _refused(outcome, f"the same numbers as the control {where}")
        self._outcome, self._given = outcome, (args,)
        self.check.claim.touch()

    @property
    def flipped(self) -> bool:
        """Whether the verdict is the opposite of the check's, see ``mflib.claims.checks.flips``."""
        found = self._outcome.verdict if self._outcome else NOT_RUN
        return flips(self.check.kind, self.check.verdict, found)

    @property
    def state(self) -> str:
        """flipped, weak (it decides nothing), stuck (the check's own verdict), or not run.

        Where the check itself decides nothing there is nothing to flip: undecided.
        """
        if self._outcome is None:
            return NOT_RUN
        if self.flipped:
            return "flipped"
        if self._outcome.verdict == INCONCLUSIVE:
            return "weak"
        return "stuck" if self.check.verdict in (VERIFIED, REFUTED) else "undecided"

    def record(self) -> dict[str, Any]:
        """Return the control as plain JSON data."""
        outcome = self._outcome or Outcome(NOT_RUN, None)
        return {
            "name": self.name,
            "check": self.check.name,
            "kind": self.check.kind,
            "broke": self.broke,
            "measured": outcome.measured,
            "interval": list(outcome.interval) if outcome.interval else None,
            "verdict": outcome.verdict,
            "reason": outcome.reason,
            "details": outcome.details,
            "flipped": self.flipped,
            "state": self.state,
        }


def _refused(outcome: Outcome, why: str) -> Outcome:
    details = outcome.details | {"refused": why}
    return Outcome(INCONCLUSIVE, outcome.measured, outcome.interval, f"refused: {why}", details)


def _judged(
    check: Check, control: bool, args: tuple, kwargs: dict[str, Any], frame: FrameType
) -> tuple[Outcome, str]:
    """Return a rule's outcome and the fingerprint of the numbers that it was given."""
    outcome = check._judge(*args, control=control, **kwargs)
    if why := suspicion((*args, *kwargs.values()), frame):
        outcome = _refused(outcome, why)
    return outcome, digest(args, kwargs)
