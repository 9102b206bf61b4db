"""Kills `mflib run` at random moments and looks whether anything is lost, doubled or wrong.

    python tests/kills.py --rounds 50 --seed 1
    python tests/kills.py --rounds 50 --what train     # the same for `mflib cifar train`

Each round starts a run (every third time two at once, in one folder, with different seeds)
and sends SIGKILL, SIGTERM, SIGHUP or SIGINT to it, or SIGKILL to one of its processes. Then:

- lost: a chapter that was whole is not, or one that was reported as done;
- wrong: a chapter that counts holds another seed than it says, or lacks a cell;
- doubled: a claim stands twice, or two runs worked at once;
- left over: a process that works for the folder, or one that a chapter started.

A training that is killed must go on to the same bits: its record is compared with that of
a run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent))
from conftest import CLAIM, small_checkout  # noqa: E402

from mflib.book import chapters, executed, ledger  # noqa: E402
from mflib.book.execute import MARK  # noqa: E402

SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
NAMES = ("one", "two")
HERE = os.pathsep.join(
    filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
)

#: A chapter that says when it works, starts a process of its own, and takes a moment.
BODY = """import pathlib, subprocess, time
log = pathlib.Path("log")
with log.open("a") as file:
    file.write(f"begin {seed} {{name}}\\n")
subprocess.Popen(["sleep", "600"])
time.sleep(0.5)
""".replace("{{name}}", "{name}")


def workers(out: Path) -> list[psutil.Process]:
    """Return the processes that work for a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            mark = process.environ().get(MARK)
            if mark and Path(mark).parent == out and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def start(root: Path, seed: int) -> subprocess.Popen:
    """Start a run as a shell would, in a group of its own."""
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mflib",
            "--root",
            str(root),
            "run",
            "-p",
            "seed",
            str(seed),
            "--jobs",
            "2",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": HERE},
    )


def state(root: Path) -> dict[str, int]:
    """Return the seed of every chapter that counts; a wrong one raises."""
    out, found = root / "_build" / "chapters", {}
    for chapter in chapters.discover(root):
        if not executed.is_fresh(chapter, out):
            continue
        given = executed.noted(out, chapter.name)["parameters"]
        path = out / f"{chapter.name}.ipynb"
        assert executed.flaw(path, chapter, given) == "", path
        (claim,) = ledger.claims_of(path)
        assert claim["seed"] == given["seed"], (claim["seed"], given)
        found[chapter.name] = given["seed"]
    return found


