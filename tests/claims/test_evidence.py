"""What counts as a measurement: real numbers, and none that were typed in."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from given import claim

from mflib.claims import Bound, ClaimError, Identity, Limit, Rate, Reproduction
from mflib.claims.evidence import as_array, digest, rows_of


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (1, 1.0),
        (np.float32(0.5), 0.5),
        ([1, 2.5], [1.0, 2.5]),
        (Fraction(1, 4), 0.25),
        ([Fraction(1, 4), 2], [0.25, 2.0]),
        (Decimal("0.5"), 0.5),
        (np.arange(3), [0, 1, 2]),
        (torch.tensor([1.0, 2.0], requires_grad=True), [1.0, 2.0]),
        ([torch.tensor(1.0), torch.tensor(2.0, requires_grad=True)], [1.0, 2.0]),
        ((torch.ones(2), torch.zeros(2)), [[1, 1], [0, 0]]),
        (10**400, math.inf),
        ([-(10**400)], [-math.inf]),
        (torch.tensor([1], dtype=torch.int32), [1]),
    ],
)
def test_numbers_are_read_whatever_holds_them(values, expected):
    found = as_array("x", values)
    assert found.dtype == np.float64 and found.tolist() == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (1j, "real numbers"),
        ([1.0, 2j], "real numbers"),
        (torch.tensor([1j]), "real numbers"),
        (np.array([1 + 0j]), "real numbers"),
        ("1.5", "real numbers"),
        (["1", 2], "real numbers"),
        (True, "real numbers"),
        (np.array([True]), "real numbers"),
        ([], "empty"),
        (torch.zeros(0), "empty"),
        ([[1, 2], [3]], "cannot be read"),
        (None, "cannot be read"),
        (np.ma.array([1.0, 2.0], mask=[0, 1]), "masked"),
        ([np.ma.array([1.0], mask=[1])], "masked"),
        ({"a": 1}, "cannot be read"),
        ([Fraction(1, 2), 1j], "real number"),
    ],
)
def test_what_is_no_real_number_is_named(values, message):
    with pytest.raises(ClaimError, match=f"x: .*{message}"):
        as_array("x", values)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (Identity("a", 0.01), [1j]),
        lambda: (Bound("a"), [1j], [1.0]),
        lambda: (Bound("a"), [1.0], [1j]),
        lambda: (Limit("a", 1.0, 0.1), [1j] * 9),
        lambda: (Reproduction("a"), [1j] * 9),
        lambda: (Identity("a", 0.01), 1.0, 1j),
        lambda: (Rate("a", 1.0), [1j, 2, 4, 8], np.ones((12, 4))),
    ],
)
def test_no_rule_drops_an_imaginary_part(make):
    check, *data = make()
    claim(check.kind).predict(check)
    with pytest.raises(ClaimError, match="real number"):
        check.measure(*data)


def test_clusters_average_the_rows_that_share_a_label():
    values = np.array([[1.0], [-3.0], [10.0]])
    labels = ["a", "a", "b"]
    assert rows_of(values, None, 2) is values
    assert rows_of(values, labels, None).ravel() == pytest.approx([-1.0, 10.0])
    assert rows_of(values, labels, 1).ravel() == pytest.approx([2.0, 10.0])
    assert rows_of(values, labels, 2).ravel() == pytest.approx([math.sqrt(5), 10.0])
    assert rows_of(values, labels, 0).ravel() == pytest.approx([math.sqrt(3), 10.0])
    assert rows_of(values, torch.tensor([7, 8, 7]), None).ravel() == pytest.approx([5.5, -3.0])
    assert rows_of(0 * values, labels, 2).ravel() == pytest.approx([0.0, 0.0])
    assert rows_of(1e200 * values, labels, 2).ravel() == pytest.approx([1e200 * 5**0.5, 1e201])


def test_a_fingerprint_is_that_of_the_numbers():
    x = np.arange(3.0)
    assert digest((x, 1.0), {}) == digest((torch.tensor(x), 1), {})
    assert digest((x,), {"interval": (0, 1)}) == digest((list(x),), {"interval": (0.0, 1.0)})
    marks = {
        digest(*given)
        for given in (
            ((x,), {}),
            ((x, x), {}),
            ((x + 1,), {}),
            ((x[:2],), {}),
            ((x,), {"interval": (0, 2)}),
            ((x,), {"clusters": ["a", "b", "c"]}),
            ((x,), {"clusters": ["a", "a", "c"]}),
        )
    }
    assert len(marks) == 7


# literals

ZERO = np.zeros(1)


def fresh():
    made = claim("identity")
    check = made.predict(Identity("a", 1e-9))
    return check, check.control("broken", broke="something")


def test_a_number_typed_into_the_call_is_no_measurement():
    for write in (
        lambda c: c.measure(1.0),
        lambda c: c.measure(63.0, 1.0),
        lambda c: c.measure([63.0, -2.0]),
        lambda c: c.measure(torch.tensor([1.0, 2.0])),
        lambda c: c.measure(Fraction(1, 3), 2),
        lambda c: c.measure(np.array([1.0, 2.0]) * 3, 1.0),
        lambda c: c.measure(float(2) ** 0.5),
        lambda c: c.measure(left=1.0, right=2.0),
        lambda c: c.measure([1.0], right=-2),
    ):
        check, control = fresh()
        check.measure(ZERO)
        write(control)
        assert control.state == "weak" and "literal" in control.outcome.reason
        assert control.outcome.details["refused"]
        check, _ = fresh()
        write(check)
        assert check.verdict == "inconclusive" and "literal" in check.outcome.reason


def test_what_was_computed_or_named_is_not_taken_for_a_literal():
    x, f = np.ones(2), lambda *v: np.ones(2)
    for write in (
        lambda c: c.measure(x),
        lambda c: c.measure(x, 0.0),
        lambda c: c.measure(0.0, 1 + x),
        lambda c: c.measure(f()),
        lambda c: c.measure(f(3.0)),
        lambda c: c.measure(x.sum()),
        lambda c: c.measure([float(v) for v in x]),
        lambda c: c.measure(*[x]),
        lambda c: c.measure(x + 1, 0.5),
    ):
        check, control = fresh()
        check.measure(ZERO)
        write(control)
        assert control.state == "flipped", control.outcome.reason


def test_a_quantity_compared_with_itself_is_no_measurement():
    x = Fraction(1)
    check, control = fresh()
    check.measure(x, x)
    assert check.verdict == "inconclusive" and "itself" in check.outcome.reason
    control.measure(x, x)
    assert control.state == "weak"
    check, control = fresh()
    y = np.ones(3)
    control.measure(left=y, right=y)
    assert control.outcome.details["refused"]


def test_code_without_a_source_is_not_accused():
    check, control = fresh()
    exec("check.measure(0.0); control.measure(1.0)", {"check": check, "control": control})
    assert check.verdict == "verified" and control.state == "flipped"
