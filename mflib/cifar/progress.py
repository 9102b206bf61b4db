"""Progress on the terminal: a line an epoch."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

__all__ = ["Progress"]


class Progress:
    """Says after every epoch how far runs advanced together have come.

    Parameters
    ----------
    total : int
        Images to see.
    quiet : bool
        Say nothing.
    """

    def __init__(self, total: int, quiet: bool = False) -> None:
        self.total, self.quiet = total, quiet
        self.images, self.began = 0, time.monotonic()

    def __call__(self, images: int, run: Any = None, entry: dict | None = None) -> None:
        """Count images; say what an epoch's entry says."""
        self.images += images
        if self.quiet or entry is None:
            return
        rate = self.images / max(time.monotonic() - self.began, 1e-9)
        left = timedelta(seconds=int((self.total - self.images) / max(rate, 1e-9)))
        error, loss = entry["test_error"], entry["loss"]
        told = "diverged" if run.status == "diverged" else f"loss {loss:.3f}"
        told += "" if error is None else f"  test error {error:5.2f} %"
        print(
            f"{run.cfg.name}  epoch {entry['epoch']}/{run.cfg.epochs}  {told}  "
            f"{rate:,.0f} images/s  left {left}",
            file=sys.stderr,
            flush=True,
        )
