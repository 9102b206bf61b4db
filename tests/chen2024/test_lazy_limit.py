import math

import pytest
import torch
from problems import generator, randn

from mflib.blocks import NeuronBlock
from mflib.chen2024.lazy_limit import (
    displacement_coefficients,
    encoder_constant,
    predictor_constant,
    predictor_constant_population,
)
from mflib.chen2024.network import ScaledResNet, initial_particles
from mflib.chen2024.sphere_kernel import Spectrum
from mflib.chen2024.training import Particles, TrainingFlow
from mflib.gram import neuron_gram
from mflib.sampling import sobol_gaussian

X = torch.nn.functional.normalize(randn(3, 2), dim=-1)
Y = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
BLOCK = NeuronBlock(2, "tanh", 1)
ONES = torch.ones(3, 1, dtype=torch.float64)


def particles(batch=()):
    return initial_particles(2, 2, 8, 32, generator(), batch=batch)


def test_coefficients_solve_the_linear_flow():
    gram = neuron_gram(BLOCK, X, particles()[1], ONES)
    c, steps = torch.zeros(3).double(), 2000
    for step in range(steps):  # c' = exp(-r G) y by the midpoint rule
        middle = torch.matrix_exp(-(step + 0.5) * 2.0 / steps * gram)
        c = c + 2.0 / steps * middle @ Y
    torch.testing.assert_close(displacement_coefficients(gram, Y, 2.0), c, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(
        displacement_coefficients(gram, Y, math.inf), torch.linalg.solve(gram, Y)
    )


def test_a_flat_direction_moves_in_proportion_to_time():
    gram = torch.diag(torch.tensor([0.0, 2.0], dtype=torch.float64))
    found = displacement_coefficients(gram, torch.ones(2).double(), 3.0)
    torch.testing.assert_close(found, torch.tensor([3.0, -math.expm1(-6) / 2]).double())


def test_the_predictor_constant_is_the_generator_by_automatic_differentiation():
    _, omega = particles()
    c = displacement_coefficients(neuron_gram(BLOCK, X, omega, ONES), Y, 2.0)

    def phi(point):
        return c @ BLOCK.pairing(X, point[None], ONES)[:, 0]

    def generator_of(point):
        trace = torch.func.hessian(phi)(point).diagonal().sum()
        return trace - point @ torch.func.grad(phi)(point)

    values = torch.func.vmap(generator_of)(omega)
    torch.testing.assert_close(predictor_constant(omega, X, Y, 2.0), 0.5 * values.square().mean())


def test_training_reaches_both_constants_with_a_deviation_of_order_two():
    theta, omega = particles()
    deviations = []
    for beta in (100.0, 200.0):
        flow = TrainingFlow(ScaledResNet(2, "tanh", 1.3, beta), X, Y)
        run = flow.train(Particles.start(theta, omega), 2.0 * 3 / beta**2, 60)
        head = beta**2 * run.kl[-1] / predictor_constant(omega, X, Y, 2.0)
        body = beta**4 / 1.3**2 * run.particles.kl_encoder
        body = body / encoder_constant(theta, omega, X, Y, 2.0)
        deviations.append(torch.stack([head, body]) - 1)
    assert (deviations[1].abs() < 2e-3).all()
    ratio = deviations[0] / deviations[1]
    assert (ratio > 3.6).all() and (ratio < 4.4).all()


def test_the_encoder_constant_equals_a_route_by_differentiation_and_quadrature():
    theta, omega = particles()
    gram = neuron_gram(BLOCK, X, omega, ONES)

    def slope_z(x, point):  # gradient by z of one head
        return torch.func.grad(lambda z: BLOCK.pairing(z[None], point[None], ONES[:1])[0, 0])(x)

    def slope(x, point):
        return torch.func.grad(lambda w: BLOCK.pairing(x[None], w[None], ONES[:1])[0, 0])(point)

    H = torch.zeros(3, 3, 2, dtype=torch.float64)
    for i in range(3):
        mixed = torch.func.vmap(lambda w, i=i: torch.func.jacrev(lambda v: slope_z(X[i], v))(w))(
            omega
        )
        for j in range(3):
            along = torch.func.vmap(lambda w, j=j: slope(X[j], w))(omega)
            H[i, j] = (mixed @ along[..., None]).squeeze(-1).mean(0)
    steps, R = 400, 2.0
    q = torch.zeros(3, 2, dtype=torch.float64)
    for step in range(steps):
        r = (step + 0.5) * R / steps
        c = displacement_coefficients(gram, Y, r)
        b = -torch.matrix_exp(-r * gram) @ Y
        q += R / steps * b[:, None] * torch.einsum("ijd,j->id", H, c)
    encoder = NeuronBlock(2, "tanh")
    total = 0.0
    for layer in theta:
        u, w, b = encoder.split(layer)
        z = X @ w.T + b
        t = z.tanh()
        # |x| = 1: L(u tanh c) = u (2 tanh'' - tanh - c tanh')
        g = -4 * t * (1 - t**2) - t - z * (1 - t**2)
        total = total + ((q @ u.T) * g).sum(0).square().mean() / 2
    torch.testing.assert_close(
        encoder_constant(theta, omega, X, Y, R), 0.5 * total, rtol=1e-4, atol=0
    )


def test_many_particles_have_the_constant_of_infinite_width():
    omega = sobol_gaussian(2**15, 4, generator(), 1)
    finite = predictor_constant(omega, X, Y, 2.0)
    infinite = predictor_constant_population(X, Y, 2.0)
    assert float(finite / infinite) == pytest.approx(1.0, abs=0.02)


def test_infinite_width_and_time_agree_with_the_hermite_series():
    flow, least = Spectrum("tanh").radii(X, Y)
    found = predictor_constant_population(X, Y, math.inf)
    torch.testing.assert_close(found, flow, rtol=1e-4, atol=0)  # the series is cut
    assert least < found


def test_a_batch_equals_single_problems_and_labels_enter_squared():
    theta, omega = particles((2,))
    x = torch.stack([X, X.flip(0)])
    y = torch.stack([Y, 2 * Y])
    for function in (
        lambda a, b, w, t: predictor_constant(w, a, b, 3.0),
        lambda a, b, w, t: encoder_constant(t, w, a, b, 3.0),
        lambda a, b, w, t: predictor_constant_population(a, b, 3.0, nodes=41),
    ):
        both = function(x, y, omega, theta)
        torch.testing.assert_close(both[1], function(x[1], y[1], omega[1], theta[1]))
    torch.testing.assert_close(
        predictor_constant(omega, X, 3 * Y, 3.0), 9 * predictor_constant(omega, X, Y, 3.0)
    )


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="horizon: expected a finite number > 0"):
        displacement_coefficients(torch.eye(3).double(), Y, 0.0)
    with pytest.raises(ValueError, match="gram: last dimension"):
        displacement_coefficients(torch.eye(2).double(), Y, 1.0)
    with pytest.raises(ValueError, match="omega: last dimension is 3"):
        predictor_constant(randn(4, 3), X, Y, 1.0)
    with pytest.raises(ValueError, match="gram: the Gram matrix is singular"):
        displacement_coefficients(torch.diag(torch.tensor([0.0, 2, 1]).double()), Y, math.inf)
    with pytest.raises(ValueError, match="theta: last dimension is 3"):
        encoder_constant(randn(2, 4, 3), randn(8, 4), X, Y, 1.0)
    with pytest.raises(ValueError, match="x: holds NaN"):
        predictor_constant_population(X / 0, Y, 1.0)
