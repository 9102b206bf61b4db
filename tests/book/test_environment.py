"""The set-up: pins, metadata and the conda file agree."""

import re
import tomllib
from importlib import metadata

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def pins():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_every_requirement_is_pinned_exactly_once_and_torch_is_as_promised():
    rows = {r.name.lower(): str(r.specifier) for r in pins()}
    assert len(rows) == len(pins())
    assert all(s.startswith("==") for s in rows.values())
    assert rows["torch"] == "==2.13.0" and rows["jupyter-book"] == "==1.0.4.post1"


def test_every_requirement_but_torch_has_its_files_by_hash():
    """Made again by the command in the file's first lines when requirements.txt changes."""
    text = (ROOT / "requirements-hashes.txt").read_text()
    rows = re.findall(r"^(\S+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", text, re.M)
    hashed = {canonicalize_name(name): version for name, version, _ in rows}
    wanted = {canonicalize_name(r.name): str(r.specifier)[2:] for r in pins()}
    assert wanted.pop("torch") and hashed == wanted
    lines = text.replace("\\\n", "").splitlines()
    assert len(lines) - sum(line.startswith("#") for line in lines) == len(rows)


def test_the_workflow_may_only_read_and_its_actions_are_pinned_by_hash():
    (path,) = (ROOT / ".github" / "workflows").glob("*.yml")
    flow = yaml.safe_load(path.read_text())
    assert flow["permissions"] == {"contents": "read"}
    steps = [step for job in flow["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert used and all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", name) for name in used)
    assert all("${{" not in step.get("run", "") for step in steps)


def test_the_package_metadata_admits_the_pins():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = {r.name.lower().replace("_", "-"): r for r in pins()}
    extras = project["optional-dependencies"]["test"]
    for text in project["dependencies"] + extras:
        wanted = Requirement(text)
        pinned = str(rows[wanted.name.lower()].specifier).removeprefix("==")
        assert wanted.specifier.contains(pinned, prereleases=True), text
    torch = next(Requirement(t) for t in project["dependencies"] if t.startswith("torch"))
    assert torch.specifier.contains("2.11.0")


def test_the_conda_file_gives_the_same():
    spec = yaml.safe_load((ROOT / "environment.yml").read_text())
    for entry in spec["dependencies"]:
        if isinstance(entry, str):
            assert re.fullmatch(r"[a-z0-9_.-]+([<>=!,.\d]+)?", entry), entry
    pip = next(e["pip"] for e in spec["dependencies"] if isinstance(e, dict))
    assert pip == ["torch==2.13.0", "-r requirements.txt", "-e ."]
    python = next(e for e in spec["dependencies"] if str(e).startswith("python>"))
    assert Requirement(python).specifier.contains("3.11")


def test_the_installed_versions_are_the_pinned_ones():
    wrong = {
        r.name: metadata.version(r.name)
        for r in pins()
        if not r.specifier.contains(metadata.version(r.name).split("+")[0], prereleases=True)
    }
    if wrong:
        pytest.skip(f"another environment than the pinned one: {wrong}")


def test_importing_the_package_imports_nothing_heavy():
    import subprocess
    import sys

    code = "import sys, mflib; print([m for m in ('torch', 'numpy', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
