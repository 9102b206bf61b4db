"""Algorithm 1: depths, sorting, and state that travels with the block."""

import pytest
import torch
import torch.nn.functional as F

from mflib.cifar import CifarError
from mflib.cifar.algorithm_one import RULES, initial_stamps, rearrange, rule, steps
from mflib.cifar.architectures import residual
from mflib.cifar.networks import Network

MOVABLE = (3, 2)


def _order_of(tau, how="mean-field", scores=None):
    labels = [torch.arange(m)[:, None].clone() for m in MOVABLE]
    tau = torch.tensor(tau)
    moved = rearrange(rule(how), tau, [], [[rows] for rows in labels], MOVABLE, scores)
    return tau.tolist(), [rows[:, 0].tolist() for rows in labels], moved


@pytest.mark.parametrize("name", RULES)
def test_steps_start_where_the_method_says(name):
    how, generator = rule(name), torch.Generator().manual_seed(0)
    tau = initial_stamps(how, MOVABLE, generator)
    heights = steps(how, tau, MOVABLE)
    if name in ("vanilla", "flow"):
        assert heights is None
    elif name == "random-stamps":
        assert all((h >= 0).all() for h in heights)
        assert all(float(h.sum()) <= m for h, m in zip(heights, MOVABLE, strict=True))
    else:
        total = 1.0 if name.startswith("T1") else None
        for h, m in zip(heights, MOVABLE, strict=True):
            torch.testing.assert_close(h, torch.full((m,), (total or m) / m))


def test_the_steps_of_any_depths_are_what_the_method_says():
    tau = torch.tensor([0.5, 1.25, 2.0, 0.25, 0.5])
    got = {
        name: torch.cat(steps(rule(name), tau, MOVABLE)).tolist()
        for name in ("mean-field", "free-steps", "normalised")
    }
    assert got["mean-field"] == [0.5, 0.75, 0.75, 0.25, 0.25]
    assert got["free-steps"] == tau.tolist()
    assert got["normalised"] == pytest.approx([0.75, 1.125, 1.125, 1.0, 1.0])


def test_blocks_are_sorted_by_tau_within_their_stage():
    tau, order, moved = _order_of([3.0, 1.0, 2.0, 1.0, 2.0])
    assert tau == [1.0, 2.0, 3.0, 1.0, 2.0]
    assert order == [[1, 2, 0], [0, 1]]
    assert moved.tolist() == [1, 0]


def test_equal_depths_keep_their_order_and_negative_ones_are_clamped():
    tau, order, moved = _order_of([1.0, 1.0, 1.0, -2.0, -3.0])
    assert tau == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert order == [[0, 1, 2], [0, 1]]
    assert moved.tolist() == [0, 0]


def test_depths_that_follow_the_flow_stay_between_0_and_1():
    tau, order, _ = _order_of([0.5, 1.5, -0.5, 0.2, 0.1], "flow")
    assert tau == pytest.approx([0.0, 0.5, 1.0, 0.1, 0.2])
    assert order == [[2, 0, 1], [1, 0]]


@pytest.mark.parametrize("name", ["free-steps", "free-steps"])
def test_without_a_sort_nothing_moves(name):
    tau, order, moved = _order_of([3.0, 1.0, 2.0, 5.0, 2.0], name)
    assert tau == [3.0, 1.0, 2.0, 5.0, 2.0]
    assert order == [[0, 1, 2], [0, 1]] and moved is None


def test_random_reordering_moves_as_many_other_blocks_only_when_tau_sorts():
    scores = torch.tensor([0.9, 0.1, 0.5, 0.2, 0.1])
    tau, order, moved = _order_of([2.0, 1.0, 3.0, 1.0, 2.0], "others-move", scores)
    assert tau == [1.0, 2.0, 3.0, 1.0, 2.0]
    assert moved.tolist() == [1, 0]
    assert order[1] == [0, 1]
    assert sum(a != b for a, b in enumerate(order[0])) == 2
    assert order[0] != [1, 0, 2]


def test_momentum_of_tau_travels_with_tau():
    tau, speed = torch.tensor([2.0, 1.0]), torch.tensor([20.0, 10.0])
    rearrange(rule("mean-field"), tau, [speed], [[]], (2,))
    assert speed.tolist() == [10.0, 20.0]


def test_swapping_two_depths_equals_swapping_the_blocks():
    arch = residual("toy", (4,), (8,), 5, size=8)
    net = Network(arch)
    generator = torch.Generator().manual_seed(0)
    theta, stats = (v.double() for v in net.initial(generator))
    x = torch.randn(8, 3, 8, 8, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 5, (8,), generator=generator)
    how, m, where, running = rule("mean-field"), *net.stacks[0]
    swap = torch.tensor([0, 2, 1, 3])

    def rows(vector, part):
        return vector[part].view(m, -1)

    # by hand: blocks 1 and 2 change places, the depths stay
    by_hand, uniform = theta.clone(), torch.arange(1.0, 5.0, dtype=torch.float64)
    rows(by_hand, where).copy_(rows(theta, where)[swap])
    # by Algorithm 1: their depths are exchanged, then the blocks are sorted
    sorted_, swapped = theta.clone(), uniform[swap].clone()
    running_sorted, running_hand = stats.clone(), stats.clone()
    rows(running_sorted, running).copy_(
        torch.rand(m, running.stop, generator=generator)[
            :, : rows(stats, running).shape[1]
        ].double()
        + 0.5
    )
    rows(running_hand, running).copy_(rows(running_sorted, running)[swap])
    rearrange(how, swapped, [], [[rows(sorted_, where), rows(running_sorted, running)]], (m,))
    assert sorted_.equal(by_hand) and swapped.equal(uniform)
    assert running_sorted.equal(running_hand)
    outputs = []
    for parameters, tau in ((by_hand, uniform), (sorted_, swapped)):
        parameters.requires_grad_()
        loss = F.cross_entropy(net(parameters, stats.clone(), x, steps(how, tau, (m,))), y)
        outputs.append((loss.detach(), *torch.autograd.grad(loss, parameters)))
    assert all(a.equal(b) for a, b in zip(*outputs, strict=True))
    plain = F.cross_entropy(net(theta, stats.clone(), x), y)
    assert abs(float(outputs[0][0] - plain)) > 1e-4  # the order matters


def test_unknown_method_lists_the_known_ones():
    with pytest.raises(CifarError, match="'bogus' is none of vanilla, mean-field"):
        rule("bogus")
