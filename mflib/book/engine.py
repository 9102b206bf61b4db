"""The papermill engine ``mflib``: a kernel is a fork of a warm process, not a new interpreter.

``papermill --engine mflib in.ipynb out.ipynb`` finds it by its entry point. The kernel is the
same program, ipykernel, asked in the same way; only its imports were made before. The results
are those of a kernel of its own, bit for bit, and a crash stays in its fork.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import shutil
import sys
import tempfile
import threading
import time
from functools import cache
from queue import Empty
from typing import Any, ClassVar

from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

from ..workers import COUNTS
from .warm import Fork, Warm

__all__ = ["NAME", "ForkEngine", "close", "register", "warm"]

#: How papermill knows it.
NAME = "mflib"

_lock = threading.Lock()
_owned: dict[int, Warm] = {}


def warm() -> Warm:
    """Return this process's warm process, starting it where there is none."""
    with _lock:
        mine = _owned.get(os.getpid())
        if mine is None or not mine.alive:
            # a kernel works with one thread unless its user says otherwise
            environment = dict.fromkeys(COUNTS, "1") | {
                "PYDEVD_DISABLE_FILE_VALIDATION": "1",
                # pandas imports pyarrow where it is, whose allocator would start a thread
                "JE_ARROW_MALLOC_CONF": "background_thread:false",
            }
            environment |= os.environ
            # Dask's workers give memory back at every turn; tensors of the same sizes come
            # again and again, and half of the time went into fetching their pages anew
            environment.pop("MALLOC_TRIM_THRESHOLD_", None)
            mine = Warm(environment)
            _owned.clear()  # a forked owner has no part in its parent's
            _owned[os.getpid()] = mine
        return mine


@atexit.register
def close() -> None:
    """End this process's warm process, if there is one."""
    mine = _owned.pop(os.getpid(), None)
    if mine is not None:
        mine.close()


class _Forked(LocalProvisioner):
    """Starts a kernel as a fork; everything else is as for a process of its own."""

    process: Fork | None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        environment = kwargs.get("env") or dict(os.environ)
        folder = kwargs.get("cwd") or os.getcwd()
        words = cmd[cmd.index("ipykernel_launcher") + 1 :]
        self.process = warm().fork(words, str(folder), dict(environment))
        self.pid = self.pgid = self.process.pid
        return self.connection_info

    async def wait(self) -> int | None:
        while self.process is not None and self.process.poll() is None:
            await asyncio.sleep(0.005)
        status = self.process.returncode if self.process else 0
        self.process = None
        return status


class _Client(AsyncKernelClient):
    """A client that goes on as soon as its kernel answers.

    Jupyter's own one then listens in vain for a fifth of a second.
    """

    async def _async_wait_for_ready(self, timeout: float | None = None) -> None:
        end = time.monotonic() + (timeout or float("inf"))
        while time.monotonic() < end:
            asked = self.kernel_info()
            with contextlib.suppress(Empty):
                while (await self.shell_channel.get_msg(timeout=1))["msg_type"] != _READY:
                    pass
                # what was said before this listener was connected is lost: ask again soon
                while not _idle(await self.iopub_channel.get_msg(timeout=0.05), asked):
                    pass
                return
            if not await self._async_is_alive():
                raise RuntimeError("Kernel died before replying to kernel_info")
        raise RuntimeError(f"Kernel didn't respond in {timeout} seconds")

    wait_for_ready = _async_wait_for_ready


_READY = "kernel_info_reply"


def _idle(message: dict[str, Any], asked: str) -> bool:
    mine = message["parent_header"].get("msg_id") == asked
    return mine and message["content"].get("execution_state") == "idle"


class _Manager(AsyncKernelManager):
    """A manager whose kernel is this interpreter's, forked."""

    #: What the environment of its kernels has beside that of this process.
    more: ClassVar[dict[str, str]] = {}

    def __init__(self, **kwargs: Any) -> None:
        # sockets in a folder of its own: nobody else can listen, and no two kernels get one
        self._folder = tempfile.mkdtemp(prefix="mflib-")
        place = {"connection_file": f"{self._folder}/kernel.json", "ip": f"{self._folder}/k"}
        super().__init__(transport="ipc", **(kwargs | place))
        self.client_class, self.client_factory = f"{__name__}._Client", _Client
        spec = self.kernel_spec
        if spec.language.lower() != "python":
            raise ValueError(
                f"engine mflib: the kernel {self.kernel_name!r} speaks {spec.language}, it forks "
                "Python kernels only; leave --engine out"
            )
        spec.env = spec.env | self.more
        spec.argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        self.provisioner = _Forked(parent=self, kernel_spec=spec, kernel_id=self.kernel_id)

    async def _async_cleanup_resources(self, restart: bool = False) -> None:
        await super()._async_cleanup_resources(restart)
        if not restart:
            shutil.rmtree(self._folder, ignore_errors=True)

    cleanup_resources = _async_cleanup_resources


@cache
def _engine() -> Any:
    """Return papermill's own engine with another manager of kernels.

    It is made when it is used: papermill asks for :class:`ForkEngine` while it is imported.
    """
    from papermill.engines import NBClientEngine

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **kwargs: Any) -> Any:
            more = kwargs.pop("environment", None) or {}
            manager = type("_Manager", (_Manager,), {"more": more})
            return super().execute_managed_notebook(
                nb_man, kernel_name, **(kwargs | {"kernel_manager_class": manager})
            )

    return Engine


class ForkEngine:
    """Executes notebooks in forks of one warm process, which the first of them starts."""

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, **kwargs: Any) -> Any:
        """Do as papermill's own engine does.

        The argument ``environment`` holds variables for the kernel, beside those of papermill.
        """
        return _engine().execute_notebook(nb, kernel_name, **kwargs)

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> str:
        """Return the kernel that a notebook asks for."""
        return _engine().nb_kernel_name(nb, name)

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> str:
        """Return the language that a notebook asks for."""
        return _engine().nb_language(nb, language)


def register() -> str:
    """Let papermill know the engine where no installation has said so; return its name."""
    from papermill.engines import papermill_engines

    papermill_engines.register(NAME, ForkEngine)
    return NAME
