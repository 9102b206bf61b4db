import math

import pytest
import torch

from mflib.chen2024.spirals import (
    SpiralNet,
    adam,
    errors,
    initial,
    predict,
    train_spirals,
    two_spirals,
)

NET = SpiralNet(depth=3, width=5)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def problem(runs=3, n=7):
    x, y = two_spirals(n, generator(), degrees=360.0, batch=(runs,))
    return 0.2 * x, y, initial(NET, generator(1), (runs,))


def test_spirals_without_noise_lie_on_their_arms():
    x, y = two_spirals(40, generator(), degrees=360.0, noise=0.0, batch=(2,))
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


def test_the_parameters_move_along_the_gradient_of_the_plain_formula():
    # Adam's second step depends on the ratio of two gradients, so losses follow them
    x, y, params = problem()
    mass = torch.rand(3, 7, generator=generator(2), dtype=torch.float64)
    leaves = [p.clone().requires_grad_() for p in params]
    optimiser, expected = torch.optim.Adam(leaves, lr=0.02), []
    for step in range(6):
        w, b, v, c, w1, b1, v1, c1 = leaves
        z = x.mT
        for _ in range(3):
            z = z + (v @ torch.tanh(w @ z + b) + c) / 3
        f = (v1 @ torch.tanh(w1 @ z + b1) + c1)[:, 0]
        loss = 0.5 * (mass * (f - y) ** 2).sum(1)
        expected.append(loss.detach())
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.param_groups[0]["lr"] = 0.02 * (1 - step / 6)
        optimiser.step()
    ours, losses = adam(NET, params, x, y, 6, 0.02, mass)
    torch.testing.assert_close(losses, torch.stack(expected), rtol=1e-10, atol=1e-12)
    for mine, theirs in zip(ours, leaves, strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-9, atol=1e-10)


def test_groups_of_runs_change_nothing(monkeypatch):
    x, y, params = problem()
    together, losses = adam(NET, params, x, y, steps=15)
    monkeypatch.setattr("mflib.chen2024.spirals._POINTS", 14)  # two runs, then one
    apart, others = adam(NET, params, x, y, steps=15)
    torch.testing.assert_close(losses, others)
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b)


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


def test_adam_is_the_method_of_kingma_and_ba():
    # written out, with the gradients of the library
    x, y, params = problem(runs=2)
    now, first, second = params, [0.0] * 8, [0.0] * 8
    for k in range(1, 13):
        leaves = [p.clone().requires_grad_() for p in now]
        loss = (0.5 * (predict(NET, leaves, x) - y).square().mean(1)).sum()
        grads = torch.autograd.grad(loss, leaves)
        first = [0.9 * m + 0.1 * g for m, g in zip(first, grads, strict=True)]
        second = [0.999 * v + 0.001 * g**2 for v, g in zip(second, grads, strict=True)]
        rate = 0.02 * (1 - (k - 1) / 12) / (1 - 0.9**k)
        now = [
            p - rate * m / ((v / (1 - 0.999**k)).sqrt() + 1e-8)
            for p, m, v in zip(now, first, second, strict=True)
        ]
    ours, _ = adam(NET, params, x, y, steps=12, rate=0.02)
    for mine, theirs in zip(ours, now, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9)


def test_training_separates_an_easy_spiral():
    x, y = two_spirals(60, generator(3), degrees=180.0, noise=0.1, batch=(2,))
    net = SpiralNet(depth=4, width=16)
    params, losses = adam(net, initial(net, generator(4), (2,)), x, y, steps=300)
    assert (losses[-1] < 0.05 * losses[0]).all()
    assert errors(net, params, x, y).max() < 0.05


def test_an_experiment_learns_and_its_shuffled_twin_does_not():
    net, runs = SpiralNet(depth=4, width=16), torch.tensor([0, 1, 0])
    scale = torch.tensor([0.3, 0.3, 0.3], dtype=torch.float64)[:, None, None]
    sizes = [40, 300]
    wrong, loss = train_spirals(net, sizes, runs, scale, 300, generator(), test=500)
    assert wrong.shape == loss.shape == (3, 2)
    assert (wrong[:, 1] < wrong[:, 0]).all() and wrong[:, 1].max() < 0.35
    # the same seed twice: equal but for rounding, which 300 steps may magnify
    torch.testing.assert_close(loss[0], loss[2], rtol=1e-2, atol=0)
    assert (loss[0] / loss[1]).log().abs().min() > 0.1
    chance, _ = train_spirals(net, [300], runs, scale, 30, generator(), 500, shuffle=True)
    assert chance.min() > 0.35


def test_an_experiment_trains_each_size_on_its_own_points():
    # the draws, in the order in which the experiment makes them, trained one by one
    source, runs = generator(7), torch.tensor([0, 1])
    _, loss = train_spirals(NET, [8, 20], runs, 0.5, 15, generator(7), test=10)
    for column, n in enumerate((8, 20)):
        x, y = two_spirals(n, source, batch=(2,))
        start = initial(NET, source, (2,), torch.float32)
        _, losses = adam(NET, start, (0.5 * x).float(), y.float(), 15)
        torch.testing.assert_close(loss[:, column], losses[-1].double())


@pytest.mark.parametrize(
    "call",
    [
        lambda: two_spirals(0, generator()),
        lambda: two_spirals(5, generator(), degrees=-1.0),
        lambda: two_spirals(5, generator(), noise=float("nan")),
        lambda: SpiralNet(depth=0),
        lambda: train_spirals(NET, [5], torch.tensor([-1]), 1.0, 1, generator()),
        lambda: train_spirals(NET, [5], torch.tensor([0]), float("nan"), 1, generator()),
        lambda: train_spirals(NET, [], torch.tensor([0]), 1.0, 1, generator()),
        lambda: adam(NET, problem()[2], problem()[0], problem()[1][:, :3], steps=2),
        lambda: adam(NET, problem()[2], *problem()[:2], steps=2, rate=0.0),
        lambda: adam(NET, problem()[2], *problem()[:2], steps=2, rate=float("inf")),
        lambda: adam(NET, problem()[2], *problem()[:2], 2, mass=torch.ones(3, 1).double()),
        lambda: adam(NET, problem(2)[2], *problem()[:2], steps=2),
        lambda: predict(NET, problem()[2], problem()[0] * float("nan")),
        lambda: predict(NET, problem()[2][:4], problem()[0]),
        lambda: errors(NET, problem()[2], problem()[0], problem()[1][:, :1]),
    ],
)
def test_impossible_arguments_are_refused(call):
    with pytest.raises(ValueError, match=":"):
        call()


@pytest.mark.parametrize("which", [0, 3, 6, 7])
def test_parameters_of_a_training_that_diverged_have_no_error(which):
    x, y, params = problem()
    params[which] = params[which] * float("nan")
    with pytest.raises(ValueError, match="params: holds NaN"):
        errors(NET, params, x, y)
