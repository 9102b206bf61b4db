"""Both laws in motion: attained cases, sums written out, and what moves nothing."""

import math

import pytest
import torch
from problems import generator, randn

from mflib.chen2024.joint_stability import (
    half_radius,
    joint_root_modulus,
    second_moment,
    state_modulus,
)
from mflib.chen2024.network import ScaledResNet, initial_particles
from mflib.chen2024.perturbation import displacement_norm
from mflib.chen2024.stability import KAPPA, gram_root_modulus
from mflib.gram import neuron_gram
from mflib.sampling import sobol_gaussian


def units(*shape, seed=0):
    return torch.nn.functional.normalize(randn(*shape, seed=seed), dim=-1)


def test_the_second_moment_is_a_sum_of_outer_products_and_its_top_eigenvalue():
    v, m = randn(2, 5, 3), randn(2, 5, seed=1).square()
    for mass in (None, m):
        sums = torch.zeros(2, 3, 3).double()
        for b in range(2):
            for j in range(5):
                one = 1.0 if mass is None else mass[b, j]
                sums[b] += one * torch.outer(v[b, j], v[b, j]) / 5
        assert torch.allclose(second_moment(v, mass), torch.linalg.eigvalsh(sums)[:, -1])
    # an operator norm, not the trace: d equal directions count once
    assert second_moment(torch.eye(4).double() * 2).item() == pytest.approx(1.0)


def heavy_pair(u, d, layers=2):
    theta = torch.zeros(1, layers, 2, 2 * d + 1).double()
    theta[..., 0, 0], theta[..., 1, 0] = u, -u
    return theta


@pytest.mark.parametrize("alpha", [0.7, 2.0])
def test_a_heavy_silent_pair_attains_the_bound_on_the_states(alpha):
    d, x = 3, units(1, 1, 3)
    theta = heavy_pair(1e4, d)
    along = torch.cat([torch.zeros(d).double(), x[0, 0], torch.ones(1).double()])
    shift = 1e-9 * along * torch.tensor([1.0, -1.0])[:, None].expand(2, 2, 1)
    net = ScaledResNet(d, alpha=alpha)
    gap = (net.features(theta + shift, x).X[0, -1, 0] - x[0, 0]).norm()
    allowed = state_modulus(theta, x, displacement_norm(shift, 2), alpha)[0, 0]
    assert 0.999 < (gap / allowed).item() <= 1


def test_a_saturated_pair_attains_its_other_half():
    # u = 0 and b large: the field moves by the displacement of u alone
    d, x = 2, 1e-6 * units(1, 1, 2)
    theta = torch.zeros(1, 1, 2, 5).double()
    theta[..., -1] = 50.0
    shift = torch.zeros_like(theta)
    shift[..., 0] = 1e-4
    gap = (ScaledResNet(d).features(theta + shift, x).X[0, -1, 0] - x[0, 0]).norm()
    allowed = state_modulus(theta, x, displacement_norm(shift, 2))[0, 0]
    assert 0.999 < (gap / allowed).item() <= 1


def test_the_bound_on_the_states_holds_and_grows_with_distance_scale_and_input():
    theta, _ = initial_particles(3, 4, 16, 2, generator(), batch=(5,))
    x, shift = units(5, 4, 3), randn(5, 4, 16, 7, seed=3)
    for alpha in (0.5, 2.0):
        for size in (1e-3, 0.1, 1.0):
            w = displacement_norm(size * shift, 2)
            gap = ScaledResNet(3, alpha=alpha).features(theta + size * shift, x).X[:, -1] - x
            allowed = state_modulus(theta, x, w, alpha)
            assert (gap.norm(dim=-1) <= allowed).all()
            assert torch.allclose(allowed, state_modulus(theta, x, alpha * w), rtol=1e-12)
    assert (state_modulus(theta, 2 * x, 0.1) > state_modulus(theta, x, 0.1)).all()


def test_the_layer_with_the_largest_weights_decides():
    theta, _ = initial_particles(2, 3, 8, 2, generator())
    loud = theta.clone()
    loud[1, :, :2] *= 3.0
    lam = max(float(torch.linalg.eigvalsh(t[:, :2].mT @ t[:, :2] / 8)[-1]) for t in loud)
    x = units(4, 2)
    expected = math.sqrt((1 + 2 * lam) / lam) * math.expm1(0.3 * math.sqrt(lam))
    assert torch.allclose(state_modulus(loud, x, 0.3), torch.full((4,), expected).double())


