"""Panels are found in a picture alone, and the section that reruns a chapter names its command."""

import io
import re

import matplotlib
import numpy as np
import pytest
from conftest import ROOT
from matplotlib import pyplot as plt

from mflib.book import figures
from mflib.book.panels import panels
from mflib.book.sphinx.rerun_box import section

matplotlib.use("Agg")


def picture(columns, size, ground="white", **more):
    figures.use_style()
    fig, axes = plt.subplots(1, columns, figsize=size, facecolor=ground, **more)
    rng = np.random.default_rng(0)
    for ax in np.atleast_1d(axes):
        ax.plot(rng.random((30, 2)), label="a walk")
        ax.set(xlabel="training time", ylabel="loss")
    np.atleast_1d(axes)[0].legend()
    file = io.BytesIO()
    fig.savefig(file, format="png", facecolor=ground, bbox_inches="tight")
    plt.close(fig)
    return file.getvalue()


@pytest.mark.parametrize(
    "columns, size", [(1, (6.4, 4)), (1, (9, 4)), (2, (9.5, 3.9)), (3, (11, 4))]
)
def test_every_panel_is_found_from_the_ink_alone(columns, size):
    found = panels(picture(columns, size))
    assert len(found) == columns
    assert found[0][0] == 0 and found[-1][1] == 1
    assert all(a[1] == b[0] for a, b in zip(found[:-1], found[1:], strict=True))
    assert all(abs((b - a) - 1 / columns) < 0.15 for a, b in found)


def test_a_shared_axis_and_a_dark_ground_change_nothing():
    assert len(panels(picture(2, (9.5, 3.9), sharey=True))) == 2
    assert len(panels(picture(2, (9.5, 3.9), ground="#123456"))) == 2


def test_a_picture_that_a_phone_can_show_is_left_whole():
    assert panels(picture(2, (5, 4))) == [(0.0, 1.0)]


def test_the_last_section_of_a_chapter_names_the_command_and_every_parameter():
    words = section(ROOT, "adjoint")
    assert words.startswith("## Rerun this chapter")
    assert "mflib run adjoint -p seed 1 --out runs/adjoint" in words
    assert {"seed", "preset", "images", "dim", "particles"} == set(
        re.findall(r"^\| `(\w+)` \|", words, re.MULTILINE)
    )
    rows = [line for line in words.splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)
