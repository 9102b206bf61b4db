"""Exact transport against closed forms, brute force, linear programming and SciPy."""

import ast
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from problems import DOUBLE, generator, randn
from scipy.optimize import linprog
from scipy.stats import wasserstein_distance

import mflib.transport
from mflib.measures import LayeredMeasure, gaussian_measure
from mflib.transport import (
    depth_wasserstein,
    enclosure,
    layer_wasserstein,
    slab_atoms,
    wasserstein,
)


def masses(*shape, seed=5):
    a = 0.1 + torch.rand(shape, generator=generator(seed), dtype=DOUBLE)
    return a / a.sum(-1, keepdim=True)


def layered(theta, seed=7):
    """A law of mass 1 with random masses and an uneven depth marginal."""
    shape = theta.shape[:-1]
    a = masses(*shape[:-2], shape[-2] * shape[-1], seed=seed)
    return LayeredMeasure(theta, a.reshape(shape) * shape[-2])


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("k", [1, 3])
def test_a_translation_costs_its_length(order, k):
    x, v, a = randn(6, k), randn(k, seed=1), masses(6)
    for mass in (None, a):
        w = wasserstein(x, x + v, mass, mass, order)
        assert float(w) == pytest.approx(float(v.norm()), rel=1e-12)


@pytest.mark.parametrize("order", [1, 2])
def test_equal_masses_equal_the_best_permutation(order):
    x, y = randn(5, 3), randn(5, 3, seed=1)
    costs = [(x - y[list(p)]).norm(dim=-1).pow(order).mean()
             for p in itertools.permutations(range(5))]
    expected = min(costs) ** (1 / order)
    assert float(wasserstein(x, y, order=order)) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("k", [1, 3])
def test_unequal_masses_equal_the_linear_programme(order, k):
    x, y, a, b = randn(4, k), randn(6, k, seed=1), masses(4), masses(6, seed=6)
    cost = torch.cdist(x, y).pow(order).numpy()
    rows = [np.kron(np.eye(4), np.ones(6)), np.kron(np.ones(4), np.eye(6))]
    best = linprog(cost.ravel(), A_eq=np.concatenate(rows),
                   b_eq=np.concatenate([a, b]), method="highs").fun
    assert float(wasserstein(x, y, a, b, order)) == pytest.approx(best ** (1 / order), rel=1e-9)


def test_one_dimension_equals_scipy():
    x, y, a, b = randn(7, 1), randn(4, 1, seed=1), masses(7), masses(4, seed=6)
    expected = wasserstein_distance(x[:, 0], y[:, 0], a, b)
    assert float(wasserstein(x, y, a, b, 1)) == pytest.approx(expected, rel=1e-12)


def test_it_is_a_distance_and_grows_with_the_order():
    x, y, z = (randn(5, 2, seed=s) for s in range(3))
    a, b, c = (masses(5, seed=s) for s in range(3))
    one, two = (wasserstein(x, y, a, b, p) for p in (1, 2))
    assert one <= two
    torch.testing.assert_close(two, wasserstein(y, x, b, a))
    assert two <= wasserstein(x, z, a, c) + wasserstein(z, y, c, b)
    assert float(wasserstein(x, x, a, a)) == 0.0


def test_batches_equal_their_members_and_order_and_empty_atoms_do_not_matter():
    x, y, a, b = randn(2, 3, 5, 2), randn(2, 3, 4, 2, seed=1), masses(2, 3, 5), masses(2, 3, 4)
    together = wasserstein(x, y, a, b)
    assert together.shape == (2, 3)
    turn = torch.tensor([3, 1, 4, 0, 2])
    alone = wasserstein(x[1, 2, turn], y[1, 2], a[1, 2, turn], b[1, 2])
    torch.testing.assert_close(together[1, 2], alone)
    padded = torch.cat([x[1, 2], 9 + randn(2, 2)]), torch.cat([a[1, 2], torch.zeros(2).double()])
    torch.testing.assert_close(wasserstein(padded[0], y[1, 2], padded[1], b[1, 2]), alone)
    single = wasserstein(x.float(), y.float(), a.float(), b.float())
    torch.testing.assert_close(single, together.float())


@pytest.mark.parametrize("order", [1, 2])
def test_the_derivative_by_the_atoms_equals_finite_differences(order):
    x, y, a, b = randn(4, 2), randn(5, 2, seed=1), masses(4), masses(5)
    at = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(wasserstein(at, y, a, b, order), at)
    way = 1e-6 * randn(4, 2, seed=3)
    change = wasserstein(x + way, y, a, b, order) - wasserstein(x - way, y, a, b, order)
    assert float(change / 2) == pytest.approx(float((grad * way).sum()), rel=1e-5)


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
    inverse = [np.interp(u, np.r_[0, np.cumsum(m) / len(m)], np.linspace(0, 1, len(m) + 1))
               for m in (m1, m2)]
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
        (lambda: wasserstein(randn(3, 2), randn(3, 4)), "y: last dimension"),
        (lambda: wasserstein(randn(2, 3, 2), randn(3, 2)), "y: leading dimensions"),
        (lambda: wasserstein(randn(3, 2), randn(3, 2), randn(3)), "a: masses"),
        (lambda: wasserstein(randn(3, 2), randn(3, 2), b=torch.ones(3).double()), "b: masses"),
        (lambda: wasserstein(randn(3, 2) * math.nan, randn(3, 2)), "x: holds NaN"),
        (lambda: wasserstein(randn(3, 2), randn(3, 2), order=3), "order"),
        (lambda: slab_atoms(layered(randn(2, 3, 4)), 0), "parts"),
        (lambda: enclosure(layered(randn(2, 3, 4)), layered(randn(3, 3, 4))), "nu: has 3 layers"),
        (lambda: layer_wasserstein(layered(randn(2, 3, 4)), layered(randn(2, 3, 4))),
         "rho: its depth marginal"),
        (lambda: depth_wasserstein(torch.ones(3).double(), torch.zeros(3).double()), "m2: a dens"),
        (lambda: depth_wasserstein(2 * torch.ones(3).double(), torch.ones(3).double()), "m1: a d"),
    ],
)
def test_bad_laws_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_transport_library_is_imported_only_when_needed():
    top = ast.parse(Path(mflib.transport.__file__).read_text("utf-8")).body
    names = [alias.name for node in top if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in top if isinstance(node, ast.ImportFrom)]
    assert not {"ot", "scipy", "scipy.optimize"} & set(names)
