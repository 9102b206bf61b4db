"""Figures show what was judged: the check's averages, interval, prediction and controls."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from mflib.book import figures
from mflib.claims import Bound, Claim, Limit, Rate, Reproduction

matplotlib.use("Agg")
SIZES = [16, 32, 64, 128, 256]


@pytest.fixture
def ax():
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


def claim(kind):
    return Claim("X-1", paper="lu2020", where="here", kind=kind, statement="A sentence.")


def errors(slope, seed=0, seeds=16):
    noise = torch.randn(
        seeds, len(SIZES), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return torch.tensor(SIZES, dtype=torch.float64) ** slope * (0.1 * noise).exp()


def measured_rate(statistic="geometric", logarithm=0.0):
    made = claim("rate")
    check = made.predict(Rate("error", -1.0, statistic=statistic, logarithm=logarithm))
    check.measure(SIZES, errors(-1.0))
    check.control("no law", broke="the law").measure(SIZES, errors(-0.1, seed=1))
    return check


def drawn(ax):
    return {line.get_label(): line for line in ax.lines}


@pytest.mark.parametrize("statistic", ["rms", "mean", "geometric"])
def test_a_rate_shows_the_averages_that_the_rule_fitted_and_the_controls(ax, statistic):
    check = measured_rate(statistic)
    figures.rate(ax, check, "scheme")
    lines = drawn(ax)
    (own,) = (line for label, line in lines.items() if label.startswith("scheme: "))
    (control,) = (line for label, line in lines.items() if label.startswith("control: no law: "))
    np.testing.assert_array_equal(own.get_ydata(), check.outcome.details["averaged"])
    np.testing.assert_array_equal(
        control.get_ydata(), check.controls[0].outcome.details["averaged"]
    )
    low, high = check.outcome.interval
    assert own.get_label() == f"scheme: {check.outcome.measured:.3f} [{low:.3f}, {high:.3f}]"
    assert list(ax.get_xticks()) == SIZES


def test_the_predicted_line_has_the_predicted_slope_through_the_middle(ax):
    check = measured_rate()
    figures.rate(ax, check)
    line = drawn(ax)["predicted slope -1"]
    x, y = np.log(line.get_xdata()), np.log(line.get_ydata())
    assert (y[-1] - y[0]) / (x[-1] - x[0]) == pytest.approx(-1.0)
    averages = np.log(check.outcome.details["averaged"])
    assert y.mean() == pytest.approx(averages.mean())
    figures.rate(ax, check, prediction=True, controls=False)
    assert sum(label == "predicted slope -1" for label in ax.get_legend_handles_labels()[1]) == 1


def test_the_fan_holds_the_interval_and_the_band_ninety_percent_of_the_seeds(ax):
    check = measured_rate()
    figures.rate(ax, check, controls=False)
    bands = [c.get_paths()[0].get_extents() for c in ax.collections]
    rows = errors(-1.0).numpy()
    low, high = np.quantile(rows, [0.05, 0.95], axis=0)
    assert bands[0].y0 == pytest.approx(low.min()) and bands[0].y1 == pytest.approx(high.max())
    middle = np.exp(np.log(check.outcome.details["averaged"]).mean())
    steepest = min(check.outcome.interval)
    assert bands[1].y1 == pytest.approx(middle * 4.0**-steepest)


def test_a_known_logarithm_is_divided_out_of_dots_and_band_alike(ax):
    check = measured_rate(logarithm=1.0)
    figures.rate(ax, check, controls=False)
    band = ax.collections[0].get_paths()[0].get_extents()
    own = ax.lines[0].get_ydata()
    assert band.y0 < own.min() < own.max() < band.y1
    assert band.y1 < 2 * own.max()


def test_what_was_not_measured_says_so(ax):
    made = claim("rate")
    never, nan = made.predict(Rate("never", -1.0)), made.predict(Rate("nan", -1.0))
    nan.measure(SIZES, errors(-1.0) * float("nan"))
    for check in (never, nan):
        figures.rate(ax, check)
    assert [line.get_label() for line in ax.lines] == ["never: not measured", "nan: not measured"]
    figures.bound(ax, claim("bound").predict(Bound("empty")))
    assert ax.lines[-1].get_label() == "empty: not measured"


def test_a_bound_shows_every_trial_the_adversary_and_where_it_is_attained(ax):
    check = claim("bound").predict(Bound("left below right"))
    left = torch.tensor([[1.0, 2.0], [3.0, 0.5]], dtype=torch.float64)
    check.measure(left, 4.0)
    check.adversary(torch.tensor([3.9]), torch.tensor([4.0]))
    check.control("twice", broke="a factor").measure(3 * left, 4.0)
    figures.bound(ax, check, "trials")
    lines = drawn(ax)
    assert sorted(lines["trials"].get_ydata()) == [0.5, 1.0, 2.0, 3.0]
    assert list(lines["trials"].get_xdata()) == [4.0] * 4
    assert list(lines["adversary"].get_ydata()) == pytest.approx([3.9])
    assert sorted(lines["control: twice"].get_ydata()) == [1.5, 3.0, 6.0, 9.0]
    assert list(lines["attained"].get_xdata()) == list(lines["attained"].get_ydata())
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_a_bound_with_a_vanishing_side_is_drawn_on_a_straight_scale(ax):
    check = claim("bound").predict(Bound("left below right"))
    check.measure([0.0, 1.0], [1.0, 2.0])
    figures.bound(ax, check)
    assert ax.get_xscale() == "linear"


def test_limits_show_prediction_tolerance_interval_and_controls(ax):
    made = claim("limit")
    check = made.predict(Limit("ratio", 1.0, tolerance=0.125))
    other = made.predict(Limit("other", 2.0, tolerance=0.25))
    samples = 1.0 + 0.1 * errors(0.0)[:, 0]
    check.measure(samples)
    other.measure(samples + 1)
    check.control("doubled", broke="a factor").measure(2 * samples)
    figures.limit(ax, check, other)
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "ratio",
        "control: doubled",
        "other",
    ]
    spans = [
        c.get_paths()[0].get_extents()
        for c in ax.collections
        if hasattr(c, "get_paths") and len(c.get_paths()[0].vertices) > 4
    ]
    assert (spans[0].x0, spans[0].x1) == (0.875, 1.125)
    assert (spans[1].x0, spans[1].x1) == (1.75, 2.25)
    dots = [container.lines[0].get_xdata()[0] for container in ax.containers]
    assert dots == [c.outcome.measured for c in (check, check.controls[0], other)]


def test_an_open_question_shows_its_side(ax):
    check = claim("reproduction").predict(Reproduction("difference", ">", 0.25))
    check.measure(errors(0.0)[:, 0])
    figures.limit(ax, check, labels=["mine"])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["mine"]
    assert any(list(line.get_xdata()) == [0.25, 0.25] for line in ax.lines)


def test_paths_have_one_name_and_bands_their_quantiles(ax):
    rows = errors(-1.0)
    figures.paths(ax, SIZES, rows, "problems")
    assert [line.get_label() for line in ax.lines if line.get_xdata().size][0] == "problems"
    assert ax.get_legend_handles_labels()[1] == ["problems"]
    figures.band(ax, SIZES, rows, "mean")
    np.testing.assert_allclose(drawn(ax)["mean"].get_ydata(), rows.mean(0))
    box = ax.collections[0].get_paths()[0].get_extents()
    assert box.y1 == pytest.approx(np.quantile(rows.numpy(), 0.95, axis=0).max())


@pytest.mark.parametrize(
    ("slope", "words"), [(-1.0, "-1"), (2 / 3, "2/3"), (-0.8, "-4/5"), (0.123456, "0.123456")]
)
def test_a_predicted_slope_is_written_as_a_fraction(ax, slope, words):
    figures.predicted(ax, [1, 8], slope, (1, 1))
    assert ax.lines[0].get_label() == f"predicted slope {words}"


def test_long_names_are_broken_in_the_legend(ax):
    check = claim("bound").predict(Bound("left below right"))
    check.measure([1.0], [2.0])
    check.control("a name " * 12, broke="a factor").measure([3.0], [2.0])
    figures.bound(ax, check)
    (label,) = (text for text in drawn(ax) if text.startswith("control"))
    assert max(map(len, label.splitlines())) <= 46 and len(label.splitlines()) > 1
