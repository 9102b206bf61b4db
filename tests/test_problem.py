import math

import pytest
import torch
from problems import DOUBLE, constant, generator, randn

from mflib.blocks import MatrixBlock, NeuronBlock
from mflib.measures import (
    CurveMeasure,
    LayeredMeasure,
    gaussian_measure,
    mixture,
    wave_measure,
)
from mflib.problem import Problem
from mflib.stepping import METHODS


def problem(block=None, method="euler", steps=6, **kwargs):
    block = block or MatrixBlock(3, "tanh")
    return Problem(block, randn(7, 3), randn(7, seed=1), steps=steps, method=method, **kwargs)


def test_the_loss_of_the_zero_network_is_that_of_the_input():
    task = problem()
    zero = LayeredMeasure(torch.zeros(6, 2, 9, dtype=DOUBLE))
    assert float(task.loss(zero)) == pytest.approx(
        float(0.5 * (task.x[:, 0] - task.y).square().mean()))


def test_the_loss_of_a_linear_network_is_known():
    task = Problem(MatrixBlock(1, "linear"), torch.tensor([[1.0], [2.0]]).double(),
                   torch.tensor([0.0, 0.0]).double(), steps=100, method="rk4")
    assert float(task.loss(constant([[0.5]]))) == pytest.approx(0.25 * 5 * math.e, rel=1e-8)


def test_lift_readout_and_mass_enter_as_stated():
    lift, readout = randn(3, 2), randn(3, seed=4)
    mass = torch.tensor([0.2, 0.3, 0.5], dtype=DOUBLE)
    task = Problem(MatrixBlock(3), randn(3, 2), randn(3, seed=1), lift, readout, mass, steps=2)
    zero = LayeredMeasure(torch.zeros(2, 1, 9, dtype=DOUBLE))
    residual = task.x @ lift.T @ readout - task.y
    assert float(task.loss(zero)) == pytest.approx(float((mass * residual**2).sum() / 2))


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("block", [MatrixBlock(3, "softplus"), NeuronBlock(3, "tanh")])
def test_gradient_equals_autograd(method, block):
    task = problem(block, method)
    rho = gaussian_measure(6, 4, block.k, generator())
    theta = rho.theta.clone().requires_grad_()
    (expected,) = torch.autograd.grad(task.loss(LayeredMeasure(theta)), theta)
    torch.testing.assert_close(task.gradient(rho), expected * 6 * 4)


@pytest.mark.parametrize("method", list(METHODS))
def test_pairing_is_the_derivative_along_the_segment(method):
    task = problem(method=method)
    rho, nu = wave_measure(4, 9, generator()), wave_measure(3, 9, generator(1), tilt=0.8)
    lam = torch.zeros((), dtype=DOUBLE, requires_grad=True)
    (expected,) = torch.autograd.grad(task.loss(mixture(rho, nu, lam)), lam)
    torch.testing.assert_close(task.pairing(rho, nu), expected)


@pytest.mark.parametrize("method", list(METHODS))
def test_pairing_integrates_the_derivative(method):
    task = problem(method=method)
    rho, nu = gaussian_measure(6, 4, 9, generator()), gaussian_measure(6, 5, 9, generator(1))
    gap = task.derivative(rho, nu.theta).mean() - task.derivative(rho, rho.theta).mean()
    torch.testing.assert_close(task.pairing(rho, nu), gap)


def test_probes_may_be_shared_by_all_layers():
    task, rho, probes = problem(), gaussian_measure(6, 4, 9, generator()), randn(5, 9, seed=7)
    torch.testing.assert_close(
        task.derivative(rho, probes), task.derivative(rho, probes.expand(6, 5, 9)))


def test_particles_may_be_permuted_within_a_layer_but_layers_may_not():
    task, rho = problem(), gaussian_measure(6, 4, 9, generator())
    swapped = LayeredMeasure(rho.theta[:, [2, 0, 3, 1]])
    torch.testing.assert_close(task.loss(swapped), task.loss(rho))
    assert not torch.allclose(task.loss(LayeredMeasure(rho.theta.flip(0))), task.loss(rho))


def test_a_batch_of_problems_equals_its_members():
    block = MatrixBlock(3)
    x, y = randn(2, 7, 3), randn(2, 7, seed=1)
    rho = gaussian_measure(4, 3, 9, generator(), batch=(2,))
    nu = gaussian_measure(4, 3, 9, generator(1), batch=(2,))
    together = Problem(block, x, y, steps=4)
    alone = Problem(block, x[1], y[1], steps=4)
    rho_, nu_ = LayeredMeasure(rho.theta[1]), LayeredMeasure(nu.theta[1])
    torch.testing.assert_close(together.pairing(rho, nu)[1], alone.pairing(rho_, nu_))
    torch.testing.assert_close(together.gradient(rho)[1], alone.gradient(rho_))
    torch.testing.assert_close(
        together.derivative(rho, nu.theta)[1], alone.derivative(rho_, nu_.theta))


