"""The depth velocity: equal to finite differences, and to the price of an exchange."""

import pytest
import torch
import torch.nn.functional as F
from cifar_files import PlainNetwork, copy_parameters

from mflib.cifar.architectures import residual
from mflib.cifar.depth_velocity import depth_gradient
from mflib.cifar.networks import Network


def problem(arch, seed=0, n=16):
    generator = torch.Generator().manual_seed(seed)
    net = Network(arch)
    theta, stats = (v.double() for v in net.initial(generator))
    x = torch.randn(n, 3, 8, 8, generator=generator, dtype=torch.float64)
    return net, theta.requires_grad_(), stats, x, torch.randint(0, 5, (n,), generator=generator)


def velocity(net, theta, stats, x, y):
    states = []
    loss = F.cross_entropy(net(theta, stats.clone(), x, states=states), y)
    flat = iter(torch.autograd.grad(loss, [s for stage in states for s in stage]))
    costates = [[next(flat) for _ in stage] for stage in states]
    before = stats.clone()
    out = depth_gradient(net, theta, states, costates)
    assert stats.equal(before)
    return out


def loss_with_a_visitor(module, x, y, visitor, place, strength):
    """The loss when block `visitor` also acts in front of `place`, with some strength."""
    h = module.stem(x)
    for number, block in enumerate(module.blocks):
        guest = module.blocks[visitor]
        extra = strength * (guest(h) - h) if number == place else 0.0
        h = block(h) + extra
    h = torch.relu(module.norm(h)).mean((2, 3))
    return float(F.cross_entropy(module.head(h), y).detach())


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_it_is_the_central_difference_of_the_pairings_over_the_neighbours(kind):
    more = {"inner": (8, 16), "stem": 8} if kind == "bottleneck" else {}
    net, theta, stats, x, y = problem(residual("toy", (3, 3), (8, 16), 5, size=8, **more))
    got = velocity(net, theta, stats, x, y)
    module = PlainNetwork(net.arch).double()
    copy_parameters(net, theta, module)

    def pairing(block, place, eps=1e-6):
        ends = [loss_with_a_visitor(module, x, y, block, place, s) for s in (eps, -eps)]
        return (ends[0] - ends[1]) / (2 * eps)

    stages = ((0, 1, 2), (4, 5))  # block 3 changes the width and stays
    for block, value in zip([b for stage in stages for b in stage], got, strict=True):
        stage = next(stage for stage in stages if block in stage)
        low, high = max(block - 1, stage[0]), min(block + 1, stage[-1])
        expected = (pairing(block, high) - pairing(block, low)) * len(stage) / (high - low)
        assert float(value) == pytest.approx(expected, abs=1e-8)
    assert got.abs().max() > 1e-4


def test_between_equal_neighbours_it_is_the_price_of_an_exchange():
    """A B A against A A B with weak branches: the sign and size of the Lie bracket."""
    net, theta, stats, x, y = problem(residual("toy", (3,), (8,), 5, size=8), n=256)
    with torch.no_grad():
        for stack in net.views(theta)["stack0"]:
            stack[2] = stack[0]
        last = net.views(theta)["stack0"][1]
        last *= 1e-4
    moved = theta.detach().clone()
    for stack in net.views(moved)["stack0"]:
        stack.copy_(stack[[0, 2, 1]])
    here, there = (F.cross_entropy(net(t, stats.clone(), x), y) for t in (theta, moved))
    price = float((there - here).detach())
    got = float(velocity(net, theta, stats, x, y)[1])
    assert abs(price) > 1e-11  # far above rounding
    # one place is a third of the depth, and the other block goes back as far
    assert 2 / 3 * got == pytest.approx(price, rel=0.05)  # but for ReLUs that switch


def test_a_single_block_has_nowhere_to_go():
    net, theta, stats, x, y = problem(residual("toy", (1, 1), (8, 16), 5, size=8))
    assert velocity(net, theta, stats, x, y).tolist() == [0.0]
