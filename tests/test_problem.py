import math

import pytest
import torch
from problems import DOUBLE, constant, generator, randn

from mflib.blocks import MatrixBlock, NeuronBlock
from mflib.measures import LayeredMeasure, mixture
from mflib.problem import Problem
from mflib.sampling import gaussian_measure, wave_measure
from mflib.stepping import METHODS


def problem(block=None, method="euler", steps=6, **kwargs):
    block = block or MatrixBlock(3, "tanh")
    return Problem(block, randn(7, 3), randn(7, seed=1), steps=steps, method=method, **kwargs)


def test_the_loss_of_the_zero_network_is_that_of_the_input():
    task = problem()
    zero = LayeredMeasure(torch.zeros(6, 2, 9, dtype=DOUBLE))
    assert float(task.loss(zero)) == pytest.approx(
        float(0.5 * (task.x[:, 0] - task.y).square().mean())
    )


def test_the_loss_of_a_linear_network_is_known():
    task = Problem(
        MatrixBlock(1, "linear"),
        torch.tensor([[1.0], [2.0]]).double(),
        torch.tensor([0.0, 0.0]).double(),
        steps=100,
        method="rk4",
    )
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
        task.derivative(rho, probes), task.derivative(rho, probes.expand(6, 5, 9))
    )


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
        together.derivative(rho, nu.theta)[1], alone.derivative(rho_, nu_.theta)
    )


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


@pytest.mark.parametrize("method", list(METHODS))
def test_the_first_variation_is_loss_value_and_gradient_at_the_particles(method):
    task, rho = problem(method=method), gaussian_measure(6, 4, 9, generator(), batch=(2,))
    first = task.first_variation(rho)
    torch.testing.assert_close(first.loss, task.loss(rho))
    torch.testing.assert_close(first.value, task.derivative(rho, rho.theta))
    torch.testing.assert_close(first.gradient, task.gradient(rho))
    again = task.first_variation(rho, task.backward(rho))
    torch.testing.assert_close(again.gradient, first.gradient)


def test_a_pass_knows_loss_output_and_the_states_of_eulers_layers():
    task, rho = problem(), gaussian_measure(6, 4, 9, generator())
    passed = task.backward(rho)
    torch.testing.assert_close(passed.loss, task.loss(rho))
    torch.testing.assert_close(passed.output @ task.readout - task.y, passed.residual)
    assert torch.equal(passed.states, passed.trajectory.X[:-1])
    assert torch.equal(passed.costates, passed.adjoint.p[1:])
    with pytest.raises(ValueError, match="method: a step of rk4 has 4 stages"):
        _ = problem(method="rk4").backward(rho).states


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(method="bogus"), "method: no 'bogus'"),
        (dict(block=3), "block: expected a Block"),
        (dict(y=randn(7).float()), "y: is torch.float32, x is torch.float64"),
        (dict(x=randn(2, 7, 3), y=randn(5, 7)), "y: its batch"),
        (dict(lift=randn(2, 3)), "lift: shape"),
    ],
)
def test_a_problem_is_checked_at_the_door(kwargs, message):
    arguments = dict(block=MatrixBlock(3), x=randn(7, 3), y=randn(7)) | kwargs
    with pytest.raises((ValueError, TypeError), match=message):
        Problem(**arguments)


@pytest.mark.parametrize("call", [lambda: MatrixBlock(-1), lambda: NeuronBlock(2, out=0)])
def test_blocks_have_positive_sizes(call):
    with pytest.raises(ValueError, match="d: expected|out: expected"):
        call()
