"""The perturbed law: negative mass by sampling and by hand, pairings by autograd."""

import math

import numpy as np
import pytest
import torch

from mflib.blocks import NeuronBlock
from mflib.lu2020.descent import Direction, pair_along
from mflib.lu2020.perturbed_law import negative_mass, pairings
from mflib.measures import LayeredMeasure
from mflib.problem import Problem

DOUBLE = dict(dtype=torch.float64)


@pytest.mark.parametrize("speed", [1.0, -1.7])
def test_slow_boxes_lose_the_mass_found_by_hand(speed):
    s, width, step = 0.3, 0.2, 0.15
    by_hand = step * abs(speed) * width / (2 * s) * (0.5 - 2 / math.pi**2)
    assert negative_mass(speed, s, width, step) == pytest.approx(by_hand, rel=1e-12)


def test_fast_boxes_lose_the_mass_that_a_fine_grid_finds():
    speed, s, width, step = 9.0, 0.3, 0.25, 0.2
    t = np.linspace(-width, width, 4001)
    x = np.linspace(-3, 3, 6001)
    phi = (1 + np.cos(np.pi * t / width)) / (2 * width)
    box = lambda centre: (np.abs(x - centre) < s) / (2 * s)  # noqa: E731
    rows = [
        np.maximum(step * p * box(0.0) - box(speed * u), 0).sum()
        for u, p in zip(t, phi, strict=True)
    ]
    grid = float(np.sum(rows)) * (t[1] - t[0]) * (x[1] - x[0])
    assert negative_mass(speed, s, width, step) == pytest.approx(grid, rel=3e-3)


def test_the_repaired_form_and_a_law_at_rest_lose_nothing():
    assert negative_mass(2.0, 0.3, 0.2, 0.2, "repaired") == 0.0
    assert negative_mass(0.0, 0.3, 0.2, 0.2) == 0.0


def moving(seed=0, layers=6):
    g = torch.Generator().manual_seed(seed)
    block = NeuronBlock(2, "tanh")
    theta = torch.randn(2, layers, 3, block.k, generator=g, **DOUBLE)
    weights = torch.rand(2, layers, 3, generator=g, **DOUBLE) + 0.2
    x, y = torch.randn(2, 4, 2, generator=g, **DOUBLE), torch.randn(2, 4, generator=g, **DOUBLE)
    mass = torch.tensor([0.1, 0.2, 0.3, 0.4], **DOUBLE)
    problem = Problem(block, x, y, mass=mass, steps=layers)
    cloud = torch.randn(2, 5, block.k, generator=g, **DOUBLE)
    share = torch.rand(2, 5, generator=g, **DOUBLE)
    way = Direction(cloud, share / share.sum(-1, keepdim=True), torch.zeros(2, **DOUBLE))
    phi = torch.rand(3, layers, generator=g, **DOUBLE)
    return problem, LayeredMeasure(theta, weights), way, phi


def test_the_repaired_pairing_is_that_of_the_construction():
    problem, rho, way, phi = moving()
    found = (pairings(problem, rho, way, phi, 2, "repaired") * problem.mass).sum(-1)
    one = torch.stack([pair_along(problem, rho, way, row) for row in phi], -1)
    torch.testing.assert_close(found, one, rtol=1e-12, atol=1e-15)


def test_the_printed_pairing_is_the_derivative_of_the_loss_along_the_signed_law():
    problem, rho, way, phi = moving()
    layer, row = 2, phi[1]
    share = rho.weights / rho.depth_density.unsqueeze(-1)
    lam = torch.zeros((), requires_grad=True, **DOUBLE)
    added = row[:, None] * way.weights.unsqueeze(-2)
    taken = -row[:, None] * share[:, layer : layer + 1]
    law = LayeredMeasure(
        torch.cat(
            [
                rho.theta,
                way.theta.unsqueeze(-3).expand(-1, 6, -1, -1),
                rho.theta[:, layer : layer + 1].expand(-1, 6, -1, -1),
            ],
            -2,
        ),
        torch.cat([rho.weights, lam * added, lam * taken], -1),
    )
    found = (pairings(problem, rho, way, phi, layer) * problem.mass).sum(-1)[:, 1]
    loss = problem.loss(law)
    slopes = [torch.autograd.grad(v, lam, retain_graph=True)[0] for v in loss]
    torch.testing.assert_close(found, torch.stack(slopes), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: negative_mass(1.0, 0.0, 0.2, 0.1), "half_width"),
        (lambda: negative_mass(math.nan, 0.1, 0.2, 0.1), "speed"),
        (lambda: negative_mass(1.0, 0.1, 0.2, 0.3), "step"),
        (lambda: negative_mass(1.0, 0.1, 0.2, 0.1, "other"), "form"),
        (lambda: pairings(*moving(), 6), "layer"),
    ],
)
def test_impossible_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
