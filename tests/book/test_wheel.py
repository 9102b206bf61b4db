"""The wheel holds the chapters: built, installed and swept outside the checkout, offline."""

import contextlib
import csv
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT
from dask_cluster import Cluster

from mflib import workers
from mflib.book import grid
from mflib.book.chapters import ChapterError

CHAPTER = "unravelled_expansion"
SOURCES = ("mflib", "notebooks", "book")
FILES = ("_toc.yml", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")


def told(*words, cwd, **environment):
    """Run a command of Python; return its exit status and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k != "MFLIB_ROOT"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of this checkout: what a build leaves behind stays there."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    words = ("wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "dist")
    status, said = told("pip", *words, cwd=folder)
    assert status == 0, said
    (path,) = (folder / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder that the wheel was installed into, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    words = ("--no-deps", "--no-index", "--target", folder / "site")
    status, said = told("pip", "install", *words, wheel, cwd=folder)
    assert status == 0, said
    return folder / "site"


def sweep(site, cwd, *words):
    return told("mflib", "sweep", CHAPTER, *words, cwd=cwd, PYTHONPATH=str(site))


def test_the_wheel_holds_every_chapter_and_what_they_read(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {n.removeprefix("mflib/book/shipped/") for n in names if "/shipped/" in n}
    assert {path.split("/")[0] for path in shipped} == {"_toc.yml", "notebooks", "book"}
    for pattern in ("notebooks/*.ipynb", "book/claims.csv", "book/records/**/*.json"):
        there = {path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern)}
        assert there and there <= shipped
    # in the wheel's top level there is the library alone
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"mflib"}


def test_without_a_checkout_the_chapters_of_the_wheel_run_and_results_lie_here(installed, tmp_path):
    here = "import mflib, mflib.book.chapters as c; print(mflib.__file__, c.find_root())"
    done = subprocess.run(
        [sys.executable, "-c", here],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed), "MFLIB_ROOT": ""},
        capture_output=True,
        text=True,
    )
    shipped = installed / "mflib" / "book" / "shipped"
    assert done.stdout.split() == [str(installed / "mflib" / "__init__.py"), str(shipped)]
    before = sorted(p for p in shipped.rglob("*"))
    status, said = sweep(installed, tmp_path, "--seeds", "0-1", "--jobs", "1", "--out", "runs")
    assert status == 0 and "2 points ran" in said, said
    with (tmp_path / "runs" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["seed"] for row in rows} == {"0", "1"} and not any(row["error"] for row in rows)
    assert all(row["verdict"] and row["measured"] for row in rows)
    assert sorted(p for p in shipped.rglob("*")) == before
    status, said = told("mflib", "chapters", cwd=tmp_path, PYTHONPATH=str(installed))
    assert status == 0 and f"{CHAPTER}  (to run)" in said
    words = ("new", "mine", "--paper", "lu2020", "--claims", "X-1")
    status, said = told("mflib", *words, cwd=tmp_path, PYTHONPATH=str(installed))
    assert status == 2 and "needs a checkout" in said


def test_a_worker_with_the_wheel_serves_a_checkout_and_one_with_another_says_so(
    wheel, installed, tmp_path
):
    """The same sources have the same fingerprint in a wheel and in a checkout."""
    other = tmp_path / "other"
    shutil.copytree(installed, other)
    with (other / "mflib" / "claims" / "verdict.py").open("a") as file:
        file.write("\n# another version\n")
    checkout = tmp_path / "checkout"
    shutil.copytree(wheel.parents[1], checkout, symlinks=True)
    points = grid.points(checkout, [CHAPTER], {"seed": [3]})

    def swept(site):
        place = tmp_path / f"cluster-{site.name}"
        place.mkdir()
        cluster = Cluster(place, 1, PYTHONPATH=str(site), MFLIB_ROOT="")
        try:

            @contextlib.contextmanager
            def some():
                # from here on the caller's checkout is nowhere on the workers
                (checkout / "notebooks").rename(checkout / "moved")
                with workers.connect(cluster.address) as found:
                    yield found

            return grid.run(checkout, points, tmp_path / f"out-{site.name}", some)
        finally:
            cluster.close()
            (checkout / "moved").rename(checkout / "notebooks")

    count = swept(installed)
    assert (count.done, count.failed) == (1, 0)
    with pytest.raises(
        ChapterError,
        match=rf"another version of {CHAPTER}.*\(in {other}/mflib/book/shipped\); give it the "
        "caller's, start it again",
    ):
        swept(other)
