import math

import pytest
import torch
from problems import DOUBLE, generator

from mflib.chen2024.ramp import ramp_bound, ramp_loss, zero_one_loss


def outputs_and_labels(count=4000):
    g = generator(5)
    y = torch.randint(2, (count,), generator=g).to(DOUBLE) * 2 - 1
    return torch.randn(count, generator=g, dtype=DOUBLE), y


def test_the_ramp_is_one_for_a_wrong_sign_zero_behind_the_margin_and_a_line_between():
    at = torch.tensor([-3.0, 0.0, 0.1, 0.3, 0.4, 5.0], dtype=DOUBLE)
    wanted = torch.tensor([1.0, 1.0, 0.75, 0.25, 0.0, 0.0], dtype=DOUBLE)
    torch.testing.assert_close(ramp_loss(at, torch.ones_like(at), 0.4), wanted)
    torch.testing.assert_close(ramp_loss(-at, -torch.ones_like(at), 0.4), wanted)


def test_the_three_losses_are_ordered_and_meet_where_the_output_is_zero():
    out, y = outputs_and_labels()
    ramp = ramp_loss(out, y, 0.5)
    assert (zero_one_loss(out, y) <= ramp).all() and (ramp <= (out - y).abs()).all()
    assert (ramp < (out - y).abs()).any() and (zero_one_loss(out, y) < ramp).any()
    zero = torch.zeros_like(y)
    for loss in (zero_one_loss(zero, y), ramp_loss(zero, y, 0.5), (zero - y).abs()):
        assert torch.equal(loss, torch.ones_like(y))


def test_the_ramp_is_as_steep_as_one_over_the_margin_and_no_steeper():
    out, y = outputs_and_labels()
    other = out + 1e-3
    steep = (ramp_loss(other, y, 0.25) - ramp_loss(out, y, 0.25)).abs() / 1e-3
    assert float(steep.max()) == pytest.approx(4.0)


def test_the_bound_adds_twice_the_complexity_over_the_margin_and_a_term_of_chance():
    zero = torch.zeros(2, dtype=DOUBLE)
    R = torch.tensor([0.1, 0.3], dtype=DOUBLE)
    chance = 3 * math.sqrt(math.log(2 / 0.05) / 100)
    torch.testing.assert_close(ramp_bound(zero, zero, 50, 0.05), zero + chance)
    torch.testing.assert_close(ramp_bound(zero + 0.2, R, 50, 0.05, 0.5), 0.2 + 4 * R + chance)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda v: ramp_loss(v, v), "y: expected labels"),
        (lambda v: zero_one_loss(v, v), "y: expected labels"),
        (lambda v: ramp_loss(v, v.sign(), 0.0), "margin: "),
        (lambda v: ramp_loss(v / 0, v.sign()), "output: "),
        (lambda v: ramp_bound(-v, v, 3, 0.1), "empirical: "),
        (lambda v: ramp_bound(v, -v, 3, 0.1), "complexity: "),
        (lambda v: ramp_bound(v, v, 0, 0.1), "n: "),
        (lambda v: ramp_bound(v, v, 3, 1.0), "delta: "),
        (lambda v: ramp_bound(v, v, 3, 0.1, -1.0), "margin: "),
    ],
)
def test_what_makes_no_sense_is_refused(call, word):
    with pytest.raises(ValueError, match=word):
        call(torch.tensor([0.3, 2.0], dtype=DOUBLE))
