import math

import pytest
import torch

from mflib.blocks import MatrixBlock, NeuronBlock
from mflib.gradient_flow import chebyshev_step, descend, integrate, runge_kutta_step
from mflib.landscape import Problem
from mflib.measures import LayeredMeasure
from mflib.wasserstein_flow import (
    Particles,
    Velocity,
    WassersteinFlow,
    bernstein,
    bernstein_slope,
    lie_bracket,
)
from problems import DOUBLE, generator, randn

L, BLOCK = 6, NeuronBlock(2, "tanh")
FLOW = WassersteinFlow(Problem(BLOCK, randn(5, 2), randn(5, seed=1), steps=L))


def depths(*shape, seed=0):
    return torch.rand(*shape, generator=generator(seed), dtype=DOUBLE)


CLOUD = Particles(randn(7, BLOCK.k, seed=2), depths(7))


def test_the_shares_are_binomial_sum_to_one_and_have_the_stated_mean():
    t = depths(9)
    b = bernstein(t, L)
    expected = torch.stack([
        math.comb(L - 1, l) * t**l * (1 - t) ** (L - 1 - l) for l in range(L)])
    torch.testing.assert_close(b, expected)
    torch.testing.assert_close(b.sum(0), torch.ones(9, dtype=DOUBLE))
    mean = (b * torch.arange(L, dtype=DOUBLE)[:, None]).sum(0)
    torch.testing.assert_close(mean, (L - 1) * t)
    ends = bernstein(torch.tensor([0.0, 1.0], dtype=DOUBLE), L)
    assert ends[0, 0] == 1 and ends[-1, 1] == 1


def test_the_slope_of_the_shares_equals_autograd():
    t = depths(5).requires_grad_()
    b = bernstein(t, L)
    rows = torch.stack([torch.autograd.grad(b[l].sum(), t, retain_graph=True)[0]
                        for l in range(L)])
    torch.testing.assert_close(bernstein_slope(t.detach(), L), rows)


