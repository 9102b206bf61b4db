"""Dissipation: against autograd, the tangent Gram matrix against explicit sums, attained bounds."""

import pytest
import torch

from mflib.blocks import MatrixBlock, NeuronBlock
from mflib.lu2020.stationary import (
    dissipation,
    dissipation_bounds,
    smallest_eigenvalues,
    tangent_gram,
)
from mflib.measures import LayeredMeasure
from mflib.problem import Problem

DOUBLE = dict(dtype=torch.float64)


def uneven(layers=3, particles=5, n=4, batch=2, seed=0):
    """Two problems with unequal masses of data, layers and particles."""
    g = torch.Generator().manual_seed(seed)
    theta = torch.randn(batch, layers, particles, 4, generator=g, **DOUBLE)
    weights = torch.rand(batch, layers, particles, generator=g, **DOUBLE) + 0.1
    weights = layers * weights / weights.sum((-1, -2), keepdim=True)
    x = torch.randn(batch, n, 2, generator=g, **DOUBLE)
    y = torch.randn(batch, n, generator=g, **DOUBLE)
    mass = torch.rand(n, generator=g, **DOUBLE) + 0.2
    problem = Problem(MatrixBlock(2, "shifted sigmoid"), x, y, mass=mass / mass.sum(), steps=layers)
    return problem, LayeredMeasure(theta, weights)


def test_dissipation_is_the_rate_at_which_autograd_sees_the_loss_fall():
    problem, rho = uneven()
    theta = rho.theta.clone().requires_grad_()
    loss = problem.loss(LayeredMeasure(theta, rho.weights))
    (slope,) = torch.autograd.grad(loss.sum(), theta)
    velocity = -problem.gradient(rho)  # of the mean-field flow
    rate = (slope * velocity).sum((-1, -2, -3))
    torch.testing.assert_close(dissipation(problem, rho), -rate, rtol=1e-12, atol=0)


def test_the_gram_matrices_are_the_sums_written_out():
    problem, rho = uneven()
    X = problem.flow(rho).X
    K = tangent_gram(problem, rho)
    b, layer, row, i, j = 1, 2, 1, 0, 3
    total = 0.0
    for k in range(rho.theta.shape[-2]):
        w = rho.theta[b, layer, k].view(2, 2)[row]
        slopes = [problem.block.sigma.df(w @ X[b, layer, m]) for m in (i, j)]
        total = total + rho.weights[b, layer, k] * slopes[0] * slopes[1]
    total = total / rho.weights[b, layer].sum() * (X[b, layer, i] @ X[b, layer, j])
    total = total * (problem.mass[i] * problem.mass[j]).sqrt()
    assert float(K[b, layer, row, i, j]) == pytest.approx(float(total), rel=1e-12)


def test_dissipation_is_the_quadratic_form_of_the_gram_matrices():
    problem, rho = uneven()
    q = problem.backward(rho).costates * problem.mass.sqrt()[:, None]
    form = torch.einsum("blid,bldij,bljd->bl", q, tangent_gram(problem, rho), q)
    by_form = (rho.depth_density * form).mean(-1)
    torch.testing.assert_close(dissipation(problem, rho), by_form, rtol=1e-12, atol=0)


def test_the_bounds_hold_in_order_and_another_seed_differs():
    for seed in range(5):
        problem, rho = uneven(seed=seed, particles=60)
        value, by_adjoint, by_loss = dissipation_bounds(problem, rho)
        assert (by_loss <= by_adjoint * (1 + 1e-12)).all()
        assert (by_adjoint <= value * (1 + 1e-12)).all() and (by_loss > 0).all()
    other = dissipation_bounds(*uneven(seed=9, particles=60)).value
    assert not torch.allclose(other, value)


def test_one_layer_and_the_lowest_eigenvector_attain_both_bounds():
    problem, rho = uneven(layers=1, particles=30, n=3)
    theta = torch.cat([rho.theta, rho.theta.roll(2, -1)], -2)  # both rows have one law
    rho = LayeredMeasure(theta, torch.cat([rho.weights, rho.weights], -1) / 2)
    lowest = torch.linalg.eigh(tangent_gram(problem, rho)[:, 0, 0])[1][..., 0]
    y = problem.flow(rho).X[:, -1, :, 0] - lowest / problem.mass.sqrt()
    at = Problem(problem.block, problem.x, y, mass=problem.mass, steps=1)
    value, by_adjoint, by_loss = dissipation_bounds(at, rho)
    torch.testing.assert_close(by_loss, value, rtol=1e-10, atol=0)
    torch.testing.assert_close(by_adjoint, value, rtol=1e-10, atol=0)


def test_given_eigenvalues_take_the_place_of_the_laws_own():
    problem, rho = uneven()
    own = smallest_eigenvalues(problem, rho)
    twice = dissipation_bounds(problem, rho, 2 * own)
    torch.testing.assert_close(twice.by_adjoint, 2 * dissipation_bounds(problem, rho).by_adjoint)
    torch.testing.assert_close(twice.value, dissipation(problem, rho))


def test_other_blocks_are_refused():
    problem, rho = uneven()
    neurons = Problem(NeuronBlock(2), problem.x, problem.y, steps=3)
    with pytest.raises(TypeError, match="problem: needs a MatrixBlock"):
        tangent_gram(neurons, LayeredMeasure(torch.zeros(3, 1, 5, **DOUBLE)))
