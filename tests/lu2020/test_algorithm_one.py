import math

import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.blocks import MatrixBlock
from mflib.lu2020.algorithm_one import RULES, Training, even_stamps, train
from mflib.lu2020.sorted_network import depth_velocity, derivative_at_blocks
from mflib.problem import Problem

N, BLOCK = 6, MatrixBlock(2, "tanh")
TASK = Problem(BLOCK, randn(5, 2), randn(5, seed=1), steps=N)
THETA = randn(N, BLOCK.k, seed=2)
EVEN = (torch.arange(N, dtype=DOUBLE) + 1) / N
SAME = torch.arange(N)


def loss(theta, steps):
    """The network of the given steps, written out, blocks in order."""
    X = TASK.x
    for block, h in zip(theta, steps, strict=True):
        X = X + h * torch.tanh(X @ block.reshape(2, 2).T)
    return 0.5 * ((X[:, 0] - TASK.y) ** 2).mean()


def differences(tau):
    return torch.cat([tau[:1], tau.diff()])


def by_hand(rule, eta, kappa, steps):
    """Train with autograd alone; return theta, tau, the blocks' numbers and the losses."""
    theta, tau, block, losses = THETA.clone(), EVEN.clone(), SAME, []
    for _ in range(steps):
        theta.requires_grad_()
        tau.requires_grad_()
        value = loss(theta, differences(tau / tau[-1] if rule.normalised else tau))
        value.backward()
        losses.append(value.detach())
        new = theta.detach() - eta * N * theta.grad
        moved = (tau.detach() - eta * kappa * N * tau.grad).clamp(min=0)
        moved = moved / moved.max() if rule.normalised else moved
        order = moved.argsort(stable=True)
        tau = moved[order]
        theta, block = (new, block) if rule.moves == "stamps" else (new[order], block[order])
    losses.append(loss(theta, differences(tau)))
    return theta, tau, block, torch.stack(losses)


@pytest.mark.parametrize("name", ["printed", "normalised", "blocks stay"])
def test_many_steps_equal_the_same_steps_with_autograd(name):
    run = train(TASK, THETA, RULES[name], 0.3, 8, 0.5)
    theta, tau, block, losses = by_hand(RULES[name], 0.3, 0.5, 8)
    torch.testing.assert_close(run.network.theta, theta)
    torch.testing.assert_close(run.network.tau, tau)
    torch.testing.assert_close(run.loss, losses)
    assert torch.equal(run.block[-1], block)
    assert torch.equal(block, SAME) == (name == "blocks stay")
    torch.testing.assert_close(run.total, tau[-1])


def test_on_a_fixed_grid_only_the_parameters_take_gradient_steps():
    theta = THETA.clone()
    for _ in range(3):
        theta.requires_grad_()
        loss(theta, torch.full((N,), 1 / N, dtype=DOUBLE)).backward()
        theta = theta.detach() - 0.2 * N * theta.grad
    run = train(TASK, THETA, RULES["fixed grid"], 0.2, 3, 5.0)
    torch.testing.assert_close(run.network.theta, theta)
    torch.testing.assert_close(run.network.steps, torch.full((N,), 1 / N, dtype=DOUBLE))
    assert float(run.total) == pytest.approx(1.0)


def test_with_free_time_one_scalar_is_trained_beside_the_parameters():
    theta, total = THETA.clone(), torch.ones((), dtype=DOUBLE)
    for _ in range(3):
        theta.requires_grad_()
        total.requires_grad_()
        loss(theta, total.expand(N) / N).backward()
        theta = theta.detach() - 0.2 * N * theta.grad
        total = total.detach() - 0.2 * 0.7 * total.grad
    run = train(TASK, THETA, RULES["free time"], 0.2, 3, 0.7)
    torch.testing.assert_close(run.network.theta, theta)
    torch.testing.assert_close(run.total, total)
    torch.testing.assert_close(run.loss[-1], loss(theta, total.expand(N) / N))
    assert abs(float(total) - 1) > 1e-3
    torch.testing.assert_close(run.network.tau, even_stamps(THETA, masses=True).tau)


def test_a_normalised_run_ends_with_its_largest_stamp_at_one():
    run = train(TASK, THETA, RULES["normalised"], 0.3, 20, 2.0)
    assert float(run.network.tau[-1]) == 1.0
    assert (run.network.tau.diff() >= 0).all() and run.network.tau[0] >= 0


