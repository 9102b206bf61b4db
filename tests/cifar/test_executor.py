"""Runs spread over a local Dask scheduler and two worker processes, one of them killed."""

import os
import signal
import threading
import time

import pytest
from cifar_files import write_files

pytest.importorskip("distributed")
from dask_cluster import Cluster  # noqa: E402

from mflib import workers  # noqa: E402
from mflib.cifar import CifarError, executor, group  # noqa: E402
from mflib.cifar.cli import main  # noqa: E402
from mflib.cifar.recipe import config  # noqa: E402
from mflib.cifar.records import read_records  # noqa: E402


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    yield made.client
    made.close()


def test_a_killed_worker_loses_no_run(cluster, tmp_path):
    files = write_files(tmp_path / "files", train=10, test=10)
    out, codes = tmp_path / "out", []
    words = [
        "train",
        "--net",
        "resnet20",
        "--rule",
        "vanilla",
        "T1",
        "--seeds",
        "0-1",
        "--epochs",
        "4",
        "--data",
        str(files),
        "--out",
        str(out),
        "--unverified",
        "--checkpoints",
        str(tmp_path / "work"),
        "--checkpoint-seconds",
        "0",
        "--device",
        "cpu",
        "--scheduler",
        cluster.scheduler.address,
    ]
    caller = threading.Thread(target=lambda: codes.append(main(words)))
    caller.start()
    victim = None
    for _ in range(600):  # a worker that has begun: its first checkpoint is written
        busy = [w for w, tasks in cluster.processing().items() if tasks]
        if busy and list((tmp_path / "work").glob("*.pt")):
            victim = cluster.scheduler_info()["workers"][busy[0]]
            break
        time.sleep(0.02)
    assert victim is not None
    pid = cluster.run(os.getpid, workers=[busy[0]], wait=True)[busy[0]]
    os.kill(pid, signal.SIGKILL)
    caller.join(120)
    assert codes == [0]
    assert {(r["config"]["rule"], r["config"]["seed"]) for r in read_records(out)} == {
        (how, seed) for how in ("vanilla", "T1") for seed in (0, 1)
    }
    assert all(r["status"] == "finished" for r in read_records(out))
    # one path: this process alone comes to the same bits
    alone = tmp_path / "alone"
    words = [*words[:-2], "--quiet"]
    words[words.index("--out") + 1] = str(alone)
    assert main(words) == 0
    assert [(r["name"], r["final"]["weights_sha256"]) for r in read_records(alone)] == [
        (r["name"], r["final"]["weights_sha256"]) for r in read_records(out)
    ]


def test_when_the_last_worker_is_lost_the_client_says_so_in_time(cluster, tmp_path, capsys):
    files = write_files(tmp_path / "files", train=10, test=10)
    configs = [config("resnet20", "vanilla", seed, epochs=1000, verified=False) for seed in (0, 1)]
    place = group.Place(str(files), str(tmp_path / "out"), str(tmp_path / "work"), "cpu")
    pids = cluster.run(os.getpid).values()
    killer = threading.Timer(2.0, lambda: [os.kill(pid, signal.SIGKILL) for pid in pids])
    killer.start()
    began = time.monotonic()
    with (
        workers.connect(cluster.scheduler.address) as some,
        pytest.raises(CifarError, match="for 3 seconds there has been no worker; 0 runs"),
    ):
        executor.run_all(configs, place, some, patience=3.0)
    assert time.monotonic() - began < 60
    assert workers.PATIENCE == executor.PATIENCE == 60.0


def test_a_silent_scheduler_is_one_clear_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(workers.connect.__wrapped__, "__defaults__", (0.5, 3))
    assert (
        main(
            [
                "train",
                "--net",
                "resnet20",
                "--seeds",
                "0",
                "--out",
                str(tmp_path),
                "--scheduler",
                "tcp://127.0.0.1:9",
            ]
        )
        == 2
    )
    assert "does not answer" in capsys.readouterr().err
