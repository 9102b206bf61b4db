import pytest
import torch
from problems import randn

from mflib.gelbrich import gelbrich, moments
from mflib.transport import wasserstein


def covariance(*shape, seed=0):
    root = randn(*shape, shape[-1], seed=seed)
    return root @ root.mT + 0.1 * torch.eye(shape[-1])


def test_gelbrich_equals_the_library():
    import ot

    a, b, S, R = randn(3, seed=1), randn(3, seed=2), covariance(3, seed=3), covariance(3)
    theirs = ot.gaussian.bures_wasserstein_distance(a, b, S, R).squeeze()
    torch.testing.assert_close(gelbrich(a, S, b, R), theirs)
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(gelbrich(a, S), gelbrich(a, S, torch.zeros_like(a), eye))


def test_gelbrich_is_symmetric_and_a_translation_moves_by_its_length():
    a, b, S, R = randn(5, 3, seed=1), randn(5, 3, seed=2), covariance(5, 3), covariance(3)
    torch.testing.assert_close(gelbrich(a, S, b, R), gelbrich(b, R.expand(5, 3, 3), a, S))
    torch.testing.assert_close(gelbrich(a, S, b, S), (a - b).norm(dim=-1))
    torch.testing.assert_close(gelbrich(a, S, b, R)[2], gelbrich(a[2], S[2], b[2], R))


def test_gelbrich_keeps_its_digits_near_the_identity():
    eye, zero = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for epsilon in (1e-3, 1e-7):
        found = gelbrich(zero, (1 + epsilon) ** 2 * eye)
        assert abs(float(found) / (epsilon * 3**0.5) - 1) < 1e-8


def test_gelbrich_of_the_moments_is_below_the_distance_of_the_laws():
    p, q = randn(20, 60, 2), 1.5 * randn(20, 60, 2, seed=1).tanh() + 0.3
    assert (gelbrich(*moments(p), *moments(q)) < wasserstein(p, q)).all()


def test_moments_have_mass_one_over_n():
    p = randn(3, 10, 2)
    mean, cov = moments(p)
    torch.testing.assert_close(mean, p.mean(1))
    torch.testing.assert_close(cov[1], torch.cov(p[1].T, correction=0))


def test_bad_input_is_named():
    p = randn(4, 2)
    with pytest.raises(ValueError, match="cov: is not symmetric"):
        gelbrich(p[0], randn(2, 2))
    with pytest.raises(ValueError, match="cov: .* is not square"):
        gelbrich(p[0], randn(3, 2))
    with pytest.raises(ValueError, match="mean0: last dimension"):
        gelbrich(p[0], torch.eye(2).double(), randn(3), torch.eye(2).double())
    with pytest.raises(ValueError, match="points: holds NaN"):
        moments(p / 0)
