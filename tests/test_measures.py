import math

import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.measures import CurveMeasure, LayeredMeasure, mixture
from mflib.sampling import gaussian_measure, wave_measure

ABSCISSAE = (0.0, 0.5, 1.0)


def test_default_weights_are_one_over_n_and_the_mass_is_one():
    rho = LayeredMeasure(randn(3, 5, 2))
    assert torch.allclose(rho.weights, torch.full((3, 5), 0.2, dtype=DOUBLE))
    assert float(rho.depth_density.mean()) == pytest.approx(1.0)


def test_a_layered_measure_repeats_its_cell_at_every_stage_of_every_substep():
    rho = LayeredMeasure(randn(3, 5, 2))
    theta, weights = rho.stages(6, ABSCISSAE)
    assert theta.shape == (6, 3, 5, 2) and weights.shape == (6, 3, 5)
    for step in range(6):
        for stage in range(3):
            assert torch.equal(theta[step, stage], rho.theta[step // 2])


def test_a_curve_measure_is_evaluated_at_the_stage_depths():
    rho = CurveMeasure(lambda t: torch.full((1, 1), t, dtype=DOUBLE))
    theta, _ = rho.stages(4, ABSCISSAE)
    expected = (torch.arange(4)[:, None] + torch.tensor(ABSCISSAE)) / 4
    torch.testing.assert_close(theta[..., 0, 0], expected.double())


def test_a_mixture_keeps_particles_and_blends_weights():
    rho, nu = LayeredMeasure(randn(2, 3, 4)), LayeredMeasure(randn(2, 5, 4, seed=1))
    mixed = mixture(rho, nu, 0.25)
    assert mixed.theta.shape == (2, 8, 4)
    torch.testing.assert_close(mixed.weights[:, :3], 0.75 * rho.weights)
    torch.testing.assert_close(mixed.weights[:, 3:], 0.25 * nu.weights)
    assert float(mixed.depth_density.mean()) == pytest.approx(1.0)


def test_a_mixture_weight_may_carry_batch_dimensions():
    rho, nu = LayeredMeasure(randn(2, 3, 4)), LayeredMeasure(randn(7, 2, 3, 4, seed=1))
    lam = torch.linspace(0, 1, 5, dtype=DOUBLE)[:, None]
    mixed = mixture(rho, nu, lam)
    assert mixed.weights.shape == (5, 7, 2, 6)
    one = mixture(rho, LayeredMeasure(nu.theta[3]), 0.25)
    torch.testing.assert_close(mixed.weights[1, 3], one.weights)
    torch.testing.assert_close(mixed.theta[1, 3], one.theta)


def test_layered_and_curve_measures_mix():
    rho = gaussian_measure(4, 3, 2, generator())
    nu = wave_measure(2, 2, generator(1), tilt=0.5)
    theta, weights = mixture(rho, nu, 0.5).stages(4, (0.0,))
    assert theta.shape == (4, 1, 5, 2)
    assert weights.sum(-1).flatten().tolist() == pytest.approx(
        [0.5 + 0.5 * (1 + 0.5 * math.cos(math.pi * l / 2)) for l in range(4)]
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LayeredMeasure(randn(3, 5)), "theta.*at least 3"),
        (lambda: LayeredMeasure(torch.zeros(1, 0, 2)), "theta.*empty"),
        (lambda: LayeredMeasure(randn(1, 2, 3) * math.nan), "theta.*NaN"),
        (lambda: LayeredMeasure(randn(1, 2, 3), randn(1, 3)), "weights.*does not end"),
        (lambda: LayeredMeasure(randn(3, 2, 2)).stages(4, (0.0,)), "steps.*no multiple"),
        (
            lambda: mixture(LayeredMeasure(randn(1, 2, 3)), LayeredMeasure(randn(2, 2, 3)), 0.5),
            "nu.*layers",
        ),
        (
            lambda: mixture(
                LayeredMeasure(randn(1, 2, 3)), LayeredMeasure(randn(1, 2, 3)), math.nan
            ),
            "lam: expected a finite",
        ),
    ],
)
def test_bad_measures_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_integer_particles_and_a_missing_generator_are_type_errors():
    with pytest.raises(TypeError, match="theta.*double"):
        LayeredMeasure(torch.zeros(1, 2, 3, dtype=torch.int64))
