"""The network against sums written out, autograd, and copies in place of masses."""

from dataclasses import replace

import pytest
import torch
from fang2021.networks import network, normal, weights

from mflib.fang2021.connections import Dense, LowRank
from mflib.fang2021.network import Network


def test_the_forward_pass_is_the_papers_sums():
    net = network(depth=3)
    w = weights(net, m=4, batch=())
    m, d = 4, 2
    below = [sum(w.first[i, j] * net.x[:, i] for i in range(d)) / d for j in range(m)]
    for v in w.middle:
        alpha = [sum(v.v[i, j] * net.h1.f(below[i]) for i in range(m)) / m for j in range(m)]
        below = [net.h2.f(a) + b for a, b in zip(alpha, below, strict=True)]
    output = sum(w.last[i] * net.h1.f(below[i]) for i in range(m)) / m
    torch.testing.assert_close(net.forward(w).output, output, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("skip", [True, False])
def test_scaled_gradients_are_autograds_times_the_widths(skip):
    net = network(skip=skip)
    w = weights(net)
    leaves = [w.first, *[v.v for v in w.middle], w.last]
    leaves = [v.requires_grad_() for v in leaves]
    f = net.forward(w)
    grads = torch.autograd.grad(net.risk(f).sum(), leaves)
    drift = net.drift(f, net.backward(w, f))
    m, d = 7, 2
    torch.testing.assert_close(drift.first, d * m * grads[0])
    for (s, t), g in zip(drift.middle, grads[1:-1], strict=True):
        torch.testing.assert_close(s.mT @ t, m * m * g)
    torch.testing.assert_close(drift.last, m * grads[-1])


@pytest.mark.parametrize("skip", [True, False])
def test_feature_drifts_are_the_derivative_along_the_weights_drift(skip):
    net = network(skip=skip)
    w = weights(net)
    f = net.forward(w)
    g = net.drift(f, net.backward(w, f))

    def features(t):
        moved = net.forward(net.step(w, g, -t))
        return (*moved.beta, *moved.alpha, moved.output)

    zero = torch.zeros((), dtype=torch.float64)
    _, exact = torch.func.jvp(features, (zero,), (torch.ones_like(zero),))
    drift = net.feature_drift(w, f, g)
    for left, right in zip((*drift.beta, *drift.alpha, drift.output), exact, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-13)


def test_a_particle_of_double_mass_is_two_particles():
    net = network()
    merged = weights(net, m=3, batch=(), mass=torch.tensor([0.5, 0.25, 0.25]).double())
    pick = torch.tensor([0, 0, 1, 2])
    split = replace(
        merged,
        first=merged.first[:, pick],
        middle=tuple(Dense(v.v[pick][:, pick]) for v in merged.middle),
        last=merged.last[pick],
        mass=torch.full((4,), 0.25, dtype=torch.float64),
    )
    one, two = ([net.risk(f) for _, f, _ in net.descend(w, 0.7, 6)] for w in (merged, split))
    torch.testing.assert_close(torch.stack(one), torch.stack(two), rtol=1e-13, atol=1e-15)


def test_a_particle_without_mass_changes_nothing_and_follows_the_others():
    net = network()
    bare = weights(net, m=5, batch=())
    keep = torch.tensor([0, 1, 2, 3, 4, 2])
    ghost = replace(
        bare,
        first=bare.first[:, keep],
        middle=tuple(Dense(v.v[keep][:, keep]) for v in bare.middle),
        last=bare.last[keep],
        mass=torch.tensor([0.2] * 5 + [0.0], dtype=torch.float64),
    )
    for (_, f, _), (_, g, _) in zip(
        net.descend(bare, 0.7, 5), net.descend(ghost, 0.7, 5), strict=True
    ):
        torch.testing.assert_close(g.output, f.output, rtol=1e-14, atol=1e-15)
        torch.testing.assert_close(g.beta[-1][:, 5], f.beta[-1][:, 2], rtol=1e-13, atol=1e-14)


def test_low_rank_and_dense_connections_train_alike():
    net = network()
    w = weights(net, m=30)
    low = replace(
        w,
        middle=tuple(
            LowRank(normal(2, 3, 30, seed=k), normal(2, 3, 30, seed=k + 9))
            for k in range(len(w.middle))
        ),
    )
    dense = replace(low, middle=tuple(Dense(v.dense()) for v in low.middle))
    runs = [torch.stack([f.output for _, f, _ in net.descend(v, 0.5, 10)]) for v in (low, dense)]
    torch.testing.assert_close(*runs, rtol=1e-13, atol=1e-14)


def test_units_can_be_renamed():
    net = network()
    w = weights(net, m=6, batch=())
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    turned = replace(
        w,
        first=w.first[:, order],
        last=w.last[order],
        middle=tuple(Dense(v.v[order][:, order]) for v in w.middle),
    )
    torch.testing.assert_close(net.forward(turned).output, net.forward(w).output)


def test_descent_lowers_the_loss_and_says_when_it_diverges():
    net = network(loss="squared")
    w = weights(net)
    losses = [net.risk(f) for _, f, _ in net.descend(w, 0.05, 20)]
    assert (losses[-1] < losses[0]).all()
    with pytest.raises(ValueError, match="eta.*smaller"):
        list(net.descend(w, 1e200, 20))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(y=normal(4)), "y: last dimension is 4, expected 3"),
        (dict(x=normal(3, 2) / 0), "x: holds NaN or infinity"),
        (dict(depth=0), "depth: expected an integer >= 1"),
        (dict(loss="cubic"), "loss: .*'cubic'; choose one of"),
        (dict(h1="tan"), "h1: .*'tan'"),
    ],
)
def test_bad_arguments_are_named(change, message):
    good = dict(x=normal(3, 2), y=normal(3), depth=2)
    with pytest.raises(ValueError, match=message):
        Network(**(good | change))


def test_connections_refuse_arrays_that_do_not_fit():
    with pytest.raises(ValueError, match="v: shape .2, 3. is not square"):
        Dense(normal(2, 3))
    with pytest.raises(ValueError, match="b: has rank 3 and a has 2"):
        LowRank(normal(2, 5), normal(3, 5))
