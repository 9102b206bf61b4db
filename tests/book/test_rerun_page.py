"""Every command of the page "Rerun it yourself" is executed, as it stands there."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from conftest import CLAIM, ROOT, small_checkout
from dask_cluster import until
from entry_points import installed

PAGE = (ROOT / "book" / "rerun.md").read_text("utf-8")
PARAMETERS = 'seed: int = 0  # the seed\nimages: int = 50\npreset: str = "quick"  # quick | full'


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.M | re.S)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A checkout with a small chapter of the page's name, and its commands on the path."""
    folder = tmp_path_factory.mktemp("page")
    made = small_checkout(folder)
    body = CLAIM.format(id="X-1", error="1e-15 * images", control="1.0")
    made("adjoint", parameters=PARAMETERS, cells=[body])
    (folder / "book").mkdir(exist_ok=True)
    # the book's register, in which this chapter has no claims to give
    rows = (ROOT / "book" / "claims.csv").read_text("utf-8")
    rows = re.sub(r",adjoint$", ",", rows, flags=re.MULTILINE)
    (folder / "book" / "claims.csv").write_text(rows, "utf-8")
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "bin").mkdir()
    for name in ("mflib", "papermill", "dask"):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name} "$@"\n')
        script.chmod(0o755)
    installed(folder)
    path = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
    }
    environment.pop("MFLIB_ROOT", None)
    return folder, environment


def shell(place, script, timeout=600):
    folder, environment = place
    run = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said = run.communicate(timeout=timeout)[0]
    finally:
        try:
            os.killpg(run.pid, signal.SIGKILL)  # what was started with & ends, too
        except ProcessLookupError:
            pass
    assert run.returncode == 0, said
    return said


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_the_commands_do_what_the_page_says_in_its_order(place):
    folder, _ = place
    one, every, sweep, cluster, referee = blocks("bash")
    (python,) = blocks("python")
    assert "Parameters inferred" in shell(place, one) and (folder / "out.ipynb").is_file()
    assert "every verdict as expected" in shell(place, every)
    assert (folder / "runs" / "full" / "adjoint.ipynb").is_file()
    said = shell(place, sweep)
    assert "6 points" in said and "the same everywhere (1 of 1 checks)" in said
    said = shell(place, f"python3 - <<'END'\n{python}\nEND".replace("python3", sys.executable))
    assert "verified" in said and (folder / "runs" / "images" / "mine.png").is_file()
    # with another port, where somebody else may have that one; the shell does not wait for `&`
    script = cluster.replace("8786", str(free_port())).replace(" &\n", " >/dev/null 2>&1 &\n")
    script = re.sub(r"(?m)^mflib", "for i in $(seq 60); do sleep 1; done & mflib", script)
    waits = "until mflib sweep adjoint --seeds 0"
    first = re.search(r"--scheduler (\S+)", script)[1]
    head, tail = script.replace("for i in $(seq 60); do sleep 1; done & ", "").split("mflib", 1)
    ready = f"{waits} --scheduler {first} --out runs/ready >/dev/null 2>&1; do sleep 1; done\n"
    said = shell(place, head + ready + "mflib" + tail)
    assert "✓ 6/6" in said and (folder / "runs" / "cluster" / "results.csv").is_file()
    said = shell(place, referee)
    assert until(lambda: list((folder / "book" / "records" / "referee").glob("*.json")), 1)
    assert len(list((folder / "runs" / "referee").iterdir())) == 2


def test_the_blocks_that_are_not_executed_are_the_two_of_other_machines():
    assert [re.search(r"import (\w+)", text)[1] for text in blocks("text")] == [
        "SLURMCluster",
        "KubeCluster",
    ]
    for text in blocks("text"):
        compile(text, "page", "exec")
