"""Commit, versions and device; and files that are written whole or not at all."""

import os
import subprocess
import sys

import pytest

from mflib import provenance


def test_a_file_is_written_whole_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "new" / "a.json"
    provenance.write(path, "√2")
    provenance.write(path, b"second")
    assert path.read_bytes() == b"second"
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    (path / "in the way").mkdir(parents=True)
    with pytest.raises(OSError):
        provenance.write(path, "text")
    assert (path / "in the way").is_dir() and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("before")
    code = (
        "import resource, signal, pathlib, sys; from mflib import provenance\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "provenance.write(pathlib.Path(sys.argv[1]), 'x' * 1000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert "File too large" in done.stderr
    assert path.read_text() == "before" and len(list(tmp_path.iterdir())) == 1


def test_the_commit_says_when_the_checkout_is_changed(tmp_path, monkeypatch):
    monkeypatch.delenv("MFLIB_COMMIT", raising=False)
    assert provenance.commit(tmp_path) is None
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    assert provenance.git(tmp_path, "init") is not None
    (tmp_path / "a").write_text("1")
    provenance.git(tmp_path, "add", "a")
    assert provenance.git(tmp_path, *who, "commit", "-m", "a") is not None
    clean = provenance.commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "a").write_text("2")
    assert provenance.commit(tmp_path) == f"{clean}+dirty"


def test_a_copy_without_git_may_name_its_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("MFLIB_COMMIT", "abc")
    assert provenance.commit(tmp_path) == "abc"


def test_versions_are_those_installed_and_unknown_ones_are_none():
    import numpy

    found = provenance.versions("numpy", "no-such-package", "")
    assert found["numpy"] == numpy.__version__
    assert found["no-such-package"] is None and found["python"] == sys.version.split()[0]


def test_the_processor_has_a_name_and_importing_needs_the_standard_library_only():
    assert provenance.device("cpu") == provenance.processor() != ""
    code = "import sys, mflib.provenance; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ
    )
    assert done.stdout.strip() == "set()"
