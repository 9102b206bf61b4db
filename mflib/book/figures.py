"""The look of every figure: colour-blind safe, labelled, with the prediction drawn in."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["COLOURS", "loglog", "predicted", "use_style"]

#: The palette of Okabe and Ito, safe for colour-blind readers.
COLOURS = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442",
]


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
    label = f"predicted slope {slope:g}" if label is None else label
    ax.plot(x, y0 * (x / x0) ** slope, "--", color="black", lw=1.2, label=label, zorder=5)


def loglog(ax: Any, sizes: Any, errors: Any, label: str, **style: Any) -> None:
    r"""Draw the rms over seeds against size, with the range over seeds as a band.

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
    (line,) = ax.loglog(
        sizes, np.sqrt((errors**2).mean(0)), marker="o", label=label, **style
    )
    ax.set_xticks(sizes, [f"{s:.0f}" if s >= 100 else f"{s:.3g}" for s in sizes])
    ax.minorticks_off()
    if len(errors) > 1:
        lo, hi = np.quantile(errors, [0.05, 0.95], axis=0)
        ax.fill_between(sizes, lo, hi, color=line.get_color(), alpha=0.15, lw=0)
