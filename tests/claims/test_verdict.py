"""The rule that combines checks and controls, asked from records alone."""

import itertools

import pytest

from mflib.claims import Bound, Claim, Identity
from mflib.claims.verdict import judge


def check(verdict, name="a", kind="identity", role="predicted", **details):
    return dict(
        name=name,
        kind=kind,
        role=role,
        verdict=verdict,
        reason="it was so",
        measured=0.5,
        predicted=0.0,
        interval=None,
        tolerance=1.0,
        details=details,
    )


def control(verdict, of="a"):
    return dict(name="broken", check=of, verdict=verdict, reason="it was so")


GOOD = check("verified"), control("refuted")

#: What decides, the strongest first: a part of a claim, and the verdict that it makes.
RANKS = [
    ([check("refuted", "p", role="premise")], [], "inconclusive"),
    ([check("not run", "n")], [], "inconclusive"),
    ([check("refuted", "r")], [control("verified", "r")], "refuted"),
    ([check("inconclusive", "i")], [control("refuted", "i")], "inconclusive"),
    ([check("verified", "u")], [], "inconclusive"),
    ([check("verified", "s")], [control("verified", "s")], "inconclusive"),
    ([GOOD[0]], [GOOD[1]], "verified"),
]


@pytest.mark.parametrize(("strong", "weak"), itertools.combinations(range(len(RANKS)), 2))
@pytest.mark.parametrize("turned", [False, True])
def test_the_weakest_part_decides_in_whatever_order_it_stands(strong, weak, turned):
    parts = [RANKS[strong], RANKS[weak]][:: -1 if turned else 1]
    checks, controls = (sum((part[k] for part in parts), []) for k in (0, 1))
    found = judge("identity", checks, controls)
    assert found.verdict == RANKS[strong][2]
    assert found.deciding == RANKS[strong][0][0]["name"]


@pytest.mark.parametrize(
    ("kind", "checks", "controls", "found"),
    [
        ("identity", [], [], "not run"),
        ("identity", [check("verified", role="premise")], [], "inconclusive"),
        ("identity", [GOOD[0]], [control("refuted", "another")], "inconclusive"),
        ("counterexample", [check("refuted", kind="counterexample")], [GOOD[1]], "inconclusive"),
        (
            "counterexample",
            [check("refuted", kind="counterexample"), check("verified", "b")],
            [control("verified")],
            "refuted",
        ),
        (
            "counterexample",
            [check("refuted", kind="counterexample"), check("refuted", "b")],
            [control("verified")],
            "inconclusive",
        ),
        ("reproduction", [check("refuted", kind="reproduction")], [control("verified")], "refuted"),
        ("bound", [check("verified", kind="bound", tightness=0.009)], [GOOD[1]], "inconclusive"),
        ("bound", [check("verified", kind="bound", tightness=0.02)], [GOOD[1]], "verified"),
        (
            "bound",
            [check("verified", kind="bound", tightness=0.001), check("verified", "b")],
            [GOOD[1], control("refuted", "b")],
            "verified",
        ),
    ],
)
def test_kinds_of_claim_and_idle_bounds(kind, checks, controls, found):
    assert judge(kind, checks, controls).verdict == found


@pytest.mark.parametrize("ratio", [1e-4, 0.3, 0.8, 1.5])
def test_a_claim_and_its_record_say_the_same(ratio):
    claim = Claim("X-1", paper="lu2020", where="here", kind="bound", statement="A.")
    bound, same = claim.predict(Bound("far")), claim.premise(Identity("a = a", 1e-9))
    value = 2.0 * ratio
    bound.measure(value, 2.0)
    same.measure(value - 2 * ratio)
    bound.control("twice", broke="a factor").measure(2 + value, 2.0)
    record = claim.record()
    again = judge(record["kind"], record["checks"], record["controls"])
    assert again == (record["verdict"], record["reason"], record["deciding"])
