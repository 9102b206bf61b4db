r"""Claims: predictions stated first, measurements judged by fixed rules, controls.

A claim knows numbers, not networks: nothing here imports the mathematics. The rules belong
to the library, not to a chapter, so that no chapter can bend them:

========================  ==========================================================
identity                  verified within the tolerance, refuted beyond ten times it
rate                      a slope and the slope at its end, both with intervals
limit                     verified when the whole interval lies within prediction +-
                          tolerance, refuted when it lies wholly outside
bound                     over all trials and an adversarial search; the worst ratio
                          is kept as the tightness
counterexample            the sentence evaluated on an explicit instance
reproduction              an open question, reported whichever way
below, mean bound,        a small quantity, a bound on a mean, a bound that holds
share bound               with a probability
========================  ==========================================================

NaN or infinity anywhere is never verified, nor are few seeds or copies of a seed.
"""

from .bound import Bound
from .checks import Check, Control, Outcome
from .claim import KINDS, SCHEMA, Claim
from .counterexample import Counterexample
from .evidence import ClaimError
from .identity import Identity
from .number import Limit, Reproduction
from .rate import Rate
from .thresholds import Below, MeanBound, ShareBound

__all__ = [
    "KINDS",
    "SCHEMA",
    "Below",
    "Bound",
    "Check",
    "Claim",
    "ClaimError",
    "Control",
    "Counterexample",
    "Identity",
    "Limit",
    "MeanBound",
    "Outcome",
    "Rate",
    "Reproduction",
    "ShareBound",
]
