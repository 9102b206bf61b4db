import pytest
import torch
from problems import generator

from mflib.sobol import sobol_gaussian


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
        (dict(dim=0), "dim"),
        (dict(points=7, mirrored=1), "even number of points"),
        (dict(mirrored=4), "0 < mirrored <= 3"),
    ],
)
def test_impossible_sizes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sobol_gaussian(**(dict(points=8, dim=3, generator=generator()) | arguments))
    with pytest.raises(TypeError, match="generator"):
        sobol_gaussian(8, 3, 0)
