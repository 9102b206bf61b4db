import math

import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.beyond.residual_kernel import (
    relu_covariance,
    residual_covariance,
    residual_covariance_limit,
)


def covariances(seed=0):
    root = randn(5, 3, 6, seed=seed)
    return root @ root.mT


def test_the_relu_covariance_is_a_mean_over_normal_samples():
    k = covariances()[0]
    root = torch.linalg.cholesky(k)
    g = torch.randn(400_000, 3, generator=generator(), dtype=DOUBLE) @ root.mT
    sampled = torch.relu(g).mT @ torch.relu(g) / len(g)
    torch.testing.assert_close(relu_covariance(k), sampled, rtol=0.02, atol=0.02)


def test_it_is_homogeneous_and_halves_the_diagonal():
    k = covariances()
    torch.testing.assert_close(relu_covariance(3.0 * k), 3.0 * relu_covariance(k))
    d = k.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(relu_covariance(k).diagonal(dim1=-2, dim2=-1), d / 2)


def test_the_recursion_is_that_of_wide_networks():
    d, L = 400, 3
    x = randn(2, d)
    h = x.expand(60, 2, d)
    for layer in range(L):
        w = randn(60, d, d, seed=layer + 1) / d**0.5
        h = h + L**-0.7 * torch.relu(h) @ w
    found = (h @ h.mT / d).mean(0)
    torch.testing.assert_close(
        found, residual_covariance(x @ x.mT / d, L, 0.7), rtol=0.05, atol=0.03
    )


def test_norms_have_their_closed_forms_and_depth_approaches_the_limit():
    k = covariances()
    d = k.diagonal(dim1=-2, dim2=-1)
    at = residual_covariance(k, 8).diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(at, d * (1 + 1 / 16) ** 8)
    limit = residual_covariance_limit(k)
    torch.testing.assert_close(limit.diagonal(dim1=-2, dim2=-1), d * math.exp(0.5))
    gaps = [(residual_covariance(k, L) - limit).abs().max() for L in (64, 128)]
    assert float(gaps[0] / gaps[1]) == pytest.approx(2, rel=0.05)


def test_what_is_no_covariance_is_refused():
    with pytest.raises(ValueError, match="k: is no covariance"):
        relu_covariance(torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match="k: shape"):
        residual_covariance(torch.ones(2, 3, dtype=DOUBLE), 4)
    with pytest.raises(ValueError, match="L: "):
        residual_covariance(covariances(), 0)
    with pytest.raises(ValueError, match="steps: "):
        residual_covariance_limit(covariances(), 0)
