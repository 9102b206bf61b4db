"""The engine: kernels forked from a warm process, beside kernels that are interpreters."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib

import papermill
import psutil
import pytest
from conftest import CLAIM, ROOT, small_checkout
from papermill.engines import papermill_engines

from mflib.book import engine
from mflib.book.chapters import load

#: A chapter with random numbers, linear algebra, a figure, a child and a claim.
CELLS = [
    "import torch\nfrom scipy import stats\nfrom mflib.book import figures\n"
    "from mflib.book.notebook import begin\nimport matplotlib.pyplot as plt\n"
    "generator = begin(seed)\n"
    "x = torch.randn(50, 7, 3, generator=generator, dtype=torch.float64)\n"
    "values = torch.linalg.svdvals(x @ x.mT)\nvalues.sum().item().hex()",
    "stats.linregress(x[0, :, 0], x[0, :, 1])",
    "fig, ax = plt.subplots()\nax.plot(values[0], 'o-')\nax.set(xlabel='i', ylabel='value');",
    "import subprocess\nsubprocess.run(['echo', 'said by a child'])\nprint(__name__)\n"
    "import random, numpy, os, sys\n(random.Random(seed).random(), os.getcwd(), sys.path)",
    CLAIM.format(id="X-1", error="float(x.mean()) - float(x.mean())", control="1.0"),
]


@pytest.fixture(scope="module", autouse=True)
def registered():
    papermill_engines.register("mflib", engine.ForkEngine)
    yield
    engine.close()


@pytest.fixture
def execute(tmp_path):
    made = small_checkout(tmp_path)

    def execute(cells, name="mflib", seed=3):
        made("one", cells=cells)
        out = tmp_path / f"{name}.ipynb"
        papermill.execute_notebook(
            tmp_path / "notebooks" / "one.ipynb",
            out,
            parameters={"seed": seed},
            engine_name=None if name == "isolated" else name,
            kernel_name="python3",
            progress_bar=False,
            cwd=str(tmp_path),
        )
        return load(out)

    return execute


def answer(cells):
    """Return what the last cell answers."""
    return "".join(cells[-1]["outputs"][0]["data"]["text/plain"])


def shown(cells):
    """Return all that cells show, but for what names a claim's process and its seconds."""
    found = []
    for cell in cells:
        for output in cell["outputs"]:
            if record := output.get("metadata", {}).get("mflib"):
                del record["seconds"], record["instance"]
                output["data"] = sorted(output["data"])
            found.append((cell["source"], cell["execution_count"], output))
    return json.dumps(found, sort_keys=True)


def test_a_fork_shows_the_same_bits_as_an_interpreter_of_its_own(execute):
    fork, own = shown(execute(CELLS)), shown(execute(CELLS, "isolated"))
    assert fork == own
    assert "image/png" in fork and '"mflib"' in fork
    # and the comparison can fail
    assert shown(execute(CELLS, seed=4)) != own


CRASHES = ["import ctypes\nctypes.string_at(0)", "import os\nos.kill(os.getpid(), 9)", "exit()"]


@pytest.mark.parametrize("crash", CRASHES)
def test_a_crash_stays_in_its_fork(execute, crash):
    warm = engine.warm()
    began = time.monotonic()
    with (
        pytest.raises(Exception, match="(?i)kernel (died|is dead)|SystemExit")
        if crash != ("exit()")
        else _any()
    ):
        execute([crash, "import time\ntime.sleep(2)", "seed"])
    assert time.monotonic() - began < 60
    assert answer(execute(["seed + 1"])) == "4"
    assert engine.warm() is warm and warm.alive


