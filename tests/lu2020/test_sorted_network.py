import math

import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.blocks import MatrixBlock
from mflib.lu2020.algorithm_one import RULES, even_stamps, train
from mflib.lu2020.sorted_network import (
    SortedNetwork,
    at_crossing,
    commutators,
    depth_velocity,
    derivative_at_blocks,
    stamp_gradient,
)
from mflib.measures import LayeredMeasure
from mflib.problem import Problem

N, BLOCK = 5, MatrixBlock(2, "tanh")
TASK = Problem(BLOCK, randn(6, 2), randn(6, seed=1), steps=N)
THETA = randn(N, BLOCK.k, seed=2)
TAU = torch.tensor([0.5, 0.1, 0.9, 0.3, 0.7], dtype=DOUBLE)
MASS = torch.tensor([0.1, 0.3, 0.2, 0.25, 0.15], dtype=DOUBLE)


def loss(theta, steps):
    """The network of the given steps, written out, blocks in order."""
    X = TASK.x
    for block, h in zip(theta, steps, strict=True):
        X = X + h * torch.tanh(X @ block.reshape(2, 2).T)
    return 0.5 * ((X[:, 0] - TASK.y) ** 2).mean()


def test_blocks_act_in_the_order_of_their_stamps_with_the_differences_as_steps():
    order = torch.tensor([1, 3, 0, 4, 2])
    net = SortedNetwork(THETA, TAU)
    assert net.order.tolist() == order.tolist()
    torch.testing.assert_close(net.steps, torch.tensor([0.1, 0.2, 0.2, 0.2, 0.2], dtype=DOUBLE))
    torch.testing.assert_close(TASK.loss(net.measure()), loss(THETA[order], net.steps))
    own = SortedNetwork(THETA, TAU, MASS)
    torch.testing.assert_close(own.steps, MASS[order])
    torch.testing.assert_close(TASK.loss(own.measure()), loss(THETA[order], MASS[order]))
    assert SortedNetwork(THETA, torch.full_like(TAU, 0.5)).order.tolist() == list(range(N))


def test_the_two_sides_of_a_crossing_by_hand():
    line = Problem(MatrixBlock(1), torch.ones(1, 1, dtype=DOUBLE), randn(1), steps=2)
    net = SortedNetwork(
        torch.tensor([[2.0], [-2.0]], dtype=DOUBLE), torch.tensor([0.5, 0.8], dtype=DOUBLE)
    )
    before, after = (float(line.flow(s.measure()).X[-1]) for s in at_crossing(net, 0))
    assert before == pytest.approx(1 + math.tanh(2) / 2)
    assert after == pytest.approx(1 - math.tanh(2) / 2)


def test_the_gradient_of_the_stamps_is_a_finite_difference_in_the_given_order():
    net, h = SortedNetwork(THETA, TAU), 1e-6
    for i in range(N):
        ends = []
        for sign in (1, -1):
            tau = TAU.clone()
            tau[i] += sign * h
            ends.append(TASK.loss(SortedNetwork(THETA, tau).measure()))
        slope = float(ends[0] - ends[1]) / (2 * h)
        assert float(stamp_gradient(TASK, net)[i]) == pytest.approx(slope, rel=1e-6, abs=1e-9)
    assert (stamp_gradient(TASK, SortedNetwork(THETA, TAU, MASS)) == 0).all()


def test_phi_is_the_derivative_by_the_step_of_a_place():
    net = SortedNetwork(THETA, TAU)
    steps = net.steps.clone().requires_grad_()
    loss(net.sorted().theta, steps).backward()
    torch.testing.assert_close(derivative_at_blocks(TASK, net), steps.grad)


def test_an_exchange_changes_the_loss_by_the_commutator():
    n = 64
    task = Problem(BLOCK, TASK.x, TASK.y, steps=n)
    net = even_stamps(randn(n, BLOCK.k, seed=3), masses=True)
    B = commutators(task, net)
    for place in (0, 30, n - 2):
        before, after = at_crossing(net, place)
        change = float(task.loss(after.measure()) - task.loss(before.measure()))
        assert float(B[place]) / n**2 == pytest.approx(change, rel=2e-2, abs=2e-8)


