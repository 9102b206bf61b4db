import pytest
import torch
from problems import DOUBLE, generator

from mflib.measures import CurveMeasure
from mflib.sampling import (
    gaussian_measure,
    independent_layers,
    sobol_gaussian,
    wave_measure,
)


def test_points_are_gaussian_and_quieter_than_random_ones():
    points = sobol_gaussian(1024, 4, generator(), batch=(50,))
    assert points.shape == (50, 1024, 4) and points.dtype == torch.float64
    second = points.mT @ points / 1024
    off = (second - torch.eye(4)).abs()
    # independent points would give a standard deviation of 0.031 and 0.044
    assert second[:, 0, 1].std() < 0.01 and second[:, 0, 0].std() < 0.02
    assert off.mean(0).max() < 0.02
    within = (points.abs() < 1).double().mean()
    assert abs(float(within) - 0.6827) < 2e-3


def test_mirrored_points_come_with_their_image():
    points = sobol_gaussian(64, 5, generator(), mirrored=2)
    a, b = points[:32], points[32:]
    assert torch.equal(a[:, :2], -b[:, :2]) and torch.equal(a[:, 2:], b[:, 2:])


def test_a_seed_gives_the_same_points_and_batch_entries_differ():
    first, again = (sobol_gaussian(16, 3, generator(4), batch=(2, 3)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (2, 3, 16, 3)
    assert len({float(v) for v in first[..., 0, 0].flatten()}) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(points=0), "points"),
        (dict(k=0), "k: expected"),
        (dict(points=7, mirrored=1), "even number of points"),
        (dict(mirrored=4), "0 < mirrored <= 3"),
    ],
)
def test_impossible_sizes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sobol_gaussian(**(dict(points=8, k=3, generator=generator()) | arguments))
    with pytest.raises(TypeError, match="generator"):
        sobol_gaussian(8, 3, 0)


def test_the_same_seed_gives_the_same_measure_and_another_one_differs():
    draw = [gaussian_measure(2, 3, 4, generator(s)).theta for s in (0, 0, 1)]
    assert torch.equal(draw[0], draw[1]) and not torch.equal(draw[0], draw[2])


def test_gaussian_particles_have_the_stated_scale():
    theta = gaussian_measure(10, 1000, 4, generator(), scale=3.0).theta
    assert float(theta.std()) == pytest.approx(3.0, rel=0.02)
    assert float(theta.mean()) == pytest.approx(0.0, abs=0.05)


def test_waves_have_period_one_and_uniform_phases():
    rho = wave_measure(20_000, 2, generator(), scale=2.0)
    torch.testing.assert_close(rho.theta(0.0), rho.theta(1.0))
    # A + B sin(2 pi t + phi): mean square scale^2 (1 + 1/2) at every depth
    for t in (0.0, 0.3, 0.8):
        assert float(rho.theta(t).square().mean()) == pytest.approx(6.0, rel=0.03)
    # half a period apart the waves are opposite: the correlation is (1 - 1/2) / (1 + 1/2)
    product = float((rho.theta(0.1) * rho.theta(0.6)).mean())
    assert product == pytest.approx(2.0, abs=0.15)
    quarter = float((rho.theta(0.1) * rho.theta(0.35)).mean())
    assert quarter == pytest.approx(4.0, abs=0.15)


def test_independent_layers_draw_one_particle_each_at_uniform_sorted_depths():
    # particle i at depth t carries (i, t): what is drawn can be read off
    def theta(t):
        t = torch.as_tensor(t, dtype=DOUBLE)
        t = t.expand(*t.shape[:-2], 3, 1) if t.ndim else t.expand(3, 1)
        return torch.cat([torch.arange(3.0, dtype=DOUBLE)[:, None].expand_as(t), t], -1)

    nets = independent_layers(CurveMeasure(theta), 40, generator(), (500,))
    assert nets.theta.shape == (500, 40, 1, 2)
    which, depth = nets.theta[..., 0, 0], nets.theta[..., 0, 1]
    assert (depth.diff(dim=-1) >= 0).all() and (0 <= depth).all() and (depth <= 1).all()
    assert float(depth.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(depth.std()) == pytest.approx(12**-0.5, abs=0.01)
    shares = torch.bincount(which.long().flatten(), minlength=3) / which.numel()
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.02)


def test_independent_networks_may_have_several_batch_dimensions():
    curve = wave_measure(3, 2, generator())
    many = independent_layers(curve, 5, generator(1), (2, 3)).theta
    assert many.shape == (2, 3, 5, 1, 2) and len(set(many[..., 0, 0, 0].flatten().tolist())) == 6


def test_impossible_sizes_of_measures_are_named():
    with pytest.raises(ValueError, match="layers.*>= 1"):
        gaussian_measure(0, 2, 3, generator())
    with pytest.raises(ValueError, match="tilt"):
        wave_measure(2, 3, generator(), tilt=1.5)
    with pytest.raises(TypeError, match="generator.*manual_seed"):
        gaussian_measure(1, 2, 3, None)
