"""A folder that one run at a time works in, and the signals that end it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..provenance import write
from .chapters import ChapterError, find_root
from .execute import clear

__all__ = ["Ended", "held", "refuse", "signals", "unwritable"]

#: Folders of a checkout that hold what people write.
_SOURCES = ("notebooks", "mflib", "book", "tests", "benchmarks", ".git", ".github", ".ci")


class Ended(BaseException):
    """A signal ended the run; its number is the first argument."""


def refuse(root: Path, out: Path) -> None:
    """Refuse a folder in or above the sources of this checkout or of another."""
    checkouts = [root]
    with contextlib.suppress(ChapterError):
        checkouts.append(find_root(out))
    for checkout in checkouts:
        inside = any(out.is_relative_to(checkout / name) for name in _SOURCES)
        if inside or checkout.is_relative_to(out):
            raise ChapterError(
                f"--out {out}: executed chapters would lie over the sources of {checkout}; "
                "choose a folder beside them, for instance runs/1"
            )


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
    """Hold a folder: one run at a time; what a killed one left there is ended and removed."""
    import filelock

    path = out / ".lock"
    try:
        out.mkdir(parents=True, exist_ok=True)
        # the system frees the lock of a process that is gone: none is ever stale
        lock = filelock.FileLock(path)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        with contextlib.suppress(OSError, ValueError):
            who = (out / ".run").read_text("utf-8").strip()
            raise ChapterError(
                f"{out}: another run works here ({who}); wait for it, or choose another folder "
                "with --out"
            ) from None
        raise ChapterError(
            f"{out}: another run works here; wait for it, or choose another folder with --out"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise ChapterError(unwritable(out, error)) from None
    try:
        clear(out)
        try:
            for pattern in (".*.running.ipynb", ".*.part"):
                for left in out.glob(pattern):
                    left.unlink(missing_ok=True)
            write(out / ".run", f"process {os.getpid()} on {socket.gethostname()}\n")
        except OSError as error:
            raise ChapterError(unwritable(out, error)) from None
        yield
    finally:
        lock.release()


def unwritable(out: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or error
    return f"{out}: cannot be written ({reason}); choose another with --out"


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does; what is ignored stays so.

    The first one counts: those that come while a run is being ended say nothing new.
    """
    numbers = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
    before: dict[int, Any] = {}

    def end(number: int, frame: Any) -> None:
        for each in before:
            signal.signal(each, lambda number, frame: None)
        raise KeyboardInterrupt if number == signal.SIGINT else Ended(number)

    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
