"""Loss, adjoint and gradient of every particle.

The residual network X + (1/LN) sum u tanh(w X + b), squared loss, float64. ``autograd`` is the
loop over layers that one writes in torch; ``JAX scan`` is jitted, with a checkpoint in each
layer; ``torchdiffeq`` and ``diffrax`` integrate the layer-indexed field with Euler's method:
their backpropagated gradient is the same, while the continuous adjoint, which integrates
backwards and meets the layers at the wrong end of a step, is not.
"""

from __future__ import annotations

import torch

from mflib.blocks import NeuronBlock
from mflib.measures import LayeredMeasure
from mflib.problem import Problem

from ..harness import Case, exponent, optional

SIZES = [(64, 100, 10, 2), (256, 1000, 20, 8), (500, 2000, 20, 8), (500, 2000, 20, 64)]
TOY = [(16, 8, 4, 2)]


def draw(n, N, L, d):
    g = torch.Generator().manual_seed(0)
    double = dict(generator=g, dtype=torch.float64)
    return (
        torch.randn(L, N, 2 * d + 1, **double),
        torch.randn(n, d, **double),
        torch.randn(n, **double),
    )


def ours(theta, x, y):
    problem = Problem(NeuronBlock(x.shape[1]), x, y, steps=len(theta))
    rho = LayeredMeasure(theta)
    return lambda: problem.gradient(rho)


def torch_loop(theta, x, y):
    L, N, d = *theta.shape[:2], x.shape[1]

    def run():
        leaf = theta.clone().requires_grad_()
        X = x
        for u, w, b in zip(leaf[..., :d], leaf[..., d : 2 * d], leaf[..., -1], strict=True):
            X = X + torch.tanh(X @ w.T + b) @ u / (L * N)
        loss = 0.5 * (X[:, 0] - y).square().mean()
        (slope,) = torch.autograd.grad(loss, leaf)
        return slope * (L * N)

    return run


def jax_scan(theta, x, y):
    jax = optional("jax")
    if jax is None:
        return None
    jnp, (L, N), d = jax.numpy, theta.shape[:2], x.shape[1]
    x, y, theta = (jnp.asarray(v.numpy()) for v in (x, y, theta))

    def loss(theta):
        @jax.checkpoint
        def layer(X, p):
            u, w, b = p[:, :d], p[:, d : 2 * d], p[:, -1]
            return X + jnp.tanh(X @ w.T + b) @ u / (L * N), None

        X, _ = jax.lax.scan(layer, x, theta)
        return 0.5 * jnp.mean((X[:, 0] - y) ** 2)

    step = jax.jit(jax.value_and_grad(loss))
    return lambda: jax.block_until_ready(step(theta))[1] * (L * N)


def differential(theta, x, y, adjoint):
    package = optional("torchdiffeq")
    if package is None:
        return None
    solve = package.odeint_adjoint if adjoint else package.odeint
    L, N, d = *theta.shape[:2], x.shape[1]

    class Field(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.theta = torch.nn.Parameter(theta.clone())

        def forward(self, t, X):
            p = self.theta[min(int(t * L + 1e-9), L - 1)]
            return torch.tanh(X @ p[:, d : 2 * d].T + p[:, -1]) @ p[:, :d] / N

    field, depth = Field(), torch.linspace(0.0, 1.0, L + 1, dtype=torch.float64)

    def run():
        X = solve(field, x, depth, method="euler")[-1]
        loss = 0.5 * (X[:, 0] - y).square().mean()
        (slope,) = torch.autograd.grad(loss, field.theta)
        return slope * (L * N)

    return run


def diffrax_euler(theta, x, y):
    jax, diffrax = optional("jax"), optional("diffrax")
    if diffrax is None:
        return None
    jnp, (L, N), d = jax.numpy, theta.shape[:2], x.shape[1]
    x, y, theta = (jnp.asarray(v.numpy()) for v in (x, y, theta))

    def field(t, X, theta):
        p = theta[jnp.minimum((t * L + 1e-9).astype(int), L - 1)]
        return jnp.tanh(X @ p[:, d : 2 * d].T + p[:, -1]) @ p[:, :d] / N

    def loss(theta):
        end = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Euler(),
            0.0,
            1.0,
            1.0 / L,
            x,
            args=theta,
            max_steps=L + 2,
        ).ys[-1]
        return 0.5 * jnp.mean((end[:, 0] - y) ** 2)

    step = jax.jit(jax.value_and_grad(loss))
    return lambda: jax.block_until_ready(step(theta))[1] * (L * N)


def case(size):
    n, N, L, d = size
    data = draw(*size)
    peers = {
        "torch autograd": torch_loop(*data),
        "JAX scan, checkpoint": jax_scan(*data),
        "torchdiffeq, backpropagated": differential(*data, adjoint=False),
        "torchdiffeq, continuous adjoint": differential(*data, adjoint=True),
    }
    if n * N < 1e6:
        peers["diffrax, Euler"] = diffrax_euler(*data)
    entries = n * N * L
    return Case(
        f"n={n} N={N} L={L} d={d}",
        ours(*data),
        peers,
        tolerance=1e-12,
        differs=("torchdiffeq, continuous adjoint",),
        work=((12 * d + 4) * entries, entries),
        goals={"torch autograd": 2.0, "JAX scan, checkpoint": 1.15 if n * N >= 1e5 else 1.0},
    )


def cases(toy):
    return [lambda size=size: case(size) for size in (TOY if toy else SIZES)]


def exponents(toy):
    base, found = (16, 8, 4, 2) if toy else (256, 500, 10, 8), {}
    for place, letter in enumerate("nNL"):
        sizes = [base[place] * f for f in (1, 2, 4)]
        jobs = [ours(*draw(*base[:place], s, *base[place + 1 :])) for s in sizes]
        for job in jobs:
            job()
        found[letter] = exponent(sizes, jobs)
    return found
