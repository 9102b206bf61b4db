"""The look of every figure, and pictures of what was judged: averages, interval, prediction.

A check that was measured keeps what it was given, so that a picture of it cannot show other
numbers than the rule saw: :func:`rate`, :func:`bound` and :func:`limit` take the check itself.
"""

from __future__ import annotations

import textwrap
from fractions import Fraction
from typing import Any

import numpy as np

__all__ = [
    "COLOURS",
    "band",
    "bound",
    "equality",
    "identity",
    "limit",
    "loglog",
    "paths",
    "predicted",
    "rate",
    "ticks",
    "use_style",
]

#: The palette of Okabe and Ito, safe for colour-blind readers.
COLOURS = [
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#F0E442",
]

#: The share of seeds that a band leaves out below and above.
_TAIL = 0.05


def use_style() -> None:
    """Set the book's figure style for the running notebook."""
    import matplotlib as mpl
    import seaborn as sns

    sns.set_theme(
        context="notebook",
        style="ticks",
        rc={
            "axes.grid": True,
            "axes.prop_cycle": mpl.cycler(color=COLOURS),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "figure.figsize": (6.4, 4.0),
            "grid.alpha": 0.3,
            "legend.frameon": False,
            "lines.markersize": 5,
            "savefig.facecolor": "white",
        },
    )


def _array(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return np.asarray(values, dtype=float)


def ticks(ax: Any, values: Any, labels: Any = None, **style: Any) -> None:
    """Put the horizontal ticks at these values and nowhere else.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    values : array
        Shape (K,).
    labels : sequence of str, optional
        Default: the values, short.
    **style
        Passed to the labels.
    """
    values = _array(values)
    if labels is None:
        labels = [f"{v:.0f}" if abs(v) >= 100 else f"{v:.3g}" for v in values]
    ax.set_xticks(values, labels, **style)
    ax.minorticks_off()


def predicted(
    ax: Any, x: Any, slope: float, through: tuple[float, float], label: str | None = None
) -> None:
    r"""Draw the predicted power law through a point, dashed.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw, with logarithmic scales.
    x : array
        The sizes.
    slope : float
        The predicted exponent.
    through : tuple of float
        A point (x0, y0) of the line.
    label : str, optional
        Default: "predicted slope s".
    """
    x = np.sort(_array(x))
    x0, y0 = (float(v) for v in through)
    label = _prediction(slope) if label is None else label
    ax.plot(x, y0 * (x / x0) ** slope, "--", color="black", lw=1.2, label=label, zorder=5)


def _prediction(slope: float) -> str:
    """Return the predicted slope as words, thirds and fifths as fractions."""
    exact = Fraction(slope).limit_denominator(12)
    written = str(exact) if abs(float(exact) - slope) < 1e-9 else f"{slope:g}"
    return f"predicted slope {written}"


def _wrapped(label: str) -> str:
    """Break a long name for a legend."""
    return textwrap.fill(label, 42, subsequent_indent="    ")


def _shade(ax: Any, x: np.ndarray, rows: np.ndarray, colour: Any) -> None:
    """Shade where 90 % of the rows lie."""
    if len(rows) > 1:
        low, high = np.quantile(rows, [_TAIL, 1 - _TAIL], axis=0)
        ax.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)


def loglog(ax: Any, sizes: Any, errors: Any, label: str, **style: Any) -> None:
    r"""Draw the rms over seeds against size, with a band from 5 to 95 % of the seeds.

    For what belongs to no check; a check's own errors are drawn by :func:`rate`.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw; its scales become logarithmic.
    sizes : array
        Shape (K,).
    errors : array
        Shape (seeds, K) or (K,).
    label : str
        The curve's name in the legend.
    **style
        Passed to the line.
    """
    sizes, errors = _array(sizes), np.abs(np.atleast_2d(_array(errors)))
    average = np.sqrt((errors**2).mean(0))
    (line,) = ax.loglog(sizes, average, **{"marker": "o", "label": label} | style)
    ticks(ax, sizes)
    _shade(ax, sizes, errors, line.get_color())


def band(ax: Any, x: Any, rows: Any, label: str, **style: Any) -> None:
    """Draw the mean over rows, with a band from 5 to 95 % of them, on the axes' scales.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    x : array
        Shape (K,).
    rows : array
        Shape (seeds, K).
    label : str
        The curve's name in the legend.
    **style
        Passed to the line.
    """
    x, rows = _array(x), _array(rows)
    (line,) = ax.plot(x, rows.mean(0), label=label, **style)
    _shade(ax, x, rows, line.get_color())


