r"""What is kept: one small JSON record a finished run, one checkpoint an unfinished one.

Both are written beside their place and moved there at once, so that no half-written file
ever counts.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from . import CifarError
from .meanfield import METHODS, steps
from .recipe import Config

__all__ = [
    "SCHEMA", "SOURCES", "checkout", "checkpoint_path", "circumstances", "committed",
    "describe", "device_name", "drop_checkpoint", "load_checkpoint", "prepare",
    "provenance", "read_records", "save_checkpoint", "source_hash", "write", "write_record",
]

#: Version of a record.
SCHEMA = 1

#: The modules that decide the numbers of a run; a record keeps their hash.
SOURCES = (
    "architectures", "bracket", "data", "meanfield", "nets", "recipe", "store", "train",
)


def prepare(folder: Path) -> None:
    """Make a folder and see that it can be written, before hours are spent.

    Raises
    ------
    CifarError
        If it cannot.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise CifarError(
            f"{folder}: cannot be written ({error.strerror}); name another folder"
        ) from None


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        try:
            part.unlink(missing_ok=True)
        except OSError:
            pass
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CifarError(
                f"{path}: no space left; what was written earlier is intact, free some "
                "space and give the same command again"
            ) from None
        raise CifarError(f"{path}: cannot be written ({error.strerror})") from None


def save_checkpoint(folder: Path, cfg: Config, state: dict[str, Any]) -> None:
    """Write the state of an unfinished run, atomically."""
    buffer = io.BytesIO()
    saved = {"schema": SCHEMA, "source": _SOURCE, "config": asdict(cfg), "state": state}
    torch.save(saved, buffer)
    write(checkpoint_path(folder, cfg), buffer.getvalue())


def checkpoint_path(folder: Path, cfg: Config) -> Path:
    """Return where the checkpoint of a run lies."""
    return Path(folder) / f"{cfg.name}-{cfg.digest}.pt"


def load_checkpoint(folder: Path, cfg: Config) -> dict[str, Any] | None:
    """Return the state of an unfinished run, or None; tensors on the CPU.

    Raises
    ------
    CifarError
        If the file is damaged, or was written by another version of the trainer.
    """
    path = checkpoint_path(folder, cfg)
    if not path.is_file():
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        known = saved["schema"] == SCHEMA and saved["config"] == asdict(cfg)
        source, state = saved["source"], saved["state"]
    except Exception as error:
        raise CifarError(
            f"{path}: damaged checkpoint ({type(error).__name__}); delete it to start over"
        ) from None
    if not known:
        raise CifarError(f"{path}: a checkpoint of another version; delete it to start over")
    if source != _SOURCE:
        raise CifarError(
            f"{path}: was begun by other code (source {source}, now {_SOURCE}); delete it to "
            "start over, or go on with the code that began it"
        )
    return state


def drop_checkpoint(folder: Path, cfg: Config) -> None:
    """Delete the checkpoint of a run, and what a killed process left of one."""
    path = checkpoint_path(folder, cfg)
    path.unlink(missing_ok=True)
    for part in path.parent.glob(f".{path.name}.*.part"):
        part.unlink(missing_ok=True)


def describe(run: Any, together: int = 1) -> dict[str, Any]:
    """Return the record of a finished or diverged run as plain JSON data.

    Parameters
    ----------
    run : Run
        The run.
    together : int
        How many runs shared the device, and with it the wall time.

    Returns
    -------
    dict
        Configuration, provenance, loss and errors by epoch, final depths and steps.
    """
    tested = [e for e in run.history if e["test_error"] is not None]
    best = min(tested, key=lambda e: e["test_error"], default=None)
    with torch.no_grad():
        heights = steps(run.how, run.tau, run.movable)
    split = [part.tolist() for part in run.tau.detach().split(list(run.movable))]
    ok = run.status == "finished"
    return {
        "schema": SCHEMA,
        "name": run.cfg.name,
        "status": run.status,
        "reduced": run.cfg.reduced,
        "train_images": run.images,
        "test_images": run.store.test_images,
        "config": asdict(run.cfg),
        **circumstances(run.device),
        "device": ", then ".join(run.devices),
        "final": {
            "test_error": tested[-1]["test_error"] if ok and tested else None,
            "best_error": best["test_error"] if best else None,
            "best_epoch": best["epoch"] if best else None,
            "tau": split if ok and run.how.learns else None,
            "steps": [h.tolist() for h in heights] if ok and heights else None,
            "order": [b.tolist() for b in run.blocks.split(list(run.movable))],
            "weights_sha256": hashlib.sha256(
                run.theta.detach().cpu().numpy().tobytes()
            ).hexdigest(),
        },
        "shuffled": run.shuffled,
        "seconds": round(run.seconds, 1),
        "together": together,
        "epochs": run.history,
    }