def test_linear_blocks_have_their_commutator():
    A, B = randn(2, 2, seed=4), randn(2, 2, seed=5)
    task = Problem(MatrixBlock(2, "linear"), TASK.x, TASK.y, steps=2)
    net = even_stamps(torch.stack([A, B]).flatten(1), masses=True)
    p = task.residual(net.measure())[:, None] * task.readout
    expected = ((TASK.x @ (A @ B - B @ A).T * p).sum(-1)).mean()
    torch.testing.assert_close(commutators(task, net)[0], expected)


def test_the_velocity_weighs_both_neighbours_by_their_steps():
    net = SortedNetwork(THETA, TAU, MASS)
    B, h = commutators(TASK, net), net.steps
    by_place = torch.empty(N, dtype=DOUBLE)
    by_place[0], by_place[-1] = -B[0], B[-1]
    for l in range(1, N - 1):
        by_place[l] = -(h[l + 1] * B[l] - h[l - 1] * B[l - 1]) / (h[l + 1] + h[l - 1])
    velocity = depth_velocity(TASK, net)
    torch.testing.assert_close(velocity[net.order], by_place)
    passed = TASK.backward(net.measure())
    torch.testing.assert_close(depth_velocity(TASK, net, passed), velocity)


def test_listing_the_blocks_in_another_order_changes_nothing():
    order = torch.tensor([4, 2, 0, 1, 3])
    one, two = SortedNetwork(THETA, TAU), SortedNetwork(THETA[order], TAU[order])
    assert torch.equal(one.measure().theta, two.measure().theta)
    torch.testing.assert_close(stamp_gradient(TASK, one)[order], stamp_gradient(TASK, two))


# training


def first_step(name, time_step=0.1, rate=0.2):
    return train(TASK, THETA, RULES[name], time_step, 1, rate, generator())


def gradients(name):
    """Autograd of the loss by blocks and stamps (or total time) at the even start."""
    theta = THETA.clone().requires_grad_()
    tau = ((torch.arange(N, dtype=DOUBLE) + 1) / N).requires_grad_()
    total = torch.ones((), dtype=DOUBLE, requires_grad=True)
    if name == "free time":
        steps = total / N * torch.ones(N, dtype=DOUBLE)
    else:
        used = tau / tau[-1] if RULES[name].normalised and name != "fixed grid" else tau
        steps = torch.cat([used[:1], used.diff()])
    loss(theta, steps).backward()
    return theta.grad, tau.grad, total.grad


@pytest.mark.parametrize("name", ["fixed grid", "free time", "printed", "normalised"])
def test_the_first_step_is_the_scaled_gradient(name):
    run, (by_theta, by_tau, by_total) = first_step(name), gradients(name)
    expected = THETA - 0.1 * N * by_theta
    start = (torch.arange(N, dtype=DOUBLE) + 1) / N
    if name in ("printed", "normalised"):
        tau = start - 0.1 * 0.2 * N * by_tau
        tau = tau / tau.max() if name == "normalised" else tau
        torch.testing.assert_close(run.network.tau, tau.sort()[0])
        expected = expected[tau.argsort()]
    if name == "free time":
        torch.testing.assert_close(run.total, 1 - 0.1 * 0.2 * by_total)
    torch.testing.assert_close(run.network.theta, expected)


def test_the_loss_falls_and_every_rule_keeps_what_it_promises():
    for name, rule in RULES.items():
        run = train(TASK, THETA, rule, 0.2, 30, 0.01, generator())
        assert run.loss[-1] < run.loss[0], name
        assert run.loss.shape == (31,) and run.block.shape == (31, N)
        assert run.block.sort(-1)[0].equal(torch.arange(N).expand(31, N))
        if rule.normalised and rule.steps != "scalar":
            assert float(run.total) == pytest.approx(1.0), name
        if rule.moves in ("none", "stamps"):
            assert int(run.exchanges) == 0, name


