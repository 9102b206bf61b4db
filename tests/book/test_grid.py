"""Sweeps on a real scheduler with two workers over TCP, and what may happen to them."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from conftest import CLAIM, small_checkout
from dask_cluster import Cluster, until
from kills import HERE, workers

from mflib.book import grid, report, results
from mflib.book.chapters import ChapterError
from mflib.book.cli import main

ERROR = "seed * 1e-14 if seed != width else 1.0"
PARAMETERS = (
    "seed: int = 0  # the seed\nwidth: int = 4  # a width\nwait: float = 0.0\nact: str = 'a'"
)
BODY = [
    "import os, pathlib, time\n"
    "with open('log', 'a') as file:\n    file.write(f'begin {seed} {width} {os.getpid()}\\n')\n"
    "time.sleep(wait)",
    CLAIM.format(id="X-1", error=ERROR, control="1.0"),
    "with open('log', 'a') as file:\n    file.write(f'end {seed} {width}\\n')",
]
#: What fails: a crash, an error, and what takes too long; the seed says which.
FAILS = [
    "import os, time\nseed == 1 and os.kill(os.getpid(), 9)",
    "1 / (seed - 2)",
    "seed == 3 and time.sleep(600)",
    CLAIM.format(id="X-2", error="0.0", control="1.0"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    made = small_checkout(tmp_path_factory.mktemp("sweep"))
    made("one", cells=BODY, parameters=PARAMETERS)
    made("fails", cells=FAILS)
    return made.root.resolve()


@pytest.fixture(scope="module")
def cluster(root, tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("cluster"), MFLIB_ROOT=str(root))
    yield made
    made.close()


@pytest.fixture
def two(root, tmp_path):
    """A cluster of one test's own, which it may kill."""
    made = Cluster(tmp_path, MFLIB_ROOT=str(root))
    yield made
    made.close()


def run(root, *words):
    return main(["--root", str(root), "sweep", *map(str, words)])


