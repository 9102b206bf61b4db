"""The commands: runs killed and resumed, mistakes answered in one line, few packages."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from cifar_files import write_files

from mflib.cifar.cli import main, seeds_of
from mflib.cifar.records import read_records

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def smaller(args):
    """The same words for the smallest network, where the network does not matter."""
    return ["small-n3" if word == "resnet20" else word for word in args]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("cifar"), train=27, test=20)


def words(files, out, *more, command="train", net=True):
    base = [
        command,
        "--data",
        str(files),
        "--out",
        str(out),
        "--unverified",
        "--device",
        "cpu",
        "--checkpoints",
        str(out / "unfinished"),
        "--quiet",
    ]
    return [*base, *(["--net", "resnet20"] if net else []), *map(str, more)]


def run(words, **more):
    return subprocess.run(
        [sys.executable, "-m", "mflib.cifar", *words],
        env=ENV,
        capture_output=True,
        text=True,
        timeout=120,
        **more,
    )


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory):
    """One uninterrupted run of three epochs."""
    out = tmp_path_factory.mktemp("whole")
    assert main(words(files, out, "--rule", "T1", "--seeds", 0, "--epochs", 3)) == 0
    return read_records(out)[0]


def test_killed_at_any_moment_it_goes_on_to_the_same_bits(files, whole, tmp_path):
    command = words(
        files, tmp_path, "--rule", "T1", "--seeds", 0, "--epochs", 3, "--checkpoint-seconds", 0
    )
    child = subprocess.Popen([sys.executable, "-m", "mflib.cifar", *command], env=ENV)
    for _ in range(600):
        if list(tmp_path.glob("unfinished/*.pt")) or child.poll() is not None:
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not list(tmp_path.glob("*.json"))
    assert list(tmp_path.glob("unfinished/*.pt"))
    assert main(command) == 0
    again = read_records(tmp_path)[0]
    for key in ("weights_sha256", "tau", "test_error"):
        assert again["final"][key] == whole["final"][key]
    assert again["epochs"] == whole["epochs"]
    assert not list(tmp_path.glob("unfinished/*"))


def test_an_interrupt_saves_and_says_so(files, tmp_path):
    command = words(files, tmp_path, "--seeds", 0, "--epochs", 50)
    command.remove("--quiet")
    child = subprocess.Popen(
        [sys.executable, "-m", "mflib.cifar", *command], env=ENV, text=True, stderr=subprocess.PIPE
    )
    assert "epoch 1/50" in child.stderr.readline()
    child.send_signal(signal.SIGINT)
    rest = child.stderr.read()
    assert child.wait(60) == 130
    assert "interrupted" in rest and "Traceback" not in rest
    assert len(list(tmp_path.glob("unfinished/*.pt"))) == 1


def test_a_time_limit_stops_and_the_same_command_goes_on(files, tmp_path, capsys):
    rest = ("--epochs", 1, "--seeds-at-most", 1)
    plan = words(files, tmp_path, *rest, command="plan")
    assert main(plan) == 0
    planned = capsys.readouterr().out.splitlines()
    assert planned[0].startswith("cifar10-resnet20-vanilla-s0") and len(planned) == 14
    limited = [*words(files, tmp_path, *rest, command="all"), "--minutes", "0.003"]
    assert main(limited) == 0
    assert "time is up: 14 to go; the same command goes on" in capsys.readouterr().out
    assert main(plan) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{planned[0]} (begun)"
    args = words(files, tmp_path, "--rule", "vanilla", "--seeds", 0, "--epochs", 1)
    args.remove("--quiet")
    assert main(args) == 0
    assert "goes on after 0 epochs and " in capsys.readouterr().err
    assert main(plan) == 0
    assert capsys.readouterr().out.splitlines() == planned[1:]


def test_the_small_protocol_end_to_end_skips_what_another_record_says(files, tmp_path, capsys):
    rest = ("--protocol", "small", "--epochs", 1, "--seeds-at-most", 1)
    small = ["small-n3", "--net"]
    args = [*words(files, tmp_path, *rest, command="all", net=False), *small[::-1]]
    assert main(args) == 0
    # vanilla and mean-field, normalised, flow, T1; nothing sorted, so blocks-stay and
    # others-move are known
    assert "7 of 7 runs finished" in capsys.readouterr().out
    found = {r["config"]["rule"]: r for r in read_records(tmp_path)}
    assert set(found) == {"vanilla", "mean-field", "normalised", "flow", "T1"}
    assert {r["config"]["data"] for r in found.values()} == {"cifar10-16px"}
    assert found["mean-field"]["epochs"][0]["reorderings"] == [0, 0, 0]
    assert all(r["protocol"] is None for r in found.values())  # one epoch, unknown files
    plan = [*words(files, tmp_path, *rest, command="plan", net=False), *small[::-1]]
    assert main(plan) == 0
    assert capsys.readouterr().out == ""


def test_an_empty_file_is_no_record(files, tmp_path, capsys):
    args = words(files, tmp_path, "--rule", "vanilla", "--epochs", 1, "--seeds", 0)
    assert main(args) == 0
    record = next(tmp_path.glob("*.json"))
    whole = json.loads(record.read_text())
    record.write_text("")
    assert main([*args, "--missing"]) == 0
    assert json.loads(record.read_text())["final"] == whole["final"]
    record.write_text("{")
    assert main([*args, "--missing"]) == 2
    assert "is no record of a run" in capsys.readouterr().err


def test_two_trains_in_one_folder_end_with_every_record_once(files, tmp_path):
    args = words(
        files, tmp_path, "--rule", "vanilla", "T1", "--epochs", 3, "--seeds", "0-1", "--missing"
    )
    args = smaller(args)
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "mflib.cifar", *args],
            env=ENV,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for _ in range(2)
    ]
    for child in both:
        said, _ = child.communicate(timeout=300)
        assert child.returncode == 0, said
    assert len(read_records(tmp_path)) == 4
    assert not list(tmp_path.glob("unfinished/*"))


def test_without_a_home_everything_works(files, tmp_path):
    env = {**ENV, "MFLIB_CIFAR": "~nouser/files"}
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        env.pop(name, None)
    code = (
        "import os, pathlib, sys\n"
        "def lost(*a, **k): raise RuntimeError('Could not determine home directory.')\n"
        "pathlib.Path.expanduser = pathlib.Path.home = lost\n"
        "from mflib.cifar.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    args = words(files, tmp_path, "--seeds", 0, "--epochs", 1, "--rule", "vanilla")
    args = smaller(args)
    done = subprocess.run(
        [sys.executable, "-c", code, *args], env=env, text=True, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    args[args.index("--data") : args.index("--data") + 2] = ["--data", "~nouser/files"]
    lost = subprocess.run(
        [sys.executable, "-c", code, *args, "--overwrite"],
        env=env,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert lost.returncode == 2 and "~nouser/files" in lost.stderr
    assert len(lost.stderr.splitlines()) == 1


def test_a_terminal_that_knows_ascii_only_gets_its_table(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mflib.cifar", "table", "--records", str(tmp_path)],
        env={**ENV, "PYTHONIOENCODING": "ascii"},
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0 and "not run" in done.stdout, done.stderr


def test_the_doctor_says_what_works_and_how_long_rows_take(files, capsys):
    assert main(["doctor", "--device", "cpu", "--seconds", "0.01", "--data", str(files)]) == 0
    said = capsys.readouterr().out
    assert str(files) in said and "small-n3   fp32:" in said and "images/s" in said
    assert all(f" {net} " in said for net in ("small-n9", "resnet164", "resnext29-16x64d"))
    assert main(["doctor", "--seconds", "0"]) == 2


def test_an_existing_record_is_refused_skipped_or_replaced(files, tmp_path, capsys):
    args = words(files, tmp_path, "--rule", "vanilla", "--epochs", 1)
    assert main([*args, "--seeds", "0"]) == 0
    before = next(tmp_path.glob("*.json")).read_bytes()
    assert main([*args, "--seeds", "0,1"]) == 2
    message = capsys.readouterr().err
    assert "--overwrite" in message and len(message.splitlines()) == 1
    assert next(tmp_path.glob("*.json")).read_bytes() == before
    assert main([*args, "--seeds", "0-1", "--missing"]) == 0
    assert len(read_records(tmp_path)) == 2
    assert main([*args, "--seeds", "0", "--overwrite"]) == 0


def test_the_table_speaks_json_and_markdown(tmp_path, capsys):
    assert main(["table", "--records", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["full"]
    assert len(rows) == 8 and rows[0]["paper"] == [8.75, 8.19]
    assert main(["table", "--records", str(tmp_path)]) == 0
    assert "8 of 8 rows not run" in capsys.readouterr().out
    assert main(["table", "--records", str(tmp_path / "nowhere")]) == 2
    assert "is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (("--net", "resnet18"), "'resnet18' is none of small-n3"),
        (("--rule", "magic"), "'magic' is none of vanilla"),
        (("--seeds", "0-99999999999"), "more than 1000"),
        (("--seeds", "99999999999"), "is not between 0 and 2^31 - 1"),
        (("--checkpoint-seconds", "nan"), "from 0 to 86400"),
        (("--checkpoint-seconds", "-1"), "from 0 to 86400"),
        (("--minutes", "nan"), "positive"),
        (("--seeds", ""), "names no seed"),
        (("--seeds", "3-1"), "names no seed"),
        (("--seeds", "x"), "is not like 0-7"),
        (("--epochs", "0"), "at least one"),
        (("--subset", "9999"), "subset: 9999"),
        (("--device", "tpu9"), "device"),
        (("--device", "cuda:77"), "is not here"),
        (("--together", "0"), "at least one run"),
        (("--minutes", "-1"), "positive"),
        (("--scheduler", "host"), "is not like tcp://host:8786"),
        (("--scheduler", "tcp://host:8786", "--minutes", "3"), "for one machine"),
        (("--checkpoints", "/dev/null/x"), "/dev/null/x: cannot be written"),
        (("--out", "/dev/null/x"), "/dev/null/x: cannot be written"),
    ],
)
def test_a_mistake_is_one_line_and_exit_two(files, tmp_path, capsys, extra, expected):
    assert main([*words(files, tmp_path), *extra]) == 2
    message = capsys.readouterr().err
    assert expected in message and len(message.splitlines()) == 1
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (("--net", "resnext29-8x64d"), "needs --resnext"),
        (("--protocol", "small", "--net", "resnet20"), "the small protocol has small-n3"),
        (("--seeds-at-most", "0"), "at least one"),
    ],
)
def test_a_mistake_about_a_protocol_is_one_line_and_exit_two(
    files, tmp_path, capsys, extra, expected
):
    for command in ("plan", "all"):
        args = [*words(files, tmp_path, command=command, net=False), *extra]
        assert main(args) == 2
        message = capsys.readouterr().err
        assert expected in message and len(message.splitlines()) == 1


def test_official_files_are_required_unless_told_otherwise(files, tmp_path, capsys):
    args = [w for w in words(files, tmp_path) if w != "--unverified"]
    assert main(args) == 2
    assert "not the official cifar10 file" in capsys.readouterr().err


def test_seeds_are_read_as_lists_and_ranges():
    assert seeds_of("0-2,7, 5") == [0, 1, 2, 5, 7]


def test_torch_and_numpy_are_enough(files, tmp_path):
    code = (
        "import sys\n"
        "for name in ('scipy','sklearn','pooch','rich','dask','distributed','matplotlib',"
        "'seaborn','pandas','PIL','papermill','torchvision'): sys.modules[name] = None\n"
        "from mflib.cifar.cli import main\n"
        "code = main(sys.argv[1:]) or main(['doctor', '--seconds', '0.01'])\n"
        "sys.exit(code or main(['table', '--records', '.']) - 2)\n"
    )
    args = words(files, tmp_path, "--seeds", 0, "--epochs", 1, "--rule", "vanilla")
    args = smaller(args)
    args.remove("--quiet")
    done = subprocess.run(
        [sys.executable, "-c", code, *args], env=ENV, text=True, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "images/s" in done.stderr and "expected minutes" in done.stdout
    assert "table: needs " in done.stderr


@pytest.mark.parametrize("name", ["torch", "numpy"])
def test_a_python_without_torch_or_numpy_is_told_what_to_install(name):
    code = (
        f"import sys, runpy\nsys.modules['{name}'] = None\n"
        "runpy.run_module('mflib.cifar', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENV, text=True, capture_output=True, timeout=120
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"has no {name}; install torch" in done.stderr.splitlines()[-1]
