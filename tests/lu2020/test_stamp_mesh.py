import math

import pytest
import torch
from problems import DOUBLE
from scipy.integrate import quad

from mflib.lu2020.stamp_mesh import Curve, euler_end, mesh_constants, train_steps

CURVE = Curve(
    lambda t: 0.2 * torch.exp(3 * t),
    lambda t: 0.6 * torch.exp(3 * t),
    0.2 * math.expm1(3) / 3,
)


def test_two_steps_by_hand():
    steps = torch.tensor([0.3, 0.7], dtype=DOUBLE)
    by_hand = (1 + 0.3 * 0.2) * (1 + 0.7 * 0.2 * math.exp(0.9))
    assert float(euler_end(CURVE, steps)) == pytest.approx(by_hand)


def test_the_constants_agree_with_another_quadrature():
    end = math.exp(CURVE.integral)

    def e(t):
        return 0.5 * end * (0.6 * math.exp(3 * t) + 0.04 * math.exp(6 * t))

    found = mesh_constants(CURVE)
    assert found.uniform == pytest.approx(quad(e, 0, 1)[0], rel=1e-10)
    assert found.best == pytest.approx(quad(lambda t: e(t) ** 0.5, 0, 1)[0] ** 2, rel=1e-10)
    assert found.best < found.uniform


def test_a_curve_with_a_constant_error_density_needs_no_adaptation():
    flat = Curve(lambda t: 0 * t + 0.7, lambda t: 0 * t, 0.7)
    found = mesh_constants(flat)
    assert found.best == pytest.approx(found.uniform)
    assert found.uniform == pytest.approx(0.5 * math.exp(0.7) * 0.49)
    torch.testing.assert_close(
        train_steps(flat, 6), torch.full((6,), 1 / 6, dtype=DOUBLE), rtol=1e-4, atol=1e-6
    )


def test_trained_steps_are_a_minimum_and_follow_the_predicted_density():
    steps, end = train_steps(CURVE, 64), math.exp(CURVE.integral)
    assert float(steps.sum()) == pytest.approx(1.0) and (steps > 0).all()
    error = abs(float(euler_end(CURVE, steps)) - end)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        near = steps * (0.1 * torch.randn(64, generator=generator, dtype=DOUBLE)).exp()
        assert abs(float(euler_end(CURVE, near / near.sum())) - end) > error
    at = steps.cumsum(0) - steps / 2
    density = (CURVE.slope(at) + CURVE.value(at) ** 2).sqrt()
    product = (steps * density)[4:-4]
    assert float(product.max() / product.min()) < 1.1


def test_bad_input_names_the_argument():
    with pytest.raises(ValueError, match="n: expected an integer >= 1"):
        train_steps(CURVE, 0)
    with pytest.raises(ValueError, match="nodes"):
        mesh_constants(CURVE, 0)
