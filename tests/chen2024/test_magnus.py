import math

import pytest
import torch
from problems import DOUBLE, generator, randn, rotation

from mflib.blocks import MatrixBlock, NeuronBlock
from mflib.chen2024.magnus import jacobians, magnus, propagator
from mflib.measures import CurveMeasure, LayeredMeasure
from mflib.ode import adjoint, flow
from mflib.sampling import wave_measure

BLOCK = NeuronBlock(3, "tanh")
WAVE = wave_measure(4, BLOCK.k, generator(), batch=(2,), tilt=0.4)
X = randn(2, 5, 3, seed=1)


def linear_halves():
    """A = E12 in the first half of the depth and E21 in the second, for x' = A x."""
    halves = torch.tensor([[[0, 1, 0, 0]], [[0, 0, 1, 0]]], dtype=DOUBLE)
    return flow(MatrixBlock(2, "linear"), LayeredMeasure(halves), randn(1, 2), 2, "rk4")


def test_the_ordered_exponential_by_hand():
    q = propagator(MatrixBlock(2, "linear"), linear_halves())[:, 0]
    expected = [[[1, 0.5], [0.5, 1.25]], [[1, 0], [0.5, 1]], [[1, 0], [0, 1]]]
    torch.testing.assert_close(q, torch.tensor(expected, dtype=DOUBLE))


def test_the_commutator_by_hand():
    first, second = magnus(MatrixBlock(2, "linear"), linear_halves())
    torch.testing.assert_close(first[0], torch.tensor([[0, 0.5], [0.5, 0]], dtype=DOUBLE))
    # half of [E21, E12] over the square of side 1/2
    expected = torch.tensor([[-0.125, 0], [0, 0.125]], dtype=DOUBLE)
    torch.testing.assert_close(second[0], expected)


def test_commuting_jacobians_give_the_plain_exponential():
    block, rho, exact = rotation(0.8)
    run = flow(block, rho, randn(3, 2), 200, "rk4")
    torch.testing.assert_close(propagator(block, run)[0, 0], exact)
    first, second = magnus(block, run)
    torch.testing.assert_close(torch.matrix_exp(first[0]), exact)
    assert second.abs().max() < 1e-15


@pytest.mark.parametrize("method", ["euler", "midpoint", "rk4"])
def test_the_propagator_is_the_derivative_of_the_flow(method):
    leaf = X.clone().requires_grad_()
    run = flow(BLOCK, WAVE, leaf, 5, method)
    q = propagator(BLOCK, run)
    assert q.shape == (2, 6, 5, 3, 3)
    rows = [
        torch.autograd.grad(run.X[:, -1, :, a].sum(), leaf, retain_graph=True)[0] for a in range(3)
    ]
    torch.testing.assert_close(q[:, 0], torch.stack(rows, -2))


@pytest.mark.parametrize("method", ["euler", "midpoint", "rk4"])
def test_row_vectors_on_its_left_are_the_adjoint(method):
    run, p1 = flow(BLOCK, WAVE, X, 5, method), randn(2, 5, 3, seed=4)
    rows = torch.einsum("bna,blnac->blnc", p1, propagator(BLOCK, run))
    torch.testing.assert_close(adjoint(BLOCK, run, p1).p, rows)


def test_jacobians_equal_those_of_the_block():
    run = flow(BLOCK, WAVE, X, 3, "midpoint")
    each = BLOCK.jacobian(run.stages, run.theta)
    total = torch.einsum("...nNab,...N->...nab", each, run.weights)
    torch.testing.assert_close(jacobians(BLOCK, run), total)


def test_magnus_terms_converge_and_leave_an_error_of_order_three():
    exponents, errors = [], []
    for scale in (0.1, 0.05):

        def theta(s, scale=scale):
            return WAVE.theta(s) * torch.tensor([scale] * 3 + [1.0] * 4)

        run = flow(BLOCK, CurveMeasure(theta, WAVE.weights), X, 60, "rk4")
        first, second = magnus(BLOCK, run)
        coarse = magnus(BLOCK, flow(BLOCK, CurveMeasure(theta, WAVE.weights), X, 30, "rk4"))
        torch.testing.assert_close(coarse[1], second, rtol=1e-3, atol=1e-8)
        gap = propagator(BLOCK, run)[:, 0] - torch.matrix_exp(first + second)
        errors.append(float(gap.norm()))
        exponents.append(float(second.norm()))
    assert math.log2(exponents[0] / exponents[1]) == pytest.approx(2, abs=0.1)
    assert math.log2(errors[0] / errors[1]) == pytest.approx(3, abs=0.1)