class _any:
    """A chapter that leaves by itself may end in any way."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return True


def test_what_one_fork_does_another_does_not_see(execute):
    execute(
        [
            "import builtins, os, torch\nbuiltins.trace = 1\nos.environ['TRACE'] = '1'\n"
            "torch.set_default_dtype(torch.float64)"
        ]
    )
    found = execute(
        [
            "import builtins, os, torch\n(hasattr(builtins, 'trace'), 'TRACE' in "
            "os.environ, torch.get_default_dtype())"
        ]
    )
    assert answer(found) == "(False, False, torch.float32)"


def test_numbers_that_nobody_seeded_differ_between_forks(execute):
    cells = [
        "import random, numpy, torch\n"
        "[random.random(), float(numpy.random.rand()), float(torch.rand(()))]"
    ]
    drawn = [answer(execute(cells)) for _ in range(3)]
    assert [len(set(numbers)) for numbers in zip(*map(json.loads, drawn), strict=True)] == [3] * 3


def test_a_module_of_the_checkout_is_read_when_the_fork_begins(execute, tmp_path):
    """The warm process holds libraries only: an edit counts at once."""
    for number in (1, 2):
        (tmp_path / "beside.py").write_text(f"number = {number}\n")
        os.utime(tmp_path / "beside.py", (number, number))
        found = execute(["import beside\nbeside.number"])
        assert answer(found) == str(number)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted by Linux")
def test_the_warm_process_has_one_thread_so_that_it_may_fork(execute):
    execute(["import torch\ntorch.randn(300, 300) @ torch.randn(300, 300);"])
    process = psutil.Process(engine.warm()._process.pid)
    assert process.num_threads() == 1


def test_a_kernel_of_another_language_is_named(tmp_path):
    kernels = tmp_path / "kernels" / "other"
    kernels.mkdir(parents=True)
    spec = {"argv": ["false"], "display_name": "x", "language": "julia"}
    (kernels / "kernel.json").write_text(json.dumps(spec))
    manager = engine._Manager
    from jupyter_client.kernelspec import KernelSpecManager

    specs = KernelSpecManager(kernel_dirs=[str(tmp_path / "kernels")])
    with pytest.raises(ValueError, match="engine mflib: the kernel 'other' speaks julia"):
        manager(kernel_name="other", kernel_spec_manager=specs)


def installed(folder):
    """Write the metadata by which an installed package tells its entry points."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {where}" for name, where in points.items())]
    made = folder / "mflib_here-0.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: mflib-here\nVersion: 0.0\n")
    (made / "entry_points.txt").write_text("\n".join(lines))


OWNER = """import sys, papermill
papermill.execute_notebook(sys.argv[1], sys.argv[2], engine_name="mflib", kernel_name="python3",
                           progress_bar=False)"""


def command(tmp_path, *words):
    installed(tmp_path)
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, *words], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_papermill_finds_the_engine_by_its_entry_point(tmp_path):
    small_checkout(tmp_path)("one", cells=["import os\n(seed, os.environ['JPY_PARENT_PID'])"])
    words = "-m papermill --engine mflib notebooks/one.ipynb out.ipynb -p seed 7".split()
    run = command(tmp_path, *words)
    said = run.communicate(timeout=120)[0]
    assert run.returncode == 0, said
    seed, parent = eval(answer(load(tmp_path / "out.ipynb")))
    # the kernel's parent is the warm process, which has ended with papermill
    assert seed == 7 and int(parent) != run.pid and not psutil.pid_exists(int(parent))


@pytest.mark.parametrize("victim", ["owner", "warm"])
def test_forks_end_when_their_owner_or_the_warm_process_is_killed(tmp_path, victim):
    body = (
        "import os, pathlib, subprocess, time\nchild = subprocess.Popen(['sleep', '600'])\n"
        "pathlib.Path('pids').write_text(f'{os.getppid()} {os.getpid()} {child.pid}')\n"
        "time.sleep(600)"
    )
    small_checkout(tmp_path)("one", cells=[body])
    run = command(tmp_path, "-c", OWNER, "notebooks/one.ipynb", "out.ipynb")
    pids = tmp_path / "pids"
    end = time.monotonic() + 120
    while not (pids.exists() and pids.read_text().count(" ") == 2) and time.monotonic() < end:
        time.sleep(0.05)
    warm, kernel, child = map(int, pids.read_text().split())
    os.kill(run.pid if victim == "owner" else warm, signal.SIGKILL)
    run.communicate(timeout=60)
    assert run.returncode != 0

    def living(*pids):
        there = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
        return [p for p in there if p.status() != psutil.STATUS_ZOMBIE]

    # what the kernel started is ended by the warm process, where that is left to do it
    gone = (warm, kernel, child) if victim == "owner" else (warm, kernel)
    end = time.monotonic() + 20
    while living(*gone) and time.monotonic() < end:
        time.sleep(0.1)
    left = living(*gone)
    for process in living(warm, kernel, child):
        process.kill()
    assert not left
