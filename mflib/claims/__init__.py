r"""Claims: predictions stated first, measurements judged by fixed rules, controls.

A claim knows numbers, not networks: nothing here imports the mathematics.
"""

from .checks import Check, Control, Outcome
from .claim import KINDS, SCHEMA, Claim
from .evidence import ClaimError
from .rules import Bound, Counterexample, Identity, Limit, Rate, Reproduction
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
