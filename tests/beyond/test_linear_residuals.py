import math
from dataclasses import replace

import pytest
import torch
from problems import DOUBLE, randn

from mflib.beyond.linear_residuals import LinearResiduals, certificate


def problem(seed: int = 0) -> LinearResiduals:
    readout = torch.nn.functional.normalize(randn(3, seed=seed + 4), dim=-1)
    return LinearResiduals(
        randn(40, 3, seed=seed),
        6 * randn(40, seed=seed + 1),
        randn(2, 4, 3, seed=seed + 2),
        randn(2, 4, seed=seed + 3),
        readout,
    )


def zero(layers: int = 5) -> torch.Tensor:
    return torch.zeros(2, layers, 3, 40, dtype=DOUBLE)


def features(net: LinearResiduals, h: torch.Tensor) -> torch.Tensor:
    return (h @ net.frequencies.mT + net.phases).cos() * math.sqrt(2 / 40)


def jacobian(net, weights):
    """By autograd, (problems, n, parameters)."""
    rows = torch.autograd.functional.jacobian(net.residual, weights)
    return torch.stack([rows[p, :, p].flatten(1) for p in range(2)])


def test_layers_are_composed_in_their_order():
    net, w = problem(), randn(2, 2, 3, 40, seed=9)
    h = net.x + 0.5 * features(net, net.x) @ w[:, 0].mT
    h = h + 0.5 * features(net, h) @ w[:, 1].mT
    torch.testing.assert_close(net.residual(w), h @ net.readout - net.y)
    torch.testing.assert_close(net.loss(w), 0.5 * (h @ net.readout - net.y).square().sum(-1))


def test_the_velocity_is_minus_the_gradient_times_the_depth():
    net, w = problem(), randn(2, 5, 3, 40, seed=9).requires_grad_()
    (gradient,) = torch.autograd.grad(net.loss(w).sum(), w)
    torch.testing.assert_close(net.velocity(w.detach()), -5 * gradient)


def test_the_kernel_is_the_depth_times_the_gram_matrix_of_the_jacobian():
    net, w = problem(), randn(2, 5, 3, 40, seed=9)
    J = jacobian(net, w)
    torch.testing.assert_close(net.kernel(w), 5 * J @ J.mT)


def test_at_zero_the_kernel_is_the_gram_matrix_of_the_features():
    net = problem()
    phi = features(net, net.x)
    torch.testing.assert_close(net.kernel(zero()), phi @ phi.mT)
    assert not torch.allclose(net.kernel(zero()), problem(1).kernel(zero()))


def test_training_is_of_order_four_with_a_time_for_each_problem():
    net, time = problem(), torch.tensor([1.0, 0.5], dtype=DOUBLE)
    exact = net.train(zero(), time, 256)[-1]
    errors = [(net.train(zero(), time, k)[-1] - exact).abs() for k in (8, 16)]
    assert (torch.log2(errors[0] / errors[1]) > 3.5).all()
    halves = net.train(zero(), torch.tensor([0.5, 0.25], dtype=DOUBLE), 128)[-1]
    torch.testing.assert_close(halves, net.train(zero(), time, 256)[128])


def along(net, size, v):
    return replace(net, y=net.x @ net.readout - size * v)


def test_the_certified_radius_keeps_the_kernel_and_its_formula():
    net = problem()
    least = torch.linalg.eigvalsh(net.kernel(zero()))[:, 0]
    largest = certificate(net).largest
    found = certificate(along(net, 0.7 * largest[:, None], torch.eye(4, dtype=DOUBLE)[0]))
    assert (found.rate > 0.25 * least).all() and (found.rate < least).all()
    # the radius that belongs to the rate: the path may be so long, no longer
    radius = 0.7 * largest / found.rate.sqrt()
    bend = math.sqrt(2 / 40) * torch.linalg.svdvals(net.frequencies)[0]
    root = least.sqrt() - math.sqrt(8) * (torch.exp(bend * radius) - 1 + bend * radius)
    torch.testing.assert_close(root**2, found.rate, rtol=5e-3, atol=0)
    for seed in range(6):  # weights of that size, concentrated at one depth too
        w = randn(2, 5, 3, 40, seed=seed)
        w[:, seed % 5] *= 5.0
        w = w * (radius / w.square().sum((-1, -2)).mean(-1).sqrt())[:, None, None, None]
        assert (torch.linalg.eigvalsh(net.kernel(w))[:, 0] >= found.rate).all()


def test_a_certificate_refuses_what_is_too_large_and_equal_inputs():
    net = problem()
    largest = certificate(net).largest[:, None]
    v = torch.eye(4, dtype=DOUBLE)[0]
    assert (certificate(along(net, 0.99 * largest, v)).rate > 0).all()
    assert (certificate(along(net, 1.01 * largest, v)).rate == 0).all()
    twice = replace(net, x=net.x[:, [0, 0, 1, 2]])
    assert (certificate(along(twice, 0.01 * largest, v)).rate < 1e-12).all()


def test_losses_stay_below_the_certified_decay():
    net = problem()
    largest = certificate(net).largest[:, None]
    least, modes = torch.linalg.eigh(net.kernel(zero()))
    case = along(net, 0.9 * largest, modes[..., 0])
    losses = case.train(zero(), 2 / least[:, 0], 400)
    time = torch.linspace(0, 2, 401, dtype=DOUBLE)[:, None] / least[:, 0]
    assert (losses / losses[0] <= torch.exp(-2 * certificate(case).rate * time) * (1 + 1e-9)).all()


def test_what_does_not_fit_is_refused():
    net = problem()
    with pytest.raises(ValueError, match="frequencies: "):
        replace(net, frequencies=randn(2, 40, 3))
    with pytest.raises(ValueError, match="phases: "):
        replace(net, phases=randn(3))
    with pytest.raises(ValueError, match="y: "):
        replace(net, y=randn(2, 3))
    with pytest.raises(ValueError, match="weights: "):
        net.kernel(randn(2, 5, 4, 40))
    with pytest.raises(ValueError, match="readout: "):
        certificate(replace(net, readout=2 * net.readout))
    with pytest.raises(TypeError, match="net: "):
        certificate(None)
    with pytest.raises(ValueError, match="steps: "):
        net.train(zero(), torch.ones(2, dtype=DOUBLE), 0)
