"""Distances from hulls and spans: by hand, by SLSQP, by their duality."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from mflib.lu2020.universality import hull_distance, span_distance

DOUBLE = dict(dtype=torch.float64)


def case(seed, n=5, p=7):
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(n, p, generator=g, **DOUBLE)
    target = 3 * torch.randn(n, generator=g, **DOUBLE)
    mass = torch.rand(n, generator=g, **DOUBLE) + 0.1
    return values, target, mass


def test_the_distance_from_a_segment_is_the_one_by_hand():
    ends = torch.tensor([[0.0, 2.0], [0.0, 0.0]], **DOUBLE)
    mass = torch.tensor([1.0, 4.0], **DOUBLE)
    assert hull_distance(ends, torch.tensor([1.0, 3.0], **DOUBLE), mass) == pytest.approx(6.0)
    assert hull_distance(ends, torch.tensor([5.0, 0.0], **DOUBLE), mass) == pytest.approx(3.0)
    assert span_distance(ends, torch.tensor([5.0, 1.0], **DOUBLE), mass) == pytest.approx(2.0)


@pytest.mark.parametrize("seed", range(4))
def test_a_general_optimiser_finds_the_same_distance(seed):
    values, target, mass = case(seed)
    a, g, m = values.numpy(), target.numpy(), mass.numpy()
    found = minimize(
        lambda c: m @ (a @ c - g) ** 2,
        np.full(7, 1 / 7),
        bounds=[(0, 1)] * 7,
        method="SLSQP",
        constraints={"type": "eq", "fun": lambda c: c.sum() - 1},
        options={"ftol": 1e-15},
    )
    assert hull_distance(values, target, mass) == pytest.approx(np.sqrt(found.fun), rel=1e-5)


def test_even_targets_keep_their_distance_from_every_hull_of_sigmoids():
    for seed in range(200):
        g = torch.Generator().manual_seed(seed)
        x = 0.2 + 2.5 * torch.rand(4, generator=g, **DOUBLE)
        mass = torch.rand(4, generator=g, **DOUBLE) + 0.5
        x, mass = torch.cat([x, -x]), torch.cat([mass, mass]) / (2 * mass.sum())
        values = torch.sigmoid(x[:, None] * torch.linspace(-8, 8, 61, **DOUBLE))
        minus = -torch.ones(8, **DOUBLE)
        assert hull_distance(values, minus, mass) == pytest.approx(1.5, abs=1e-9)


def test_a_hull_is_never_nearer_than_the_span_and_a_member_is_at_distance_zero():
    values, target, mass = case(11)
    assert hull_distance(values, target, mass) >= span_distance(values, target, mass) - 1e-12
    assert hull_distance(values, values[:, 2], mass) < 1e-12


def test_masses_matter():
    values, target, mass = case(3, n=6, p=3)
    assert hull_distance(values, target, mass) != pytest.approx(
        hull_distance(values, target, mass.flip(0))
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mass": torch.tensor([1.0, -1.0])}, "mass: holds a negative mass"),
        ({"target": torch.ones(3)}, "target: last dimension is 3"),
        ({"values": torch.ones(2, 2, 2)}, "values: expected 2 dimensions"),
    ],
)
def test_bad_input_names_the_argument(change, message):
    good = dict(values=torch.eye(2), target=torch.ones(2), mass=torch.ones(2))
    with pytest.raises(ValueError, match=message):
        hull_distance(**good | change)
