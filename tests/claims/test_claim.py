"""How checks, premises and controls make one verdict: combinations, not branches."""

import itertools
import json
import math

import numpy as np
import pytest
from given import SIZES, claim, measured, power_law

from mflib.claims import (
    Below,
    Bound,
    Claim,
    ClaimError,
    Counterexample,
    Identity,
    Limit,
    MeanBound,
    Rate,
    Reproduction,
    ShareBound,
)
from mflib.claims.card import badge

ZERO, ONE = np.zeros(1), np.ones(1)

#: Errors for an Identity with tolerance 1e-9, by the verdict they get.
ERROR = {"verified": 0.0, "inconclusive": 5e-9, "refuted": 1.0}
_shift = itertools.count(1)


def error(verdict):
    """An error with this verdict, another number each time: controls must differ."""
    return ERROR[verdict] * (1 + 1e-6 * next(_shift)) + 1e-13 * next(_shift)


def identity_claim(predicted, premises=(), controls=None, kind="identity"):
    """A claim of identities with these verdicts; None leaves a check unmeasured."""
    made = claim(kind)
    checks = [made.predict(Identity(f"p{i}", 1e-9)) for i in range(len(predicted))]
    grounds = [made.premise(Identity(f"g{i}", 1e-9)) for i in range(len(premises))]
    for check, verdict in zip(checks + grounds, (*predicted, *premises), strict=True):
        if verdict is not None:
            check.measure(error(verdict))
    if controls is None:
        controls = [["refuted"]] * len(predicted)
    for check, verdicts in zip(checks, controls, strict=True):
        for i, verdict in enumerate(verdicts):
            control = check.control(f"c{i}", broke="something")
            if verdict is not None:
                control.measure(error(verdict))
    return made


V, R, N, _ = "verified", "refuted", "inconclusive", None


@pytest.mark.parametrize(
    ("predicted", "premises", "controls", "verdict", "reason"),
    [
        ([V], [], None, V, "every check holds"),
        ([V, V], [V], None, V, "every check holds"),
        ([_], [], None, "not run", "nothing was measured"),
        # premises first: nothing follows from a false one
        ([V], [R], None, N, "premise g0"),
        ([V], [N], None, N, "premise g0"),
        ([R], [R], None, N, "premise g0"),
        ([R], [N], None, N, "premise g0"),
        ([V], [V, R], None, N, "premise g1"),
        ([V], [_], None, N, "premise g0: not measured"),
        ([R], [_], None, N, "premise g0: not measured"),
        # then what is not measured
        ([V, _], [], None, N, "p1: not measured"),
        ([R, _], [], None, N, "p1: not measured"),
        # then the refuted beside anything
        ([R], [V], None, R, "p0: beyond"),
        ([N, R], [], None, R, "p1: beyond"),
        ([R, N], [], None, R, "p0: beyond"),
        ([V, R, N], [V], None, R, "p1: beyond"),
        ([R, V], [], [[], []], R, "p0: beyond"),
        # then the inconclusive
        ([V, N], [], None, N, "p1: just beyond"),
        ([N, V], [V], [[], [V]], N, "p0: just beyond"),
        # then controls, each of its own
        ([V], [], [[]], N, "no control of p0"),
        ([V, V], [], [["refuted"], []], N, "no control of p1"),
        ([V], [], [[_]], N, "'c0' of p0 was not measured"),
        ([V], [], [[V]], N, "'c0' of p0 did not flip"),
        ([V], [], [[N]], N, "'c0' of p0 decides nothing"),
        ([V], [], [[R, V]], N, "'c1' of p0 did not flip"),
        ([V], [], [[V, R]], N, "'c0' of p0 did not flip"),
        ([V], [], [[R, N]], N, "'c1' of p0 decides nothing"),
        ([V], [], [[R, R]], V, "every check holds"),
        ([V, V], [], [[R], [V]], N, "'c0' of p1 did not flip"),
    ],
)
def test_the_weakest_decides_in_every_combination(predicted, premises, controls, verdict, reason):
    made = identity_claim(predicted, premises, controls)
    assert made.verdict == verdict and reason in made.judge()[1]


