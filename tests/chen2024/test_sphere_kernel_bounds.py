import math

import pytest
import torch
from problems import DOUBLE, randn

from mflib.chen2024.sphere_kernel import Spectrum
from mflib.kernels import hermite_coefficients

TANH = Spectrum("tanh", 400)


def sphere(*shape, seed=0):
    x = randn(*shape, seed=seed)
    return x / x.norm(dim=-1, keepdim=True)


def test_hermite_coefficients_of_a_polynomial_and_a_wave():
    # (s g)^2 = s^2 (He_2 + 1), and sin(s g) has s^r / sqrt(r!) exp(-s^2/2), alternating
    mu = hermite_coefficients("quadratic", 4, scale=1.5)
    expected = torch.tensor([2.25, 0, 2.25 * math.sqrt(2), 0, 0], dtype=DOUBLE)
    torch.testing.assert_close(mu, expected, rtol=0, atol=1e-12)
    mu = hermite_coefficients("sin", 7, scale=1.5)
    expected = [0.0] * 8
    for j, r in enumerate(range(1, 8, 2)):
        size = 1.5**r / math.sqrt(math.factorial(r))
        expected[r] = (-1) ** j * size * math.exp(-1.125)
    torch.testing.assert_close(mu, torch.tensor(expected, dtype=DOUBLE), rtol=0, atol=1e-13)


def test_the_squares_of_the_coefficients_sum_to_the_second_moment():
    g = torch.linspace(-9, 9, 2001, dtype=DOUBLE)
    mass = torch.exp(-0.5 * g**2)
    moment = (mass * torch.tanh(math.sqrt(2) * g) ** 2).sum() / mass.sum()
    assert float(TANH.mu.square().sum()) == pytest.approx(float(moment), abs=1e-14)


def test_eigenvalue_bounds_enclose_and_are_attained_by_two_points():
    for n in (2, 4, 7):
        x = sphere(50, n, 5, seed=n)
        cosine = (x @ x.mT - 2 * torch.eye(n, dtype=DOUBLE)).amax((-1, -2))
        term, lower, upper = TANH.eigenvalue_bounds(n, cosine)
        smallest = torch.linalg.eigvalsh(TANH.kernel(x, power=1))[:, 0]
        assert (term <= lower).all()
        assert (lower <= smallest + 1e-13).all() and (smallest <= upper + 1e-13).all()
        if n == 2:
            torch.testing.assert_close(lower, smallest, rtol=0, atol=1e-13)
            torch.testing.assert_close(upper, smallest, rtol=0, atol=1e-13)


def test_the_largest_term_by_hand_for_a_polynomial():
    # (sqrt(2) g)^2: mu_0 = 2, mu_2 = 2 sqrt(2); at C = -1 the rate is 0
    spectrum = Spectrum("quadratic", 4)
    term, lower, upper = spectrum.eigenvalue_bounds(3, torch.tensor([-1.0], dtype=DOUBLE))
    assert float(term) == pytest.approx(8) and float(lower) == pytest.approx(24)
    term, _, _ = spectrum.eigenvalue_bounds(3, torch.tensor([0.0], dtype=DOUBLE))
    assert float(term) == pytest.approx(8 * (1 - 2 / 4))


def test_the_collision_constant_is_the_limit_of_the_smallest_eigenvalue():
    x, e = sphere(3, 4, 3), randn(3, 3, seed=1)
    e = e - (e * x[:, 0]).sum(-1, keepdim=True) * x[:, 0]
    e = e / e.norm(dim=-1, keepdim=True)
    ratio = []
    for delta in (2e-3, 1e-3):
        angle = 2 * math.asin(delta / 2)
        near = math.cos(angle) * x[:, 0] + math.sin(angle) * e
        gram = TANH.kernel(torch.cat([x, near[:, None]], 1), power=1)
        ratio.append(torch.linalg.eigvalsh(gram)[:, 0] / delta**2)
    # the error is of first order in delta
    torch.testing.assert_close(2 * ratio[1] - ratio[0], TANH.collision(x, e), rtol=1e-4, atol=0)


def test_kernels_may_be_differentiated_by_the_points():
    x = sphere(3, 3).requires_grad_()
    TANH.kernel(x / x.norm(dim=-1, keepdim=True), power=1).sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().max() > 0


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="n: expected an integer"):
        TANH.eigenvalue_bounds(0, torch.zeros(1, dtype=DOUBLE))
    with pytest.raises(ValueError, match="cosine: lies outside"):
        TANH.eigenvalue_bounds(3, torch.tensor([1.1], dtype=DOUBLE))
    with pytest.raises(ValueError, match="direction: not tangent"):
        TANH.collision(sphere(1, 3, 3), sphere(1, 3, seed=2))
    with pytest.raises(ValueError, match="x: the kernels need unit vectors"):
        TANH.kernel(2 * sphere(3, 3))