def rows(out):
    with open(out / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def done(out):
    """Return (seed, width) of the points that are in the table without an error."""
    return Counter((row["seed"], row.get("width")) for row in rows(out) if not row["error"])


def counted(out):
    """Return how many whole rows there are while the file grows; none is a crash."""
    try:
        return len(rows(out))
    except (OSError, KeyError):
        return 0


def test_a_grid_times_seeds_becomes_a_table_and_only_what_is_missing_runs(
    root, cluster, tmp_path, capsys
):
    words = ("--grid", "width=4,9", "--scheduler", cluster.address, "--out", tmp_path)
    assert run(root, "one", "--seeds", "3-4", *words) == 0
    found = rows(tmp_path)
    assert Counter((r["width"], r["seed"]) for r in found) == Counter(
        [("4", "3"), ("4", "4"), ("9", "3"), ("9", "4")]
    )
    (bad,) = [r for r in found if r["verdict"] == "refuted"]
    assert (bad["width"], bad["seed"], bad["measured"], bad["claim"]) == ("4", "4", "1.0", "X-1")
    good = next(r for r in found if (r["width"], r["seed"]) == ("9", "3"))
    assert float(good["measured"]) == 3 * 1e-14 and good["predicted"] == "0.0"
    assert (good["controls"], good["flipped"], good["error"]) == ("1", "1", "")
    assert float(good["seconds"]) > 0 and len({r["worker"] for r in found}) <= 2
    shown = capsys.readouterr()
    assert "4 points\n" in shown.err and "changed their verdict (1 of 1 checks)" in shown.out
    assert "other than most at width=4, seed=4" in shown.out
    assert (tmp_path / "report.png").stat().st_size > 5000
    # the same again runs nothing, and more seeds only what is new
    before = (root / "log").read_text()
    assert run(root, "one", "--seeds", "3-4", *words) == 0
    assert "4 points, 4 are done" in capsys.readouterr().err
    assert (root / "log").read_text() == before
    assert run(root, "one", "--seeds", "4-5", *words) == 0
    assert "4 points, 2 are done, 2 others stay in the table" in capsys.readouterr().err
    assert set(done(tmp_path).values()) == {1} and len(done(tmp_path)) == 6


def test_the_parquet_file_holds_the_same_table_with_its_types(root, cluster, tmp_path):
    import pandas

    words = ("--grid", "act=a,b", "--scheduler", cluster.address, "--out", tmp_path)
    assert run(root, "one", "--seeds", "0-1", *words) == 0
    table, text = pandas.read_parquet(tmp_path / "results.parquet"), report.read(tmp_path)
    assert list(table.columns) == list(text.columns) and len(table) == 4
    assert table["measured"].dtype == float and table["seed"].dtype == "int64"
    assert sorted(table["act"]) == ["a", "a", "b", "b"]
    assert (table["measured"].to_numpy() == text["measured"].to_numpy()).all()


def test_what_crashes_fails_or_takes_too_long_is_a_row_and_the_others_run(
    root, cluster, tmp_path, capsys
):
    words = ("--timeout", "5", "--scheduler", cluster.address, "--out", tmp_path)
    began = time.monotonic()
    assert run(root, "fails", "--seeds", "0-4", *words) == 1
    assert time.monotonic() - began < 180
    found = {row["seed"]: row for row in rows(tmp_path)}
    assert len(rows(tmp_path)) == 5 and not found["0"]["error"] and not found["4"]["error"]
    assert "the kernel died; most often the memory" in found["1"]["error"]
    assert "ZeroDivisionError" in found["2"]["error"]
    assert "took longer than 5 s" in found["3"]["error"]
    assert [found[s]["attempt"] for s in "01234"] == ["1", "2", "2", "2", "1"]
    kept = sorted(p.name for p in (tmp_path / "notebooks").iterdir())
    assert len(kept) == 3 and all(name.endswith(".failed.ipynb") for name in kept)
    assert capsys.readouterr().err.count("tried once more") == 3
    # they are run again by the same command, the others are not
    assert run(root, "fails", "--seeds", "0-4", *words) == 1
    assert "5 points, 2 are done, 3 had failed and run again" in capsys.readouterr().err


def test_a_change_of_the_code_makes_points_stale_and_it_says_so(root, cluster, tmp_path, capsys):
    small = root / "notebooks" / "changes.ipynb"
    (root / "beside.py").write_text("number = 0.0\n")
    body = "from beside import number\n" + CLAIM.format(id="X-3", error="number", control="1.0")
    text = (root / "notebooks" / "one.ipynb").read_text()
    cells = json.loads(text)
    cells["cells"] = [cells["cells"][0], cells["cells"][1] | {"source": body}]
    small.write_text(json.dumps(cells))
    words = ("changes", "--seeds", "0-1", "--scheduler", cluster.address, "--out", tmp_path)
    assert run(root, *words, "--keep") == 0
    (root / "beside.py").write_text("number = 1e-15\n")
    capsys.readouterr()
    assert run(root, *words) == 0
    assert "2 points, 2 are stale (code, libraries or records changed)" in capsys.readouterr().err
    assert {row["measured"] for row in rows(tmp_path)} == {"1e-15"} and len(rows(tmp_path)) == 2
    # a notebook that is asked for and lacks is made
    assert len(list((tmp_path / "notebooks").glob("changes-*.ipynb"))) == 2
    small.unlink()


def test_a_worker_with_another_version_is_one_error_with_the_remedy(
    root, cluster, tmp_path, capsys
):
    """The caller's checkout is nowhere on the workers: they use their own, which differs."""
    other = small_checkout(tmp_path)
    other("one", cells=BODY, parameters=PARAMETERS + "\n")
    hidden = tmp_path / "moved"
    points = grid.points(tmp_path, ["one"], {"seed": [1]})
    from mflib import workers as pool

    def moved():
        (tmp_path / "notebooks").rename(hidden)
        return pool.connect(cluster.address)

    with pytest.raises(ChapterError, match="has another version of one.*start it again"):
        grid.run(tmp_path, points, tmp_path / "out", moved)


def test_a_killed_worker_loses_and_doubles_nothing(root, two, tmp_path):
    words = ["one", "--seeds", "100-105", "-p", "wait", "1", "--scheduler", two.address]
    codes = []
    caller = threading.Thread(target=lambda: codes.append(run(root, *words, "--out", tmp_path)))
    caller.start()
    assert until(lambda: counted(tmp_path) >= 1) and (pids := until(two.busy))
    os.kill(pids[0], signal.SIGKILL)
    caller.join(180)
    assert codes == [0]
    assert set(done(tmp_path).values()) == {1} and len(done(tmp_path)) == 6
    # the kernel of the killed worker went with it
    assert until(lambda: len({r["worker"] for r in rows(tmp_path)}) in (1, 2))


@pytest.mark.parametrize("victim", ["workers", "scheduler"])
def test_without_workers_or_scheduler_it_ends_in_time_and_keeps_what_was_done(
    root, two, tmp_path, victim, capsys, monkeypatch
):
    from mflib import workers as pool

    monkeypatch.setattr(pool.completed, "__defaults__", (5.0,))
    words = ["one", "--seeds", "0-9", "-p", "wait", "1", "--out", tmp_path]
    codes = []
    caller = threading.Thread(
        target=lambda: codes.append(run(root, *words, "--scheduler", two.address))
    )
    caller.start()
    assert until(lambda: counted(tmp_path) >= 2)
    for child in two.workers if victim == "workers" else [two.scheduler]:
        child.kill()
    began = time.monotonic()
    caller.join(120)
    assert not caller.is_alive() and time.monotonic() - began < 90
    assert codes == [2]
    kept = done(tmp_path)
    assert 2 <= len(kept) < 10 and set(kept.values()) == {1}
    assert "scheduler: " in (words_ := capsys.readouterr().err) and "same command" in words_
    # and goes on from there with workers of this machine, running nothing twice
    log = (root / "log").read_text()
    assert run(root, *words, "--jobs", "2") == 0
    assert len(done(tmp_path)) == 10 and set(done(tmp_path).values()) == {1}
    new = (root / "log").read_text()[len(log) :]
    assert not [s for s, w in kept if f"end {s} {w}" in new]


def start(root, out, *words, code=None):
    call = code or "import sys; from mflib.book.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", call, "--root", str(root), "sweep", "one", "--jobs", "2"]
        + ["--out", str(out), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": HERE},
    )