def test_the_weakest_decides_among_three_checks_in_any_order():
    for found in itertools.product([V, R, N], repeat=3):
        made = identity_claim(found)
        assert made.verdict == (R if R in found else N if N in found else V)


def sentence_claim(instances, premises=(V,), controls=None):
    made = claim("counterexample")
    grounds = [made.predict(Identity(f"g{i}", 1e-9)) for i in range(len(premises))]
    checks = [made.predict(Counterexample(f"s{i}", "a < b", "<")) for i in range(len(instances))]
    left = {R: 2.0, V: 0.5, N: 1.0}
    for check, verdict in zip(grounds, premises, strict=True):
        check.measure(error(verdict))
    for check, verdict in zip(checks, instances, strict=True):
        check.measure(left[verdict], ONE)
    for check, found in zip(checks, controls or [[V]] * len(checks), strict=True):
        for i, verdict in enumerate(found):
            check.control(f"c{i}", broke="restored: something").measure(
                left[verdict] + 1e-15 * next(_shift), ONE
            )
    return made


@pytest.mark.parametrize(
    ("instances", "premises", "controls", "verdict", "reason"),
    [
        ([R], [V], None, R, "the instance violates"),
        ([R, R], [], None, R, "violates"),
        ([R], [N], None, N, "premise g0"),
        ([R], [R], None, N, "premise g0"),
        ([V], [N], None, N, "premise g0"),
        ([R], [V, N], None, N, "premise g1"),
        ([V], [V], None, V, "s0: the instance satisfies"),
        ([R, V], [V], None, V, "s1"),
        ([R, N], [V], None, N, "s1"),
        ([V, N], [V], None, N, "s1"),
        ([R], [V], [[]], N, "no control of s0"),
        ([R], [V], [[R]], N, "did not flip"),
        ([R], [V], [[N]], N, "decides nothing"),
        ([R], [V], [[V, R]], N, "'c1'"),
        ([R, R], [V], [[V], []], N, "no control of s1"),
    ],
)
def test_a_sentence_is_refuted_only_with_premises_and_controls_that_hold(
    instances, premises, controls, verdict, reason
):
    made = sentence_claim(instances, premises, controls)
    assert made.verdict == verdict and reason in made.judge()[1]
    assert made.expected == R and all(
        c.role == "premise" for c in made.checks if c.kind == "identity"
    )


def draws(side, seed):
    return {V: 1.0, R: -1.0, N: 0.0}[side] + 0.3 * np.random.default_rng(seed).normal(size=16)


def question_claim(sides, controls):
    made = claim("reproduction")
    checks = [made.predict(Reproduction(f"q{i}")) for i in range(len(sides))]
    for i, (check, side) in enumerate(zip(checks, sides, strict=True)):
        check.measure(draws(side, i))
    for i, (check, side) in enumerate(zip(checks, controls, strict=True)):
        if side is not None:
            check.control("c", broke="something").measure(draws(side, 100 + i))
    return made


@pytest.mark.parametrize(
    ("sides", "controls", "verdict", "reason"),
    [
        ([V], [R], V, "reported side"),
        ([V], [V], N, "did not flip"),
        ([V], [N], N, "nothing"),
        ([V], [_], N, "no control of q0"),
        ([N], [R], N, "1 open"),
        ([R], [V], R, "other side"),
        ([R], [R], N, "did not flip"),
        ([R], [_], N, "no control"),
        ([V, V], [R, R], V, "2 on the reported side"),
        ([V, R], [R, V], N, "mixed"),
        ([V, N], [R, R], N, "1 on the reported side, 0 on the other, 1 open"),
        ([R, N], [R, R], N, "0 on the reported side, 1 on the other, 1 open"),
        ([V, V], [R, _], N, "no control of q1"),
    ],
)
def test_open_questions_speak_as_a_family(sides, controls, verdict, reason):
    made = question_claim(sides, controls)
    assert made.verdict == verdict and reason in made.judge()[1] and made.expected is None


