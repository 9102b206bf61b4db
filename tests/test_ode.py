import math

import pytest
import torch
from problems import DOUBLE, generator, linear_growth, randn, rotation, tanh_flow

from mflib.blocks import MatrixBlock, NeuronBlock
from mflib.measures import CurveMeasure, LayeredMeasure
from mflib.ode import adjoint, flow
from mflib.sampling import gaussian_measure, wave_measure
from mflib.stepping import METHODS


def test_the_orders_are_those_of_the_textbooks():
    assert {name: m.order for name, m in METHODS.items()} == {"euler": 1, "midpoint": 2, "rk4": 4}


@pytest.mark.parametrize("method", list(METHODS))
def test_methods_reach_their_orders_where_the_law_moves_with_depth(method):
    # x' = 2 t exp(-t) x, integrated by hand
    law = CurveMeasure(lambda t: torch.full((1, 1), 2 * t * math.exp(-t), dtype=DOUBLE))
    x, exact = torch.ones(1, 1, dtype=DOUBLE), math.exp(2 - 4 / math.e)
    errors = [
        abs(float(flow(MatrixBlock(1, "linear"), law, x, L, method).X[-1]) - exact)
        for L in (64, 128)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(METHODS[method].order, abs=0.15)


@pytest.mark.parametrize("method", list(METHODS))
def test_methods_reach_their_orders_on_exact_problems(method):
    order = METHODS[method].order
    for block, rho, exact in (
        (*linear_growth(0.7)[:2], 1.3 * linear_growth(0.7)[2]),
        tanh_flow(1.1, 1.3),
    ):
        x = torch.tensor([[1.3]], dtype=DOUBLE)
        errors = [abs(float(flow(block, rho, x, L, method).X[-1, 0, 0]) - exact) for L in (16, 32)]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


def test_a_rotation_is_integrated():
    block, rho, exact = rotation(1.0)
    x = randn(4, 2)
    torch.testing.assert_close(
        flow(block, rho, x, 64, "rk4").X[-1], x @ exact.T, rtol=1e-8, atol=1e-8
    )


def test_one_euler_step_a_layer_is_the_residual_network():
    block, rho, x = NeuronBlock(3, "tanh"), gaussian_measure(4, 5, 7, generator()), randn(6, 3)
    X = x
    for layer in range(4):
        X = X + block.value(X, rho.theta[layer]).mean(1) / 4
    torch.testing.assert_close(flow(block, rho, x, 4).X[-1], X)


def test_the_flow_agrees_with_torchdiffeq():
    torchdiffeq = pytest.importorskip("torchdiffeq")
    block, rho, x = MatrixBlock(3, "tanh"), wave_measure(4, 9, generator()), randn(5, 3)

    def field(t, X):
        return block.field(X, *rho.at(float(t)))

    ends = torch.tensor([0.0, 1.0], dtype=DOUBLE)
    reference = torchdiffeq.odeint(field, x, ends, rtol=1e-11, atol=1e-12)[-1]
    torch.testing.assert_close(
        flow(block, rho, x, 64, "rk4").X[-1], reference, rtol=1e-7, atol=1e-7
    )


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("block", [MatrixBlock(3, "sigmoid"), NeuronBlock(3, "tanh")])
def test_adjoint_equals_autograd_at_every_depth(method, block):
    rho, x, p1 = wave_measure(4, block.k, generator()), randn(5, 3), randn(5, 3, seed=1)
    trajectory = flow(block, rho, x, 6, method)
    p = adjoint(block, trajectory, p1).p
    for layer in range(6):
        # start again from the state at this layer, with the remaining steps
        start = trajectory.X[layer].clone().requires_grad_()
        X = start
        for step in range(layer, 6):
            k = []
            tableau = METHODS[method]
            for s, row in enumerate(tableau.a):
                at = X + sum((a * v for a, v in zip(row, k, strict=True)), 0.0) / 6
                k.append(block.field(at, trajectory.theta[step, s], trajectory.weights[step, s]))
            X = X + sum(b * v for b, v in zip(tableau.b, k, strict=True)) / 6
        (expected,) = torch.autograd.grad((X * p1).sum(), start)
        torch.testing.assert_close(p[layer], expected)


def test_adjoint_equals_finite_differences():
    block, rho = MatrixBlock(2, "tanh"), gaussian_measure(5, 3, 4, generator())
    x, v, p1 = randn(3, 2), randn(3, 2, seed=1), randn(3, 2, seed=2)
    h = 1e-6
    ends = [flow(block, rho, x + s * h * v, 5).X[-1] for s in (1, -1)]
    slope = ((ends[0] - ends[1]) / (2 * h) * p1).sum(-1)
    p0 = adjoint(block, flow(block, rho, x, 5), p1).p[0]
    torch.testing.assert_close((p0 * v).sum(-1), slope, rtol=1e-8, atol=1e-8)


def test_the_euler_costate_of_a_layer_is_the_adjoint_at_its_end():
    block, rho = MatrixBlock(2, "tanh"), gaussian_measure(5, 3, 4, generator())
    back = adjoint(block, flow(block, rho, randn(3, 2), 5), randn(3, 2, seed=2))
    assert torch.equal(back.stages[:, 0], back.p[1:])


def test_the_linear_adjoint_is_exponential():
    block, rho, growth = linear_growth(-0.5)
    trajectory = flow(block, rho, torch.ones(1, 1, dtype=DOUBLE), 50, "rk4")
    p = adjoint(block, trajectory, torch.ones(1, 1, dtype=DOUBLE)).p
    assert float(p[0]) == pytest.approx(growth, rel=1e-9)


def test_substeps_of_a_layered_measure_do_not_straddle_its_jumps():
    rho = LayeredMeasure(torch.tensor([[[1.0]], [[-2.0]]], dtype=DOUBLE))
    X = flow(MatrixBlock(1, "linear"), rho, torch.ones(1, 1, dtype=DOUBLE), 64, "rk4").X[-1]
    # a step over the jump would leave an error of order 1/64
    assert float(X) == pytest.approx(math.exp(0.5 - 1.0), rel=1e-7)


def test_a_batch_of_measures_equals_its_members():
    block, x = MatrixBlock(3, "tanh"), randn(4, 3)
    rho = gaussian_measure(4, 5, 9, generator(), batch=(2,))
    together = flow(block, rho, x, 8, "midpoint").X
    alone = flow(block, LayeredMeasure(rho.theta[1]), x, 8, "midpoint").X
    torch.testing.assert_close(together[1], alone)


def test_blow_up_is_reported():
    block, rho = MatrixBlock(1, "quadratic"), LayeredMeasure(torch.full((1, 1, 1), 40.0).double())
    with pytest.raises(ValueError, match="left the finite numbers"):
        flow(block, rho, torch.ones(1, 1, dtype=DOUBLE), 64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b, r: flow(b, r, randn(4, 2), 4), "x: last dimension is 2, expected 3"),
        (lambda b, r: flow(b, r, randn(4, 3), 0), "steps"),
        (lambda b, r: flow(b, r, randn(4, 3), 4, "heun"), "method.*choose one of"),
        (lambda b, r: flow(NeuronBlock(3, out=1), r, randn(4, 3), 4), "block.*equal"),
        (lambda b, r: flow(b, r, randn(4, 3) * math.inf, 4), "x: holds NaN"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(MatrixBlock(3), gaussian_measure(4, 2, 9, generator()))
