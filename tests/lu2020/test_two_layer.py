import pytest
import torch
from problems import DOUBLE, constant, generator, randn

import mflib.sweep
from mflib.blocks import MatrixBlock
from mflib.claims import Bound, Claim
from mflib.lu2020.two_layer import adjoint_bound, at_loss, two_layer
from mflib.measures import CurveMeasure, LayeredMeasure, mixture
from mflib.problem import Problem
from mflib.sampling import gaussian_measure, wave_measure
from mflib.stepping import METHODS


def problem(method="euler", steps=6, **kwargs):
    block = MatrixBlock(3, "tanh")
    return Problem(block, randn(7, 3), randn(7, seed=1), steps=steps, method=method, **kwargs)


def test_the_adjoint_obeys_its_bound_and_linear_blocks_attain_it():
    task = problem(method="rk4", steps=32)
    ratio, exponent = adjoint_bound(task, wave_measure(3, 9, generator(), tilt=0.9))
    assert (ratio <= exponent.exp() * (1 + 1e-7)).all()
    assert (ratio >= torch.exp(-exponent) * (1 - 1e-7)).all()
    line = Problem(MatrixBlock(1, "linear"), randn(3, 1), randn(3, seed=2), steps=64, method="rk4")
    ratio, exponent = adjoint_bound(line, constant([[1.5]]))
    torch.testing.assert_close(ratio, exponent.exp(), rtol=1e-7, atol=0)


def test_the_norm_of_the_adjoint_weighs_inputs_by_their_mass():
    mass = torch.tensor([0.7, 0.1, 0.05, 0.05, 0.04, 0.03, 0.03], dtype=DOUBLE)
    task, rho = problem(mass=mass), gaussian_measure(6, 4, 9, generator())
    ratio, _ = adjoint_bound(task, rho)
    p = task.backward(rho).adjoint.p
    norm = (mass * p[0].square().sum(-1)).sum().sqrt()
    torch.testing.assert_close(ratio[0], norm / (2 * task.loss(rho)).sqrt())


def test_the_ratio_does_not_depend_on_the_length_of_the_readout():
    rho = gaussian_measure(6, 4, 9, generator())
    w1 = randn(3, seed=5)
    long = problem(readout=w1)
    ratio, _ = adjoint_bound(long, rho)
    assert float(ratio[-1]) == pytest.approx(1.0, abs=1e-14)
    p = long.backward(rho).adjoint.p[0]
    norm = p.square().sum(-1).mean().sqrt()
    torch.testing.assert_close(ratio[0], norm / w1.norm() / (2 * long.loss(rho)).sqrt())
    with pytest.raises(ValueError, match="readout: vanishes"):
        adjoint_bound(problem(readout=torch.zeros(3, dtype=DOUBLE)), rho)


@pytest.mark.parametrize("size", [0.1, 10.0])
def test_an_adjoint_with_another_power_of_the_loss_breaks_the_bound(monkeypatch, size):
    backward = mflib.sweep.backward
    x, y = randn(5, 7, 3), size * randn(5, 7, seed=1)
    task = Problem(MatrixBlock(3, "tanh"), x, y, steps=32, method="rk4")
    rho = wave_measure(3, 9, generator(), scale=0.3, batch=(5,), tilt=0.9)

    def verdict():
        claim = Claim("X-1", paper="lu2020", where="Lemma 1", kind="bound", statement="A bound.")
        lower, upper = (claim.predict(Bound(name, 1e-7)) for name in ("lower", "upper"))
        ratio, exponent = adjoint_bound(task, rho)
        lower.measure(torch.exp(-exponent), ratio)
        upper.measure(ratio, torch.exp(exponent))
        return {lower.verdict, upper.verdict}

    assert verdict() == {"verified"}
    monkeypatch.setattr(  # E in place of sqrt(2E), input by input
        mflib.sweep,
        "backward",
        lambda kernel, stages, p, table: backward(
            kernel, stages, p * p.norm(dim=-2, keepdim=True) / 2, table
        ),
    )
    assert "refuted" in verdict()


@pytest.mark.parametrize("method", list(METHODS))
def test_the_two_layer_network_is_the_first_order_in_the_law(method):
    task, rho = problem(method=method), wave_measure(4, 9, generator(), scale=0.1, tilt=0.8)
    flat, same = two_layer(task, rho)
    assert float(same.weights.sum()) == pytest.approx(1.0)
    zero = LayeredMeasure(torch.zeros(1, 1, 9, dtype=DOUBLE))
    lam = torch.zeros((), dtype=DOUBLE, requires_grad=True)
    empty = CurveMeasure(lambda t: torch.zeros(1, 9, dtype=DOUBLE))
    (deep,) = torch.autograd.grad(task.residual(mixture(empty, rho, lam)).sum(), lam)
    change = (flat.residual(same) - flat.residual(zero)).sum()
    torch.testing.assert_close(change, deep)


def test_the_two_layer_network_by_hand_and_its_adjoint_is_the_residual():
    task, rho = problem(), gaussian_measure(6, 4, 9, generator(), batch=(2,))
    flat, same = two_layer(task, rho)
    every = rho.theta[1].reshape(-1, 3, 3)
    output = (task.x + torch.tanh(torch.einsum("jab,ib->ija", every, task.x)).mean(1))[:, 0]
    torch.testing.assert_close(flat.residual(same)[1], output - task.y)
    costate = flat.backward(same).adjoint.p[1, -1]
    torch.testing.assert_close(costate[:, 0], output - task.y)


def test_targets_move_to_a_wanted_loss_and_the_residual_keeps_its_shape():
    task, rho = problem(), gaussian_measure(6, 4, 9, generator(), batch=(2,))
    wanted = torch.tensor([0.3, 7.0], dtype=DOUBLE)
    moved = at_loss(task, rho, wanted)
    torch.testing.assert_close(moved.loss(rho), wanted)
    shape = moved.residual(rho) / task.residual(rho)
    torch.testing.assert_close(shape, shape[:, :1].expand_as(shape))
    assert (shape > 0).all()
    done = Problem(task.block, task.x, task.x[:, 0], steps=6)
    zero = LayeredMeasure(torch.zeros(6, 2, 9, dtype=DOUBLE))
    with pytest.raises(ValueError, match="rho: has zero loss"):
        at_loss(done, zero, wanted[0])
