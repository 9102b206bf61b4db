"""Velocity of all particles and the rate of their log-density ratios.

The rate is the Laplacian of the functional derivative plus a radial term, in closed form on the
pass's own tiles. ``gradient alone`` is our pass without it; its ratio is the share of the time
that the gradient takes. ``exact trace`` takes the Hessian's diagonal by autograd, one product a
coordinate; ``Hutchinson`` draws one random sign vector, and is another number by design.
"""

from __future__ import annotations

import torch

from mflib.chen2024.network import ScaledResNet, initial_particles
from mflib.chen2024.training import Particles, TrainingFlow

from ..harness import Case

SIZES = [(64, 200, 5, 2), (64, 200, 5, 16)]
TOY = [(6, 4, 2, 2)]


def draw(n, N, L, d):
    g = torch.Generator().manual_seed(0)
    theta, omega = initial_particles(d, L, N, N, g, symmetrised=False)
    return (
        theta,
        omega,
        torch.randn(n, d, generator=g).double(),
        torch.randn(n, generator=g).double(),
    )


def ours(theta, omega, x, y):
    flow, start = TrainingFlow(ScaledResNet(x.shape[1]), x, y), Particles.start(theta, omega)

    def run():
        v = flow.velocity(start)
        return torch.cat([v.theta_ratio.flatten(), v.omega_ratio])

    return run


def gradient(theta, omega, x, y):
    flow, start = TrainingFlow(ScaledResNet(x.shape[1]), x, y), Particles(theta, omega)
    return lambda: flow.velocity(start).omega


def by_autograd(theta, omega, x, y, hutchinson=False):
    """Of the functional derivatives at fixed states and adjoints, as the flow feels them."""
    net = ScaledResNet(x.shape[1])
    signs = torch.Generator().manual_seed(1)

    def run():
        field, rates = net.first_variation(net.backward(theta, omega, x, y)), []
        for phi, at in zip(field, (theta, omega), strict=True):
            leaf = at.clone().requires_grad_()
            (slope,) = torch.autograd.grad(phi.value(leaf).sum(), leaf, create_graph=True)
            if hutchinson:
                z = 2.0 * torch.randint(2, leaf.shape, generator=signs).double() - 1.0
                trace = (torch.autograd.grad((slope * z).sum(), leaf)[0] * z).sum(-1)
            else:
                trace = sum(
                    torch.autograd.grad(slope[..., a].sum(), leaf, retain_graph=True)[0][..., a]
                    for a in range(leaf.shape[-1])
                )
            rates.append((trace - (at * slope.detach()).sum(-1)).flatten())
        return torch.cat(rates)

    return run


def case(size):
    n, N, L, d = size
    data = draw(*size)
    own = ours(*data)
    return Case(
        f"n={n} N={N} L={L} d={d}",
        own,
        {
            "gradient alone": gradient(*data),
            "exact trace": by_autograd(*data),
            "Hutchinson, one draw": by_autograd(*data, hutchinson=True),
        },
        tolerance=1e-10,
        differs=("gradient alone", "Hutchinson, one draw"),
        goals={"exact trace": 3.0 * (2 * d + 1), "gradient alone": round(1 / 1.4, 3)},
    )


def cases(toy):
    return [lambda size=size: case(size) for size in (TOY if toy else SIZES)]
