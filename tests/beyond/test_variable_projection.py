import math

import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.beyond.ultrafast_diffusion import relax
from mflib.beyond.variable_projection import VariableProjection, trigonometric


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=generator(seed), dtype=DOUBLE)


def problem(penalty=0.03):
    y = 0.3 * randn(2, 5, seed=3)
    y[:, 0] = 1.0
    masses = rand(2, 9, seed=4) + 0.2
    return VariableProjection(y, penalty), rand(2, 9), masses / masses.sum(-1, keepdim=True)


def test_features_are_orthonormal_and_slopes_are_their_derivatives():
    at = torch.arange(50, dtype=DOUBLE) / 50
    phi, _ = trigonometric(at, 4)
    torch.testing.assert_close(phi.mT @ phi / 50, torch.eye(9, dtype=DOUBLE), rtol=0, atol=1e-12)
    x = rand(7).requires_grad_()
    phi, slope = trigonometric(x, 3)
    for k in range(7):
        (by,) = torch.autograd.grad(phi[:, k].sum(), x, retain_graph=True)
        torch.testing.assert_close(slope[:, k], by, rtol=0, atol=1e-12)


def test_the_output_weights_are_the_best():
    net, omega, masses = problem()
    u, phi = net.output_weights(omega, masses), trigonometric(omega, 2)[0]

    def objective(u):
        miss = net.target - ((masses * u).unsqueeze(-1) * phi).sum(-2)
        return miss.square().sum(-1) / (2 * 0.03) + 0.5 * (masses * u**2).sum(-1)

    torch.testing.assert_close(objective(u), net.loss(omega, masses))
    for seed in range(5):
        assert (objective(u + 1e-3 * randn(2, 9, seed=seed)) > objective(u)).all()


@pytest.mark.parametrize("penalty", [0.0, 0.03])
def test_the_velocity_is_minus_the_gradient_over_the_masses(penalty):
    net, omega, masses = problem(penalty)
    omega.requires_grad_()
    (gradient,) = torch.autograd.grad(net.loss(omega, masses).sum(), omega)
    torch.testing.assert_close(net.velocity(omega, masses), -gradient / masses)


def test_equal_masses_are_the_default_and_a_split_particle_moves_as_one():
    net, omega, masses = problem()
    even = torch.full_like(masses, 1 / 9)
    torch.testing.assert_close(net.velocity(omega), net.velocity(omega, even))
    split = torch.cat([omega, omega[:, :1]], -1)
    half = torch.cat([masses, 0.3 * masses[:, :1]], -1)
    half[:, 0] = 0.7 * masses[:, 0]
    moved = net.follow(split, 0.01, 5, half)
    torch.testing.assert_close(moved[:, :9], net.follow(omega, 0.01, 5, masses))
    torch.testing.assert_close(moved[:, 9], moved[:, 0])


def test_without_penalty_the_law_follows_the_ultrafast_diffusion():
    def waves(seed):
        c = 0.2 * (rand(2, 4, seed=seed) - 0.5)
        return lambda at: 1 + trigonometric(at, 2)[0][..., 1:] @ c.unsqueeze(-1)

    mu, nu = waves(1), waves(2)
    at = torch.arange(33, dtype=DOUBLE) / 33
    y = (trigonometric(at, 8)[0] * nu(at)).mean(-2)
    nodes = torch.arange(40, dtype=DOUBLE).expand(2, -1) / 40
    masses = mu(nodes).squeeze(-1) / 40
    end = VariableProjection(y, 0.0).follow(nodes, 0.01, 40, masses)
    found = (trigonometric(end, 3)[0] * masses.unsqueeze(-1)).sum(-2)
    law = relax(mu(at).squeeze(-1), nu(at).squeeze(-1), 0.01)
    expected = (trigonometric(at, 3)[0] * law.unsqueeze(-1)).mean(-2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert (expected - (trigonometric(at, 3)[0] * mu(at)).mean(-2)).abs().max() > 1e-2


def test_weights_solved_once_give_the_field_of_the_start():
    net, omega, masses = problem()
    kept = net.follow(omega, 1e-8, 1, masses, solve_once=True)
    velocity = net.velocity(omega, masses)
    torch.testing.assert_close((kept - omega) / 1e-8, velocity, rtol=1e-3, atol=1e-3)
    far = [net.follow(omega, 0.02, 20, masses, solve_once=once) for once in (False, True)]
    assert (far[0] - far[1]).abs().max() > 1e-3


def test_the_loss_falls_and_steps_are_of_order_four():
    net, omega, masses = problem()
    path = [omega]
    for _ in range(10):
        path.append(net.follow(path[-1], 0.001, 2, masses))
    losses = torch.stack([net.loss(at, masses) for at in path])
    assert (losses.diff(dim=0) < 0).all()
    net = problem(0.5)[0]
    exact = net.follow(omega, 0.001, 256, masses)
    errors = [(net.follow(omega, 0.001, k, masses) - exact).norm() for k in (16, 32)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.5)


def test_what_does_not_fit_is_refused():
    net, omega, masses = problem()
    with pytest.raises(ValueError, match="target: "):
        VariableProjection(torch.ones(4), 0.1)
    with pytest.raises(ValueError, match="penalty: "):
        VariableProjection(torch.ones(5), -0.1)
    with pytest.raises(ValueError, match="masses: "):
        net.velocity(omega, 2 * masses)
    with pytest.raises(ValueError, match="omega: 4 particles for 5 features"):
        VariableProjection(net.target, 0.0).loss(omega[:, :4])
    with pytest.raises(ValueError, match="steps: "):
        net.follow(omega, 0.1, 0)
    with pytest.raises(ValueError, match="time: "):
        net.follow(omega, -0.1, 1)
    with pytest.raises(ValueError, match="degree: "):
        trigonometric(omega, 0)
