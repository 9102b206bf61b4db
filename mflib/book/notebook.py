"""What every chapter does before its own work, in one line."""

from __future__ import annotations

import torch

from . import figures

__all__ = ["begin"]


def begin(seed: int) -> torch.Generator:
    """Set one thread and the book's figure style; return the chapter's generator.

    Parameters
    ----------
    seed : int
        The chapter's parameter; every random number of the chapter follows from it.

    Returns
    -------
    torch.Generator
        On the CPU, seeded; nothing global is seeded.
    """
    torch.set_num_threads(1)
    figures.use_style()
    return torch.Generator().manual_seed(seed)
