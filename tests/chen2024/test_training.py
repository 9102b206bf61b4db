import pytest
import torch
from problems import generator, randn
from torch.distributions import MultivariateNormal

from mflib.chen2024.network import ScaledResNet, initial_particles
from mflib.chen2024.training import Particles, TrainingFlow
from mflib.kl import kl_from_ratio

ALPHA, BETA = 1.7, 2.3
X = torch.nn.functional.normalize(randn(4, 3), dim=-1)
Y = randn(4, seed=1)


def start(batch=(), symmetrised=False, predictor=16):
    theta, omega = initial_particles(3, 2, 6, predictor, generator(), symmetrised, batch)
    return Particles.start(theta, omega)


def ends(flow, cloud, time, steps):
    for _ in range(steps):
        cloud = flow.step(cloud, time / steps)
    return cloud


def training(alpha=ALPHA, beta=BETA, x=X, y=Y, sigma="tanh", **change):
    return TrainingFlow(ScaledResNet(3, sigma, alpha, beta), x, y, **change)


def test_the_velocity_is_scaled_backpropagation_with_and_without_ratios():
    particles, flow = start(), training()
    leaves = [v.clone().requires_grad_() for v in (particles.theta, particles.omega)]
    grads = torch.autograd.grad(flow.loss(Particles(*leaves)), leaves)
    found = flow.velocity(particles)
    torch.testing.assert_close(found.theta, -2 * 6 * grads[0])
    torch.testing.assert_close(found.omega, -16 * grads[1])
    bare = flow.velocity(Particles(particles.theta, particles.omega))
    torch.testing.assert_close(bare.theta, found.theta)
    torch.testing.assert_close(bare.omega, found.omega)
    assert bare.theta_ratio is None and bare.omega_ratio is None


def test_the_rates_of_the_ratios_are_the_generator_by_automatic_differentiation():
    cloud, flow = start(), training()
    net, state, found = flow.net, flow.backward(cloud), flow.velocity(cloud)

    def generator_of(phi, point):
        trace = torch.func.hessian(phi)(point).diagonal().sum()
        return trace - point @ torch.func.grad(phi)(point)

    for k in (0, 7):
        rate = generator_of(lambda v: net.predictor_derivative(state, v[None])[0], cloud.omega[k])
        torch.testing.assert_close(found.omega_ratio[k], rate)
        for layer in range(2):
            rate = generator_of(
                lambda v, layer=layer: net.encoder_derivative(state, v[None])[layer, 0],
                cloud.theta[layer, k - 3],
            )
            torch.testing.assert_close(found.theta_ratio[layer, k - 3], rate)


def test_linear_neurons_keep_the_law_gaussian_and_the_ratio_is_its_log_density():
    # the flow map is linear: read its matrix off massless ghosts at the basis vectors
    points = randn(30, 5)
    ghosts = Particles.start(None, torch.cat([torch.eye(5).double(), points]))
    flow, cloud = training(1.0, sigma="linear"), Particles.start(None, randn(12, 5, seed=3))
    for _ in range(200):
        cloud, fields = flow.stages(cloud, 0.005)
        ghosts = flow.carry(ghosts, 0.005, fields)
    matrix = ghosts.omega[:5].T
    law = MultivariateNormal(torch.zeros(5).double(), matrix @ matrix.T)
    initial = MultivariateNormal(torch.zeros(5).double(), torch.eye(5).double())
    moved = ghosts.omega[5:]
    torch.testing.assert_close(moved, points @ matrix.T)
    exact = law.log_prob(moved) - initial.log_prob(moved)
    assert exact.abs().max() > 0.5
    torch.testing.assert_close(ghosts.omega_ratio[5:], exact, rtol=1e-7, atol=1e-7)


def test_a_frozen_encoder_is_the_symmetrised_start_and_stays_so_without_alpha():
    cloud = start(symmetrised=True)
    flow, frozen = training(1e-9), Particles.start(None, cloud.omega)
    torch.testing.assert_close(flow.predict(cloud), torch.zeros_like(Y))
    torch.testing.assert_close(flow.backward(frozen).output, X)
    moving, still = ends(flow, cloud, 0.5, 5), ends(flow, frozen, 0.5, 5)
    torch.testing.assert_close(moving.omega, still.omega)
    torch.testing.assert_close(moving.omega_ratio, still.omega_ratio)
    assert float(still.kl_encoder) == 0.0 < float(still.kl_predictor)


def test_a_ghost_at_a_particles_place_follows_the_particle():
    def some(c):
        return Particles(c.theta[:, 1:2], c.omega[3:5], c.theta_ratio[:, 1:2], c.omega_ratio[3:5])

    cloud, flow = start(), training()
    ghosts = some(cloud)
    for _ in range(3):
        cloud, fields = flow.stages(cloud, 0.1)
        ghosts = flow.carry(ghosts, 0.1, fields)
        assert len(fields) == 4
    torch.testing.assert_close(vars(cloud), vars(ends(flow, start(), 0.3, 3)))
    torch.testing.assert_close(vars(ghosts), vars(some(cloud)))


