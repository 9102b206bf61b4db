import math

import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.blocks import MatrixBlock, NeuronBlock
from mflib.lu2020.bernstein import bernstein, bernstein_slope
from mflib.lu2020.wasserstein_flow import (
    Particles,
    Velocity,
    WassersteinFlow,
    lie_bracket,
)
from mflib.measures import LayeredMeasure
from mflib.problem import Problem

L, N, BLOCK = 6, 7, NeuronBlock(2, "tanh")
MASS = torch.tensor([0.3, 0.1, 0.2, 0.15, 0.25], dtype=DOUBLE)
FLOW = WassersteinFlow(Problem(BLOCK, randn(5, 2), randn(5, seed=1), mass=MASS, steps=L))
TIGHT = dict(rtol=1e-12, atol=1e-13)


def depths(*shape, seed=0):
    return torch.rand(*shape, generator=generator(seed), dtype=DOUBLE)


def column(*entries):
    return torch.tensor(entries, dtype=DOUBLE)


CLOUD = Particles(randn(N, BLOCK.k, seed=2), depths(N))
PROBES = Particles(randn(4, BLOCK.k, seed=5), depths(4, seed=5))


def shares(t, layers):
    """The binomial law, term by term."""
    m = layers - 1
    return torch.stack([math.comb(m, l) * t**l * (1 - t) ** (m - l) for l in range(layers)])


def network(theta, t, extra=None, mass=0.0):
    """The loss of the network, written out neuron by neuron; `extra` has the given mass."""
    X = FLOW.problem.x
    clouds = [(theta, t, 1 / len(t))] + ([(extra.theta, extra.t, mass)] if extra else [])
    for l in range(L):
        step = 0.0
        for q, s, m in clouds:
            u, w, b = q[:, :2], q[:, 2:4], q[:, 4]
            step = step + m * torch.tanh(X @ w.T + b) @ (shares(s, L)[l][:, None] * u)
        X = X + step
    return 0.5 * (MASS * (X[:, 0] - FLOW.problem.y) ** 2).sum()


def test_the_shares_are_binomial_sum_to_one_and_have_the_stated_mean():
    t = torch.cat([depths(9), column(0.0, 1.0)])
    b = bernstein(t, L)
    torch.testing.assert_close(b, shares(t, L), **TIGHT)
    torch.testing.assert_close(b.sum(0), torch.ones_like(t), **TIGHT)
    mean = (b * torch.arange(L, dtype=DOUBLE)[:, None]).sum(0)
    torch.testing.assert_close(mean, (L - 1) * t, **TIGHT)
    assert b[0, -2] == 1 and b[-1, -1] == 1 and (b >= 0).all()
    torch.testing.assert_close(bernstein(1 - t, L), b.flip(0), **TIGHT)


@pytest.mark.parametrize("layers", [1, 2, 1000])
def test_no_mass_is_lost_at_any_number_of_layers(layers):
    t = depths(5)
    b = bernstein(t, layers)
    assert b.shape == (layers, 5)
    torch.testing.assert_close(b.sum(0), torch.ones_like(t))
    mean = (b * torch.arange(layers, dtype=DOUBLE)[:, None]).sum(0)
    torch.testing.assert_close(mean, (layers - 1) * t)


def test_the_shares_of_a_batch_equal_those_of_its_members():
    t = depths(3, 2, 4)
    b, slope = bernstein(t, L), bernstein_slope(t, L)
    assert b.shape == slope.shape == (3, 2, L, 4)
    torch.testing.assert_close(b[2, 1], bernstein(t[2, 1], L), **TIGHT)
    torch.testing.assert_close(slope[2, 1], bernstein_slope(t[2, 1], L), **TIGHT)


