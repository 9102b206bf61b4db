"""Kills what the book runs at random moments and looks whether anything is lost, doubled or wrong.

    python tests/kills.py --rounds 50 --seed 1
    python tests/kills.py --rounds 50 --what train     # the same for `mflib cifar train`
    python tests/kills.py --rounds 20 --what sweep     # and for `mflib sweep`

Each round starts the command (`run` and `train` every third time twice at once, in one folder)
and ends it at a moment that nobody has chosen: by SIGKILL, SIGTERM, SIGHUP or SIGINT, or by
SIGKILL to one of its processes. A sweep meets six ends in any order: one of its workers is killed,
Ctrl-C, the command is killed, all workers of a scheduler elsewhere are killed, that scheduler is
killed, and the disk is full (the kernel lets no file of the command grow any more). Then:

- lost: what was whole is not, or what was reported as done;
- wrong: what counts is not what was asked for, a cell or record is damaged, or a traceback;
- doubled: something stands twice, what was done ran again, or two runs worked at once;
- left over: a process that works for the folder, or one that a chapter started.

A training that is killed must go on to the same bits: its record is compared with that of
a run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import re
import resource
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


def processes(fits) -> list[psutil.Process]:
    """Return the living processes of which something holds."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if fits(process) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def workers(out: Path) -> list[psutil.Process]:
    """Return the processes that work for a folder."""

    def fits(process: psutil.Process) -> bool:
        mark = process.environ().get(MARK)
        return bool(mark) and Path(mark).parent == out

    return processes(fits)


def begun(*words: object) -> subprocess.Popen:
    """Start Python as a shell would, in a group of its own."""
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": HERE, "OMP_NUM_THREADS": "1"},
    )


