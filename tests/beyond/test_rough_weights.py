import pytest
import torch
from problems import DOUBLE, generator

from mflib.beyond.rough_weights import fractional_covariance, fractional_noise


@pytest.mark.parametrize("H", [0.3, 0.5, 0.8])
def test_the_sum_of_steps_grows_with_the_hurst_exponent(H):
    ones = torch.ones(20, dtype=DOUBLE)
    assert float(ones @ fractional_covariance(20, H) @ ones) == pytest.approx(20 ** (2 * H))


def test_paths_have_the_covariance_and_are_independent_of_each_other():
    paths = fractional_noise(6, 0.8, generator(), (40000, 2))
    covariance = torch.einsum("kbi,lbj->ijkl", paths, paths) / 40000
    torch.testing.assert_close(covariance[0, 0], fractional_covariance(6, 0.8), rtol=0, atol=0.03)
    assert covariance[0, 1].abs().max() < 0.03
    assert not torch.equal(paths, fractional_noise(6, 0.8, generator(1), (40000, 2)))


@pytest.mark.parametrize(("L", "H", "word"), [(0, 0.5, "L: "), (3, 1.0, "H: "), (3, 0.0, "H: ")])
def test_impossible_numbers_are_refused(L, H, word):
    with pytest.raises(ValueError, match=word):
        fractional_covariance(L, H)
    with pytest.raises(TypeError, match="generator: "):
        fractional_noise(3, 0.5, None)
