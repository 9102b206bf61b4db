"""Algorithm 2: least squares, exact covariances, and what it refuses."""

from dataclasses import replace

import pytest
import torch
from fang2021.networks import generator, network, normal

from mflib.fang2021.collapse import expected_range, largest_spread, spread
from mflib.fang2021.initialisation import (
    algorithm_two,
    correlated_normals,
    feature_gram,
    independent_weights,
    regression,
    square_root,
    standard_features,
)
from mflib.fang2021.path_law import continuous_start, dimension, path_grams, paths


def test_the_regression_is_the_minimum_norm_solution():
    values, alpha = normal(2, 4, 30), normal(2, 4, 5, seed=1)
    least = torch.linalg.lstsq(values / 30, alpha, driver="gelsd").solution
    torch.testing.assert_close(regression(values, alpha).dense(), least)


def test_the_regression_with_masses_meets_its_constraint():
    mass = torch.rand(30, generator=generator(4), dtype=torch.float64)
    mass = mass / mass.sum()
    values, alpha = normal(4, 30), normal(4, 30, seed=1)
    made = regression(values, alpha, mass).forward(values, mass)
    torch.testing.assert_close(made, alpha)


def test_the_soft_regression_is_a_stationary_point_of_its_objective():
    values, alpha = normal(3, 20), normal(3, 1, seed=1)
    v = regression(values, alpha, ridge=0.3).dense().requires_grad_()
    objective = 0.3 / 20 * v.square().sum() + (alpha - values @ v / 20).square().sum()
    (slope,) = torch.autograd.grad(objective, v)
    assert slope.abs().max() < 1e-14


def test_algorithm_two_keeps_the_features_of_every_layer():
    net = network()
    w, f = algorithm_two(net, 40, generator(), batch=(3,))
    for left, right in zip(net.forward(w).beta, f.beta, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-11)


def test_another_seed_and_another_batch_entry_differ():
    net = network()
    f = standard_features(net, 20, generator(0), batch=(2,))[2]
    g = standard_features(net, 20, generator(1), batch=(2,))[2]
    assert (f.beta[2] - g.beta[2]).abs().min() > 0
    assert (f.beta[2][0] - f.beta[2][1]).abs().min() > 0


def test_equal_inputs_are_refused_with_a_remedy_and_taken_with_a_ridge():
    values, alpha = normal(3, 20)[[0, 1, 1]], normal(3, 2, seed=1)
    with pytest.raises(ValueError, match="parallel or equal.*ridge"):
        regression(values, alpha)
    assert torch.isfinite(regression(values, alpha, ridge=1e-3).dense()).all()


def test_square_roots_square_back():
    a = normal(2, 4, 4)
    s = a @ a.mT
    torch.testing.assert_close(square_root(s) @ square_root(s), s)
    torch.testing.assert_close(
        square_root(s, -0.5) @ s @ square_root(s, -0.5), torch.eye(4).double().expand(2, 4, 4)
    )
    with pytest.raises(ValueError, match="singular"):
        square_root(s * 0 + 1.0, -0.5)


def test_standard_residuals_have_the_conditional_covariance_of_the_features():
    net = network(depth=2)
    _, (v,), f = standard_features(net, 25, generator(), sigma=0.7)
    mass = torch.full((25,), 1 / 25, dtype=torch.float64)
    unit = 0.7 * 5.0 * torch.eye(25, dtype=torch.float64)  # weights of variance m sigma^2
    made = type(v)(unit).forward(net.h1.f(f.beta[0]), mass)
    torch.testing.assert_close(made @ made.mT, 0.49 * feature_gram(net.h1.f(f.beta[0])))


def test_the_share_is_the_correlation():
    g = correlated_normals((200_000, 2), generator(), share=0.3)
    assert abs((g[:, 0] * g[:, 1]).mean() - 0.3) < 0.02
    assert abs(g[:, 0].square().mean() - 1) < 0.02


def test_independent_weights_have_mean_and_deviation():
    net = network(depth=2)
    w = independent_weights(net, 200, generator(), 0.3, 2.0)
    assert abs(w.middle[0].v.mean() - 0.3) < 0.05 and abs(w.middle[0].v.std() - 2) < 0.05
    wide = independent_weights(net, 200, generator(), 0.3, None)
    assert abs(wide.middle[0].v.std() - 200**0.5) < 0.2


def test_paths_meet_the_forward_constraint_with_unequal_masses():
    net = network(depth=3)
    mass = torch.rand(64, generator=generator(2), dtype=torch.float64)
    normals = normal(64, dimension(net))
    first, f, grams = paths(net, normals, 0.8, mass / mass.sum())
    w = continuous_start(net, normals, 0.8, mass=mass / mass.sum())
    g = net.forward(w)
    for left, right in zip(g.alpha, f.alpha, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-10)
    assert len(grams) == 3 and torch.equal(first, w.first)


def test_population_gram_of_a_linear_layer_is_the_kernel():
    net = replace(network(depth=1), h1="linear")
    (k,) = path_grams(net, generator(), 2**14, sigma=0.9)
    torch.testing.assert_close(k, 0.81 * net.x @ net.x.mT / 2, rtol=2e-3, atol=2e-3)


def test_the_spread_is_a_deviation_and_the_largest_a_range():
    beta = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 6.0]]).double()
    assert abs(spread(beta) - ((2 / 3 + 8) / 2) ** 0.5) < 1e-14
    assert largest_spread(beta) == 6


def test_the_expected_range_of_normals_is_that_of_simulation_and_of_two():
    assert abs(expected_range(2) - 2 / torch.pi**0.5) < 1e-12
    g = normal(4000, 50)
    assert abs((g.amax(-1) - g.amin(-1)).mean() / expected_range(50) - 1) < 0.01
