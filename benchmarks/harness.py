"""How a job is timed: processor time, by turns, one thread, and only answers that agree."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

# before torch and JAX are imported: one thread, double precision
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402

from mflib import provenance  # noqa: E402
from mflib.activations import tanh_form  # noqa: E402

from .outside import Outside  # noqa: E402

torch.set_num_threads(1)

#: Every job is a module of this name.
JOBS = (
    "adjoint",
    "gram",
    "exact_kl",
    "trajectory",
    "rademacher",
    "series",
    "pde",
    "spirals",
    "cifar_step",
)
PACKAGES = (
    *("torch", "numpy", "scipy", "jax", "torchdiffeq", "diffrax", "POT"),
    *("FiPy", "py-pde", "numba"),
)


@dataclass
class Case:
    """One size of a job.

    ``ours`` and each of the ``peers`` compute the same thing and return an array; a peer that
    is not installed is None. ``tolerance`` is how far its answer may be from ours, relative to
    the largest entry, and ``differs`` names peers that solve another problem by design: their
    difference is reported and not judged. ``work`` is what the machine must do at least:
    flops of products and evaluations of sigma. ``bounds`` returns what our own answer must keep:
    a number and the most it may be, by name.
    """

    size: str
    ours: Callable[[], Any]
    peers: dict[str, Callable[[], Any] | None]
    tolerance: float = 1e-10
    differs: tuple[str, ...] = ()
    work: tuple[float, float] | None = None
    goals: dict[str, float] = field(default_factory=dict)
    bounds: Callable[[], dict[str, tuple[float, float]]] | None = None


def cases(name: str, toy: bool) -> list[Callable[[], Case]]:
    """Return what makes the cases of a job; nothing large is made before it is called."""
    return importlib.import_module(f".jobs.{name}", __package__).cases(toy)


def optional(module: str) -> Any:
    """Return a module of a peer, or None where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def seconds(job: Callable[[], Any], repeats: int) -> float:
    """Processor time of one call."""
    if isinstance(job, Outside):
        return job.seconds(repeats)
    begin = time.process_time()
    for _ in range(repeats):
        job()
    return (time.process_time() - begin) / repeats


def pairs(ours: Callable, peer: Callable, rounds: int, least: float) -> tuple[list, list]:
    """Time both by turns; a turn lasts at least so many seconds."""
    counts = []
    for job in (ours, peer):
        job()  # compiles, fills caches
        counts.append(max(1, round(least / max(seconds(job, 1), 1e-6))))
    rows = [
        [seconds(job, n) for job, n in zip((ours, peer), counts, strict=True)]
        for _ in range(rounds)
    ]
    return [a for a, _ in rows], [b for _, b in rows]


def difference(found: Any, expected: Any) -> float:
    """Return the largest difference relative to the largest entry."""
    found, expected = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def rates(rounds: int, least: float) -> dict[str, float]:
    """Return what this core does in a second: flops of square products, sigmas of a tile."""
    a, tile = torch.randn(768, 768).double(), torch.randn(128, 512).double()
    sigma = torch.sigmoid if tanh_form() == "sigmoid" else torch.tanh
    work = torch.empty_like(tile)
    product, values = pairs(lambda: a @ a, lambda: sigma(tile, out=work), rounds, least)
    return {"flops": 2 * 768**3 / median(product), "sigma": tile.numel() / median(values)}


