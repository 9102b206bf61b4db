"""The runner with real kernels: one run of many chapters serves many sentences."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import CLAIM, small_checkout
from executed_chapters import pretend
from kills import start, workers

from mflib.book import chapters, executed, ledger, runner
from mflib.book.chapters import ChapterError
from mflib.book.cli import main

GOOD = CLAIM.format(id="X-1", error="0.0", control="1.0")


def out(checkout):
    return checkout.root / "_build" / "chapters"


def until(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Chapters that fail in every way beside some that do not, all run once."""
    made = small_checkout(tmp_path_factory.mktemp("runner"))
    made("good")
    made("magics", cells=["%%bash\necho $((40 + 2))", "x = [1]\nlen?", "%time import mflib.ode"])
    made("raises", cells=["1 / 0", "unreached = 1"])
    made("syntax", body="x = )")
    made("leaves", cells=["import sys\nsys.exit(0)", GOOD])
    made("quits", cells=["exit()", "import time\ntime.sleep(2)", GOOD])
    made("interrupts", body="raise KeyboardInterrupt")
    made("loops", body="# for ever\nwhile True: pass")
    made("dies", body="import os\nos.kill(os.getpid(), 9)")
    made("prints", cells=["print('x' * 10**7)", "seed"])
    made("full")
    folder = made.root / "notebooks"
    (folder / "folder.ipynb").mkdir()
    (folder / "link.ipynb").symlink_to("nowhere")
    data = json.loads((folder / "good.ipynb").read_text())
    data["metadata"] = {"kernelspec": 3, "language_info": None}
    (folder / "odd.ipynb").write_text(json.dumps(data).replace("X-1", "X-2"))
    # the note of this one cannot be written
    (out(made) / "full.json").mkdir(parents=True)
    made.results = {}
    results = runner.run(made.root, jobs=2, timeout=15)
    made.results = {r.name: r for r in results}
    return made


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", r"chapter raises, cell 2 \('1 / 0'\): ZeroDivisionError: division by zero"),
        ("syntax", r"chapter syntax, cell 2 \('x = \)'\): SyntaxError"),
        ("leaves", r"chapter leaves, cell 2 \('import sys'\): SystemExit"),
        ("quits", r"chapter quits, cell \d \(.*\): (did not run|the kernel died)"),
        (
            "loops",
            r"chapter loops, cell 2 \('while True: pass'\): took longer than 15 s.*--timeout",
        ),
        ("dies", r"chapter dies, cell 2 \('import os'\): the kernel died.*memory"),
        ("full", r"chapter full: .*directory.*full.json"),
        ("folder", r"folder.ipynb: cannot be read"),
        ("link", r"link.ipynb: cannot be read"),
    ],
)
def test_a_failing_chapter_is_named_with_its_cell_and_the_reason(checkout, name, words):
    result = checkout.results[name]
    assert result.status == "failed" and re.search(words, result.message), result.message
    assert "\n" not in result.message
    assert not executed.noted(out(checkout), name)


def test_the_others_run(checkout):
    for name in ("good", "magics", "prints", "odd"):
        assert checkout.results[name].status == "done", checkout.results[name].message
    assert checkout.results["interrupts"].status == "interrupted"
    assert "42" in (out(checkout) / "magics.ipynb").read_text()


def test_what_failed_is_kept_for_inspection_and_fails_the_check(checkout, capsys):
    assert (out(checkout) / "raises.failed.ipynb").is_file()
    assert not (out(checkout) / "raises.ipynb").exists()
    hidden = [p.name for p in out(checkout).iterdir() if ".running." in p.name or ".part" in p.name]
    assert hidden == [] and workers(out(checkout)) == []
    assert main(["--root", str(checkout.root), "ledger", "--check", "raises"]) == 1
    assert "raises: the last run failed" in capsys.readouterr().err
    assert main(["--root", str(checkout.root), "ledger", "--check", "good"]) == 0


def test_a_chapter_runs_again_only_when_its_inputs_change(checkout):
    assert [r.status for r in runner.run(checkout.root, ["good", "magics"])] == ["fresh", "fresh"]
    given = [r.status for r in runner.run(checkout.root, ["good", "magics"], {"seed": 5}, jobs=2)]
    assert given == ["done", "done"]
    (claim,) = ledger.ledger(checkout.root, names=["good"])["claims"]
    assert claim["seed"] == 5
    assert [r.status for r in runner.run(checkout.root, ["good"], {"seed": 5})] == ["fresh"]
    # an executed notebook that was damaged is run again
    path = out(checkout) / "good.ipynb"
    path.write_text(path.read_text()[:100])
    assert [r.status for r in runner.run(checkout.root, ["good"], {"seed": 5})] == ["done"]
    checkout("good", error="1e-15")
    assert not executed.is_fresh(chapters.discover(checkout.root, ["good"])[0], out(checkout))


def test_an_input_that_changes_while_the_chapter_runs_does_not_count(checkout):
    path = checkout.root / "notebooks" / "edits.ipynb"
    checkout("edits", body=f"open({str(path)!r}, 'a').write(' ')")
    (result,) = runner.run(checkout.root, ["edits"])
    assert result.status == "failed" and "inputs changed while it ran" in result.message
    path.unlink()