def test_printed_stamps_are_kept_from_becoming_negative():
    run = train(TASK, THETA, RULES["printed"], 0.3, 1, 1e4)
    assert float(run.network.tau[0]) == 0.0


def test_the_total_time_stops_at_zero():
    # the lifted inputs are the targets: every block does harm
    task = Problem(BLOCK, TASK.x, TASK.x[:, 0], steps=N)
    run = train(task, THETA, RULES["free time"], 1e-3, 1, 1e6)
    assert float(run.total) == 0.0
    assert float(run.loss[0]) > 0.0 == float(run.loss[1])


@pytest.mark.parametrize("name", ["flow", "flow, masses"])
def test_the_flow_moves_stamps_by_the_depth_velocity(name):
    eta, kappa, start = 0.1, 0.5, even_stamps(THETA, masses=True)
    theta = THETA.clone().requires_grad_()
    loss(theta, start.steps).backward()
    tau = (start.tau + eta * kappa * depth_velocity(TASK, start)).clamp(0, 1)
    order = tau.argsort()
    run = train(TASK, THETA, RULES[name], eta, 1, kappa)
    torch.testing.assert_close(run.network.tau, tau[order])
    torch.testing.assert_close(run.network.theta, (THETA - eta * N * theta.grad)[order])
    mass = start.mass
    if name == "flow, masses":
        mass = mass * torch.exp(-eta * kappa * derivative_at_blocks(TASK, start))
        mass = mass / mass.sum()
    torch.testing.assert_close(run.network.mass, mass[order])


def test_the_flow_keeps_equal_masses_while_blocks_change_places():
    run = train(TASK, THETA, RULES["flow"], 0.2, 20, 5.0)
    assert int(run.exchanges) > 0
    assert torch.equal(run.network.mass, torch.full((N,), 1 / N, dtype=DOUBLE))
    assert (run.network.tau >= 0).all() and (run.network.tau <= 1).all()


def test_trained_masses_travel_with_their_blocks_and_sum_to_one():
    run = train(TASK, THETA, RULES["flow, masses"], 0.2, 20, 5.0)
    assert int(run.exchanges) > 0
    assert float(run.network.mass.sum()) == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(loss(run.network.theta, run.network.mass), run.loss[-1])


@pytest.mark.parametrize("seed", range(4))
def test_where_others_move_the_permutation_has_the_cycles_of_the_sort(seed):
    def cycles(order):
        left, lengths = set(range(N)), []
        while left:
            at, length = left.pop(), 1
            while int(order[at]) in left:
                at, length = int(order[at]), length + 1
                left.remove(at)
            lengths.append(length)
        return sorted(lengths)

    sort = train(TASK, THETA, RULES["normalised"], 0.3, 1, 3.0)
    other = train(TASK, THETA, RULES["others move"], 0.3, 1, 3.0, generator(seed))
    assert cycles(other.block[1]) == cycles(sort.block[1]) != [1] * N
    torch.testing.assert_close(other.network.tau, sort.network.tau)
    unsorted = sort.network.theta[sort.block[1].argsort()]
    torch.testing.assert_close(other.network.theta, unsorted[other.block[1]])
    again = train(TASK, THETA, RULES["others move"], 0.3, 1, 3.0, generator(seed))
    assert torch.equal(again.block, other.block)


def test_others_are_not_always_the_blocks_that_the_sort_would_move():
    sort = train(TASK, THETA, RULES["normalised"], 0.3, 1, 3.0)
    orders = {
        tuple(train(TASK, THETA, RULES["others move"], 0.3, 1, 3.0, generator(s)).block[1].tolist())
        for s in range(8)
    }
    assert len(orders - {tuple(sort.block[1].tolist())}) >= 2


