"""Where a result comes from: commit, versions, device; and files that are written whole.

A leaf of the package that needs the standard library alone, so that claims, the book and
the trainer all say these things in one way.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["commit", "device", "git", "part", "processor", "version", "versions", "write"]


def git(folder: Path, *words: str) -> str | None:
    """Return what a git command prints in a folder, or None where it fails or is missing.

    Parameters
    ----------
    folder : Path
        Where git works.
    words : str
        The command, for instance ``"rev-parse", "HEAD"``.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def commit(folder: Path) -> str | None:
    """Return a checkout's commit, with ``+dirty`` where it is changed.

    Where there is no git (a copy of the files), the variable MFLIB_COMMIT names it;
    without either, None.
    """
    found = git(folder, "rev-parse", "HEAD")
    if found is None:
        return os.environ.get("MFLIB_COMMIT") or None
    changed = git(folder, "status", "--porcelain")
    return found + ("+dirty" if changed else "")


def version(package: str) -> str | None:
    """Return the installed version of a package by its distribution's name, or None."""
    try:
        return metadata.version(package)
    except (metadata.PackageNotFoundError, ValueError):
        return None


def versions(*packages: str) -> dict[str, str | None]:
    """Return the versions of Python and of the packages named.

    Examples
    --------
    >>> sorted(versions("numpy"))
    ['numpy', 'python']
    """
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def processor() -> str:
    """Return what the processor calls itself."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def device(where: Any = "cpu") -> str:
    """Return what a device, named as torch does, calls itself.

    Parameters
    ----------
    where : str or torch.device
        ``"cpu"``, ``"cuda:0"`` ...; torch is imported for the latter only.
    """
    if str(where).startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(where)
    return processor()


def part(path: Path) -> Path:
    """Return the name under which this process writes a file before it counts.

    It begins with a dot and ends in ``.part``: what a killed process leaves is known by it.
    """
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: to the disk under another name, then renamed.

    Parameters
    ----------
    path : Path
        The file; its folder is made where it is missing.
    content : str or bytes
        Text is written as UTF-8.

    Raises
    ------
    OSError
        If it cannot be written; what was there before is intact.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = part(path)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
