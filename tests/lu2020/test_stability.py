"""The stability estimate: its parts by hand, the bounds on random laws, where they are attained."""

import math

import pytest
import torch
from problems import DOUBLE, constant, generator, randn

from mflib.blocks import MatrixBlock, NeuronBlock
from mflib.lu2020.layered_transport import enclosure, layer_wasserstein
from mflib.lu2020.stability import stability
from mflib.measures import LayeredMeasure
from mflib.ode import flow
from mflib.sampling import gaussian_measure

LINE = MatrixBlock(1, "linear")
TANH = MatrixBlock(3, "tanh")


def law(seed, scale=0.7, batch=(), layers=4):
    theta = gaussian_measure(layers, 3, 9, generator(seed), scale, batch).theta
    mass = 0.1 + torch.rand(theta.shape[:-1], generator=generator(seed + 50), dtype=DOUBLE)
    return LayeredMeasure(theta, mass / mass.mean((-2, -1), keepdim=True) / 3)


def test_a_linear_block_has_every_part_by_hand():
    x = torch.tensor([[0.5], [-2.0]], dtype=DOUBLE)
    found = stability(LINE, constant([[1.2]]), constant([[0.7]]), x, 64)
    t, size = torch.linspace(0, 1, 65, dtype=DOUBLE)[:, None], x.abs().T
    exact = dict(rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found.gap, ((1.2 * t).exp() - (0.7 * t).exp()) * size, **exact)
    torch.testing.assert_close(found.reach, (1.2 * t).exp() * size, **exact)
    torch.testing.assert_close(found.speed, 1.2 * (1.2 * t).exp() * size, **exact)
    assert float(found.lipschitz) == 0.7 and found.density.tolist() == [1.0, 1.0]
    by_hand = math.exp(0.7) * math.exp(1.2) * math.hypot(1, 0.7 * 1.2 * 2) * size[0]
    torch.testing.assert_close(found.constant(), by_hand, rtol=1e-7, atol=0)
    w = torch.tensor(0.5, dtype=DOUBLE)
    crossing = 4 ** (1 / 3) * found.speed * 0.5 ** (2 / 3)
    torch.testing.assert_close(found.hoelder(w), found.constant() * 0.5 + crossing)


def test_densities_enter_the_constant_and_the_crossing_term():
    x = torch.ones(1, 1, dtype=DOUBLE)
    weights = torch.tensor([[[0.5], [1.5]], [[1.8], [0.2]]], dtype=DOUBLE)
    laws = [LayeredMeasure(torch.full((2, 1, 1), 0.3).double(), w) for w in weights]
    found = stability(LINE, *laws, x, 64)
    assert found.density.tolist() == [1.5, 1.8]
    top = math.exp(0.3)
    by_hand = top * math.hypot(top, 0.3 * 0.3 * top * 3.3)
    assert float(found.constant()) == pytest.approx(by_hand, rel=1e-7)
    w = torch.tensor(0.1, dtype=DOUBLE)
    crossing = found.hoelder(w) - found.constant() * 0.1
    torch.testing.assert_close(crossing, 4 ** (1 / 3) * 0.18 ** (2 / 3) * found.speed)


def test_linear_blocks_attain_the_layered_bound():
    x = torch.tensor([[1.0], [3.0]], dtype=DOUBLE)
    rho, nu = constant([[1.9]]), constant([[0.4]])
    found = stability(LINE, rho, nu, x, 128)
    torch.testing.assert_close(
        found.layerwise(layer_wasserstein(rho, nu)), found.gap[-1], rtol=1e-7, atol=0
    )


def test_the_layered_bound_weighs_each_layer_by_what_follows_it():
    x = torch.ones(1, 1, dtype=DOUBLE)
    found = stability(LINE, constant([[0.5]]), constant([[0.8]]), x, 64)
    value = found.layerwise(torch.tensor([1.0, 3.0], dtype=DOUBLE))

    def piece(a, b):  # integral of exp(.8 (1 - t)) exp(.5 t)
        return math.exp(0.8) * (math.exp(-0.3 * a) - math.exp(-0.3 * b)) / 0.3

    assert float(value) == pytest.approx(piece(0, 0.5) + 3 * piece(0.5, 1), rel=1e-7)
    inside = found.layerwise(torch.ones(1).double(), torch.ones(1, 1).double())
    assert float(inside) == pytest.approx((math.exp(0.8) - 1) / 0.8, rel=1e-7)


