"""The bounded-Lipschitz norm: dipoles, positive measures, transport, and what moves nothing."""

import pytest
import torch
from problems import generator, randn

from mflib.lu2020.bounded_lipschitz import bounded_lipschitz_norm, tents
from mflib.transport import wasserstein


@pytest.mark.parametrize("length", [1e-3, 0.5, 1.9, 2.0, 7.0])
def test_a_dipole_has_its_length_up_to_two(length):
    places = torch.tensor([0.3, 0.3 + length], dtype=torch.float64)
    masses = torch.tensor([1.5, -1.5]).double()
    found = bounded_lipschitz_norm(places, masses)
    assert found.item() == pytest.approx(1.5 * min(length, 2.0), rel=1e-9)


def test_a_positive_measure_has_its_mass_and_one_atom_its_size():
    places, masses = randn(3, 6), randn(3, 6, seed=1)
    found = bounded_lipschitz_norm(places, masses.abs())
    assert torch.allclose(found, masses.abs().sum(-1))
    assert torch.allclose(bounded_lipschitz_norm(places[:, :1], masses[:, :1]), masses[:, 0].abs())


def test_two_laws_within_distance_two_are_as_far_apart_as_in_transport():
    x, y = torch.rand(2, 4, 5, generator=generator(), dtype=torch.float64)
    a, b = torch.rand(2, 4, 5, generator=generator(1), dtype=torch.float64)
    a, b = a / a.sum(-1, keepdim=True), b / b.sum(-1, keepdim=True)
    found = bounded_lipschitz_norm(torch.cat([x, y], -1), torch.cat([a, -b], -1))
    assert torch.allclose(found, wasserstein(x[..., None], y[..., None], a, b, order=1))


def test_the_norm_is_no_transport_where_masses_differ_or_atoms_are_far():
    places = torch.tensor([0.0, 10.0, 10.5]).double()
    masses = torch.tensor([1.0, -1.0, 0.25]).double()
    # 1 at 0, -1 at 10, and from there up by 1/2
    assert bounded_lipschitz_norm(places, masses).item() == pytest.approx(
        1 + 1 - 0.25 / 2, rel=1e-9
    )


def test_order_shift_and_scale_of_the_atoms():
    places, masses = randn(7), randn(7, seed=2)
    found = bounded_lipschitz_norm(places, masses)
    order = torch.randperm(7, generator=generator())
    assert torch.allclose(bounded_lipschitz_norm(places[order] + 3.7, masses[order]), found)
    assert torch.allclose(bounded_lipschitz_norm(places, -2.0 * masses), 2 * found)
    split = torch.cat([places, places]), torch.cat([0.3 * masses, 0.7 * masses])
    assert torch.allclose(bounded_lipschitz_norm(*split), found)


def test_no_bounded_lipschitz_function_pairs_to_more():
    places, masses = randn(50, 6), randn(50, 6, seed=3)
    slopes = torch.sin(places + 0.3), torch.tanh(places), (1 - places.abs()).clamp_min(0)
    for values in slopes:
        assert ((masses * values).sum(-1) <= bounded_lipschitz_norm(places, masses) + 1e-9).all()


def test_tents_are_one_at_their_tops_and_zero_at_their_feet():
    n = torch.arange(3, 9).double()
    assert torch.allclose(tents(n + 0.25, 3, 8, 0.25), torch.ones(6).double())
    feet = torch.cat([n + 1 / n, n - 1 / n]) + 0.25
    assert tents(feet, 3, 8, 0.25).abs().max() < 1e-12
    assert tents(n[0] + 0.25 + 0.5 / n[0], 3, 8, 0.25).item() == pytest.approx(0.5)
    assert tents(torch.tensor([2.25, 9.25]).double(), 3, 8, 0.25).tolist() == [0, 0]


def test_bad_arguments_are_named():
    one = torch.ones(3)
    with pytest.raises(ValueError, match="^masses: last dimension"):
        bounded_lipschitz_norm(one, torch.ones(2))
    with pytest.raises(ValueError, match="^masses: shape"):
        bounded_lipschitz_norm(one, torch.ones(2, 3))
    with pytest.raises(TypeError, match="^masses: is"):
        bounded_lipschitz_norm(one, one.double())
    with pytest.raises(ValueError, match="^first"):
        tents(one, 1, 5)
