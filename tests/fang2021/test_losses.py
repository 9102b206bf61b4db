"""Losses: slopes against autograd, the constants of Assumption 1."""

import pytest
import torch

from mflib.fang2021.losses import LOSSES, loss


@pytest.mark.parametrize("name", LOSSES)
def test_the_slope_is_the_derivative(name):
    z = torch.linspace(-4, 5, 401, dtype=torch.float64, requires_grad=True)
    y = torch.full_like(z, 0.37).detach()
    (slope,) = torch.autograd.grad(loss(name).value(z, y).sum(), z)
    torch.testing.assert_close(loss(name).slope(z, y), slope, rtol=1e-10, atol=1e-10)


def test_log_cosh_is_accurate_at_both_ends():
    phi, zero = loss("log-cosh").value, torch.zeros(3, dtype=torch.float64)
    z = torch.tensor([1e-6, 1.0, 800.0], dtype=torch.float64)
    exact = z.new_tensor([0.5e-12, 0.4337808304830271, 800.0 - 0.6931471805599453])
    torch.testing.assert_close(phi(z, zero), exact, rtol=1e-11, atol=0)


def test_log_cosh_meets_assumption_one_and_the_squared_loss_does_not():
    z = torch.linspace(-50, 50, 10001, dtype=torch.float64)
    slope = loss("log-cosh").slope(z, torch.zeros_like(z))
    assert slope.abs().max() <= 1 and (slope.diff() / z.diff()).max() <= 1
    assert loss("squared").slope(z, torch.zeros_like(z)).max() == 50


def test_an_unknown_loss_lists_those_that_exist():
    with pytest.raises(ValueError, match="log-cosh"):
        loss("hinge")
