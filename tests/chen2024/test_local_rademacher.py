"""KL and kernel balls cut by a small empirical error."""

import math

import numpy as np
import pytest
import torch
from problems import generator, randn
from scipy import optimize

from mflib.chen2024.local_rademacher import (
    KernelBall,
    fixed_point,
    hidden_member,
    kl_supremum,
    local_trial,
    spectral_formula,
    worst_interpolant,
)
from mflib.chen2024.sign_teacher import SignTeacher
from mflib.chen2024.sphere_kernel import Spectrum
from mflib.rademacher import random_signs

SPECTRUM = Spectrum("tanh")


def sphere(n, d, seed=0):
    return torch.nn.functional.normalize(randn(n, d, seed=seed), dim=-1)


def features(x, particles, seed=1):
    w = randn(x.shape[1] + 1, particles, seed=seed)
    return torch.tanh(x @ w[:-1] + w[-1])


def test_the_kernel_ball_meets_both_constraints():
    x = sphere(20, 3)
    kernel, signs = SPECTRUM.kernel(x), random_signs(20, 5, generator())
    zero = torch.zeros(20, dtype=torch.float64)
    ball = KernelBall(kernel, zero, 2.0, signs, nodes=4000)
    plain = (2.0 * torch.einsum("bi,ij,bj->b", signs, kernel, signs)).sqrt() / 20
    torch.testing.assert_close(ball.supremum(1e9), plain, rtol=1e-6, atol=0)
    assert (ball.supremum(1e-4) <= 1e-2 * (1 + 1e-4)).all()


def test_finite_beta_dual_is_tight_and_tends_to_the_kernel_ball():
    x = sphere(10, 3)
    teacher = SignTeacher.sample(3, generator(), kappa=0.5)
    y, phi, signs = (
        teacher.labels(x, SPECTRUM),
        features(x, 800),
        random_signs(10, 1, generator(2)),
    )
    limit = KernelBall(phi @ phi.T / 800, y, teacher.chi2(), signs, nodes=4000)
    dual, primal = kl_supremum(phi, y, 64.0, teacher.chi2() / (2 * 64.0**2), 1e-3, signs[0])
    assert primal <= dual * (1 + 1e-9)
    assert dual == pytest.approx(primal, rel=1e-4)
    assert dual == pytest.approx(float(limit.supremum(1e-3)), rel=2e-3)


def test_fixed_points_and_the_formula_of_one_eigenvalue():
    assert fixed_point(lambda e: 0.3 * math.sqrt(e)) == pytest.approx(0.09, rel=1e-9)
    for none in (lambda e: 2 * e, lambda e: -e, lambda e: math.nan, lambda e: 1e3 * math.sqrt(e)):
        with pytest.raises(ValueError, match="complexity: does not cross"):
            fixed_point(none)
    one = np.ones(1)
    assert spectral_formula(8, 0.5, 2.0, one, one) == pytest.approx(math.sqrt(0.125))


def test_the_kernel_ball_equals_a_generic_solver():
    x = sphere(6, 3)
    kernel, s = SPECTRUM.kernel(x), random_signs(6, 1, generator(2))
    y = kernel @ (0.2 * randn(6, seed=3))
    inverse = torch.linalg.inv(kernel).numpy()
    for square in (1e-3, 0.05):
        found = optimize.minimize(
            lambda f: -float(s[0].numpy() @ (f - y.numpy())) / 6,
            y.numpy(),
            method="SLSQP",
            constraints=[
                {"type": "ineq", "fun": lambda f: 1.5 - f @ inverse @ f},
                {
                    "type": "ineq",
                    "fun": lambda f, e=square: e - ((f - y.numpy()) ** 2).mean(),
                },
            ],
            options={"ftol": 1e-14, "maxiter": 500},
        )
        ball = KernelBall(kernel, y, 1.5, s, nodes=8000)
        assert float(ball.supremum(square)) == pytest.approx(-found.fun, rel=1e-5)


def test_the_formula_of_the_sample_bounds_the_centred_ball():
    # over all signs, not a sample of them, since the bound is on the mean
    for seed, d in enumerate((3, 6, 20)):
        kernel = SPECTRUM.kernel(sphere(8, d, seed))
        bits = (torch.arange(256)[:, None] >> torch.arange(8)) & 1
        ball = KernelBall(kernel, 0.1 * kernel[0], 3.0, 1.0 - 2.0 * bits.double(), nodes=2000)
        for square in (1e-4, 1e-2, 0.3, 10.0):
            mean = float(ball.supremum(square, centred=True).mean())
            assert 0.5 * ball.formula(square) <= mean <= ball.formula(square)
        # another centre, another ball
        assert not torch.allclose(ball.supremum(10.0, centred=True), ball.supremum(10.0), 1e-6, 0)


