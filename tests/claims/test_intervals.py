"""Intervals: how often they miss, against closed forms, and on data that would fool them."""

import math

import numpy as np
import pytest
from given import SIZES
from scipy import stats

from mflib.claims import intervals as module
from mflib.claims.intervals import (
    LEVEL,
    change_probability,
    contrasts,
    effective_seeds,
    intervals,
    local_slopes,
    log_average,
    log_slope,
    mean_interval,
    power_factor,
    slope_interval,
)
from mflib.claims.trials import LAWS, misses

K = 2.0 ** np.arange(5)  # five sizes, a factor 16


def half(interval):
    return (interval[1] - interval[0]) / 2


# averages and slopes


@pytest.mark.parametrize(
    ("statistic", "expected"),
    [("rms", math.sqrt(34 / 4)), ("mean", 2.5), ("geometric", 2.0)],
)
def test_errors_are_averaged_as_asked_without_their_sign(statistic, expected):
    growth = np.array([1.0, 2.0, 4.0])
    errors = np.array([[1.0], [-1.0], [-4.0], [4.0]]) * growth
    assert np.exp(log_average(errors, statistic)) == pytest.approx(expected * growth)
    assert slope_interval(SIZES[:3], errors, statistic)[2] == pytest.approx(expected * growth)


@pytest.mark.parametrize("statistic", ["rms", "mean", "geometric"])
def test_weights_pick_the_seeds_they_name(statistic):
    errors = np.random.default_rng(0).normal(size=(5, 3))
    some = np.array([[0, 0.5, 0, 0, 0.5], [0, 0, 1, 0, 0]])
    found = log_average(errors, statistic, some)
    assert found[0] == pytest.approx(log_average(errors[[1, 4]], statistic))
    assert found[1] == pytest.approx(np.log(np.abs(errors[2])))


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
@pytest.mark.parametrize("statistic", ["rms", "mean", "geometric"])
def test_a_slope_does_not_depend_on_the_unit_of_the_error(scale, statistic):
    errors = np.abs(np.random.default_rng(1).normal(size=(12, 6))) * SIZES**-0.5
    plain, scaled = (slope_interval(SIZES, c * errors, statistic) for c in (1.0, scale))
    assert scaled[0] == pytest.approx(plain[0], rel=1e-9)
    assert scaled[1] == pytest.approx(plain[1], rel=1e-9)


def test_a_slope_is_that_of_least_squares():
    values = np.random.default_rng(2).uniform(1, 2, 6)
    expected = np.polyfit(np.log(SIZES), np.log(values), 1)[0]
    assert log_slope(SIZES, values) == pytest.approx(expected)
    assert slope_interval(SIZES, values[None])[0] == pytest.approx(expected)
    assert slope_interval(SIZES, values[None])[1] is None
    assert local_slopes(SIZES, SIZES**-0.3) == pytest.approx(-0.3)


@pytest.mark.parametrize(("toward", "at"), [("large", -1), ("small", 0)])
def test_the_end_slope_is_the_derivative_of_the_fitted_parabola_at_that_end(toward, at):
    u = np.log(SIZES)
    values = np.random.default_rng(3).normal(size=6)
    fit = np.polynomial.Polynomial.fit(u, values, 2).deriv()
    assert values @ contrasts(SIZES, toward) == pytest.approx(
        [np.polyfit(u, values, 1)[0], fit(u[at])]
    )
    assert (0.3 * u + 2) @ contrasts(SIZES, toward) == pytest.approx([0.3, 0.3])
    bent = 0.1 * u**2  # the end slope of a parabola is exact
    assert bent @ contrasts(SIZES, toward)[:, 1] == pytest.approx(0.2 * u[at])


# intervals against closed forms


