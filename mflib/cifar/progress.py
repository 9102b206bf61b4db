"""Progress on the terminal: a rich bar where there is one, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

__all__ = ["Progress"]


def _eta(seconds: float) -> str:
    hours, rest = divmod(int(max(seconds, 0)), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


class Progress:
    """Shows images per second and the latest error of runs advanced together.

    Parameters
    ----------
    total : int
        Images to see.
    label : str
        What runs.
    quiet : bool
        Show nothing.
    """

    def __init__(self, total: int, label: str, quiet: bool = False) -> None:
        self.total, self.label, self.quiet = total, label, quiet
        self.images, self.began = 0, time.monotonic()
        self.latest: dict[str, Any] = {}
        self._bar = self._task = None
        if not quiet and sys.stderr.isatty():
            try:
                from rich.console import Console
                from rich.progress import BarColumn, TimeRemainingColumn
                from rich.progress import Progress as Bar
            except ImportError:
                return
            self._bar = Bar(
                "{task.description}", BarColumn(), "{task.fields[rate]}",
                TimeRemainingColumn(), console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(label, total=total, rate="")

    @property
    def rate(self) -> float:
        """Images per second so far."""
        return self.images / max(time.monotonic() - self.began, 1e-9)

    def __call__(self, images: int, run: Any = None, entry: dict | None = None) -> None:
        self.images += images
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.update(self._task, advance=images, rate=f"{self.rate:,.0f} images/s")
        if entry is None:
            return
        error = entry["test_error"]
        shown = "" if error is None else f"  test error {error:5.2f} %"
        diverged = run.status == "diverged"
        loss = "  diverged" if diverged else f"  loss {entry['loss']:.3f}"
        line = f"{run.cfg.name}  epoch {entry['epoch']}/{run.cfg.epochs}{loss}{shown}"
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, soft_wrap=True)
        else:
            left = (self.total - self.images) / max(self.rate, 1e-9)
            print(
                f"{line}  {self.rate:,.0f} images/s  left {_eta(left)}",
                file=sys.stderr, flush=True,
            )

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
