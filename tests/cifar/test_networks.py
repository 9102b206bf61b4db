"""Networks: sizes of the published ones, and equality with ordinary modules."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from cifar_files import PlainNetwork, copy_parameters

from mflib.cifar import CifarError
from mflib.cifar.algorithm_one import initial_stamps, rule, steps
from mflib.cifar.architectures import NETWORKS, Conv, architecture, residual
from mflib.cifar.networks import Network

SIZES = {  # multiply-adds in millions, parameters in millions, movable blocks
    "small-n3": (2.6, 0.07, (3, 2, 2)),
    "small-n5": (4.4, 0.12, (5, 4, 4)),
    "small-n7": (6.1, 0.17, (7, 6, 6)),
    "small-n9": (7.9, 0.22, (9, 8, 8)),
    "resnet20": (40.8, 0.27, (3, 2, 2)),
    "resnet32": (69.1, 0.47, (5, 4, 4)),
    "resnet44": (97.4, 0.66, (7, 6, 6)),
    "resnet56": (125.7, 0.86, (9, 8, 8)),
    "resnet110": (253.1, 1.73, (18, 17, 17)),
    "resnet164": (247.6, 1.70, (17, 17, 17)),
    "resnext29-8x64d": (5387.4, 34.52, (2, 2, 2)),
    "resnext29-16x64d": (10689.0, 68.24, (2, 2, 2)),
}
TOYS = {
    "basic": residual("toy", (3, 3), (8, 16), 5, size=8),
    "bottleneck": residual("toy", (3, 3), (16, 32), 5, inner=(8, 16), stem=8, size=8),
    "grouped": residual("toy", (2, 2), (16, 32), 5, inner=(8, 16), stem=8, groups=2, size=8),
}


def _problem(arch, seed=0, n=16, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    net = Network(arch)
    theta, stats = net.initial(generator)
    x = torch.randn(n, 3, arch.size, arch.size, generator=generator, dtype=dtype)
    y = torch.randint(0, arch.classes, (n,), generator=generator)
    return net, theta.to(dtype).requires_grad_(), stats.to(dtype), x, y


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_are_those_of_the_published_networks(name):
    arch = architecture(name, 100 if "next" in name else 10)
    macs, parameters, movable = SIZES[name]
    assert arch.macs / 1e6 == pytest.approx(macs, abs=0.06)
    assert arch.movable == movable
    with torch.device("meta"):
        module = PlainNetwork(arch)
    count = sum(p.numel() for p in module.parameters())
    assert count / 1e6 == pytest.approx(parameters, abs=0.006)


@pytest.mark.parametrize("kind", TOYS)
def test_flat_network_equals_modules_forward_backward_and_in_its_statistics(kind):
    net, theta, stats, x, y = _problem(TOYS[kind])
    module = PlainNetwork(net.arch).double()
    copy_parameters(net, theta, module)
    for _ in range(2):
        logits, reference = net(theta, stats, x), module(x)
        torch.testing.assert_close(logits, reference, rtol=1e-11, atol=1e-11)
    (grad,) = torch.autograd.grad(F.cross_entropy(logits, y), theta)
    module.zero_grad()
    F.cross_entropy(reference, y).backward()
    twin = PlainNetwork(net.arch).double()
    copy_parameters(net, grad, twin)
    for ours, theirs in zip(twin.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(ours.detach(), theirs.grad, rtol=1e-9, atol=1e-12)
    module.eval()
    torch.testing.assert_close(net(theta, stats, x, training=False), module(x))


def test_resnet20_equals_modules_in_float32():
    net, theta, stats, x, _ = _problem(architecture("resnet20", 10), n=4, dtype=torch.float32)
    module = PlainNetwork(net.arch)
    copy_parameters(net, theta, module)
    torch.testing.assert_close(net(theta, stats, x), module(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", TOYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_uniform_tau_with_total_m_equals_vanilla_to_the_last_bit(kind, dtype):
    net, theta, stats, x, y = _problem(TOYS[kind], dtype=torch.float32)
    x = x.to(dtype)
    theta = theta.detach().to(torch.float64 if dtype == torch.float64 else torch.float32)
    theta.requires_grad_()
    stats = stats.to(theta.dtype)
    how = rule("mean-field")
    tau = initial_stamps(how, net.arch.movable, torch.Generator()).to(theta.dtype)
    tau.requires_grad_()
    results = []
    for heights in (None, steps(how, tau, net.arch.movable)):
        running = stats.clone()
        logits = net(theta, running, x, heights)
        (grad,) = torch.autograd.grad(F.cross_entropy(logits, y), theta)
        results.append((logits.detach(), grad, running))
    for vanilla, meanfield in zip(*results, strict=True):
        assert vanilla.equal(meanfield)
    assert results[0][1].abs().max() > 0


def test_a_step_multiplies_the_residual_branch():
    net, theta, stats, x, _ = _problem(residual("one", (1,), (8,), 5, size=8))
    heights = [torch.zeros(1, dtype=x.dtype)]
    bare = Network(residual("none", (1,), (8,), 5, size=8))
    with torch.no_grad():
        silent = theta.clone()
        net.views(silent)["stack0"][1].zero_()
    without = bare(silent, stats.clone(), x)
    torch.testing.assert_close(net(theta, stats.clone(), x, heights), without)


def test_a_step_scales_its_own_block_and_no_other():
    net, theta, stats, x, _ = _problem(residual("two", (2,), (8,), 5, size=8))
    heights = torch.tensor([0.3, 1.7], dtype=x.dtype)
    with torch.no_grad():
        scaled = theta.clone()
        net.views(scaled)["stack0"][1].mul_(heights[:, None, None, None, None])
    torch.testing.assert_close(
        net(theta, stats.clone(), x, [heights]), net(scaled, stats.clone(), x)
    )


@pytest.mark.parametrize("name", ["mean-field", "T1", "normalised", "free-steps"])
def test_gradient_in_tau_equals_finite_differences(name):
    net, theta, stats, x, y = _problem(TOYS["basic"])
    how, movable = rule(name), TOYS["basic"].movable
    tau = initial_stamps(how, movable, torch.Generator()).double()
    tau += 0.1 * torch.rand(tau.shape, generator=torch.Generator().manual_seed(1))
    tau.requires_grad_()

    def loss(tau):
        return F.cross_entropy(net(theta, stats.clone(), x, steps(how, tau, movable)), y)

    (grad,) = torch.autograd.grad(loss(tau), tau)
    with torch.no_grad():
        for i in range(len(tau)):
            nudge = torch.zeros_like(tau)
            nudge[i] = 1e-7  # so short that hardly a ReLU switches
            slope = (loss(tau + nudge) - loss(tau - nudge)) / 2e-7
            assert float(grad[i] - slope) == pytest.approx(0, abs=1e-7)


def test_initialisation_is_he_normal_and_reproducible():
    net = Network(architecture("resnet20", 10))
    theta, stats = net.initial(torch.Generator().manual_seed(0))
    again, _ = net.initial(torch.Generator().manual_seed(0))
    assert theta.equal(again)
    parts = net.views(theta)
    for weight, fan_out in (
        (parts["stack2"][0], 9 * 64),
        (parts["first2"][0], 9 * 64),
        (parts["first2"][-1], 64),
        (parts["first1"][0], 9 * 32),
    ):
        assert float(weight.std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.06)
    assert parts["stack1"][2].eq(1).all() and parts["stack1"][3].eq(0).all()
    running = net.statistics_views(stats)["stack1"]
    assert running[0].eq(0).all() and running[1].eq(1).all()


def test_weights_lie_channels_last_and_aligned_for_tensor_cores():
    net = Network(architecture("resnet20", 10))
    theta, _ = net.initial(torch.Generator().manual_seed(0))
    for tensors in net.views(theta.bfloat16()).values():
        for tensor in tensors:
            for row in tensor.unbind(0):
                assert row.storage_offset() * 2 % 16 == 0
                if row.ndim == 4:
                    assert row.is_contiguous(memory_format=torch.channels_last)


def test_unknown_network_lists_the_known_ones():
    with pytest.raises(CifarError, match="resnet18.*resnet20"):
        architecture("resnet18", 10)


NARROW = """
import torch
from mflib.cifar.architectures import Conv
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
for channels in (1, 3, 4, 6, 7):
    conv = Conv(channels, 2 * channels, 1, 2)
    weight = torch.randn(conv.shape, generator=generator, requires_grad=True)
    for _ in range(30):
        x = torch.randn(16, channels, 8, 8, generator=generator)
        x = x.to(memory_format=torch.channels_last).requires_grad_()
        torch.autograd.grad(conv(x, weight).square().mean(), [x, weight])
        churn = [torch.randn(j % 500 + 1) for j in range(50)]  # a damaged heap is noticed
print("whole")
"""


def test_a_narrow_shortcut_survives_on_processors_without_avx512():
    """With the plain call torch 2.13 aborts here, on any processor told to use AVX2."""
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", NARROW], env=env, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr


@pytest.mark.parametrize("channels", [3, 8])
def test_a_strided_shortcut_is_the_convolution_of_torch(channels):
    conv, generator = Conv(channels, 12, 1, 2), torch.Generator().manual_seed(0)
    x = torch.randn(2, channels, 7, 8, generator=generator, dtype=torch.float64)
    weight = torch.randn(conv.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(conv(x, weight), F.conv2d(x, weight, stride=2))
