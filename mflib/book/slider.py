"""Pictures that answer to a slider: frames drawn while the chapter runs, no server behind them.

``book/_static/slider.js`` moves them. Where no script runs, the first frame and its sentence
stand for all; a screen reader is told the sentence of each frame that is reached.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

__all__ = ["LIMIT", "Slider", "slider"]

#: What the frames of one picture may weigh together, in bytes.
LIMIT = 500_000

_PLACES = re.compile(r'(?<= [dxy]=")[^"]+')
_DECIMALS = re.compile(r"(\.\d\d)\d+")
_DOTS = re.compile(
    r'<g( clip-path="[^"]*")?>((?:<use [^>]*?( style="[^"]*")/>)(?:<use [^>]*?\3/>)*)</g>'
)


@dataclass(frozen=True)
class Slider:
    """The frames of a picture as HTML, which a notebook shows.

    Attributes
    ----------
    html : str
        Images, range and sentence; texts are escaped.
    frames : int
        How many there are.
    """

    html: str
    frames: int

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"a slider of {self.frames} frames"


def slider(
    draw: Callable[[Any, Any], str],
    values: Sequence[Any],
    over: str,
    alt: str,
    labels: Sequence[str] | None = None,
    size: tuple[float, float] = (5.0, 3.6),
) -> Slider:
    """Draw a frame for every value, to be moved through by a slider.

    Parameters
    ----------
    draw : callable
        ``draw(ax, value)`` draws one frame on fresh axes and returns a sentence that says
        what the frame shows, for everyone and for those who cannot see it. The limits of the
        axes are the same in all frames.
    values : sequence
        What the slider runs through, in this order; at least two.
    over : str
        What the slider changes, in words: "neurons N".
    alt : str
        What the picture shows, in words.
    labels : sequence of str, optional
        The values as text. Default: three digits.
    size : tuple of float
        Width and height of a frame in inches; letters stay readable on a phone up to 5.

    Returns
    -------
    Slider

    Raises
    ------
    TypeError, ValueError
        If a text is missing, there are fewer than two frames, a frame has other limits than
        the first one, or all together weigh more than :data:`LIMIT`.

    Examples
    --------
    >>> def draw(ax, n):
    ...     ax.bar([0], [n])
    ...     ax.set(xlim=(-1, 1), ylim=(0, 3))
    ...     return f"The bar is {n} high."
    >>> slider(draw, [1, 2, 3], over="height n", alt="One bar.")
    a slider of 3 frames
    """
    values = list(values)
    labels = [f"{v:.3g}" for v in values] if labels is None else list(labels)
    if len(values) < 2 or len(labels) != len(values):
        raise ValueError(
            f"values: {len(values)} values with {len(labels)} labels; a slider needs two "
            "frames at least, and one label each"
        )
    for name, text in (("over", over), ("alt", alt), *(("labels", label) for label in labels)):
        _require_words(name, text)
    drawn = [_frame(draw, value, size) for value in values]
    for label, (_, _, limits) in zip(labels, drawn, strict=True):
        if limits != drawn[0][2]:
            raise ValueError(
                f"draw: the axes of {over} = {label} show {limits}, those of the first frame "
                f"{drawn[0][2]}; set xlim and ylim"
            )
    shown = "".join(
        _image(image, alt, f"{over}: {label}", says, size, first=not number)
        for number, (label, (image, says, _)) in enumerate(zip(labels, drawn, strict=True))
    )
    if len(shown) > LIMIT:
        raise ValueError(
            f"values: the frames weigh {len(shown) // 1000} kB, more than {LIMIT // 1000}; draw "
            "fewer frames, fewer points, or points with rasterized=True"
        )
    return Slider(_controls(shown, over, alt, labels[0], drawn[0][1], len(values)), len(values))


def _require_words(name: str, text: Any) -> None:
    if not isinstance(text, str) or not text.strip():
        raise TypeError(f"{name}: expected words for those who cannot see it, got {text!r}")


def _frame(
    draw: Callable[[Any, Any], str], value: Any, size: tuple[float, float]
) -> tuple[str, str, list[tuple[float, ...]]]:
    """Return one frame as SVG, its sentence, and the limits of its axes."""
    import matplotlib.pyplot as plt

    # the same picture gives the same text: no date, no random names; letters stay letters
    with plt.rc_context({"svg.hashsalt": "mflib", "svg.fonttype": "none"}):
        fig, ax = plt.subplots(figsize=size)
        try:
            says = draw(ax, value)
            _require_words("draw", says)
            file = io.StringIO()
            fig.savefig(file, format="svg", transparent=True, metadata={"Date": None})
            limits = [(*ax.get_xlim(), *ax.get_ylim()) for ax in fig.axes]
        finally:
            plt.close(fig)
    return _lean(file.getvalue()), says, limits


def _lean(text: str) -> str:
    """Return an SVG without what no eye sees: remarks, third decimals, repeated styles."""
    text = re.sub(
        r"<metadata>.*?</metadata>|<!--.*?-->", "", text[text.index("<svg") :], flags=re.S
    )
    text = _PLACES.sub(lambda places: _DECIMALS.sub(r"\1", places[0]), text)
    text = " ".join(re.sub(r">\s+<", "><", text).split())

    def once(group: re.Match[str]) -> str:  # the style of all dots, said by their group
        return f"<g{group[1] or ''}{group[3]}>{group[2].replace(group[3], '')}</g>"

    return _DOTS.sub(once, text)


def _image(
    svg: str, alt: str, label: str, says: str, size: tuple[float, float], first: bool
) -> str:
    # as an image, in which no script runs and whose names meet no other frame's
    width, height = (round(96 * side) for side in size)
    svg = svg.replace("'", "&apos;").replace('"', "'")  # shorter in an address
    address = "data:image/svg+xml," + quote(svg, safe=" /:;=,.()'")
    return (
        f'<img class="mf-frame dark-light" width="{width}" height="{height}" decoding="sync" '
        f'src="{address}" '
        f'alt="{html.escape(f"{alt} {label}. {says}")}" data-label="{html.escape(label)}" '
        f'data-says="{html.escape(says)}"{"" if first else " hidden"}>'
    )


def _controls(images: str, over: str, alt: str, label: str, says: str, frames: int) -> str:
    over, alt, label, says = map(html.escape, (over, alt, f"{over}: {label}", says))
    return (
        f'<div class="mf-slider" role="group" aria-label="{alt}">{images}'
        '<div class="mf-moves" hidden><button type="button">Play</button>'
        f'<input type="range" min="0" max="{frames - 1}" value="0" step="1" '
        f'aria-label="{over}" aria-valuetext="{label}. {says}">'
        f'<span class="mf-at">{label}</span></div><p class="mf-says">{says}</p></div>'
    )