def test_the_velocity_is_minus_n_times_backpropagation():
    theta, t = CLOUD.theta.clone().requires_grad_(), CLOUD.t.clone().requires_grad_()
    weights = bernstein(t, L) * (L / 7)
    loss = FLOW.problem.loss(LayeredMeasure(theta.expand(L, -1, -1), weights))
    loss.backward()
    velocity = FLOW.velocity(CLOUD)
    torch.testing.assert_close(velocity.theta, -7 * theta.grad, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(velocity.t, -7 * t.grad, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(velocity.loss, loss.detach())
    parts = torch.stack([velocity.theta.square().sum() / 7, velocity.t.square().sum() / 7])
    torch.testing.assert_close(velocity.dissipation, parts)


def test_the_derivative_is_what_a_little_mass_changes():
    probe, r = Particles(randn(1, BLOCK.k, seed=5), torch.tensor([0.3], dtype=DOUBLE)), 1e-6
    rho = FLOW.measure(CLOUD)
    theta = torch.cat([rho.theta, probe.theta.expand(L, 1, -1)], 1)
    losses = [
        FLOW.problem.loss(LayeredMeasure(theta, torch.cat(
            [rho.weights, s * r * L * bernstein(probe.t, L)], 1))) for s in (1, -1)]
    slope = (losses[0] - losses[1]) / (2 * r)
    torch.testing.assert_close(FLOW.derivative(CLOUD, probe)[0], slope, rtol=1e-7, atol=1e-9)


def test_the_discrete_bracket_is_the_depth_derivative():
    first, second = FLOW.bracket(CLOUD, CLOUD)
    X, p, _ = FLOW.passes(CLOUD)
    torch.testing.assert_close(first - second, FLOW.gradient(CLOUD, X, p)[1])


def test_linear_blocks_have_the_commutator_as_their_bracket():
    block = MatrixBlock(2, "linear")
    A, B, x, p = randn(2, 2), randn(2, 2, seed=1), randn(3, 2, seed=2), randn(3, 2, seed=3)
    mass = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE)
    first, second = lie_bracket(
        block, x, p, A.reshape(1, 4), torch.ones(1, dtype=DOUBLE), B.reshape(1, 4), mass)
    torch.testing.assert_close(first[0], ((x @ (B @ A).T * p).sum(-1) * mass).sum())
    torch.testing.assert_close(second[0], ((x @ (A @ B).T * p).sum(-1) * mass).sum())


def test_particles_may_be_permuted_and_batches_equal_their_members():
    order = torch.tensor([3, 1, 0, 6, 5, 2, 4])
    velocity = FLOW.velocity(CLOUD)
    swapped = FLOW.velocity(Particles(CLOUD.theta[order], CLOUD.t[order]))
    torch.testing.assert_close(swapped.theta, velocity.theta[order])
    torch.testing.assert_close(swapped.t, velocity.t[order])
    two = Particles(randn(2, 7, BLOCK.k, seed=4), depths(2, 7, seed=4))
    together = FLOW.velocity(two)
    torch.testing.assert_close(together.t[1], FLOW.velocity(two[1]).t)
    torch.testing.assert_close(together.loss[1], FLOW.loss(two[1]))


def test_nothing_leaves_the_interval_and_the_outward_velocity_is_dropped():
    push = Velocity(torch.zeros_like(CLOUD.theta), torch.full_like(CLOUD.t, 9.0), FLOW.loss(CLOUD))
    assert (CLOUD.moved(1.0, push).t == 1).all()
    pull = Velocity(push.theta, -push.t, push.loss)
    assert (CLOUD.moved(1.0, pull).t == 0).all()
    for edge in (0.0, 1.0):
        cloud = Particles(CLOUD.theta, torch.full_like(CLOUD.t, edge))
        X, p, _ = FLOW.passes(cloud)
        free, held = -FLOW.gradient(cloud, X, p)[1], FLOW.velocity(cloud).t
        inward = free > 0 if edge == 0 else free < 0
        torch.testing.assert_close(held, torch.where(inward, free, 0.0))
        assert inward.any() and not inward.all()


def test_the_steepest_neuron_is_found_by_trying_directions():
    probes = randn(3, BLOCK.k, seed=6)
    turn = torch.linspace(0, 2 * math.pi, 2001, dtype=DOUBLE)[:, None, None]
    u = torch.cat([turn.cos(), turn.sin()], -1).expand(-1, 3, -1)
    tried = torch.cat([u, probes[:, 2:].expand(2001, -1, -1)], -1)
    X, p, _ = FLOW.passes(CLOUD)
    values = torch.einsum("lij,i->lj", BLOCK.pairing(X, tried.reshape(1, -1, BLOCK.k), p),
                          FLOW.problem.mass).reshape(L, 2001, 3)
    torch.testing.assert_close(FLOW.steepest(CLOUD, probes), -values.amin(1), rtol=1e-5, atol=1e-9)


def linear(rate):
    """The velocity rate * theta, depths at rest, with E = -rate |theta|^2 / 2."""
    def velocity(q):
        energy = -0.5 * rate * q.theta.square().sum(-1).mean(-1)
        return Velocity(rate * q.theta, torch.zeros_like(q.t), energy)
    return velocity


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_steps_have_the_order_of_their_tableau(method, order):
    errors = []
    for steps in (8, 16):
        end = integrate(linear(-1.0), CLOUD, 1.0, steps, method).end
        errors.append(float((end.theta - CLOUD.theta / math.e).norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("stages", [2, 5])
def test_the_chebyshev_step_multiplies_by_its_stability_polynomial(stages):
    w0 = 1 + 0.05 / stages**2
    T = torch.special.chebyshev_polynomial_t
    w = torch.tensor(w0, dtype=DOUBLE)
    slope = stages * torch.special.chebyshev_polynomial_u(w, stages - 1)
    w1 = T(w, stages) / slope
    for z in (-0.3, -5.0):
        end = chebyshev_step(linear(z), CLOUD, 1.0, stages)
        factor = T(w + w1 * z, stages) / T(w, stages)
        torch.testing.assert_close(end.theta, factor * CLOUD.theta)


def test_the_energy_identity_closes_at_order_four():
    defects = [integrate(FLOW.velocity, CLOUD, 0.2, n).defect()[-1].abs() for n in (8, 16)]
    assert math.log2(float(defects[0] / defects[1])) == pytest.approx(4.0, abs=0.3)
    path = integrate(FLOW.velocity, CLOUD, 0.2, 8, keep=(0, 8))
    torch.testing.assert_close(path.kept[0].theta, CLOUD.theta)
    torch.testing.assert_close(path.kept[1].theta, path.end.theta)
    torch.testing.assert_close(path.times[-1], torch.tensor(0.2, dtype=DOUBLE))


def test_a_known_first_slope_changes_nothing():
    one = runge_kutta_step(FLOW.velocity, CLOUD, 0.1)
    two = runge_kutta_step(FLOW.velocity, CLOUD, 0.1, first=FLOW.velocity(CLOUD))
    assert torch.equal(one.theta, two.theta)


def test_descent_never_rises_stops_member_by_member_and_dissipates():
    two = Particles(randn(2, 7, BLOCK.k, seed=4), depths(2, 7, seed=4))
    start = FLOW.loss(two)
    path = descend(FLOW, two, 60, until=float(0.5 * start.min()))
    assert (path.loss.diff(dim=-1) <= 1e-15).all() and (path.times.diff(dim=-1) >= 0).all()
    assert (path.loss[:, -1] <= 0.5 * start.min()).all()
    torch.testing.assert_close(FLOW.loss(path.end), path.loss[:, -1])
    alone = descend(FLOW, Particles(two.theta[1:], two.t[1:]), 60, until=float(0.5 * start.min()))
    torch.testing.assert_close(alone.loss[0], path.loss[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Particles(randn(3, 5), depths(4)), "t: shape"),
        (lambda: Particles(randn(3, 5), depths(3) + 1), "t: a depth lies outside"),
        (lambda: Particles(randn(3, 5) * math.nan, depths(3)), "theta: holds NaN"),
        (lambda: bernstein(depths(3), 0), "layers"),
        (lambda: WassersteinFlow(Problem(BLOCK, randn(5, 2), randn(5), method="rk4")), "euler"),
        (lambda: integrate(FLOW.velocity, CLOUD, -1.0, 4), "time: expected"),
        (lambda: integrate(FLOW.velocity, CLOUD, 1.0, 3).defect(), "even number"),
        (lambda: descend(FLOW, CLOUD, 4), "batch dimension"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
