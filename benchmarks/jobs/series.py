"""Orders of the unravelled expansion of a tanh network.

``JAX jet`` propagates Taylor coefficients by jax.experimental.jet, jitted; ``nested jvp`` takes
one forward derivative of the other in torch, at low orders only.
"""

from __future__ import annotations

import math

import torch

from mflib.blocks import MatrixBlock
from mflib.lu2020.expansion import network_jet
from mflib.measures import LayeredMeasure

from ..harness import Case, optional

SIZES = [(8, 20, 16, 3, 4), (64, 100, 10, 8, 4), (64, 100, 10, 8, 8)]
TOY = [(4, 3, 3, 2, 3)]


def nested(theta, x, order):
    L, N = theta.shape[:2]
    d = x.shape[1]
    matrices = theta.unflatten(-1, (d, d))

    def output(lam):
        X = x
        for W in matrices:
            X = X + lam * torch.tanh(torch.einsum("jab,ib->ija", W, X)).mean(1) / L
        return X

    def run():
        f, zero, found = output, torch.zeros(()).double(), []
        for k in range(order + 1):
            found.append(f(zero) / math.factorial(k))
            f = lambda s, f=f: torch.func.jvp(f, (s,), (torch.ones_like(s),))[1]  # noqa: E731
        return torch.stack(found)

    return run


def jax_jet(theta, x, order):
    jax, jet = optional("jax"), optional("jax.experimental.jet")
    if jet is None:
        return None
    jnp, L, d = jax.numpy, theta.shape[0], x.shape[1]
    matrices = jnp.asarray(theta.unflatten(-1, (d, d)).numpy())
    x = jnp.asarray(x.numpy())

    def output(lam, matrices, x):
        for layer in range(L):
            c = jnp.einsum("jab,ib->ija", matrices[layer], x)
            x = x + lam * jnp.tanh(c).mean(1) / L
        return x

    @jax.jit
    def orders(matrices, x):
        one = (1.0,) + (0.0,) * (order - 1)
        start, rest = jet.jet(lambda s: output(s, matrices, x), (0.0,), (one,))
        return jnp.stack([start] + [v / math.factorial(k + 1) for k, v in enumerate(rest)])

    return lambda: jax.block_until_ready(orders(matrices, x))


def case(size):
    n, N, L, d, order = size
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    theta = torch.randn(L, N, d * d, generator=g, dtype=torch.float64)
    block, rho = MatrixBlock(d), LayeredMeasure(theta)
    peers = {"JAX jet": jax_jet(theta, x, order)}
    if order <= 4 and n * N * d < 5000:
        peers["nested jvp"] = nested(theta, x, order)
    return Case(
        f"n={n} N={N} L={L} d={d} order={order}",
        lambda: network_jet(block, rho, x, order),
        peers,
        tolerance=1e-10,
        goals={"JAX jet": 1.0 if n * N >= 1000 else None},
    )


def cases(toy):
    return [lambda size=size: case(size) for size in (TOY if toy else SIZES)]
