import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.blocks import NeuronBlock
from mflib.chen2024.network import ScaledResNet, initial_particles
from mflib.gram import gram_encoder, gram_encoder_profile, gram_predictor, neuron_gram

NET = ScaledResNet(3, "tanh", alpha=1.7, beta=2.3)
X, Y = randn(4, 3), randn(4, seed=1)


@pytest.fixture
def network():
    theta, omega = initial_particles(3, 5, 6, 8, generator(), False, (2,))
    return theta, omega, NET.backward(theta, omega, X, Y)


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_chunks_change_nothing(network, chunk):
    theta, omega, state = network
    ones = torch.ones(4, 1, dtype=DOUBLE)
    z = state.trajectory.X[:, -1]
    torch.testing.assert_close(
        neuron_gram(NET.predictor, z, omega, ones, chunk),
        gram_predictor(NET.predictor, omega, state),
    )
    torch.testing.assert_close(
        gram_encoder_profile(NET.encoder, theta, state, chunk),
        gram_encoder_profile(NET.encoder, theta, state),
    )


def test_the_default_chunk_does_not_depend_on_the_width_of_memory(monkeypatch, network):
    theta, _, state = network
    whole = gram_encoder_profile(NET.encoder, theta, state)
    monkeypatch.setattr("mflib.gram._ROOM", 1)
    torch.testing.assert_close(gram_encoder_profile(NET.encoder, theta, state), whole)


def test_the_profile_is_the_jacobian_of_every_layer(network):
    theta, omega, _ = network
    theta, omega = theta[0], omega[0]
    state = NET.backward(theta, omega, X, Y)
    jac = torch.func.jacrev(lambda v: NET.predict(v, omega, X))(theta)  # (n, L, M, k)
    jac = jac.movedim(1, 0).flatten(2) * 30 / (1.7 * 2.3)  # gradients of p . sigma
    profile = gram_encoder_profile(NET.encoder, theta, state)
    torch.testing.assert_close(profile, jac @ jac.mT / 6)
    torch.testing.assert_close(gram_encoder(NET.encoder, theta, state), profile.mean(0))


def test_a_chunk_of_nothing_is_refused(network):
    _, omega, state = network
    with pytest.raises(ValueError, match="chunk: expected an integer"):
        neuron_gram(NET.predictor, X, omega, torch.ones(4, 1, dtype=DOUBLE), chunk=0)


def test_the_upper_triangle_is_enough(monkeypatch):
    block = NeuronBlock(3, "tanh")
    z, theta, p = randn(2, 11, 3), randn(5, 7, seed=1), randn(2, 11, 3, seed=2)
    found = []
    for rows in (4, 128):
        monkeypatch.setattr("mflib.gram._ROWS", rows)
        found.append(neuron_gram(block, z, theta, p))
    by_hand = []
    for particle in theta:
        leaf = particle.expand(2, 11, 7).clone().requires_grad_()
        u, w, b = leaf[..., :3], leaf[..., 3:6], leaf[..., 6]
        value = ((p * u).sum(-1) * torch.tanh((w * z).sum(-1) + b)).sum()
        (slope,) = torch.autograd.grad(value, leaf)
        by_hand.append(slope @ slope.mT)
    for gram in found:
        torch.testing.assert_close(gram, sum(by_hand) / 5, rtol=1e-13, atol=1e-14)
        assert torch.equal(gram, gram.mT)
