"""Notebooks that a reader downloads: what they need, said in their first cell."""

from __future__ import annotations

import json
import os
from pathlib import Path

from sphinx.application import Sphinx

from ... import provenance
from .. import chapters

__all__ = ["portable", "setup", "source"]


def portable(notebook: str, source: str) -> str:
    """Return a notebook that says, where mflib is missing, what to install; once.

    Its outputs stay, so that a reader sees what the page shows. What a run noted about
    itself goes, and a cell that would overrule the parameters that a reader changes.

    Parameters
    ----------
    notebook : str
        The text of an ``.ipynb`` file.
    source : str
        What pip is to install.
    """
    data = json.loads(notebook)
    words = [
        "try:\n",
        "    import mflib\n",
        "except ModuleNotFoundError:\n",
        "    raise SystemExit(\n",
        '        "This chapter needs the library of its book. Run in a cell\\n\\n"\n',
        f"        {f'    %pip install {source}'!r}\n",
        '        "\\n\\nand then the chapter from its first cell."\n',
        "    ) from None",
    ]
    cell = {
        "cell_type": "code",
        "id": "needs-mflib",
        "metadata": {"tags": ["hide-cell"]},
        "source": words,
        "outputs": [],
        "execution_count": None,
    }
    data["cells"] = [
        c for c in data["cells"] if "injected-parameters" not in c["metadata"].get("tags", ())
    ]
    data.get("metadata", {}).pop("papermill", None)
    for other in data["cells"]:
        other["metadata"].pop("papermill", None)
    if not any(c.get("id") == cell["id"] for c in data["cells"]):
        data["cells"].insert(0, cell)
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def source(root: Path) -> str:
    """Return what pip installs the library from: the public repository where one is known."""
    server, name = (os.environ.get(f"GITHUB_{word}") for word in ("SERVER_URL", "REPOSITORY"))
    if server and name:
        return f"git+{server}/{name}"
    origin = provenance.git(root, "remote", "get-url", "origin") or ""
    return f"git+{origin}" if origin.startswith("https://") else "FOLDER_OF_THE_BOOK"


def _downloads(app: Sphinx, error: Exception | None) -> None:
    """Let the chapters that a reader downloads say what they need."""
    if error or app.builder.format != "html":
        return
    root = chapters.find_root(Path(app.srcdir))
    for path in (Path(app.outdir) / "_sources" / "notebooks").glob("*.ipynb*"):
        executed = root / "_build" / "chapters" / path.name
        made = portable(executed.read_text("utf-8"), source(root))
        provenance.write(path, made)


def setup(app: Sphinx) -> None:
    """Let downloaded chapters be made when the site is."""
    app.connect("build-finished", _downloads)
