"""One chapter's run: papermill in a process of its own, which ends with its parent.

:mod:`mflib.book.runner` starts it. Standard input is a pipe that only the parent holds: its
end says that the parent is gone, however it went.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from .executed import flaw

__all__ = ["MARK", "SAYS", "clear", "main", "work"]

#: The variable by which every process of a run is known: the notebook that it writes.
MARK = "MFLIB_WRITES"

#: How the name ends of a notebook that is being written.
RUNNING = ".running.ipynb"

#: How the line on standard error begins that says what went wrong.
SAYS = "mflib says: "


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


def _leave(partial: Path, status: int) -> None:
    clear(partial)
    with contextlib.suppress(OSError):
        partial.unlink(missing_ok=True)
    os._exit(status)


def _watch(partial: Path) -> None:
    """End this process when standard input does, which is when the parent dies."""
    with contextlib.suppress(OSError, ValueError):
        while sys.stdin.buffer.read(4096):
            pass
    # the main thread does it between two steps, lest a kernel start while it is looked for
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    _leave(partial, 1)


def _last(partial: Path) -> str:
    """Name the cell that was begun last."""
    from .chapters import ChapterError, label, load

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

    from .chapters import label, load

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
    from . import inputs, ledger
    from .chapters import ChapterError, discover, find_root, library

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
        logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what is wrong is returned
        from . import engine  # registers itself

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


def main(order: str) -> int:
    """Run one notebook in this process; a line on standard error says what failed."""
    source, target, given, root, timeout = json.loads(order)
    partial = Path(target)

    def end(number: int, frame: FrameType | None) -> None:
        _leave(partial, 128 + number)

    for number in (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, end)
    threading.Thread(target=_watch, args=(partial,), daemon=True).start()
    wrong = _run(source, partial, given, root, timeout)
    if wrong:
        print(SAYS + " ".join(wrong.split()), file=sys.stderr, flush=True)
    # what a chapter started and did not end goes with it
    clear(partial)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")
    # without the interpreter's own clean-up, which the watching thread's read could hold
    os._exit(main(sys.argv[1]))
