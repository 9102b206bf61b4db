"""Gram matrix of the gradients by all particles of a deep network.

``per sample`` differentiates each output by autograd and multiplies the rows; ``torch.func`` is
the Jacobian by vmap of grad. Neural-tangents differentiates the same network; it needs an older
JAX, so it runs in a process of its own, whose environment ``--with-neural-tangents`` makes.
"""

from __future__ import annotations

import torch

from mflib.blocks import NeuronBlock
from mflib.gram import gram_encoder
from mflib.measures import LayeredMeasure
from mflib.ode import Pass, network

from ..harness import Case
from ..outside import Outside, environment

SIZES = [(64, 100, 10, 8), (128, 500, 10, 8), (128, 200, 5, 64), (250, 1000, 5, 8)]
TOY = [(8, 6, 3, 2)]


def output(theta, x):
    """The network's first output, at one input or at several."""
    L, N, d = *theta.shape[:2], x.shape[-1]
    for u, w, b in zip(theta[..., :d], theta[..., d : 2 * d], theta[..., -1], strict=True):
        x = x + torch.tanh(x @ w.T + b) @ u / (L * N)
    return x[..., 0]


def ours(theta, x):
    block, L = NeuronBlock(x.shape[1]), len(theta)
    layers, first = network(block, LayeredMeasure(theta), L), torch.eye(x.shape[1]).double()[0]

    def run():
        from mflib.ode import Adjoint, Trajectory

        def ends(X):
            return first.unsqueeze(-1).expand(-1, X.shape[-1]), X[..., :1, :]

        f, X, stages, p, costates = layers.round_trip(x, [], ends, keep=True)
        path = Trajectory(X, stages, layers.theta, layers.weights, "euler")
        return gram_encoder(block, theta, Pass(path, Adjoint(p, costates), f))

    return run


def per_sample(theta, x):
    scale = theta.shape[0] * theta.shape[1]

    def run():
        leaf = theta.clone().requires_grad_()
        rows = [
            torch.autograd.grad(f, leaf, retain_graph=True)[0].flatten() for f in output(leaf, x)
        ]
        J = torch.stack(rows)
        return J @ J.T * scale

    return run


def by_func(theta, x):
    scale = theta.shape[0] * theta.shape[1]
    jacobian = torch.func.vmap(torch.func.grad(output), (None, 0))

    def run():
        J = jacobian(theta, x).flatten(1)
        return J @ J.T * scale

    return run


def neural_tangents(theta, x):
    if not environment("neural_tangents").exists():
        return None
    return Outside("neural_tangents", x=x.numpy(), theta=theta.numpy())


def case(size):
    n, N, L, d = size
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    theta = torch.randn(L, N, 2 * d + 1, generator=g, dtype=torch.float64)
    peers = {"neural-tangents": neural_tangents(theta, x), "torch.func": by_func(theta, x)}
    if n * n * N * L * d < 2e9:
        peers["per sample"] = per_sample(theta, x)
    products = 2 * n * (n + 1) * N * L + 8 * d * n * N * L
    return Case(
        f"n={n} N={N} L={L} d={d}",
        ours(theta, x),
        peers,
        tolerance=1e-11,
        work=(products, 2 * n * N * L),
        goals={"neural-tangents": 10.0 if d < 64 else 45.0, "torch.func": 50.0},
    )


def cases(toy):
    return [lambda size=size: case(size) for size in (TOY if toy else SIZES)]
