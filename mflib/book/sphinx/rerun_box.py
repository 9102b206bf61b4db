"""The section at the foot of every chapter: the command that reruns it, and its parameters."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from ... import provenance
from .. import chapters, executed
from .downloads import source

__all__ = ["section"]


def section(root: Path, name: str) -> str:
    """Return how a chapter is rerun, as MyST: command, seconds, parameters, links.

    Parameters
    ----------
    root : Path
        The checkout.
    name : str
        The chapter.
    """
    chapter = chapters.discover(root, [name])[0]
    declared = chapters.parameters(chapter)
    seconds = executed.noted(root / "_build" / "chapters", name).get("seconds")
    given = "".join(
        f" -p {key} {_other(parameter.default)}"
        for key, parameter in declared.items()
        if key == "seed"
    )
    rows = "\n".join(
        f"| `{key}` | `{parameter.default}` | {_cell(parameter.comment)} |"
        for key, parameter in declared.items()
    )
    took = f" It took {seconds:.0f} s on the machine that made this page." if seconds else ""
    return (
        "## Rerun this chapter\n\n"
        "The button at the top of the page downloads the notebook. In a copy of the book, the "
        f"first command opens it, the second runs it as a whole with another seed.{took}\n\n"
        f"```bash\njupyter lab notebooks/{name}.ipynb\n"
        f"mflib run {name}{given} --out runs/{name}\n```\n\n"
        f"| parameter | here | what it is |\n|---|---|---|\n{rows}\n\n"
        f"{_links(root, name)}More on this page: [](../book/rerun.md).\n"
    )


def _other(default: str) -> str:
    """Return another seed than the default."""
    return str(int(default) + 1) if default.strip().isdigit() else default


def _cell(words: str) -> str:
    """Return words as a cell of a table holds them."""
    return re.sub(r"([|*_`$<\[])", r"\\\1", words.strip().lstrip("# "))


def _links(root: Path, name: str) -> str:
    """Return links that open the chapter elsewhere, where the repository is a public one."""
    found = re.fullmatch(r"git\+https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?", source(root))
    commit = provenance.git(root, "rev-parse", "HEAD")
    if not found or not commit:
        return ""
    place = quote(f"notebooks/{name}.ipynb")
    return (
        f"[Open on Binder](https://mybinder.org/v2/gh/{found[1]}/{commit}?labpath={place}) or "
        f"[in Colab](https://colab.research.google.com/github/{found[1]}/blob/{commit}/{place}). "
    )
