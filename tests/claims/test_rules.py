"""The other rules, each on data whose answer is known."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from given import claim, measured, outcome, verdict
from mpmath import iv

from mflib.claims import (
    Below,
    Bound,
    ClaimError,
    Counterexample,
    Identity,
    Limit,
    MeanBound,
    Reproduction,
    ShareBound,
)
from mflib.claims.bound import tightness_word
from mflib.claims.families import family, holm, paired, paired_family, sign_flip
from mflib.claims.intervals import mean_interval, power_factor

NAN, INF = math.nan, math.inf


def draws(mean, spread=0.01, seeds=24, seed=0):
    return mean + spread * np.random.default_rng(seed).normal(size=seeds)


# identity


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (1e-13, "verified"),
        (-1e-13, "verified"),
        (5e-12, "inconclusive"),
        (2e-11, "refuted"),
        (-2e-11, "refuted"),
        (NAN, "inconclusive"),
        (INF, "inconclusive"),
    ],
)
def test_an_error_is_judged_by_its_size(error, found):
    assert verdict(Identity("a = b", 1e-12), error) == found
    assert verdict(Identity("a = b", 1e-12), [0.0, error, 0.0]) == found


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1.0, 1e8, 1e300])
def test_an_error_is_relative_to_each_entry_at_every_size(scale):
    left, right = scale * np.array([1.0, 1.0]), scale * np.array([1.0, 1.0 + 1e-3])
    found = outcome(Identity("a = b", 0.01), left, right)
    assert found.measured == pytest.approx(1e-3 / 1.001, rel=1e-6)
    assert verdict(Identity("a = b", 1e-6), [1e8, scale], [1e8, 2 * scale]) == "refuted"
    assert outcome(Identity("a = b", 0.01), scale, -scale).measured == pytest.approx(2.0)


def test_a_norm_is_a_choice_that_is_named():
    left, right = np.array([1e8, 1.0]), np.array([1e8, 2.0])
    assert verdict(Identity("a = b", 1e-6), left, right) == "refuted"
    found = outcome(Identity("a = b", 1e-6, norm="all"), left, right)
    assert found.verdict == "verified" and found.measured == pytest.approx(1e-8)
    assert found.details["norm"] == "all"
    # two problems: each has its own norm
    left, right = np.array([[1e8, 1.0], [2.0, 1.0]]), np.array([[1e8, 0.0], [2.0, 0.0]])
    assert outcome(Identity("a = b", 0.01, norm=-1), left, right).measured == pytest.approx(0.5)
    assert outcome(Identity("a = b", 0.01, norm=(0, 1)), left, right).measured == pytest.approx(
        1e-8
    )
    with pytest.raises(ClaimError, match="norm"):
        Identity("a", 1e-9, norm="rows")
    with pytest.raises(ClaimError, match="norm: 3 on shape"):
        measured(Identity("a", 1e-9, norm=3), left, right)


def test_an_entry_that_should_vanish_is_compared_with_the_largest():
    assert outcome(Identity("a", 0.01), [4.0, 1.0], [4.0, 0.0]).measured == pytest.approx(0.25)
    assert outcome(Identity("a", 0.01), [1e-20], [0.0]).measured == 1e-20
    assert outcome(Identity("a", 0.01), [0.0, 0.0], [0.0, 0.0]).measured == 0.0


@pytest.mark.parametrize(("left", "right"), [(1.0, NAN), (NAN, 1.0), (INF, INF), (1.0, INF)])
def test_an_identity_with_nan_or_infinity_on_a_side_is_never_verified(left, right):
    assert verdict(Identity("a = b", 0.01), left, right) == "inconclusive"


def test_an_error_beyond_every_float_is_refuted():
    assert verdict(Identity("a = b", 1e-6), 1e308, -1e-308) == "refuted"
    assert verdict(Identity("a = b", 1e-6), 1e308, -1e308) == "refuted"


def test_sides_are_compared_in_pairs():
    left = np.ones((3, 2))
    assert outcome(Identity("a", 0.01), left, 1.0).details["cases"] == 6
    assert outcome(Identity("a", 0.01), left, np.ones((3, 1))).details["cases"] == 6
    assert outcome(Identity("a", 0.01), 1.0, left).details["cases"] == 6
    for right in (np.ones(3), np.ones((3, 3)), np.ones((4, 1, 2))):
        with pytest.raises(ClaimError, match="no pairs"):
            measured(Identity("a", 0.01), left, right)
    for check in (Identity("a", 0.01), Bound("a")):
        with pytest.raises(ClaimError, match="no pairs"):  # 9 comparisons of 3 numbers
            measured(check, np.ones(3), np.ones((3, 1)))


# limits


def test_limits_are_equivalence_tests():
    for value, tolerance, found in (
        (2.0, 0.02, "verified"),
        (2.0, 0.003, "inconclusive"),
        (2.1, 0.02, "refuted"),
        (1.9, 0.02, "refuted"),
    ):
        assert verdict(Limit("x", value, tolerance), draws(2.0)) == found
    found = outcome(Limit("x", 2.0, 0.02), torch.tensor(draws(2.0)))
    mean, interval = mean_interval(draws(2.0))
    assert found.measured == mean and found.interval == interval
    assert found.details["seeds"] == 24
    assert found.details["power"] == pytest.approx(0.02 + power_factor(24) * np.ptp(interval) / 2)


@pytest.mark.parametrize(
    ("interval", "found"),
    [
        ((1.9, 2.1), "verified"),
        ((1.8, 2.0), "inconclusive"),
        ((2.0, 2.2), "inconclusive"),
        ((1.7, 2.3), "inconclusive"),
        ((1.5, 1.8), "refuted"),
        ((2.2, 2.5), "refuted"),
        ((1.875, 2.125), "verified"),
        ((1.75, 1.875), "inconclusive"),
        ((2.125, 2.25), "inconclusive"),
    ],
)
def test_an_interval_is_judged_on_both_sides_of_the_tolerance_and_its_edge_is_inside(
    interval, found
):
    check = Limit("x", 2.0, 0.125)
    middle = sum(interval) / 2
    assert verdict(check, middle, interval=interval, seeds=0) == found


@pytest.mark.parametrize("kind", [Limit, Reproduction])
@pytest.mark.parametrize(
    ("estimate", "interval", "message"),
    [
        (1.0, (1.1, 0.9), "upside down"),
        (5.0, (0.9, 1.1), "does not hold its estimate"),
        (0.5, (0.9, 1.1), "does not hold its estimate"),
        (1.0, (0.9, 1.0, 1.1), "low, high"),
        (1.0, (0.9, 1.1 + 1j), "real numbers"),
    ],
)
def test_an_impossible_interval_is_named(kind, estimate, interval, message):
    check = Limit("x", 1.0, 0.1) if kind is Limit else Reproduction("x", ">", 0.0)
    with pytest.raises(ClaimError, match=message):
        measured(check, estimate, interval=interval, seeds=20)


@pytest.mark.parametrize("kind", [Limit, Reproduction])
@pytest.mark.parametrize(
    ("estimate", "interval", "seeds", "reason"),
    [
        (1.0, (0.99, 1.01), 7, "7 independent seeds"),
        (1.0, (0.99, 1.01), None, "seeds= is not said"),
        (1.0, (-INF, INF), 20, "not finite"),
        (1.0, (0.99, INF), 20, "not finite"),
        (1.0, (NAN, 1.01), 20, "not finite"),
        (NAN, (0.99, 1.01), 20, "not finite"),
        (1.0, (1.0, 1.0), 20, "width zero"),
    ],
)
def test_an_interval_of_unknown_or_few_seeds_decides_nothing(
    kind, estimate, interval, seeds, reason
):
    check = Limit("x", 1.0, 0.1) if kind is Limit else Reproduction("x", ">", 0.0)
    found = outcome(check, estimate, interval=interval, seeds=seeds)
    assert found.verdict == "inconclusive" and reason in found.reason


@pytest.mark.parametrize("kind", [Limit, Reproduction])
@pytest.mark.parametrize("seeds", [-1, 2.5, True])
def test_an_impossible_number_of_seeds_is_named(kind, seeds):
    check = Limit("x", 1.0, 0.1) if kind is Limit else Reproduction("x", ">", 0.0)
    with pytest.raises(ClaimError, match="seeds"):
        measured(check, 1.0, interval=(0.9, 1.1), seeds=seeds)


def test_samples_are_counted_and_not_told():
    for check in (Limit("x", 1.0, 0.1), Reproduction("x")):
        with pytest.raises(ClaimError, match="seeds: belongs to an interval"):
            measured(check, draws(1.0), seeds=20)


@pytest.mark.parametrize("kind", [Limit, Reproduction])
@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (draws(1.0, seeds=7), "7 independent seeds"),
        (np.ones(24), "no variation"),
        (np.ones(24) + 2.3e-16 * (np.arange(24) % 2), "no variation"),
        (np.tile(draws(1.0, seeds=8), 2), "copies"),
        (np.repeat(draws(1.0, seeds=8), 3), "copies"),
        ([*draws(1.0), NAN], "NaN"),
        ([*draws(1.0), INF], "infinite"),
        (np.ones((12, 2)), "one number a seed"),
    ],
)
def test_few_seeds_copies_and_what_is_no_number_decide_nothing(kind, samples, reason):
    check = Limit("x", 1.0, 0.1) if kind is Limit else Reproduction("x", ">", 0.0)
    found = outcome(check, samples)
    assert found.verdict == "inconclusive" and reason in found.reason


def test_eight_seeds_may_decide_and_draws_of_one_problem_are_one():
    assert verdict(Limit("x", 1.0, 0.1), draws(1.0, seeds=8)) == "verified"
    assert verdict(Reproduction("x"), draws(1.0, seeds=8)) == "verified"
    labels = np.repeat(np.arange(6), 4)
    found = outcome(Limit("x", 1.0, 0.1), draws(1.0), clusters=labels)
    assert found.verdict == "inconclusive" and found.details["seeds"] == 6
    shared = np.repeat(draws(1.0, 0.1, seeds=12), 30) + draws(0.0, 0.01, seeds=360, seed=1)
    found = outcome(Limit("x", 1.0, 0.1), shared, clusters=np.repeat(range(12), 30))
    by_hand = mean_interval(shared.reshape(12, 30).mean(1))[1]
    assert found.interval == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("value", "tolerance", "scale", "good"),
    [
        (2.0, 0.3, None, True),
        (2.0, 0.31, None, False),
        (-2.0, 0.31, None, False),
        (0.0, 9.0, None, True),
        (0.0, 0.31, 2.0, False),
        (0.0, 0.3, 2.0, True),
        (1.0, 0.2, 2.0, True),
        (NAN, 0.1, None, False),
        (1.0, 0.0, None, False),
        (1.0, 0.1, -1.0, False),
    ],
)
def test_a_limits_tolerance_is_capped_by_its_value_or_its_scale(value, tolerance, scale, good):
    if good:
        Limit("x", value, tolerance, scale)
    else:
        with pytest.raises(ClaimError):
            Limit("x", value, tolerance, scale)


def test_a_limit_of_zero_without_a_scale_says_so():
    assert "no scale named for a limit 0" in Limit("x", 0.0, 1e-8).unsaid()
    assert "no scale named for a limit 0" not in Limit("x", 0.0, 0.1, scale=1.0).unsaid()


# reproduction


@pytest.mark.parametrize(
    ("relation", "value", "found"),
    [
        (">", 0.9, "verified"),
        (">", 1.1, "refuted"),
        (">", 1.0, "inconclusive"),
        ("<", 1.1, "verified"),
        ("<", 0.9, "refuted"),
        ("<", 1.0, "inconclusive"),
    ],
)
def test_a_reproduction_reports_whichever_way(relation, value, found):
    assert verdict(Reproduction("gain", relation, value), draws(1.0)) == found


@pytest.mark.parametrize("relation", [">", "<"])
def test_an_interval_that_touches_the_value_decides_nothing(relation):
    for interval in ((0.5, 0.9), (0.1, 0.5), (0.5, 0.5)):
        check = Reproduction("gain", relation, 0.5)
        assert verdict(check, interval[0], interval=interval, seeds=0) == "inconclusive"


def test_an_interval_at_another_level_is_shown_with_it():
    found = outcome(Reproduction("gain"), draws(1.0), interval=(0.9, 1.1), level=0.95)
    assert found.details["level"] == 0.95 and found.details["seeds"] == 24


# bound


@pytest.mark.parametrize(
    ("left", "right", "found", "ratio"),
    [
        (0.5, 1.0, "verified", 0.5),
        (1.0, 1.0, "verified", 1.0),
        (1.0 + 1e-13, 1.0, "verified", 1.0),
        (1.0 + 1e-9, 1.0, "refuted", 1.0),
        (2.0, 1.0, "refuted", 2.0),
        (-2.0, -1.0, "verified", 0.5),
        (-1.0, -2.0, "refuted", 2.0),
        (-1.0, -1.0, "verified", 1.0),
        (-1.0, 2.0, "verified", 0.0),
        (0.0, 2.0, "verified", 0.0),
    ],
)
@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_a_bound_compares_with_room_for_rounding_and_keeps_its_ratio(
    left, right, found, ratio, scale
):
    got = outcome(Bound("a <= b"), [scale * left], [scale * right])
    assert got.verdict == found and got.details["tightness"] == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("left", "right", "found", "shown"),
    [(0.5, 0.0, "refuted", 0.5), (-0.5, 0.0, "verified", -0.5), (2.0, -1.0, "refuted", 3.0)],
)
def test_over_a_bound_of_zero_the_left_side_is_shown(left, right, found, shown):
    got = outcome(Bound("a <= 0"), left, right)
    assert (got.verdict, got.measured, got.details["tightness"]) == (found, shown, None)


def test_zero_below_zero_holds_and_says_nothing():
    mixed = outcome(Bound("a"), [0.0, 0.5], [0.0, 1.0])
    assert mixed.verdict == "verified" and mixed.details["trivial"] == 1
    assert mixed.measured == 0.5
    alone = outcome(Bound("a"), [0.0, 0.0], [0.0, 0.0])
    assert alone.verdict == "inconclusive" and "0 <= 0" in alone.reason


@pytest.mark.parametrize(
    ("left", "right"), [(1.0, NAN), (NAN, 1.0), (1.0, INF), (-INF, 1.0), (INF, INF)]
)
def test_a_bound_with_nan_or_infinity_is_never_verified(left, right):
    assert verdict(Bound("a"), [0.5, left], [1.0, right]) == "inconclusive"
    check = measured(Bound("a"), 0.5, 1.0).checks[0]
    check.adversary(left, right)
    assert check.verdict == "inconclusive" and check.outcome.measured == 0.5


@pytest.mark.parametrize(
    ("trials", "found", "verdict_", "tight", "shown"),
    [
        ((0.5, 1), (0.9, 1), "verified", 0.9, 0.9),
        ((0.9, 1), (0.5, 1), "verified", 0.9, 0.9),
        ((0.5, 1), (1.5, 1), "refuted", 1.5, 1.5),
        ((3, 2), (1, 2), "refuted", 1.5, 1.5),
        ((3, 2), (4, 2), "refuted", 2.0, 2.0),
        ((0.5, 1), (0.3, 0), "refuted", None, 0.3),
        ((0.3, 0), (0.5, 1), "refuted", None, 0.3),
        ((0.3, 0), (0.5, 0), "refuted", None, 0.5),
        ((-1, 0), (0.5, 1), "verified", 0.5, 0.5),
        ((0.5, 1), (0, 0), "verified", 0.5, 0.5),
    ],
)
def test_the_worse_of_trials_and_adversary_stays(trials, found, verdict_, tight, shown):
    check = measured(Bound("a"), *trials).checks[0]
    check.adversary(*found)
    assert check.verdict == verdict_ and check.outcome.measured == shown
    assert check.outcome.details["tightness"] == tight


def test_every_adversary_counts_its_trials_and_violations():
    check = measured(Bound("a"), [0.5, 0.6], [1.0, 1.0]).checks[0]
    check.adversary([0.7, 2.0, 3.0], [1.0, 1.0, 1.0])
    check.adversary([0.1], [1.0])
    details = check.outcome.details
    assert (details["trials"], details["adversary_trials"], details["violations"]) == (2, 4, 2)
    assert check.verdict == "refuted" and details["tightness"] == 3.0
    with pytest.raises(ClaimError, match="before the adversary"):
        made = claim("bound")
        made.predict(Bound("a")).adversary(1.0, 2.0)


@pytest.mark.parametrize(
    ("ratio", "word"),
    [
        (1.0, "attained"),
        (0.99, "attained"),
        (0.989, "sharp"),
        (0.5, "sharp"),
        (0.499, "not sharp"),
        (0.01, "not sharp"),
        (0.0099, "idle"),
        (0.0, "idle"),
        (None, "no ratio"),
    ],
)
def test_a_bound_says_how_near_a_trial_came(ratio, word):
    assert tightness_word(ratio) == word
    if ratio is not None:
        assert measured(Bound("a"), ratio, 1.0).checks[0].record()["word"] == word


# counterexample


@pytest.mark.parametrize(
    ("relation", "left", "right", "found"),
    [
        ("<=", 2.0, 1.0, "refuted"),
        ("<=", 1.0, 1.0, "verified"),
        ("<=", 0.5, 1.0, "verified"),
        ("<=", 1.0 + 1e-13, 1.0, "verified"),
        ("<=", 1.0 + 1e-9, 1.0, "refuted"),
        (">=", 0.5, 1.0, "refuted"),
        (">=", 1.0, 1.0, "verified"),
        (">=", 2.0, 1.0, "verified"),
        ("<", 0.5, 1.0, "verified"),
        ("<", 2.0, 1.0, "refuted"),
        (">", 2.0, 1.0, "verified"),
        (">", 0.5, 1.0, "refuted"),
        # of floats that agree to rounding nothing follows, of exact numbers it does
        ("<", 1.0, 1.0, "inconclusive"),
        ("<", 1.0 + 1e-13, 1.0, "inconclusive"),
        (">", -1e-17, 0.0, "inconclusive"),
        ("<", 1.0 - 1e-13, 1.0, "inconclusive"),
        ("<", Fraction(1, 3), Fraction(1, 3), "refuted"),
        (">", 1, 1, "refuted"),
        ("<", Fraction(1, 3), Fraction(1, 2), "verified"),
        ("<=", Fraction(1, 3), Fraction(1, 3), "verified"),
        ("<=", Fraction(1, 3) + Fraction(1, 10**40), Fraction(1, 3), "refuted"),
        ("<=", 1 + Fraction(1, 10**30), (1.0, 1.0), "refuted"),  # a difference would round
        ("<", 1 - Fraction(1, 10**30), (1.0, 1.0), "verified"),
        ("==", Fraction(1, 3), Fraction(1, 3), "verified"),
        ("==", Fraction(1, 3), Fraction(333, 1000), "refuted"),
        ("==", 1.0, 1.0 + 1e-13, "verified"),
        ("==", 1.0, 2.0, "refuted"),
        ("==", 2.0, 1.0, "refuted"),
        ("<=", iv.exp(1), 2.7, "refuted"),
        ("==", iv.exp(1) - iv.exp(1), 0, "inconclusive"),
        ("<=", (1.0, 3.0), (2.0, 2.0), "inconclusive"),
        ("<", (1.0, 2.0), (2.0, 3.0), "inconclusive"),
        ("<=", (1.0, 2.0), (2.0, 3.0), "verified"),
        ("<", (2.0, 3.0), (1.0, 2.0), "refuted"),
        ("<=", NAN, 1.0, "inconclusive"),
        ("<=", 1.0, INF, "inconclusive"),
        ("<=", 10**400, 1, "inconclusive"),
        ("<=", (1.0, INF), 1.0, "inconclusive"),
    ],
)
def test_a_sentence_is_judged_on_its_instance(relation, left, right, found):
    assert verdict(Counterexample("instance", "sentence", relation), left, right) == found


def test_without_rounding_the_smallest_violation_counts():
    check = Counterexample("instance", "sentence", "<", rounding=0.0)
    assert verdict(check, 1.0 + 1e-15, 1.0) == "refuted"
    check = Counterexample("instance", "sentence", "<=", rounding=0.5)
    assert verdict(check, 1.4, 1.0) == "verified"


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ((2.0, 1.0), "upside down"),
        (1j, "real"),
        ("1", "real"),
        ([1.0, 2.0], "one number"),
        (True, "real"),
        ((1.0, 2j), "real"),
    ],
)
def test_an_impossible_instance_is_named(left, message):
    with pytest.raises(ClaimError, match=message):
        measured(Counterexample("instance", "sentence"), left, 1.0)
    with pytest.raises(ClaimError, match=message):
        measured(Counterexample("instance", "sentence"), 1.0, left)


def test_an_enclosure_reports_its_middle_and_its_ends():
    found = outcome(Counterexample("instance", "sentence", "<="), (3.0, 4.0), 1.0)
    assert (found.measured, found.interval) == (3.5, (3.0, 4.0))
    assert found.details["left"] == [3.0, 4.0] and found.details["right"] == [1.0, 1.0]


# thresholds


@pytest.mark.parametrize(
    ("worst", "seeds", "found"),
    [
        (1e-9, 8, "verified"),
        (1e-8, 8, "verified"),
        (5e-8, 8, "inconclusive"),
        (2e-7, 8, "refuted"),
        (-2e-7, 8, "refuted"),
        (1e-9, 7, "inconclusive"),
        (2e-7, 7, "inconclusive"),
        (NAN, 8, "inconclusive"),
        (INF, 8, "inconclusive"),
    ],
)
def test_a_small_quantity_is_below_in_every_seed(worst, seeds, found):
    samples = [1e-10] * (seeds - 1) + [worst]
    got = outcome(Below("end", 1e-8), samples)
    assert got.verdict == found
    if found == "verified":
        assert got.details["share"] == pytest.approx(0.0005 ** (1 / 8))
        assert got.measured == worst


def test_a_row_of_a_small_quantity_is_one_seed():
    assert verdict(Below("end", 1.0), np.zeros((4, 100))) == "inconclusive"
    assert verdict(Below("end", 1.0), 2 * np.eye(8)) == "inconclusive"
    assert verdict(Below("end", 1.0), 0.5) == "inconclusive"


def test_a_mean_below_its_bound_is_judged_by_its_interval():
    rng = np.random.default_rng(0)
    sample = np.exp(0.3 * rng.normal(size=(5, 24)) - 0.045)  # means 1
    for bound, found in ((2.0, "verified"), (1.0, "inconclusive"), (0.5, "refuted")):
        assert verdict(MeanBound("E X"), sample, np.full(5, bound)) == found
    one_worse = np.array([2.0, 2.0, 0.5, 2.0, 2.0])
    assert verdict(MeanBound("E X"), sample, one_worse) == "refuted"
    one_open = np.array([2.0, 2.0, 1.0, 2.0, 2.0])
    assert verdict(MeanBound("E X"), sample, one_open) == "inconclusive"
    attained = MeanBound("E X", tolerance=0.05)
    assert verdict(attained, 1 + 0.01 * rng.normal(size=(3, 24)), np.ones(3)) == "verified"
    got = measured(MeanBound("E X"), sample[0], 2.0).checks[0]
    assert got.outcome.measured == pytest.approx(sample[0].mean() / 2)
    assert got.record()["word"] == "sharp" if got.outcome.measured >= 0.5 else "not sharp"
    assert got.outcome.interval[1] == pytest.approx(mean_interval(sample[0], 1 - 0.0005)[1][1] / 2)


@pytest.mark.parametrize(
    ("sample", "bound"),
    [
        (draws(0.5, seeds=7), 1.0),
        (np.full(24, 0.5), 1.0),
        ([*draws(0.5), NAN], 1.0),
        (draws(0.5), NAN),
    ],
)
def test_few_or_equal_seeds_decide_no_mean(sample, bound):
    assert verdict(MeanBound("E X"), sample, bound) == "inconclusive"


def test_the_interval_of_a_mean_bound_is_that_at_the_level_shared_by_all_configurations():
    sample = 1 + 0.01 * np.random.default_rng(3).normal(size=(10, 24))
    got = outcome(MeanBound("E X"), sample, np.full(10, 2.0))
    at = int(sample.mean(1).argmax())
    expected = mean_interval(sample[at], 1 - 0.0005 / 10)[1]
    assert got.interval == pytest.approx(tuple(np.array(expected) / 2))
    assert np.ptp(got.interval) > 1.1 * np.ptp(mean_interval(sample[at])[1]) / 2


def test_a_true_mean_bound_is_hardly_ever_refuted_over_many_configurations():
    rng = np.random.default_rng(1)
    refuted = 0
    for _ in range(20):  # judged by the estimates all of these would be refuted
        sample = np.exp(0.3 * rng.normal(size=(50, 24)) - 0.045)
        refuted += verdict(MeanBound("E X"), sample, np.ones(50)) == "refuted"
    assert refuted <= 1


@pytest.mark.parametrize(
    ("violations", "n", "delta", "found"),
    [
        (0, 757, 0.01, "verified"),
        (0, 756, 0.01, "inconclusive"),
        (0, 73, 0.1, "verified"),
        (0, 72, 0.1, "inconclusive"),
        (30, 100, 0.1, "refuted"),
        (12, 100, 0.1, "inconclusive"),
        (100, 100, 0.5, "refuted"),
    ],
)
def test_a_bound_with_a_probability_needs_enough_draws(violations, n, delta, found):
    left = np.r_[np.full(violations, 2.0), np.full(n - violations, 0.5)]
    got = outcome(ShareBound("X <= B", delta), left, np.ones(n))
    assert got.verdict == found and got.measured == violations / n


@pytest.mark.parametrize(
    "make",
    [
        lambda: Below("a", 0.0),
        lambda: MeanBound("a", 0.06),
        lambda: MeanBound("a", -0.1),
        lambda: ShareBound("a", 0.0),
        lambda: ShareBound("a", 1.0),
        lambda: Bound("a", 1e-3),
        lambda: Bound("a", 0.0),
        lambda: Identity("a", 0.0),
        lambda: Identity("a", 0.02),
        lambda: Identity("", 0.01),
        lambda: Counterexample("a", "b", "~"),
        lambda: Counterexample("a", "b", "<=", -1.0),
        lambda: Counterexample("a", "b", "<=", NAN),
        lambda: Reproduction("a", ">="),
        lambda: Reproduction("a", ">", NAN),
        lambda: measured(MeanBound("a"), np.ones((2, 9)), 1.0),
        lambda: measured(MeanBound("a"), draws(1.0), -1.0),
        lambda: measured(ShareBound("a", 0.1), np.ones((9, 2)), 1.0),
    ],
)
def test_impossible_checks_are_refused(make):
    with pytest.raises(ClaimError):
        make()


# families and pairs


def test_holm_decides_step_by_step():
    assert holm([0.01, 0.02, 0.03, 0.2]) == [True, False, False, False]
    assert holm([0.2, 0.012, 0.016, 0.02]) == [False, True, True, True]
    assert holm([0.012, 0.06, 0.02]) == [True, False, True]
    assert holm([0.04, 0.04]) == [False, False]
    assert holm([0.05]) == [True] and holm([NAN, 0.001]) == [False, True]
    with pytest.raises(ClaimError, match="between 0 and 1"):
        holm([1.5])


def test_holm_errs_at_most_as_often_as_its_level():
    p = np.random.default_rng(0).uniform(size=(4000, 6))
    wrong = np.mean([any(holm(row)) for row in p])
    assert wrong == pytest.approx(1 - (1 - 0.05 / 6) ** 6, abs=0.012) and wrong < 0.06


def test_the_sign_flip_p_value_counts_all_patterns():
    assert sign_flip([1.0, 2.0, 3.0]) == 0.25
    assert sign_flip(-np.arange(1.0, 9.0)) == 2.0**-7
    assert sign_flip([1.0, -1.0]) == 1.0
    many = np.random.default_rng(1).normal(0.5, 1.0, 20)
    assert sign_flip(many) == pytest.approx(paired(many).student, rel=0.8)
    assert 0 < sign_flip(np.arange(1.0, 41.0)) < 1e-3


def test_a_paired_comparison_is_students_test_with_the_sign_flips_beside_it():
    from scipy import stats

    values = draws(0.3, 1.0, seeds=10, seed=3)
    found = paired(values, level=0.95)
    expected = stats.ttest_1samp(values, 0.0)
    assert found.student == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.p == max(found.student, found.flips) and found.pairs == 10
    assert found.spread == pytest.approx(values.std(ddof=1))
    with pytest.raises(ClaimError, match="two pairs"):
        paired([1.0])
    with pytest.raises(ClaimError, match="diverged"):
        paired([1.0, NAN, 2.0])
    with pytest.raises(ClaimError, match="level"):
        paired(values, level=95)


def test_a_table_of_pairs_is_decided_as_a_family():
    clear, against = draws(1.0, 0.1, seeds=8), draws(-1.0, 0.1, seeds=8, seed=1)
    open_ = draws(0.0, 1.0, seeds=8, seed=2)
    assert paired_family([clear, open_, against]) == [1, 0, -1]
    assert paired_family([clear[:7]]) == [0]  # seven pairs
    assert paired_family([[*clear, NAN]]) == [0]
    # p = .03 alone is decided, among eight questions it is not
    weak = draws(0.0, 1.0, seeds=12, seed=5)
    weak = weak - weak.mean()
    weak = weak / weak.std(ddof=1) + 0.72
    assert 0.02 < paired(weak).p < 0.05
    assert paired_family([weak]) == [1] and paired_family([weak] + [[]] * 7)[0] == 0


def test_students_decision_needs_the_sign_flips_too():
    pairs = [1.2, 0.3, 1.7, 0.4, 1.5, -0.4, 2.5, -0.1]
    found = paired(pairs)
    assert found.student < 0.04 and found.flips == 0.0625 == found.p
    assert paired_family([pairs]) == [0] and paired_family([pairs], alone=0.07) == [1]


@pytest.mark.parametrize(
    ("sides", "found"),
    [
        ([1], "verified"),
        ([-1], "refuted"),
        ([0], "inconclusive"),
        ([1, 1], "verified"),
        ([-1, -1], "refuted"),
        ([1, 0], "inconclusive"),
        ([-1, 0], "inconclusive"),
        ([1, -1], "inconclusive"),
        ([1, 1, 1, 1, 1, 1, -1, 1], "inconclusive"),
    ],
)
def test_a_family_speaks_with_one_voice_or_is_mixed(sides, found):
    got, words = family(sides)
    assert got == found
    assert ("mixed" in words) == (1 in sides and -1 in sides)
    if len(sides) > 1:
        assert f"{sides.count(1)} on the reported side, {sides.count(-1)} on the other" in words
    for wrong in ([], [2]):
        with pytest.raises(ClaimError):
            family(wrong)