@pytest.mark.parametrize("name", [name for name in RULES if name != "others move"])
def test_a_batch_of_seeds_and_rates_equals_one_seed_alone(name):
    theta, rate = randn(3, N, BLOCK.k, seed=3), torch.tensor([0.1, 1.0, 4.0], dtype=DOUBLE)
    together = train(TASK, theta, RULES[name], 0.2, 6, rate)
    for i in range(3):
        alone = train(TASK, theta[i], RULES[name], 0.2, 6, float(rate[i]))
        torch.testing.assert_close(together.loss[i], alone.loss)
        torch.testing.assert_close(together.network.theta[i], alone.network.theta)
        torch.testing.assert_close(together.total[i], alone.total)
        assert torch.equal(together.block[:, i], alone.block)
        assert int(together.exchanges[i]) == int(alone.exchanges)


def test_at_rate_zero_every_rule_is_descent_on_the_fixed_grid():
    fixed = train(TASK, THETA, RULES["fixed grid"], 0.2, 5)
    for name, rule in RULES.items():
        run = train(TASK, THETA, rule, 0.2, 5, 0.0, generator())
        torch.testing.assert_close(run.loss, fixed.loss)
        assert int(run.exchanges) == 0, name


def test_a_short_step_lowers_the_loss_by_the_squared_gradients():
    theta, tau = THETA.clone().requires_grad_(), EVEN.clone().requires_grad_()
    loss(theta, differences(tau)).backward()
    eta, kappa = 1e-6, 0.3
    run = train(TASK, THETA, RULES["printed"], eta, 1, kappa)
    fall = N * (theta.grad.square().sum() + kappa * tau.grad.square().sum())
    torch.testing.assert_close((run.loss[0] - run.loss[1]) / eta, fall, rtol=1e-4, atol=0)


def test_the_recorded_loss_belongs_to_the_network_that_is_returned():
    for name, rule in RULES.items():
        run = train(TASK, THETA, rule, 0.2, 7, 2.0, generator())
        steps = run.network.steps * run.total / run.network.steps.sum()
        torch.testing.assert_close(loss(run.network.theta, steps), run.loss[-1], msg=name)
        torch.testing.assert_close(loss(THETA, torch.full((N,), 1 / N, dtype=DOUBLE)), run.loss[0])


def test_exchanges_are_the_steps_after_which_the_order_was_another():
    block = torch.tensor([[0, 1, 2], [0, 1, 2], [1, 0, 2], [2, 0, 1], [2, 0, 1], [0, 1, 2]])
    run = Training(even_stamps(THETA), torch.ones(()), torch.zeros(6), block)
    assert int(run.exchanges) == 3
    still = torch.arange(3).expand(6, 3)
    both = Training(
        even_stamps(THETA), torch.ones(2), torch.zeros(2, 6), torch.stack([block, still], 1)
    )
    assert both.exchanges.tolist() == [3, 0]


def test_even_stamps_give_equal_steps_with_and_without_masses():
    theta = randn(2, 4, BLOCK.k)
    plain, own = even_stamps(theta), even_stamps(theta, masses=True)
    torch.testing.assert_close(plain.tau[1], torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=DOUBLE))
    torch.testing.assert_close(own.tau[1], torch.tensor([1, 3, 5, 7], dtype=DOUBLE) / 8)
    assert plain.mass is None
    for net in (plain, own):
        torch.testing.assert_close(net.steps, torch.full((2, 4), 0.25, dtype=DOUBLE))


@pytest.mark.parametrize("time_step", [0.0, -0.1, math.inf, math.nan])
def test_a_time_step_that_is_no_length_is_refused(time_step):
    with pytest.raises(ValueError, match="time_step: expected a finite number > 0"):
        train(TASK, THETA, RULES["printed"], time_step, 1)


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(TypeError, match="generator: expected a torch.Generator"):
        train(TASK, THETA, RULES["others move"], 0.1, 1)
    with pytest.raises(ValueError, match="steps: expected an integer >= 1"):
        train(TASK, THETA, RULES["printed"], 0.1, 0)
    with pytest.raises(ValueError, match="theta: last dimension is 3, expected 4"):
        train(TASK, THETA[:, :3], RULES["printed"], 0.1, 1)
    with pytest.raises(TypeError, match="theta: expected a torch.Tensor"):
        even_stamps([[1.0]])


def test_training_that_diverges_names_the_step_and_the_remedy():
    with pytest.raises(
        ValueError,
        match=r"time_step: training with 1e\+200 left the finite "
        r"numbers at step \d.*pass a smaller one",
    ):
        train(TASK, THETA, RULES["printed"], 1e200, 5)
