"""Two-layer networks as laws: ridge neurons, loss, first variation, flow."""

import math

import pytest
import torch
from problems import DOUBLE, generator, randn
from scipy.integrate import solve_ivp

from mflib.teacher_student.ridge import RidgeBlock
from mflib.teacher_student.two_layer import TwoLayer, follow

ACTIVATIONS = ["tanh", "softplus", "gaussian", "relu"]


def problem(weighted=False, sigma="tanh", seed=0):
    block = RidgeBlock(3, sigma, weighted)
    x, y = randn(2, 7, 3, seed=seed), randn(2, 7, seed=seed + 1)
    mass = torch.rand(2, 7, generator=generator(seed + 2), dtype=DOUBLE) + 0.1
    law = TwoLayer(block, x, y, mass / mass.sum(-1, keepdim=True))
    weights = torch.rand(2, 5, generator=generator(seed + 3), dtype=DOUBLE) + 0.1
    return law, randn(2, 5, block.k, seed=seed + 4), weights / weights.sum(-1, keepdim=True)


@pytest.mark.parametrize("sigma", ACTIVATIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_velocity_is_minus_the_gradient_of_the_loss_over_the_mass(weighted, sigma):
    law, theta, w = problem(weighted, sigma)
    leaf = theta.clone().requires_grad_()
    law.loss(leaf, w).sum().backward()
    assert torch.allclose(law.velocity(theta, w), -leaf.grad / w.unsqueeze(-1), rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_first_variation_is_the_derivative_along_added_mass(weighted):
    law, theta, w = problem(weighted)
    probes = randn(2, 4, law.block.k, seed=9)
    derivative = law.derivative(theta, probes, w)
    for j in range(4):
        amount = torch.zeros(2, 1, dtype=DOUBLE, requires_grad=True)
        both = torch.cat([theta, probes[:, j : j + 1]], -2)
        law.loss(both, torch.cat([w, amount], -1)).sum().backward()
        assert torch.allclose(amount.grad[:, 0], derivative[:, j], rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_dissipation_is_a_quadratic_form_of_the_residual(weighted):
    law, theta, w = problem(weighted)
    pull = law.mass * law.residual(theta, w)
    form = torch.einsum("bi,bij,bj->b", pull, law.tangent_kernel(theta, w), pull)
    assert torch.allclose(form, law.dissipation(theta, w), rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_block_agrees_with_automatic_differentiation(weighted):
    block = RidgeBlock(3, "tanh", weighted)
    x, theta, w = randn(4, 3), randn(5, block.k, seed=1), randn(5, seed=2)
    v, p = randn(4, 3, seed=3), randn(4, 1, seed=4)
    out, push = torch.autograd.functional.jvp(lambda q: block.field(q, theta, w), x, v)
    assert torch.allclose(block.jvp(x, theta, w, v), push)
    _, pull = torch.autograd.functional.vjp(lambda q: block.field(q, theta, w), x, p)
    assert torch.allclose(block.vjp(x, theta, w, p), pull)
    assert torch.allclose(torch.einsum("ijo,j->io", block.value(x, theta), w), out)
    jac = torch.einsum("ijod,j,io->id", block.jacobian(x, theta), w, p)
    assert torch.allclose(jac, pull)


def test_a_teacher_has_zero_loss_and_another_law_has_not():
    block, x, theta = RidgeBlock(2, "relu"), randn(9, 2), randn(3, 2, seed=1)
    w = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE)
    law = TwoLayer.taught(block, x, theta, w)
    assert law.loss(theta, w) == 0 and law.velocity(theta, w).abs().max() == 0
    assert law.loss(theta) > 1e-4


def test_relu_at_its_kink_has_slope_zero():
    block = RidgeBlock(1, "relu")
    one = torch.ones(1, 1, dtype=DOUBLE)
    grad = block.pairing_grad(one, torch.zeros(1, 1, dtype=DOUBLE), one, one[0])
    assert grad.item() == 0


def test_the_order_of_particles_does_not_matter():
    law, theta, w = problem()
    order = torch.tensor([3, 0, 4, 1, 2])
    assert torch.allclose(law.loss(theta[:, order], w[:, order]), law.loss(theta, w))


def test_following_agrees_with_a_library_solver_and_has_the_order_of_its_method():
    law, theta, w = problem()
    one = TwoLayer(law.block, law.x[0], law.y[0], law.mass[0])

    def rate(_, q):
        return one.velocity(torch.tensor(q).reshape(5, 3), w[0]).flatten().numpy()

    exact = torch.tensor(
        solve_ivp(rate, (0, 2), theta[0].flatten().numpy(), rtol=1e-11, atol=1e-12).y[:, -1]
    )
    for method, order in (("euler", 1), ("midpoint", 2), ("rk4", 4)):
        gaps = [
            float(
                (
                    follow(lambda q: one.velocity(q, w[0]), theta[0], 2.0, steps, method).flatten()
                    - exact
                )
                .abs()
                .max()
            )
            for steps in (16, 32)
        ]
        assert abs(math.log2(gaps[0] / gaps[1]) - order) < 0.35


def test_kept_positions_begin_with_the_start_and_end_with_the_end():
    law, theta, w = problem()
    path = follow(lambda q: law.velocity(q, w), theta, 1.0, 4, keep=(0, 2, 4))
    assert torch.equal(path[0], theta) and path.shape == (3, 2, 5, 3)
    assert torch.equal(path[-1], follow(lambda q: law.velocity(q, w), theta, 1.0, 4))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda law, q: follow(law.velocity, q, 1.0, 4, "heun"), "method"),
        (lambda law, q: follow(law.velocity, q, 1.0, 0), "steps"),
        (lambda law, q: follow(lambda z: z * float("inf"), q, 1.0, 2), "time"),
        (lambda law, q: TwoLayer(law.block, law.x, law.y[:, :3]), "y"),
        (lambda law, q: TwoLayer(law.block, law.x * float("nan"), law.y), "x"),
        (lambda law, q: TwoLayer(law.block, law.x, law.y, -law.mass), "mass"),
        (lambda law, q: law.velocity(q[..., :2]), "theta"),
    ],
)
def test_bad_input_names_the_argument(call, word):
    law, theta, _ = problem()
    with pytest.raises((ValueError, TypeError), match=word):
        call(law, theta)
