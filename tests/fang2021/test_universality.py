"""The constant: closed forms, scans, certificates, and the assumptions on activations."""

import math

import pytest
import torch
from fang2021.networks import generator, normal

from mflib.activations import activation
from mflib.fang2021.assumptions import modified, power, power_tail
from mflib.fang2021.universality import adversary, gaussian_points, parallel, value_range


def test_the_rule_integrates_moments_and_its_masses_sum_to_one():
    points, mass = gaussian_points(2, 61)
    assert abs(mass.sum() - 1) < 1e-13
    torch.testing.assert_close((points * mass) @ points.mT, torch.eye(2, dtype=torch.float64))
    with pytest.raises(ValueError, match="too many"):
        gaussian_points(6, 61)


@pytest.mark.parametrize(
    ("h", "turning"),
    [("tanh", None), ("quadratic", [0.0]), ("cos", [k * math.pi for k in range(-4, 5)])],
)
def test_the_range_is_that_of_a_fine_scan(h, turning):
    centre = normal(5, 7)
    turning = None if turning is None else torch.tensor(turning, dtype=torch.float64)
    low, high = value_range(h, centre, 0.8, turning)
    scan = activation(h).f(centre + torch.linspace(-0.8, 0.8, 4001).double()[:, None, None])
    torch.testing.assert_close(low, scan.amin(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(high, scan.amax(0), rtol=1e-5, atol=1e-6)


def test_without_a_shift_the_constant_is_the_least_eigenvalue():
    x = normal(3, 2)
    points, mass = gaussian_points(2, 31)
    h = torch.tanh(x @ points / 2)
    value, _ = adversary(x, "tanh", 0.0, (points, mass)).least(generator(), 6)
    torch.testing.assert_close(
        torch.tensor(value, dtype=torch.float64), torch.linalg.eigvalsh((h * mass) @ h.mT)[0]
    )


def test_one_linear_input_has_the_tail_of_a_gaussian():
    x = torch.tensor([[0.6]], dtype=torch.float64)
    value, _ = adversary(x, "linear", 0.6, gaussian_points(1, 4001)).least(generator(), 2)
    tail = 2 * 0.36 * (math.erfc(1 / math.sqrt(2)) - math.exp(-0.5) / math.sqrt(2 * math.pi))
    assert abs(value / tail - 1) < 1e-5


def test_no_random_shift_beats_the_constant_and_the_response_reaches_it():
    x = 2 * normal(3, 2, seed=4)
    points, mass = gaussian_points(2, 31)
    worst = adversary(x, "tanh", 0.3, (points, mass))
    value, a = worst.least(generator(), 8)
    assert abs(torch.linalg.eigvalsh(worst.gram(a))[0] / value - 1) < 1e-8
    for k in range(20):
        shift = 0.6 * torch.rand(3, len(mass), generator=generator(k), dtype=torch.float64) - 0.3
        h = torch.tanh(x @ points / 2 + shift)
        assert torch.linalg.eigvalsh((h * mass) @ h.mT)[0] >= value


def test_the_response_stays_within_the_shift():
    worst = adversary(2 * normal(3, 2), "tanh", 0.3)
    h = worst.response(normal(3, seed=8))
    assert (h >= worst.low - 1e-15).all() and (h <= worst.high + 1e-15).all()


def test_the_gradient_of_the_search_is_the_derivative():
    worst = adversary(2 * normal(3, 2), "tanh", 0.2)
    a = normal(3, seed=5).requires_grad_()
    (slope,) = torch.autograd.grad(worst.value(a / a.norm()), a)
    value, hand = worst._objective(a.detach().numpy())
    torch.testing.assert_close(torch.as_tensor(hand), slope, rtol=1e-9, atol=1e-12)


def test_polynomials_and_parallel_inputs_fail():
    five, fan = 2 * normal(5, 2), 2 * normal(2, 2)
    zero = torch.zeros(1, dtype=torch.float64)
    assert adversary(five, "quadratic", 0.0, turning=zero).least(generator(), 4)[0] < 1e-15
    twin = torch.cat([fan, -fan[:1]])
    assert adversary(twin, "tanh", 0.0).least(generator(), 4)[0] < 1e-15
    assert abs(parallel(twin) - 1) < 1e-14 and parallel(fan) < 1


def test_a_negative_radius_is_refused():
    with pytest.raises(ValueError, match="radius"):
        value_range("tanh", normal(2), -1.0)


@pytest.mark.parametrize(
    "h", [modified("tanh", 1.3, 0.7, 0.4), power(0.5), power(1.5), power_tail(0.7)]
)
def test_modified_activations_have_the_right_derivatives(h):
    z = torch.linspace(0.1, 3, 50, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(h.f(z).sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), z)
    torch.testing.assert_close(h.df(z), first)
    torch.testing.assert_close(h.d2f(z), second)
