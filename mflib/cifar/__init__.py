"""CIFAR with Algorithm 1: data, networks, trainer, records and the table.

Needs torch and numpy only; everything else is imported where it is used. Start with
``python -m mflib.cifar --help``.
"""

from __future__ import annotations

__all__ = ["CifarError"]


class CifarError(ValueError):
    """Something the user can put right, said in one sentence."""
