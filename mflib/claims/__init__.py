r"""Claims: predictions stated first, measurements judged by fixed rules, controls.

A claim knows numbers, not networks: nothing here imports the mathematics.
"""

from .checks import (
    Bound,
    Check,
    ClaimError,
    Control,
    Counterexample,
    Identity,
    Limit,
    Outcome,
    Rate,
    Reproduction,
)
from .claim import KINDS, SCHEMA, Claim

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
