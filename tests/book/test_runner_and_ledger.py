"""The runner, the ledger and the command line, on chapters of our own."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mflib.book import chapters, ledger, runner
from mflib.book.cli import main


def run(checkout, *argv):
    return main(["--root", str(checkout.root), *argv])


def out(checkout):
    return checkout.root / "_build" / "chapters"


def test_a_chapter_runs_once_and_again_only_when_its_inputs_change(checkout):
    checkout("one"), checkout("two", id="X-2")
    assert {r.status for r in runner.run(checkout.root)} == {"done"}
    assert {r.status for r in runner.run(checkout.root)} == {"fresh"}
    checkout("one", error="1e-15")
    assert {r.name: r.status for r in runner.run(checkout.root)} == {
        "one": "done", "two": "fresh"}
    assert [r.status for r in runner.run(checkout.root, ["two"], {"seed": 5})] == ["done"]
    assert ledger.ledger(checkout.root)["claims"][1]["seed"] == 5
    assert ledger.problems(checkout.root) == []


def test_the_fingerprint_follows_imported_modules_only(checkout):
    checkout("one")
    chapter = chapters.discover(checkout.root)[0]
    names = {p.name for p in chapters._sources(chapters._cells(chapter))}
    assert {"claim.py", "checks.py", "intervals.py", "card.py"} <= names
    assert "landscape.py" not in names and "cli.py" not in names


def test_the_fingerprint_follows_the_records_that_a_chapter_reads(checkout):
    checkout("reads", body="from mflib.cifar.records import committed\nseed")
    checkout("records", body="'speaks of records only'\nseed")
    folder = checkout.root / "book" / "records" / "cifar" / "bench"
    folder.mkdir(parents=True)

    def marks():
        return {c.name: chapters.fingerprint(c, {}) for c in chapters.discover(checkout.root)}

    before = marks()
    (folder.parents[1] / "reruns.json").write_text("{}")
    assert marks() == before
    (folder / "a.json").write_text("{}")
    after = marks()
    assert after["reads"] != before["reads"] and after["records"] == before["records"]


def test_the_ledger_as_json_has_the_promised_fields(checkout, capsys):
    checkout("one")
    assert run(checkout, "run") == 0
    capsys.readouterr()
    assert run(checkout, "ledger", "--json") == 0
    book = json.loads(capsys.readouterr().out)
    assert book["schema"] == 1 and "commit" in book
    (claim,) = book["claims"]
    assert set(claim) >= set(
        "id paper where kind statement expected verdict checks controls notebook seed seconds "
        "device versions".split())
    assert set(claim["checks"][0]) >= set(
        "name measured predicted interval tolerance passed".split())
    assert set(claim["controls"][0]) >= {"name", "broke", "measured", "flipped"}
    assert claim["verdict"] == "verified" and claim["notebook"] == "one"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(error="1.0"), "X-1: is refuted, expected verified"),
        (dict(control="0.0"), "X-1: the control '2' did not flip"),
        (dict(error="float('nan')"), "X-1: is inconclusive, expected verified"),
        (dict(body="seed"), "one: carries no claim"),
    ],
)
def test_the_ledger_check_says_what_is_wrong(checkout, capsys, change, message):
    checkout("one", **change)
    assert run(checkout, "run") == 0
    assert run(checkout, "ledger", "--check") == 1
    assert message in capsys.readouterr().err


def test_the_ledger_check_sees_missing_stale_and_repeated(checkout, capsys):
    checkout("one"), checkout("two")
    assert run(checkout, "ledger", "--check") == 1
    assert "one: was not run" in capsys.readouterr().err
    assert run(checkout, "run") == 0
    assert run(checkout, "ledger", "--check") == 1
    assert "X-1: given twice, in one and in two" in capsys.readouterr().err
    checkout("two", id="X-2")
    assert run(checkout, "ledger", "--check") == 1
    assert "two: is stale" in capsys.readouterr().err


def test_a_failing_chapter_is_named_with_its_cell_and_kept_while_others_go_on(checkout, capsys):
    checkout("bad", body="seed\n1 / 0"), checkout("good")
    assert run(checkout, "run") == 1
    words = " ".join(capsys.readouterr().err.split())
    assert "chapter bad, cell" in words and "ZeroDivisionError" in words
    assert (out(checkout) / "bad.failed.ipynb").is_file()
    assert not (out(checkout) / "bad.ipynb").exists() and (out(checkout) / "good.ipynb").exists()
    assert run(checkout, "ledger", "--check") == 1
    checkout("bad", id="X-2")
    assert run(checkout, "run") == 0
    assert not (out(checkout) / "bad.failed.ipynb").exists()
    assert run(checkout, "ledger", "--check") == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "zwei"], "no chapter 'zwei'; there are: one"),
        (["run", "-p", "size", "3"], "no parameter 'size' in the chosen chapters; there are: seed"),
        (["run", "--jobs", "0"], "at least one process"),
    ],
)
def test_wrong_arguments_exit_2_with_one_line(checkout, capsys, argv, message):
    checkout("one")
    assert run(checkout, *argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_notebook_without_parameters_cell_is_refused(checkout, capsys):
    checkout("one", tagged=False)
    assert run(checkout, "run") == 2
    assert "no cell is tagged 'parameters'" in capsys.readouterr().err


def test_a_notebook_that_does_not_parse_is_named(checkout, capsys):
    (checkout.root / "notebooks" / "broken.ipynb").write_text('{"cells": [')
    assert run(checkout, "run") == 2
    assert "broken.ipynb: is no readable notebook" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(checkout, capsys):
    checkout("one")
    (checkout.root / "file").write_text("in the way")
    assert run(checkout, "run", "--out", str(checkout.root / "file" / "x")) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_outside_a_checkout_the_remedy_is_named(tmp_path, capsys):
    assert main(["--root", str(tmp_path), "ledger"]) == 2
    assert "set MFLIB_ROOT" in capsys.readouterr().err


def test_an_interrupted_run_leaves_nothing_that_counts_as_done(checkout):
    checkout("slow", body="import time\ntime.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-m", "mflib", "--root", str(checkout.root), "run"],
        stderr=subprocess.PIPE, start_new_session=True,
    )
    partial = out(checkout) / ".slow.running.ipynb"
    for _ in range(200):
        if partial.exists():
            break
        time.sleep(0.1)
    assert partial.exists()
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert not (out(checkout) / "slow.ipynb").exists()
    assert not chapters.is_fresh(chapters.discover(checkout.root)[0], out(checkout))


def test_help_explains_every_command(capsys):
    for argv in ([], ["run"], ["ledger"], ["chapters"], ["reruns"]):
        with pytest.raises(SystemExit) as stop:
            main([*argv, "--help"])
        assert stop.value.code == 0
    assert "--preset" in capsys.readouterr().out


def test_parameters_are_read_with_type_default_and_comment(checkout, capsys):
    checkout("one")
    chapter = chapters.discover(checkout.root)[0]
    assert chapters.parameters(chapter) == {"seed": ("int", "0", "the seed")}
    assert run(checkout, "chapters") == 0
    assert "seed: int = 0" in capsys.readouterr().out
