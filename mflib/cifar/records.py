r"""What is kept: one small JSON record a finished run, one checkpoint an unfinished one.

Both are written beside their place and moved there at once, so that no half-written file
ever counts. What a record says of itself is not taken on trust: its name and its protocol
follow from its configuration, and impossible errors are refused.
"""

from __future__ import annotations

import ast
import errno
import hashlib
import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from mflib import provenance

from . import CifarError
from .algorithm_one import RULES, steps, twin
from .recipe import Config

__all__ = [
    "SCHEMA",
    "SOURCES",
    "checkout",
    "checkpoint_path",
    "circumstances",
    "committed",
    "describe",
    "drop_checkpoint",
    "load_checkpoint",
    "prepare",
    "read_record",
    "read_records",
    "save_checkpoint",
    "settled",
    "sorted_times",
    "source_hash",
    "write",
    "write_record",
]

#: Version of a record.
SCHEMA = 2

#: The modules that decide the numbers of a run; a record keeps their hash. What they are
#: called with (rates, epochs, rules) stands in the configuration, what surrounds them
#: (reading of checked files, graphs, records, commands) changes no number.
SOURCES = (
    "architectures",
    "networks",
    "algorithm_one",
    "depth_velocity",
    "store",
    "training",
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


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all.

    Raises
    ------
    CifarError
        If it cannot be written; what was there before is intact.
    """
    try:
        provenance.write(path, content)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CifarError(
                f"{path}: no space left; what was written earlier is intact, free some "
                "space and give the same command again"
            ) from None
        raise CifarError(f"{path}: cannot be written ({error.strerror})") from None


def save_checkpoint(folder: Path, run: Any) -> None:
    """Write the state of an unfinished run, atomically."""
    buffer = io.BytesIO()
    saved = {
        "schema": SCHEMA,
        "source": _SOURCE,
        "config": asdict(run.cfg),
        "state": run.state(),
        "advanced_by": _advanced(run),
    }
    torch.save(saved, buffer)
    write(checkpoint_path(folder, run.cfg), buffer.getvalue())


def checkpoint_path(folder: Path, cfg: Config) -> Path:
    """Return where the checkpoint of a run lies."""
    return Path(folder) / f"{cfg.name}-{cfg.digest}.pt"


def load_checkpoint(folder: Path, run: Any) -> bool:
    """Let a run go on from its checkpoint; return whether there was one.

    Raises
    ------
    CifarError
        If it was written by another version of the trainer. A damaged file is named, set
        aside, and does not count.
    """
    path = checkpoint_path(folder, run.cfg)
    if not path.is_file():
        return False
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        known = saved["schema"] == SCHEMA and saved["config"] == asdict(run.cfg)
        source, state, earlier = saved["source"], saved["state"], saved["advanced_by"]
    except Exception as error:
        aside = path.with_suffix(".damaged")
        os.replace(path, aside)
        print(
            f"{path}: damaged checkpoint ({type(error).__name__}), set aside as "
            f"{aside.name}; this run starts over",
            file=sys.stderr,
        )
        return False
    if not known:
        raise CifarError(f"{path}: a checkpoint of another version; delete it to start over")
    if _BY_WORDS.get(source, source) != _SOURCE:
        raise CifarError(
            f"{path}: was begun by other code (source {source}, now {_SOURCE}); delete it to "
            "start over, or go on with the code that began it"
        )
    run.restore(state)
    run.advanced_by = list(earlier)
    return True


def drop_checkpoint(folder: Path, cfg: Config) -> None:
    """Delete the checkpoint of a run, and what a killed process left of one."""
    path = checkpoint_path(folder, cfg)
    path.unlink(missing_ok=True)
    for part in path.parent.glob(f".{path.name}.*.part"):
        part.unlink(missing_ok=True)


def _advanced(run: Any) -> list[dict[str, Any]]:
    """Return the circumstances of every process that advanced a run, without repetition."""
    out = []
    for one in (*getattr(run, "advanced_by", ()), circumstances(run.device)):
        if one not in out:
            out.append(one)
    return out


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
        Configuration; code, device, threads and versions of every process that advanced
        it; loss, errors and stamps by epoch; final stamps and steps.
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
        "train_images": run.images,
        "test_images": run.store.test_images,
        "config": asdict(run.cfg),
        "source": _SOURCE,
        "advanced_by": _advanced(run),
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
        If the same run was written before with another end and `overwrite` is false, or
        no space is left.
    """
    path = Path(folder) / f"{record['name']}.json"
    if path.is_file() and path.stat().st_size and not overwrite:
        if read_record(path)["final"] == record["final"]:
            return path  # another process has run the same, to the same bits
        raise CifarError(f"{path} exists and ends otherwise; add --overwrite to replace it")
    text = json.dumps(record, indent=1, allow_nan=False)
    write(path, _compact(text) + "\n")
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


def _percent(value: Any, images: int) -> bool:
    """Whether a value is a share of `images` in percent."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value <= 100 and math.isclose(
        value * images / 100, round(value * images / 100), abs_tol=1e-6
    )


def _fault(record: dict[str, Any], stem: str) -> str | None:
    """Return what is wrong with a record of this schema, or None."""
    cfg, final = Config(**record["config"]), record["final"]
    if any(by["source"] != record["source"] for by in record["advanced_by"]):
        return "it was advanced by different code"
    tests, epochs = record["test_images"], record["epochs"]
    if cfg.rule not in RULES:
        return f"unknown rule {cfg.rule!r}"
    if not record["name"] == cfg.name == stem:
        return f"its configuration is that of {cfg.name}"
    if cfg.protocol and (record["train_images"], tests) != (50_000, 10_000):
        return "a run of the protocol has 50000 training and 10000 test images"
    if record["status"] not in ("finished", "diverged"):
        return f"status {record['status']!r} is neither finished nor diverged"
    if [e["epoch"] for e in epochs] != list(range(1, len(epochs) + 1)):
        return "its epochs are not 1, 2, 3, ..."
    measured = [e["test_error"] for e in epochs if e["test_error"] is not None]
    shuffled = record["shuffled"]["test_errors"] if record["shuffled"] else []
    if record["status"] == "finished":
        if len(epochs) != cfg.epochs:
            return f"{len(epochs)} of {cfg.epochs} epochs, and called finished"
        if not measured or [final["test_error"], final["best_error"]] != [
            epochs[-1]["test_error"],
            min(measured),
        ]:
            return "its final errors are not those of its epochs"
    elif final["test_error"] is not None:
        return "a diverged run has no final error"
    wrong = [e for e in (*measured, *shuffled) if not _percent(e, tests)]
    return f"test error {wrong[0]!r} is no share of {tests} images" if wrong else None


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no error of a run")


def settled(cfg: Config, folder: Path) -> bool:
    """Whether a record of another run says already how this one ends.

    A rule that differs from another one only in what the sort moves trains the same
    network, bit for bit, as long as no stamp leaves its order: where the other run of
    this seed never sorted, this one need not be run.
    """
    other = twin(cfg.rule)
    path = Path(folder) / f"{replace(cfg, rule=other).name}.json" if other else None
    if path is None or not path.is_file():
        return False
    record = read_record(path)
    return record["status"] == "finished" and not sorted_times(record)


def sorted_times(record: dict[str, Any]) -> int:
    """Return after how many steps, summed over the stages, stamps had left their order."""
    return sum(sum(entry["reorderings"]) for entry in record["epochs"])


def read_record(path: Path) -> dict[str, Any]:
    """Return one record; it gets its ``protocol``, recomputed from its configuration.

    Raises
    ------
    CifarError
        If the file is no record, contradicts itself, or comes from another schema.
    """
    try:
        record = json.loads(path.read_text(), parse_constant=_no_number)
        version = record["schema"]
        fault = _fault(record, path.stem) if version == SCHEMA else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CifarError(f"{path}: is no record of a run ({error}); move it away") from None
    if version != SCHEMA:
        raise CifarError(
            f"{path}: record of schema {version}, this version reads {SCHEMA}; "
            "run it again with --overwrite or move it away"
        )
    if fault:
        raise CifarError(f"{path}: {fault}; move it away and run it again")
    for part in (record, *record["advanced_by"]):
        part["source"] = _BY_WORDS.get(part["source"], part["source"])
    return record | {"protocol": Config(**record["config"]).protocol}


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Return all records of a folder, sorted by name, as :func:`read_record` does."""
    return [read_record(path) for path in sorted(Path(folder).glob("*.json"))]


#: The first records hashed the words of the code; this is the same code by its syntax tree.
_BY_WORDS = {"84b8e3ee697e": "f8801766edb2"}

#: Fields of a syntax tree that change no number.
_IDLE = {"annotation", "returns", "type_comment", "kind", "ctx", "type_params"}


def _acting(node: Any) -> str:
    """Return what code computes with: no docstring, import, annotation, layout."""
    if isinstance(node, list):
        return "[" + ",".join(filter(None, map(_acting, node))) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    names = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    if text or names or isinstance(node, (ast.Import, ast.ImportFrom)):
        return ""
    fields = [
        f"{name}={_acting(value)}"
        for name, value in ast.iter_fields(node)
        if name not in _IDLE and value is not None and value != []
    ]
    return f"{type(node).__name__}({','.join(fields)})"


def source_hash(read: Callable[[str], bytes], names: tuple[str, ...] = SOURCES) -> str:
    """Return a short hash of the code that decides the numbers of a run.

    Comments, docstrings, imports, annotations and layout do not count: they change no
    number.

    Parameters
    ----------
    read : callable
        Returns the content of a file of this folder by its name.
    names : tuple of str
        The modules that count.
    """
    digest = hashlib.sha256()
    for name in names:
        digest.update(_acting(ast.parse(read(f"{name}.py"))).encode())
    return digest.hexdigest()[:12]


# of what was imported, whatever happens to the files later
_SOURCE = source_hash(lambda name: (Path(__file__).parent / name).read_bytes())


@lru_cache(maxsize=1)
def _code() -> dict[str, Any]:
    """Return commit and source hash as they were when first asked: before a run.

    Where there is no git (a copy of the files), the variable MFLIB_COMMIT names the
    commit; the source hash says whether it is the right one.
    """
    here = Path(__file__).parent
    changes = provenance.git(here, "status", "--porcelain", "--", ".")
    commit = provenance.git(here, "rev-parse", "HEAD") or os.environ.get("MFLIB_COMMIT")
    return {
        "commit": commit or None,
        "modified": None if changes is None else bool(changes),
        "source": _SOURCE,
    }


def checkout() -> Path:
    """Return the checkout of MFLIB_ROOT, else that of this library, else the current folder."""
    given = os.environ.get("MFLIB_ROOT")
    root = Path(given) if given else Path(__file__).parents[2]
    return root if given or (root / "book").is_dir() else Path()


def committed() -> Path:
    """Return the folder of the committed records."""
    return checkout() / "book" / "records" / "cifar"


def circumstances(device: torch.device) -> dict[str, Any]:
    """Return commit, source hash, device and versions, as a record keeps them."""
    cuda = device.type == "cuda"
    return {
        **_code(),
        "device": provenance.device(device),
        "threads": None if cuda else torch.get_num_threads(),
        "versions": {
            **provenance.versions("torch", "numpy"),
            "torch": str(torch.__version__),  # with its build, +cpu for instance
            "cuda": torch.version.cuda if cuda else None,
        },
    }
