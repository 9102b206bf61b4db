"""The rules of the verdicts, each on data whose answer is known."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from mpmath import iv

from mflib.claims import (
    Bound, Claim, ClaimError, Counterexample, Identity, Limit, Rate, Reproduction,
)
from mflib.claims import card
from mflib.claims.intervals import log_slope, mean_interval, slope_interval

SIZES = 2.0 ** np.arange(4, 10)


def claim(kind="identity", id="X-1"):
    return Claim(id, paper="lu2020", where="here", kind=kind, statement="$a < b$.", seed=0)


def measured(check, *data, kind="identity", control=None, **options):
    made = claim(kind)
    made.predict(check)
    check.measure(*data, **options)
    if control is not None:
        check.control("broken", broke="something").measure(*control)
    return made


def noise(rng, exponent, seeds=300, sizes=SIZES):
    return rng.standard_normal((seeds, len(sizes))) * sizes**exponent


# identity

@pytest.mark.parametrize(
    ("error", "verdict"),
    [(1e-13, "verified"), (5e-12, "inconclusive"), (2e-11, "refuted"),
     (math.nan, "inconclusive"), (math.inf, "inconclusive")],
)
def test_identity_rule(error, verdict):
    assert measured(Identity("a = b", 1e-12), error).checks[0].verdict == verdict


def test_identity_error_is_relative_to_the_largest_entry():
    check = Identity("a = b", 1e-3)
    measured(check, torch.tensor([1000.0, 0.5]), torch.tensor([1000.0, 0.0]))
    assert check.outcome.measured == pytest.approx(5e-4)


# rate and limit

def test_a_true_rate_is_verified_and_a_wrong_one_refuted():
    rng = np.random.default_rng(0)
    data = noise(rng, -0.5)
    assert measured(Rate("e", -0.5), SIZES, data, kind="rate").checks[0].verdict == "verified"
    assert measured(Rate("e", -1.0), SIZES, data, kind="rate").checks[0].verdict == "refuted"


def test_few_seeds_cannot_verify():
    data = noise(np.random.default_rng(0), -0.5, seeds=10)
    check = measured(Rate("e", -0.5), SIZES, data, kind="rate").checks[0]
    assert check.verdict == "inconclusive"
    assert check.outcome.details["power"] > 0.1
    assert measured(Rate("e", -0.5), SIZES, data[:1], kind="rate").checks[0].outcome.interval is None


def test_a_small_bias_neither_refutes_nor_hides():
    data = np.ones((8, 1)) * SIZES**-0.97
    check = measured(Rate("e", -1.0), SIZES, data, kind="rate").checks[0]
    assert check.verdict == "verified" and check.outcome.measured == pytest.approx(-0.97)
    assert np.allclose(check.outcome.details["local_slopes"], -0.97)


def test_known_logarithms_are_divided_out():
    data = np.ones((8, 1)) * SIZES**-0.5 * np.sqrt(np.log(SIZES))
    with_log = Rate("e", -0.5, logarithm=0.5)
    assert measured(with_log, SIZES, data, kind="rate").checks[0].verdict == "verified"
    assert measured(Rate("e", -0.5), SIZES, data, kind="rate").checks[0].verdict == "refuted"


@pytest.mark.parametrize("spoil", [math.nan, math.inf])
def test_a_rate_with_nan_or_infinity_is_never_verified(spoil):
    data = np.ones((8, 1)) * SIZES**-1.0
    data[3, 2] = spoil
    assert measured(Rate("e", -1.0), SIZES, data, kind="rate").checks[0].verdict == "inconclusive"


def test_the_geometric_mean_averages_the_slopes_of_problems_of_very_different_size():
    rng = np.random.default_rng(5)
    exponents = -4.0 + 0.01 * rng.standard_normal((16, 1))
    data = 10.0 ** rng.uniform(-8, 0, (16, 1)) * SIZES**exponents
    check = measured(Rate("e", -4.0, statistic="geometric"), SIZES, data, kind="rate").checks[0]
    assert check.verdict == "verified"
    assert check.outcome.measured == pytest.approx(float(exponents.mean()), rel=1e-9)
    data[0, 0] = 0.0
    check = measured(Rate("e", -4.0, statistic="geometric"), SIZES, data, kind="rate").checks[0]
    assert check.verdict == "inconclusive"


def test_a_vanishing_error_has_no_slope():
    check = measured(Rate("e", -1.0), SIZES, np.zeros((8, 6)), kind="rate").checks[0]
    assert check.verdict == "inconclusive" and "vanishes" in check.outcome.reason


def test_the_slope_interval_covers_as_often_as_it_says():
    rng, inside = np.random.default_rng(1), 0
    for _ in range(200):
        _, (lo, hi), _ = slope_interval(SIZES, noise(rng, -0.5, seeds=30))
        inside += lo <= -0.5 <= hi
    assert inside >= 197  # 99.9 % of 200, with room for chance


def test_the_slope_interval_follows_the_theory_of_gaussian_errors():
    _, (lo, hi), _ = slope_interval(SIZES, noise(np.random.default_rng(2), -0.5, seeds=400))
    spread = np.sqrt((np.log(SIZES) - np.log(SIZES).mean()) @ np.log(SIZES))
    assert (hi - lo) / 2 == pytest.approx(3.29 / np.sqrt(800) / spread, rel=0.15)


def test_limits_are_equivalence_tests():
    rng = np.random.default_rng(3)
    samples = 2.0 + 0.01 * rng.standard_normal(50)
    for value, tolerance, verdict in (
        (2.0, 0.02, "verified"), (2.0, 0.001, "inconclusive"), (2.1, 0.02, "refuted"),
    ):
        check = Limit("x", value, tolerance)
        assert measured(check, samples, kind="limit").checks[0].verdict == verdict
    enclosed = Limit("x", 2.0, 0.1)
    assert measured(enclosed, 2.0, kind="limit", interval=(1.95, 2.05)).checks[0].passed


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((1.9, 2.1), "verified"), ((1.8, 2.0), "inconclusive"), ((2.0, 2.2), "inconclusive"),
     ((1.7, 2.3), "inconclusive"), ((1.5, 1.8), "refuted"), ((2.2, 2.5), "refuted")],
)
def test_an_interval_is_judged_on_both_sides_of_the_tolerance(interval, verdict):
    check = Limit("x", 2.0, 0.1001)
    assert measured(check, 2.0, kind="limit", interval=interval).checks[0].verdict == verdict


@pytest.mark.parametrize(
    ("statistic", "expected"),
    [("rms", math.sqrt(34 / 4)), ("mean", 2.5), ("geometric", 2.0)],
)
def test_errors_are_averaged_as_asked_without_their_sign(statistic, expected):
    growth = np.array([1.0, 2.0, 4.0])
    errors = np.array([[1.0], [-1.0], [-4.0], [4.0]]) * growth
    value = slope_interval(SIZES[:3], errors, statistic)[2]
    assert value == pytest.approx(expected * growth)


def test_small_numbers_of_seeds_widen_the_interval_by_students_factor():
    errors = noise(np.random.default_rng(4), -0.5, seeds=5)
    slope, (lo, hi), _ = slope_interval(SIZES, errors)
    rng = np.random.default_rng(9)
    slopes = np.array([
        log_slope(SIZES, np.sqrt((errors[rng.integers(5, size=5)] ** 2).mean(0)))
        for _ in range(20_000)])
    plain = np.quantile(slopes, [0.0005, 0.9995]) - slope
    factor = 8.610 / 3.2905 * math.sqrt(5 / 4)  # Student with 4 degrees of freedom
    assert [lo - slope, hi - slope] == pytest.approx(factor * plain, rel=0.15)


def test_the_mean_interval_is_students():
    mean, (lo, hi) = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert mean == 2.0 and hi - mean == pytest.approx(31.599 / np.sqrt(3), rel=1e-3)


# bound, counterexample, reproduction

def test_a_bound_keeps_its_worst_ratio_and_the_adversary_counts():
    check = Bound("a <= b")
    measured(check, [0.5, 0.9], [1.0, 1.0], kind="bound")
    assert check.verdict == "verified" and check.outcome.measured == pytest.approx(0.9)
    check.adversary([0.99], [1.0])
    assert check.outcome.details["tightness"] == pytest.approx(0.99)
    check.adversary([1.01], [1.0])
    assert check.verdict == "refuted"
    assert measured(Bound("a <= b"), [math.nan], [1.0], kind="bound").checks[0].verdict == (
        "inconclusive")


def test_a_bound_on_negative_numbers_compares_and_does_not_divide():
    assert measured(Bound("a <= b"), [-2.0], [-1.0], kind="bound").checks[0].verdict == "verified"
    assert measured(Bound("a <= b"), [-1.0], [-2.0], kind="bound").checks[0].verdict == "refuted"
    for left, right, ratio in ((-4.0, -1.0, 0.25), (-1.0, -4.0, 4.0), (0.0, 0.0, 0.0)):
        check = measured(Bound("a <= b"), [left], [right], kind="bound").checks[0]
        assert check.outcome.measured == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("relation", "left", "right", "verdict"),
    [
        ("<=", 2.0, 1.0, "refuted"), ("<=", 1.0, 1.0, "verified"),
        ("<", 1.0, 1.0, "refuted"), (">", -1e-17, 0.0, "refuted"), (">=", 0.5, 1.0, "refuted"),
        ("==", Fraction(1, 3), Fraction(1, 3), "verified"),
        ("==", Fraction(1, 3), Fraction(333, 1000), "refuted"),
        ("<=", iv.exp(1), 2.7, "refuted"), ("<=", (1.0, 3.0), (2.0, 2.0), "inconclusive"),
        ("<=", math.nan, 1.0, "inconclusive"),
    ],
)
def test_counterexample_rule(relation, left, right, verdict):
    check = Counterexample("instance", "sentence", relation)
    assert measured(check, left, right, kind="counterexample").checks[0].verdict == verdict


def test_an_enclosure_reports_its_middle_and_its_ends():
    check = Counterexample("instance", "sentence", "<=")
    outcome = measured(check, (3.0, 4.0), 1.0, kind="counterexample").checks[0].outcome
    assert (outcome.measured, outcome.interval) == (3.5, (3.0, 4.0))


def test_a_sentence_is_refuted_only_with_premises_that_hold_and_a_control_that_holds():
    def build(premise, control):
        made = claim("counterexample")
        ground = made.predict(Identity("premise", 1e-12))
        sentence = made.predict(Counterexample("instance", "a <= b"))
        ground.measure(premise)
        sentence.measure(2.0, 1.0)
        if control is not None:
            sentence.control("restored", broke="restored").measure(control, 1.0)
        return made

    assert build(0.0, 0.5).verdict == "refuted" == build(0.0, 0.5).expected
    assert build(1.0, 0.5).verdict == "inconclusive"
    assert build(0.0, 1.5).verdict == "inconclusive"
    assert build(0.0, None).verdict == "inconclusive"


def test_a_reproduction_reports_whichever_way():
    for data, verdict in (([1.0, 1.1, 0.9] * 5, "verified"), ([-1.0, -1.1, -0.9] * 5, "refuted"),
                          ([-1.0, 1.0] * 5, "inconclusive")):
        made = measured(Reproduction("gain"), data, kind="reproduction", control=([-1.0, -1.1] * 9,))
        assert made.checks[0].verdict == verdict and made.expected is None
    # an interval that touches one side only, at a value other than 0
    for interval, verdict in (((0.6, 0.9), "verified"), ((0.4, 0.9), "inconclusive"),
                              ((0.1, 0.4), "refuted")):
        check = Reproduction("gain", ">", 0.5)
        measured(check, 0.5, kind="reproduction", interval=interval)
        assert check.verdict == verdict
    below = Reproduction("cost", "<", 0.5)
    assert measured(below, 0.2, kind="reproduction", interval=(0.1, 0.4)).checks[0].verdict == (
        "verified")


def test_an_open_question_asks_its_controls_for_a_clear_no():
    for control, flipped in (([-1.0, -1.1] * 9, True), ([1.0, 1.1] * 9, False)):
        made = measured(Reproduction("gain"), [1.0, 1.1] * 9, kind="reproduction",
                        control=(control,))
        assert made.controls[0].flipped is flipped


# claims

def test_no_control_no_verification_and_a_stuck_control_blocks_it():
    assert measured(Identity("a", 1e-9), 0.0).verdict == "inconclusive"
    assert measured(Identity("a", 1e-9), 0.0, control=(1.0,)).verdict == "verified"
    assert measured(Identity("a", 1e-9), 0.0, control=(0.0,)).verdict == "inconclusive"
    assert measured(Identity("a", 1e-9), 0.0, control=(math.nan,)).verdict == "inconclusive"


def test_the_weakest_check_decides():
    made = claim()
    first, second = (made.predict(Identity(n, 1e-9)) for n in "ab")
    first.measure(0.0)
    first.control("x", broke="y").measure(1.0)
    assert made.verdict == "inconclusive"  # b is not measured
    second.measure(1.0)
    assert made.verdict == "refuted"
    second.measure(0.0)
    assert made.verdict == "verified"


def test_predictions_come_before_measurements():
    made = measured(Identity("a", 1e-9), 0.0)
    with pytest.raises(ClaimError, match="before the first measurement"):
        made.predict(Identity("b", 1e-9))
    with pytest.raises(ClaimError, match="predict before measuring"):
        Identity("c", 1e-9).measure(0.0)


def test_the_record_is_json_and_travels_in_the_output_metadata():
    made = measured(Identity("a", 1e-9), math.nan)
    data, metadata = made._repr_mimebundle_()
    assert json.loads(json.dumps(metadata, allow_nan=False))["mflib"]["id"] == "X-1"
    assert r"\(a &lt; b\)" in data["text/html"] and "X-1" in data["text/plain"]


def test_a_card_names_the_check_of_every_control_and_writes_signs():
    made = claim()
    checks = [made.predict(Identity(name, 1e-9)) for name in ("a <= b", "b")]
    for check in checks:
        check.measure(0.0)
        check.control("x", broke="y").measure(1.0)
    record = made.record()
    assert "<i>a ≤ b</i>: 1, refuted" in card.html(record)
    assert "x (broken: y); b: 1, refuted" in card.text(record)
    assert card.broken({"broke": "restored: a bias"}) == "restored: a bias"
    assert '0 within <span class="mf-number">1e-09</span>' in card.html(record)


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("beta^2 <= tau_0", "β<sup>2</sup> ≤ τ<sub>0</sub>"),
        ("u . grad_u Phi", "u . ∇<sub>u</sub> Φ"),
        ("sqrt(2E) of a gradient", "√(2E) of a gradient"),
        ("-4 [-4.01, 3.98e-05]", '<span class="mf-number">-4</span> [<span class="mf-number">'
         '-4.01</span>, <span class="mf-number">3.98e-05</span>]'),
        ("y - 1, n-1, 5e10", "y - 1, n-1, 5e10"),
        (r"$x_1^2 < \beta$ & beta", r"\(x_1^2 &lt; \beta\) &amp; β"),
    ],
)
def test_ascii_mathematics_becomes_signs_outside_formulas(typed, shown):
    assert card.mathematics(typed) == shown


def test_a_bound_of_zero_that_is_passed_shows_the_excess():
    made = measured(Bound("f"), [0.5, 0.5], [1.0, 1.0], control=([0.5, 0.25], [1.0, 0.0]))
    record = made.record()
    assert card.measured(record["checks"][0]) == "worst ratio 0.5"
    assert card.measured(record["controls"][0]) == "excess 0.25"
    check = made.checks[0]
    check.adversary([0.3], [0.0])
    assert check.verdict == "refuted" and check.outcome.details["tightness"] is None
    assert card.measured(check.record()) == "excess 0.3"


@pytest.mark.parametrize(
    ("value", "words"),
    [(1e-12, "1e-12"), (1.5e-7, "1.5e-07"), (-1.234567e9, "-1.23e+09"), (0.05, "0.05"),
     (99_999.0, "99999"), (0, "0"), (None, "–"), ("left <= right", "left <= right")],
)
def test_numbers_are_written_short(value, words):
    assert card.number(value) == words


def test_fresh_claims_are_not_run():
    made = claim()
    made.predict(Identity("a", 1e-9))
    assert made.verdict == "not run"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Claim("", paper="p", where="w", kind="rate", statement="s"), "id"),
        (lambda: Claim("X-1", paper="lu2020", where="w", kind="guess", statement="s"),
         "kind.*guess"),
        (lambda: Identity("a", 0.0), "tolerance"),
        (lambda: Rate("a", math.nan), "slope"),
        (lambda: Rate("a", 1.0, statistic="max"), "statistic"),
        (lambda: Counterexample("a", "b", "~"), "relation"),
        (lambda: measured(Rate("a", 1.0), [1, 2, 3], np.ones((4, 2))), "errors: shape"),
        (lambda: measured(Rate("a", 1.0), [1, 2], np.ones((4, 2))), "at least three"),
        (lambda: measured(Identity("a", 1.0), []), "empty"),
    ],
)
def test_impossible_claims_are_named(call, message):
    with pytest.raises(ClaimError, match=message):
        call()