def test_weak_rank_one_displacements_attain_the_constant():
    x = randn(4, 3)
    ratios = []
    for eta in (1e-2, 1e-3):
        way = torch.stack([torch.outer(randn(3, seed=2), v) for v in x]).flatten(1)
        way = eta * way / way.norm(dim=-1, keepdim=True)
        zero = LayeredMeasure(torch.zeros(4, 1, 1, 9).double())
        found = stability(TANH, zero, LayeredMeasure(way[:, None, None]), x[:, None], 16)
        ratios.append(found.gap[:, -1, 0] / (found.constant()[:, 0] * eta))
    assert (ratios[1] > 0.995).all() and (ratios[1] < 1).all() and (ratios[0] < ratios[1]).all()


@pytest.mark.parametrize(("sigma", "slope"), [("tanh", 1.0), ("sigmoid", 0.25), ("sin", 1.0)])
def test_the_bounds_hold_for_random_laws(sigma, slope):
    block, x = MatrixBlock(3, sigma), randn(5, 3)
    for scale in (0.05, 0.5):
        rho, nu = law(1, scale, (20,)), law(2, scale, (20,))
        found = stability(block, rho, nu, x, 16, slope)
        w1, w2 = (enclosure(rho, nu, p)[0] for p in (1, 2))
        assert (found.gap[:, -1] <= found.constant() * w1[:, None]).all()
        assert (found.gap <= found.hoelder(w2) + 1e-12).all()
        even = LayeredMeasure(rho.theta), LayeredMeasure(nu.theta)
        flat = stability(block, *even, x, 16, slope)
        assert (flat.gap[:, -1] <= flat.layerwise(layer_wasserstein(*even))).all()


def test_the_gap_is_that_of_the_flows_and_batches_equal_their_members():
    rho, nu, x = law(1, batch=(3,)), law(2, batch=(3,)), randn(3, 5, 3)
    found = stability(TANH, rho, nu, x, 8)
    X, Y = (flow(TANH, r, x, 8, "rk4").X for r in (rho, nu))
    torch.testing.assert_close(found.gap, (X - Y).norm(dim=-1))
    one = [LayeredMeasure(r.theta[2], r.weights[2]) for r in (rho, nu)]
    alone = stability(TANH, *one, x[2], 8)
    torch.testing.assert_close(found.constant()[2], alone.constant())
    w = torch.tensor([0.1, 0.2, 0.3], dtype=DOUBLE)
    torch.testing.assert_close(found.hoelder(w)[2], alone.hoelder(w[2]))
    turned = [LayeredMeasure(r.theta[:, [2, 0, 1]], r.weights[:, [2, 0, 1]]) for r in one]
    torch.testing.assert_close(stability(TANH, *turned, x[2], 8).constant(), alone.constant())


def test_the_slope_of_the_activation_enters_reach_and_growth():
    rho, nu, x = law(1), law(2), randn(2, 3)
    one, quarter = (stability(MatrixBlock(3, "sigmoid"), rho, nu, x, 8, s) for s in (1.0, 0.25))
    torch.testing.assert_close(quarter.reach, one.reach / 4)
    torch.testing.assert_close(quarter.lipschitz, one.lipschitz / 4)
    torch.testing.assert_close(quarter.speed, one.speed)


def test_the_speed_is_the_largest_over_both_laws_and_all_layers():
    rho, nu, x = law(1), law(2), randn(2, 3)
    found = stability(TANH, rho, nu, x, 8)
    X = flow(TANH, rho, x, 8, "rk4").X
    every = torch.cat([r.theta.reshape(-1, 3, 3) for r in (rho, nu)])
    expected = torch.tanh(torch.einsum("jab,tib->tija", every, X)).norm(dim=-1).amax(-1)
    torch.testing.assert_close(found.speed, expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(block=NeuronBlock(3)), TypeError, "block: expected a MatrixBlock"),
        (
            dict(nu=LayeredMeasure(randn(4, 3, 9), torch.ones(4, 3).double())),
            ValueError,
            "nu: total mass",
        ),
        (dict(x=randn(5, 2)), ValueError, "x: last dimension"),
        (dict(steps=6), ValueError, "steps: 6 is no multiple"),
        (dict(steps=0), ValueError, "steps"),
        (dict(slope=0.0), ValueError, "slope"),
    ],
)
def test_bad_arguments_are_named(change, error, message):
    good = dict(block=TANH, rho=law(1), nu=law(2), x=randn(5, 3), steps=8)
    with pytest.raises(error, match=message):
        stability(**(good | change))


def test_layers_that_do_not_fit_the_steps_are_named():
    found = stability(TANH, law(1), law(2), randn(5, 3), 8)
    with pytest.raises(ValueError, match="distance: 2 L = 6 does not divide the 8 steps"):
        found.layerwise(torch.ones(3).double())
