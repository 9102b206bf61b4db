"""Layered laws: enclosures against closed forms, laws of depth against quadrature."""

import math

import numpy as np
import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.lu2020.layered_transport import (
    depth_wasserstein,
    enclosure,
    layer_wasserstein,
    slab_atoms,
)
from mflib.measures import LayeredMeasure
from mflib.sampling import gaussian_measure
from mflib.transport import wasserstein


def masses(*shape, seed=5):
    a = 0.1 + torch.rand(shape, generator=generator(seed), dtype=DOUBLE)
    return a / a.sum(-1, keepdim=True)


def layered(theta, seed=7):
    """A law of mass 1 with random masses and an uneven depth marginal."""
    shape = theta.shape[:-1]
    a = masses(*shape[:-2], shape[-2] * shape[-1], seed=seed)
    return LayeredMeasure(theta, a.reshape(shape) * shape[-2])


def test_slab_atoms_keep_mass_place_and_weight():
    rho = layered(randn(2, 3, 4))
    z, mass = slab_atoms(rho, 5)
    assert z.shape == (30, 5) and float(mass.sum()) == pytest.approx(1.0)
    depth, weight = z[:, -1], mass
    mean = sum((l + 0.5) / 2 * float(w) / 2 for l, w in enumerate(rho.depth_density))
    assert float((depth * weight).sum()) == pytest.approx(mean)
    first = (z[:, :-1] == rho.theta[1, 2]).all(-1)
    assert depth[first].tolist() == pytest.approx([0.55, 0.65, 0.75, 0.85, 0.95])
    assert float(mass[first].sum()) == pytest.approx(float(rho.weights[1, 2]) / 2)


@pytest.mark.parametrize("order", [1, 2])
def test_swapped_slabs_are_at_the_distance_of_their_width(order):
    theta = torch.zeros(8, 1, 2, dtype=DOUBLE)
    theta[3], theta[4] = 1.0, -1.0
    thin = torch.zeros(8, 1, dtype=DOUBLE)
    thin[3:5] = 4.0
    rho, nu = LayeredMeasure(theta, thin), LayeredMeasure(theta.flip(0), thin)
    gaps = []
    for parts in (1, 2, 4, 8):
        low, high = enclosure(rho, nu, order, parts)
        assert low <= 1 / 8 + 1e-12 and float(high) == pytest.approx(1 / 8, rel=1e-12)
        gaps.append(float(high - low))
    blur = {1: 2 / 4, 2: 2 / math.sqrt(12)}[order] / 8
    assert gaps[1:] == pytest.approx([blur / 2, blur / 4, blur / 8])


@pytest.mark.parametrize("order", [1, 2])
def test_the_enclosure_closes_on_a_displacement_of_parameters(order):
    rho, v = layered(randn(3, 2, 4)), randn(4, seed=9)
    low, high = enclosure(rho, LayeredMeasure(rho.theta + v, rho.weights), order)
    assert float(low) == pytest.approx(float(v.norm()), rel=1e-12)
    assert float(high) == pytest.approx(float(v.norm()), rel=1e-12)


@pytest.mark.parametrize("order", [1, 2])
def test_the_enclosure_holds_the_exact_distance_of_laws_of_depth(order):
    theta = torch.ones(6, 1, 2, dtype=DOUBLE)
    m1, m2 = 6 * masses(6), 6 * masses(6, seed=8)
    exact = depth_wasserstein(m1, m2, order)
    laws = [LayeredMeasure(theta, m[:, None]) for m in (m1, m2)]
    bounds = [enclosure(*laws, order, parts) for parts in (1, 4, 16, 64)]
    for low, high in bounds:
        assert low <= exact <= high + 1e-12
    widths = torch.stack([high - low for low, high in bounds])
    assert (widths.diff() < 0).all() and widths[-1] < 0.01


@pytest.mark.parametrize("order", [1, 2])
def test_the_enclosure_holds_the_distance_of_an_exchange(order):
    """Densities (1 -+ q')/2 of two blocks: W_p is the p-norm of q."""
    cells, width, c = 16, 0.25, 0.8
    edge = torch.linspace(-0.5, 0.5, cells + 1, dtype=DOUBLE)
    q = c * (width - edge.abs()).clamp(min=0)
    slope = q.diff() * cells
    theta = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=DOUBLE).expand(cells, 2, 2)
    half = torch.full((cells, 2), 0.5, dtype=DOUBLE)
    nu = LayeredMeasure(theta, torch.stack([1 - slope, 1 + slope], -1) / 2)
    exact = c * {1: width**2, 2: math.sqrt(2 / 3) * width**1.5}[order]
    low, high = enclosure(LayeredMeasure(theta, half), nu, order, parts=16)
    assert low <= exact <= high and high - low < 0.1 * exact
    for m in (1 - slope, 1 + slope):
        w = depth_wasserstein(torch.ones_like(m), m, order)
        assert float(w) == pytest.approx(exact, rel=1e-12)


def test_laws_of_depth_agree_with_a_fine_rule_on_quantiles():
    m1, m2 = 5 * masses(5), 7 * masses(7, seed=8)
    u = (np.arange(200_000) + 0.5) / 200_000
    inverse = [
        np.interp(u, np.r_[0, np.cumsum(m) / len(m)], np.linspace(0, 1, len(m) + 1))
        for m in (m1, m2)
    ]
    gap = np.abs(inverse[0] - inverse[1])
    assert float(depth_wasserstein(m1, m2, 1)) == pytest.approx(gap.mean(), rel=1e-8)
    assert float(depth_wasserstein(m1, m2)) == pytest.approx(math.sqrt((gap**2).mean()), rel=1e-8)


def test_a_batch_of_laws_of_depth_equals_its_members():
    m1, m2 = 5 * masses(3, 5), 5 * masses(5, seed=8)
    together = depth_wasserstein(m1, m2)
    torch.testing.assert_close(together[1], depth_wasserstein(m1[1], m2))
    assert float(depth_wasserstein(m2, m2)) == 0.0


def test_layers_are_compared_one_by_one():
    rho, nu = gaussian_measure(3, 4, 2, generator()), gaussian_measure(3, 4, 2, generator(1))
    rows = layer_wasserstein(rho, nu)
    torch.testing.assert_close(rows[1], wasserstein(rho.theta[1], nu.theta[1], order=1))
    assert (rows.mean() >= enclosure(rho, nu, 1)[0]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: slab_atoms(layered(randn(2, 3, 4)), 0), "parts"),
        (lambda: enclosure(layered(randn(2, 3, 4)), layered(randn(3, 3, 4))), "nu: has 3 layers"),
        (
            lambda: layer_wasserstein(layered(randn(2, 3, 4)), layered(randn(2, 3, 4))),
            "rho: its depth marginal",
        ),
        (lambda: depth_wasserstein(torch.ones(3).double(), torch.zeros(3).double()), "m2: a dens"),
        (lambda: depth_wasserstein(2 * torch.ones(3).double(), torch.ones(3).double()), "m1: a d"),
    ],
)
def test_bad_laws_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
