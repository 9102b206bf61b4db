"""Exact transport against closed forms, brute force, linear programming and SciPy."""

import ast
import itertools
import math
from pathlib import Path

import numpy as np
import ot
import pytest
import torch
from problems import DOUBLE, generator, randn
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

import mflib.transport
from mflib.measures import LayeredMeasure
from mflib.transport import gelbrich, moments, wasserstein


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
    costs = [
        (x - y[list(p)]).norm(dim=-1).pow(order).mean() for p in itertools.permutations(range(5))
    ]
    expected = min(costs) ** (1 / order)
    assert float(wasserstein(x, y, order=order)) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("k", [1, 3])
def test_unequal_masses_equal_the_linear_programme(order, k):
    x, y, a, b = randn(4, k), randn(6, k, seed=1), masses(4), masses(6, seed=6)
    cost = torch.cdist(x, y).pow(order).numpy()
    rows = [np.kron(np.eye(4), np.ones(6)), np.kron(np.ones(4), np.eye(6))]
    best = linprog(
        cost.ravel(), A_eq=np.concatenate(rows), b_eq=np.concatenate([a, b]), method="highs"
    ).fun
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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wasserstein(randn(3, 2), randn(3, 4)), "y: last dimension"),
        (lambda: wasserstein(randn(2, 3, 2), randn(3, 2)), "y: leading dimensions"),
        (lambda: wasserstein(randn(3, 2), randn(3, 2), randn(3)), "a: must be"),
        (lambda: wasserstein(randn(3, 2), randn(3, 2), b=torch.ones(3).double()), "b: must be"),
        (lambda: wasserstein(randn(3, 2) * math.nan, randn(3, 2)), "x: holds NaN"),
        (lambda: wasserstein(randn(3, 2), randn(3, 2), order=3), "order"),
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


def covariance(*shape, seed=0):
    root = randn(*shape, shape[-1], seed=seed)
    return root @ root.mT + 0.1 * torch.eye(shape[-1])


def test_gelbrich_equals_the_library():
    import ot

    a, b, S, R = randn(3, seed=1), randn(3, seed=2), covariance(3, seed=3), covariance(3)
    theirs = ot.gaussian.bures_wasserstein_distance(a, b, S, R).squeeze()
    torch.testing.assert_close(gelbrich(a, S, b, R), theirs)
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(gelbrich(a, S), gelbrich(a, S, torch.zeros_like(a), eye))


def test_gelbrich_is_symmetric_and_a_translation_moves_by_its_length():
    a, b, S, R = randn(5, 3, seed=1), randn(5, 3, seed=2), covariance(5, 3), covariance(3)
    torch.testing.assert_close(gelbrich(a, S, b, R), gelbrich(b, R.expand(5, 3, 3), a, S))
    torch.testing.assert_close(gelbrich(a, S, b, S), (a - b).norm(dim=-1))
    torch.testing.assert_close(gelbrich(a, S, b, R)[2], gelbrich(a[2], S[2], b[2], R))


def test_gelbrich_keeps_its_digits_near_the_identity():
    eye, zero = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for epsilon in (1e-3, 1e-7):
        found = gelbrich(zero, (1 + epsilon) ** 2 * eye)
        assert abs(float(found) / (epsilon * 3**0.5) - 1) < 1e-8


def test_gelbrich_of_the_moments_is_below_the_distance_of_the_laws():
    p, q = randn(20, 60, 2), 1.5 * randn(20, 60, 2, seed=1).tanh() + 0.3
    assert (gelbrich(*moments(p), *moments(q)) < wasserstein(p, q)).all()


def test_moments_have_mass_one_over_n():
    p = randn(3, 10, 2)
    mean, cov = moments(p)
    torch.testing.assert_close(mean, p.mean(1))
    torch.testing.assert_close(cov[1], torch.cov(p[1].T, correction=0))


def test_bad_input_is_named():
    p = randn(4, 2)
    with pytest.raises(ValueError, match="cov: is not symmetric"):
        gelbrich(p[0], randn(2, 2))
    with pytest.raises(ValueError, match="cov: .* is not square"):
        gelbrich(p[0], randn(3, 2))
    with pytest.raises(ValueError, match="mean0: last dimension"):
        gelbrich(p[0], torch.eye(2).double(), randn(3), torch.eye(2).double())
    with pytest.raises(ValueError, match="points: holds NaN"):
        moments(p / 0)


@pytest.mark.parametrize("size", [1e-3, 1e-7, 1e-11])
def test_gelbrich_of_a_dilation_has_no_cancellation(size):
    S = covariance(6, seed=3)
    zero = torch.zeros(6, dtype=DOUBLE)
    found = gelbrich(zero, (1 + size) ** 2 * S, zero, S)
    torch.testing.assert_close(found, size * S.trace().sqrt(), rtol=1e-4, atol=0)


def test_gelbrich_of_a_law_and_itself_is_zero_to_rounding():
    S, m = covariance(4, 5, seed=3), randn(4, 5)
    assert (gelbrich(m, S, m, S) < 1e-13).all()


def test_gelbrich_bounds_the_distance_of_laws_that_are_nearly_equal():
    p = randn(40, 3)
    for size in (1e-3, 1e-6, 1e-9):
        q = p + size * randn(40, 3, seed=1)
        near, far = gelbrich(*moments(p), *moments(q)), wasserstein(p, q)
        assert 0 < near <= far * (1 + 1e-6) and near > 0.05 * far


def test_atoms_far_out_do_not_spoil_the_plan_of_near_ones():
    p = torch.tensor([[0.0, 0], [1, 0], [1e8, 0]], dtype=DOUBLE)
    q = torch.tensor([[0.5, 0], [1.5, 0], [1e8, 1.0]], dtype=DOUBLE)
    m, n = torch.tensor([[0.25, 0.25, 0.5], [0.125, 0.375, 0.5]], dtype=DOUBLE)
    assert float(wasserstein(p, q, m, n)) ** 2 == pytest.approx(0.875, rel=1e-12)
    assert float(wasserstein(p, q)) ** 2 == pytest.approx(1.5 / 3, rel=1e-12)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("moved", [0.02, 3.0])
def test_near_laws_and_far_ones_are_solved_by_whichever_library_alike(order, moved):
    p = randn(5, 300, 3)
    q = p + moved * randn(5, 300, 3, seed=1)
    q[1] = q[1].flip(0)
    found = wasserstein(p, q, order=order)
    for x, y, distance in zip(p, q, found, strict=True):
        cost = cdist(x.numpy(), y.numpy()) ** order
        mass = np.full(300, 1 / 300)
        by_assignment = cost[linear_sum_assignment(cost)].mean()
        assert float(distance) ** order == pytest.approx(by_assignment, rel=1e-11)
        assert float(distance) ** order == pytest.approx(ot.emd2(mass, mass, cost), rel=1e-11)
