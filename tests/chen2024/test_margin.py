"""The classifier of least norm with margin 1."""

import numpy as np
import pytest
import torch
from problems import generator, randn
from scipy import optimize
from sklearn.svm import SVC

from mflib.chen2024.margin import ball_fit, least_norm_margin, margin_trial
from mflib.chen2024.sphere_kernel import Spectrum
from mflib.rademacher import random_signs

SPECTRUM = Spectrum("tanh")


def caps(n, d, gap=0.3, seed=0):
    x = torch.nn.functional.normalize(randn(40 * n, d, seed=seed), dim=-1)
    x = x[x[:, 0].abs() >= gap][:n]
    return x, x[:, 0].sign()


@pytest.mark.parametrize(("d", "seed"), [(3, 0), (6, 1)])
def test_the_margin_classifier_equals_a_generic_solver(d, seed):
    x, y = caps(12, d, seed=seed)
    kernel = SPECTRUM.kernel(x)
    found, inverse = least_norm_margin(kernel, y), torch.linalg.inv(kernel).numpy()
    f = kernel @ found.coefficients
    assert (y * f).min() == pytest.approx(1.0)
    assert float(f @ torch.as_tensor(inverse) @ f) == pytest.approx(found.square, rel=1e-6)
    generic = optimize.minimize(
        lambda f: f @ inverse @ f,
        2 * y.numpy(),
        jac=lambda f: 2 * inverse @ f,
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda f: y.numpy() * f - 1},
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert found.square == pytest.approx(generic.fun, rel=1e-5)
    assert found.dual <= found.square <= found.dual * (1 + 1e-5)
    # interpolation is one way to have the margin, and some points are no support vectors
    assert found.square < float(y @ torch.as_tensor(inverse) @ y)
    assert (found.coefficients.abs() < 1e-8).any()


def test_on_symmetric_data_it_is_the_support_vector_machine_of_scikit_learn():
    x, y = caps(20, 4)
    x, y = torch.cat([x, x * torch.tensor([-1.0, 1, 1, 1])]), torch.cat([y, -y])  # no bias
    kernel = SPECTRUM.kernel(x)
    machine = SVC(C=1e8, kernel="precomputed", tol=1e-8).fit(kernel.numpy(), y.numpy())
    theirs = np.zeros(40)
    theirs[machine.support_] = machine.dual_coef_[0]
    assert abs(machine.intercept_[0]) < 1e-6
    ours = kernel @ least_norm_margin(kernel, y).coefficients
    np.testing.assert_allclose(ours.numpy(), kernel.numpy() @ theirs, rtol=1e-4, atol=1e-4)


def test_a_linear_function_bounds_the_norm_for_every_sample():
    for d, gap, seed in ((5, 0.5, 2), (12, 0.2, 3)):
        x, y = caps(60, d, gap, seed)
        limit = 1 / (gap**2 * d * SPECTRUM.sphere(d)[0][1])
        assert 0.3 * limit < least_norm_margin(SPECTRUM.kernel(x), y).square <= limit


def test_a_trial_reports_what_its_parts_compute():
    x, y = caps(40, 4)
    kernel, other = SPECTRUM.kernel(x), random_signs(40, 1, generator(5))[0]
    found = margin_trial(kernel, y, other, 12, generator(), draws=7)
    k, far = kernel[:12, :12], kernel[30:, :12]
    classifier = least_norm_margin(k, y[:12])
    assert float(found.margin) == classifier.square
    assert float(found.gap) == pytest.approx(classifier.square / classifier.dual - 1)
    margins = y[30:] * (far @ classifier.coefficients)
    assert float(found.loss) == pytest.approx(float((1 - margins).clamp(0, 1).mean()))
    fits = [torch.linalg.solve(k, v[:12]) for v in (y, other)]
    torch.testing.assert_close(found.interpolant, y[:12] @ fits[0])
    torch.testing.assert_close(found.other, (1 - other[30:] * (far @ fits[1])).clamp(0, 1).mean())
    signs = random_signs(12, 7, generator())
    width = torch.einsum("bi,ij,bj->b", signs, k, signs).sqrt().mean() / 12
    torch.testing.assert_close(found.width, width)
    assert margin_trial(kernel, y, other, 12, generator(1), draws=7).width != found.width


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda k, y: least_norm_margin(k, 2 * y), "y"),
        (lambda k, y: least_norm_margin(k, y[:3]), "y"),
        (lambda k, y: least_norm_margin(k.expand(2, 8, 8), y), "kernel"),
        (lambda k, y: least_norm_margin(torch.ones(8, 8).double(), y), "iterations"),
        (lambda k, y: margin_trial(k, y, y, 7, generator()), "n"),
        (lambda k, y: margin_trial(k, y, 0 * y, 4, generator()), "other"),
        (lambda k, y: margin_trial(k, y, y, 0, generator()), "n"),
    ],
)
def test_impossible_arguments_are_named(call, name):
    y = torch.tensor([1.0, -1] * 4).double()
    with pytest.raises(ValueError, match=f"^{name}: "):
        call(torch.eye(8).double(), y)


def test_the_best_fit_in_a_ball_has_its_norm_and_no_better_neighbour():
    root = randn(5, 5, seed=11)
    kernel, y = root @ root.mT + 0.3 * torch.eye(5).double(), randn(5, seed=12)
    c = ball_fit(kernel, y, 0.4)
    assert (c @ kernel @ c).item() == pytest.approx(0.4)

    def loss(v):
        return (kernel @ v - y).square().sum()

    for seed in range(20):
        other = c + 0.1 * randn(5, seed=seed)
        other = other * min(1.0, float((0.4 / (other @ kernel @ other)).sqrt()))
        assert loss(other) >= loss(c) - 1e-9
    ridge = (y - kernel @ c) / c  # K c + lambda c = y
    assert torch.allclose(ridge, ridge[0].expand(5)) and ridge[0] > 0


def test_the_interpolant_is_the_best_fit_where_the_ball_holds_it():
    root = randn(4, 4, seed=13)
    kernel, y = root @ root.mT + 0.3 * torch.eye(4).double(), randn(4, seed=14)
    solved = torch.linalg.solve(kernel, y)
    assert torch.allclose(ball_fit(kernel, y, 1.01 * float(y @ solved)), solved)
    with pytest.raises(ValueError, match="^kernel: is singular"):
        ball_fit(torch.ones(4, 4).double(), y, 1.0)
