"""Workers: one interface for what runs here, on a local cluster, and on a running scheduler.

The chapters' runs, the sweeps and the trainer hand their work to the same executor, in the
words of ``concurrent.futures``; behind it stands Dask distributed, or this process itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from multiprocessing import resource_tracker
from queue import Empty, SimpleQueue
from typing import Any

__all__ = ["Inline", "Workers", "WorkersError", "checked", "completed", "connect", "local"]

#: Seconds without any worker of a cluster after which the client gives up.
PATIENCE = 60.0

#: The environment of a process that computes with some threads, by what counts them.
COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class WorkersError(RuntimeError):
    """A scheduler or its workers cannot be used; one line, with the remedy."""


class Inline(Executor):
    """This process itself: a task is run when it is submitted."""

    def submit(self, call: Callable[..., Any], /, *words: Any, **named: Any) -> Future:
        """Run a task; its future is done."""
        future: Future = Future()
        try:
            future.set_result(call(*words, **named))
        except Exception as error:
            future.set_exception(error)
        return future


class Workers:
    """An executor and how it is with its workers.

    Attributes
    ----------
    executor : object
        Takes tasks.
    remote : bool
        Whether the workers may be on other machines.
    ahead : int
        Tasks that are handed over before their turn.
    link : str
        The address of a dashboard, or nothing.
    """

    def __init__(self, executor: Executor, client: Any = None, remote: bool = False) -> None:
        self.executor, self.client, self.remote = executor, client, remote
        self.ahead = 1 if client is None else 1000
        link = getattr(client, "dashboard_link", None) or ""
        self.link = link if client is not None and _has_dashboard() else ""

    def count(self) -> int:
        """Return how many workers there are now; none where the scheduler does not answer."""
        if self.client is None:
            return 1
        if self.client.status != "running":
            return 0
        with contextlib.suppress(Exception):
            return len(self.client.sync(self.client.scheduler.ncores, callback_timeout=5.0))
        return 0

    def anywhere(self, call: Callable[[], Any]) -> Any:
        """Return what a call returns on some worker; lost workers are found out in time."""
        ((_, future),) = completed(self, [(call,)])
        return future.result()


def _has_dashboard() -> bool:
    from importlib.util import find_spec

    return find_spec("bokeh") is not None


def completed(
    workers: Workers,
    tasks: Iterable[tuple],
    patience: float = PATIENCE,
) -> Iterator[tuple[tuple, Future]]:
    """Run tasks; yield each with its future when that is done.

    Tasks are taken when their turn comes near, so that what produces them may look at what
    has been done meanwhile.

    Parameters
    ----------
    workers : Workers
        Where they run.
    tasks : iterable of tuple
        A callable and its arguments.
    patience : float
        Seconds without any worker after which it gives up.

    Raises
    ------
    WorkersError
        If there is no worker for so long, or the scheduler is lost.
    """
    waiting, done = iter(tasks), SimpleQueue()
    pending: dict[Future, tuple] = {}
    seen, more, looks = time.monotonic(), True, 0
    try:
        while True:
            while more and len(pending) < workers.ahead:
                task = next(waiting, None)
                if task is None:
                    more = False
                    break
                future = workers.executor.submit(*task)
                pending[future] = task
                future.add_done_callback(done.put)
            if not pending:
                return
            try:
                future = done.get(timeout=min(patience / 4, 2.0))
            except Empty:
                # one slow answer on a busy machine does not say that nobody is there
                looks += 1
                if workers.count():
                    seen, looks = time.monotonic(), 0
                elif time.monotonic() - seen > patience and looks > 2:
                    raise WorkersError(
                        f"scheduler: for {patience:g} seconds there has been no worker"
                    ) from None
                continue
            seen, looks = time.monotonic(), 0
            task = pending.pop(future)
            if future.cancelled():
                raise WorkersError("scheduler: it was lost, and what it had to do with it")
            yield task, future
    finally:
        for future in pending:
            future.cancel()


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise WorkersError("scheduler: needs dask (pip install 'dask[distributed]')") from None
    # a scheduler that is lost is one error of ours; its client would print tracebacks beside
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    return distributed


def checked(scheduler: str) -> str:
    """Return a scheduler's address.

    Raises
    ------
    WorkersError
        If it has not the form of one.
    """
    if not re.search(r"[^:/]+:\d+$", scheduler):
        raise WorkersError(f"scheduler: {scheduler!r} is not like tcp://host:8786")
    return scheduler


@contextlib.contextmanager
def connect(scheduler: str, timeout: float = 20.0, retries: int = 3) -> Iterator[Workers]:
    """Give the workers of a running scheduler.

    Parameters
    ----------
    scheduler : str
        Its address, like ``tcp://host:8786``.
    timeout : float
        Seconds in which it must answer.
    retries : int
        How often a task that raised is tried again.

    Raises
    ------
    WorkersError
        If dask is not installed, the scheduler does not answer, or it has no worker.
    """
    checked(scheduler)
    distributed = _distributed()
    try:
        client = distributed.Client(scheduler, timeout=timeout, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise WorkersError(f"scheduler: {scheduler} does not answer ({error})") from None
    with _closing(client):
        if not client.nthreads():
            raise WorkersError(f"scheduler: {scheduler} has no worker; start one, dask worker ...")
        executor = client.get_executor(pure=False, retries=retries)
        yield Workers(executor, client, remote=True)


@contextlib.contextmanager
def local(
    jobs: int | None = None, threads: int = 1, environment: dict[str, str] | None = None
) -> Iterator[Workers]:
    """Give workers of this machine, each a process that is started anew when it dies.

    Parameters
    ----------
    jobs : int
        Processes; default one a core.
    threads : int
        Threads with which each may compute.
    environment : dict
        More of their environment.
    """
    distributed = _distributed()
    counts = dict.fromkeys(COUNTS, str(threads))
    with _uninterrupted() as heard:
        cluster = distributed.LocalCluster(
            n_workers=jobs or os.cpu_count() or 1,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            memory_limit=0,
            silence_logs=logging.CRITICAL,
            dashboard_address=":0",
            env=counts | (environment or {}),
        )
    try:
        if heard:
            signal.raise_signal(signal.SIGINT)
        client = distributed.Client(cluster, set_as_default=False)
        with _closing(client):
            yield Workers(client.get_executor(pure=False), client)
    finally:
        with contextlib.suppress(Exception):
            cluster.close(timeout=5)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[list]:
    """Let processes that are started meanwhile leave Ctrl-C to this one, which ends them.

    Yields what will hold a Ctrl-C that came meanwhile. Threads and processes inherit that the
    signal is blocked, those as well that Dask starts later in place of dead ones.
    """
    heard: list = []
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "pthread_sigmask"):
        yield heard
        return
    resource_tracker.ensure_running()  # its own start would let the signal through again
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield heard
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _closing(client: Any) -> Iterator[None]:
    try:
        yield
    finally:
        # of a scheduler that is gone, nobody waits for an answer
        with contextlib.suppress(Exception):
            client.close(timeout=2)
