import math

import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.blocks import MatrixBlock
from mflib.lu2020.picard import chebyshev_nodes, picard, picard_bound
from mflib.measures import CurveMeasure
from mflib.ode import flow
from mflib.sampling import wave_measure


def test_the_integration_matrix_is_exact_for_polynomials():
    depths, integral = chebyshev_nodes(12)
    for degree in range(10):
        torch.testing.assert_close(integral @ depths**degree, depths ** (degree + 1) / (degree + 1))


def test_iterates_of_the_linear_problem_are_partial_sums_of_the_exponential():
    rho = CurveMeasure(lambda t: torch.full((1, 1), 0.7, dtype=DOUBLE))
    X = picard(MatrixBlock(1, "linear"), rho, torch.ones(1, 1, dtype=DOUBLE), 6)[:, -1, 0, 0]
    partial = [sum(0.7**j / math.factorial(j) for j in range(k + 1)) for k in range(7)]
    assert X.tolist() == pytest.approx(partial, rel=1e-13)


def test_the_limit_is_the_flow_and_a_batch_equals_its_members():
    block, rho, x = MatrixBlock(2), wave_measure(3, 4, generator(), 0.5, (2,)), randn(4, 2)
    X = picard(block, rho, x, 30, nodes=65)[-1]
    torch.testing.assert_close(
        X[:, -1], flow(block, rho, x, 256, "rk4").X[:, -1], rtol=1e-9, atol=1e-9
    )
    alone = CurveMeasure(lambda t: rho.theta(t)[1])
    torch.testing.assert_close(picard(block, alone, x, 30, nodes=65)[-1], X[1])


def test_the_bound_is_the_tail_of_its_series():
    bound = picard_bound(torch.tensor(2.0).double(), torch.tensor(1.5).double(), 4)
    tail = [2 * sum(1.5**j / math.factorial(j + 1) for j in range(k, 80)) for k in range(5)]
    assert bound.tolist() == pytest.approx(tail, rel=1e-12)


def test_impossible_sizes_are_named():
    with pytest.raises(ValueError, match="nodes"):
        chebyshev_nodes(1)
    with pytest.raises(ValueError, match="iterations"):
        picard(MatrixBlock(1), wave_measure(1, 1, generator()), torch.ones(1, 1, dtype=DOUBLE), 0)
