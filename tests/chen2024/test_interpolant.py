"""The measure of least divergence, and mixtures with a teacher."""

import math

import mpmath
import pytest
import torch
from problems import generator, randn

from mflib.chen2024.interpolant import (
    gaussian_mixture_kl,
    interpolation_trial,
    least_kl_interpolant,
    limit_trial,
    relative_entropy,
)
from mflib.chen2024.sign_teacher import SignTeacher
from mflib.rademacher import ball_supremum, random_signs


def sphere(n, d, seed=0):
    return torch.nn.functional.normalize(randn(n, d, seed=seed), dim=-1)


def features(x, particles, seed=1):
    w = randn(x.shape[1] + 1, particles, seed=seed)
    return torch.tanh(x @ w[:-1] + w[-1])


def test_the_interpolant_fits_and_its_primal_equals_its_dual():
    x = sphere(12, 4)
    phi, y = features(x, 2000), 0.2 * randn(2, 4, seed=7) @ x.T
    fit = least_kl_interpolant(phi.expand(2, -1, -1), y, beta=5.0)
    torch.testing.assert_close(fit.predict(phi, 5.0), y, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(fit.kl, fit.dual, rtol=1e-9, atol=0)


def test_the_interpolant_becomes_the_kernel_interpolant_for_large_beta():
    phi, y = features(sphere(10, 4), 1000), randn(10, seed=8)
    kernel = phi @ phi.T / 1000
    fit = least_kl_interpolant(phi, y, beta=1e5)
    expected = 0.5 * y @ torch.linalg.solve(kernel, y)
    torch.testing.assert_close(fit.kl * 1e10, expected, rtol=1e-6, atol=0)


def test_no_other_interpolating_measure_has_less_divergence():
    x, y = sphere(6, 3), 0.3 * randn(6, seed=9)
    phi = features(x, 800)
    fit = least_kl_interpolant(phi, y, beta=2.0)
    # another interpolant: fit one further point as well, to some other value
    more = torch.cat([phi, features(sphere(1, 3, seed=3), 800)])
    for value in (-0.5, 0.0, 0.5):
        other = least_kl_interpolant(more, torch.cat([y, y.new_tensor([value])]), 2.0)
        assert other.kl >= fit.kl


def test_the_trial_in_the_limit_is_the_trial_at_a_large_scale():
    x = sphere(30, 4)
    phi, y = features(x, 300), randn(30, seed=5)
    kernel, beta = phi @ phi.T / 300, 1e5
    finite = interpolation_trial(phi, y, [6, 12], beta, 3.0 / beta**2, generator(), 0.3, draws=9)
    limit = limit_trial(kernel, y, [6, 12], 3.0, generator(), 0.3, draws=9)
    for one, other in zip(finite, limit, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=0)
    again = limit_trial(kernel, y, [6, 12], 3.0, generator(1), 0.3, draws=9)
    assert (again.complexity != limit.complexity).all()
    assert torch.equal(again.error, limit.error)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"sizes": [9]}, "sizes"),
        ({"radius": 0.0}, "radius"),
        ({"cap": -1.0}, "cap"),
        ({"y": randn(8)}, "y"),
        ({"kernel": torch.ones(9, 9).double()}, "kernel"),
        ({"kernel": torch.eye(9).double().expand(2, 9, 9)}, "kernel"),
    ],
)
def test_impossible_arguments_of_the_limit_are_named(change, name):
    given = {"kernel": torch.eye(9).double(), "y": randn(9), "sizes": [4], "radius": 1.0}
    with pytest.raises(ValueError, match=f"^{name}: "):
        limit_trial(**(given | change), generator=generator())


