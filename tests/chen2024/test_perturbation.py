import math

import pytest
import torch
from problems import DOUBLE, randn

from mflib.chen2024.perturbation import displacement_norm, worst_direction
from mflib.transport import wasserstein


def test_norm_of_a_displacement_is_its_cost():
    v = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=DOUBLE)
    assert float(displacement_norm(v)) == pytest.approx(5 / math.sqrt(2))
    layers = torch.stack([v, 0 * v])
    assert float(displacement_norm(layers, axes=2)) == pytest.approx(2.5)
    assert displacement_norm(layers).shape == (2,)


def test_a_small_displacement_costs_w2_and_a_permutation_costs_more():
    points = randn(60, 3)
    moved = points + 1e-3 * randn(60, 3, seed=1)
    norm = float(displacement_norm(moved - points))
    assert float(wasserstein(points, moved)) == pytest.approx(norm, rel=1e-6)
    shuffled = points.flip(0)
    assert float(wasserstein(points, shuffled)) < 1e-6 < float(displacement_norm(shuffled - points))


def test_the_mean_of_a_linear_function_moves_along_its_slope():
    # F = mean of g.theta: the gradient is g at every particle, its norm |g|
    g = randn(3)
    points = randn(5, 20, 3, seed=1)
    direction, slope = worst_direction(lambda t: (t @ g).mean(-1, keepdim=True), points)
    torch.testing.assert_close(slope, g.norm().expand(5))
    torch.testing.assert_close(direction, (g / g.norm()).expand(5, 20, 3))
    torch.testing.assert_close(displacement_norm(direction), torch.ones(5, dtype=DOUBLE))


def test_the_worst_of_several_components_is_the_top_singular_vector():
    matrix = randn(2, 3)
    points = randn(4, 6, 3, seed=1)
    direction, slope = worst_direction(lambda t: t.mean((-2, -3)) @ matrix.T, points, axes=2)
    torch.testing.assert_close(slope, torch.linalg.matrix_norm(matrix, 2))
    torch.testing.assert_close(displacement_norm(direction, 2), torch.tensor(1.0, dtype=DOUBLE))
    change = direction.mean((0, 1)) @ matrix.T
    torch.testing.assert_close(change.norm(), slope)


def test_no_other_direction_of_the_same_length_changes_more():
    def function(t):
        return torch.stack([torch.tanh(t).prod(-1).mean(-1), t.square().sum(-1).mean(-1)], -1)

    points = randn(3, 8, 2)
    direction, slope = worst_direction(function, points)
    for seed in range(20):
        other = randn(3, 8, 2, seed=seed + 5)
        other = other / displacement_norm(other)[:, None, None]
        _, along = torch.func.jvp(function, (points,), (other,))
        assert (along.norm(dim=-1) <= slope + 1e-12).all()
    _, along = torch.func.jvp(function, (points,), (direction,))
    torch.testing.assert_close(along.norm(dim=-1), slope)


def test_the_direction_ascends_a_scalar():
    points = randn(10, 2)
    for sign in (1.0, -1.0):

        def function(t, sign=sign):
            return sign * t.square().sum((-1, -2))[..., None]

        direction, slope = worst_direction(function, points)
        change = function(points + 1e-6 * direction) - function(points)
        torch.testing.assert_close(change[0] / 1e-6, slope, rtol=1e-4, atol=0)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="axes: expected one of 1, 2"):
        displacement_norm(randn(3, 2), axes=3)
    with pytest.raises(ValueError, match="v: expected at least 3"):
        displacement_norm(randn(3, 2), axes=2)
    with pytest.raises(ValueError, match="function: does not change"):
        worst_direction(lambda t: 0 * t.sum((-1, -2))[..., None], randn(3, 2))
