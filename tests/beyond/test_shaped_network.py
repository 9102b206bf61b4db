import dataclasses

import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.beyond.shaped_network import ShapedNetwork, local_movement, standard_start


def network(branch=1.0, sigma="tanh", batch=(3,)):
    n, d = 4, 5
    x, y = randn(*batch, n, d), randn(*batch, n, seed=1)
    return ShapedNetwork(x, y, randn(*batch, d, seed=2), branch, sigma)


def by_hand(net, theta):
    """The equation of the module's first lines, in the symbols of the papers."""
    d = net.x.shape[-1]
    V, U = theta[..., :d], theta[..., d : 2 * d] * d
    L, M = theta.shape[-3:-1]
    h = net.x
    for layer in range(L):
        z = torch.tanh(h @ U[..., layer, :, :].mT / d)
        h = h + net.branch / (L * M) * z @ V[..., layer, :, :]
    return h, (h * net.readout.unsqueeze(-2)).sum(-1) / d


def test_the_flow_is_the_network_of_the_papers():
    net, theta = network(branch=1.7), standard_start(6, 3, 5, generator(), (2, 3))
    h, f = by_hand(net, theta)
    run = net.forward(theta)
    torch.testing.assert_close(run.hidden, h, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(run.output, f, rtol=1e-13, atol=1e-13)
    z = run.preactivation[0, 1, 2]  # of the third layer of the second problem
    x = run.trajectory.X[0, 1, 2]
    torch.testing.assert_close(z, x @ theta[0, 1, 2, :, 5:10].mT)


def test_the_gradient_is_that_of_backpropagation():
    net, theta = network(branch=0.6), standard_start(4, 3, 5, generator(), (3,))
    theta.requires_grad_(True)
    loss = 0.5 * (by_hand(net, theta)[1] - net.y).square().mean(-1).sum()
    (g,) = torch.autograd.grad(loss, theta)
    mine = net.gradient(net.forward(theta.detach()))[..., :10]
    torch.testing.assert_close(mine * 0.6 / 12, g[..., :10], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("L", "M", "branch"), [(3, 2, 1.0), (6, 5, 2.5)])
def test_a_step_is_gradient_descent_at_the_rate_of_maximal_local_updates(L, M, branch):
    net, start = network(branch), standard_start(L, M, 5, generator(), (3,))
    first, second = net.descend(start, 0.3, 1)
    V, U = start[..., :5].clone(), 5 * start[..., 5:10]
    V.requires_grad_(True), U.requires_grad_(True)
    theta = torch.cat([V, U / 5, torch.zeros_like(V[..., :1])], -1)
    loss = 0.5 * (by_hand(net, theta)[1] - net.y).square().mean(-1).sum()
    gv, gu = torch.autograd.grad(loss, (V, U))
    rate = 0.3 * L * M * 5 / branch**2
    torch.testing.assert_close(second.theta[..., :5], V - rate * gv)
    torch.testing.assert_close(5 * second.theta[..., 5:10], U - rate * gu)
    assert (second.theta[..., 10] == 0).all()
    torch.testing.assert_close(first.theta, start)
    torch.testing.assert_close(net.train(start, 0.3, 1).output, second.output)


def test_the_first_step_changes_the_output_alike_at_every_branch_and_width():
    """The rate's normalisation: for small rates the change does not depend on M and branch."""
    moved = []
    for M, branch in ((64, 0.3), (1024, 0.3), (64, 0.05)):
        net = network(branch)
        runs = list(net.descend(standard_start(8, M, 5, generator(), (3,)), 1e-3, 1))
        moved.append((runs[1].output - runs[0].output).norm() / (runs[0].output - net.y).norm())
    assert max(moved) < 1.15 * min(moved)


def test_the_standard_start_has_its_variances_and_differs_by_seed():
    theta = standard_start(20, 50, 16, generator(3))
    assert float(theta[..., :16].var()) == pytest.approx(16, rel=0.05)
    assert float(theta[..., 16:32].var()) == pytest.approx(1 / 16, rel=0.05)
    assert not torch.equal(theta, standard_start(20, 50, 16, generator(4)))
    torch.testing.assert_close(theta, standard_start(20, 50, 16, generator(3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(branch=0.0), "branch: "),
        (dict(readout=torch.ones(4, dtype=DOUBLE)), "readout: last dimension"),
        (dict(y=torch.ones(3, 9, dtype=DOUBLE)), "y: last dimension"),
        (dict(x=torch.full((3, 4, 5), float("nan"), dtype=DOUBLE)), "x: holds NaN"),
        (dict(sigma="bogus"), "sigma: no activation"),
    ],
)
def test_impossible_networks_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(network(), **change)


def test_particles_that_do_not_fit_and_impossible_rates_are_refused():
    net = network()
    with pytest.raises(ValueError, match="theta: last dimension"):
        net.forward(standard_start(2, 2, 4, generator()))
    with pytest.raises(ValueError, match="rate: "):
        net.descend(standard_start(2, 2, 5, generator()), -1.0, 3)
    with pytest.raises(ValueError, match="steps: "):
        net.train(standard_start(2, 2, 5, generator()), 1.0, -3)


def test_the_movement_is_that_of_the_own_weights_at_the_first_states():
    net, start = network(), standard_start(6, 3, 5, generator(), (3,))
    runs = list(net.descend(start, 0.3, 2))
    first, last = runs[0], runs[-1]
    h = first.trajectory.X[..., :-1, :, :]
    z0, z1 = (h @ r.theta[..., 5:10].mT for r in (first, last))
    expected = ((z1 - z0).square().mean((-1, -2, -3)) / z0.square().mean((-1, -2, -3))).sqrt()
    torch.testing.assert_close(local_movement(first, last), expected)
    assert (local_movement(first, first) == 0).all() and (expected > 0).all()
    other = net.forward(standard_start(6, 4, 5, generator(), (3,)))
    with pytest.raises(ValueError, match="last: particles of shape"):
        local_movement(first, other)
