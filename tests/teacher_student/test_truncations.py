"""Truncations in the law: exact for linear layers, and against the network's own jet."""

import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.blocks import MatrixBlock
from mflib.measures import LayeredMeasure
from mflib.ode import flow
from mflib.teacher_student.truncations import truncated


def law():
    w = torch.rand(3, 5, 4, generator=generator(3), dtype=DOUBLE)
    return LayeredMeasure(randn(3, 5, 4, 4), w)


def test_they_are_the_taylor_polynomials_of_the_network_in_its_law():
    block, rho, x = MatrixBlock(2), law(), randn(3, 6, 2, seed=1)

    def scaled(s):
        return flow(block, LayeredMeasure(rho.theta, s * rho.weights), x, 5).X[:, -1]

    zero, one = torch.zeros((), dtype=DOUBLE), torch.ones((), dtype=DOUBLE)
    jets = [scaled(zero)]
    _, first = torch.func.jvp(scaled, (zero,), (one,))
    _, second = torch.func.jvp(lambda s: torch.func.jvp(scaled, (s,), (one,))[1], (zero,), (one,))
    assert torch.allclose(truncated(block, rho, x, 1), jets[0] + first)
    assert torch.allclose(truncated(block, rho, x, 2), jets[0] + first + second / 2)


def test_equal_linear_layers_in_one_dimension_are_binomial():
    theta = torch.full((4, 1, 1), 0.3, dtype=DOUBLE)
    x = torch.ones(1, 1, dtype=DOUBLE)
    found = truncated(MatrixBlock(1, "linear"), LayeredMeasure(theta), x, 2)
    assert torch.allclose(found, torch.full((1, 1), 1 + 0.3 + 6 * 0.3**2 / 16, dtype=DOUBLE))


def test_slabs_are_the_limit_of_many_equal_layers_in_each_slab():
    block, rho, x = MatrixBlock(2), law(), randn(3, 6, 2, seed=1)
    slabs, gaps = truncated(block, rho, x, 2, slabs=True), []
    for parts in (64, 128):
        fine = LayeredMeasure(
            rho.theta.repeat_interleave(parts, 1), rho.weights.repeat_interleave(parts, 1)
        )
        gaps.append((truncated(block, fine, x, 2) - slabs).abs().max())
    assert abs(gaps[0] / gaps[1] - 2) < 1e-6 and gaps[1] < 0.1


def test_only_orders_one_and_two_exist():
    with pytest.raises(ValueError, match="order"):
        truncated(MatrixBlock(2), law(), randn(3, 6, 2), 3)