def test_the_interval_of_seeds_own_slopes_is_at_least_students_and_near_it():
    rng = np.random.default_rng(4)
    slopes = rng.normal(size=40)
    _, interval, _ = slope_interval(SIZES, SIZES ** slopes[:, None], "geometric")
    student = stats.t.ppf(0.9995, 39) * slopes.std(ddof=1) / math.sqrt(40)
    assert interval[0] <= slopes.mean() - student * (1 - 1e-9)
    assert interval[1] >= slopes.mean() + student * (1 - 1e-9)
    assert half(interval) < 1.35 * student


def test_the_mean_interval_of_symmetric_samples_is_students_and_few_are_not_shortened():
    samples = np.array([1.0, 2.0, 3.0])
    mean, interval = mean_interval(samples)
    assert mean == 2.0 and interval[1] - mean == pytest.approx(31.599 / np.sqrt(3), rel=1e-3)
    assert mean_interval(samples[:1]) == (1.0, None)
    assert LEVEL == 0.99  # the level that was checked, not that of the quantile


def test_a_skewed_mean_is_lengthened_on_the_side_of_its_skew_only():
    samples = np.random.default_rng(5).exponential(size=24)
    mean, (low, high) = mean_interval(samples)
    error = samples.std(ddof=1) / math.sqrt(24)
    t = stats.t.ppf(0.9995, 23)
    longer = stats.skew(samples) * (1 + 2 * t * t) / (6 * math.sqrt(24))
    assert longer > 0.3 and high - mean == pytest.approx(error * (t + longer), rel=0.02)
    assert mean - low == pytest.approx(error * t, rel=0.02)
    mirrored = mean_interval(-samples)[1]
    assert mirrored == pytest.approx((-high, -low), rel=0.02)


def test_the_slope_interval_follows_the_theory_of_gaussian_errors():
    rng = np.random.default_rng(6)
    _, interval, _ = slope_interval(SIZES, rng.normal(size=(400, 6)) * SIZES**-0.5)
    spread = np.sqrt(((np.log(SIZES) - np.log(SIZES).mean()) ** 2).sum())
    assert half(interval) == pytest.approx(3.29 / np.sqrt(800) / spread, rel=0.15)


def test_beyond_a_thousand_seeds_nothing_is_resampled_and_little_changes(monkeypatch):
    errors = np.random.default_rng(7).normal(size=(1000, 5))
    few = half(slope_interval(K, errors)[1])
    monkeypatch.setattr(module, "_MOST", 999)
    monkeypatch.setattr(module, "_counts", None)
    assert half(slope_interval(K, errors)[1]) == pytest.approx(few, rel=0.06)


def test_an_interval_is_a_function_of_its_data():
    errors = np.random.default_rng(11).normal(size=(9, 5))
    first = slope_interval(K, errors)
    module._counts.cache_clear()  # as in another process
    assert slope_interval(K, errors)[:2] == first[:2]


def test_leaving_seeds_out_in_portions_changes_nothing():
    weights = np.concatenate(list(module._left_out(3000)))
    assert len(list(module._left_out(3000))) > 1 and weights.shape == (3000, 3000)
    assert np.array_equal(weights == 0, np.eye(3000, dtype=bool))
    assert weights.sum(1) == pytest.approx(1.0)


def test_the_percentile_part_lengthens_where_one_seed_carries_the_average():
    errors = np.abs(np.random.default_rng(8).normal(size=(12, 5)))
    errors[0] = 1e3 * K**0.5  # the average is this seed; leaving it out changes all
    errors[1:] *= 1e-3
    line = contrasts(K, "large")[:, :1]
    _, low, high = intervals(errors, "rms", line)
    assert effective_seeds(errors) == pytest.approx(1.0, abs=1e-3)
    assert effective_seeds(np.ones((7, 3))) == pytest.approx(7)
    assert effective_seeds(errors, "geometric") == 12
    assert high[0] - low[0] > 0.5


