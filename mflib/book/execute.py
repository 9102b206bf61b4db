"""One chapter's run on a worker: papermill with its kernel in a fork of a warm process."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import psutil

from .chapters import ChapterError, discover, find_root, label, library, load
from .executed import flaw

__all__ = ["MARK", "RUNNING", "clear", "outcome", "work"]

#: The variable by which every process of a run is known: the notebook that it writes.
MARK = "MFLIB_WRITES"

#: How the name ends of a notebook that is being written.
RUNNING = ".running.ipynb"


def clear(where: Path) -> int:
    """Kill what works for a notebook, or for any notebook of a folder; return how many.

    Kernels, and what they started, carry :data:`MARK` in their environment, so that they
    are found whoever their parent is by now.
    """
    own = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    count = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            mark = process.environ().get(MARK) if process.pid not in own else None
            if mark and where in (Path(mark), Path(mark).parent):
                process.kill()
                count += 1
    return count


def _last(partial: Path) -> str:
    """Name the cell that was begun last."""
    with contextlib.suppress(ChapterError):
        cells = load(partial)
        for index in reversed(range(len(cells))):
            about = cells[index]["metadata"].get("papermill")
            if isinstance(about, dict) and about.get("start_time"):
                return label(cells, index)
    return "before its first cell"


def _run(
    source: str,
    partial: Path,
    given: dict[str, Any],
    root: str,
    timeout: float | None,
    **engine: Any,
) -> str:
    """Execute one notebook; return what went wrong, or an empty text."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        # braces in a path would be formatted; a kernel that prints much may be slow to tell
        papermill.execute_notebook(
            *(path.replace("{", "{{").replace("}", "}}") for path in (source, str(partial))),
            parameters=given,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            cwd=root,
            log_output=False,
            start_timeout=300,
            execution_timeout=timeout,
            iopub_timeout=600,
            shutdown_kernel="immediate",
            **engine,
        )
    except PapermillExecutionError as error:
        # two cells that tell of the error stand before it by now
        cells = [c for c in load(partial) if "papermill-error-cell-tag" not in c["tags"]]
        where = label(cells, error.cell_index)
        if error.ename == "KeyboardInterrupt":
            return f"{where}: interrupted"
        return f"{where}: {error.ename}: {error.evalue}"
    except CellTimeoutError:
        return (
            f"{_last(partial)}: took longer than {timeout:g} s; give it more with --timeout, "
            "or 0 for no limit"
        )
    except DeadKernelError:
        return (
            f"{_last(partial)}: the kernel died; most often the memory was too little "
            "(fewer processes with --jobs, smaller parameters)"
        )
    except OSError as error:
        return f"could not be written: {error.strerror or error} ({partial.parent})"
    except Exception as error:  # a notebook can be wrong in ways that papermill does not name
        return f"{_last(partial)}: {type(error).__name__}: {error}"
    return ""


def work(order: dict[str, Any]) -> dict[str, Any]:
    """Run one chapter on a worker, in a fork of its warm process.

    Parameters
    ----------
    order : dict
        ``chapter`` (its name), ``given`` (the parameters), ``root`` (the caller's checkout; a
        worker that has no such folder uses its own), ``mark`` (the fingerprint that the
        worker must find, or None), ``cell`` and ``whole`` (seconds that a cell and the whole
        may take, or None), ``where`` (the folder to work in, or None), ``keep`` (whether the
        executed notebook is wanted even if nothing was wrong).

    Returns
    -------
    dict
        ``wrong`` (what was, or an empty text), ``version`` (whether it was the version),
        ``notebook`` (its text, or None), ``claims`` (their records), ``mark``, ``seconds``
        and ``worker``.
    """
    from . import (
        engine,  # registers itself
        inputs,
        ledger,
    )

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what is wrong is returned
    engine.warm().ready()
    began, given = time.perf_counter(), order["given"]
    found = {
        "wrong": "",
        "version": False,
        "notebook": None,
        "claims": [],
        "mark": "",
        "worker": f"{socket.gethostname()}/{os.getpid()}",
    }
    made = None if order["where"] else tempfile.mkdtemp(prefix="mflib-")
    partial = Path(order["where"] or made) / f".{order['chapter']}.{uuid.uuid4().hex}{RUNNING}"
    try:
        root = Path(order["root"])
        if not (root / "notebooks" / f"{order['chapter']}.ipynb").is_file():
            root = find_root()
        (chapter,) = discover(root, [order["chapter"]])
        found["mark"] = inputs.fingerprint(chapter, given)
        if order["mark"] not in (None, found["mark"]):
            found["version"] = True
            raise ChapterError(
                f"worker {found['worker']} has another version of {order['chapter']}, of what it "
                f"imports or of a library (in {root}); give it the caller's, start it again, and "
                "give the same command again"
            )
        path = filter(None, [_first(library(root)), os.environ.get("PYTHONPATH", "")])
        environment = {
            "PYTHONPATH": os.pathsep.join(path),
            "MFLIB_ROOT": str(root),
            MARK: str(partial),
        }
        limit = {}
        if order["whole"]:
            end = time.monotonic() + order["whole"]
            limit["timeout_func"] = lambda cell: max(end - time.monotonic(), 0.001)
        found["wrong"] = _run(
            str(chapter.path),
            partial,
            given,
            str(root),
            order["whole"] or order["cell"],
            engine_name=engine.NAME,
            environment=environment,
            **limit,
        )
        if not found["wrong"]:
            found["wrong"] = flaw(partial, chapter, given)
        if not found["wrong"]:
            found["claims"] = ledger.claims_of(partial, order["chapter"])
        if found["wrong"] or order["keep"]:
            found["notebook"] = partial.read_text("utf-8") if partial.is_file() else None
    except ChapterError as error:
        found["wrong"] = str(error)
    except OSError as error:
        found["wrong"] = f"{error.strerror or error} ({error.filename or partial.parent})"
    finally:
        clear(partial)  # what the chapter started and did not end
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if made:
            shutil.rmtree(made, ignore_errors=True)
    return found | {"seconds": time.perf_counter() - began}


def _first(folder: Path) -> str:
    """Return what goes before the path; a folder of packages is found anyway."""
    return "" if folder.name in ("site-packages", "dist-packages") else str(folder)


def outcome(future: Any) -> dict[str, Any]:
    """Return what a worker's run came to; one that was lost with its workers has failed.

    Raises
    ------
    ChapterError
        If the workers cannot run chapters at all.
    """
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, (ImportError, AttributeError)):
        raise ChapterError(
            f"scheduler: its workers cannot run chapters ({error}); install this version of "
            "mflib there, or start them in the checkout"
        )
    return {
        "wrong": f"its worker was lost, more than once ({type(error).__name__}); most often the "
        "memory was too little",
        "version": False,
        "notebook": None,
        "claims": [],
        "seconds": None,
        "worker": "",
    }
