"""Training of 18 small neural ODEs on two spirals.

Adam on the whole sample in single precision; 18 networks of their own start and data. ``torch,
loop`` is what one writes first: a module, torch.optim.Adam and a loop over the networks, the
tanh as it stands. ``torch.func`` stacks the same module over the networks by vmap. ``JAX vmap``
is jitted, all steps in one scan, with Adam written out.
"""

from __future__ import annotations

import torch
from torch import nn

from mflib.chen2024.spirals import SpiralNet, adam, initial, two_spirals

from ..harness import Case, optional

NET, RATE = SpiralNet(depth=5, width=32), 0.01
SIZES = [(18, 100, 20), (18, 2000, 10)]
TOY = [(3, 9, 4)]


def draw(runs, n):
    g = torch.Generator().manual_seed(0)
    x, y = two_spirals(n, g, batch=(runs,))
    return (x / 3).float(), y.float(), initial(NET, g, (runs,), torch.float32)


class Plain(nn.Module):
    """The network by modules."""

    def __init__(self, start):
        super().__init__()
        w, b, v, c, w1, b1, v1, c1 = start
        self.layers = nn.ModuleList()
        for weight, bias in ((w, b), (v, c), (w1, b1), (v1, c1)):
            layer = nn.Linear(weight.shape[1], weight.shape[0])
            with torch.no_grad():
                layer.weight.copy_(weight)
                layer.bias.copy_(bias[:, 0])
            self.layers.append(layer)

    def forward(self, x):
        inner, outer, head, last = self.layers
        for _ in range(NET.depth):
            x = x + outer(torch.tanh(inner(x))) / NET.depth
        return last(torch.tanh(head(x)))[..., 0]


def one(x, y, start, steps):
    """Train one network; return its loss before each step."""
    net = Plain(start)
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1.0 - step / steps)
    losses = []
    for _ in range(steps):
        loss = 0.5 * (net(x) - y).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def by_loop(x, y, params, steps):
    def run():
        starts = zip(*params, strict=True)
        ends = [one(a, b, start, steps) for a, b, start in zip(x, y, starts, strict=True)]
        return torch.stack(ends, 1)

    return run


def by_func(x, y, params, steps):
    base = Plain([p[0] for p in params])

    def loss(leaves, x, y):
        return 0.5 * (torch.func.functional_call(base, leaves, (x,)) - y).square().mean()

    def run():
        nets = [Plain(start) for start in zip(*params, strict=True)]
        leaves, _ = torch.func.stack_module_state(nets)
        optimiser = torch.optim.Adam(leaves.values(), lr=RATE)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1.0 - step / steps)
        losses = []
        for _ in range(steps):
            found = torch.func.vmap(loss)(leaves, x, y)
            optimiser.zero_grad()
            found.sum().backward()
            optimiser.step()
            schedule.step()
            losses.append(found.detach())
        return torch.stack(losses)

    return run


def by_jax(x, y, params, steps):
    jax = optional("jax")
    if jax is None:
        return None
    jnp = jax.numpy
    x, y, *params = (jnp.asarray(p.numpy()) for p in (x, y, *params))

    def loss(params, x, y):
        w, b, v, c, w1, b1, v1, c1 = params
        z = x.T
        for _ in range(NET.depth):
            z = z + (v @ jnp.tanh(w @ z + b) + c) / NET.depth
        f = (v1 @ jnp.tanh(w1 @ z + b1) + c1)[0]
        return 0.5 * jnp.mean((f - y) ** 2)

    slopes = jax.vmap(jax.value_and_grad(loss))

    @jax.jit
    def train(params):
        def step(state, k):
            params, first, second = state
            value, grad = slopes(params, x, y)
            first = [0.9 * m + 0.1 * g for m, g in zip(first, grad, strict=True)]
            second = [0.999 * s + 0.001 * g * g for s, g in zip(second, grad, strict=True)]
            rate, a, b = RATE * (1 - k / steps), 1 - 0.9 ** (k + 1), 1 - 0.999 ** (k + 1)
            params = [
                (p - rate * (m / a) / (jnp.sqrt(s / b) + 1e-8)).astype(p.dtype)
                for p, m, s in zip(params, first, second, strict=True)
            ]
            return (params, first, second), value

        zero = [jnp.zeros_like(p) for p in params]
        counts = jnp.arange(steps, dtype=jnp.float32)
        return jax.lax.scan(step, (params, zero, zero), counts)[1]

    return lambda: jax.block_until_ready(train(params))


def case(size):
    runs, n, steps = size
    x, y, params = draw(runs, n)
    return Case(
        f"networks={runs} n={n} steps={steps}",
        lambda: adam(NET, params, x, y, steps, RATE)[1],
        {
            "torch, loop": by_loop(x, y, params, steps),
            "torch.func": by_func(x, y, params, steps),
            "JAX vmap": by_jax(x, y, params, steps),
        },
        tolerance=1e-3,  # single precision, and Adam's first steps divide by small numbers
        goals={"torch, loop": 1.5, "torch.func": 1.0},
    )


def cases(toy):
    return [lambda size=size: case(size) for size in (TOY if toy else SIZES)]