def test_the_percentile_part_is_widened_by_students_factor_for_few_seeds():
    resampled = np.random.default_rng(9).normal(size=(20_000, 1))
    low, high = module._ends(np.zeros(1), np.zeros((5, 1)), [resampled], 0.9995)
    plain = np.quantile(resampled, [0.0005, 0.9995])
    factor = 8.610 / 3.2905 * math.sqrt(5 / 4)  # Student with 4 degrees of freedom
    assert [low[0], high[0]] == pytest.approx(factor * plain, rel=1e-3)


def test_the_effective_seeds_are_those_of_the_size_where_fewest_carry_the_average():
    errors = np.ones((10, 3))
    errors[0, 1] = 1e6
    assert effective_seeds(errors) == pytest.approx(1.0, abs=1e-4)
    assert effective_seeds(errors[:, [0, 2]]) == pytest.approx(10.0)
    assert effective_seeds(np.array([[1.0], [2.0]]), "mean") == pytest.approx(9 / 5)


# how often they miss


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("seeds", [8, 12, 24])
def test_slope_intervals_miss_no_more_often_than_the_level_they_print(law, seeds, monkeypatch):
    monkeypatch.setattr(module, "_RESAMPLES", 4000)
    module._counts.cache_clear()
    missed = misses("slope", law, seeds, trials=200, generator=1)
    module._counts.cache_clear()
    # at 1 %, seven misses of 200 happen once in 200 families; the record has more trials
    assert missed <= 6, f"{missed} of 200"


def test_without_the_resampling_a_shared_heavy_scale_is_missed_too_often(monkeypatch):
    """The jackknife alone is what the percentile part is there to mend."""
    monkeypatch.setattr(module, "_MOST", 0)
    assert misses("slope", "a lognormal scale shared by a seed's sizes", 12, 600) > 6


@pytest.mark.parametrize("seeds", [8, 12, 24])
def test_mean_intervals_miss_no_more_often_than_they_print(seeds):
    for law in ("normal", "lognormal, sigma .3"):
        assert misses("mean", law, seeds, trials=200, generator=1) <= 6


# power and reruns


def test_the_power_factor_is_that_of_the_noncentral_law():
    assert [power_factor(s) for s in (8, 12, 24, 48)] == pytest.approx(
        [1.68, 1.63, 1.60, 1.60], abs=0.01
    )
    assert power_factor(10**6) == pytest.approx(1 + 1.96 / 3.29, abs=2e-3)
    assert power_factor(5000) == pytest.approx(power_factor(5001), rel=1e-3)
    assert power_factor(12, 0.8) == pytest.approx(1.27, abs=0.01)
    rng = np.random.default_rng(9)
    samples = rng.normal(size=(20_000, 12))
    lengths = stats.t.ppf(0.9995, 11) * samples.std(1, ddof=1) / math.sqrt(12)
    shift = power_factor(12) * lengths.mean()
    assert (samples.mean(1) + shift - lengths > 0).mean() == pytest.approx(0.975, abs=0.005)


def test_the_chance_of_a_change_is_that_of_a_rerun():
    rng, edge = np.random.default_rng(10), 0.5
    t = stats.t.ppf(0.9995, 11)
    first = rng.normal(size=(4000, 12)) / 3
    error = first.std(1, ddof=1) / math.sqrt(12)
    # a run whose upper end lies .1 below the edge
    mean = edge - 0.1 - t * error
    again = mean + math.sqrt(2) * error * rng.normal(size=4000)
    told = np.mean(
        [
            change_probability((m - t * e, m + t * e), (edge, -9.0), 12)
            for m, e in zip(mean[:400], error[:400], strict=True)
        ]
    )
    assert told == pytest.approx((again + t * error > edge).mean(), abs=0.05)
    assert change_probability((0.4, 0.5), (0.5,), 12) >= 0.5
    assert change_probability((0.1, 0.2), (9.0,), 12) < 1e-12
    assert change_probability((0.1, 0.1), (0.1,), 12) == 0.0