@pytest.mark.parametrize(
    ("kind", "main", "role"),
    [
        ("reproduction", Reproduction("q"), "premise"),
        ("counterexample", Counterexample("s", "a < b"), "premise"),
        ("rate", Rate("r", 1.0), "predicted"),
        ("bound", Bound("c"), "predicted"),
        ("limit", Limit("l", 1.0, 0.1), "predicted"),
    ],
)
def test_beside_a_question_or_a_sentence_every_other_check_is_a_premise(kind, main, role):
    made = claim(kind)
    assert made.predict(Identity("a", 1e-9)).role == role
    assert made.predict(main).role == "predicted"
    assert made.premise(Identity("b", 1e-9)).role == "premise"
    assert main in made.predicted and len(made.predicted) == 1 + (role == "predicted")


def test_an_open_question_asks_its_control_for_a_clear_no():
    assert question_claim([N], [R]).controls[0].state == "flipped"
    assert question_claim([N], [N]).controls[0].state == "weak"
    assert question_claim([N], [V]).controls[0].state == "undecided"
    assert question_claim([V], [V]).controls[0].state == "stuck"
    assert question_claim([R], [R]).controls[0].state == "stuck"


@pytest.mark.parametrize(
    ("check", "control", "state"),
    [
        (V, R, "flipped"),
        (V, V, "stuck"),
        (V, N, "weak"),
        (R, R, "stuck"),
        (R, V, "flipped"),
        (R, N, "weak"),
        (N, R, "undecided"),
        (N, V, "undecided"),
        (N, N, "weak"),
        (V, None, "not run"),
    ],
)
def test_a_control_says_what_became_of_it(check, control, state):
    made = identity_claim([check], [], [[control]])
    assert made.controls[0].state == state
    assert made.controls[0].flipped == (state == "flipped")


# bounds in a claim


def bound_claim(ratios, controls=True, kind="bound", extra=None):
    made = claim(kind)
    checks = [made.predict(Bound(f"b{i}")) for i in range(len(ratios))]
    other = made.predict(extra) if extra else None
    for i, (check, ratio) in enumerate(zip(checks, ratios, strict=True)):
        check.measure([ratio], ONE)
        if controls:
            check.control("c", broke="something").measure([2.0 + i], ONE)
    if other:
        other.measure(ZERO)
        other.control("c", broke="something").measure(ONE)
    return made


@pytest.mark.parametrize(
    ("ratios", "verdict", "sharpness", "word"),
    [
        ([1.0], V, "attained", "verified"),
        ([0.6], V, "sharp", "verified"),
        ([0.3], V, "not sharp", "holds, not sharp"),
        ([1.0, 0.3], V, "not sharp", "holds, not sharp"),
        ([1.0, 1e-3], V, "idle", "holds, not sharp"),
        ([1e-3], N, "idle", "inconclusive"),
        ([1e-3, 1e-4], N, "idle", "inconclusive"),
        ([2.0], R, "attained", "refuted"),
    ],
)
def test_a_bound_that_no_trial_came_near_is_not_called_verified(ratios, verdict, sharpness, word):
    made = bound_claim(ratios)
    assert (made.verdict, made.sharpness) == (verdict, sharpness)
    assert badge(made.record())[1] == word


def test_a_loose_bound_in_another_claim_shows_in_its_badge():
    made = bound_claim([0.1], kind="identity", extra=Identity("a", 1e-9))
    assert made.verdict == V and "not sharp" in badge(made.record())[1]
    made = bound_claim([1e-4], kind="identity", extra=Identity("a", 1e-9))
    assert made.verdict == V  # not all its checks are idle bounds
    made = bound_claim([0.9], kind="identity", extra=Identity("a", 1e-9))
    assert badge(made.record())[1] == "verified"


def test_a_bound_on_a_mean_that_is_far_from_it_is_not_called_verified_either():
    rng = np.random.default_rng(0)
    for scale, word in ((0.9, "verified"), (0.1, "holds, not sharp"), (1e-3, "inconclusive")):
        made = claim("bound")
        check = made.predict(MeanBound("E X <= 1"))
        check.measure(scale * (1 + 0.01 * rng.normal(size=24)), 1.0)
        check.control("c", broke="something").measure(2 + 0.01 * rng.normal(size=24), 1.0)
        assert badge(made.record())[1] == word


