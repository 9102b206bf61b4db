"""The papers by name: what a reader calls a bib key."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

__all__ = ["name"]


@lru_cache(maxsize=8)
def _names(path: Path, changed: int) -> dict[str, str]:
    from pybtex.database import parse_file

    names = {}
    for key, entry in parse_file(path).entries.items():
        authors = [
            " ".join([*person.prelast_names, *person.last_names])
            for person in entry.persons.get("author", [])
        ]
        year = entry.fields.get("year", "")
        if not authors or authors[0].startswith(("{Anonymous", "Anonymous")):
            names[key] = key.replace("_", "-").capitalize() + " paper"
        elif len(authors) > 2:
            names[key] = f"{authors[0]} et al. {year}".strip()
        else:
            names[key] = f"{' and '.join(authors)} {year}".strip()
    return names


def name(root: Path, key: str) -> str:
    """Return a paper's name, as "Lu et al. 2020", from the bibliography; else its key.

    Parameters
    ----------
    root : Path
        The checkout.
    key : str
        The paper's key in ``book/references.bib``.
    """
    path = root / "book" / "references.bib"
    if not path.is_file():
        return key
    return _names(path, path.stat().st_mtime_ns).get(key, key)