class Trial:
    """A small checkout and the counts of what went wrong in it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chapter = small_checkout(folder)
        self.root, self.random = folder.resolve(), random.Random(seed)
        self.out = self.root / "_build" / "chapters"
        for number, name in enumerate(NAMES):
            body = BODY.replace("{name}", name)
            claim = CLAIM.format(id=f"X-{number}", error="0.0", control="1.0")
            self.chapter(name, cells=[body, claim, "time.sleep(0.5)"])
        self.faults: Counter[str] = Counter()
        self.notes: list[str] = []
        began = time.monotonic()
        start(self.root, 1).communicate(timeout=300)
        self.span = 1.1 * (time.monotonic() - began)

    def fault(self, kind: str, what: str) -> None:
        self.faults[kind] += 1
        self.notes.append(f"{kind}: {what}")

    def round(self, number: int) -> str:
        """Start, kill, look; return what was done."""
        rng, before = self.random, state(self.root)
        seeds = [100 * number + i for i in range(1 if number % 3 else 2)]
        runs = [start(self.root, seed) for seed in seeds]
        time.sleep(rng.uniform(0.0, self.span))
        victims = []
        for process in runs:
            target, how = process.pid, rng.choice(SIGNALS)
            if rng.random() < 0.25 and (there := workers(self.out)):
                target, how = rng.choice(there).pid, signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                os.kill(target, how)
            victims.append(f"{how.name}{'' if target == process.pid else ' (a worker)'}")
        said = [process.communicate(timeout=180)[1] for process in runs]
        codes = [process.returncode for process in runs]
        self.look(before, seeds, said, codes)
        return f"{', '.join(victims)}: exit {codes}"

    def look(self, before: dict, seeds: list, said: list, codes: list) -> None:
        end = time.monotonic() + 10
        while (left := workers(self.out)) and time.monotonic() < end:
            time.sleep(0.1)
        for process in left:
            with contextlib.suppress(psutil.Error):
                self.fault("left over", " ".join(process.cmdline())[:80])
                process.kill()
        try:
            after = state(self.root)
        except AssertionError as error:
            self.fault("wrong", str(error))
            return
        for name in set(before) - set(after):
            self.fault("lost", f"{name} with seed {before[name]}")
        for name, seed in after.items():
            if seed != before.get(name) and seed not in seeds:
                self.fault("wrong", f"{name} has seed {seed}, nobody's")
        for seed, words, code in zip(seeds, said, codes, strict=True):
            for name in re.findall(r"^✓ (\w+): \d+ s", words, re.M):
                if after.get(name) not in seeds:
                    self.fault("lost", f"{name} with seed {seed}, reported as done")
            if "Traceback" in words and "mflib" in words:
                self.fault("wrong", words[-300:])
            if code == 2 and f"begin {seed} " in self.log():
                self.fault("doubled", f"the refused run with seed {seed} worked")
        if len(seeds) == 2 and not any(c == 2 for c in codes) and self.overlap(seeds):
            self.fault("doubled", f"runs {seeds} worked at once")

    def log(self) -> str:
        path = self.root / "log"
        return path.read_text() if path.exists() else ""

    def overlap(self, seeds: list[int]) -> bool:
        """Say whether two runs began chapters in turn: one after the other may be."""
        mine = [
            int(line.split()[1])
            for line in self.log().splitlines()
            if int(line.split()[1]) in seeds
        ]
        changes = sum(a != b for a, b in zip(mine, mine[1:], strict=False))
        return changes > 1

    def finish(self) -> None:
        """A last run with nobody in its way must make everything whole, and only that."""
        done = start(self.root, 7)
        words = done.communicate(timeout=300)[1]
        if done.returncode or state(self.root) != dict.fromkeys(NAMES, 7):
            self.fault("lost", f"the last run: {words}")
        lines = ledger.problems(self.root)
        hidden = [
            p.name for p in self.out.iterdir() if p.name.endswith((".part", ".running.ipynb"))
        ]
        if lines or hidden or workers(self.out):
            self.fault("wrong", f"at the end: {lines} {hidden}")


class Training:
    """Trainings of a small network on made-up images, killed and gone on with."""

    def __init__(self, folder: Path, seed: int) -> None:
        from cifar_files import write_files

        self.folder, self.random = folder, random.Random(seed)
        self.files = write_files(folder / "files", train=27, test=20)
        self.faults: Counter[str] = Counter()
        self.notes: list[str] = []
        self.tries = 0
        began = time.monotonic()
        self.start(folder / "whole").communicate(timeout=600)
        self.span = 1.1 * (time.monotonic() - began)
        self.whole = self.records(folder / "whole")
        assert len(self.whole) == 2, "the undisturbed run has not finished"
        self.out, self.before = folder / "0", {}

    def start(self, out: Path) -> subprocess.Popen:
        words = ["train", "--net", "resnet20", "--seeds", "0", "--epochs", "3", "--missing"]
        words += ["--data", self.files, "--unverified", "--device", "cpu", "--quiet"]
        words += ["--out", out, "--checkpoints", out / "unfinished", "--checkpoint-seconds", "0"]
        return subprocess.Popen(
            [sys.executable, "-m", "mflib.cifar", *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": HERE, "OMP_NUM_THREADS": "1"},
        )

    @staticmethod
    def records(out: Path) -> dict[str, str]:
        """Return the hash of the weights of every record; one that cannot be read raises."""
        found = {}
        for path in out.glob("*.json"):
            record = json.loads(path.read_text())
            found[record["name"]] = record["final"]["weights_sha256"]
        return found

    def fault(self, kind: str, what: str) -> None:
        self.faults[kind] += 1
        self.notes.append(f"{kind}: {what}")

    def round(self, number: int) -> str:
        """Start one or two, kill them, look; a folder that is complete makes room for a new."""
        runs = [self.start(self.out) for _ in range(1 if number % 3 else 2)]
        time.sleep(self.random.uniform(0.0, self.span))
        how = [self.random.choice(SIGNALS) for _ in runs]
        for process, signal_ in zip(runs, how, strict=True):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal_)
        said = [process.communicate(timeout=300)[1] for process in runs]
        codes = [process.returncode for process in runs]
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self.out) in process.cmdline():
                    self.fault("left over", " ".join(process.cmdline())[:80])
                    process.kill()
        for words, code in zip(said, codes, strict=True):
            if "Traceback" in words and "mflib" in words and code > 0:
                self.fault("wrong", words[-300:])
        self.look()
        return f"{', '.join(h.name for h in how)}: exit {codes}, {len(self.before)} of 2 records"

    def look(self) -> None:
        try:
            found = self.records(self.out)
        except (ValueError, KeyError) as error:
            self.fault("wrong", f"a record cannot be read: {error!r}")
            return
        for name in set(self.before) - set(found):
            self.fault("lost", name)
        for name, weights in found.items():
            if weights != self.whole.get(name):
                self.fault("wrong", f"{name} has other weights than the undisturbed run")
        self.before = found
        if len(found) == len(self.whole):
            self.tries += 1
            self.out, self.before = self.folder / str(self.tries), {}

    def finish(self) -> None:
        """A last run must finish what was begun, and leave nothing else."""
        last = self.start(self.out)
        words = last.communicate(timeout=600)[1]
        if last.returncode or self.records(self.out) != self.whole:
            self.fault("lost", f"the last run: {words[-300:]}")
        if left := [p.name for p in self.out.rglob("*") if p.suffix in (".part", ".pt")]:
            self.fault("left over", f"files {left}")


def trial(
    folder: Path, rounds: int, seed: int, what: str = "run", verbose: bool = False
) -> Trial | Training:
    """Return a trial after its rounds."""
    made = {"run": Trial, "train": Training}[what](folder, seed)
    for number in range(1, rounds + 1):
        words = made.round(number)
        if verbose:
            print(f"{number:3d} {words}; {dict(made.faults) or 'nothing wrong'}", flush=True)
    made.finish()
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--what", choices=("run", "train"), default="run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = trial(Path(folder), options.rounds, options.seed, options.what, verbose=True)
    kinds = ("lost", "doubled", "wrong", "left over")
    print(json.dumps({"rounds": options.rounds, **{k: made.faults[k] for k in kinds}}))
    print("\n".join(made.notes))
    return 1 if made.faults else 0


if __name__ == "__main__":
    sys.exit(main())