def test_the_modulus_of_the_root_is_the_sum_written_out():
    omega, x = randn(2, 6, 4), randn(2, 3, 2, seed=1)
    theta, _ = initial_particles(2, 2, 4, 2, generator(2), batch=(2,))
    found = joint_root_modulus(omega, theta, x, 0.2, 0.1, 1.3)
    for b in range(2):
        a, w = omega[b, :, 0], omega[b, :, 1:3]
        lam = torch.linalg.eigvalsh(sum(torch.outer(v, v) for v in w) / 6)[-1]
        weighted = sum(s**2 * torch.outer(v, v) for s, v in zip(a, w, strict=True)) / 6
        top = torch.linalg.eigvalsh(weighted)[-1]
        reach = max(float(1 + v @ v) for v in x[b]) ** 0.5
        c = (lam + (a.square().mean().sqrt() + KAPPA * reach * top.sqrt()) ** 2).sqrt()
        zeta = state_modulus(theta[b], x[b], 0.1, 1.3).norm()
        whole = c * zeta + gram_root_modulus(omega[b], x[b], 0.2, zeta)
        assert torch.allclose(found[b], whole)


def test_the_constant_of_the_gaussian_is_the_one_in_the_text():
    d = 4
    omega = sobol_gaussian(2**14, d + 2, generator(), 1)
    theta, x = heavy_pair(1e-9, d)[0], units(1, d)
    base = gram_root_modulus(omega, x, 0.0, 0.0)
    theta[..., 0] = 1.0
    zeta = state_modulus(theta, x, 1e-6)[0]
    c = (joint_root_modulus(omega, theta, x, 0.0, 1e-6) - base) / zeta
    assert c.item() == pytest.approx(math.hypot(1, 1 + math.sqrt(2) * KAPPA), rel=0.02)


def test_points_that_may_have_moved_are_at_least_as_bad_as_any_that_have():
    omega, x, shift = randn(3, 8, 5), units(3, 4, 3), 0.2 * randn(3, 4, 3, seed=4)
    far = shift.square().sum((-1, -2)).sqrt()
    before = gram_root_modulus(omega, x, 0.1, far)
    assert (gram_root_modulus(omega, x + shift, 0.1) <= before).all()
    assert torch.allclose(gram_root_modulus(omega, x, 0.1, 0.0), gram_root_modulus(omega, x, 0.1))
    # by hand, one silent pair at one point: S + m, and half of the larger weight
    pair, at = torch.tensor([[2.0, 0, 0], [-2.0, 0, 0]]).double(), torch.ones(1, 1).double()
    share = (KAPPA * (math.sqrt(2) + 0.5) * 0.1) ** 2
    expected = (math.sqrt(2) + 0.5) * (0.1 + math.sqrt(4 * share))
    assert gram_root_modulus(pair, at, 0.1, 0.5).item() == pytest.approx(expected)


def test_half_of_the_eigenvalue_is_left_within_the_radius_and_the_root_is_used_up():
    omega, x = initial_particles(3, 1, 2, 64, generator(), batch=(4,))[1], units(4, 3, 3)
    theta, _ = initial_particles(3, 2, 8, 2, generator(1), batch=(4,))
    one = torch.ones(4, 3, 1).double()
    net = ScaledResNet(3, alpha=1.5)
    least = torch.linalg.eigvalsh(neuron_gram(net.predictor, x, omega, one))[:, 0]
    r = half_radius(omega, theta, x, least, 1.5)
    used = joint_root_modulus(omega, theta, x, r, r, 1.5)
    assert torch.allclose(used, (1 - math.sqrt(0.5)) * least.sqrt(), rtol=1e-6)
    assert (half_radius(omega, theta, x, 4 * least, 1.5) > r).all()
    v, u = randn(4, 64, 5, seed=5), randn(4, 2, 8, 7, seed=6)
    v = v * (r / displacement_norm(v))[:, None, None]
    u = u * (r / displacement_norm(u, 2))[:, None, None, None]
    z = net.features(theta + u, x).X[:, -1]
    after = torch.linalg.eigvalsh(neuron_gram(net.predictor, z, omega + v, one))[:, 0]
    assert (after >= least / 2).all()


def test_bad_arguments_are_named():
    theta, omega = initial_particles(2, 2, 4, 4, generator())
    x = units(3, 2)
    with pytest.raises(ValueError, match="^w:"):
        state_modulus(theta, x, -0.1)
    with pytest.raises(ValueError, match="^theta: last"):
        state_modulus(omega.unsqueeze(0), x, 0.1)
    with pytest.raises(ValueError, match="^mass"):
        second_moment(x, -torch.ones(3).double())
    with pytest.raises(ValueError, match="^smallest"):
        half_radius(omega, theta, x, torch.zeros(()).double())