@pytest.mark.parametrize("where", ["notebooks", "notebooks/x", ".", "..", "mflib/x", "book", "/"])
def test_a_folder_in_or_above_the_sources_is_refused(tmp_path, where):
    root = tmp_path / "checkout"
    root.mkdir()
    checkout = small_checkout(root)
    checkout("one")
    before = (root / "notebooks" / "one.ipynb").read_bytes()
    with pytest.raises(ChapterError, match="would lie over the sources"):
        runner.run(root, out=root / where)
    assert (root / "notebooks" / "one.ipynb").read_bytes() == before
    # nor over those of another checkout
    other = tmp_path / "other"
    other.mkdir()
    small_checkout(other)
    with pytest.raises(ChapterError, match="would lie over the sources"):
        runner.run(root, out=other / "notebooks")


def test_a_folder_that_cannot_be_written_is_named(checkout, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ChapterError, match="cannot be written"):
        runner.run(checkout.root, ["good"], out=tmp_path / "file" / "x")


SLOW = "import subprocess, sys\nsubprocess.Popen(['sleep', '600'])"


@pytest.fixture
def slow(tmp_path):
    """A checkout whose second chapter never ends, with an old run of it."""
    made = small_checkout(tmp_path)
    made("slow", cells=[SLOW, "import time\nwhile seed: time.sleep(1)", GOOD])
    yield made
    for process in workers(out(made)):  # of a test that failed: its run ends without them
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_run_that_is_ended_takes_its_processes_along_and_loses_nothing(slow, number):
    pretend_seed_zero(slow)
    run = start(slow.root, 1)
    # the warm process, its kernel, and what the chapter started
    assert until(lambda: len(workers(out(slow))) >= 3)
    if number == signal.SIGTERM:
        second = start(slow.root, 2)
        words = second.communicate(timeout=60)[1]
        assert second.returncode == 2 and "another run works here (process" in words
    os.kill(run.pid, number)
    words = run.communicate(timeout=180)[1]
    ended = -9 if number == signal.SIGKILL else 128 + number
    assert run.returncode == ended and "Traceback" not in words and "✗" not in words
    assert until(lambda: not workers(out(slow)), 10), "left over"
    chapter = chapters.discover(slow.root)[0]
    assert executed.is_fresh(chapter, out(slow), {})
    # and the lock of the dead is no lock
    (result,) = runner.run(slow.root)
    assert result.status == "fresh"
    assert not list(out(slow).glob(".*.running.ipynb"))


def pretend_seed_zero(slow):
    slow_source = (slow.root / "notebooks" / "slow.ipynb").read_text()
    pretend(slow, "slow")
    assert slow_source == (slow.root / "notebooks" / "slow.ipynb").read_text()


def test_a_full_disk_and_a_hangup_that_the_caller_ignores_do_not_end_a_run(tmp_path):
    made = small_checkout(tmp_path)
    made("one", cells=["import time\ntime.sleep(3)", GOOD])
    made("big", cells=["print('x' * 10**6)", "seed"])
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))\n"
        "from mflib.book.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, "--root", str(tmp_path), "run", "--jobs", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert until(lambda: workers(out(made)))
    os.kill(run.pid, signal.SIGHUP)
    shown, words = run.communicate(timeout=120)
    assert run.returncode == 1 and "✓ one: " in words
    assert "✗ big: chapter big, could not be written: File too large" in words
    assert not [p for p in out(made).iterdir() if "big" in p.name]
    # not a terminal: a line a chapter, and the verdicts at the end
    assert words.count("\n") == 2 and "X-1" in shown and "verified" in shown


def test_the_chapter_of_a_worker_that_is_killed_is_run_again_and_the_others_go_on(tmp_path):
    made = small_checkout(tmp_path)
    made("slow", cells=["import time\ntime.sleep(3)\nopen('log', 'a').write('x')", GOOD])
    made("one", id="X-2")
    code = "import sys; from mflib.book.cli import main; sys.exit(main(sys.argv[1:]))"
    run = subprocess.Popen(
        [sys.executable, "-c", code, "--root", str(tmp_path), "run", "--jobs", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def victim():
        """The worker whose warm process has the kernel that writes the slow chapter."""
        for path in out(made).glob(".slow.*.running.ipynb"):
            if "time.sleep" in path.read_text():
                for process in workers(out(made)):
                    if process.children():
                        return process.parent()
        return None

    assert until(lambda: (found := victim()) and not found.kill())
    words = run.communicate(timeout=300)[1]
    assert run.returncode == 0 and "✓ one" in words and "✓ slow" in words
    assert (tmp_path / "log").read_text() == "x"
    assert until(lambda: not workers(out(made)), 10)


def test_random_kills_lose_double_and_spoil_nothing(tmp_path):
    """A short version; `python tests/kills.py --rounds 100` is the long one."""
    import kills

    made = kills.trial(tmp_path, rounds=2, seed=int(time.time()))
    assert not made.faults, made.notes
