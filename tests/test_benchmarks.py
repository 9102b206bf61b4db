"""Every benchmark at a toy size: it runs, it agrees, and a wrong answer stops it."""

import json
import subprocess
import sys

import numpy as np
import psutil
import pytest
from conftest import ROOT

from mflib.book import speed

sys.path.insert(0, str(ROOT))
from benchmarks import harness, outside  # noqa: E402


@pytest.mark.parametrize("name", harness.JOBS)
def test_a_job_prints_a_whole_record(name):
    command = [sys.executable, "-m", "benchmarks", name, "--toy", "--rounds", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["name"] == name and record["machine"]["tanh"] in ("tanh", "sigmoid")
    assert {"versions", "rows", "limit_fraction", "exponents"} <= set(record)
    assert any(row["judged"] for row in record["rows"])
    for row in record["rows"]:
        assert row["spread"][0] <= row["ratio"] <= row["spread"][1] and row["ratio"] > 0


@pytest.mark.parametrize("name", ["sweep_throughput", "sweep_scaling"])
def test_a_benchmark_of_sweeps_runs_to_its_end_and_writes_a_record_of_its_page(name, tmp_path):
    words = ["--points", "2", *(["--seconds", "0"] if name == "sweep_throughput" else [])]
    path = tmp_path / "record.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", *words, "--out", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = speed.read(path)
    assert record["name"] == name and record["command"].startswith(f"python -m benchmarks.{name} ")
    assert record["commit"] and record["machine"]["cores"] >= 1 and record["versions"]["torch"]
    assert [row["points"] for row in record["rows"]] == [2] * (4 if words[2:] else 2)
    if words[2:]:
        assert record["rows"][0]["times the loop"] == 1.0
        assert all(row["processor seconds a point"] > 0 for row in record["rows"])
    assert speed.table(record)


def case(factor=1.0, differs=()):
    answer = np.arange(1.0, 5.0)
    return harness.Case(
        "one", lambda: answer, {"peer": lambda: factor * answer, "absent": None}, differs=differs
    )


def test_a_faster_wrong_answer_loses(monkeypatch):
    monkeypatch.setattr(harness.importlib, "import_module", lambda *a: harness)
    monkeypatch.setattr(harness, "cases", lambda name, toy: [lambda: case(1 + 1e-6)])
    with pytest.raises(SystemExit, match="peer differs by 1.0e-06"):
        harness.measure("adjoint", 1, toy=True)
    monkeypatch.setattr(harness, "cases", lambda name, toy: [lambda: case(2.0, ("peer",))])
    found = harness.measure("adjoint", 1, toy=True)
    assert found["missing"] == ["absent"]
    assert not found["rows"][0]["judged"] and found["rows"][0]["agreement"] == pytest.approx(1.0)


@pytest.mark.parametrize("value", [2e-14, float("nan")])
def test_an_answer_that_does_not_keep_its_bound_stops_the_job(monkeypatch, value):
    kept = case()
    kept.bounds = lambda: {"mass": (value, 1e-14)}
    monkeypatch.setattr(harness, "cases", lambda name, toy: [lambda: kept])
    with pytest.raises(SystemExit, match="adjoint, one: mass is (2.0e-14|nan), above 1e-14"):
        harness.measure("adjoint", 1, toy=True)


ASKED = """import json, sys, time
import numpy as np
x = np.load(sys.argv[1], allow_pickle=False)["x"]
for line in sys.stdin:
    words = line.split()
    if words[0] == "answer":
        print(json.dumps((2 * x).tolist()), flush=True)
    elif words[0] == "time":
        print(json.dumps(float(words[1])), flush=True)
    else:
        raise RuntimeError("no such question")
"""


def test_a_peer_outside_answers_in_json_and_its_end_is_said(monkeypatch, tmp_path):
    (tmp_path / "other.py").write_text(ASKED)
    monkeypatch.setattr(outside, "HERE", tmp_path)
    monkeypatch.setattr(outside, "environment", lambda name: sys.executable)
    peer = outside.Outside("other", x=np.array([1.0, 0.1]))
    assert (peer() == [2.0, 0.2]).all()
    assert harness.seconds(peer, 3) == 3.0  # what the process says, not what waiting costs
    process, file = psutil.Process(peer._process.pid), peer._file
    with pytest.raises(SystemExit, match="other: its process ended: .*no such question"):
        peer.ask("what")
    del peer
    assert not process.is_running() and not file.exists()


def test_the_exponent_of_a_known_cost_is_found(monkeypatch):
    monkeypatch.setattr(harness, "seconds", lambda job, n: job())
    jobs = [lambda size=size: 3.0 * size**1.5 for size in (10, 20, 40)]
    assert harness.exponent([10, 20, 40], jobs) == pytest.approx(1.5)


def test_memory_is_the_measured_process_own_whatever_its_parent_holds():
    held = np.ones(50_000_000)
    found = harness.peak("adjoint", 0, "ours", toy=True)
    assert held.nbytes / 2**20 > 380 and found is not None and found < 100
