import math

import pytest
import torch
from problems import DOUBLE, randn

from mflib import kernels
from mflib.activations import Activation
from mflib.blocks import NeuronBlock
from mflib.chen2024.sphere_kernel import Spectrum
from mflib.gram import neuron_gram
from mflib.kernels import gaussian_plane, normal_rule, population_gram, resolving_nodes

CIRCLE = [(4, 0.25102017488627), (8, 0.04468608368563), (16, 0.00141737712151)]


def circle(n):
    angle = 2 * math.pi * torch.arange(n, dtype=DOUBLE) / n
    return torch.stack([angle.cos(), angle.sin()], -1)


def test_the_rule_integrates_moments_and_waves():
    t, m = normal_rule()
    moments = [float(m @ t**k) for k in (0, 2, 4, 6)]
    assert moments == pytest.approx([1, 1, 3, 15], rel=1e-13)
    assert float(m @ torch.cos(2 * t)) == pytest.approx(math.exp(-2), rel=1e-13)


def test_the_plane_has_the_covariance_of_the_preactivations():
    x, other = randn(3, 2), randn(4, 2, seed=1)
    first, second, mass = gaussian_plane(x, other, 61)
    torch.testing.assert_close((first * second) @ mass, x @ other.T + 1)
    square = (x.square().sum(-1) + 1)[:, None].expand(3, 4)
    torch.testing.assert_close(first.square() @ mass, square)
    square = (other.square().sum(-1) + 1)[None].expand(3, 4)
    torch.testing.assert_close(second.square() @ mass, square)


def test_gram_matrices_of_polynomials_and_waves_in_closed_form():
    x = randn(5, 3) / 2
    cov = x @ x.T + 1
    square = cov.diagonal()
    torch.testing.assert_close(population_gram(x, "linear"), 2 * cov)
    # E c^2 c'^2 = q q' + 2 k^2 and E 2c 2c' = 4k
    quadratic = torch.outer(square, square) + 2 * cov**2 + 4 * cov**2
    torch.testing.assert_close(population_gram(x, "quadratic"), quadratic)
    both = torch.exp(-0.5 * (square[:, None] + square))
    wave = both * (torch.sinh(cov) + cov * torch.cosh(cov))
    torch.testing.assert_close(population_gram(x, "sin"), wave)


def test_the_gram_matrix_is_the_limit_of_wide_networks():
    x = randn(4, 3)
    omega = randn(400_000, 5)
    block = NeuronBlock(3, "tanh", out=1)
    wide = neuron_gram(block, x, omega, torch.ones(4, 1, dtype=DOUBLE))
    torch.testing.assert_close(population_gram(x), wide, rtol=0.01, atol=0.01)


def test_quadrature_and_hermite_series_agree_to_rounding_on_the_sphere():
    x = randn(2, 5, 4)
    x = x / x.norm(dim=-1, keepdim=True)
    series = Spectrum("tanh", 400).kernel(x, power=1)
    torch.testing.assert_close(population_gram(x), series, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("n", "smallest"), CIRCLE)
def test_smallest_eigenvalues_on_the_circle(n, smallest):
    values = torch.linalg.eigvalsh(population_gram(circle(n)))
    assert float(values[0]) == pytest.approx(smallest, abs=1e-13)


def test_inputs_in_pieces_or_in_batches_give_the_same_matrix(monkeypatch):
    x = randn(2, 5, 3) / 2
    whole = population_gram(x, nodes=41)
    torch.testing.assert_close(whole[1], population_gram(x[1], nodes=41))
    monkeypatch.setattr(kernels, "_ROOM", 1)
    torch.testing.assert_close(population_gram(x, nodes=41), whole)


ERF = Activation(
    "erf",
    torch.erf,
    lambda z: 2 / math.sqrt(math.pi) * torch.exp(-(z**2)),
    lambda z: -4 * z / math.sqrt(math.pi) * torch.exp(-(z**2)),
)


@pytest.mark.parametrize("size", [0.0, 1.0, 3.0, 10.0, 20.0])
def test_large_inputs_have_the_arcsine_kernel(size):
    x = torch.tensor([[size, 0.0], [0.6 * size, -0.8 * size]], dtype=DOUBLE)
    k = x @ x.T + 1
    s = 1 + 2 * k.diagonal()
    both = s[:, None] * s
    exact = 2 / math.pi * torch.arcsin(2 * k / both.sqrt())
    exact = exact + k * 4 / math.pi / (both - 4 * k**2).sqrt()
    torch.testing.assert_close(population_gram(x, ERF), exact, rtol=1e-10, atol=1e-12)


def test_waves_that_meet_the_nodes_are_resolved_all_the_same():
    # at the spacing of 121 nodes these sines vanish at every node
    t, _ = normal_rule(121)
    for k in (1, 2):
        spread = 2 * math.pi * k / float(t[1] - t[0]) / 2
        x = torch.tensor([[math.sqrt(spread**2 - 1)]], dtype=DOUBLE)
        # E sin^2 = 1/2 and E cos^2 = 1/2, far out
        assert float(population_gram(x, "sin")) == pytest.approx(0.5 + spread**2 / 2, rel=1e-10)


def test_a_kink_is_refused_and_with_nodes_of_order_one():
    zero = torch.zeros(1, 3, dtype=DOUBLE)
    with pytest.raises(ValueError, match="without a kink"):
        population_gram(zero, "relu")
    with pytest.raises(ValueError, match="nodes: 61 an axis leave an error"):
        population_gram(zero, "relu", 61)
    exact = 1.0  # E relu^2 + E (relu')^2
    gaps = []
    for nodes in (481, 961, 1921):
        gaps.append(abs(float(population_gram(zero, "relu", nodes)) - exact))
    t = [float(normal_rule(n, 9.5)[0].diff()[0]) for n in (481, 961, 1921)]
    assert gaps[0] / t[0] == pytest.approx(gaps[2] / t[2], rel=0.05)


def test_few_nodes_are_taken_where_they_do():
    x = randn(3, 2) / 2
    assert resolving_nodes((torch.tanh,), x) == 121
    assert resolving_nodes((torch.tanh,), x, 31) == 31
    torch.testing.assert_close(population_gram(x, nodes=41), population_gram(x), rtol=1e-4, atol=0)
    with pytest.raises(ValueError, match="nodes: 31 an axis leave an error"):
        resolving_nodes((torch.tanh,), 20 * x, 31)


def test_the_matrix_may_be_differentiated_where_inputs_coincide():
    x = randn(3, 2)
    x = torch.cat([x, x[:1]])  # a repeated input
    weight, leaf = randn(4, 4, seed=2), x.clone().requires_grad_()
    (grad,) = torch.autograd.grad((weight * population_gram(leaf)).sum(), leaf)
    step, found = 1e-4, torch.zeros_like(x)
    for i in range(4):
        for j in range(2):
            shift = torch.zeros_like(x)
            shift[i, j] = step
            up, down = (population_gram(x + s * shift) for s in (1, -1))
            found[i, j] = (weight * (up - down)).sum() / (2 * step)
    torch.testing.assert_close(grad, found, rtol=1e-6, atol=1e-6)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="nodes: a trapezium"):
        normal_rule(1)
    for reach in (0.0, math.nan):
        with pytest.raises(ValueError, match="reach: expected a finite number > 0"):
            normal_rule(11, reach)
    with pytest.raises(ValueError, match="other: last dimension is 2"):
        gaussian_plane(randn(3, 3), randn(3, 2))
    with pytest.raises(ValueError, match="x: holds NaN"):
        population_gram(torch.full((2, 2), math.nan, dtype=DOUBLE))
