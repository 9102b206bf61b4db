"""Data without symmetry, and constants by hand: where a wrong index or norm would hide.

Weights differ from layer to layer, masses from datum to datum, matrices are not symmetric,
and a bound is compared with its formula, because no inequality sees a constant too large.
"""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from problems import generator, randn

from mflib.blocks import MatrixBlock, NeuronBlock
from mflib.chen2024.interpolant import gaussian_mixture_kl
from mflib.chen2024.stability import KAPPA, gram_root_modulus
from mflib.fang2021.ghosts import Background
from mflib.fang2021.ideal import root_bound
from mflib.fang2021.initialisation import algorithm_two
from mflib.fang2021.network import Network
from mflib.fang2021.path_law import dimension, paths
from mflib.lu2020.descent import Direction, pair_along
from mflib.lu2020.expansion import network_jet
from mflib.lu2020.sorted_network import SortedNetwork, commutators
from mflib.lu2020.stability import stability
from mflib.lu2020.stationary import dissipation_bounds, smallest_eigenvalues
from mflib.measures import CurveMeasure, LayeredMeasure
from mflib.ode import flow
from mflib.problem import Problem
from mflib.sampling import gaussian_measure
from mflib.teacher_student.characteristics import characteristics
from mflib.teacher_student.clusters import cluster_rates
from mflib.teacher_student.ridge import RidgeBlock
from mflib.teacher_student.two_layer import TwoLayer, follow


def masses(n, seed=0):
    m = torch.rand(n, generator=generator(seed), dtype=torch.float64) + 0.1
    return m / m.sum()


def layered(layers, particles, k, seed=0):
    """Weights that differ over particles and over layers, mass 1 in all."""
    w = torch.rand(layers, particles, generator=generator(seed), dtype=torch.float64) + 0.1
    w = w / w.sum(-1).mean()
    return LayeredMeasure(0.7 * randn(layers, particles, k, seed=seed + 1), w)