def write_record(folder: Path, record: dict[str, Any], overwrite: bool = False) -> Path:
    """Write the record of a finished run, atomically.

    Raises
    ------
    CifarError
        If the same run was written before and `overwrite` is false, or no space is left.
    """
    path = Path(folder) / f"{record['name']}.json"
    if path.exists() and not overwrite:
        raise CifarError(f"{path} exists; add --overwrite to replace it")
    text = json.dumps(record, indent=1, allow_nan=False)
    write(path, (_compact(text) + "\n").encode())
    return path


def _compact(text: str) -> str:
    """Put innermost lists and objects on one line."""
    out, depth, buffer = [], 0, []
    for line in text.splitlines():
        bare = line.strip()
        if bare.endswith(("[", "{")):
            out += buffer
            buffer, depth = [line], 1
        elif depth and bare.rstrip(",") in ("]", "}"):
            inner = " ".join(part.strip() for part in buffer[1:])
            joined = f"{buffer[0]}{inner}{bare}"
            out += [joined] if len(joined) <= 110 else [*buffer, line]
            buffer, depth = [], 0
        elif depth:
            buffer.append(line)
        else:
            out.append(line)
    return "\n".join(out + buffer)


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Return all records of a folder, sorted by name.

    Raises
    ------
    CifarError
        If a file is no record or comes from another schema version.
    """
    records = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            record = json.loads(path.read_text())
            version = record["schema"]
            if version == SCHEMA:
                Config(**record["config"])
                record["final"], record["status"], record["epochs"]
        except (ValueError, KeyError, TypeError) as error:
            raise CifarError(
                f"{path}: is no record of a run ({error}); move it away"
            ) from None
        if version != SCHEMA:
            raise CifarError(
                f"{path}: record of schema {version}, this version reads {SCHEMA}; "
                "run it again with --overwrite or move it away"
            )
        if record["config"]["method"] not in METHODS:
            raise CifarError(f"{path}: unknown method {record['config']['method']!r}")
        records.append(record)
    return records


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *words],
            capture_output=True, text=True, timeout=10, check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def source_hash(read: Callable[[str], bytes], names: tuple[str, ...] = SOURCES) -> str:
    """Return a short hash of the code that decides the numbers of a run.

    Parameters
    ----------
    read : callable
        Returns the content of a file of this folder by its name.
    names : tuple of str
        The modules that count.
    """
    digest = hashlib.sha256()
    for name in names:
        digest.update(read(f"{name}.py"))
    return digest.hexdigest()[:12]


# of what was imported, whatever happens to the files later
_SOURCE = source_hash(lambda name: (Path(__file__).parent / name).read_bytes())


@lru_cache(maxsize=1)
def provenance() -> dict[str, Any]:
    """Return commit and source hash as they were when first asked: before a run.

    Where there is no git (a copy of the files), the variable MFLIB_COMMIT names the
    commit; the source hash says whether it is the right one.
    """
    changes = _git("status", "--porcelain", "--", ".")
    return {
        "commit": _git("rev-parse", "HEAD") or os.environ.get("MFLIB_COMMIT") or None,
        "modified": None if changes is None else bool(changes),
        "source": _SOURCE,
    }


def checkout() -> Path:
    """Return the checkout that holds this library, or the current folder outside one."""
    root = Path(__file__).parents[2]
    return root if (root / "book").is_dir() else Path()


def committed() -> Path:
    """Return the folder of the committed records."""
    return checkout() / "book" / "records" / "cifar"


def device_name(device: torch.device) -> str:
    """Return what the device calls itself."""
    cuda = device.type == "cuda"
    return torch.cuda.get_device_name(device) if cuda else _processor()


def circumstances(device: torch.device) -> dict[str, Any]:
    """Return commit, source hash, device and versions, as a record keeps them."""
    import numpy

    cuda = device.type == "cuda"
    return {
        **provenance(),
        "device": device_name(device),
        "threads": None if cuda else torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "cuda": torch.version.cuda if cuda else None,
        },
    }
