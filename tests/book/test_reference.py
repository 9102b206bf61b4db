"""The reference shows every public module of the mathematics, and no module that is gone."""

import re

from conftest import ROOT

ROOMS = ("", "lu2020", "fang2021", "chen2024", "teacher_student", "beyond")


def modules():
    found = set()
    for room in ROOMS:
        for file in (ROOT / "mflib" / room).glob("*.py"):
            if not file.stem.startswith("_"):
                found.add(".".join(["mflib", *([room] if room else []), file.stem]))
    return found


def shown():
    pages = [ROOT / "book" / "api.md", *(ROOT / "book" / "api").glob("*.md")]
    words = "".join(page.read_text("utf-8") for page in pages)
    return set(re.findall(r"automodule:: (\S+)", words))


def test_every_module_of_the_mathematics_is_in_the_reference():
    assert modules() - shown() == set()


def test_no_module_of_the_reference_is_gone():
    for name in shown():
        path = ROOT.joinpath(*name.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), name
