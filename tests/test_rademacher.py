"""Suprema over KL balls and the moving encoder's term."""

import math

import numpy as np
import pytest
import torch
from problems import generator, randn
from scipy import optimize, stats

from mflib.chen2024.sphere_kernel import Spectrum
from mflib.rademacher import ball_supremum, heavy_tail_member, random_signs


def sphere(n, d, seed=0):
    return torch.nn.functional.normalize(randn(n, d, seed=seed), dim=-1)


def test_a_constant_functional_has_supremum_sqrt_2r():
    found = ball_supremum(torch.full((3, 5), 4.0, dtype=torch.float64), 0.7)
    torch.testing.assert_close(found.dual, torch.full_like(found.dual, 2 * math.sqrt(1.4)))


@pytest.mark.parametrize("radius", [1e-4, 0.1, 4.0])
def test_primal_equals_dual_and_the_tilted_law_has_the_radius(radius):
    found = ball_supremum(randn(6, 400).square(), radius)
    torch.testing.assert_close(found.primal, found.dual, rtol=1e-8, atol=0)
    torch.testing.assert_close(found.kl, torch.full_like(found.kl, radius), rtol=1e-8, atol=0)


def test_the_dual_equals_a_scalar_minimisation_by_scipy():
    energy = randn(300).square()

    def dual(log_mu):
        mu = math.exp(log_mu)
        return (0.3 + float(torch.logsumexp(0.5 * mu**2 * energy, 0)) - math.log(300)) / mu

    best = optimize.minimize_scalar(dual, bracket=(-2, 1), tol=1e-12)
    assert float(ball_supremum(energy, 0.3).dual) == pytest.approx(best.fun, rel=1e-10)


def test_the_supremum_is_blind_to_order_and_batching():
    energy = randn(4, 200).square()
    whole = ball_supremum(energy, 0.2).dual
    shuffled = ball_supremum(energy[:, torch.randperm(200, generator=generator())], 0.2).dual
    torch.testing.assert_close(whole, shuffled)
    torch.testing.assert_close(whole[2], ball_supremum(energy[2], 0.2).dual)


def test_a_heavy_tail_reaches_any_value_and_a_gaussian_does_not():
    def reach(law, cuts):
        return [math.prod(heavy_tail_member(law, 0.1, c)) for c in cuts]

    heavy, light = (
        reach(stats.t(3), [10, 100, 1e3, 1e4]),
        reach(stats.norm(), [0.5, 1, 2, 4]),
    )
    assert np.all(np.diff(heavy) > 0) and heavy[-1] > 50
    assert max(light) <= math.sqrt(0.2)


def test_the_heavy_tail_spends_the_whole_radius():
    law, cut = stats.t(3), 20.0
    mass, mean = heavy_tail_member(law, 0.1, cut)
    p = law.cdf(2 * cut) - law.cdf(cut)
    spent = mass * math.log(mass / p) + (1 - mass) * math.log((1 - mass) / (1 - p))
    assert spent == pytest.approx(0.1, rel=1e-6)
    conditional = law.expect(lambda a: a, lb=cut, ub=2 * cut, conditional=True)
    assert mean == pytest.approx(conditional, rel=1e-6)


def test_no_member_of_the_ball_exceeds_the_dual():
    t = randn(60)
    top = float(ball_supremum(t.square(), 0.2).dual)
    # members: inner weights q, outer weight N(m, 1); scaled until their KL is 0.2
    for seed in range(40):
        tilt, mean = randn(2, 60, seed=seed + 1)
        mean = mean + float(seed % 4) * t

        def member(size, tilt=tilt, mean=mean):
            q = torch.softmax(size * tilt, 0)
            inner = (q * (q * 60).log()).sum()
            return float(inner + 0.5 * (q * (size * mean) ** 2).sum()), q

        size = optimize.brentq(lambda s: member(s)[0] - 0.2, 1e-9, 50)
        reached = float((member(size)[1] * size * mean * t).sum())
        assert reached <= top


def test_small_balls_see_the_kernel_only():
    x, w, signs = sphere(20, 4), randn(40_000, 5, seed=2), random_signs(20, 6, generator(3))
    square = (signs @ torch.tanh(x @ w[:, :4].T + w[:, 4:].T) / 20).square()
    kernel = Spectrum("tanh").kernel(x)
    exact = (2e-6 * torch.einsum("bi,ij,bj->b", signs, kernel, signs)).sqrt() / 20
    torch.testing.assert_close(ball_supremum(square, 1e-6).dual, exact, rtol=0.03, atol=0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: ball_supremum(randn(5), 0.1),
        lambda: ball_supremum(randn(5).square(), 0.0),
        lambda: ball_supremum(randn(5).square() * float("nan"), 0.1),
        lambda: ball_supremum(torch.zeros(5).double(), 0.1),
        lambda: random_signs(0, 3, generator()),
        lambda: heavy_tail_member(stats.norm(), 0.1, 100.0),
    ],
)
def test_impossible_arguments_are_refused(call):
    with pytest.raises(ValueError, match=":"):
        call()


def test_radii_may_differ_along_the_batch():
    energy, radii = randn(3, 80).square(), torch.tensor([0.01, 0.3, 2.0]).double()
    found = ball_supremum(energy, radii)
    whole = ball_supremum(energy, radii[:, None])
    for j, r in enumerate(radii.tolist()):
        alone = ball_supremum(energy, r)
        torch.testing.assert_close(found.dual[j], alone.dual[j], rtol=1e-13, atol=0)
        torch.testing.assert_close(whole.dual[j], alone.dual, rtol=1e-13, atol=0)
    with pytest.raises(ValueError, match="radius: expected positive"):
        ball_supremum(energy, -radii)


@pytest.mark.parametrize("radius", [1e-2, 1.0, 30.0])
def test_an_early_stop_costs_no_digits(radius):
    # the stationarity solved to the last digit, draw by draw, by bisection
    energy = randn(4, 500, seed=3).square() * torch.tensor([[1e-3], [1.0], [5.0], [100.0]])
    found = ball_supremum(energy, radius)
    for b in range(4):
        half = 0.5 * energy[b]

        def excess(log_s, half=half):
            s = math.exp(log_s)
            q = torch.softmax(s * half, 0)
            k = torch.logsumexp(s * half, 0) - math.log(500)
            return float(2 * s * (q * half).sum() - k - radius)

        s = math.exp(optimize.brentq(excess, -60, 60, xtol=1e-15, rtol=1e-15))
        k = float(torch.logsumexp(s * half, 0)) - math.log(500)
        assert float(found.dual[b]) == pytest.approx((radius + k) / math.sqrt(s), rel=1e-12)
        assert float(found.kl[b]) == pytest.approx(radius, rel=1e-8)