def highest() -> float:
    """Return the most MiB that this program has held.

    The system's ``ru_maxrss`` begins at what the process that started this one held, so where
    the kernel tells the program's own peak, that is read.
    """
    status = Path("/proc/self/status")
    if status.exists():
        own = next(v for v in status.read_text().splitlines() if v.startswith("VmHWM:"))
        return int(own.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(name: str, index: int, who: str, toy: bool) -> float:
    """Return the MiB that one call adds to the peak of this process, which does nothing else."""
    case = cases(name, toy)[index]()
    job = case.ours if who == "ours" else case.peers[who]
    if isinstance(job, Outside):
        return job.memory()
    tiny = cases(name, True)[0]()
    warm = tiny.ours if who == "ours" else tiny.peers.get(who)
    if warm:
        warm()  # libraries load on the first call
    before = psutil.Process().memory_info().rss
    job()
    return highest() - before / 2**20


def peak(name: str, index: int, who: str, toy: bool) -> float | None:
    command = [sys.executable, "-m", "benchmarks", name, "--memory", str(index), who]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command + ["--toy"] * toy, cwd=root, capture_output=True, text=True)
    return round(json.loads(done.stdout), 1) if done.returncode == 0 else None


def measure(name: str, rounds: int = 7, toy: bool = False) -> dict[str, Any]:
    """Return the record of a job."""
    least = 0.002 if toy else 0.1
    rows, kept, missing, times, fractions, outside = [], [], set(), {}, {}, {}
    for index, make in enumerate(cases(name, toy)):
        case = make()
        expected, own = case.ours(), None if toy else peak(name, index, "ours", toy)
        for what, (value, most) in (case.bounds() if case.bounds else {}).items():
            if not value <= most:
                raise SystemExit(f"{name}, {case.size}: {what} is {value:.1e}, above {most:.0e}")
            kept.append({"what": what, "size": case.size, "value": value, "most": most})
        for peer, job in case.peers.items():
            if job is None:
                missing.add(peer)
                continue
            judged, answer = peer not in case.differs, job()
            same = np.shape(answer) == np.shape(expected)
            agreement = difference(answer, expected) if same or judged else None
            if judged and not agreement <= case.tolerance:
                raise SystemExit(f"{name}, {case.size}: {peer} differs by {agreement:.1e}")
            mine, theirs = pairs(case.ours, job, rounds, least)
            if isinstance(job, Outside):
                outside = {f"{job.name}: {k}": v for k, v in job.ask("versions").items()}
            ratios = sorted(b / a for a, b in zip(mine, theirs, strict=True))
            times[case.size] = median(mine)
            rows.append(
                {
                    "peer": peer,
                    "size": case.size,
                    "ratio": round(median(ratios), 3),
                    "spread": [round(ratios[0], 3), round(ratios[-1], 3)],
                    "agreement": agreement,
                    "judged": judged,
                    "goal": case.goals.get(peer),
                    "seconds": round(median(mine), 6),
                    "peak_mib": own,
                    "peer_peak_mib": None if toy else peak(name, index, peer, toy),
                }
            )
        if case.work:
            speed = rates(3 if toy else rounds, least)
            bound = case.work[0] / speed["flops"] + case.work[1] / speed["sigma"]
            fractions[case.size] = round(bound / times.get(case.size, seconds(case.ours, 3)), 3)
    module = importlib.import_module(f".jobs.{name}", __package__)
    exponents = module.exponents(toy) if hasattr(module, "exponents") else {}
    return {
        "name": name,
        "title": module.__doc__.strip().splitlines()[0].rstrip("."),
        "command": f"python -m benchmarks {name} --json",
        "machine": {"processor": provenance.processor(), "threads": 1, "tanh": tanh_form()},
        "versions": provenance.versions(*PACKAGES) | outside,
        "commit": provenance.commit(Path(__file__).resolve().parents[1]),
        "rounds": rounds,
        "rows": rows,
        "kept": kept,
        "missing": sorted(missing),
        "limit_fraction": fractions,
        "exponents": exponents,
    }


def exponent(sizes: list[int], jobs: list[Callable], rounds: int = 5) -> float:
    """Return the slope of log time over log size, the fastest of the rounds each."""
    best = [min(seconds(job, 1) for _ in range(rounds)) for job in jobs]
    return round(float(np.polyfit(np.log(sizes), np.log(best), 1)[0]), 3)
