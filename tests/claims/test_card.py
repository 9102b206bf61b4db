"""Cards: what a reader is shown of a claim."""

import numpy as np
import pytest
from given import SIZES, claim, measured, power_law

from mflib.claims import Below, Bound, Identity, Limit, Rate, Reproduction, card


def test_a_card_names_the_check_of_every_control_and_writes_signs():
    made = claim()
    checks = [made.predict(Identity(name, 1e-9)) for name in ("a <= b", "b")]
    for check, broken in zip(checks, (1.0, 2.0), strict=True):
        check.measure(1e-12 * broken)
        check.control("x", broke="y").measure(broken)
    record = made.record()
    assert "<i>a ≤ b</i>: 1, refuted" in card.html(record)
    assert "x (broken: y); b: 2, refuted" in card.text(record)
    assert card.broken({"broke": "restored: a bias"}) == "restored: a bias"
    assert '0 within <span class="mf-number">1e-09</span>' in card.html(record)


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("beta^2 <= tau_0", "β<sup>2</sup> ≤ τ<sub>0</sub>"),
        ("u . grad_u Phi", "u . ∇<sub>u</sub> Φ"),
        ("sqrt(2E) of a gradient", "√(2E) of a gradient"),
        (
            "-4 [-4.01, 3.98e-05]",
            '<span class="mf-number">-4</span> [<span class="mf-number">'
            '-4.01</span>, <span class="mf-number">3.98e-05</span>]',
        ),
        ("y - 1, n-1, 5e10", "y - 1, n-1, 5e10"),
        (r"$x_1^2 < \beta$ & beta", r"\(x_1^2 &lt; \beta\) &amp; β"),
    ],
)
def test_ascii_mathematics_becomes_signs_outside_formulas(typed, shown):
    assert card.mathematics(typed) == shown


def test_a_bound_of_zero_that_is_passed_shows_the_excess():
    made = measured(Bound("f"), [0.5, 0.5], [1.0, 1.0], control=([0.5, 0.25], [1.0, 0.0]))
    record = made.record()
    assert card.measured(record["checks"][0]) == "worst ratio 0.5, sharp"
    assert card.measured(record["controls"][0]) == "excess 0.25"
    check = made.checks[0]
    check.adversary([0.3], [0.0])
    assert check.verdict == "refuted" and check.outcome.details["tightness"] is None
    assert card.measured(check.record()) == "excess 0.3"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1e-12, "1e-12"),
        (1.5e-7, "1.5e-07"),
        (-1.234567e9, "-1.23e+09"),
        (0.05, "0.05"),
        (99_999.0, "99999"),
        (0, "0"),
        (None, "–"),
        ("left <= right", "left <= right"),
    ],
)
def test_numbers_are_written_short(value, words):
    assert card.number(value) == words


def shown(made):
    """The card in both forms, as one text."""
    record = made.record()
    return card.text(record) + card.html(record)


def test_a_rate_shows_its_end_its_power_and_the_level_of_its_interval():
    made = measured(
        Rate("e", -0.5, competing=-1.0), SIZES, power_law(-0.5), control=(SIZES, power_law(0.0))
    )
    words = shown(made)
    details = made.checks[0].outcome.details
    assert f"at the large end {details['end_slope']:.3f} [" in words
    assert f"refutes, 97.5 % of the time, an exponent off by {details['power']:g}" in words
    assert "would have rejected" not in words
    assert "measured [99 %]" in words and "99.9" not in words
    assert "nearest competing exponent -1" in words and "24 seeds" in words
    assert "the average rests on" in words  # rms under a shared scale
    steady = measured(Rate("e", -0.5, statistic="geometric"), SIZES, power_law(-0.5))
    assert "the average rests on" not in shown(steady)


def test_what_is_not_said_is_shown_with_its_check_and_listed():
    made = measured(Rate("e", -0.5), SIZES, power_law(-0.5))
    assert "no control of its own; no competing exponent named" in shown(made)
    assert card.unsaid(made.record()) == [
        "e: no control of its own",
        "e: no competing exponent named",
    ]
    made = claim()
    made.predict(Identity("a", 1e-9))
    made.premise(Identity("b", 1e-9))
    assert card.unsaid(made.record()) == ["a: no control of its own"]
    assert "a premise: needed, proves nothing" in shown(made)


def test_an_average_that_decides_the_exponent_says_so():
    rng = np.random.default_rng(4)
    freedom = np.array([24, 12, 6, 3, 2, 1])
    errors = np.sqrt(rng.chisquare(freedom, size=(400, 6)) / freedom) * SIZES**-0.5
    assert "the exponent depends on the average" in shown(
        measured(Rate("e", -0.5, 0.15), SIZES, errors)
    )


def test_a_verdict_that_a_rerun_may_change_says_how_likely():
    samples = np.linspace(0.9, 1.1, 24)
    assert "likely to change in a rerun" in shown(measured(Limit("x", 1.0, 0.05), samples))
    assert "likely to change" not in shown(measured(Limit("x", 1.0, 0.15), samples))