def test_the_hidden_member_vanishes_on_the_sample_and_is_the_worst_that_does():
    x, test, fresh = sphere(8, 4), sphere(30, 4, seed=1), sphere(5, 4, seed=2)
    here = hidden_member(SPECTRUM, x, test, torch.cat([x, test]))
    torch.testing.assert_close(here[:8], torch.zeros(8).double(), rtol=0, atol=1e-9)
    kernel, cross, far = (SPECTRUM.kernel(*pair) for pair in ((x,), (test, x), (test,)))
    zero = torch.zeros(8, dtype=torch.float64)
    worst = worst_interpolant(kernel, cross, far, zero, 1.0)
    assert float(here[8:].square().mean()) == pytest.approx(worst, rel=1e-9)
    # it lies in the span of its points, has norm 1 there, and no larger one elsewhere
    norm = here @ torch.linalg.solve(SPECTRUM.kernel(torch.cat([x, test])), here)
    assert float(norm) == pytest.approx(1.0, rel=1e-6)
    values, span = hidden_member(SPECTRUM, x, test, fresh), SPECTRUM.kernel(fresh)
    assert 0 < float(values @ torch.linalg.solve(span, values)) < 1
    other = hidden_member(SPECTRUM, x, fresh, fresh)
    assert (other.abs() - values.abs()).abs().max() > 1e-3


def test_no_interpolant_of_the_ball_is_worse_than_the_worst():
    x, test = sphere(8, 3), sphere(40, 3, seed=1)
    kernel, cross = SPECTRUM.kernel(x), SPECTRUM.kernel(test, x)
    y, far = kernel @ (0.1 * randn(8, seed=2)), SPECTRUM.kernel(test)
    size = 1.0
    worst = worst_interpolant(kernel, cross, far, y, size)
    least = y @ torch.linalg.solve(kernel, y)
    rest = far - cross @ torch.linalg.solve(kernel, cross.T)
    for seed in range(30):  # g - f = rest @ c has squared norm c' rest c
        c = randn(40, seed=seed)
        c = c * ((size - least) / (c @ rest @ c)).sqrt()
        assert (rest @ c).square().mean() <= worst
    top = torch.linalg.eigh(rest)[1][:, -1]
    top = top * ((size - least) / (top @ rest @ top)).sqrt()
    assert float((rest @ top).square().mean()) == pytest.approx(worst, rel=1e-9)
    with pytest.raises(ValueError, match="size: no member of the ball interpolates y"):
        worst_interpolant(kernel, cross, far, 100 * y, size)
    # on the boundary of the ball there is no room for another function
    assert worst_interpolant(kernel, cross, far, y, float(least)) == pytest.approx(0, abs=1e-12)


def test_a_trial_reports_what_its_parts_compute():
    x = sphere(30, 3)
    kernel, noise = SPECTRUM.kernel(x), randn(30, seed=4)
    labels = torch.stack([kernel @ (0.1 * randn(30, seed=3)), noise])
    found = local_trial(kernel, labels, [9], 12, 2.0, generator())
    k, cross, signs = kernel[:9, :9], kernel[18:, :9], random_signs(9, 64, generator())
    ball = KernelBall(k, labels[0, :9], 2.0, signs)
    plain = (2.0 * torch.einsum("bi,ij,bj->b", signs, k, signs)).sqrt().mean() / 9
    # without localisation only the centre is taken off
    assert float(found.whole) == pytest.approx(
        float(plain - (signs @ labels[0, :9] / 9).mean()), rel=1e-9
    )
    assert float(found.local) == pytest.approx(float(ball.supremum(float(found.local)).mean()))
    worst = worst_interpolant(k, cross, kernel[18:, 18:], labels[0, :9], 2.0)
    assert float(found.worst) == pytest.approx(worst)
    zero = KernelBall(k, 0 * labels[0, :9], 2.0, signs, nodes=4000)
    centre = float(found.centred)
    assert float(zero.supremum(centre).mean()) == pytest.approx(centre, rel=1e-3)
    values = np.linalg.eigvalsh(k.numpy() / 9)
    assert spectral_formula(9, float(found.formula), 2.0, values, np.ones(1)) == pytest.approx(
        float(found.formula)
    )
    for seen, y in ((found.error, labels[0]), (found.other, noise)):
        miss = cross @ torch.linalg.solve(k, y[:9]) - y[18:]
        torch.testing.assert_close(seen[0], miss.square().mean())


@pytest.mark.parametrize(
    "call",
    [
        lambda: KernelBall(torch.eye(3).double(), randn(3), -1.0, randn(2, 3)),
        lambda: KernelBall(torch.eye(3).double(), 9 + randn(3), 1.0, randn(2, 3)),
        lambda: KernelBall(torch.eye(3).double(), randn(2), 9.0, randn(2, 3)),
        lambda: worst_interpolant(torch.eye(3).double(), randn(2, 4), randn(2, 2), randn(3), 1.0),
        lambda: local_trial(torch.eye(5).double(), randn(2, 5), [4], 2, 9.0, generator()),
        lambda: hidden_member(SPECTRUM, sphere(4, 3), sphere(4, 2), sphere(4, 3)),
        lambda: hidden_member(SPECTRUM, torch.ones(2, 1).double(), randn(3, 1), randn(3, 1)),
        lambda: kl_supremum(randn(9), randn(3), 1.0, 1.0, 1.0, randn(3)),
        lambda: kl_supremum(randn(3, 9), randn(3), 1.0, 1.0, 1.0, randn(3, 1)),
        lambda: kl_supremum(randn(3, 9), randn(3), 1.0, 0.0, 1.0, randn(3)),
    ],
)
def test_impossible_arguments_are_refused(call):
    with pytest.raises(ValueError, match=":"):
        call()
