import math

import pytest
import torch
from problems import DOUBLE, generator

from mflib.beyond.relu_covariance import (
    covariance_at_depth,
    covariance_limit,
    relu_covariance,
    relu_states,
)


def covariances(count=6, seed=3):  # of random inputs of different sizes, both signs
    x = torch.randn(count, 2, 3, generator=generator(seed), dtype=DOUBLE)
    x = x * torch.tensor([0.7, 1.9], dtype=DOUBLE)[:, None]
    return x @ x.mT / 3


def test_the_moments_behind_a_relu_are_those_of_a_quadrature():
    Q = covariances(4)
    nodes = torch.linspace(-9, 9, 2401, dtype=DOUBLE)
    weight = torch.exp(-nodes.square() / 2) / math.sqrt(2 * math.pi) * (nodes[1] - nodes[0])
    root = torch.linalg.cholesky(Q)
    u = root[:, 0, 0, None, None] * nodes[:, None]
    v = root[:, 1, 0, None, None] * nodes[:, None] + root[:, 1, 1, None, None] * nodes
    found = (u.relu() * v.relu() * weight[:, None] * weight).sum((-1, -2))
    torch.testing.assert_close(relu_covariance(Q)[:, 0, 1], found, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        relu_covariance(Q).diagonal(dim1=-2, dim2=-1), Q.diagonal(dim1=-2, dim2=-1) / 2
    )
    assert torch.equal(relu_covariance(Q), relu_covariance(Q).mT)


def test_a_block_of_a_wide_network_adds_that_covariance():
    d, g = 4000, generator(1)
    Q = covariances(1)[0]
    h = torch.linalg.cholesky(Q) @ torch.randn(2, d, generator=g, dtype=DOUBLE)
    W = torch.randn(d, d, generator=g, dtype=DOUBLE) / d**0.5
    after = h + 0.8 * h.relu() @ W.mT
    torch.testing.assert_close(
        after @ after.mT / d, covariance_at_depth(Q, 1, 0.8), rtol=0.1, atol=0.05
    )


def test_norms_grow_by_a_half_of_the_square_of_the_scale_a_block():
    Q = covariances()
    found = covariance_at_depth(Q, 7, 0.6).diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(found, Q.diagonal(dim1=-2, dim2=-1) * (1 + 0.18) ** 7)


def test_many_blocks_tend_to_the_equation_in_depth():
    Q = covariances()
    gap = [covariance_at_depth(Q, L, L**-0.5) - covariance_limit(Q) for L in (200, 400, 800)]
    torch.testing.assert_close(gap[0] / gap[1], torch.full_like(Q, 2.0), rtol=0.01, atol=0)
    best = 8 * gap[2] / 3 - 2 * gap[1] + gap[0] / 3  # Richardson: what is left of the two orders
    assert best.abs().max() < 1e-7
    longer = covariance_at_depth(Q, 4000, (1.5 / 4000) ** 0.5)
    torch.testing.assert_close(longer, covariance_limit(Q, 1.5), rtol=1e-3, atol=0)


def test_parallel_inputs_stay_parallel_and_the_order_of_inputs_does_not_matter():
    Q = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=DOUBLE)
    torch.testing.assert_close(covariance_limit(Q), Q * math.exp(0.5))
    Q = covariances()
    torch.testing.assert_close(covariance_limit(Q.flip(-1, -2)), covariance_limit(Q).flip(-1, -2))


@pytest.mark.parametrize(
    ("Q", "word"),
    [
        ([[1.0, 0.0], [0.0, 0.0]], "Q: has a diagonal"),
        ([[1.0, 2.0], [2.0, 1.0]], "Q: is no covariance"),
        ([[1.0, 0.5], [0.4, 1.0]], "Q: "),
        ([[1.0]], "Q: expected covariances of two"),
        ([[math.nan, 0.0], [0.0, 1.0]], "Q: "),
    ],
)
def test_what_is_no_covariance_of_two_inputs_is_refused(Q, word):
    for routine in (relu_covariance, covariance_limit):
        with pytest.raises(ValueError, match=word):
            routine(torch.tensor(Q, dtype=DOUBLE))


def test_impossible_depths_scales_and_times_are_refused():
    Q = covariances(1)
    with pytest.raises(ValueError, match="L: "):
        covariance_at_depth(Q, 0, 1.0)
    with pytest.raises(ValueError, match="scale: "):
        covariance_at_depth(Q, 3, 0.0)
    with pytest.raises(ValueError, match="scale: the covariance left"):
        covariance_at_depth(Q, 3, 1e150)
    with pytest.raises(ValueError, match="time: "):
        covariance_limit(Q, -1.0)


def pair(networks, d, seed=4):  # the same two inputs for all networks, unequal lengths
    x = torch.randn(1, 2, d, generator=generator(seed), dtype=DOUBLE)
    x = x * torch.tensor([0.8, 1.7], dtype=DOUBLE)[:, None]
    return x.expand(networks, -1, -1).contiguous()


def moments(h):  # means of products of the coordinates of both inputs
    flat = h.flatten(1)
    return torch.cat([flat.mean(0), (flat.mT @ flat / len(h)).flatten()])


def test_states_are_distributed_as_with_matrices():
    h, s, g = pair(40_000, 3), 0.7, generator(6)
    by_matrices = h
    for _ in range(3):
        W = torch.randn(len(h), 3, 3, generator=g, dtype=DOUBLE) / 3**0.5
        by_matrices = by_matrices + s * by_matrices.relu() @ W.mT
    found = relu_states(h, 3, s, generator(7))
    torch.testing.assert_close(moments(found), moments(by_matrices), rtol=0.05, atol=0.06)


def test_many_coordinates_have_the_covariance_of_infinite_width():
    h = pair(4, 40_000)
    Q = h[0] @ h[0].mT / 40_000
    found = relu_states(h, 6, 0.5, generator(1))
    torch.testing.assert_close(
        found @ found.mT / 40_000, covariance_at_depth(Q, 6, 0.5).expand(4, 2, 2), rtol=0.05, atol=0
    )


def test_repeated_rows_push_their_coordinates_alike_and_another_seed_differs():
    h = pair(3, 6)
    moved = relu_states(h, 1, 0.5, generator(1), rows=2) - h
    torch.testing.assert_close(moved[..., :3], moved[..., :1].expand(-1, -1, 3))
    assert (moved[..., 0] != moved[..., 3]).all()
    assert not torch.equal(moved[0], moved[1])
    assert not torch.equal(moved, relu_states(h, 1, 0.5, generator(2), rows=2) - h)


def test_equal_inputs_stay_equal_and_inputs_without_a_positive_part_stay_where_they_are():
    h = pair(5, 6)[:, [0, 0]]
    end = relu_states(h, 5, 0.9, generator())
    torch.testing.assert_close(end[:, 0], end[:, 1])
    assert torch.equal(relu_states(-h.abs(), 5, 0.9, generator()), -h.abs())


def test_impossible_states_rows_and_sources_are_refused():
    h = pair(2, 6)
    with pytest.raises(ValueError, match="rows: 4 does not divide"):
        relu_states(h, 1, 0.5, generator(), rows=4)
    with pytest.raises(ValueError, match="scale: the states left"):
        relu_states(h.abs(), 3, 1e200, generator())
    with pytest.raises(TypeError, match="generator: "):
        relu_states(h, 1, 0.5, None)
    with pytest.raises(ValueError, match="L: "):
        relu_states(h, 0, 0.5, generator())
