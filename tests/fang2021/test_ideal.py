"""The ideal network: exact covariances, constants against simulation, bounds attained."""

import torch
from fang2021.networks import generator, network, normal

from mflib.fang2021.ideal import (
    closeness,
    coupling_constant,
    distances,
    gap,
    ideal_network,
    root_bound,
    whitening,
)
from mflib.fang2021.initialisation import (
    algorithm_two,
    feature_gram,
    standard_features,
    weights_from_features,
)
from mflib.fang2021.path_law import dimension, path_grams, paths


def test_with_the_empirical_gram_matrices_nothing_moves():
    net = network(depth=3)
    first, _, f = standard_features(net, 50, generator())
    grams = [feature_gram(net.h1.f(b)) for b in f.beta[:-1]]
    same, middle = ideal_network(net, f, grams)
    torch.testing.assert_close(same.beta[-1], f.beta[-1])
    w = weights_from_features(net, first, f)
    torch.testing.assert_close(middle[1].dense(), w.middle[1].dense())


def test_a_gram_matrix_twice_as_large_makes_residuals_of_root_two():
    net = network(depth=3)
    f = standard_features(net, 50, generator())[2]
    grams = [2 * feature_gram(net.h1.f(f.beta[0])), torch.eye(3, dtype=torch.float64)]
    moved, middle = ideal_network(net, f, grams)
    torch.testing.assert_close(moved.alpha[0], 2**0.5 * f.alpha[0])
    torch.testing.assert_close(moved.beta[1], net.join(moved.alpha[0], f.beta[0]))
    torch.testing.assert_close(middle[1].a, net.h1.f(moved.beta[1]))


def test_whitening_turns_one_covariance_into_the_other():
    a, b = normal(2, 3, 3), normal(2, 3, 3, seed=1)
    k, e = a @ a.mT, b @ b.mT
    t = whitening(k, e)
    torch.testing.assert_close(t @ e @ t.mT, k)


def test_the_gap_and_the_closeness_are_those_of_the_arrays():
    net = network(depth=3)
    w, f = algorithm_two(net, 30, generator(), batch=(2,))
    grams = path_grams(net, generator(), 2**12)
    _, middle = ideal_network(net, f, grams)
    size = f.beta[0].abs().amax(-2)
    difference = (w.middle[1].dense() - middle[1].dense()).abs()
    torch.testing.assert_close(gap(w.middle[1], middle[1]), difference.square().mean((1, 2)).sqrt())
    weight = 1 + size[:, :, None] + size[:, None, :]
    torch.testing.assert_close(
        closeness(w.middle[1], middle[1], size),
        (difference / weight).amax((1, 2)),
        rtol=1e-4,
        atol=1e-7,
    )


def test_the_coupling_constant_is_the_mean_square_gap_of_many_networks():
    net = network(depth=2)
    rule = normal(200_000, dimension(net), seed=9)
    first, f, grams = paths(net, rule)
    mass = torch.full((200_000,), 1 / 200_000, dtype=torch.float64)
    predicted = coupling_constant(net.h1.f(f.beta[0]), mass)
    m = 300
    f = paths(net, normal(3000, m, dimension(net), seed=5))[1]
    ideal, _ = ideal_network(net, f, grams)
    measured = m * (ideal.alpha[0] - f.alpha[0]).square().sum(-2).mean()
    assert abs(measured / predicted - 1) < 0.08


def test_the_root_bound_is_attained_by_multiples_of_the_identity():
    eye = torch.eye(3, dtype=torch.float64)
    left, right = root_bound(2.0 * eye, 0.5 * eye)
    torch.testing.assert_close(left, right)
    a, b = normal(50, 3, 3), normal(50, 3, 3, seed=1)
    left, right = root_bound(a @ a.mT, b @ b.mT)
    assert (left <= right).all() and (left < 0.9 * right).any()


def test_the_distances_are_the_largest_over_layers():
    net = network(depth=3)
    first, _, f = standard_features(net, 40, generator(), batch=(2,))
    grams = path_grams(net, generator(), 2**12)[:2]
    residuals, pairs = distances(net, first, f, grams)
    ideal, middle = ideal_network(net, f, grams)
    here = weights_from_features(net, first, f).middle
    far = [
        (a - b).square().sum(1).mean(1).sqrt() for a, b in zip(f.alpha, ideal.alpha, strict=True)
    ]
    torch.testing.assert_close(residuals, torch.maximum(*far))
    off = [
        (a.dense() - b.dense()).square().mean((1, 2)).sqrt()
        for a, b in zip(here, middle, strict=True)
    ]
    torch.testing.assert_close(pairs, torch.maximum(*off))
