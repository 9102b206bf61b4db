import math

import mpmath
import pytest
import torch
from problems import randn
from torch.distributions import MultivariateNormal

from mflib.kl import (
    donsker_varadhan,
    kl_from_map,
    kl_from_ratio,
    kl_gaussian,
    kl_nearest_neighbour,
    log_ratio_of_map,
)


def covariance(*shape, seed=0):
    root = randn(*shape, shape[-1], seed=seed)
    return root @ root.mT + 0.1 * torch.eye(shape[-1])


def test_the_ratio_form_is_the_divergence_of_discrete_laws():
    mu, nu = torch.softmax(randn(2, 6, 20), -1)
    ratio = (mu / nu).log()
    torch.testing.assert_close(kl_from_ratio(ratio, mu), (mu * ratio).sum(-1))
    torch.testing.assert_close(kl_from_ratio(ratio, 3 * mu), (mu * ratio).sum(-1))


@pytest.mark.parametrize("size", [1e-9, 1e-4, 0.0999, 0.1001, 1.0, -2.0, -0.05])
def test_the_integrand_keeps_its_digits(size):
    with mpmath.workdps(60):
        exact = float(mpmath.mpf(size) + mpmath.expm1(-mpmath.mpf(size)))
    found = float(kl_from_ratio(torch.tensor([size], dtype=torch.float64)))
    assert found == pytest.approx(exact, rel=1e-13)


def test_the_estimator_is_never_negative_and_less_noisy_than_the_mean_log():
    shift = 0.05  # N(shift, 1) against N(0, 1): D = shift x - shift^2 / 2
    x = randn(400, 500) + shift
    ratio = shift * x - shift**2 / 2
    quiet, noisy = kl_from_ratio(ratio), ratio.mean(-1)
    assert (quiet >= 0).all() and (noisy < 0).any()
    assert quiet.std() < 0.1 * noisy.std()
    assert float(quiet.mean()) == pytest.approx(shift**2 / 2, rel=0.02)


def test_a_linear_map_gives_the_gaussian_divergence_pointwise_and_on_average():
    A, m = randn(3, 3) + 2 * torch.eye(3), randn(3, seed=1)
    x = randn(200, 3, seed=2)
    y = x @ A.T + m
    law = MultivariateNormal(m, A @ A.T)
    start = MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    jacobian = A.expand(200, 3, 3)
    ratio = log_ratio_of_map(x, y, jacobian)
    torch.testing.assert_close(ratio, law.log_prob(y) - start.log_prob(y))
    torch.testing.assert_close(kl_from_map(x, y, jacobian), kl_from_ratio(ratio))
    # a reflection changes nothing: the determinant enters by its absolute value
    torch.testing.assert_close(log_ratio_of_map(x, y, -jacobian), ratio)


def test_gaussian_divergence_equals_its_formula_and_known_values():
    a, b, S, R = randn(4, 3), randn(4, 3, seed=1), covariance(4, 3), covariance(4, 3, seed=5)
    inner = torch.linalg.inv(R) @ S
    trace = inner.diagonal(dim1=-2, dim2=-1).sum(-1)
    moved = torch.einsum("bi,bij,bj->b", a - b, torch.linalg.inv(R), a - b)
    expected = 0.5 * (trace + moved - 3 - torch.logdet(inner))
    torch.testing.assert_close(kl_gaussian(a, S, b, R), expected)
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(kl_gaussian(a, eye.expand(4, 3, 3)), a.square().sum(-1) / 2)
    dilation = 1.5 * (4 - 1 - math.log(4))
    assert float(kl_gaussian(0 * a[0], 4 * eye)) == pytest.approx(dilation, rel=1e-14)


def test_weights_are_taken_up_to_a_common_factor():
    mu, nu = torch.softmax(randn(2, 6, 20), -1)
    g = randn(6, 20, seed=3)
    torch.testing.assert_close(
        donsker_varadhan(g, g, 3 * mu, 7 * nu), donsker_varadhan(g, g, mu, nu)
    )
    value = (mu * g).sum(-1) - (nu * g.exp()).sum(-1).log()
    torch.testing.assert_close(donsker_varadhan(g, g, mu, nu), value)


