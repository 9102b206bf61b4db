import math
from fractions import Fraction

import pytest
import torch
from problems import generator, randn
from scipy.special import comb

from mflib.blocks import MatrixBlock
from mflib.lu2020.expansion import (
    network_jet,
    rooted_trees,
    scalar_jet,
    tanh_derivatives,
    tanh_radius,
    tree_factorial,
    tree_sum,
)
from mflib.measures import LayeredMeasure
from mflib.ode import flow
from mflib.sampling import gaussian_measure


def test_the_scalar_jet_sums_to_the_exact_flow():
    theta, start = 0.8, 0.5
    c = scalar_jet(theta, math.tanh(theta * start), start, 60)
    exact = math.asinh(math.exp(theta * 0.5) * math.sinh(theta * start)) / theta
    assert sum(v * 0.5**k for k, v in enumerate(c)) == pytest.approx(exact, rel=1e-12)


def test_the_scalar_jet_of_a_linear_block_is_the_exponential_series():
    theta, start = Fraction(3, 2), Fraction(2, 7)
    c = scalar_jet(theta, theta * start, start, 9, "linear")
    assert c == [start * theta**k / math.factorial(k) for k in range(10)]
    with pytest.raises(ValueError, match="sigma: expected one of 'tanh', 'linear'"):
        scalar_jet(theta, theta * start, start, 9, "relu")


def test_a_linear_network_has_binomial_orders():
    rho = LayeredMeasure(torch.full((20, 1, 1), 0.7, dtype=torch.float64))
    c = network_jet(MatrixBlock(1, "linear"), rho, torch.ones(1, 1).double(), 8)[:, 0, 0]
    expected = [comb(20, k) / 20**k * 0.7**k for k in range(9)]
    assert c.tolist() == pytest.approx(expected, rel=1e-13)


def test_orders_are_the_derivatives_of_the_network_in_lambda():
    block, rho, x = MatrixBlock(2), gaussian_measure(5, 3, 4, generator(), 0.5), randn(3, 2)
    jet = network_jet(block, rho, x, 3)

    def output(lam):
        return flow(block, LayeredMeasure(rho.theta, lam * rho.weights), x, 5).X[-1]

    first = torch.func.jacfwd(output)
    second, third = torch.func.jacfwd(first), torch.func.jacfwd(torch.func.jacfwd(first))
    zero = torch.zeros((), dtype=torch.float64)
    for k, derivative in enumerate((output, first, second, third)):
        torch.testing.assert_close(jet[k], derivative(zero) / math.factorial(k))


def test_there_are_as_many_rooted_trees_as_there_should_be():
    assert [len(rooted_trees(n)) for n in range(1, 9)] == [1, 1, 2, 4, 9, 20, 48, 115]
    assert tree_factorial(((), ())) == 3 and tree_factorial((((),),)) == 6


def test_the_weights_of_order_k_sum_to_one_over_k():
    for k in range(1, 9):
        assert tree_sum([Fraction(1)] * k, k) == Fraction(1, k)


def test_the_tree_sum_of_the_exponential_field_is_known():
    # x' = exp(x), x(0) = 0: x = -log(1 - t), every derivative is 1, c_k = 1/k
    assert tree_sum([1.0] * 6, 6) == pytest.approx(1 / 6)
    # x' = x: only the chain survives
    assert tree_sum([1.0, 1.0, 0, 0, 0], 5) == pytest.approx(1 / 120)


def test_the_radius_needs_positive_arguments_and_other_activations_are_refused():
    assert tanh_radius(2.0, math.asinh(1) / 2) == pytest.approx(math.pi / 4)
    with pytest.raises(ValueError, match="theta"):
        tanh_radius(-1.0, 1.0)
    with pytest.raises(ValueError, match="tanh or linear"):
        network_jet(MatrixBlock(1, "sin"), gaussian_measure(1, 1, 1, generator()), randn(1, 1), 2)


def test_derivatives_of_tanh_equal_autograd():
    f, x = (lambda z: torch.tanh(1.3 * z)), torch.tensor(0.4, dtype=torch.float64)
    for value in tanh_derivatives(1.3, math.tanh(0.52), 4):
        assert value == pytest.approx(float(f(x)), rel=1e-12)
        f = torch.func.grad(f)


def test_the_orders_do_not_depend_on_how_samples_and_problems_are_cut(monkeypatch):
    block, x = MatrixBlock(2), randn(2, 7, 2)
    rho = gaussian_measure(3, 4, 4, generator(), batch=(2,))
    law = LayeredMeasure(rho.theta, torch.rand(2, 3, 4, generator=generator(1)).double())
    whole = network_jet(block, law, x, 4)
    monkeypatch.setattr("mflib.lu2020.expansion._ENTRIES", 1)
    torch.testing.assert_close(network_jet(block, law, x, 4), whole, rtol=1e-13, atol=1e-15)
    alone = network_jet(block, LayeredMeasure(law.theta[1], law.weights[1]), x[1], 4)
    torch.testing.assert_close(alone, whole[:, 1], rtol=1e-13, atol=1e-15)