def paths(ax: Any, x: Any, rows: Any, label: str, **style: Any) -> None:
    """Draw every row as a thin line, all under one name.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw, on its scales.
    x : array
        Shape (K,) or (seeds, K).
    rows : array
        Shape (seeds, K).
    label : str
        Their name in the legend.
    **style
        Passed to the lines.
    """
    x, rows = np.broadcast_arrays(_array(x), _array(rows))
    style = {"lw": 0.7} | style
    if "color" not in style:
        style["color"] = ax.plot([], [])[0].get_color()
    ax.plot(x.T, rows.T, label=[label] + ["_"] * (len(rows) - 1), **style)


def equality(ax: Any, label: str = "equal") -> None:
    """Draw the line of equal values over what the axes show, dashed; once, however often."""
    for line in [line for line in ax.lines if line.get_gid() == "equality"]:
        line.remove()
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    ends = [max(x0, y0), min(x1, y1)]
    if ends[0] < ends[1]:
        ax.plot(ends, ends, "k--", lw=1.2, label=label, zorder=5, gid="equality")
        ax.set(xlim=(x0, x1), ylim=(y0, y1))


def _interval(outcome: Any) -> str:
    low, high = (round(float(end), 3) + 0.0 for end in outcome.interval)
    return f" [{low:.3f}, {high:.3f}]"


def _unmeasured(ax: Any, name: str) -> None:
    ax.plot([], [], " ", label=f"{name}: not measured")


def rate(
    ax: Any,
    check: Any,
    label: str | None = None,
    *,
    prediction: bool = True,
    controls: bool = True,
    **style: Any,
) -> None:
    r"""Draw a measured rate: its averages, its slope's interval, its prediction, its controls.

    The dots are the averages over seeds that the rule fitted (known logarithms divided
    out), the band holds 5 to 95 % of the seeds. Through the middle of the dots go the fan,
    the interval of the slope, and the dashed line, the predicted slope.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw; its scales become logarithmic.
    check : mflib.claims.Rate
        The check, measured.
    label : str, optional
        The curve's name in the legend; default: the check's.
    prediction : bool
        Draw the predicted line.
    controls : bool
        Draw the controls that were measured, too.
    **style
        Passed to the check's own line.
    """
    name = check.name if label is None else label
    if check.outcome is None or not check.outcome.details.get("averaged"):
        _unmeasured(ax, name)
        return
    outcome = check.outcome
    sizes, average = _averages(ax, check, check, name + _slope(outcome), **style)
    x = np.array([sizes.min(), sizes.max()])
    x0, y0 = np.exp(np.log(sizes).mean()), np.exp(np.log(average).mean())
    if outcome.interval:
        low, high = (y0 * (x / x0) ** s for s in outcome.interval)
        ax.fill_between(x, low, high, color=ax.lines[-1].get_color(), alpha=0.3, lw=0)
    if prediction:
        text = _prediction(check.predicted)
        drawn = [line.get_label() for line in ax.lines]
        predicted(ax, x, check.predicted, (x0, y0), "_" if text in drawn else text)
    for control in check.controls if controls else ():
        if control.outcome is not None and control.outcome.details.get("averaged"):
            words = _wrapped(f"control: {control.name}" + _slope(control.outcome))
            _averages(ax, check, control, words, marker="s", lw=1)
    ticks(ax, sizes)


def _slope(outcome: Any) -> str:
    """Return the measured slope as words for a legend."""
    if outcome.measured is None:
        return ""
    slope = round(outcome.measured, 3) + 0.0  # no minus before a zero
    return f": {slope:.3f}" + (_interval(outcome) if outcome.interval else "")