def test_no_function_exceeds_the_divergence_and_the_logarithm_attains_it():
    mu, nu = torch.softmax(randn(2, 6, 20), -1)
    exact, log = (mu * (mu / nu).log()).sum(-1), (mu / nu).log()
    torch.testing.assert_close(donsker_varadhan(log, log, mu, nu), exact)
    torch.testing.assert_close(donsker_varadhan(log + 7, log + 7, mu, nu), exact)
    g = randn(100, 6, 20, seed=3)
    assert (donsker_varadhan(g, g, mu, nu) < exact).all()
    # uniform masses by default, and points of the two laws need not coincide
    p, q = randn(5), randn(9, seed=1)
    by_hand = p.mean() - q.exp().mean().log()
    torch.testing.assert_close(donsker_varadhan(p, q), by_hand)


def test_nearest_neighbours_come_near_a_known_divergence():
    x, y = randn(4000, 2) + 0.5, randn(3000, 2, seed=1)  # the divergence is 0.25
    for k in (1, 5):
        assert kl_nearest_neighbour(x, y, k) == pytest.approx(0.25, abs=0.06)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    assert kl_nearest_neighbour(3 * x @ turn, 3 * y @ turn) == pytest.approx(
        kl_nearest_neighbour(x, y)
    )


def test_nearest_neighbours_by_brute_force():
    x, y = randn(30, 3), randn(20, 3, seed=1)
    inner = (x[:, None] - x).norm(dim=-1).sort(-1)[0][:, 2]
    outer = (x[:, None] - y).norm(dim=-1).sort(-1)[0][:, 1]
    by_hand = 3 * (outer / inner).log().mean() + math.log(20 / 29)
    assert kl_nearest_neighbour(x, y, 2) == pytest.approx(float(by_hand), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kl_from_ratio(randn(3) / 0), "ratio: holds NaN"),
        (lambda: kl_from_ratio(randn(50), torch.full((1,), 0.5)), "weights: last dimension"),
        (lambda: kl_from_ratio(randn(3), torch.tensor([1.0, -1.0, 1.0])), "weights: masses"),
        (lambda: kl_from_ratio(randn(3), torch.zeros(3)), "weights: masses"),
        (lambda: donsker_varadhan(randn(5), randn(5), torch.ones(4)), "mu_weights: last"),
        (lambda: donsker_varadhan(randn(5), randn(7), None, torch.ones(5)), "nu_weights: last"),
        (lambda: kl_from_ratio(torch.tensor([-1e4, 0.0])), "ratio: exp\\(-D\\) overflows"),
        (lambda: log_ratio_of_map(randn(5, 2), randn(5, 2), torch.zeros(5, 2, 2).double()), "jaco"),
        (lambda: kl_nearest_neighbour(randn(2, 5, 2), randn(5, 2)), "sample: expected one sample"),
        (lambda: kl_gaussian(randn(2), -torch.eye(2).double()), "cov: is not positive"),
        (lambda: kl_gaussian(randn(2), randn(2, 2)), "cov: is not symmetric"),
        (lambda: kl_gaussian(randn(3), torch.eye(2).double()), "mean: last dimension"),
        (lambda: log_ratio_of_map(randn(5, 2), randn(5, 3), randn(5, 2, 2)), "end: last"),
        (lambda: log_ratio_of_map(randn(5, 2), randn(5, 2), randn(5, 3, 2)), "jacobian"),
        (lambda: kl_nearest_neighbour(randn(3, 2), randn(3, 2), 3), "k: 3 neighbours"),
        (lambda: kl_nearest_neighbour(torch.zeros(5, 2).double(), randn(5, 2)), "repeated"),
        (lambda: kl_nearest_neighbour(randn(5, 2), randn(5, 3)), "reference: last"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
