"""The explicit ceiling: its kernels by other routes, its limit, and its fixed point."""

import math

import pytest
import scipy.linalg
import torch
from problems import generator, randn

from mflib.chen2024.explicit_radius import felt_kernels, kl_ceiling, least_scale
from mflib.chen2024.joint_stability import joint_root_modulus
from mflib.chen2024.network import ScaledResNet, initial_particles
from mflib.chen2024.sphere_kernel import Spectrum
from mflib.chen2024.stability import gram_root_modulus
from mflib.chen2024.training import Particles, TrainingFlow
from mflib.sampling import sobol_gaussian


def problem(B=3, n=3, d=3, K=64, seed=0):
    x = torch.nn.functional.normalize(randn(B, n, d, seed=seed), dim=-1)
    omega = sobol_gaussian(K, d + 2, generator(seed), 1, (B,))
    theta, _ = initial_particles(d, 2, 8, 2, generator(seed + 1), batch=(B,))
    return omega, x, randn(B, n, seed=seed + 2), theta


def test_the_kernels_are_averages_of_derivatives_by_autograd():
    omega, x = randn(5, 4), randn(3, 2, seed=1)

    def h(o, z):
        return o[0] * torch.tanh(o[1:3] @ z + o[3])

    found = felt_kernels(omega, x)
    first, second = torch.zeros(2, 3, 3).double()
    for o in omega:
        grads = torch.stack(
            [torch.autograd.functional.jacobian(lambda v, z=z: h(v, z), o) for z in x]
        )
        bends = [torch.autograd.functional.hessian(lambda v, z=z: h(v, z), o).trace() for z in x]
        generated = torch.stack(bends) - grads @ o
        first += grads @ grads.T / 5
        second += torch.outer(generated, generated) / 5
    assert torch.allclose(found.first, first) and torch.allclose(found.second, second)
    degree = scipy.linalg.eigh(second, first, eigvals_only=True)[-1]
    assert found.degree.item() == pytest.approx(degree)
    assert torch.allclose(found.smallest, torch.linalg.eigvalsh(first)[0])


def test_many_particles_have_the_kernels_of_the_law_and_no_degree_below_one():
    omega, x, *_ = problem(B=1, K=2**15)
    found, law = felt_kernels(omega, x), Spectrum("tanh")
    assert torch.allclose(found.first, law.kernel(x, power=1), rtol=0.01)
    assert torch.allclose(found.second, law.kernel(x, power=2), rtol=0.02)
    assert found.degree.item() == pytest.approx(law.felt_degree(x).item(), rel=0.05)
    assert found.degree.item() > 1


@pytest.mark.parametrize("moving", [False, True])
def test_at_large_scale_the_ceiling_is_its_leading_term_and_labels_count_by_their_ratio(moving):
    omega, x, y, theta = problem()
    theta = theta if moving else None
    k = felt_kernels(omega, x)
    plain = k.degree * y.square().sum(-1) / (2 * 1e18 * k.smallest)
    found = kl_ceiling(omega, x, y, 1e9, theta)
    assert torch.allclose(found.kl, plain, rtol=1e-3) and (found.lost < 1e-3).all()
    beta = 10 * least_scale(omega, x, y, theta)
    one, two = (kl_ceiling(omega, x, c * y, c * beta, theta) for c in (1.0, 3.0))
    assert torch.allclose(one.kl, two.kl) and torch.allclose(one.lost, two.lost)


@pytest.mark.parametrize("moving", [False, True])
def test_the_ceiling_is_a_fixed_point(moving):
    omega, x, y, theta = problem(seed=4)
    beta = 4 * least_scale(omega, x, y, theta if moving else None, 2.0)
    found = kl_ceiling(omega, x, y, beta, theta if moving else None, 2.0)
    k, w = felt_kernels(omega, x), (2 * found.kl).sqrt()
    modulus = gram_root_modulus(omega, x, w)
    if moving:
        modulus = joint_root_modulus(omega, theta, x, w, w, 2.0)
    assert torch.allclose(found.lost, modulus / k.smallest.sqrt(), rtol=1e-6)
    plain = k.degree * y.square().sum(-1) / (2 * beta**2 * k.smallest)
    room = found.kl / plain * (1 - found.lost) ** 4
    c = torch.linspace(-8, 8, 8001).double()
    t = torch.tanh(c)
    size = (2 * -2 * t * (1 - t**2) - t - c * (1 - t**2)).abs().max()
    s = found.kl * size**2 * 3 / torch.linalg.eigvalsh(k.second)[:, 0]
    assert torch.allclose(room, ((1 + torch.expm1(s) / s) / 2) ** 2, rtol=1e-6)


def test_below_the_threshold_it_says_nothing_and_above_it_half_is_left():
    omega, x, y, _ = problem(seed=7)
    least = least_scale(omega, x, y)
    with pytest.raises(ValueError, match="^beta: at so small a scale"):
        kl_ceiling(omega, x, y, 0.999 * least)
    above = kl_ceiling(omega, x, y, 1.001 * least)
    assert above.kl.isfinite().all() and (above.lost < 1 - math.sqrt(0.5)).all()
    assert (kl_ceiling(omega, x, y, 2 * least).kl < above.kl / 4).all()


def test_a_trained_head_stays_below_and_lowest_labels_come_near():
    omega, x, _, _ = problem(n=2, seed=9)
    k = felt_kernels(omega, x)
    y = torch.linalg.eigh(k.first)[1][..., 0]
    beta = 20 * least_scale(omega, x, y)
    flow = TrainingFlow(ScaledResNet(3, beta=beta), x, y)
    time = 6 * 2 / (beta**2 * k.smallest)
    top = torch.linalg.eigvalsh(k.first)[:, -1]
    steps = int((6 * top / k.smallest / 2).max()) + 1
    run = flow.train(Particles.start(None, omega), time, steps)
    ratio = run.kl[:, -1] / kl_ceiling(omega, x, y, beta).kl
    assert (ratio < 1).all() and (ratio > 0.1).all()


def test_bad_arguments_are_named():
    omega, x, y, _ = problem()
    with pytest.raises(ValueError, match="^beta"):
        kl_ceiling(omega, x, y, 0.0)
    with pytest.raises(ValueError, match="^y: last"):
        kl_ceiling(omega, x, y[:, :2], 10.0)
    with pytest.raises(ValueError, match="^x: K_1 is singular"):
        felt_kernels(omega, torch.cat([x, x[:, :1]], 1))
