"""Suprema over KL balls and the moving encoder's term."""

import math

import numpy as np
import pytest
import torch
from problems import generator, randn
from scipy import optimize, stats
from torchdiffeq import odeint

from mflib.chen2024.sphere_kernel import Spectrum
from mflib.rademacher import (
    ball_supremum,
    encoder_difference,
    encoder_term,
    heavy_tail_member,
    random_signs,
)


def sphere(n, d, seed=0):
    return torch.nn.functional.normalize(randn(n, d, seed=seed), dim=-1)


def test_a_constant_functional_has_supremum_sqrt_2r():
    found = ball_supremum(torch.full((3, 5), 4.0, dtype=torch.float64), 0.7)
    torch.testing.assert_close(
        found.dual, torch.full_like(found.dual, 2 * math.sqrt(1.4))
    )


@pytest.mark.parametrize("radius", [1e-4, 0.1, 4.0])
def test_primal_equals_dual_and_the_tilted_law_has_the_radius(radius):
    found = ball_supremum(randn(6, 400).square(), radius)
    torch.testing.assert_close(found.primal, found.dual, rtol=1e-8, atol=0)
    torch.testing.assert_close(
        found.kl, torch.full_like(found.kl, radius), rtol=1e-8, atol=0
    )


def test_the_dual_equals_a_scalar_minimisation_by_scipy():
    energy = randn(300).square()

    def dual(log_mu):
        mu = math.exp(log_mu)
        return (
            0.3 + float(torch.logsumexp(0.5 * mu**2 * energy, 0)) - math.log(300)
        ) / mu

    best = optimize.minimize_scalar(dual, bracket=(-2, 1), tol=1e-12)
    assert float(ball_supremum(energy, 0.3).dual) == pytest.approx(best.fun, rel=1e-10)


def test_the_supremum_is_blind_to_order_and_batching():
    energy = randn(4, 200).square()
    whole = ball_supremum(energy, 0.2).dual
    shuffled = ball_supremum(
        energy[:, torch.randperm(200, generator=generator())], 0.2
    ).dual
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


def test_the_encoder_term_tends_to_twice_the_radius_times_the_norm():
    x, head, encoder = sphere(6, 2), randn(150, 3, seed=2), randn(150, 3, seed=3)
    signs = random_signs(6, 3, generator(4))
    found = encoder_term(signs, x, head, encoder, radius=1e-7, power=2000)
    slope = 1 - torch.tanh(x @ head[:, :2].T + head[:, 2]) ** 2
    value = torch.tanh(x @ encoder[:, :2].T + encoder[:, 2])
    for epsilon, norm, top in zip(signs, found.norm, found.value, strict=True):
        # the operator as a matrix (M) x (M d), masses 1/M on both sides
        operator = torch.einsum(
            "i,ip,pk,iq->pqk", epsilon / 6, slope, head[:, :2], value
        )
        exact = torch.linalg.matrix_norm(operator.flatten(1) / 150, 2)
        torch.testing.assert_close(norm, exact, rtol=1e-6, atol=0)
        torch.testing.assert_close(top / 2e-7, exact, rtol=1e-4, atol=0)


def test_the_true_network_agrees_with_the_bilinear_form_for_small_balls():
    x, head, encoder = sphere(8, 3), randn(200, 4, seed=2), randn(200, 4, seed=3)
    signs = random_signs(8, 2, generator(4))
    found = encoder_term(signs, x, head, encoder, radius=1e-6)
    moved = encoder_difference(x, head, encoder, found.a, found.u)
    torch.testing.assert_close((signs * moved).mean(1), found.value, rtol=2e-3, atol=0)


def test_the_encoder_difference_equals_another_solver():
    x, head, encoder = sphere(5, 2), randn(30, 3, seed=2), randn(30, 3, seed=3)
    a, u = 0.1 * randn(2, 30, seed=4), 0.1 * randn(2, 30, 2, seed=5)

    def field(_, z):
        return 1.7 * (torch.tanh(z @ encoder[:, :2].T + encoder[:, 2]) @ u)

    def output(z):
        return (torch.tanh(z @ head[:, :2].T + head[:, 2]) @ a[..., None])[..., 0]

    start = x.expand(2, 5, 2)
    end = odeint(field, start, torch.tensor([0.0, 1.0]).double(), rtol=1e-10, atol=1e-12)[-1]
    ours = encoder_difference(x, head, encoder, a, u, alpha=1.7, steps=32)
    torch.testing.assert_close(ours, output(end) - output(start), rtol=1e-6, atol=1e-9)


def test_sweeps_never_lower_the_encoder_term():
    x, head, encoder = sphere(8, 2), randn(90, 3, seed=2), randn(90, 3, seed=3)
    signs = random_signs(8, 5, generator(4))
    values = [
        encoder_term(signs, x, head, encoder, radius=0.3, sweeps=k).value
        for k in (1, 2, 4, 8)
    ]
    for low, high in zip(values, values[1:], strict=False):
        assert (high >= low * (1 - 1e-12)).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: ball_supremum(randn(5), 0.1),
        lambda: ball_supremum(randn(5).square(), 0.0),
        lambda: ball_supremum(randn(5).square() * float("nan"), 0.1),
        lambda: ball_supremum(torch.zeros(5).double(), 0.1),
        lambda: random_signs(0, 3, generator()),
        lambda: heavy_tail_member(stats.norm(), 0.1, 100.0),
        lambda: encoder_term(randn(2, 3), randn(4, 2), randn(9, 3), randn(9, 3), 0.1),
    ],
)
def test_impossible_arguments_are_refused(call):
    with pytest.raises(ValueError, match=":"):
        call()