def test_batches_of_problems_and_scalings_equal_single_runs():
    cloud = start((3,))
    x = torch.nn.functional.normalize(randn(3, 4, 3, seed=5), dim=-1)
    alphas, betas = torch.tensor([0.5, 1.0, 3.0]), torch.tensor([1.0, 2.0, 4.0])
    time = torch.tensor([0.3, 0.2, 0.1], dtype=torch.float64)
    together = training(alphas, betas, x, Y.expand(3, 4)).train(cloud, time, 6, 2)
    for i in range(3):
        one = Particles.start(cloud.theta[i], cloud.omega[i])
        flow = training(float(alphas[i]), float(betas[i]), x[i])
        run = flow.train(one, float(time[i]), 6, 2)
        for name in ("times", "loss", "kl", "smallest", "outputs"):
            torch.testing.assert_close(getattr(together, name)[i], getattr(run, name))
        torch.testing.assert_close(together.particles.theta_ratio[i], run.particles.theta_ratio)


def test_the_order_of_particles_does_not_matter():
    cloud, flow = start(), training()
    turned = Particles.start(cloud.theta.flip(-2), cloud.omega.flip(-2))
    one, two = ends(flow, cloud, 0.3, 3), ends(flow, turned, 0.3, 3)
    torch.testing.assert_close(one.kl_predictor, two.kl_predictor)
    torch.testing.assert_close(one.kl_encoder, two.kl_encoder)


def test_a_training_step_has_order_four_in_the_ratio_too():
    cloud, flow = start(), training()
    coarse, fine, exact = (ends(flow, cloud, 0.6, k) for k in (8, 16, 128))
    for part in ("omega", "omega_ratio", "theta", "theta_ratio"):
        a, b, c = (getattr(v, part) for v in (coarse, fine, exact))
        assert 11 < float((a - c).norm() / (b - c).norm()) < 21, part


def test_a_run_records_what_the_flow_says():
    cloud, flow = start(), training()
    run = flow.train(cloud, 0.4, 8, 4)
    by_hand = ends(flow, cloud, 0.4, 8)
    torch.testing.assert_close(run.times, torch.tensor([0, 0.1, 0.2, 0.3, 0.4]).double())
    torch.testing.assert_close(
        run.loss[[0, -1]], torch.stack([flow.loss(cloud), flow.loss(by_hand)])
    )
    torch.testing.assert_close(vars(run.particles), vars(by_hand))
    torch.testing.assert_close(run.kl[-1], kl_from_ratio(by_hand.omega_ratio))
    torch.testing.assert_close(run.outputs[-1], flow.predict(by_hand))
    torch.testing.assert_close(run.smallest[-1], torch.linalg.eigvalsh(flow.gram(by_hand))[0])
    assert (run.loss.diff() < 0).all() and float(run.kl[0]) == 0.0


def test_the_divergence_of_the_encoder_is_the_mean_over_depth():
    cloud = ends(training(), start(), 0.4, 4)
    by_layer = kl_from_ratio(cloud.theta_ratio)
    assert by_layer.shape == (2,) and by_layer[0] != by_layer[1]
    torch.testing.assert_close(cloud.kl_encoder, by_layer.mean())


def test_a_step_beyond_the_stability_bound_is_refused():
    cloud, flow = start(), training(beta=20.0)
    limit = float(flow.stable_step(cloud))
    flow.train(cloud, 0.9 * limit, 1)
    with pytest.raises(ValueError, match="stable below 2.7"):
        flow.train(cloud, 1.1 * limit, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: training(y=Y[:3]), "y: last dimension"),
        (lambda: training(x=X / 0), "x: holds NaN"),
        (lambda: training(x=X[:, :2]), "x: last dimension"),
        (lambda: training(beta=0.0), "beta: expected a finite number > 0"),
        (lambda: training(torch.tensor([1.0, -1.0])), "alpha: expected positive"),
        (lambda: training().train(start(), 0.1, 5, 2), "records: 2 does not divide"),
        (lambda: training().train(start(), 0.1, 0), "steps"),
        (lambda: training().train(start(), -0.1, 1), "time: expected positive"),
        (lambda: training().step(Particles.start(None, randn(4, 3)), 0.1), "omega: last dimension"),
        (lambda: training().train(Particles(None, randn(4, 5)), 0.1, 1), "particles: carry no"),
        (lambda: training().step(Particles(randn(2, 2, 6), randn(4, 5)), 0.1), "theta: last dim"),
        (lambda: training().predict(Particles(randn(2, 2, 3, 7), randn(3, 4, 5))), "theta: its b"),
        (lambda: Particles.start(None, randn(4)), "omega: expected at least 2"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
