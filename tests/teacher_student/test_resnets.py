"""Ensemble and wide ResNets against automatic differentiation and by hand."""

import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.blocks import MatrixBlock
from mflib.measures import LayeredMeasure
from mflib.teacher_student.resnets import Ensemble, WideResNet


def masses(*shape):
    w = torch.rand(*shape, generator=generator(7), dtype=DOUBLE) + 0.1
    return w / w.sum(-1, keepdim=True)


def test_the_wide_velocity_is_the_gradient_over_mass_and_depth_step():
    net = WideResNet(MatrixBlock(2), randn(3, 5, 2), randn(3, 5, 2, seed=1))
    theta, w = randn(3, 4, 6, 4, seed=2), masses(3, 4, 6)
    leaf = theta.clone().requires_grad_()
    net.loss(LayeredMeasure(leaf, w)).sum().backward()
    want = -leaf.grad * 4 / w.unsqueeze(-1)
    assert torch.allclose(net.velocity(LayeredMeasure(theta, w)), want, rtol=1e-10)


def test_the_wide_derivative_is_that_along_added_mass():
    net = WideResNet(MatrixBlock(2), randn(5, 2), randn(5, 2, seed=1))
    theta, w, probe = randn(3, 4, 4, seed=2), masses(3, 4), randn(3, 1, 4, seed=3)
    amount = torch.zeros(3, 1, dtype=DOUBLE, requires_grad=True)
    net.loss(LayeredMeasure(torch.cat([theta, probe], 1), torch.cat([w, amount], 1))).backward()
    found = net.derivative(LayeredMeasure(theta, w), probe)
    assert torch.allclose(found, 3 * amount.grad, rtol=1e-10)


def test_the_ensemble_velocity_and_derivative_are_gradients():
    net = Ensemble(MatrixBlock(2), randn(3, 5, 2), randn(3, 5, 2, seed=1))
    theta, w = randn(3, 6, 4, 4, seed=2), masses(3, 6)
    leaf, heavy = theta.clone().requires_grad_(), w.clone().requires_grad_()
    net.loss(leaf, heavy).sum().backward()
    assert torch.allclose(net.velocity(theta, w), -leaf.grad / w[..., None, None], rtol=1e-10)
    assert torch.allclose(net.derivative(theta, theta, w), heavy.grad, rtol=1e-10)


def test_one_branch_is_a_wide_network_of_width_one():
    x, theta = randn(5, 2), randn(1, 3, 4, seed=2)
    one = Ensemble(MatrixBlock(2), x, x).output(theta)
    wide = WideResNet(MatrixBlock(2), x, x).output(LayeredMeasure(theta[0].unsqueeze(1)))
    assert torch.allclose(one, wide)


def test_linear_branches_multiply():
    x, theta = torch.ones(1, 1, dtype=DOUBLE), torch.tensor([[[0.5], [1.0]]], dtype=DOUBLE)
    out = Ensemble(MatrixBlock(1, "linear"), x, x).output(theta)
    assert torch.allclose(out, torch.full((1, 1), 1.25 * 1.5, dtype=DOUBLE))


def test_bad_targets_are_named():
    net = WideResNet(MatrixBlock(2), randn(5, 2), randn(4, 2))
    with pytest.raises(ValueError, match="y"):
        net.loss(LayeredMeasure(randn(2, 3, 4)))
    with pytest.raises(ValueError, match="x"):
        WideResNet(MatrixBlock(2), randn(5, 3), randn(5, 2))
