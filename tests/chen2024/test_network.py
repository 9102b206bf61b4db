import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.chen2024.network import ScaledResNet, initial_particles
from mflib.gram import gram_encoder, gram_predictor, neuron_gram

NET = ScaledResNet(3, "tanh", alpha=1.7, beta=2.3)
X, Y = randn(4, 3), randn(4, seed=1)


def particles(batch=(), symmetrised=False, seed=0):
    return initial_particles(3, 5, 6, 8, generator(seed), symmetrised, batch)


def test_the_network_is_the_recursion_of_the_paper():
    theta, omega = particles()
    z = X
    for layer in range(5):
        u, w, b = theta[layer, :, :3], theta[layer, :, 3:6], theta[layer, :, 6]
        z = z + 1.7 / (6 * 5) * torch.tanh(z @ w.T + b) @ u
    f = 2.3 / 8 * torch.tanh(z @ omega[:, 1:4].T + omega[:, 4]) @ omega[:, 0]
    torch.testing.assert_close(NET.predict(theta, omega, X), f)
    torch.testing.assert_close(NET.loss(theta, omega, X, Y), 0.5 * (f - Y).square().mean())


def test_a_symmetrised_start_has_mean_field_initial_values():
    theta, omega = particles(symmetrised=True)
    state = NET.backward(theta, omega, X, Y)
    assert state.adjoint.p.abs().max() < 1e-15
    torch.testing.assert_close(state.residual, -Y)
    torch.testing.assert_close(state.trajectory.X[-1], X)
    assert gram_encoder(NET.encoder, theta, state).abs().max() < 1e-15


@pytest.mark.parametrize("batch", [(), (3,)])
def test_velocity_equals_scaled_backpropagation(batch):
    leaves = [v.requires_grad_() for v in particles(batch)]
    grads = torch.autograd.grad(NET.loss(*leaves, X, Y).sum(), leaves)
    moves = [v.detach() for v in leaves]
    velocity = NET.velocity(*moves, NET.backward(*moves, X, Y))
    torch.testing.assert_close(velocity[0], -5 * 6 * grads[0])
    torch.testing.assert_close(velocity[1], -8 * grads[1])


def test_gram_matrices_equal_the_jacobian_route():
    theta, omega = particles()
    state = NET.backward(theta, omega, X, Y)
    jac_theta = torch.func.jacrev(lambda v: NET.predict(v, omega, X))(theta).flatten(1)
    jac_omega = torch.func.jacrev(lambda v: NET.predict(theta, v, X))(omega).flatten(1)
    # df/dtheta = alpha beta / (L M) grad(p . sigma), so its Gram matrix carries 1/(L M)
    g1 = jac_theta @ jac_theta.T * 30 / (1.7 * 2.3) ** 2
    g2 = jac_omega @ jac_omega.T * 8 / 2.3**2
    torch.testing.assert_close(gram_encoder(NET.encoder, theta, state), g1)
    torch.testing.assert_close(gram_predictor(NET.predictor, omega, state), g2)


def test_gram_matrices_are_semidefinite_and_blind_to_the_order_of_particles():
    theta, omega = particles((4,))
    state = NET.backward(theta, omega, X, Y)
    g2 = gram_predictor(NET.predictor, omega, state)
    assert torch.linalg.eigvalsh(g2).min() > -1e-14
    torch.testing.assert_close(gram_predictor(NET.predictor, omega.flip(-2), state), g2)


def test_chunks_do_not_change_the_gram_matrix():
    _, omega = particles()
    ones = torch.ones(4, 1, dtype=DOUBLE)
    torch.testing.assert_close(
        neuron_gram(NET.predictor, X, omega, ones, chunk=3),
        neuron_gram(NET.predictor, X, omega, ones),
    )


def test_energy_identity_holds_at_finite_size():
    theta, omega = particles((6,))
    state = NET.backward(theta, omega, X, Y)
    gram = 1.7**2 * gram_encoder(NET.encoder, theta, state) + gram_predictor(
        NET.predictor, omega, state
    )
    b = state.residual
    rate = -((2.3 / 4) ** 2) * torch.einsum("si,sij,sj->s", b, gram, b)
    torch.testing.assert_close(NET.gram(theta, omega, state), gram)
    velocity = NET.velocity(theta, omega, state)
    _, slope = torch.func.jvp(lambda a, c: NET.loss(a, c, X, Y), (theta, omega), velocity)
    torch.testing.assert_close(rate, slope)


