"""Claims and data whose verdict is known, for the tests of the rules."""

import numpy as np

from mflib.claims import Claim

SIZES = 2.0 ** np.arange(4, 10)


def claim(kind="identity", id="X-1"):
    return Claim(id, paper="lu2020", where="here", kind=kind, statement="$a < b$.", seed=0)


def measured(check, *data, kind=None, control=None, premise=False, **options):
    """Return a claim of one check, measured, with one control where its data are given."""
    made = claim(kind or check.carries[0])
    made.predict(check)
    check.measure(*data, **options)
    if control is not None:
        check.control("broken", broke="something").measure(*control)
    return made


def verdict(check, *data, **options):
    """Return the verdict of one check on some data."""
    return measured(check, *data, **options).checks[0].verdict


def outcome(check, *data, **options):
    return measured(check, *data, **options).checks[0].outcome


def power_law(exponent, seeds=24, sizes=SIZES, noise=0.01, seed=0, curve=1.0):
    """Errors of shape (seeds, sizes): a law times a curve, a scale a seed, and noise."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(size=(seeds, 1)))
    own = np.exp(noise * rng.normal(size=(seeds, len(sizes))))
    return scale * sizes**exponent * curve * own
