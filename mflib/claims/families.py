r"""Families of questions, and paired comparisons with few pairs.

One interval at 99 % errs once in a hundred; a table of eight that is searched for a
success errs more often. Here are Holm's correction, the exact sign-flip test for pairs,
and what a family of decided questions says as one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from .checks import INCONCLUSIVE, REFUTED, VERIFIED
from .evidence import ClaimError, as_array

__all__ = [
    "FEWEST_PAIRS",
    "Decision",
    "Paired",
    "decide",
    "family",
    "holm",
    "paired",
    "paired_family",
    "sign_flip",
]

#: With fewer pairs nothing is decided: five pairs cannot reach 5 % by their signs.
FEWEST_PAIRS = 8

_EXACT = 16  # pairs up to which all sign patterns are counted


@dataclass(frozen=True)
class Paired:
    """The comparison of two methods over paired runs.

    Attributes
    ----------
    mean : float
        Of the differences.
    interval : tuple of float
        Student's, at the level asked for.
    spread : float
        Standard deviation of a difference.
    student, flips : float
        The two-sided p-values of Student's test and of the exact sign-flip test.
    pairs : int
        How many.
    """

    mean: float
    interval: tuple[float, float]
    spread: float
    student: float
    flips: float
    pairs: int

    @property
    def p(self) -> float:
        """The larger of both p-values: a decision needs both tests."""
        return max(self.student, self.flips)


def sign_flip(differences: Any) -> float:
    r"""Return the exact two-sided sign-flip p-value of paired differences.

    .. math:: p = 2^{-n}\,\#\{\epsilon\in\{-1,1\}^n :
        |\textstyle\sum\epsilon_iD_i| \ge |\sum D_i|\},

    exact, without normality, if exchanging the two methods would not matter. Beyond 16
    pairs 65,536 random patterns stand for all of them (the given one counted).

    Parameters
    ----------
    differences : array
        Shape (n,), one a pair.

    Returns
    -------
    float
        At least 2^(1-n).

    Examples
    --------
    >>> sign_flip([1.0, 2.0, 3.0])
    0.25
    """
    values = as_array("differences", differences).ravel()
    n = len(values)
    if n <= _EXACT:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.random.default_rng(n).choice([-1, 1], (2**_EXACT, n))
        signs[0] = 1
    return float(np.mean(np.abs(signs @ values) >= abs(values.sum()) * (1 - 1e-12)))


def paired(differences: Any, level: float = 0.95) -> Paired:
    """Return the comparison of two methods from the differences of paired runs.

    Parameters
    ----------
    differences : array
        Shape (n,), n at least 2; one a pair (same seed, data order and code).
    level : float
        Of the interval; for one of m questions at once, 1 - 0.05 / m.

    Returns
    -------
    Paired

    Raises
    ------
    ClaimError
        If there are fewer than two pairs or a difference is not finite: a pair that
        diverged is no pair to drop.
    """
    values = as_array("differences", differences).ravel()
    n = len(values)
    if n < 2:
        raise ClaimError(f"differences: at least two pairs are needed, got {n}")
    if not np.isfinite(values).all():
        raise ClaimError("differences: one is not finite; a diverged run has no difference")
    if not 0 < level < 1:
        raise ClaimError(f"level: expected a number between 0 and 1, got {level!r}")
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    error = spread / math.sqrt(n)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    student = float(2 * stats.t.sf(abs(mean) / error, n - 1)) if error > 0 else float(mean == 0)
    return Paired(mean, (mean - half, mean + half), spread, student, sign_flip(values), n)


def holm(p: Iterable[float], level: float = 0.05) -> list[bool]:
    r"""Return which of several questions are decided, all together at `level`.

    The k-th smallest of m p-values is compared with :math:`\alpha/(m-k+1)`, and from the
    first that fails nothing more is decided: the chance of any false decision is at most
    :math:`\alpha`, whatever the dependence.

    Parameters
    ----------
    p : iterable of float
        One a question; NaN counts as 1.
    level : float
        The chance :math:`\alpha` of any false decision.

    Returns
    -------
    list of bool
        In the order given.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [True, False, False]
    """
    values = np.array([1.0 if math.isnan(v) else v for v in map(float, p)])
    if ((values < 0) | (values > 1)).any():
        raise ClaimError("p: every p-value lies between 0 and 1")
    order = np.argsort(values, kind="stable")
    steps = values[order] <= level / (len(values) - np.arange(len(values)))
    decided = np.empty(len(values), bool)
    decided[order] = np.logical_and.accumulate(steps)
    return decided.tolist()


class Decision(NamedTuple):
    """What a family says of one of its questions.

    Attributes
    ----------
    side : int
        +1 or -1, the sign of the mean, or 0 where nothing is decided.
    rejected : bool
        Whether Holm's procedure excludes equality, whatever the signs say.
    level : float
        Of the interval to print: of the step of Holm's procedure that decided, which leaves
        out 0, or of the whole family.
    """

    side: int
    rejected: bool
    level: float


def decide(
    found: Sequence[Paired | None], level: float = 0.05, alone: float = 0.05
) -> list[Decision]:
    r"""Return what a family of paired comparisons says of each, decided together.

    A comparison is decided when Holm's procedure at `level` decides Student's p-value
    *and* the exact sign-flip p-value is at most `alone`; the sign is that of the mean.

    Parameters
    ----------
    found : sequence of Paired or None
        None for a question without an answer yet, which still counts as a question.
    level, alone : float
        The chance of any false decision, and the level of the second condition.

    Returns
    -------
    list of Decision

    Examples
    --------
    >>> rows = [paired([1.0, 2.0, 3.0, 2.0, 1.5, 2.5, 1.0, 3.0]), None]
    >>> [decision.side for decision in decide(rows)]
    [1, 0]
    """
    p = [each.student if each else 1.0 for each in found]
    order = list(np.argsort(p, kind="stable"))
    out = []
    for k, (each, rejected) in enumerate(zip(found, holm(p, level), strict=True)):
        rejected = rejected and each is not None
        agreed = rejected and each.flips <= alone
        steps = len(p) - order.index(k) if rejected else len(p)
        out.append(Decision(int(np.sign(each.mean)) if agreed else 0, rejected, 1 - level / steps))
    return out


def paired_family(
    differences: Sequence[Any], level: float = 0.05, alone: float = 0.05
) -> list[int]:
    r"""Return +1, -1 or 0 for each of several paired comparisons, by :func:`decide`.

    Fewer than eight pairs, or a difference that is not finite, decide nothing, and such
    a comparison still counts as a question.

    Parameters
    ----------
    differences : sequence of array
        One array a question.
    level, alone : float
        As in :func:`decide`.

    Returns
    -------
    list of int
    """
    found = []
    for values in differences:
        values = as_array("differences", values).ravel() if np.size(values) else np.zeros(0)
        fit = len(values) >= FEWEST_PAIRS and np.isfinite(values).all()
        found.append(paired(values) if fit else None)
    return [decision.side for decision in decide(found, level, alone)]


def family(sides: Iterable[int]) -> tuple[str, str]:
    r"""Return the verdict and the words of several open questions under one claim.

    Parameters
    ----------
    sides : iterable of int
        +1 for the reported side, -1 for the other, 0 for open.

    Returns
    -------
    verdict : str
        verified if all are on the reported side, refuted if all are on the other, else
        inconclusive.
    words : str
        The counts.

    Examples
    --------
    >>> family([1, 1, -1, 0])
    ('inconclusive', 'mixed: 2 on the reported side, 1 on the other, 1 open')
    """
    sides = list(sides)
    counts = {side: sides.count(side) for side in (1, -1, 0)}
    if not sides or sum(counts.values()) != len(sides):
        raise ClaimError("sides: each question is +1, -1 or 0, and there is at least one")
    words = f"{counts[1]} on the reported side, {counts[-1]} on the other, {counts[0]} open"
    if counts[1] == len(sides):
        return VERIFIED, "wholly on the reported side" if len(sides) == 1 else words
    if counts[-1] == len(sides):
        return REFUTED, "wholly on the other side" if len(sides) == 1 else words
    kind = "mixed: " if counts[1] and counts[-1] else ""
    return INCONCLUSIVE, kind + words
