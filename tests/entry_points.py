"""The metadata of the package as an installation would write it, for tests without one."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


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
