"""Networks without symmetry for the tests: random data, unequal masses, several at once."""

import torch

from mflib.fang2021.assumptions import modified
from mflib.fang2021.connections import Dense
from mflib.fang2021.network import Network, Weights


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def network(depth=4, samples=3, dim=2, loss="log-cosh", skip=True, seed=0):
    """A network with an activation that is neither odd nor even."""
    h1 = modified("tanh", size=1.2, scale=0.9, shift=0.4)
    h2 = modified("sigmoid", size=1.5, shift=-0.3)
    x, y = normal(samples, dim, seed=seed), normal(samples, seed=seed + 1)
    return Network(x, y, depth, h1, h2, loss, skip)


def weights(net, m=7, batch=(2,), seed=3, mass=None):
    """Dense weights of order one, another draw in every layer."""
    d = net.x.shape[-1]
    return Weights(
        normal(*batch, d, m, seed=seed),
        tuple(Dense(normal(*batch, m, m, seed=seed + k)) for k in range(1, net.depth)),
        normal(*batch, m, seed=seed + net.depth),
        torch.full((m,), 1.0 / m, dtype=torch.float64) if mass is None else mass,
    )