@pytest.mark.parametrize(("change", "said"), [(0.02, "2% likely to change"), (0.009, "")])
def test_a_chance_of_one_in_a_hundred_is_worth_a_word(change, said):
    record = measured(Limit("x", 1.0, 0.15), np.linspace(0.9, 1.1, 24)).record()
    record["checks"][0]["details"]["change"] = change
    assert ("likely to change" in card.text(record)) == bool(said)
    assert said in card.text(record)


def test_a_control_that_did_not_flip_says_why():
    few = measured(Rate("e", -0.5), SIZES, power_law(-0.5), control=(SIZES, power_law(0.0, 5)))
    assert "DID NOT FLIP (decides nothing: 5 independent seeds" in card.text(few.record())
    stuck = measured(Identity("a", 1e-9), 0.0, control=(0.0,))
    assert "DID NOT FLIP (stuck)" in card.text(stuck.record())
    assert "did not flip, stuck" in card.html(stuck.record())
    assert "mf-stuck" in card.html(stuck.record())


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (1.0, "attained;"),
        (0.6, "sharp;"),
        (0.2, "not sharp (a factor 5)"),
        (0.004, "idle (a factor 250)"),
    ],
)
def test_a_bound_shows_how_near_its_trials_came(ratio, words):
    assert words in shown(measured(Bound("a"), [ratio, 0.0], [1.0, 1.0]))
    assert "1 of them 0 <= 0" in card.text(measured(Bound("a"), [ratio, 0.0], [1.0, 0.0]).record())


def test_a_small_quantity_shows_for_what_share_of_seeds_it_speaks():
    assert "at least 39% of all seeds" in shown(measured(Below("end", 1.0), np.zeros(8)))


def test_an_interval_at_another_level_says_so():
    made = measured(Reproduction("gain"), 1.0, interval=(0.5, 1.5), seeds=9, level=0.95)
    assert "1.0 [0.5, 1.5] at 95 %" in card.text(made.record())


@pytest.mark.parametrize(
    ("verdict", "expected", "kind", "sharpness", "word", "colour"),
    [
        ("verified", "verified", "bound", "sharp", "verified", "good"),
        ("verified", "verified", "bound", "attained", "verified", "good"),
        ("verified", "verified", "bound", "not sharp", "holds, not sharp", "good"),
        ("verified", "verified", "bound", "idle", "holds, not sharp", "good"),
        ("verified", "verified", "bound", "no ratio", "holds, not sharp", "good"),
        ("verified", "verified", "rate", "idle", "verified (a bound in it is not sharp)", "good"),
        ("verified", "verified", "rate", None, "verified", "good"),
        ("refuted", "verified", "bound", "not sharp", "refuted", "bad"),
        ("refuted", "refuted", "counterexample", None, "refuted, as predicted", "good"),
        ("verified", "refuted", "counterexample", None, "verified, against prediction", "bad"),
        ("verified", None, "reproduction", None, "reproduced", "open"),
        ("refuted", None, "reproduction", None, "not reproduced", "open"),
        ("inconclusive", None, "reproduction", None, "inconclusive", "open"),
        ("inconclusive", "verified", "bound", "not sharp", "inconclusive", "open"),
        ("not run", "verified", "bound", None, "not run", "open"),
    ],
)
def test_a_badge_says_no_more_than_the_evidence(verdict, expected, kind, sharpness, word, colour):
    record = {"verdict": verdict, "expected": expected, "kind": kind, "sharpness": sharpness}
    assert card.badge(record)[1:] == (word, colour)


def test_a_mean_of_skewed_samples_says_that_its_interval_is_short():
    skewed = np.exp(np.linspace(-2, 2, 24))
    for samples, said in (
        (skewed, True),
        (np.linspace(0.9, 1.1, 24), False),
        (np.exp(np.linspace(-2, 2, 60)), False),
    ):
        words = shown(measured(Reproduction("gain"), samples))
        assert ("skewness" in words) == said
    assert "skewness 1." in shown(measured(Limit("x", 1.7, 0.1), skewed))


def test_digits_are_cut_to_the_interval_and_zero_has_no_sign():
    assert card.rounded(-0.0004, [-0.02, 0.02]) == "0.00"
    assert card.rounded(1234.56, [1200.0, 1270.0]) == "1235"
    assert card.rounded(0.5, [0.5, 0.5]) == "0.5"
    assert card.rounded(0.123456789, [0.123456, 0.123458]) == "0.123457"
    assert card.rounded(2.5e-7, [1e-7, 4e-7]) == "2.5e-07"
    assert card.rounded(1.5, [1.0, float("inf")]) == "1.5" and card.rounded(None, None) == "–"
    assert card.span([-1.03333, -0.973856]) == "[-1.03, -0.97]"
    made = measured(Rate("r", -0.5, 0.06, competing=-1.0), SIZES, power_law(-0.5))
    check = made.record()["checks"][0]
    ends = check["interval"]
    assert f"measured {card.rounded(check['measured'], ends)} {card.span(ends)}" in shown(made)