def test_a_trial_reports_what_its_parts_compute():
    x = sphere(30, 4)
    phi, y = features(x, 300), 0.2 * x[:, 0]
    rows = interpolation_trial(phi, y, [6, 12], 3.0, 0.05, generator(), 0.3, draws=50)
    fit = least_kl_interpolant(phi[:6], y[:6], 3.0)
    miss = (fit.predict(phi[12:], 3.0) - y[12:]).abs()
    torch.testing.assert_close(rows.error[0], miss.mean())
    torch.testing.assert_close(rows.share[0], fit.kl / 0.05)
    noise = random_signs(6, 50, generator()) @ phi[:6] / 6
    complexity = 3.0 * ball_supremum(noise.square(), 0.05).dual.mean()
    torch.testing.assert_close(rows.complexity[0], complexity)
    torch.testing.assert_close(rows.capped[0], (miss / 0.3).clamp(max=1).mean())


def test_relative_entropy_keeps_its_digits():
    u = torch.tensor([1e-9, -1e-9, 9.9e-4, -9.9e-4, 1.1e-3, 0.5], dtype=torch.float64)
    exact = [float(v) ** 2 / 2 for v in u[:2]]
    got = [float(relative_entropy(v[None], torch.ones(1, dtype=v.dtype))) for v in u]
    assert got[:2] == pytest.approx(exact, rel=1e-8, abs=0)
    with mpmath.workdps(40):
        wanted = [
            float(
                (1 + mpmath.mpf(float(v))) * mpmath.log(1 + mpmath.mpf(float(v)))
                - mpmath.mpf(float(v))
            )
            for v in u
        ]
    assert got == pytest.approx(wanted, rel=1e-9, abs=0)


def test_at_beta_one_the_mixture_is_the_teacher():
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    shift = gaussian_mixture_kl(0.8 * one, 1.0, one, one)
    assert float(shift) == pytest.approx(0.32, rel=1e-9)
    wide = gaussian_mixture_kl(zero, 1.6, one, one)
    assert float(wide) == pytest.approx(0.5 * (1.6**2 - 1) - math.log(1.6), rel=1e-9)


def test_the_mixture_agrees_with_monte_carlo():
    g = torch.tensor([0.8, -0.3], dtype=torch.float64)
    chance = torch.tensor([0.25, 0.75], dtype=torch.float64)
    a, pick = randn(2_000_000), torch.rand(2_000_000, generator=generator(1)) < 0.25
    mean = torch.where(pick, g[0], g[1])
    u = torch.expm1(mean * a - 0.5 * mean**2) / 2.0
    direct = (torch.special.xlog1py(1 + u, u) - u).mean()
    exact = gaussian_mixture_kl(g, 1.0, chance, torch.tensor([2.0]).double())
    torch.testing.assert_close(exact[0], direct, rtol=5e-3, atol=0)


def test_the_mixture_tends_to_half_chi_square_with_the_third_moment():
    teacher = SignTeacher.sample(4, generator(), ridges=3, kappa=0.5)
    beta = torch.tensor([1e4, 4e4], dtype=torch.float64)
    g, chance = teacher.means()
    kl = gaussian_mixture_kl(g, 1.0, chance, beta)
    deviation = (2 * beta**2 * kl / teacher.chi2() - 1) * beta
    predicted = torch.full_like(beta, -teacher.third() / (3 * teacher.chi2()))
    torch.testing.assert_close(deviation, predicted, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: least_kl_interpolant(torch.ones(3, 9).double(), randn(3), 1.0),
        lambda: least_kl_interpolant(randn(3, 9), randn(4), 1.0),
        lambda: least_kl_interpolant(randn(3, 9), randn(3), 0.0),
        lambda: interpolation_trial(randn(4, 9), randn(4), [4], 1.0, 0.1, generator()),
        lambda: interpolation_trial(randn(4, 9), randn(4), [2], 1.0, 0.1, generator(), 0.0),
        lambda: gaussian_mixture_kl(randn(1), 1.0, torch.ones(1).double(), randn(1) * 0),
        lambda: gaussian_mixture_kl(randn(2), 1.0, torch.ones(2).double(), randn(1) * 0 + 2),
    ],
)
def test_impossible_arguments_are_refused(call):
    with pytest.raises(ValueError, match=":"):
        call()