@pytest.mark.parametrize("how", ["SIGINT", "group", "SIGTERM", "SIGKILL"])
def test_ctrl_c_and_other_ends_keep_what_is_done_and_leave_no_process(root, tmp_path, how):
    sweep_ = start(root, tmp_path, "--seeds", "0-19", "-p", "wait", "1")
    assert until(lambda: counted(tmp_path) >= 2)
    if how == "group":  # as a terminal sends Ctrl-C: to all of them
        os.killpg(sweep_.pid, signal.SIGINT)
    else:
        os.kill(sweep_.pid, getattr(signal, how))
    said = sweep_.communicate(timeout=60)[0]
    number = {"group": 2}.get(how) or getattr(signal, how)
    assert sweep_.returncode == (-9 if how == "SIGKILL" else 128 + number), said
    assert "Traceback" not in said, said
    assert until(lambda: not workers(tmp_path.resolve()), 15)
    kept = done(tmp_path)
    assert len(kept) >= 2 and set(kept.values()) == {1}
    table = results.Table(tmp_path)
    assert len(table.points) == len(kept)


def test_a_full_disk_ends_it_with_the_table_whole_and_it_goes_on_when_there_is_room(root, tmp_path):
    code = (
        "import resource, sys\nfrom mflib.book import results\nadd = results.Table.add\n"
        "def full(self, *words, **same):\n"
        "    if len(self.points) == 2:\n"
        "        limit = self._size + 50\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "    add(self, *words, **same)\n"
        "results.Table.add = full\n"
        "from mflib.book.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    run_ = start(root, tmp_path, "--seeds", "0-5", code=code)
    said = run_.communicate(timeout=120)[0]
    assert run_.returncode == 2 and "results.csv: cannot be written (File too large)" in said
    assert "make room and give the same command again" in said
    assert len(done(tmp_path)) == 2 and set(done(tmp_path).values()) == {1}
    again = start(root, tmp_path, "--seeds", "0-5")
    said = again.communicate(timeout=120)[0]
    assert again.returncode == 0 and "6 points, 2 are done" in said
    assert len(done(tmp_path)) == 6 and set(done(tmp_path).values()) == {1}


def test_two_sweeps_in_one_folder_do_not_mix(root, tmp_path):
    first = start(root, tmp_path, "--seeds", "0-3", "-p", "wait", "1")
    assert until(lambda: (tmp_path / ".run").exists())
    second = start(root, tmp_path, "--seeds", "0-3")
    said = second.communicate(timeout=60)[0]
    assert second.returncode == 2 and "another run works here" in said
    assert first.communicate(timeout=120) and first.returncode == 0
    assert len(done(tmp_path)) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["one"], "--out"),
        ([], "name a chapter"),
        (["none", "--out", "x"], "no chapter 'none'"),
        (["one", "--out", "x", "--grid", "width"], "is not like width=64"),
        (["one", "--out", "x", "--grid", "width=4,4"], "names a value twice"),
        (["one", "--out", "x", "--grid", "width=a"], "parameter width: 'a' is no int"),
        (["one", "--out", "x", "--grid", "depth=4"], "no parameter 'depth'"),
        (["one", "--out", "x", "--grid", "width=4", "--grid", "width=5"], "has two grids"),
        (["one", "--out", "x", "--grid", "width=4", "-p", "width", "5"], "once as a grid"),
        (["one", "--out", "x", "--seeds", "5-3"], "names no seed"),
        (["one", "--out", "x", "--seeds", "0-9999999"], "are more than"),
        (["one", "--out", "x", "--seeds", "a"], "is not like 0-49"),
        (["one", "--out", "notebooks"], "would lie over the sources"),
        (["one", "--out", "x", "--jobs", "0"], "at least one process is needed"),
        (["one", "--out", "x", "--scheduler", "here"], "is not like tcp://"),
        (["--report", "x"], "cannot be read"),
    ],
)
def test_a_wrong_word_is_one_clear_error_before_anything_runs(
    root, tmp_path, words, message, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = [str(root / w) if w == "notebooks" else w for w in words]
    assert run(root, *words) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") <= 2 and "Traceback" not in said
    assert not (tmp_path / "x" / "results.csv").exists()


def test_lists_and_words_are_values_too():
    assert grid.values_of("widths=[1,2],[3]") == ("widths", [[1, 2], [3]])
    assert grid.values_of("act=tanh, relu") == ("act", ["tanh", "relu"])
    assert grid.values_of("x=1e-3,2") == ("x", [1e-3, 2])
    assert grid.seeds_of("0-2,7,1") == [0, 1, 2, 7]
