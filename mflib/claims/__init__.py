r"""Claims: predictions stated first, measurements judged by fixed rules, controls.

A claim knows numbers, not networks: nothing here imports the mathematics.
"""

from .checks import Check, ClaimError, Control, Outcome
from .claim import KINDS, SCHEMA, Claim
from .rules import Bound, Counterexample, Identity, Limit, Rate, Reproduction

__all__ = [
    "KINDS",
    "SCHEMA",
    "Bound",
    "Check",
    "Claim",
    "ClaimError",
    "Control",
    "Counterexample",
    "Identity",
    "Limit",
    "Outcome",
    "Rate",
    "Reproduction",
]
