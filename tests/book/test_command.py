"""The command line: arguments, words, and terminals of every kind; no kernel is started."""

import io
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from executed_chapters import pretend

from mflib.book import runner
from mflib.book.cli import main


def run(checkout, *argv):
    return main(["--root", str(checkout.root), *argv])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "zwei"], "no chapter 'zwei'; there are: one"),
        (["ledger", "zwei"], "no chapter 'zwei'; there are: one"),
        (["run", "-p", "size", "3"], "no parameter 'size' in the chosen chapters; there are: "),
        (["run", "-p", "seed", "abc"], "parameter seed: 'abc' is no int (default: 0)"),
        (["run", "-p", "seed", "1.5"], "parameter seed: 1.5 is no int"),
        (["run", "-p", "seed", "1j"], "parameter seed: 1j is no int"),
        (["run", "-p", "preset", "bogus"], "parameter preset: 'bogus' is none of quick, full"),
        (["run", "--jobs", "0"], "at least one process"),
        (["run", "--out", "notebooks"], "would lie over the sources"),
    ],
)
def test_wrong_arguments_exit_2_with_one_line_before_a_kernel_starts(
    checkout, capsys, argv, message, monkeypatch
):
    parameters = 'seed: int = 0  # the seed\npreset: str = "quick"  # quick | full: more'
    checkout("one", parameters=parameters)
    monkeypatch.chdir(checkout.root)
    monkeypatch.setattr(runner, "local", None)
    assert run(checkout, *argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "argv",
    [
        ["run", "--out", ""],
        ["ledger", "--out", " "],
        ["--root", "", "ledger"],
        ["run", "--preset", "bogus"],
        ["run", "--timeout", "-1"],
        ["run", "--timeout", "soon"],
        ["run", "--jobs", "many"],
        ["dance"],
        [],
    ],
)
def test_what_the_parser_refuses_exits_2(capsys, argv):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2 and "error:" in capsys.readouterr().err


def test_outside_a_checkout_the_remedy_is_named(tmp_path, capsys):
    assert main(["--root", str(tmp_path), "ledger"]) == 2
    assert "set MFLIB_ROOT" in capsys.readouterr().err


def test_help_explains_every_command(capsys):
    for argv in ([], ["run"], ["ledger"], ["chapters"], ["sweep"], ["referee"]):
        with pytest.raises(SystemExit) as stop:
            main([*argv, "--help"])
        assert stop.value.code == 0
    assert "--preset" in capsys.readouterr().out


def test_chapters_are_listed_with_their_parameters_and_an_unreadable_one_is_named(checkout, capsys):
    checkout("one")
    (checkout.root / "notebooks" / "bad.ipynb").write_text("{}")
    assert run(checkout, "chapters") == 1
    said = capsys.readouterr()
    assert "one  (to run)" in said.out and "seed: int = 0" in said.out
    assert "bad.ipynb: is no readable notebook" in said.err


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_terminal_without_our_signs_gets_others(checkout, monkeypatch, encoding):
    checkout("one")
    pretend(checkout)
    for argv in (["ledger"], ["ledger", "--json"], ["run"]):
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        err = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", out), monkeypatch.setattr(sys, "stderr", err)
        assert run(checkout, *argv) == 0
        out.flush(), err.flush()
        shown = out.buffer.getvalue().decode(encoding)
        said = err.buffer.getvalue().decode(encoding)
        monkeypatch.undo()
        if argv[-1] == "--json":
            assert json.loads(shown)["claims"][0]["statement"] == "One is one."
        else:
            assert "X-1" in shown and ("✓" if encoding == "utf-8" else "+") in shown + said
        if argv[0] == "run":
            assert "one: up to date" in said


def test_json_for_a_poor_terminal_says_the_same(checkout):
    checkout(
        "one",
        body=(
            "from mflib.claims import Claim, Identity\n"
            'claim = Claim("X-1", paper="lu2020", where="§ 3", kind="identity", '
            'statement="α ≤ β")\n'
            'check = claim.predict(Identity("α", tolerance=1e-3))\ncheck.measure(0.0)\nclaim'
        ),
    )
    pretend(checkout)
    found = []
    for encoding in ("ascii", "utf-8"):
        done = subprocess.run(
            [sys.executable, "-m", "mflib", "--root", str(checkout.root), "ledger", "--json"],
            env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)},
            capture_output=True,
        )
        found.append(json.loads(done.stdout.decode(encoding)))
    assert found[0] == found[1] and found[0]["claims"][0]["statement"] == "α ≤ β"


def test_the_trainer_is_reached_from_any_folder(checkout, capsys, monkeypatch):
    monkeypatch.setenv("MFLIB_ROOT", "")
    for argv in (["--root", str(checkout.root)], [f"--root={checkout.root}"], []):
        assert main([*argv, "cifar", "--help"]) == 0
        assert "mflib cifar" in capsys.readouterr().out
    assert os.environ["MFLIB_ROOT"] == str(checkout.root)
    assert main(["--root", "/", "cifar", "table"]) == 2
    assert "not inside a checkout" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error(checkout):
    checkout("one")
    pretend(checkout)
    command = (
        f"{sys.executable} -m mflib --root {checkout.root} ledger --json | true; exit $PIPESTATUS"
    )
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr
