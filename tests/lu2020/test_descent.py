import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.blocks import MatrixBlock, NeuronBlock
from mflib.lu2020.descent import bump, descent_direction, pair_along
from mflib.measures import LayeredMeasure
from mflib.problem import Problem
from mflib.sampling import gaussian_measure

L = 32
BLOCK = NeuronBlock(2, "tanh")
TASK = Problem(BLOCK, randn(6, 2), randn(6, seed=1), steps=L)
RHO = gaussian_measure(L, 3, BLOCK.k, generator(2))


def test_the_direction_is_a_probability_measure_that_meets_its_target():
    direction = descent_direction(TASK, RHO, 10, generator())
    assert (direction.weights >= 0).all()
    assert float(direction.weights.sum()) == pytest.approx(1.0)
    assert float(direction.misfit) < 1e-9


def test_the_pairing_at_one_layer_is_minus_the_squared_adjoint():
    direction = descent_direction(TASK, RHO, 10, generator())
    phi = torch.zeros(L, dtype=DOUBLE)
    phi[10] = L
    p = TASK.backward(RHO).adjoint.p[11]
    assert float(pair_along(TASK, RHO, direction, phi)) == pytest.approx(
        -float(p.square().sum(-1).mean()), rel=1e-8
    )


def test_the_pairing_is_the_slope_of_the_loss():
    direction, phi, r = descent_direction(TASK, RHO, 10, generator()), bump(L, 0.3, 0.1), 1e-7
    losses = []
    for step in (r, -r):
        old = RHO.weights * (1 - step * phi[:, None])
        new = step * phi[:, None] * direction.weights
        theta = torch.cat([RHO.theta, direction.theta.expand(L, -1, -1)], 1)
        moved = LayeredMeasure(theta, torch.cat([old, new], 1))
        assert float(moved.depth_density.mean()) == pytest.approx(1.0)
        losses.append(float(TASK.loss(moved)))
    slope = (losses[0] - losses[1]) / (2 * r)
    assert float(pair_along(TASK, RHO, direction, phi)) == pytest.approx(slope, rel=1e-4)


def test_the_bump_has_mean_one_and_the_stated_centre_and_width():
    t = (torch.arange(400, dtype=DOUBLE) + 1) / 400
    phi = bump(400, 0.4, 0.05)
    mean = float((phi * t).mean())
    assert float(phi.mean()) == pytest.approx(1.0)
    assert mean == pytest.approx(0.4, abs=1e-6)
    assert float((phi * (t - mean) ** 2).mean()) ** 0.5 == pytest.approx(0.05, rel=1e-6)


def test_a_layer_of_another_mass_is_divided_by_it():
    heavy = LayeredMeasure(RHO.theta, 2.5 * RHO.weights)
    direction = descent_direction(TASK, heavy, 10, generator())
    phi = torch.zeros(L, dtype=DOUBLE)
    phi[10] = L
    p = TASK.backward(heavy).adjoint.p[11]
    assert float(pair_along(TASK, heavy, direction, phi)) == pytest.approx(
        -float(p.square().sum(-1).mean()), rel=1e-8
    )


def test_the_misfit_is_relative_and_of_order_one_when_neurons_cannot_meet_the_target():
    direction = descent_direction(TASK, RHO, 10, generator(), features=6)
    passed = TASK.backward(RHO)
    X = passed.states[10]
    target = BLOCK.field(X, RHO.theta[10], RHO.weights[10]) - passed.costates[10]
    reached = BLOCK.field(X, direction.theta, direction.weights)
    expected = float((reached - target).norm() / target.norm())
    assert float(direction.misfit) == pytest.approx(expected, rel=1e-3, abs=1e-12)


def test_a_batch_equals_its_members():
    rho = gaussian_measure(L, 3, BLOCK.k, generator(2), batch=(2,))
    task = Problem(BLOCK, randn(2, 6, 2), randn(2, 6, seed=1), steps=L)
    direction = descent_direction(task, rho, 5, generator())
    together = pair_along(task, rho, direction, bump(L, 0.2, 0.1))
    alone = Problem(BLOCK, task.x[1], task.y[1], steps=L)
    one = type(direction)(direction.theta[1], direction.weights[1], direction.misfit[1])
    torch.testing.assert_close(
        together[1], pair_along(alone, LayeredMeasure(rho.theta[1]), one, bump(L, 0.2, 0.1))
    )


def test_what_cannot_work_is_refused():
    plain = Problem(MatrixBlock(2), randn(6, 2), randn(6), steps=L)
    with pytest.raises(TypeError, match="NeuronBlock"):
        descent_direction(plain, gaussian_measure(L, 1, 4, generator()), 0, generator())
    with pytest.raises(ValueError, match="layer: expected.*got 32"):
        descent_direction(TASK, RHO, 32, generator())
    with pytest.raises(ValueError, match="features"):
        descent_direction(TASK, RHO, 3, generator(), features=2)
    with pytest.raises(ValueError, match="width"):
        bump(L, 0.5, 0.0)


def test_one_signed_output_weights_reach_only_what_their_cone_holds():
    x, up = randn(6, 2), randn(6, seed=4).abs()
    nothing = LayeredMeasure(torch.zeros(L, 1, BLOCK.k, dtype=DOUBLE))
    pairings = []
    for residual in (up, -up):
        task = Problem(NeuronBlock(2, "sigmoid"), x, x[:, 0] - residual, steps=L)
        direction = descent_direction(task, nothing, 10, generator(), 40, signed=False)
        phi = L * torch.eye(L, dtype=DOUBLE)[10]
        assert (direction.theta[:, :2] >= 0).all() and (direction.weights >= 0).all()
        assert float(direction.weights.sum()) == pytest.approx(1.0)
        pairings.append(float(pair_along(task, nothing, direction, phi) / task.loss(nothing)))
    # a target of -residual < 0 is out of reach, one of +|residual| nearly within
    assert pairings[0] == 0.0
    assert -2.0 - 1e-9 <= pairings[1] < -1.0


def test_one_signed_weights_agree_with_scipy_problem_by_problem():
    from scipy.optimize import nnls

    task = Problem(BLOCK, randn(2, 6, 2), randn(2, 6, seed=1), steps=L)
    rho = gaussian_measure(L, 3, BLOCK.k, generator(2), batch=(2,))
    direction = descent_direction(task, rho, 5, generator(), 30, signed=False)
    passed = task.backward(rho)
    target = BLOCK.field(passed.states[:, 5], rho.theta[:, 5], rho.weights[..., 5, :])
    target = target - passed.costates[:, 5]
    reached = BLOCK.field(passed.states[:, 5], direction.theta, direction.weights)
    for k in (0, 1):
        w, b = direction.theta[k, ::2, 2:4], direction.theta[k, ::2, 4]
        hidden = torch.tanh(passed.states[k, 5] @ w.mT + b)
        for column in (0, 1):
            least = nnls(hidden.numpy(), target[k, :, column].numpy())[1]
            gap = float((reached[k, :, column] - target[k, :, column]).norm())
            assert gap == pytest.approx(least, rel=1e-8, abs=1e-12)
