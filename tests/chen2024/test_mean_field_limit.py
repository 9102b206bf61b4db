import math

import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.blocks import NeuronBlock
from mflib.chen2024.mean_field_limit import AveragedNeuron, GaussianLaw
from mflib.ode import adjoint, flow

NEURON = NeuronBlock(2, "tanh")
AVERAGED = AveragedNeuron(NEURON, nodes=241)
M0, M1, FACTOR = randn(5), randn(5, seed=1), 0.4 * randn(5, 5, seed=2)
LAW = GaussianLaw(lambda s: M0 + s * M1, FACTOR, scale=1.5)
X = randn(3, 2, seed=3)


def test_the_average_is_the_mean_over_many_neurons():
    theta, mass = LAW.measure.at(0.3)
    many, weights = LAW.curves(400_000, generator()).at(0.3)
    exact = AVERAGED.field(X, theta, mass)
    torch.testing.assert_close(exact, NEURON.field(X, many, weights), rtol=0.01, atol=0.01)


def test_the_average_of_waves_in_closed_form():
    # E u sin(c) by Stein: (m_u sin(m_c) + Cov(u, c) cos(m_c)) exp(-Var(c)/2)
    block = AveragedNeuron(NeuronBlock(2, "sin"))
    theta, _ = LAW.measure.at(0.0)
    lifted = torch.cat([X, torch.ones(3, 1, dtype=DOUBLE)], 1)
    cov = FACTOR @ FACTOR.T
    mean, spread = lifted @ M0[2:], (lifted @ cov[2:, 2:] * lifted).sum(-1)
    shared = lifted @ cov[:2, 2:].T
    value = M0[:2] * mean.sin()[:, None] + shared * mean.cos()[:, None]
    value = value * torch.exp(-spread / 2)[:, None]
    torch.testing.assert_close(block.value(X, theta)[:, 0], value)


def test_a_law_without_spread_is_a_neuron():
    law = GaussianLaw(lambda s: M0, torch.zeros(5, 5, dtype=DOUBLE))
    theta, mass = law.measure.at(0.0)
    p = randn(3, 2, seed=5)
    for method, more in (("field", ()), ("vjp", (p,)), ("jvp", (p,))):
        averaged = getattr(AVERAGED, method)(X, theta, mass, *more)
        single = getattr(NEURON, method)(X, M0[None], mass, *more)
        torch.testing.assert_close(averaged, single)


@pytest.mark.parametrize("out", [None, 1])
def test_derivatives_equal_autograd(out):
    block = AveragedNeuron(NeuronBlock(2, "tanh", out=out), nodes=241)
    k = block.neuron.k
    law = GaussianLaw(lambda s: randn(k), 0.4 * randn(k, k, seed=2), 2.0)
    theta, mass = law.measure.at(0.0)
    p, leaf = randn(3, block.d_out, seed=6), X.clone().requires_grad_()
    (grad,) = torch.autograd.grad((block.field(leaf, theta, mass) * p).sum(), leaf)
    torch.testing.assert_close(block.vjp(X, theta, mass, p), grad)
    v = randn(3, 2, seed=7)
    _, slope = torch.func.jvp(lambda x: block.field(x, theta, mass), (X,), (v,))
    torch.testing.assert_close(block.jvp(X, theta, mass, v), slope)


def test_the_adjoint_of_the_limit_is_the_gradient_by_the_input():
    leaf, p1 = X.clone().requires_grad_(), randn(3, 2, seed=8)
    (grad,) = torch.autograd.grad(
        (flow(AVERAGED, LAW.measure, leaf, 6, "rk4").X[-1] * p1).sum(), leaf
    )
    costate = adjoint(AVERAGED, flow(AVERAGED, LAW.measure, X, 6, "rk4"), p1)
    torch.testing.assert_close(costate.p[0], grad)


def test_particles_have_the_moments_of_the_law():
    theta, weights = LAW.curves(50, generator(), (4000,), shared=0.3).at(0.5)
    assert theta.shape == (4000, 50, 5) and float(weights.sum()) == pytest.approx(1.5)
    centred = theta - (M0 + 0.5 * M1)
    cov = FACTOR @ FACTOR.T
    own = torch.einsum("smk,sml->kl", centred, centred) / centred[..., 0].numel()
    total = centred.sum(1)
    # Var of the sum of M: M + M (M-1) times the correlation
    common = total.T @ total / 4000 / (50 + 50 * 49 * 0.3)
    torch.testing.assert_close(own, cov, rtol=0.1, atol=0.05)
    torch.testing.assert_close(common, cov, rtol=0.2, atol=0.1)


def test_curves_keep_their_noise_and_layers_do_not():
    curve = LAW.curves(6, generator(), (2,))
    torch.testing.assert_close(curve.at(0.75)[0] - curve.at(0.25)[0], (0.5 * M1).expand(2, 6, 5))
    layers = LAW.layers(4, 2000, generator(), (2,))
    assert layers.theta.shape == (2, 4, 2000, 5)
    assert float(layers.weights.sum()) == pytest.approx(4 * 1.5)
    torch.testing.assert_close(
        layers.theta[0].mean(1), M0 + torch.arange(4)[:, None] / 4 * M1, rtol=0, atol=0.1
    )
    noise = layers.theta[0] - M0 - torch.arange(4)[:, None, None] / 4 * M1
    assert (noise[0] * noise[1]).mean().abs() < 0.05


def test_laws_come_in_batches():
    law = GaussianLaw(lambda s: M0 + s * randn(7, 5), FACTOR.expand(7, 5, 5))
    x = randn(7, 3, 2)
    ends = flow(AVERAGED, law.measure, x, 4).X[:, -1]
    alone = GaussianLaw(lambda s: M0 + s * randn(7, 5)[2], FACTOR)
    torch.testing.assert_close(ends[2], flow(AVERAGED, alone.measure, x[2], 4).X[-1])
    assert law.curves(4, generator(), (3,)).at(0.0)[0].shape == (3, 7, 4, 5)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="factor: shape"):
        GaussianLaw(lambda s: M0, FACTOR[:3])
    with pytest.raises(ValueError, match="shared: expected a finite number"):
        LAW.curves(3, generator(), shared=1.5)
    with pytest.raises(ValueError, match="particles: expected an integer"):
        LAW.curves(0, generator())
    with pytest.raises(ValueError, match="theta: last dimension is 5"):
        AVERAGED.value(X, M0[None])
    assert math.isfinite(float(AVERAGED.value(X, LAW.measure.at(0.0)[0]).sum()))


def test_a_wide_law_takes_more_nodes_and_one_too_wide_is_refused():
    law = GaussianLaw(lambda s: M0, 6 * torch.eye(5, dtype=DOUBLE))
    theta, mass = law.measure.at(0.0)
    own, fine = (AveragedNeuron(NEURON, n).field(X, theta, mass) for n in (121, 3201))
    torch.testing.assert_close(own, fine, rtol=1e-9, atol=1e-11)
    with pytest.raises(ValueError, match="theta: preactivations reach .* too wide"):
        AveragedNeuron(NEURON).field(1e3 * X, theta, mass)
