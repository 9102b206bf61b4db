r"""Trials of the rules: how often intervals miss, what is refuted, and what passes.

The rules are run on data whose truth is known, and the counts are committed, so that the
page on verdicts states levels that were checked:

.. code-block:: console

   python -m mflib.claims.trials book/records/verdicts.json
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .. import provenance
from .evidence import ClaimError
from .intervals import LEVEL, mean_interval, slope_interval
from .rate import Rate

__all__ = ["CURVES", "LAWS", "MEANS", "SCHEMA", "SIZES", "misses", "read", "record", "verdicts"]

#: Version of the record.
SCHEMA = 1

#: Five sizes over a factor 16, the smallest experiment that the laws are tried on.
SIZES = 2.0 ** np.arange(4, 9)

_X = SIZES / SIZES[0]


def _gaussian(rng: np.random.Generator, seeds: int) -> np.ndarray:
    return np.abs(rng.normal(size=(seeds, 5)))


def _nested(rng: np.random.Generator, seeds: int) -> np.ndarray:
    steps = np.diff(SIZES, prepend=0.0)
    walk = (np.sqrt(steps) * rng.normal(size=(seeds, 5))).cumsum(1)
    return np.abs(walk) / np.sqrt(SIZES)


def _chi_square_scale(rng: np.random.Generator, seeds: int) -> np.ndarray:
    rms = np.sqrt((rng.normal(size=(seeds, 5, 6)) ** 2).mean(-1))
    return np.abs(rng.normal(size=(seeds, 1))) * rms


def _lognormal_scale(rng: np.random.Generator, seeds: int) -> np.ndarray:
    return np.exp(rng.normal(size=(seeds, 1)) + 0.2 * rng.normal(size=(seeds, 5)))


def _student(rng: np.random.Generator, seeds: int) -> np.ndarray:
    return np.abs(rng.standard_t(3, size=(seeds, 5)))


def _changing(rng: np.random.Generator, seeds: int) -> np.ndarray:
    freedom = np.array([24, 12, 6, 3, 2])
    return np.sqrt(rng.chisquare(freedom, size=(seeds, 5)) / freedom)


def _skewed(rng: np.random.Generator, seeds: int) -> np.ndarray:
    slopes = 0.1 * (rng.exponential(size=(seeds, 1)) - 1)
    return np.exp(rng.normal(size=(seeds, 1))) * SIZES**slopes


#: Errors without a slope, by name: the average that is fitted, and draws (seeds, sizes).
LAWS: dict[str, tuple[str, Callable[[np.random.Generator, int], np.ndarray]]] = {
    "Gaussian, independent over sizes": ("rms", _gaussian),
    "one random walk a seed, read at all sizes": ("rms", _nested),
    "a chi-square scale shared by a seed's sizes": ("rms", _chi_square_scale),
    "a lognormal scale shared by a seed's sizes": ("rms", _lognormal_scale),
    "Student with 3 degrees of freedom (its square has no variance)": ("rms", _student),
    "a law whose shape changes with the size": ("rms", _changing),
    "seeds with slopes of their own, skewed": ("geometric", _skewed),
}

#: Samples of mean 1, by name.
MEANS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: 1 + 0.3 * rng.normal(size=n),
    "lognormal, sigma .3": lambda rng, n: np.exp(0.3 * rng.normal(size=n) - 0.045),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "lognormal, sigma 1": lambda rng, n: np.exp(rng.normal(size=n) - 0.5),
}


def _bend(by: float) -> np.ndarray:
    """A curve with local slopes from -by to +by, 0 on average."""
    u = np.log(_X) - np.log(_X).mean()
    return np.exp(by * u**2 / (2 * u.max()))


#: What multiplies the predicted power law, by name; x is the size over the smallest one.
CURVES: dict[str, np.ndarray] = {
    "1 (the law itself)": np.ones(5),
    "1 + .1/x": 1 + 0.1 / _X,
    "1 + 1/x (gone at the largest size)": 1 + 1 / _X,
    "floor, 5 % of the last error": 1 + 0.05 * _X / _X[-1],
    "floor, 50 % of the last error": 1 + _X / _X[-1],
    "bent: slopes from -.05 to +.05 about it": _bend(0.05),
    "bent: slopes from -.1 to +.1 about it": _bend(0.1),
    "bent: slopes from -.25 to +.25 about it": _bend(0.25),
    "a logarithm not divided out": np.log(SIZES),
    "exponent off by the tolerance, .06": _X**0.06,
    "exponent off by .12": _X**0.12,
}


def misses(kind: str, name: str, seeds: int, trials: int, generator: int = 0) -> int:
    """Return in how many trials an interval misses the truth.

    Parameters
    ----------
    kind : {"slope", "mean"}
        Of which interval.
    name : str
        A law of ``LAWS`` or ``MEANS``.
    seeds : int
        Independent seeds in a trial.
    trials : int
        How many.
    generator : int
        Seed of the draws.

    Returns
    -------
    int
    """
    rng, missed = np.random.default_rng([generator, seeds]), 0
    for _ in range(trials):
        if kind == "mean":
            low, high = mean_interval(MEANS[name](rng, seeds))[1]
            missed += not low <= 1 <= high
        else:
            statistic, draw = LAWS[name]
            low, high = slope_interval(SIZES, draw(rng, seeds) / _X, statistic)[1]
            missed += not low <= -1 <= high
    return missed


def _errors(rng: np.random.Generator, seeds: int, noise: float, curve: np.ndarray) -> np.ndarray:
    scale = np.exp(rng.normal(size=(seeds, 1)))
    return scale * curve / _X * np.exp(noise * rng.normal(size=(seeds, 5)))


def verdicts(
    curve: np.ndarray,
    seeds: int = 24,
    noise: float = 0.05,
    trials: int = 100,
    statistic: str = "geometric",
    generator: int = 0,
) -> dict[str, Any]:
    r"""Return how often the rule of a rate verifies and refutes :math:`n^{-1}` times a curve.

    Parameters
    ----------
    curve : ndarray
        Shape (5,), one factor a size.
    seeds, trials : int
        Seeds of a trial, and trials.
    noise : float
        Standard deviation of the logarithm of an error about its curve; every seed has a
        lognormal scale besides.
    statistic : str
        The average.
    generator : int
        Seed of the draws.

    Returns
    -------
    dict
        ``verified``, ``refuted`` (counts) and ``power`` (the mean of the offsets shown).
    """
    rng, check = np.random.default_rng([generator, seeds]), Rate("e", -1.0, statistic=statistic)
    found = [check._judge(SIZES, _errors(rng, seeds, noise, curve)) for _ in range(trials)]
    return {
        "verified": sum(o.verdict == "verified" for o in found),
        "refuted": sum(o.verdict == "refuted" for o in found),
        "power": float(np.mean([o.details["power"] for o in found])),
    }


def _power(seeds: int, noise: float, statistic: str, trials: int) -> dict[str, Any]:
    """Count the refutations of a law off by the offset that its cards show on average."""
    shown = verdicts(np.ones(5), seeds, noise, trials // 4, statistic, 1)["power"]
    counts = [
        verdicts(_X ** (sign * shown), seeds, noise, trials // 2, statistic, 2 + sign)["refuted"]
        for sign in (-1, 1)
    ]
    return {
        "seeds": seeds,
        "noise": noise,
        "statistic": statistic,
        "offset": shown,
        "refuted": sum(counts),
        "trials": 2 * (trials // 2),
    }


def record(trials: int = 2000) -> dict[str, Any]:
    """Return all counts that the page on verdicts shows, as plain data.

    Parameters
    ----------
    trials : int
        Trials of an interval; curves and powers take a fifth of it.

    Returns
    -------
    dict
    """
    few = max(20, trials // 5)
    return {
        "schema": SCHEMA,
        "versions": provenance.versions("numpy", "scipy"),
        "level": LEVEL,
        "misses": [
            {
                "kind": kind,
                "law": name,
                "seeds": seeds,
                "trials": trials,
                "missed": misses(kind, name, seeds, trials),
            }
            for kind, names in (("slope", LAWS), ("mean", MEANS))
            for name in names
            for seeds in (8, 12, 24, 48)
        ],
        "curves": [
            {
                "curve": name,
                "noise": noise,
                "seeds": 24,
                "trials": few,
                **verdicts(curve, 24, noise, few),
            }
            for name, curve in CURVES.items()
            for noise in (0.04, 0.08)
        ],
        "power": [
            _power(seeds, 0.08, statistic, few)
            for statistic in ("geometric", "rms")
            for seeds in (12, 24, 48)
        ],
    }


def read(path: Path) -> dict[str, Any]:
    """Return a committed record.

    Raises
    ------
    ClaimError
        If the file is no such record; the message says how to make one.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        if found["schema"] == SCHEMA and found["misses"] and found["curves"] and found["power"]:
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ClaimError(f"{path}: is no record of trials; python -m mflib.claims.trials {path}")


def worst(found: dict[str, Any], kind: str, fewest: int = 0) -> float:
    """Return the largest share of misses of a kind, over laws with at least so many seeds."""
    return max(
        row["missed"] / row["trials"]
        for row in found["misses"]
        if row["kind"] == kind and row["seeds"] >= fewest
    )


def standard_error(share: float, trials: int) -> float:
    """Return the standard error of a share, as of one miss where there was none."""
    share = min(max(share, 1 / trials), 1 - 1 / trials)
    return math.sqrt(share * (1 - share) / trials)


def main(argv: list[str] | None = None) -> int:
    """Run all trials and write their record."""
    parser = argparse.ArgumentParser(prog="python -m mflib.claims.trials", description=__doc__)
    parser.add_argument("file", type=Path, help="where the record goes")
    parser.add_argument("--trials", type=int, default=2000, help="trials of an interval")
    options = parser.parse_args(argv)
    if options.trials < 100:
        parser.error("--trials: at least 100")
    provenance.write(options.file, json.dumps(record(options.trials), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