def test_an_attained_case_found_by_the_adversary_makes_a_bound_sharp():
    made = bound_claim([0.1])
    made.checks[0].adversary([1.0], ONE)
    assert made.sharpness == "attained"


# order


def test_predictions_come_before_measurements():
    made = measured(Identity("a", 1e-9), 0.0)
    for add in (made.predict, made.premise):
        with pytest.raises(ClaimError, match="before the first measurement"):
            add(Identity("b", 1e-9))
    for call in (Identity("c", 1e-9).measure, Identity("c", 1e-9).control("x", "y").measure):
        with pytest.raises(ClaimError, match="predict before measuring"):
            call(0.0)


def test_a_check_and_a_control_are_measured_once():
    made = measured(Identity("a", 1e-9), 1.0, control=(2.0,))
    with pytest.raises(ClaimError, match="is measured already"):
        made.checks[0].measure(ZERO)
    with pytest.raises(ClaimError, match="is measured already"):
        made.controls[0].measure(ZERO)
    assert made.verdict == "refuted" and made.checks[0].outcome.measured == 1.0


def test_a_refuted_bound_cannot_be_measured_away():
    made = claim("bound")
    check = made.predict(Bound("a"))
    check.measure([3.0], ONE)
    check.adversary([0.5], ONE)
    with pytest.raises(ClaimError, match="measured already"):
        check.measure([0.5], ONE)
    assert made.verdict == "refuted"


def test_a_measurement_that_is_refused_may_be_given_again_in_its_right_shape():
    made = claim("rate")
    check = made.predict(Rate("e", -0.5, statistic="geometric"))
    with pytest.raises(ClaimError, match="shape"):
        check.measure(SIZES, np.ones((24, 3)))
    check.measure(SIZES, power_law(-0.5))
    assert check.verdict == "verified"


def test_names_are_given_once():
    made = claim()
    check = made.predict(Identity("a", 1e-9))
    with pytest.raises(ClaimError, match="two checks are called 'a'"):
        made.premise(Identity("a", 1e-9))
    check.control("x", broke="y")
    with pytest.raises(ClaimError, match="two controls are called 'x'"):
        check.control("x", broke="z")
    with pytest.raises(ClaimError, match="belongs to X-1"):
        claim(id="X-2").predict(check)
    with pytest.raises(ClaimError, match="control: say what"):
        check.control("w", broke="")


def test_a_prediction_cannot_be_changed_after_it_is_stated():
    check = Rate("e", -0.5)
    check.tolerance = 0.05  # not stated yet
    measured(check, SIZES, power_law(-0.4))
    for name, value in (
        ("tolerance", 9.0),
        ("predicted", -0.4),
        ("statistic", "mean"),
        ("role", "premise"),
        ("expected", "refuted"),
        ("name", "f"),
        ("outcome", None),
        ("controls", ()),
    ):
        with pytest.raises(AttributeError):
            setattr(check, name, value)
    assert check.tolerance == 0.05 and check.verdict == "refuted"
    with pytest.raises(AttributeError):
        check.claim.checks = ()
    assert isinstance(check.claim.checks, tuple) and isinstance(check.controls, tuple)


@pytest.mark.parametrize(
    "kind", ["identity", "rate", "bound", "limit", "counterexample", "reproduction"]
)
def test_a_claim_has_a_check_of_its_own_kind(kind):
    checks = {
        "identity": Identity("a", 1e-9),
        "rate": Rate("a", 1.0),
        "bound": Bound("a"),
        "limit": Limit("a", 1.0, 0.1),
        "counterexample": Counterexample("a", "b"),
        "reproduction": Reproduction("a"),
    }
    for name, check in checks.items():
        check.name = name
    own = checks.pop(kind)
    made = claim(kind)
    others = [made.predict(check) for check in checks.values()]
    with pytest.raises(ClaimError, match=f"a claim of kind {kind} predicts a check of that kind"):
        others[0].measure(ONE, 2 * ONE)
    made.predict(own)  # nothing was measured yet
    made.begin()