@pytest.mark.parametrize("layers", [1, 2, L])
def test_the_slope_of_the_shares_equals_autograd_and_central_differences(layers):
    t = depths(5)
    moving = t.clone().requires_grad_()
    b = bernstein(moving, layers)
    slope = bernstein_slope(t, layers)
    assert slope.shape == (layers, 5)
    if layers > 1:
        rows = [
            torch.autograd.grad(b[l].sum(), moving, retain_graph=True)[0] for l in range(layers)
        ]
        torch.testing.assert_close(slope, torch.stack(rows), rtol=1e-11, atol=1e-12)
    r = 1e-5
    numeric = (bernstein(t + r, layers) - bernstein(t - r, layers)) / (2 * r)
    torch.testing.assert_close(slope, numeric, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(slope.sum(0), torch.zeros_like(t), **TIGHT)


def test_the_measure_has_mass_one_and_the_loss_is_the_networks():
    rho = FLOW.measure(CLOUD)
    torch.testing.assert_close(rho.weights.mean(-2).sum(), column(1.0)[0], **TIGHT)
    torch.testing.assert_close(rho.weights.mean(-2), torch.full_like(CLOUD.t, 1 / N), **TIGHT)
    torch.testing.assert_close(FLOW.loss(CLOUD), network(CLOUD.theta, CLOUD.t), **TIGHT)


def test_one_linear_particle_multiplies_by_the_product_over_the_layers():
    a, t, x, y = 0.7, 0.3, 1.5, 0.4
    flow = WassersteinFlow(
        Problem(MatrixBlock(1, "linear"), column(x)[:, None], column(y), steps=L)
    )
    reached = x * math.prod(
        1 + a * math.comb(L - 1, l) * t**l * (1 - t) ** (L - 1 - l) for l in range(L)
    )
    loss = flow.loss(Particles(column(a)[:, None], column(t)))
    assert float(loss) == pytest.approx(0.5 * (reached - y) ** 2, rel=1e-13)


def test_the_passes_hold_the_states_the_adjoints_and_the_loss():
    passed = FLOW.backward(CLOUD)
    X, p, loss = passed.states, passed.costates, passed.loss
    assert X.shape == p.shape == (L, 5, 2)
    torch.testing.assert_close(X[0], FLOW.problem.x, **TIGHT)
    torch.testing.assert_close(loss, network(CLOUD.theta, CLOUD.t), **TIGHT)
    b = bernstein(CLOUD.t, L) / N
    last = (X[-1] + BLOCK.field(X[-1], CLOUD.theta, b[-1]))[:, 0] - FLOW.problem.y
    torch.testing.assert_close(p[-1], last[:, None] * column(1.0, 0.0), **TIGHT)
    for l in range(L - 1):
        torch.testing.assert_close(X[l + 1], X[l] + BLOCK.field(X[l], CLOUD.theta, b[l]), **TIGHT)
        back = p[l + 1] + BLOCK.vjp(X[l + 1], CLOUD.theta, b[l + 1], p[l + 1])
        torch.testing.assert_close(p[l], back, **TIGHT)


def test_the_velocity_is_minus_n_times_backpropagation():
    theta, t = CLOUD.theta.clone().requires_grad_(), CLOUD.t.clone().requires_grad_()
    loss = network(theta, t)
    loss.backward()
    velocity = FLOW.velocity(CLOUD)
    torch.testing.assert_close(velocity.theta, -N * theta.grad, **TIGHT)
    torch.testing.assert_close(velocity.t, -N * t.grad, **TIGHT)
    torch.testing.assert_close(velocity.loss, loss.detach(), **TIGHT)
    for part, grad in zip(FLOW.gradient(CLOUD), (theta.grad, t.grad), strict=True):
        torch.testing.assert_close(part, N * grad, **TIGHT)


def test_the_loss_falls_at_the_rate_of_the_dissipation():
    velocity, r = FLOW.velocity(CLOUD), 1e-6
    slope = (FLOW.loss(CLOUD + velocity * r) - FLOW.loss(CLOUD + velocity * -r)) / (2 * r)
    torch.testing.assert_close(slope, -velocity.dissipation.sum(), rtol=1e-6, atol=1e-9)


def test_the_dissipation_is_split_between_parameters_and_depths():
    theta = torch.tensor([[[1.0, 2.0], [0.0, 2.0]], [[3.0, 0.0], [0.0, 0.0]]], dtype=DOUBLE)
    velocity = Velocity(theta, torch.tensor([[3.0, 1.0], [0.0, 4.0]], dtype=DOUBLE), column(0, 0))
    expected = torch.tensor([[4.5, 5.0], [4.5, 8.0]], dtype=DOUBLE)
    torch.testing.assert_close(velocity.dissipation, expected, **TIGHT)


def test_the_derivative_is_what_a_little_mass_changes():
    values, r = FLOW.derivative(CLOUD, PROBES), 1e-5
    assert values.shape == (4,)
    for j in range(4):
        one = Particles(PROBES.theta[j : j + 1], PROBES.t[j : j + 1])
        up, down = (network(CLOUD.theta, CLOUD.t, one, s * r) for s in (1, -1))
        torch.testing.assert_close(values[j], (up - down) / (2 * r), rtol=1e-7, atol=1e-9)


def test_the_gradient_at_the_particles_is_the_gradient_of_the_derivative():
    theta, t = CLOUD.theta.clone().requires_grad_(), CLOUD.t.clone().requires_grad_()
    FLOW.derivative(CLOUD, Particles(theta, t)).sum().backward()
    by_theta, by_t = FLOW.gradient(CLOUD)
    torch.testing.assert_close(by_theta, theta.grad, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(by_t, t.grad, rtol=1e-11, atol=1e-12)


def test_the_discrete_bracket_is_the_depth_derivative_at_any_probe():
    t = PROBES.t.clone().requires_grad_()
    FLOW.derivative(CLOUD, Particles(PROBES.theta, t)).sum().backward()
    first, second = FLOW.bracket(CLOUD, PROBES)
    torch.testing.assert_close(first - second, t.grad, rtol=1e-11, atol=1e-12)
    assert (first.abs() > 1e-4).any() and (second.abs() > 1e-4).any()


def test_two_linear_layers_have_the_terms_of_the_bracket_by_hand():
    block, x, y = MatrixBlock(2, "linear"), randn(3, 2, seed=7), randn(3, seed=8)
    flow = WassersteinFlow(Problem(block, x, y, steps=2))
    A, C, s = randn(2, 2, seed=9), randn(2, 2, seed=10), 0.4
    cloud = Particles(A.reshape(1, 4), column(s))
    one = torch.eye(2, dtype=DOUBLE)
    low, high = x, x @ (one + (1 - s) * A).T
    end = high @ (one + s * A).T
    p = (end[:, 0] - y)[:, None] * column(1.0, 0.0)
    first, second = flow.bracket(cloud, Particles(C.reshape(1, 4), column(0.9)))
    torch.testing.assert_close(first[0], ((high - low) @ C.T * p).sum() / 3, **TIGHT)
    torch.testing.assert_close(second[0], (low @ (s * A @ C).T * p).sum() / 3, **TIGHT)


def test_linear_blocks_have_the_commutator_as_their_bracket():
    block, mass = MatrixBlock(2, "linear"), column(0.5, 0.3, 0.2)
    x, p = randn(3, 2, seed=2), randn(3, 2, seed=3)
    cloud, weights, probes = randn(4, 4), column(0.1, 0.2, 0.3, 0.7), randn(2, 4, seed=1)
    A = (weights[:, None] * cloud).sum(0).reshape(2, 2)
    first, second = lie_bracket(block, x, p, cloud, weights, probes, mass)
    for j, B in enumerate(probes.reshape(2, 2, 2)):
        torch.testing.assert_close(first[j], ((x @ (B @ A).T * p).sum(-1) * mass).sum(), **TIGHT)
        torch.testing.assert_close(second[j], ((x @ (A @ B).T * p).sum(-1) * mass).sum(), **TIGHT)
    E, F = torch.eye(2, dtype=DOUBLE), torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=DOUBLE)
    turn = lie_bracket(block, x, p, (E + 2 * F).reshape(1, 4), column(1.0), F.reshape(1, 4), mass)
    torch.testing.assert_close(turn[0], turn[1], **TIGHT)


def test_the_bracket_is_antisymmetric_and_batches_like_its_members():
    x, p, mass = randn(2, 5, 2, seed=2), randn(2, 5, 2, seed=3), MASS
    f, g, one = randn(2, 1, 5, seed=4), randn(2, 1, 5, seed=5), torch.ones(2, 1, dtype=DOUBLE)
    first, second = lie_bracket(BLOCK, x, p, f, one, g, mass)
    back, forth = lie_bracket(BLOCK, x, p, g, one, f, mass)
    torch.testing.assert_close(first, forth, **TIGHT)
    torch.testing.assert_close(second, back, **TIGHT)
    alone = lie_bracket(BLOCK, x[1], p[1], f[1], one[1], g[1], mass)
    torch.testing.assert_close((first[1], second[1]), alone, **TIGHT)


def test_the_discrete_bracket_tends_to_the_lie_bracket_at_order_one():
    gaps = []
    theta, C = 0.5 * randn(3, 4, seed=4), randn(1, 4, seed=6)
    for layers in (20, 40):
        t = (torch.arange(4 * layers, dtype=DOUBLE) + 0.5) / (4 * layers)
        # the same three matrices at every depth: the field does not depend on t
        cloud = Particles(theta.repeat(4 * layers, 1), t.repeat_interleave(3))
        flow = WassersteinFlow(
            Problem(MatrixBlock(2, "tanh"), randn(5, 2), randn(5, seed=1), mass=MASS, steps=layers)
        )
        passed = flow.backward(cloud)
        X, p = passed.states, passed.costates
        at = layers // 2
        limit = lie_bracket(
            flow.problem.block, X[at], p[at], theta, torch.full((3,), 1 / 3, dtype=DOUBLE), C, MASS
        )
        discrete = flow.bracket(cloud, Particles(C, column(0.5)))
        gaps.append([float((d - e).abs()) for d, e in zip(discrete, limit, strict=True)])
    for coarse, fine in zip(*gaps, strict=True):
        assert fine < 0.7 * coarse and fine < 0.02


def test_the_order_of_the_particles_does_not_matter():
    order = torch.tensor([3, 1, 0, 6, 5, 2, 4])
    mixed, velocity = Particles(CLOUD.theta[order], CLOUD.t[order]), FLOW.velocity(CLOUD)
    swapped = FLOW.velocity(mixed)
    torch.testing.assert_close(swapped.theta, velocity.theta[order], **TIGHT)
    torch.testing.assert_close(swapped.t, velocity.t[order], **TIGHT)
    torch.testing.assert_close(swapped.loss, velocity.loss, **TIGHT)
    torch.testing.assert_close(
        FLOW.derivative(mixed, PROBES), FLOW.derivative(CLOUD, PROBES), **TIGHT
    )
    torch.testing.assert_close(FLOW.bracket(mixed, PROBES), FLOW.bracket(CLOUD, PROBES), **TIGHT)


def test_every_particle_twice_is_the_same_flow():
    twice = Particles(torch.cat([CLOUD.theta] * 2), torch.cat([CLOUD.t] * 2))
    velocity, old = FLOW.velocity(twice), FLOW.velocity(CLOUD)
    torch.testing.assert_close(velocity.theta[N:], old.theta, **TIGHT)
    torch.testing.assert_close(velocity.t[N:], old.t, **TIGHT)
    torch.testing.assert_close(velocity.dissipation, old.dissipation, **TIGHT)


def test_a_batch_equals_its_members_and_data_without_a_batch_are_shared():
    two = Particles(randn(3, N, BLOCK.k, seed=4), depths(3, N, seed=4))
    many = WassersteinFlow(Problem(BLOCK, randn(3, 5, 2), randn(3, 5, seed=1), mass=MASS, steps=L))
    mixed = WassersteinFlow(Problem(BLOCK, randn(5, 2), randn(3, 5, seed=1), mass=MASS, steps=L))
    for flow in (FLOW, many, mixed):
        together, terms = flow.velocity(two), flow.bracket(two, PROBES)
        values = flow.derivative(two, PROBES)
        for i in range(3):
            alone = (
                flow.members(i)
                if flow is FLOW
                else WassersteinFlow(
                    Problem(
                        BLOCK,
                        flow.problem.x[i] if flow is many else flow.problem.x,
                        flow.problem.y[i],
                        mass=MASS,
                        steps=L,
                    )
                )
            )
            one = alone.velocity(two[i])
            for name in ("theta", "t", "loss", "dissipation"):
                torch.testing.assert_close(getattr(together, name)[i], getattr(one, name), **TIGHT)
            torch.testing.assert_close(values[i], alone.derivative(two[i], PROBES), **TIGHT)
            single = alone.bracket(two[i], PROBES)
            torch.testing.assert_close((terms[0][i], terms[1][i]), single, **TIGHT)
        index = torch.tensor([2, 0])
        part = flow.members(index).velocity(two[index])
        torch.testing.assert_close(part.t, together.t[index], **TIGHT)


def test_a_step_moves_by_h_and_stops_at_the_boundary():
    cloud = Particles(column(1.0, 2.0, 3.0)[:, None], column(0.1, 0.5, 0.9))
    velocity = Velocity(column(10, 20, 30)[:, None], column(-2.0, 1.0, 2.0), column(0)[0])
    end = cloud + velocity * 0.1
    torch.testing.assert_close(end.theta[:, 0], column(2.0, 4.0, 6.0), **TIGHT)
    torch.testing.assert_close(end.t, column(0.0, 0.6, 1.0), **TIGHT)
    assert end.t[0] == 0 and end.t[2] == 1
    torch.testing.assert_close((cloud + velocity * -0.1).t, column(0.3, 0.4, 0.7), **TIGHT)


def test_every_member_of_a_batch_moves_by_its_own_h():
    cloud = Particles(randn(2, 3, 5), torch.full((2, 3), 0.5, dtype=DOUBLE))
    velocity = Velocity(randn(2, 3, 5, seed=1), 0.1 * randn(2, 3, seed=2), column(0, 0))
    h = column(0.1, 0.7)
    end = cloud + velocity * h
    for i in range(2):
        one = cloud[i] + velocity[i] * float(h[i])
        torch.testing.assert_close(end[i].theta, one.theta, **TIGHT)
        torch.testing.assert_close(end[i].t, one.t, **TIGHT)


@pytest.mark.parametrize("edge", [0.0, 1e-16, 1.0 - 2**-53, 1.0])
def test_at_the_boundary_the_outward_velocity_is_dropped(edge):
    cloud = Particles(CLOUD.theta, torch.full_like(CLOUD.t, edge))
    free, held = -FLOW.gradient(cloud).t, FLOW.velocity(cloud).t
    inward = free > 0 if edge < 0.5 else free < 0
    assert inward.any() and not inward.all()
    torch.testing.assert_close(held, torch.where(inward, free, 0.0), **TIGHT)


def test_the_steepest_neuron_is_found_by_trying_directions():
    probes = randn(3, BLOCK.k, seed=6)
    turn = torch.linspace(0, 2 * math.pi, 2001, dtype=DOUBLE)[:, None, None]
    u = torch.cat([turn.cos(), turn.sin()], -1).expand(-1, 3, -1)
    tried = torch.cat([u, probes[:, 2:].expand(2001, -1, -1)], -1)
    passed = FLOW.backward(CLOUD)
    pairs = BLOCK.pairing(passed.states, tried.reshape(1, -1, BLOCK.k), passed.costates)
    values = torch.einsum("lij,i->lj", pairs, MASS).reshape(L, 2001, 3)
    steepest = FLOW.steepest(CLOUD, probes)
    torch.testing.assert_close(steepest, -values.amin(1), rtol=1e-5, atol=1e-9)
    other = torch.cat([9 * probes[:, :2], probes[:, 2:]], -1)
    torch.testing.assert_close(FLOW.steepest(CLOUD, other), steepest, **TIGHT)


PLAIN = WassersteinFlow(Problem(MatrixBlock(2), randn(5, 2), randn(5), steps=L))


@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (ValueError, lambda: Particles(randn(3, 5), depths(4)), "t: shape"),
        (ValueError, lambda: Particles(randn(3, 5), depths(3) + 1), "t: a depth lies outside"),
        (ValueError, lambda: Particles(randn(3, 5), -depths(3)), "t: a depth lies outside"),
        (ValueError, lambda: Particles(randn(3, 5) * math.nan, depths(3)), "theta: holds NaN"),
        (ValueError, lambda: Particles(randn(3), depths(3)), "theta: expected at least 2"),
        (TypeError, lambda: Particles(randn(3, 5), 0.5), "t: expected a torch.Tensor"),
        (ValueError, lambda: bernstein(depths(3), 0), "layers: expected an integer"),
        (
            ValueError,
            lambda: bernstein(depths(3), 1001),
            "layers: expected an integer >= 1 and <= 1000",
        ),
        (ValueError, lambda: bernstein_slope(depths(3), 2.5), "layers: expected an integer"),
        (
            ValueError,
            lambda: WassersteinFlow(Problem(BLOCK, randn(5, 2), randn(5), method="rk4")),
            "method='euler'",
        ),
        (
            ValueError,
            lambda: WassersteinFlow(Problem(BLOCK, randn(5, 2), randn(5), steps=1)).bracket(
                CLOUD, CLOUD
            ),
            "one layer has no neighbour",
        ),
        (
            TypeError,
            lambda: PLAIN.steepest(Particles(randn(3, 4), depths(3)), randn(2, 4)),
            "needs a NeuronBlock",
        ),
        (ValueError, lambda: FLOW.steepest(CLOUD, randn(2, 4)), "probes: last dimension"),
        (ValueError, lambda: FLOW.velocity(Particles(randn(3, 4), depths(3))), "expected k = 5"),
    ],
)
def test_bad_arguments_are_named(error, call, message):
    with pytest.raises(error, match=message):
        call()


def test_the_loss_of_a_layered_measure_is_the_loss_of_the_particles():
    rho = LayeredMeasure(CLOUD.theta.expand(L, -1, -1), shares(CLOUD.t, L) * (L / N))
    torch.testing.assert_close(FLOW.problem.loss(rho), FLOW.loss(CLOUD), **TIGHT)
