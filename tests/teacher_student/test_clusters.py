"""Rates of clusters against automatic differentiation and by hand."""

import pytest
import torch
from problems import DOUBLE, randn

from mflib.teacher_student.clusters import cluster_blocks, cluster_rates, schur_rate
from mflib.teacher_student.ridge import RidgeBlock
from mflib.teacher_student.two_layer import TwoLayer

ALPHA = torch.tensor([0.7, 0.3], dtype=DOUBLE)


def problem(sigma="tanh"):
    x, mass = randn(6, 2), torch.tensor([0.1, 0.3, 0.2, 0.15, 0.05, 0.2], dtype=DOUBLE)
    centres = randn(2, 2, seed=1)
    return TwoLayer.taught(RidgeBlock(2, sigma), x, centres, ALPHA, mass), centres


def test_the_rates_are_the_eigenvalues_of_the_linearised_flow():
    law, centres = problem()
    jacobian = torch.autograd.functional.jacobian(lambda q: law.velocity(q, ALPHA), centres)
    rates = -torch.linalg.eigvals(jacobian.reshape(4, 4)).real.sort(descending=True).values
    found = cluster_rates(cluster_blocks(law, centres), ALPHA)
    assert torch.allclose(found, rates, rtol=1e-9)


def test_relu_neurons_on_both_sides_have_the_rates_known_by_hand():
    x = torch.tensor([[1.0], [-1.0]], dtype=DOUBLE)
    centres = torch.tensor([[1.0], [-1.0]], dtype=DOUBLE)
    law = TwoLayer.taught(RidgeBlock(1, "relu"), x, centres, ALPHA)
    rates = cluster_rates(cluster_blocks(law, centres), ALPHA)
    assert torch.allclose(rates, torch.tensor([0.15, 0.35], dtype=DOUBLE))


def test_the_slow_rate_over_its_mass_tends_to_the_schur_complement():
    law, centres = problem()
    H = cluster_blocks(law, centres)
    gaps = []
    for light in (1e-3, 1e-4):
        alpha = torch.tensor([1 - light, light], dtype=DOUBLE)
        gaps.append(abs(cluster_rates(H, alpha)[0] / light - schur_rate(H)))
    assert 9 < gaps[0] / gaps[1] < 11


def test_bad_input_is_named():
    law, centres = problem()
    with pytest.raises(ValueError, match="centres"):
        cluster_blocks(law, centres[:, :1])
    with pytest.raises(ValueError, match="blocks"):
        schur_rate(cluster_blocks(law, randn(3, 2)))
    weighted = TwoLayer(RidgeBlock(2, "tanh", True), law.x, law.y)
    with pytest.raises(ValueError, match="law"):
        cluster_blocks(weighted, centres)
