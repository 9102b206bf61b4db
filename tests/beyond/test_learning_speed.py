import math

import numpy as np
import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.beyond.learning_speed import linear_speed, proportional_speed, tangent_kernel
from mflib.beyond.shaped_network import ShapedNetwork, standard_start


def network(sigma="tanh", n=3, d=4, batch=(2,)):
    x = randn(*batch, n, d)
    return ShapedNetwork(
        x, torch.zeros(*batch, n, dtype=DOUBLE), randn(*batch, d, seed=1), 1, sigma
    )


def test_the_kernel_is_the_one_of_the_derivatives_by_all_parameters():
    net, L, M, d = network(batch=()), 3, 2, 4
    theta = standard_start(L, M, d, generator())
    V, U = theta[..., :d], d * theta[..., d : 2 * d]

    def output(V, U):
        particles = torch.cat([V, U / d, torch.zeros(L, M, 1, dtype=DOUBLE)], -1)
        return net.forward(particles).output

    jv, ju = torch.autograd.functional.jacobian(output, (V, U))
    found = tangent_kernel(net, net.forward(theta))
    for part, j in zip(found, (jv, ju), strict=True):
        j = j.flatten(1)
        torch.testing.assert_close(part, L * M * d * j @ j.T, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(found.total, found.v + found.u)


def test_a_small_step_moves_the_outputs_by_the_kernel():
    net, eta = network(), 1e-6
    theta = standard_start(5, 3, 4, generator(), (2,))
    first, second = net.descend(theta, eta, 1)
    r = first.output - net.y
    predicted = -eta / 3 * (tangent_kernel(net, first).total @ r.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(second.output - first.output, predicted, rtol=1e-4, atol=1e-10)


def test_the_linear_mean_is_exact_by_gauss_hermite_quadrature():
    """L = 2, M = D = 1: four normal weights, a polynomial of low degree."""
    at, mass = np.polynomial.hermite_e.hermegauss(4)
    grid = torch.tensor(np.stack(np.meshgrid(*[at] * 4, indexing="ij"), -1).reshape(-1, 4))
    mass = torch.tensor(np.prod(np.stack(np.meshgrid(*[mass] * 4), -1).reshape(-1, 4), -1))
    mass = mass / mass.sum()
    theta = torch.cat([grid.reshape(-1, 2, 1, 2), torch.zeros(256, 2, 1, 1, dtype=DOUBLE)], -1)
    x, w = torch.tensor([[0.7], [-1.3]], dtype=DOUBLE), torch.tensor([1.9], dtype=DOUBLE)
    net = ShapedNetwork(x, torch.zeros(2, dtype=DOUBLE), w, sigma="linear")
    for part in tangent_kernel(net, net.forward(theta)):
        mean = torch.einsum("s,sij->ij", mass, part)
        torch.testing.assert_close(mean, linear_speed(x, w, 2, 1), rtol=1e-12, atol=1e-12)


def test_a_large_sample_of_linear_networks_has_the_mean():
    net = network("linear", batch=())
    kernel = tangent_kernel(net, net.forward(standard_start(3, 2, 4, generator(), (4000,))))
    formula = linear_speed(net.x, net.readout, 3, 2)
    for part in kernel:
        assert float((part.mean(0) * formula).sum() / formula.square().sum()) == pytest.approx(
            1, abs=0.1
        )


def test_the_proportional_limit_is_the_linear_formula_and_at_zero_the_mean_field_kernel():
    v, u = proportional_speed(0.8, 0.7, 5, "linear")
    assert float(v) == pytest.approx(0.8 * 1.14**4) == float(u)
    none = proportional_speed(0.8, 0.0, 5, "relu")  # E relu^2 = q/2, E relu'^2 = 1/2
    assert float(none.v) == pytest.approx(0.4, rel=1e-3)
    sine = proportional_speed(0.8, 0.0, 3, "sin")
    assert float(sine.v) == pytest.approx((1 - math.exp(-1.6)) / 2, rel=1e-10)
    assert float(sine.u) == pytest.approx(0.8 * (1 + math.exp(-1.6)) / 2, rel=1e-10)


def test_the_first_order_term_is_the_one_of_the_page():
    """s0 = (1 - e^{-2q})/2 and s1 = (1 + e^{-2q})/2 for the sine, many blocks."""
    q, eps, e = 0.8, 1e-5, math.exp(-1.6)
    s0, s1, d0, d1 = (1 - e) / 2, (1 + e) / 2, e, -e
    slope = (
        proportional_speed(q, eps, 4000, "sin").total
        - proportional_speed(q, 0.0, 4000, "sin").total
    ) / eps
    formula = 0.5 * (2 * s0 * s1 + s0 * d0 + q * (s1**2 + s0 * d1))
    assert float(slope) == pytest.approx(formula, rel=1e-3)


def test_wide_tanh_networks_of_large_dimension_follow_the_limit():
    d, L, M = 64, 4, 32
    x, w = randn(1, d), randn(d, seed=1)
    x, w = x / x.square().mean().sqrt(), w / w.square().mean().sqrt()
    net = ShapedNetwork(x, torch.zeros(1, dtype=DOUBLE), w)
    kernel = tangent_kernel(net, net.forward(standard_start(L, M, d, generator(), (300,)))).total
    limit = float(proportional_speed(1.0, 0.5, L).total)
    assert float(kernel.mean()) == pytest.approx(limit, rel=0.03)
    assert float(kernel.mean()) > 1.08 * float(proportional_speed(1.0, 0.0, L).total)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 0.5, 4), "q: "),
        ((1.0, -0.5, 4), "eps: "),
        ((1.0, 0.5, 0), "L: "),
        ((1.0, 0.5, 4, "bogus"), "sigma: "),
    ],
)
def test_impossible_numbers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        proportional_speed(*arguments)