def test_the_adjoint_obeys_its_bound_and_linear_blocks_attain_it():
    task = problem(method="rk4", steps=32)
    ratio, exponent = task.adjoint_bound(wave_measure(3, 9, generator(), tilt=0.9))
    assert (ratio <= exponent.exp() * (1 + 1e-7)).all()
    assert (ratio >= torch.exp(-exponent) * (1 - 1e-7)).all()
    line = Problem(MatrixBlock(1, "linear"), randn(3, 1), randn(3, seed=2), steps=64,
                   method="rk4")
    ratio, exponent = line.adjoint_bound(constant([[1.5]]))
    torch.testing.assert_close(ratio, exponent.exp(), rtol=1e-7, atol=0)


def test_the_norm_of_the_adjoint_weighs_inputs_by_their_mass():
    mass = torch.tensor([0.7, 0.1, 0.05, 0.05, 0.04, 0.03, 0.03], dtype=DOUBLE)
    task, rho = problem(mass=mass), gaussian_measure(6, 4, 9, generator())
    ratio, _ = task.adjoint_bound(rho)
    p = task.backward(rho).adjoint.p
    norm = (mass * p[0].square().sum(-1)).sum().sqrt()
    torch.testing.assert_close(ratio[0], norm / (2 * task.loss(rho)).sqrt())


@pytest.mark.parametrize("method", list(METHODS))
def test_the_two_layer_network_is_the_first_order_in_the_law(method):
    task, rho = problem(method=method), wave_measure(4, 9, generator(), scale=0.1, tilt=0.8)
    flat, same = task.two_layer(rho)
    assert float(same.weights.sum()) == pytest.approx(1.0)
    zero = LayeredMeasure(torch.zeros(1, 1, 9, dtype=DOUBLE))
    lam = torch.zeros((), dtype=DOUBLE, requires_grad=True)
    empty = CurveMeasure(lambda t: torch.zeros(1, 9, dtype=DOUBLE))
    (deep,) = torch.autograd.grad(task.residual(mixture(empty, rho, lam)).sum(), lam)
    change = (flat.residual(same) - flat.residual(zero)).sum()
    torch.testing.assert_close(change, deep)


def test_the_two_layer_network_by_hand_and_its_adjoint_is_the_residual():
    task, rho = problem(), gaussian_measure(6, 4, 9, generator(), batch=(2,))
    flat, same = task.two_layer(rho)
    every = rho.theta[1].reshape(-1, 3, 3)
    output = (task.x + torch.tanh(torch.einsum("jab,ib->ija", every, task.x)).mean(1))[:, 0]
    torch.testing.assert_close(flat.residual(same)[1], output - task.y)
    costate = flat.backward(same).adjoint.p[1, -1]
    torch.testing.assert_close(costate[:, 0], output - task.y)


def test_targets_move_to_a_wanted_loss_and_the_residual_keeps_its_shape():
    task, rho = problem(), gaussian_measure(6, 4, 9, generator(), batch=(2,))
    wanted = torch.tensor([0.3, 7.0], dtype=DOUBLE)
    moved = task.at_loss(rho, wanted)
    torch.testing.assert_close(moved.loss(rho), wanted)
    shape = moved.residual(rho) / task.residual(rho)
    torch.testing.assert_close(shape, shape[:, :1].expand_as(shape))
    assert (shape > 0).all()
    done = Problem(task.block, task.x, task.x[:, 0], steps=6)
    zero = LayeredMeasure(torch.zeros(6, 2, 9, dtype=DOUBLE))
    with pytest.raises(ValueError, match="rho: has zero loss"):
        done.at_loss(zero, wanted[0])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(y=randn(6)), "y: holds 6 targets for n = 7"),
        (dict(x=randn(7, 2)), "lift: inputs have dimension 2"),
        (dict(x=randn(7, 3) * math.nan), "x: holds NaN"),
        (dict(mass=torch.ones(7).double()), "mass: must be"),
        (dict(readout=randn(2)), "readout: last dimension"),
        (dict(steps=0), "steps"),
    ],
)
def test_bad_problems_name_the_argument(kwargs, message):
    arguments = dict(block=MatrixBlock(3), x=randn(7, 3), y=randn(7)) | kwargs
    with pytest.raises(ValueError, match=message):
        Problem(**arguments)
