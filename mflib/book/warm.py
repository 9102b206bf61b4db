"""A warm process: what every kernel imports is imported once, and each kernel is a fork of it.

The file is run by itself (``python warm.py``) and imports nothing of mflib, so that a fork
finds the library of its own checkout, as it is then. Nothing is computed in the warm process:
a fork is what a new interpreter is after its imports. It reads a line of JSON for each kernel
that is asked for, and writes one when a kernel begins and when it ends; when its input ends,
which is when its owner does, however that went, it ends its forks and itself.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["MODULES", "Fork", "Warm"]

#: What is imported before any fork; what is not installed is left to the chapter that needs it.
MODULES = (
    "torch",
    "matplotlib.pyplot",
    "seaborn",
    "scipy.stats",
    "scipy.optimize",
    "scipy.integrate",
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipykernel.debugger",
    "IPython.core.completerlib",
    "IPython.core.debugger_backport",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "tornado.queues",
    "psutil",
)

#: Seconds that the imports may take.
PATIENCE = 300.0


class Fork:
    """One forked process, in the words of ``subprocess.Popen``."""

    stdin = stdout = stderr = None

    def __init__(self) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self._begun, self._ended = threading.Event(), threading.Event()

    def _tell(self, pid: int | None = None, status: int | None = None) -> None:
        if pid:
            self.pid = pid
            self._begun.set()
        if status is not None:
            self.returncode = status
            self._begun.set()
            self._ended.set()

    def poll(self) -> int | None:
        """Return the exit status, minus the signal's number, or None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end; return the status as :meth:`poll` does."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("a forked kernel", timeout or 0.0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process and to what it started in its session."""
        if self.pid and self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class Warm:
    """The warm process as its owner sees it; it is started at once and ready when it can be.

    Parameters
    ----------
    environment : dict, optional
        Of the warm process; default this one's. Threads are counted by it.

    Examples
    --------
    >>> with Warm() as warm:                                      # doctest: +SKIP
    ...     fork = warm.fork(["-f", "connection.json"], ".", dict(os.environ))
    ...     fork.kill()
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self._forks: dict[int, Fork] = {}
        self._numbers, self._lock = itertools.count(), threading.Lock()
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether forks can be asked for."""
        return self._process.poll() is None

    def ready(self) -> None:
        """Wait until it has imported what it is to import."""
        self._ready.wait(PATIENCE)

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stdout:
                told = json.loads(line)
                if "ready" in told:
                    self._ready.set()
                else:
                    self._forks[told["number"]]._tell(told.get("pid"), told.get("status"))
        self._ready.set()
        with self._lock:
            lost = list(self._forks.values())
        for fork in lost:
            if fork.returncode is None:
                fork.kill()
                fork._tell(status=-signal.SIGKILL)

    def fork(self, words: list[str], folder: str, environment: dict[str, str]) -> Fork:
        """Start a kernel in a fork.

        Parameters
        ----------
        words : list of str
            The arguments of ``ipykernel_launcher``.
        folder : str
            Where it works.
        environment : dict
            All of its environment.

        Raises
        ------
        RuntimeError
            If the warm process has ended.
        """
        self.ready()
        fork = Fork()
        order = {"words": words, "folder": folder, "environment": environment}
        with self._lock:
            number = next(self._numbers)
            self._forks[number] = fork
            with contextlib.suppress(OSError, ValueError):
                self._process.stdin.write(json.dumps(order | {"number": number}).encode() + b"\n")
                self._process.stdin.flush()
        while not fork._begun.wait(0.2):
            if not self.alive:
                fork._tell(status=1)
        if not fork.pid:
            raise RuntimeError(
                "the warm process ended, from which kernels are forked (most often the memory "
                "was too little); give the same command again"
            )
        return fork

    def close(self) -> None:
        """End it and its forks."""
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


# the warm process itself ---------------------------------------------------------------
def _kernel(order: dict[str, Any], before: list[str]) -> None:
    """Become a kernel; `before` is what PYTHONPATH had put on the path."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # a local worker blocks it
    os.environ.clear()
    os.environ.update(order["environment"])
    os.environ["JPY_PARENT_PID"] = str(os.getppid())  # a kernel ends with its parent
    os.chdir(order["folder"])
    found = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [p for p in sys.path if p not in before]
    if not os.environ.get("PYTHONSAFEPATH"):
        # where IPython puts the working folder: after the standard library
        at = (i for i, p in enumerate(paths) if Path(p).name in ("site-packages", "dist-packages"))
        paths.insert(next(at, 0), "")
    sys.path[:] = [p for p in found if p] + paths
    # two forks, as two interpreters, have nothing in common that nobody seeded
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    if torch := sys.modules.get("torch"):
        torch.default_generator.seed()
    sys.argv = ["ipykernel_launcher", *order["words"]]
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance()


def _fork(order: dict[str, Any], before: list[str], inherited: list[int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        for number in inherited:
            os.close(number)
        gc.unfreeze()
        gc.enable()
        _kernel(order, before)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _end(forks: dict[int, int]) -> None:
    for pid in forks:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    for pid in forks:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 2
    while forks and time.monotonic() < end:
        with contextlib.suppress(ChildProcessError):
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.01)
            continue
        return


def main() -> int:
    """Serve until standard input ends."""
    orders, words = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    # the backend of every kernel; it is not loaded before there is one
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    for name in MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.disable()
    gc.freeze()
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    forks: dict[int, int] = {}

    def tell(**told: Any) -> None:
        os.write(words, json.dumps(told).encode() + b"\n")

    def reap() -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                number = forks.pop(ended[0])
                # what it started in its session ends with it
                with contextlib.suppress(OSError):
                    os.killpg(ended[0], signal.SIGKILL)
                tell(number=number, status=os.waitstatus_to_exitcode(ended[1]))

    try:
        tell(ready=os.getpid())
        rest = b""
        while True:
            readable = select.select([orders, woken], [], [])[0]
            if woken in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
                reap()
            if orders in readable:
                piece = os.read(orders, 1 << 16)
                if not piece:
                    return 0
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    order = json.loads(line)
                    pid = _fork(order, before, [orders, words, woken, wakes])
                    forks[pid] = order["number"]
                    tell(number=order["number"], pid=pid)
    except BrokenPipeError:
        return 0
    finally:
        _end(forks)


if __name__ == "__main__":
    sys.path[:] = [p for p in sys.path if p != str(Path(__file__).parent)]
    os._exit(main())
