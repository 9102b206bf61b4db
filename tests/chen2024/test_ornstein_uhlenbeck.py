import pytest
import torch
from problems import randn

from mflib.blocks import NeuronBlock
from mflib.chen2024.ornstein_uhlenbeck import NeuronSum, neuron_generator

X, MASS = randn(4, 3), randn(4, seed=1)


@pytest.mark.parametrize("sigma", ["tanh", "sigmoid", "gelu", "sin"])
@pytest.mark.parametrize("out", [1, 3])
def test_value_gradient_and_laplacian_equal_automatic_differentiation(sigma, out):
    block, p = NeuronBlock(3, sigma, out), randn(4, out, seed=2)
    theta = randn(7, block.k, seed=3)

    def phi(particle):
        return (MASS * block.pairing(X, particle[None], p)[:, 0]).sum()

    found = NeuronSum(block, X, p, MASS)
    slopes = torch.func.vmap(torch.func.grad(phi))(theta)
    hessian = torch.func.vmap(torch.func.hessian(phi))(theta)
    torch.testing.assert_close(found.value(theta), torch.stack([phi(v) for v in theta]))
    torch.testing.assert_close(found.gradient(theta), slopes)
    torch.testing.assert_close(found.laplacian(theta), hessian.diagonal(dim1=-2, dim2=-1).sum(-1))


def test_the_generator_of_a_neuron_is_laplacian_minus_radial_part():
    block = NeuronBlock(3, "tanh", 1)
    theta, one = randn(7, block.k, seed=3), torch.ones(1, 1).double()
    for i, x in enumerate(X):
        phi = NeuronSum(block, x[None], one, one[0])
        radial = (theta * phi.gradient(theta)).sum(-1)
        torch.testing.assert_close(
            theta[:, 0] * neuron_generator(block, X, theta)[i], phi.laplacian(theta) - radial
        )


def test_degree_one_hermite_functions_are_eigenfunctions():
    # u (w.x + b) is a product of two different coordinates: L has eigenvalue -2
    block = NeuronBlock(3, "linear", 1)
    theta = randn(7, block.k, seed=3)
    g, c = neuron_generator(block, X, theta), block.preactivation(X, theta)
    torch.testing.assert_close(g, -2 * c)


def test_the_generator_has_mean_zero_under_the_gaussian():
    # c = w.x + b ~ N(0, 1 + |x|^2); even activations, so that symmetry does not help
    x = torch.tensor([[1.5]], dtype=torch.float64)
    t = torch.linspace(-10, 10, 2001, dtype=torch.float64)
    weights = torch.exp(-(t**2) / 2) / torch.exp(-(t**2) / 2).sum()
    c = (1 + 1.5**2) ** 0.5 * t
    theta = torch.stack([torch.ones_like(t), torch.zeros_like(t), c], -1)
    for sigma in ("gaussian", "cos", "sigmoid"):
        block = NeuronBlock(1, sigma, 1)
        # without u, L sigma(c) = (1 + |x|^2) sigma'' - c sigma'
        g = neuron_generator(block, x, theta)[0] + block.sigma.f(c)
        assert abs(float((weights * g).sum())) < 1e-12


def test_leading_dimensions_broadcast():
    block = NeuronBlock(3, "tanh")
    x, theta = randn(2, 1, 4, 3), randn(5, 7, block.k, seed=3)
    p, mass = randn(2, 5, 4, 3, seed=4), randn(2, 5, 4, seed=5)
    together = NeuronSum(block, x, p, mass)
    alone = NeuronSum(block, x[1, 0], p[1, 3], mass[1, 3])
    for name in ("value", "gradient", "laplacian"):
        both, one = getattr(together, name)(theta), getattr(alone, name)(theta[3])
        torch.testing.assert_close(both[1, 3], one)
        with pytest.raises(ValueError, match="expected k = 7"):
            getattr(together, name)(theta[..., 1:])
