"""A notebook away from the book: its first cell of code says what to install."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["UNKNOWN", "needs", "portable"]

#: What stands for the address in a committed chapter, which does not know it.
UNKNOWN = "FOLDER_OF_THE_BOOK"


def needs(source: str = UNKNOWN) -> dict[str, Any]:
    """Return the cell that says, where mflib is missing, what to install.

    Parameters
    ----------
    source : str
        What pip is to install.
    """
    words = [
        "try:\n",
        "    import mflib  # noqa: F401\n",
        "except ModuleNotFoundError:\n",
        "    raise SystemExit(\n",
        '        "This chapter needs the library of its book. Run in a cell\\n\\n"\n',
        f"        {f'    %pip install {source}'!r}\n",
        '        "\\n\\nand then the chapter from its first cell."\n',
        "    ) from None",
    ]
    return {
        "cell_type": "code",
        "id": "needs-mflib",
        "metadata": {"tags": ["remove-cell"]},
        "source": words,
        "outputs": [],
        "execution_count": None,
    }


def portable(notebook: str, source: str) -> str:
    """Return a notebook whose first cell of code says what to install from where; once.

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
    cell = needs(source)
    data.get("metadata", {}).pop("papermill", None)
    kept = [
        c
        for c in data["cells"]
        if "injected-parameters" not in c["metadata"].get("tags", ()) and c.get("id") != cell["id"]
    ]
    for other in kept:
        other["metadata"].pop("papermill", None)
    first = next((i for i, c in enumerate(kept) if c["cell_type"] == "code"), len(kept))
    data["cells"] = [*kept[:first], cell, *kept[first:]]
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"
