"""Paths without mass: the same as particles of mass zero, below their majorant, onto."""

import math

import pytest
import torch
from fang2021.networks import generator, normal

from mflib.fang2021.ghosts import Background
from mflib.fang2021.network import Network
from mflib.fang2021.path_law import continuous_start, dimension, paths
from mflib.fang2021.surjectivity import first_layer_map, preimages, winding_number


@pytest.fixture(scope="module")
def flow():
    x = torch.tensor([[1.4, 0.3], [-0.5, 1.7]], dtype=torch.float64)
    net = Network(x, torch.tensor([1.0, -0.6], dtype=torch.float64), 3, "tanh", "tanh")
    normals = normal(40, dimension(net))
    return net, normals, Background(net, continuous_start(net, normals), 0.5, 8)


def test_a_path_that_follows_is_a_particle_of_mass_zero(flow):
    net, normals, back = flow
    more = torch.cat([normals, normal(5, dimension(net), seed=7)])
    mass = torch.cat([torch.full((40,), 1 / 40), torch.zeros(5)]).double()
    mass = mass / mass.sum()
    first, f, _ = paths(net, more, mass=mass)
    seen = back.follow(first[:, 40:], torch.stack(f.alpha)[..., 40:])
    w = continuous_start(net, more, mass=mass)
    for k, (now, g, c) in enumerate(net.descend(w, 0.5, 8)):
        torch.testing.assert_close(seen.first[k], now.first[:, 40:], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(seen.last[k], now.last[40:], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(seen.beta[k, 2], g.beta[2][:, 40:], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(seen.costate[k, 0], c.beta[0][:, 40:], rtol=1e-6, atol=1e-7)


def test_two_paths_stay_below_their_majorant_which_starts_at_their_distance(flow):
    net, _, back = flow
    one = back.follow(normal(2, 30), normal(2, 2, 30, seed=1))
    other = back.follow(normal(2, 30) + 0.05, normal(2, 2, 30, seed=1) - 0.03)
    bound = back.majorant(one, other, (1.0, 1.0), (0.77, 0.77))
    for part, above in zip(("first", "last", "beta", "alpha"), bound, strict=True):
        gap = (getattr(one, part) - getattr(other, part)).abs()
        assert (gap <= above * (1 + 1e-9) + 1e-12).all()
    torch.testing.assert_close(bound[0][0], torch.full((2, 30), 0.05, dtype=torch.float64))


def test_preimages_are_mapped_to_their_targets_and_a_small_ball_misses(flow):
    back = flow[2]
    targets = 3 * normal(2, 12, seed=5)
    v, missed = preimages(back, targets)
    assert missed.max() < 1e-11
    torch.testing.assert_close(first_layer_map(back, v), targets)
    assert preimages(back, 5 + targets.abs(), radius=1.0)[1].min() > 1


def test_the_winding_number_counts_turns():
    t = torch.linspace(0, 2 * math.pi, 401, dtype=torch.float64)[:-1]
    circle = 2 * torch.stack([t.cos(), t.sin()])
    points = torch.tensor([[0.3, 3.0], [0.5, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(winding_number(circle, points), points.new_tensor([1.0, 0.0]))
    twice = torch.stack([(2 * t).cos(), (2 * t).sin()])
    assert abs(winding_number(twice, points[:, :1]) - 2) < 1e-12
    assert abs(winding_number(circle.flip(1), points[:, :1]) + 1) < 1e-12


def test_residuals_of_the_wrong_shape_are_named(flow):
    with pytest.raises(ValueError, match="alpha: shape"):
        flow[2].follow(normal(2, 3), normal(1, 2, 3))


def test_another_seed_gives_another_flow(flow):
    net = flow[0]
    other = Background(net, continuous_start(net, normal(40, dimension(net), seed=2)), 0.5, 8)
    assert abs(other.losses[-1] - flow[2].losses[-1]) > 0
    assert generator(0).initial_seed() == 0