def test_a_layer_is_repeated_in_place_and_keeps_its_own_weights():
    rho = layered(2, 3, 2)
    theta, weights = rho.stages(6, (0.0, 0.5))
    for step in range(6):
        for stage in range(2):
            assert torch.equal(theta[step, stage], rho.theta[step // 3])
            assert torch.equal(weights[step, stage], rho.weights[step // 3])


def test_a_stage_of_a_curve_has_the_weights_of_its_own_depth():
    curve = CurveMeasure(
        lambda t: t * torch.ones(2, 1).double(), lambda t: torch.tensor([t, 1.0 - t]).double()
    )
    theta, weights = curve.stages(2, (0.0, 0.5, 1.0))
    depth = torch.tensor([[0.0, 0.25, 0.5], [0.5, 0.75, 1.0]]).double()
    assert torch.allclose(theta[..., 0, 0], depth)
    assert torch.allclose(weights, torch.stack([depth, 1 - depth], -1))


def unequal_problem(block, layers, n=4):
    return Problem(
        block, randn(n, block.d, seed=5), randn(n, seed=6), mass=masses(n, 7), steps=layers
    )


def test_the_pairing_of_two_laws_is_the_derivative_of_the_loss_with_unequal_masses():
    block = NeuronBlock(2)
    problem, rho, nu = unequal_problem(block, 3), layered(3, 4, 5), layered(3, 4, 5, seed=8)

    def loss(h):
        both = torch.cat([rho.theta, nu.theta], -2)
        weights = torch.cat([(1 - h) * rho.weights, h * nu.weights], -1)
        return problem.loss(LayeredMeasure(both, weights))

    h = 1e-5
    slope = (loss(h) - loss(-h)) / (2 * h)
    assert problem.pairing(rho, nu).item() == pytest.approx(slope.item(), rel=1e-6)


def test_the_pairing_along_a_bump_weighs_data_by_their_masses():
    block = NeuronBlock(2)
    problem, rho = unequal_problem(block, 3), layered(3, 4, 5)
    direction = Direction(randn(6, 5, seed=3), masses(6, 4), torch.zeros(()))
    phi = torch.tensor([0.5, 2.0, 0.5]).double()

    def loss(h):
        own = rho.weights / rho.depth_density[:, None]
        w = torch.cat(
            [rho.weights - h * phi[:, None] * own, h * phi[:, None] * direction.weights], 1
        )
        theta = torch.cat([rho.theta, direction.theta.expand(3, -1, -1)], -2)
        return problem.loss(LayeredMeasure(theta, w))

    h = 1e-5
    slope = (loss(h) - loss(-h)) / (2 * h)
    assert pair_along(problem, rho, direction, phi).item() == pytest.approx(slope.item(), rel=1e-6)


def test_commutators_weigh_data_by_their_masses():
    block, n = MatrixBlock(2), 4
    problem = unequal_problem(block, n)
    network = SortedNetwork(
        0.5 * randn(n, 4, seed=1),
        torch.tensor([0.1, 0.3, 0.6, 0.9]).double(),
        torch.full((n,), 1 / n).double(),
    )
    found, passed = commutators(problem, network), problem.backward(network.measure())
    theta, h = network.theta.unflatten(-1, (2, 2)), 1 / n
    for l in range(n - 1):
        total = 0.0
        for i, m in enumerate(problem.mass):
            x, p = passed.states[l, i], passed.costates[l + 1, i]
            f, g = (lambda z, k=k: torch.tanh(theta[k] @ z) for k in (l, l + 1))
            swapped = g(x) + f(x + h * g(x)) - f(x) - g(x + h * f(x))
            total += float(m * (p @ swapped) / h)
        assert found[l].item() == pytest.approx(total, rel=1e-9)


def test_the_jet_of_a_network_with_weights_of_every_layer_is_its_expansion():
    block, rho, x = MatrixBlock(2), layered(3, 2, 4), randn(3, 2, seed=2)
    jet = network_jet(block, rho, x, 6)
    for lam in (0.05, -0.05):
        scaled = LayeredMeasure(rho.theta, lam * rho.weights)
        series = sum(lam**k * jet[k] for k in range(7))
        assert torch.allclose(flow(block, scaled, x, 3).X[-1], series, atol=1e-9)


def test_the_lipschitz_number_is_an_operator_norm_of_the_second_law():
    block, x = MatrixBlock(3), randn(2, 3)
    rho, nu = gaussian_measure(2, 3, 9, generator()), gaussian_measure(2, 3, 9, generator(1))
    norms = [np.linalg.norm(t.reshape(3, 3).numpy(), 2) for t in nu.theta.flatten(0, 1)]
    assert stability(block, rho, nu, x, 4).lipschitz.item() == pytest.approx(max(norms))


def test_the_loss_bound_of_the_dissipation_is_its_formula_in_two_dimensions():
    block, layers = MatrixBlock(2), 3
    problem, rho = unequal_problem(block, layers, n=2), layered(layers, 5, 4, seed=3)
    found, seen = dissipation_bounds(problem, rho), problem.backward(rho)
    m, least = rho.depth_density, smallest_eigenvalues(problem, rho)
    c = []
    for l in range(layers):
        worst = 0.0
        for theta in rho.theta[l].reshape(-1, 2, 2):
            for x in seen.states[l]:
                slope = (1 - torch.tanh(theta @ x) ** 2)[:, None] * theta
                worst = max(worst, float(np.linalg.norm(slope.numpy(), 2)))
        c.append(worst)
    kept = [max(0.0, 1 - c[l] * float(m[l]) / layers) for l in range(layers)]
    beyond = [math.prod(kept[l + 1 :]) for l in range(layers)]
    whole = sum(float(m[l] * least[l]) * b**2 for l, b in enumerate(beyond)) / layers
    assert found.by_loss.item() == pytest.approx(2 * float(seen.loss) * whole)


def test_every_component_of_a_mixture_has_its_own_deviation():
    mean, s = torch.tensor([0.2, -0.4]).double(), torch.tensor([0.9, 1.2]).double()
    chance, beta = torch.tensor([0.25, 0.75]).double(), torch.tensor([2.0, 8.0]).double()
    one = torch.ones(1).double()
    each = [gaussian_mixture_kl(m[None], float(d), one, beta) for m, d in zip(mean, s, strict=True)]
    expected = 0.25 * each[0] + 0.75 * each[1]
    assert torch.allclose(gaussian_mixture_kl(mean, s, chance, beta), expected)


def test_the_longest_row_and_the_operator_norm_enter_the_modulus_of_the_root():
    omega, x = randn(7, 4), torch.tensor([[0.6, 0.1], [-0.2, 1.1], [0.3, 0.3]]).double()
    rows = np.hstack([x.numpy(), np.ones((3, 1))])
    w, a = 0.05, np.sort(omega[:, 0].numpy() ** 2)[::-1]
    room = KAPPA**2 * (rows**2).sum(1).max() * w**2 * 7
    share = np.clip(room - np.arange(7), 0, 1)
    expected = np.linalg.norm(rows, 2) * (w + math.sqrt((share * a).mean()))
    assert gram_root_modulus(omega, x, w).item() == pytest.approx(expected)


def test_the_bound_of_the_root_with_a_given_eigenvalue_is_its_formula():
    k = torch.diag(torch.tensor([1.0, 3.0])).double()
    other = k + torch.tensor([[0.1, 0.05], [0.05, -0.2]]).double()
    _, right = root_bound(k, other, torch.tensor(0.8).double())
    assert right.item() == pytest.approx(np.linalg.norm((other - k).numpy(), 2) / math.sqrt(1.6))


def test_residuals_of_every_level_have_the_gram_matrix_of_that_level():
    net = Network(randn(3, 2), randn(3, seed=1), 4)
    normals = randn(20, dimension(net), seed=2)
    _, f, grams = paths(net, normals, 1.3)
    blocks = normals[:, 2:].reshape(20, 3, 3)
    for level in range(3):
        root = scipy.linalg.sqrtm(grams[level].numpy()).real
        expected = 1.3 * torch.as_tensor(root) @ blocks[:, level].T
        assert torch.allclose(f.alpha[level], expected, atol=1e-9)


def test_the_majorant_is_the_difference_of_two_paths_of_a_positive_linear_network():
    net = Network(
        torch.tensor([[0.4, 0.7]]).double(), torch.ones(1).double(), 3, "linear", "linear"
    )
    back = Background(net, algorithm_two(net, 4, generator())[0], 0.1, 1)
    first = torch.rand(2, 2, 5, generator=generator(1), dtype=torch.float64)
    low, high = first[0], first[0] + first[1]
    start = torch.rand(2, 1, 5, generator=generator(2), dtype=torch.float64)
    one, other = back.follow(high, 2 * start), back.follow(low, start)
    *_, beta, res = back.majorant(one, other, (1.0, 1.0), (0.0, 0.0))
    assert torch.allclose(beta[0], one.beta[0] - other.beta[0])
    assert torch.allclose(res[0], one.alpha[0] - other.alpha[0])


def test_particles_of_characteristics_push_with_their_own_masses():
    law = TwoLayer(RidgeBlock(1), randn(4, 1), randn(4, seed=1), masses(4, 2))
    laws = TwoLayer(law.block, law.x[None], law.y[None], law.mass)

    def density(t):
        return (2 * t).unsqueeze(0)  # on (0, 1)

    found = characteristics(laws, density, (0.0, 1.0), 0.5, steps=20, nodes=30, probes=51)
    nodes, weights = np.polynomial.legendre.leggauss(30)
    at, w = torch.as_tensor((nodes + 1) / 2), torch.as_tensor(weights / 2)
    heavy = 2 * at * w
    end = follow(lambda q: law.velocity(q, heavy), at[:, None], 0.5, 20)[:, 0]
    assert torch.allclose(found.theta[0], end, atol=1e-9)


def test_rates_of_clusters_are_those_of_the_whole_matrix_when_blocks_are_not_symmetric():
    push = randn(5, 2, 2, seed=3)  # n, clusters, d
    blocks = torch.einsum("nia,njb->ijab", push, push)
    alpha = torch.tensor([0.3, 0.7]).double()
    flat = push.numpy() * np.sqrt(alpha.numpy())[:, None]
    whole = flat.reshape(5, 4).T @ flat.reshape(5, 4)
    assert np.allclose(cluster_rates(blocks, alpha).numpy(), np.linalg.eigvalsh(whole))
