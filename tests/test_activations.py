import pytest
import torch

from mflib.activations import ACTIVATIONS, activation

Z = torch.linspace(-4.05, 3.95, 41, dtype=torch.float64)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_both_derivatives_equal_autograd(name):
    sigma, z = activation(name), Z.clone().requires_grad_()
    (first,) = torch.autograd.grad(sigma(z).sum(), z, create_graph=True)
    torch.testing.assert_close(sigma.df(Z), first.detach(), rtol=1e-12, atol=1e-13)
    if first.requires_grad:
        (second,) = torch.autograd.grad(first.sum(), z, allow_unused=True)
        second = torch.zeros_like(z) if second is None else second
    else:
        second = torch.zeros_like(z)
    torch.testing.assert_close(sigma.d2f(Z), second, rtol=1e-12, atol=1e-13)


def test_values_equal_torch_functions():
    pairs = {
        "softplus": torch.nn.functional.softplus,
        "gelu": torch.nn.functional.gelu,
        "relu": torch.relu,
        "arctan": torch.arctan,
    }
    for name, reference in pairs.items():
        torch.testing.assert_close(activation(name)(Z), reference(Z), rtol=1e-12, atol=1e-14)


def test_softplus_does_not_overflow():
    far = torch.tensor([-800.0, 800.0], dtype=torch.float64)
    assert activation("softplus")(far).tolist() == [0.0, 800.0]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="tanhh.*choose one of.*tanh"):
        activation("tanhh")