def _averages(
    ax: Any, check: Any, judged: Any, label: str, **style: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the averages of a rate or its control, and the band of the seeds."""
    sizes = _array(judged.outcome.details["sizes"])
    average = _array(judged.outcome.details["averaged"])
    (line,) = ax.loglog(sizes, average, **{"marker": "o", "label": label} | style)
    errors = np.abs(np.atleast_2d(_array(judged.given[0][1])))
    if check.logarithm:
        errors = errors / np.abs(np.log(sizes)) ** check.logarithm
    _shade(ax, sizes, errors, line.get_color())
    return sizes, average


def bound(
    ax: Any, check: Any, label: str | None = None, *, controls: bool = True, **style: Any
) -> None:
    r"""Draw a measured bound: every trial's left side against its right side.

    On the dashed line the bound is attained, above it, it is violated. Squares are what
    an adversarial search found.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw; logarithmic unless a side is zero or negative.
    check : mflib.claims.Bound
        The check, measured.
    label : str, optional
        The name of the trials in the legend; default: the check's.
    controls : bool
        Draw the controls that were measured, too.
    **style
        Passed to all points.
    """
    name = check.name if label is None else label
    if not check.given:
        _unmeasured(ax, name)
        return
    groups = [(name, "o", check.given[0])]
    groups += [("adversary" if not i else "_", "s", pair) for i, pair in enumerate(check.given[1:])]
    for control in check.controls if controls else ():
        words = _wrapped(f"control: {control.name}")
        groups += [(words, "x", pair) for pair in control.given[:1]]
    positive = True
    for words, marker, pair in groups:
        left, right = np.broadcast_arrays(_array(pair[0]), _array(pair[1]))
        ax.plot(right.ravel(), left.ravel(), marker, **{"ms": 4, "label": words} | style)
        positive &= bool((left > 0).all() and (right > 0).all())
    if positive:
        ax.set(xscale="log", yscale="log")
    equality(ax, "attained")


def identity(
    ax: Any, check: Any, label: str | None = None, *, controls: bool = True, **style: Any
) -> None:
    """Draw a measured identity: every left side against its right side, equal on the line.

    Of an identity that was given errors, the errors and the tolerance.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    check : mflib.claims.Identity
        The check, measured.
    label : str, optional
        The name of the points in the legend; default: the check's.
    controls : bool
        Draw the controls that were measured, too.
    **style
        Passed to all points.
    """
    name = check.name if label is None else label
    if not check.given:
        _unmeasured(ax, name)
        return
    groups = [(name, "o", check.given[0])]
    for control in check.controls if controls else ():
        words = _wrapped(f"control: {control.name}")
        groups += [(words, "x", values) for values in control.given[:1]]
    for words, marker, values in groups:
        left, *right = (_array(side).ravel() for side in values)
        style_here = {"ms": 4, "label": words} | style
        if right:
            ax.plot(right[0], left, marker, **style_here)
        else:
            ax.semilogy(np.abs(left), marker, **style_here)
    if len(check.given[0]) > 1:
        equality(ax)
    else:
        ax.axhline(check.tolerance, ls="--", color="black", lw=1.2, label="tolerance")


def limit(ax: Any, *checks: Any, labels: Any = None, controls: bool = True) -> None:
    """Draw measured numbers, a row a check: interval, prediction with tolerance, controls.

    The grey bar is the prediction with its tolerance; of an open question, the reported
    side of the line.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    *checks : mflib.claims.Limit, mflib.claims.Reproduction or mflib.claims.Rate
        The checks, measured; of a rate, its slope is drawn.
    labels : sequence of str, optional
        Default: the checks' names.
    controls : bool
        Draw the controls that were measured, too.
    """
    names = [check.name for check in checks] if labels is None else list(labels)
    rows = []
    for name, check in zip(names, checks, strict=True):
        at = -len(rows)
        rows.append(name)
        _point(ax, check.outcome, at, COLOURS[0], "measured")
        group = [c for c in check.controls if c.outcome is not None] if controls else []
        for control in group:
            _point(ax, control.outcome, -len(rows), COLOURS[1], "control")
            rows.append(f"control: {control.name}")
        span = (1 - len(rows) - 0.4, at + 0.4)
        if check.tolerance is not None:
            ax.fill_betweenx(
                span,
                check.predicted - check.tolerance,
                check.predicted + check.tolerance,
                color="grey",
                alpha=0.3,
                lw=0,
            )
            ax.plot([check.predicted] * 2, span, "--", color="black", lw=1.2)
        else:
            ax.plot([check.value] * 2, span, "--", color="black", lw=1.2)
    ax.set_yticks(range(0, -len(rows), -1), rows)
    ax.set_ylim(0.6 - len(rows), 0.6)


def _point(ax: Any, outcome: Any, at: float, colour: str, label: str) -> None:
    if outcome is None or outcome.measured is None:
        return
    if any(text == label for text in ax.get_legend_handles_labels()[1]):
        label = "_"
    low, high = outcome.interval or (outcome.measured, outcome.measured)
    spread = [[outcome.measured - low], [high - outcome.measured]]
    ax.errorbar(outcome.measured, at, xerr=spread, fmt="o", color=colour, capsize=3, label=label)