def test_a_premise_does_not_make_the_kind_of_a_claim():
    made = claim("identity")
    made.premise(Identity("a", 1e-9))
    with pytest.raises(ClaimError, match="predicts a check"):
        made.begin()


@pytest.mark.parametrize(
    ("check", "kinds"),
    [
        (Below("a", 1.0), ("limit", "bound")),
        (MeanBound("a"), ("bound",)),
        (ShareBound("a", 0.1), ("bound",)),
    ],
)
def test_thresholds_carry_claims_of_limits_and_bounds(check, kinds):
    assert check.carries == kinds


# controls


def test_the_same_numbers_are_no_control_of_two_checks():
    made = claim()
    first, second = (made.predict(Identity(n, 1e-9)) for n in "ab")
    for check in (first, second):
        check.measure(ZERO + 1e-12 * next(_shift))
    broken = np.array([1.0, 2.0])
    first.control("x", broke="y").measure(broken)
    second.control("x", broke="y").measure(broken.copy())
    assert made.controls[0].state == "flipped" and made.controls[1].state == "weak"
    assert made.verdict == "inconclusive" and "same numbers" in made.judge()[1]
    assert "'x' of 'a'" in made.controls[1].outcome.reason


def test_one_broken_run_read_two_ways_is_a_control_of_both():
    made = claim()
    first, second = (made.predict(Identity(n, 1e-9)) for n in "ab")
    for check in (first, second):
        check.measure(ZERO + 1e-12 * next(_shift))
    broken = np.array([1.0, 2.0])
    first.control("x", broke="y").measure(broken, np.array([3.0, 3.0]))
    second.control("x", broke="y").measure(broken, np.array([4.0, 4.0]))
    assert made.verdict == "verified"


def test_a_check_without_a_control_says_so_and_a_premise_needs_none():
    made = identity_claim([V, V], [V], [["refuted"], []])
    first, second, ground = made.record()["checks"]
    assert (first["unsaid"], second["unsaid"], ground["unsaid"]) == (
        [],
        ["no control of its own"],
        [],
    )
    assert [c["role"] for c in (first, second, ground)] == ["predicted", "predicted", "premise"]


# records


def test_the_record_names_the_check_that_decided():
    assert identity_claim([V, R]).record()["deciding"] == "p1"
    assert identity_claim([V], [N]).record()["deciding"] == "g0"
    assert identity_claim([V, V], [], [[R], [V]]).record()["deciding"] == "p1"
    made = bound_claim([0.2, 0.9, 0.5])
    assert made.record()["deciding"] == "b1"  # the nearest to failing
    assert made.record()["sharpness"] == "not sharp"
    assert claim().record()["deciding"] is None


def test_the_record_is_json_and_travels_in_the_output_metadata():
    made = measured(Identity("a", 1e-9), math.nan)
    data, metadata = made._repr_mimebundle_()
    assert json.loads(json.dumps(metadata, allow_nan=False))["mflib"]["id"] == "X-1"
    assert r"\(a &lt; b\)" in data["text/html"] and "X-1" in data["text/plain"]
    made = measured(Rate("e", -0.5), SIZES, power_law(-0.5), control=(SIZES, power_law(0.0)))
    json.dumps(made.record(), allow_nan=False)
    made = measured(Counterexample("a", "b"), (1.0, 2.0), 0.5)
    json.dumps(made.record(), allow_nan=False)


def test_fresh_claims_are_not_run():
    made = claim()
    assert made.verdict == "not run"
    made.predict(Identity("a", 1e-9))
    assert made.verdict == "not run" and made.sharpness is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(id=""), "id"),
        (dict(kind="guess"), "kind.*guess"),
        (dict(where=" "), "where"),
        (dict(statement=None), "statement"),
    ],
)
def test_impossible_claims_are_named(options, message):
    with pytest.raises(ClaimError, match=message):
        Claim(
            **(
                {"id": "X-1", "paper": "lu2020", "where": "w", "kind": "rate", "statement": "s"}
                | options
            )
        )