def test_other_blocks_move_as_many_as_the_sort_would():
    sort = train(TASK, THETA, RULES["normalised"], 0.2, 1, 3.0)
    other = train(TASK, THETA, RULES["others move"], 0.2, 1, 3.0, generator(3))
    moved = [(r.block[1] != torch.arange(N)).sum() for r in (sort, other)]
    assert moved[0] == moved[1] > 0
    torch.testing.assert_close(sort.network.tau, other.network.tau)


def test_seeds_trained_together_equal_seeds_trained_alone():
    theta = randn(2, N, BLOCK.k, seed=6)
    for name in ("normalised", "flow", "flow, masses"):
        together = train(TASK, theta, RULES[name], 0.2, 5, 0.1)
        alone = train(TASK, theta[1], RULES[name], 0.2, 5, 0.1)
        torch.testing.assert_close(together.loss[1], alone.loss)
        torch.testing.assert_close(together.network.tau[1], alone.network.tau)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SortedNetwork(THETA, TAU[:3]), "tau: holds 3 numbers for 5"),
        (lambda: SortedNetwork(THETA, -TAU), "tau: a number is negative"),
        (lambda: SortedNetwork(THETA, TAU, -MASS), "mass: a number is negative"),
        (lambda: SortedNetwork(THETA * math.nan, TAU), "theta: holds NaN"),
        (lambda: SortedNetwork(randn(3, N, BLOCK.k), TAU.expand(2, N)), "tau: batches do not fit"),
        (lambda: at_crossing(SortedNetwork(THETA, TAU), N - 1), "place: 4 has no neighbour"),
        (lambda: train(TASK, THETA, RULES["flow"], 0.0, 3), "time_step"),
        (lambda: train(TASK, THETA, RULES["flow"], 0.1, 0), "steps"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_moving_other_blocks_needs_a_generator():
    with pytest.raises(TypeError, match="generator"):
        train(TASK, THETA, RULES["others move"], 0.1, 3)


def test_layered_weights_are_n_times_the_steps():
    rho = SortedNetwork(THETA, TAU, MASS).measure()
    assert isinstance(rho, LayeredMeasure)
    torch.testing.assert_close(rho.weights[:, 0].sum() / N, MASS.sum())


def test_two_opposite_blocks_jump_where_their_stamps_cross():
    line = Problem(MatrixBlock(1), torch.ones(1, 1, dtype=DOUBLE), randn(1), steps=2)
    theta = torch.tensor([[2.0], [-2.0]], dtype=DOUBLE)

    def output(stamp):
        net = SortedNetwork(theta, torch.tensor([0.5, stamp], dtype=DOUBLE))
        return float(line.flow(net.measure()).X[-1])

    assert output(0.5 - 1e-9) == pytest.approx(0.518, abs=1e-3)
    assert output(0.5 + 1e-9) == pytest.approx(1.482, abs=1e-3)
    crossing = at_crossing(SortedNetwork(theta.flip(0), torch.tensor([0.9, 0.5], dtype=DOUBLE)), 0)
    sides = [float(line.flow(s.measure()).X[-1]) for s in crossing]
    assert sides == pytest.approx([output(0.5 + 1e-9), output(0.5 - 1e-9)], abs=1e-8)


def test_a_crossing_is_the_limit_from_either_side_at_every_place():
    net, gap = SortedNetwork(THETA, TAU), 1e-8
    order = net.order
    for place in range(N - 1):
        sides = at_crossing(net, place)
        for side, sign in zip(sides, (1, -1), strict=True):
            tau = TAU.clone()
            tau[order[place + 1]] = tau[order[place]] + sign * gap
            near = TASK.loss(SortedNetwork(THETA, tau).measure())
            torch.testing.assert_close(TASK.loss(side.measure()), near, rtol=0, atol=1e-6)


def test_where_blocks_carry_masses_an_exchange_takes_them_along():
    before, after = at_crossing(SortedNetwork(THETA, TAU, MASS), 1)
    order = torch.tensor([1, 0, 3, 4, 2])
    torch.testing.assert_close(before.steps, MASS[torch.tensor([1, 3, 0, 4, 2])])
    torch.testing.assert_close(after.steps, MASS[order])
    torch.testing.assert_close(TASK.loss(after.measure()), loss(THETA[order], MASS[order]))


def test_the_inputs_of_a_crossing_are_left_alone():
    tau = TAU.clone()
    net = SortedNetwork(THETA, tau)
    at_crossing(net, 2)
    assert torch.equal(tau, TAU)


def test_phi_is_a_finite_difference_in_the_own_masses_too():
    net, h = SortedNetwork(THETA, TAU, MASS), 1e-6
    phi = derivative_at_blocks(TASK, net)
    for place, i in enumerate(net.order.tolist()):
        up, down = MASS.clone(), MASS.clone()
        up[i] += h
        down[i] -= h
        ends = [TASK.loss(SortedNetwork(THETA, TAU, m).measure()) for m in (up, down)]
        slope = float(ends[0] - ends[1]) / (2 * h)
        assert float(phi[place]) == pytest.approx(slope, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("place", [0, 3, 6])
def test_what_the_commutator_leaves_out_is_the_square_of_the_change_of_the_state(place):
    n = 8
    task = Problem(MatrixBlock(2, "linear"), TASK.x, TASK.y, steps=n)
    net = even_stamps(randn(n, 4, seed=7), masses=True)
    before, after = (task.flow(s.measure()).X[-1] for s in at_crossing(net, place))
    moved = (after - before)[:, 0]
    r = before[:, 0] - task.y
    # linear blocks carry the change exactly: E differs by <r, moved> + |moved|^2/2
    first = float((r * moved).mean())
    assert float(commutators(task, net)[place]) / n**2 == pytest.approx(first, rel=1e-10)
    change = [float(task.loss(s.measure())) for s in at_crossing(net, place)]
    assert change[1] - change[0] - first == pytest.approx(
        float(moved.square().mean()) / 2, rel=1e-6
    )


def test_commuting_blocks_leave_no_commutator_and_do_not_move():
    task = Problem(MatrixBlock(2, "linear"), TASK.x, TASK.y, steps=N)
    diagonal = randn(N, 2, seed=8).diag_embed().flatten(1)
    net = SortedNetwork(diagonal, TAU, MASS)
    for value in (commutators(task, net), depth_velocity(task, net)):
        torch.testing.assert_close(value, torch.zeros_like(value), rtol=0, atol=1e-13)


def test_of_two_blocks_both_move_by_the_same_commutator_in_opposite_directions():
    task = Problem(BLOCK, TASK.x, TASK.y, steps=2)
    net = SortedNetwork(THETA[:2], TAU[:2], MASS[:2])
    B = float(commutators(task, net)[0])
    # block 1 acts first: it would have to move up past block 0
    torch.testing.assert_close(depth_velocity(task, net), torch.tensor([B, -B], dtype=DOUBLE))


def test_the_velocity_and_the_masses_follow_the_blocks_in_any_listing():
    order = torch.tensor([4, 2, 0, 1, 3])
    one, two = SortedNetwork(THETA, TAU, MASS), SortedNetwork(THETA[order], TAU[order], MASS[order])
    torch.testing.assert_close(one.steps, two.steps)
    torch.testing.assert_close(one.measure().weights, two.measure().weights)
    for routine in (derivative_at_blocks, commutators):
        torch.testing.assert_close(routine(TASK, one), routine(TASK, two))
    torch.testing.assert_close(depth_velocity(TASK, one)[order], depth_velocity(TASK, two))


@pytest.mark.parametrize("own", [False, True])
def test_networks_in_a_batch_equal_the_networks_alone(own):
    theta, tau = randn(3, N, BLOCK.k, seed=9), randn(3, N, seed=10).abs()
    mass = randn(3, N, seed=11).abs() if own else None
    net = SortedNetwork(theta, tau, mass)
    routines = [derivative_at_blocks, stamp_gradient, commutators, depth_velocity]
    together = [routine(TASK, net) for routine in routines]
    crossing = [TASK.loss(s.measure()) for s in at_crossing(net, 2)]
    for i in range(3):
        alone = SortedNetwork(theta[i], tau[i], None if mass is None else mass[i])
        torch.testing.assert_close(net.steps[i], alone.steps)
        for routine, value in zip(routines, together, strict=True):
            torch.testing.assert_close(value[i], routine(TASK, alone))
        for side, value in zip(at_crossing(alone, 2), crossing, strict=True):
            torch.testing.assert_close(value[i], TASK.loss(side.measure()))


@pytest.mark.parametrize("own", [False, True])
def test_what_a_batch_shares_may_be_given_once(own):
    theta, tau = randn(3, N, BLOCK.k, seed=9), TAU
    mass = MASS if own else None
    shared = SortedNetwork(theta, tau, mass)
    spelt = SortedNetwork(theta, tau.expand(3, N), None if mass is None else mass.expand(3, N))
    one = SortedNetwork(theta[0], tau.expand(3, N), mass)
    assert shared.order.shape == one.order.shape == one.steps.shape == (3, N)
    for routine in (derivative_at_blocks, stamp_gradient, commutators, depth_velocity):
        torch.testing.assert_close(routine(TASK, shared), routine(TASK, spelt))
        torch.testing.assert_close(
            routine(TASK, one), routine(TASK, spelt)[:1].expand_as(routine(TASK, one))
        )
    for net in (shared, one):
        before, after = at_crossing(net, 1)
        assert before.theta.shape == after.theta.shape == (3, N, BLOCK.k)


def test_the_weights_of_the_measure_average_to_the_total_time():
    rho = SortedNetwork(THETA, 1.7 * TAU).measure()
    assert float(rho.weights.sum(-1).mean()) == pytest.approx(1.7 * 0.9)


def test_the_steps_of_equal_stamps_are_zero_and_the_later_listed_block_is_later():
    tau = torch.tensor([0.5, 0.5, 0.2, 0.5, 0.2], dtype=DOUBLE)
    net = SortedNetwork(THETA, tau)
    assert net.order.tolist() == [2, 4, 0, 1, 3]
    torch.testing.assert_close(net.steps, torch.tensor([0.2, 0.0, 0.3, 0.0, 0.0], dtype=DOUBLE))


def test_a_pair_before_the_first_place_is_refused():
    with pytest.raises(ValueError, match="place: expected an integer >= 0"):
        at_crossing(SortedNetwork(THETA, TAU), -1)
    with pytest.raises(TypeError, match="tau: expected a torch.Tensor"):
        SortedNetwork(THETA, [0.5] * N)
    with pytest.raises(ValueError, match="mass: holds 2 numbers for 5"):
        SortedNetwork(THETA, TAU, MASS[:2])


def test_a_problem_that_does_not_fit_the_blocks_is_named():
    net = even_stamps(THETA, masses=True)
    for wrong in (dict(steps=N + 1), dict(steps=N, method="midpoint")):
        task = Problem(BLOCK, TASK.x, TASK.y, **wrong)
        for call in (
            lambda t=task: commutators(t, net),
            lambda t=task: derivative_at_blocks(t, net),
            lambda t=task: train(t, THETA, RULES["fixed grid"], 0.1, 2),
        ):
            with pytest.raises(ValueError, match="problem: takes"):
                call()
    alone = even_stamps(THETA[:1], masses=True)
    with pytest.raises(ValueError, match="network: has 1 block"):
        depth_velocity(Problem(BLOCK, TASK.x, TASK.y, steps=1), alone)