def start(root: Path, seed: int) -> subprocess.Popen:
    """Start a run of a checkout."""
    return begun("-m", "mflib", "--root", root, "run", "-p", "seed", seed, "--jobs", 2)


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
    """The loop of all of them: start, wait, strike, look; and the counts of what went wrong.

    ``out`` is where the command works, ``before`` what was whole there after the last round.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder.resolve(), random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.notes: list[str] = []
        self.struck, self.before = 0, {}
        self.out = self.folder / "0"
        self.prepare()
        began = time.monotonic()
        self.whole = self.undisturbed()
        self.span = 1.1 * (time.monotonic() - began)
        self.tries = 0

    def fault(self, kind: str, what: str) -> None:
        self.faults[kind] += 1
        self.notes.append(f"{kind}: {what}")

    def begin(self, number: int) -> list[subprocess.Popen]:
        """Start one, or every third time two at once."""
        return [self.start(self.out) for _ in range(1 if number % 3 else 2)]

    def wait(self, runs: list[subprocess.Popen]) -> None:
        """Wait until any moment of the time that it takes."""
        time.sleep(self.random.uniform(0.0, self.span))

    def strike(self, process: subprocess.Popen, number: int) -> str:
        """Send a signal."""
        how = self.random.choice(SIGNALS)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, how)
        return how.name

    def round(self, number: int) -> str:
        """Start, strike, look; return what was done."""
        runs = self.begin(number)
        self.wait(runs)
        self.struck += any(process.poll() is None for process in runs)
        how = [self.strike(process, number) for process in runs]
        said = [process.communicate(timeout=300)[1] for process in runs]
        codes = [process.returncode for process in runs]
        self.sweep_up()
        for words, code in zip(said, codes, strict=True):
            # an interpreter that is interrupted while it imports says so itself
            if "Traceback" in words and "mflib" in words and code != -signal.SIGINT:
                self.fault("wrong", words[-300:])
        try:
            found = self.found(self.out)
        except (AssertionError, ValueError, KeyError, OSError) as error:
            self.fault("wrong", f"cannot be read: {error!r}")
            found = self.before
        for name in set(self.before) - set(found):
            self.fault("lost", f"{name} with {self.before[name]}")
        self.look(found, said, codes)
        self.before = self.again(found)
        return f"{', '.join(how)}: exit {codes}, {len(found)} of {len(self.whole)}"

    def sweep_up(self) -> None:
        """Count and end what still works after ten seconds."""
        end = time.monotonic() + 10
        while (left := self.working()) and time.monotonic() < end:
            time.sleep(0.1)
        for process in left:
            with contextlib.suppress(psutil.Error):
                self.fault("left over", " ".join(process.cmdline())[:80])
                process.kill()

    def again(self, found: dict) -> dict:
        """Make room for a new one where everything is done; return what is whole there."""
        if len(found) < len(self.whole):
            return found
        self.tries += 1
        self.out = self.folder / str(self.tries)
        return {}

    def finish(self) -> None:
        """A last one with nobody in its way must make everything whole, and leave only that."""
        words = (last := self.start(self.out)).communicate(timeout=600)[1]
        if last.returncode or self.found(self.out) != self.whole:
            self.fault("lost", f"the last one: {words[-300:]}")
        ends = (".part", ".pt", ".running.ipynb")
        left = [path.name for path in self.out.rglob("*") if path.name.endswith(ends)]
        if left or self.working():
            self.fault("left over", f"at the end: {left}")


class Runs(Trial):
    """Runs of a small checkout, each with seeds of its own."""

    def prepare(self) -> None:
        chapter = small_checkout(self.folder)
        for number, name in enumerate(NAMES):
            claim = CLAIM.format(id=f"X-{number}", error="0.0", control="1.0")
            chapter(name, cells=[BODY.replace("{name}", name), claim, "time.sleep(0.5)"])
        self.out, self.seeds = self.folder / "_build" / "chapters", [7]

    def undisturbed(self) -> dict[str, int]:
        self.start(self.out).communicate(timeout=300)
        self.before = self.found(self.out)
        return self.before

    def start(self, out: Path) -> subprocess.Popen:
        return start(self.folder, self.seeds[0])

    def found(self, out: Path) -> dict[str, int]:
        return state(self.folder)

    def begin(self, number: int) -> list[subprocess.Popen]:
        self.seeds = [100 * number + i for i in range(1 if number % 3 else 2)]
        return [start(self.folder, seed) for seed in self.seeds]

    def strike(self, process: subprocess.Popen, number: int) -> str:
        if self.random.random() < 0.25 and (there := workers(self.out)):
            with contextlib.suppress(psutil.Error):
                self.random.choice(there).kill()
            return "SIGKILL (a worker)"
        return super().strike(process, number)

    def working(self) -> list[psutil.Process]:
        return workers(self.out)

    def look(self, found: dict, said: list[str], codes: list[int]) -> None:
        log = self.folder / "log"
        lines = [x.split() for x in log.read_text().splitlines()] if log.exists() else []
        mine = [int(line[1]) for line in lines if int(line[1]) in self.seeds]
        for name, seed in found.items():
            if seed != self.before.get(name) and seed not in self.seeds:
                self.fault("wrong", f"{name} has seed {seed}, nobody's")
        for seed, words, code in zip(self.seeds, said, codes, strict=True):
            for name in re.findall(r"^✓ (\w+): \d+ s", words, re.M):
                if found.get(name) not in self.seeds:
                    self.fault("lost", f"{name} with seed {seed}, reported as done")
            if code == 2 and seed in mine:
                self.fault("doubled", f"the refused run with seed {seed} worked")
        # one after the other may be; by turns they may not
        turns = sum(a != b for a, b in zip(mine, mine[1:], strict=False))
        if len(said) == 2 and 2 not in codes and turns > 1:
            self.fault("doubled", f"runs {self.seeds} worked at once")

    def again(self, found: dict) -> dict:
        return found  # other seeds, in the same folder

    def finish(self) -> None:
        self.seeds, self.whole = [7], dict.fromkeys(NAMES, 7)
        super().finish()
        if lines := ledger.problems(self.folder):
            self.fault("wrong", f"at the end: {lines}")


class Trainings(Trial):
    """Trainings of a small network on made-up images, killed and gone on with."""

    def prepare(self) -> None:
        from cifar_files import write_files

        self.files = write_files(self.folder / "files", train=27, test=20)

    def undisturbed(self) -> dict[str, str]:
        self.start(self.folder / "whole").communicate(timeout=600)
        found = self.found(self.folder / "whole")
        assert len(found) == 2, "the undisturbed run has not finished"
        return found

    def start(self, out: Path) -> subprocess.Popen:
        words = ["train", "--net", "resnet20", "--seeds", "0", "--epochs", "3", "--missing"]
        words += ["--data", self.files, "--unverified", "--device", "cpu", "--quiet"]
        words += ["--out", out, "--checkpoints", out / "unfinished", "--checkpoint-seconds", "0"]
        return begun("-m", "mflib.cifar", *words)

    def found(self, out: Path) -> dict[str, str]:
        """Return the hash of the weights of every record; one that cannot be read raises."""
        records = [json.loads(path.read_text()) for path in out.glob("*.json")]
        return {record["name"]: record["final"]["weights_sha256"] for record in records}

    def working(self) -> list[psutil.Process]:
        return processes(lambda process: str(self.out) in process.cmdline())

    def look(self, found: dict, said: list[str], codes: list[int]) -> None:
        for name, weights in found.items():
            if weights != self.whole.get(name):
                self.fault("wrong", f"{name} has other weights than the undisturbed run")


class Sweeps(Trial):
    """Sweeps of eight points; what stands in the table is never run again."""

    ENDS = ("a worker", "Ctrl-C", "the command", "all workers", "the scheduler", "the disk")
    #: The command itself, but it waits five seconds for workers, not a minute.
    CODE = (
        "import sys; from mflib import workers; workers.completed.__defaults__ = (5.0,); "
        "from mflib.__main__ import main; sys.exit(main())"
    )

    def prepare(self) -> None:
        (self.folder / "checkout").mkdir()
        chapter = small_checkout(self.folder / "checkout")
        self.root, self.cluster, self.log = chapter.root, None, chapter.root / "log"
        claim = CLAIM.format(id="X-1", error="(seed + 1) * 1e-14", control="1.0")
        end = "with log.open('a') as file:\n    file.write(f'end {seed}\\n')"
        chapter("one", cells=[BODY.replace("{name}", "one"), claim, end])

    def undisturbed(self) -> dict[str, str]:
        words = (run := self.start(self.folder / "whole")).communicate(timeout=600)[1]
        found = self.found(self.folder / "whole")
        assert run.returncode == 0 and len(found) == 8, words
        return found

    def start(self, out: Path) -> subprocess.Popen:
        place = ("--scheduler", self.cluster.address) if self.cluster else ("--jobs", 2)
        words = ("--root", self.root, "sweep", "one", "--seeds", "0-7", "--out", out, *place)
        return begun("-c", self.CODE, *words)

    def found(self, out: Path) -> dict[str, str]:
        """Return what was measured at every seed that is done; one that is there twice raises."""
        path = out / "results.csv"
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # a row that was not written out is none
        rows = [row for row in csv.DictReader(whole.splitlines()) if not row["error"]]
        for row in rows:
            assert float(row["measured"]) == (int(row["seed"]) + 1) * 1e-14, row
        for seed, times in Counter(row["seed"] for row in rows).items():
            if times > 1:
                self.fault("doubled", f"seed {seed} stands {times} times in {path}")
        return {row["seed"]: row["measured"] for row in rows}

    def begin(self, number: int) -> list[subprocess.Popen]:
        from dask_cluster import Cluster

        if self.end(number) in ("all workers", "the scheduler"):
            place = self.folder / f"cluster-{number}"
            place.mkdir()
            self.cluster = Cluster(place, MFLIB_ROOT=str(self.root))
        self.ran = self.log.stat().st_size
        return [self.start(self.out)]

    def wait(self, runs: list[subprocess.Popen]) -> None:
        """Wait until any number of the points that lack is done, and a moment."""
        new = self.random.randrange(len(self.whole) - len(self.before))
        while runs[0].poll() is None and len(self.found(self.out)) < len(self.before) + new:
            time.sleep(0.05)
        time.sleep(self.random.uniform(0.0, 1.0 if new else self.span / 3))

    def end(self, number: int) -> str:
        """Return one of the ends; six rounds in a row meet all of them, in any order."""
        turn, place = divmod(number - 1, len(self.ENDS))
        return random.Random(turn).sample(self.ENDS, len(self.ENDS))[place]

    def strike(self, process: subprocess.Popen, number: int) -> str:
        how = self.end(number)
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if how == "a worker":
                there = workers(self.out)
                if not there:  # none has begun
                    how, there = "the command", [process]
                self.random.choice(there).kill()
            elif how == "Ctrl-C":  # as a terminal sends it: to all of them
                os.killpg(process.pid, signal.SIGINT)
            elif how == "the command":
                process.kill()
            elif how == "the disk":
                table = self.out / "results.csv"
                size = table.stat().st_size if table.exists() else 0
                hard = resource.RLIM_INFINITY
                psutil.Process(process.pid).rlimit(psutil.RLIMIT_FSIZE, (size + 50, hard))
            else:
                some = self.cluster.workers if how == "all workers" else [self.cluster.scheduler]
                for child in some:
                    child.kill()
        return how

    def working(self) -> list[psutil.Process]:
        if self.cluster:
            self.cluster.close()
            self.cluster = None
        mine = lambda process: process.environ().get("MFLIB_ROOT") == str(self.root)  # noqa: E731
        return [*workers(self.out), *processes(mine)]

    def look(self, found: dict, said: list[str], codes: list[int]) -> None:
        for seed in re.findall(r"^✓ \d+/\d+ one seed=(\d+)", said[0], re.M):
            if seed not in found:
                self.fault("lost", f"seed {seed}, reported as done")
        ran = self.log.read_bytes()[self.ran :].decode()
        for seed in self.before:
            if f"end {seed}\n" in ran:
                self.fault("doubled", f"seed {seed} ran again")


def trial(folder: Path, rounds: int, seed: int, what: str = "run", verbose: bool = False) -> Trial:
    """Return a trial after its rounds."""
    made = {"run": Runs, "train": Trainings, "sweep": Sweeps}[what](folder, seed)
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
    parser.add_argument("--what", choices=("run", "train", "sweep"), default="run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = trial(Path(folder), options.rounds, options.seed, options.what, verbose=True)
    kinds = ("lost", "doubled", "wrong", "left over")
    counts = {"rounds": options.rounds, "struck while it ran": made.struck}
    print(json.dumps(counts | {k: made.faults[k] for k in kinds}))
    print("\n".join(made.notes))
    return 1 if made.faults else 0


if __name__ == "__main__":
    sys.exit(main())