def test_a_frozen_encoder_is_a_network_without_layers():
    _, omega = particles((2,))
    frozen = NET.backward(None, omega, X, Y)
    torch.testing.assert_close(NET.predict(None, omega, X), NET.head(omega, X))
    assert frozen.states.shape[-3] == 0
    torch.testing.assert_close(frozen.output, X.expand(2, 4, 3))
    still = torch.zeros(2, 3, 4, 7, dtype=X.dtype)  # layers that do nothing
    moving = NET.backward(still, omega, X, Y)
    torch.testing.assert_close(frozen.residual, moving.residual)
    torch.testing.assert_close(frozen.adjoint.p[..., 0, :, :], moving.adjoint.p[..., 0, :, :])
    dtheta, domega = NET.velocity(None, omega, frozen)
    assert dtheta is None
    torch.testing.assert_close(domega, NET.velocity(still, omega, moving)[1])
    torch.testing.assert_close(
        NET.gram(None, omega, frozen), gram_predictor(NET.predictor, omega, moving)
    )


def test_a_batch_of_scalings_equals_single_networks():
    theta, omega = particles((3,))
    alpha = torch.tensor([0.5, 1.0, 3.0]).double()
    beta = torch.tensor([1.0, 2.0, 0.2]).double()
    nets = ScaledResNet(3, "tanh", alpha, beta)
    passed = nets.backward(theta, omega, X, Y)
    moves, gram = nets.velocity(theta, omega, passed), nets.gram(theta, omega, passed)
    for i in range(3):
        net = ScaledResNet(3, "tanh", float(alpha[i]), float(beta[i]))
        one = net.backward(theta[i], omega[i], X, Y)
        torch.testing.assert_close(passed.loss[i], one.loss)
        torch.testing.assert_close(gram[i], net.gram(theta[i], omega[i], one))
        for a, b in zip(moves, net.velocity(theta[i], omega[i], one), strict=True):
            torch.testing.assert_close(a[i], b)


def test_derivatives_pair_with_mixtures_of_the_predictor():
    theta, omega = particles()
    _, other = particles(seed=5)
    state = NET.backward(theta, omega, X, Y)
    z = state.trajectory.X[-1]
    f, g = NET.head(omega, z), NET.head(other, z)
    # the loss is quadratic along the mixture: a central difference is exact
    loss = [0.5 * (f + e * (g - f) - Y).square().mean() for e in (1.0, -1.0)]
    pairing = (
        NET.predictor_derivative(state, other).mean()
        - NET.predictor_derivative(state, omega).mean()
    )
    torch.testing.assert_close(pairing, (loss[0] - loss[1]) / 2)


def test_odd_sizes_cannot_be_symmetrised_and_wrong_ones_are_named():
    with pytest.raises(ValueError, match="predictor: 7 is odd"):
        initial_particles(3, 2, 4, 7, generator())
    with pytest.raises(ValueError, match="omega: last dimension"):
        NET.head(randn(5, 4), X)
    theta, omega = particles()
    with pytest.raises(ValueError, match="y: last dimension is 1"):
        NET.loss(theta, omega, X, Y[:, None])
    with pytest.raises(ValueError, match="y: last dimension is 1"):
        NET.backward(theta, omega, X, Y[:, None])
    with pytest.raises(ValueError, match="x: last dimension"):
        NET.predict(None, omega, X[:, :2])
    for change in (dict(alpha=float("nan")), dict(beta=0.0), dict(beta=torch.tensor([1.0, -1.0]))):
        with pytest.raises(ValueError, match="(alpha|beta): expected"):
            ScaledResNet(3, **change)
    with pytest.raises(TypeError, match="theta: is torch.float32, x is torch.float64"):
        NET.predict(theta.float(), omega, X)
    with pytest.raises(ValueError, match="sigma: no activation 'swish'"):
        ScaledResNet(3, "swish")
    with pytest.raises(TypeError, match="generator"):
        initial_particles(3, 2, 4, 8, 0)
