import pytest
import torch
from problems import randn
from torch.func import jacrev, vmap

from mflib.blocks import MatrixBlock, NeuronBlock

BLOCKS = [
    MatrixBlock(3, "tanh"),
    MatrixBlock(2, "quadratic"),
    NeuronBlock(3, "sigmoid"),
    NeuronBlock(3, "softplus", out=1),
    NeuronBlock(2, "gaussian", out=4),
]
n, N = 5, 7


def one(block, x, theta):
    """The block's definition, one point and one particle at a time."""
    if isinstance(block, MatrixBlock):
        return block.sigma(theta.view(block.d, block.d) @ x)
    u, w, b = theta[: block.d_out], theta[block.d_out : -1], theta[-1]
    return u * block.sigma(w @ x + b)


def pairs(function):
    return vmap(vmap(function, (None, 0)), (0, None))


@pytest.fixture(params=BLOCKS, ids=lambda b: f"{type(b).__name__}-{b.sigma.name}-{b.d_out}")
def case(request):
    block = request.param
    return (
        block,
        randn(n, block.d),
        randn(N, block.k, seed=1),
        randn(N, seed=2),
        randn(n, block.d_out, seed=3),
        randn(n, block.d, seed=4),
        randn(n, seed=5),
    )


def test_value_equals_the_definition(case):
    block, x, theta, *_ = case
    expected = pairs(lambda a, b: one(block, a, b))(x, theta)
    torch.testing.assert_close(block.value(x, theta), expected)


def test_jacobian_equals_autograd(case):
    block, x, theta, *_ = case
    expected = pairs(jacrev(lambda a, b: one(block, a, b)))(x, theta)
    torch.testing.assert_close(block.jacobian(x, theta), expected)


def test_field_and_its_products_are_weighted_sums_over_particles(case):
    block, x, theta, w, p, v, _ = case
    values, slopes = block.value(x, theta), block.jacobian(x, theta)
    torch.testing.assert_close(block.field(x, theta, w), torch.einsum("inj,n->ij", values, w))
    torch.testing.assert_close(
        block.jvp(x, theta, w, v), torch.einsum("injd,id,n->ij", slopes, v, w)
    )
    torch.testing.assert_close(
        block.vjp(x, theta, w, p), torch.einsum("injd,ij,n->id", slopes, p, w)
    )


def test_jvp_and_vjp_are_transposes(case):
    block, x, theta, w, p, v, _ = case
    left = (block.jvp(x, theta, w, v) * p).sum(-1)
    torch.testing.assert_close(left, (block.vjp(x, theta, w, p) * v).sum(-1))


def test_pairing_and_its_gradient_equal_autograd(case):
    block, x, theta, _, p, _, mass = case
    torch.testing.assert_close(
        block.pairing(x, theta, p), (block.value(x, theta) * p[:, None]).sum(-1)
    )
    leaf = theta.clone().requires_grad_()
    total = torch.einsum("ij,i->", block.pairing(x, leaf, p), mass)
    (expected,) = torch.autograd.grad(total, leaf)
    torch.testing.assert_close(block.pairing_grad(x, theta, p, mass), expected)


def test_particles_may_be_permuted(case):
    block, x, theta, w, *_ = case
    order = torch.randperm(N)
    torch.testing.assert_close(block.field(x, theta[order], w[order]), block.field(x, theta, w))


def test_a_batch_equals_its_members(case):
    block, x, theta, w, p, v, mass = case
    batch = torch.stack([theta, 2 * theta])
    for method, rest in (
        (block.field, (w,)),
        (block.jvp, (w, v)),
        (block.vjp, (w, p)),
        (block.pairing, (p,)),
        (block.pairing_grad, (p, mass)),
    ):
        together = method(x, batch, *rest)
        torch.testing.assert_close(together[1], method(x, 2 * theta, *rest))


def test_a_particle_of_the_wrong_size_is_named():
    with pytest.raises(ValueError, match="theta.*expected k = 9"):
        MatrixBlock(3).value(randn(2, 3), randn(4, 8))
    with pytest.raises(ValueError, match="theta.*expected k = 7"):
        NeuronBlock(3).value(randn(2, 3), randn(4, 8))
