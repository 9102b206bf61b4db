"""What a sweep says: verdicts by parameter, what changed first, measured against predicted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas

from .chapters import ChapterError
from .results import COLUMNS

__all__ = ["draw", "lines", "read", "varied"]

#: Panels of one figure, at most.
PANELS = 12


def read(folder: Path) -> pandas.DataFrame:
    """Return the table of a sweep, the rows of each point as they were written last.

    Raises
    ------
    ChapterError
        If the folder holds no such table, or an empty one.
    """
    path = Path(folder) / "results.csv"
    try:
        table = pandas.read_csv(path, dtype={"point": str, "fingerprint": str, "error": str})
    except (OSError, ValueError) as error:
        raise ChapterError(f"{path}: cannot be read ({error}); mflib sweep writes it") from None
    if not {"chapter", *COLUMNS} <= set(table.columns):
        raise ChapterError(f"{path}: is no table of a sweep")
    # a part of a point, which a killed process left, is none; of two runs the later counts
    run = (table["row"] == 1).cumsum()
    whole = run.map(run.value_counts()) == table["rows"]
    table, run = table[whole], run[whole]
    table = table[run == run.groupby(table["point"]).transform("max")]
    if table.empty:
        raise ChapterError(f"{path}: holds no result yet")
    return table.reset_index(drop=True)


def varied(table: pandas.DataFrame) -> list[str]:
    """Return the parameters that have more than one value, the seed last."""
    names = [c for c in table.columns if c not in {"chapter", *COLUMNS}]
    names = [c for c in names if table[c].nunique() > 1]
    return [c for c in names if c != "seed"] + [c for c in names if c == "seed"]


def _counts(verdicts: pandas.Series) -> str:
    return ", ".join(f"{count} {word}" for word, count in verdicts.value_counts().items())


def lines(table: pandas.DataFrame) -> list[str]:
    """Return the summary: changed verdicts first, then all by claim, then by parameter.

    Parameters
    ----------
    table : DataFrame
        From :func:`read`.
    """
    wrong = table[table["error"].notna()]
    good = table[table["check"].notna()]
    said = [f"{table['point'].nunique()} points, {wrong['point'].nunique()} of them failed"]
    names = varied(table)
    for _, row in wrong.drop_duplicates("point").head(20).iterrows():
        said.append(f"✗ {row['chapter']} {_where(row, names)}: {row['error']}")
    checks = list(good.groupby(["chapter", "claim", "check"], sort=False))
    moved = [each for each in checks if each[1]["verdict"].nunique() > 1]
    same = [each for each in checks if each[1]["verdict"].nunique() == 1]
    if moved:
        said.append(f"changed their verdict ({len(moved)} of {len(checks)} checks):")
    for (_, claim, check), rows in moved:
        said.append(f"  {claim}: {check}: {_counts(rows['verdict'])}")
        rare = rows[rows["verdict"] != rows["verdict"].mode()[0]]
        places = "; ".join(_where(row, names) for _, row in rare.head(5).iterrows())
        more = f"; and {len(rare) - 5} more" if len(rare) > 5 else ""
        said.append(f"    other than most at {places}{more}")
    if same:
        said.append(f"the same everywhere ({len(same)} of {len(checks)} checks):")
    said += [f"  {claim}: {check}: {_counts(rows['verdict'])}" for (_, claim, check), rows in same]
    stuck = good[good["flipped"] < good["controls"]]
    for (_, claim, check), rows in stuck.groupby(["chapter", "claim", "check"], sort=False):
        said.append(f"  {claim}: {check}: a control did not flip at {len(rows)} points")
    for name in names:
        if name != "seed" and not good.empty:
            said.append(f"verdicts of checks by {name}:")
            for value, rows in good.groupby(name):
                said.append(f"  {name} = {value}: {_counts(rows['verdict'])}")
    return said


def _where(row: Any, names: list[str]) -> str:
    return ", ".join(f"{name}={row[name]}" for name in names) or "the only point"


def draw(table: pandas.DataFrame, path: Path) -> Path:
    """Draw measured against predicted over the grid, a panel a check; return the file.

    The first parameter that varies is the axis, the second one the colour; a dot is a point
    with its interval, the dashed line is the prediction, the band its tolerance.

    Parameters
    ----------
    table : DataFrame
        From :func:`read`.
    path : Path
        Where the picture goes.

    Raises
    ------
    ChapterError
        If nothing was measured, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    good = table[table["measured"].notna()]
    if good.empty:
        raise ChapterError(f"{path}: nothing was measured, so there is nothing to draw")
    names = varied(good)
    axis = names[0] if names else None
    colour = names[1] if len(names) > 1 and names[1] != "seed" else None
    groups = list(good.groupby(["claim", "check"], sort=False))[:PANELS]
    width = min(3, len(groups))
    height = -(-len(groups) // width)
    figure = Figure(figsize=(4.2 * width, 3.2 * height), layout="constrained")
    panels = figure.subplots(height, width, squeeze=False).flat
    for ax in list(panels)[len(groups) :]:
        ax.set_visible(False)
    for ax, ((claim, check), rows) in zip(panels, groups, strict=False):
        _panel(ax, rows, axis, colour)
        title = check if len(check) < 48 else check[:45] + "..."
        ax.set_title(f"{claim}: {title}".replace("$", r"\$"), fontsize=8)
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise ChapterError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def _panel(ax: Any, rows: pandas.DataFrame, axis: str | None, colour: str | None) -> None:
    numeric = axis is not None and pandas.api.types.is_numeric_dtype(rows[axis])
    labels = [] if axis is None or numeric else list(dict.fromkeys(rows[axis]))
    for number, (value, part) in enumerate(rows.groupby(colour) if colour else [("", rows)]):
        if axis is None:
            x = pandas.Series(0.0, part.index)
        else:
            x = part[axis] if numeric else part[axis].map(labels.index)
        low = (part["measured"] - part["low"]).clip(lower=0).fillna(0)
        high = (part["high"] - part["measured"]).clip(lower=0).fillna(0)
        ax.errorbar(
            x,
            part["measured"],
            [low, high],
            fmt="o",
            ms=3,
            lw=0.6,
            alpha=0.7,
            color=f"C{number}",
            label=f"{colour} = {value}" if colour else None,
        )
        known = part["predicted"].notna()
        if known.any():
            mean = part[known].assign(x=x[known]).groupby("x")[["predicted", "tolerance"]].mean()
            ax.plot(mean.index, mean["predicted"], "--", color=f"C{number}", lw=1)
            if len(mean) > 1 and mean["tolerance"].notna().all():
                ax.fill_between(
                    mean.index,
                    mean["predicted"] - mean["tolerance"],
                    mean["predicted"] + mean["tolerance"],
                    color=f"C{number}",
                    alpha=0.12,
                    lw=0,
                )
    if numeric and axis != "seed" and rows[axis].min() > 0:
        if rows[axis].max() >= 4 * rows[axis].min():
            ax.set_xscale("log")
    if labels:
        ax.set_xticks(range(len(labels)), labels)
    ax.set_xlabel(axis or "")
    ax.set_ylabel("measured")
    if colour:
        ax.legend(fontsize=7)
