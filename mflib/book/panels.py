"""Where the panels of a picture lie: side by side on a wide page, stacked on a phone."""

from __future__ import annotations

import io

import numpy as np

__all__ = ["panels"]

#: A gutter is a run of columns without ink, this share of the width wide at least, and a
#: panel is this share of the width wide at least.
_GUTTER, _PANEL = 0.004, 0.2


def panels(png: bytes, wide: float = 1.5) -> list[tuple[float, float]]:
    """Return the panels of a picture from left to right, as shares of its width.

    A picture that is not much wider than tall, or has no empty column between two panels, is
    one panel.

    Parameters
    ----------
    png : bytes
        The picture, ink on a ground of one colour.
    wide : float
        The ratio of width and height from which on a picture is taken apart.
    """
    from PIL import Image

    ink = np.asarray(Image.open(io.BytesIO(png)).convert("L")).astype(int)
    height, width = ink.shape
    if width < wide * height:
        return [(0.0, 1.0)]
    empty = (np.abs(ink - ink[0, 0]) < 8).all(0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], empty.astype(int), [0]])))
    runs = [(a, b) for a, b in edges.reshape(-1, 2) if b - a >= _GUTTER * width]
    cuts, last = [], 0.0
    for a, b in runs:
        middle = (a + b) / 2 / width
        if middle - last >= _PANEL and 1 - middle >= _PANEL:
            cuts.append(middle)
            last = middle
    ends = [0.0, *cuts, 1.0]
    return [
        (round(float(a), 3), round(float(b), 3)) for a, b in zip(ends[:-1], ends[1:], strict=True)
    ]
