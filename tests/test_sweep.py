"""The blocked pass against the textbook: whole layers at once, derivatives by autograd."""

from functools import partial

import pytest
import torch
from problems import DOUBLE, generator, randn

import mflib.sweep
from mflib.activations import ACTIVATIONS, Activation, form, tanh_form
from mflib.blocks import MatrixBlock, NeuronBlock
from mflib.measures import LayeredMeasure
from mflib.neurons import Neurons
from mflib.problem import Problem
from mflib.sweep import Layers, sweep


def textbook(block, theta, weights, x):
    """The network as one reads it: X + (1/L) sum_j w_j f(X, theta_j), layer by layer."""
    X = x
    for layer in range(theta.shape[-3]):
        values = block.value(X, theta[..., layer, :, :])
        X = X + torch.einsum("...ijd,...j->...id", values, weights[..., layer, :]) / theta.shape[-3]
    return X


def gradient_by_autograd(task, rho):
    """Loss, gradient at the particles in units of the mean field, and u . gradient by u."""
    theta = rho.theta.clone().requires_grad_()
    X = textbook(task.block, theta, rho.weights, task.x @ task.lift.mT)
    loss = 0.5 * (task.mass * (X @ task.readout - task.y).square()).sum(-1)
    (slope,) = torch.autograd.grad(loss.sum(), theta)
    return loss.detach(), slope * rho.layers / rho.weights.unsqueeze(-1)


def problem(block, n=7, batch=(), layers=5, count=6, even=False, size=1.0, seed=0):
    """Random data, masses and particles, different in every layer and problem."""
    d = block.d
    mass = torch.rand(n, generator=generator(seed + 4), dtype=DOUBLE) + 0.1
    task = Problem(
        block,
        randn(*batch, n, d, seed=seed),
        randn(*batch, n, seed=seed + 1),
        readout=randn(d, seed=seed + 2),
        mass=mass / mass.sum(),
        steps=layers,
    )
    theta = size * randn(*batch, layers, count, block.k, seed=seed + 3)
    weights = torch.rand(*batch, layers, count, generator=generator(seed + 5), dtype=DOUBLE)
    return task, LayeredMeasure(theta, None if even else weights + 0.1)


def close(found, expected, rtol=1e-13):
    assert float((found - expected).abs().max()) <= rtol * float(expected.abs().max())


BLOCKS = [NeuronBlock(3, name) for name in ("tanh", "sigmoid", "relu", "softplus", "gelu")]
BLOCKS += [MatrixBlock(2, name) for name in ("tanh", "linear", "sin")]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: f"{type(b).__name__} {b.sigma.name}")
@pytest.mark.parametrize("even", [True, False], ids=["equal masses", "unequal masses"])
@pytest.mark.parametrize("batch", [(), (3, 2)], ids=["one", "batch"])
def test_loss_value_and_gradient_are_those_of_the_textbook(block, even, batch):
    task, rho = problem(block, batch=batch, even=even)
    loss, gradient = gradient_by_autograd(task, rho)
    first = task.first_variation(rho)
    close(first.loss, loss)
    close(first.gradient, gradient)
    passed = task.backward(rho)
    values = block.pairing(passed.states, rho.theta, passed.costates)
    close(first.value, torch.einsum("...lij,i->...lj", values, task.mass))


@pytest.mark.parametrize("n", [31, 129, 300])
@pytest.mark.parametrize("batch", [(), (3,)], ids=["one", "batch"])
def test_blocks_of_samples_add_up(monkeypatch, n, batch):
    task, rho = problem(NeuronBlock(2), n=n, batch=batch, count=5)
    expected = gradient_by_autograd(task, rho)[1]
    for small, room in ((0, 2**25), (0, 2000), (2**13, 2**25), (2**13, 2**14)):
        monkeypatch.setattr(mflib.sweep, "_SMALL", small)  # 0: problems one by one
        monkeypatch.setattr(mflib.sweep, "_ROOM", room)
        close(task.gradient(rho), expected)
        passed = task.backward(rho)
        close(passed.output, textbook(task.block, rho.theta, rho.weights, task.x))
        close(task.first_variation(rho, passed).gradient, expected)


def test_wide_layers_are_filled_up_with_neurons_that_do_nothing():
    task, rho = problem(NeuronBlock(2), count=101, layers=2)
    close(task.gradient(rho), gradient_by_autograd(task, rho)[1])


def test_single_precision_stays_single():
    task, rho = problem(NeuronBlock(2), n=40)
    expected = task.gradient(rho)
    single = Problem(
        task.block,
        task.x.float(),
        task.y.float(),
        readout=task.readout.float(),
        mass=(task.mass / task.mass.sum()).float(),
        steps=task.steps,
    )
    found = single.gradient(LayeredMeasure(rho.theta.float(), rho.weights.float()))
    assert found.dtype == torch.float32
    close(found.double(), expected, 3e-6)


def test_a_law_shared_by_a_batch_of_data_is_not_mixed_up():
    task, rho = problem(NeuronBlock(2), batch=(3,))
    shared = LayeredMeasure(rho.theta[1], rho.weights[1])
    whole = task.gradient(shared)
    for b in range(3):
        alone = Problem(task.block, task.x[b], task.y[b], None, task.readout, task.mass, task.steps)
        close(whole[b], alone.gradient(shared))


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_both_forms_of_tanh_agree_and_the_variable_chooses(monkeypatch, name):
    task, rho = problem(NeuronBlock(2), n=50)
    monkeypatch.setenv("MFLIB_TANH", name)
    assert tanh_form() == name
    assert form(ACTIVATIONS["tanh"], bound=1.0).name == name
    close(task.gradient(rho), gradient_by_autograd(task, rho)[1])
    monkeypatch.setenv("MFLIB_TANH", "fast")
    with pytest.raises(ValueError, match="MFLIB_TANH: is 'fast'"):
        tanh_form()


