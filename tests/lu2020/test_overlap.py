import pytest
import torch
from problems import DOUBLE, randn

from mflib.blocks import MatrixBlock, NeuronBlock
from mflib.lu2020.overlap import interval_pass

BLOCK = MatrixBlock(2, "tanh")
X = randn(3, 2)


def test_blocks_one_after_the_other_are_a_residual_network():
    stamps = torch.tensor([[0.0, 0.2, 0.7, 1.0], [0.1, 0.3, 0.4, 0.9]], dtype=DOUBLE)
    theta = randn(2, 3, 4, seed=1)
    found = interval_pass(BLOCK, theta, stamps[:, :-1], stamps[:, 1:], X)
    for s in (0, 1):
        state = X
        for i in range(3):
            step = stamps[s, i + 1] - stamps[s, i]
            state = state + step * torch.tanh(state @ theta[s, i].view(2, 2).mT)
        torch.testing.assert_close(found.X[s], state)
    assert found.evaluations.tolist() == [3, 3]


def test_overlapping_blocks_act_together_by_hand():
    # [0, .6] and [.2, 1]: the first alone, both, the second alone
    linear = MatrixBlock(1, "linear")
    theta = torch.tensor([[[2.0], [-3.0]]], dtype=DOUBLE)
    starts, ends = (torch.tensor([v], dtype=DOUBLE) for v in ([0.0, 0.2], [0.6, 1.0]))
    x = torch.ones(1, 1, dtype=DOUBLE)
    found = interval_pass(linear, theta, starts, ends, x)
    by_hand = (1 + 0.2 * 2) * (1 + 0.4 * (2 - 3)) * (1 - 0.4 * 3)
    assert float(found.X) == pytest.approx(by_hand)
    assert int(found.evaluations) == 4


def test_solver_steps_are_added_and_converge_to_the_flow():
    linear = MatrixBlock(1, "linear")
    theta = torch.tensor([[[1.0]]], dtype=DOUBLE)
    starts, ends = (torch.tensor([[v]], dtype=DOUBLE) for v in (0.25, 0.75))
    x = torch.ones(1, 1, dtype=DOUBLE)
    found = interval_pass(linear, theta, starts, ends, x, least=400)
    assert int(found.evaluations) == 200
    assert float(found.X) == pytest.approx(2.718281828**0.5, rel=2e-3)


def test_the_counter_counts_calls_of_the_block():
    calls = []

    class Spy(NeuronBlock):
        def value(self, x, theta):
            calls.append(len(x))
            return super().value(x, theta)

    starts, ends = torch.rand(6, 5, 2, dtype=DOUBLE).sort(-1)[0].unbind(-1)
    found = interval_pass(Spy(2), randn(6, 5, 5, seed=2), starts, ends, X)
    assert sum(calls) == int(found.evaluations.sum()) > 30


def test_bad_input_names_the_argument():
    theta, half = randn(1, 2, 4), torch.full((1, 2), 0.5, dtype=DOUBLE)
    with pytest.raises(ValueError, match="ends: an interval is empty"):
        interval_pass(BLOCK, theta, half, half, X)
    with pytest.raises(ValueError, match="starts"):
        interval_pass(BLOCK, theta, half[:, :1], half, X)
    with pytest.raises(ValueError, match="theta"):
        interval_pass(BLOCK, theta[..., :3], half - 0.1, half, X)
