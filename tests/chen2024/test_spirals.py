import math

import pytest
import torch

from mflib.chen2024.spirals import (
    SpiralNet,
    adam,
    errors,
    gradient,
    initial,
    predict,
    train_spirals,
    two_spirals,
)

NET = SpiralNet(depth=3, width=5)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def problem(runs=3, n=7):
    x, y = two_spirals(n, generator(), degrees=360.0, runs=runs)
    return 0.2 * x, y, initial(NET, runs, generator(1))


def test_spirals_without_noise_lie_on_their_arms():
    x, y = two_spirals(40, generator(), degrees=360.0, noise=0.0, runs=2)
    radius = x.norm(dim=-1)
    arm = torch.stack([-radius.cos(), radius.sin()], -1) * (y * radius)[..., None]
    torch.testing.assert_close(x, arm)
    assert radius.max() <= 2 * math.pi
    assert (y.sum(1) == 0).all()


def test_the_network_is_the_recursion_it_states():
    x, _, params = problem(runs=1)
    w, b, v, c, w1, b1, v1, c1 = (p[0] for p in params)
    z = x[0].T
    for _ in range(3):
        z = z + (v @ torch.tanh(w @ z + b) + c) / 3
    f = v1 @ torch.tanh(w1 @ z + b1) + c1
    torch.testing.assert_close(predict(NET, params, x)[0], f[0])


def test_gradient_equals_autograd():
    x, y, params = problem()
    mass = torch.rand(3, 7, generator=generator(2), dtype=torch.float64)
    leaves = [p.clone().requires_grad_() for p in params]
    z = x.mT
    w, b, v, c, w1, b1, v1, c1 = leaves
    for _ in range(3):
        z = z + (v @ torch.tanh(w @ z + b) + c) / 3
    f = (v1 @ torch.tanh(w1 @ z + b1) + c1)[:, 0]
    loss = 0.5 * (mass * (f - y) ** 2).sum(1)
    expected = torch.autograd.grad(loss.sum(), leaves)
    value, grads = gradient(NET, params, x.mT.contiguous(), y, mass)
    torch.testing.assert_close(value, loss.detach())
    for mine, theirs in zip(grads, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_runs_train_as_if_alone():
    x, y, params = problem()
    together, losses = adam(NET, params, x, y, steps=20)
    for run in range(3):
        one = slice(run, run + 1)
        alone, loss = adam(NET, [p[one] for p in params], x[one], y[one], steps=20)
        torch.testing.assert_close(losses[:, one], loss)
        for a, t in zip(alone, together, strict=True):
            torch.testing.assert_close(t[one], a)


def test_padding_with_mass_zero_changes_nothing():
    x, y, params = problem()
    padded_x = torch.cat([x, torch.full((3, 4, 2), 5.0, dtype=x.dtype)], 1)
    padded_y = torch.cat([y, torch.ones(3, 4, dtype=y.dtype)], 1)
    mass = torch.cat([torch.full_like(y, 1 / 7), torch.zeros(3, 4, dtype=y.dtype)], 1)
    plain, _ = adam(NET, params, x, y, steps=10)
    padded, _ = adam(NET, params, padded_x, padded_y, steps=10, mass=mass)
    for a, b in zip(plain, padded, strict=True):
        torch.testing.assert_close(a, b)


def test_the_first_step_of_adam_has_the_size_of_the_rate():
    x, y, params = problem()
    moved, _ = adam(NET, params, x, y, steps=1, rate=0.01)
    for before, after in zip(params, moved, strict=True):
        torch.testing.assert_close(
            (after - before).abs(), torch.full_like(before, 0.01), rtol=1e-4, atol=1e-6
        )


def test_adam_equals_the_optimiser_of_torch_with_a_linear_schedule():
    x, y, params = problem()
    leaves = [p.clone().requires_grad_() for p in params]
    optimiser = torch.optim.Adam(leaves, lr=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: 1 - k / 12)
    for _ in range(12):
        optimiser.zero_grad()
        (0.5 * (predict(NET, leaves, x) - y).square().mean(1)).sum().backward()
        optimiser.step()
        schedule.step()
    ours, _ = adam(NET, params, x, y, steps=12, rate=0.02)
    for mine, theirs in zip(ours, leaves, strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-9, atol=1e-10)


def test_training_separates_an_easy_spiral():
    x, y = two_spirals(60, generator(3), degrees=180.0, noise=0.1, runs=2)
    net = SpiralNet(depth=4, width=16)
    params, losses = adam(net, initial(net, 2, generator(4)), x, y, steps=300)
    assert (losses[-1] < 0.05 * losses[0]).all()
    assert errors(net, params, x, y).max() < 0.05


def test_an_experiment_learns_and_its_shuffled_twin_does_not():
    net, runs = SpiralNet(depth=4, width=16), torch.tensor([0, 1, 0])
    scale = torch.tensor([0.3, 0.3, 0.3], dtype=torch.float64)[:, None, None]
    sizes = [40, 300]
    wrong, loss = train_spirals(net, sizes, runs, scale, 300, generator(), test=500)
    assert wrong.shape == loss.shape == (3, 2)
    assert (wrong[:, 1] < wrong[:, 0]).all() and wrong[:, 1].max() < 0.35
    assert (wrong[0] == wrong[2]).all() and (loss[0] == loss[2]).all()
    chance, _ = train_spirals(net, [300], runs, scale, 30, generator(), 500, shuffle=True)
    assert chance.min() > 0.35


def test_an_experiment_trains_each_size_on_its_own_points():
    # the draws, in the order in which the experiment makes them, trained one by one
    source, runs = generator(7), torch.tensor([0, 1])
    _, loss = train_spirals(NET, [8, 20], runs, 0.5, 15, generator(7), test=10)
    for column, n in enumerate((8, 20)):
        x, y = two_spirals(n, source, runs=2)
        start = initial(NET, 2, source, torch.float32)
        _, losses = adam(NET, start, (0.5 * x).float(), y.float(), 15)
        torch.testing.assert_close(loss[:, column], losses[-1].double())


@pytest.mark.parametrize(
    "call",
    [
        lambda: two_spirals(0, generator()),
        lambda: two_spirals(5, generator(), degrees=-1.0),
        lambda: two_spirals(5, generator(), noise=float("nan")),
        lambda: SpiralNet(depth=0),
        lambda: train_spirals(NET, [], torch.tensor([0]), 1.0, 1, generator()),
        lambda: adam(NET, problem()[2], problem()[0], problem()[1][:, :3], steps=2),
        lambda: adam(NET, problem()[2], *problem()[:2], steps=2, rate=0.0),
        lambda: predict(NET, problem()[2], problem()[0] * float("nan")),
    ],
)
def test_impossible_arguments_are_refused(call):
    with pytest.raises(ValueError, match=":"):
        call()