def test_small_preactivations_keep_their_digits(monkeypatch):
    # the sigmoid is exact to the rounding of 1: a small tanh made from it is not
    def error(size):
        task, rho = problem(NeuronBlock(2), n=50, size=size)
        found, expected = task.gradient(rho)[..., :2], gradient_by_autograd(task, rho)[1][..., :2]
        return float((found - expected).abs().max() / expected.abs().max())

    monkeypatch.setenv("MFLIB_TANH", "sigmoid")
    assert max(error(1e-3), error(1e-6)) < 1e-14
    monkeypatch.setattr("mflib.activations._SMALL", 0.0)
    assert error(1e-6) > 1e-12


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_forms_give_value_slope_and_curvature(name):
    sigma = ACTIVATIONS[name]
    z = torch.cat([randn(200, seed=2), torch.tensor([0.0, 30.0, -30.0, 800.0, -800.0])]).double()
    for way in sigma.forms or (form(sigma),):
        tiles = [way.scale * z, *(torch.empty_like(z) for _ in range(way.tiles - 1))]
        way.state(*tiles)
        finite = sigma.f(z).isfinite()
        value = way.outer * tiles[0] - float(way.shift)
        torch.testing.assert_close(value[finite], sigma.f(z)[finite], rtol=1e-14, atol=4e-16)
        slope = torch.ones_like(z)
        way.slope(slope, *tiles)
        torch.testing.assert_close(way.inner * slope, sigma.df(z), rtol=1e-12, atol=4e-16)
        if way.curve:
            bend = (way.curve[0] + way.curve[1] * tiles[0]) * way.inner * slope
            torch.testing.assert_close(bend, sigma.d2f(z), rtol=1e-12, atol=1e-15)


def test_an_activation_of_ones_own_takes_the_pass_too():
    cube = Activation("cube", lambda z: z**3, lambda z: 3 * z**2, lambda z: 6 * z)
    task, rho = problem(NeuronBlock(2, cube), size=0.3)
    close(task.gradient(rho), gradient_by_autograd(task, rho)[1])


@pytest.mark.parametrize("sigma", ["tanh", "softplus"])
@pytest.mark.parametrize("way", ["tanh", "sigmoid"])
def test_the_laplacian_is_the_trace_of_the_second_derivative(monkeypatch, sigma, way):
    monkeypatch.setenv("MFLIB_TANH", way)
    block = NeuronBlock(2, sigma)
    x, q = randn(2, 9, 2), randn(2, 9, 2, seed=1)
    theta = randn(2, 1, 4, block.k, seed=2)

    def walk(kernel, x, q):
        kernel.slope(0, kernel.lift(x), q.mT)
        return ()

    layers = Layers(block, theta, torch.ones_like(theta[..., 0]))
    _, _, found = sweep((2,), [layers], [x, q], walk, gathers=True, laplacian=True)

    for b in range(2):
        for j in range(4):
            phi = partial(_pairing_sum, block, x[b], q[b])
            hessian = torch.autograd.functional.hessian(phi, theta[b, 0, j])
            assert float(found[b, 0, j]) == pytest.approx(float(hessian.trace()), rel=1e-12)


def _pairing_sum(block, x, q, one):
    return block.pairing(x, one[None], q).sum()


def test_derivatives_pass_through_the_flow_by_autograd_forward_and_reverse():
    task, rho = problem(NeuronBlock(2))
    loss, direction = (lambda theta: task.loss(LayeredMeasure(theta))), randn(*rho.theta.shape)
    leaf = rho.theta.clone().requires_grad_()
    (reverse,) = torch.autograd.grad(loss(leaf), leaf)
    _, along = torch.autograd.functional.jvp(loss, rho.theta, direction)
    _, forward = torch.func.jvp(loss, (rho.theta,), (direction,))
    close(along, (reverse * direction).sum())
    close(forward, (reverse * direction).sum())
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(rho.theta, direction)
        tangent = torch.autograd.forward_ad.unpack_dual(loss(dual)).tangent
    close(tangent, (reverse * direction).sum())


def test_the_saturated_neuron_has_value_one_and_slope_zero():
    for dtype in (torch.float64, torch.float32):
        s = torch.sigmoid(torch.tensor(80.0, dtype=dtype))
        assert float(s) == 1.0 and float(s * (1 - s)) == 0.0


def test_the_kernel_takes_tiles_of_any_number_of_samples(monkeypatch):
    monkeypatch.setenv("MFLIB_TANH", "sigmoid")
    block, theta, x = NeuronBlock(2), randn(3, 4, 5), randn(9, 2)
    weights = torch.full((3, 4), 0.25, dtype=DOUBLE)
    kernel = Neurons(block, theta, weights, x, 9)
    for part in (x, x[:4], x[2:7]):
        kernel.resize(len(part))
        z = kernel.lift(part)
        found = kernel.field(1, z, torch.zeros_like(z), 1.0)
        close(found[:2].mT, block.field(part, theta[1], weights[1]))
        assert not found[2].any()
