"""Exact W2 from the start to the snapshots of a trajectory.

``POT, cold`` and ``SciPy, cold`` solve each snapshot on its own; ours takes the dual potentials
from the last snapshot to the next.
"""

from __future__ import annotations

import numpy as np
import torch

from mflib.transport import wasserstein_along

from ..harness import Case, optional

SIZES = [(500, 5, 10), (1000, 5, 5)]
TOY = [(20, 3, 4)]


def case(size):
    N, k, T = size
    g = torch.Generator().manual_seed(0)
    start = torch.randn(N, k, generator=g, dtype=torch.float64)
    step = 0.05 * torch.randn(N, k, generator=g, dtype=torch.float64) + 0.01
    path = start + step * torch.arange(1, T + 1).double()[:, None, None]
    x, points, mass = start.numpy(), path.numpy(), np.full(N, 1.0 / N)
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    def by_scipy():
        costs = [cdist(x, y, "sqeuclidean") for y in points]
        return [c[linear_sum_assignment(c)].mean() ** 0.5 for c in costs]

    ot = optional("ot")

    def by_pot():
        return [ot.emd2(mass, mass, cdist(x, y, "sqeuclidean")) ** 0.5 for y in points]

    return Case(
        f"N={N} k={k} snapshots={T}",
        lambda: wasserstein_along(start, path),
        {"POT, cold": by_pot if ot else None, "SciPy, cold": by_scipy},
        tolerance=1e-10,
        goals={"POT, cold": 5.0, "SciPy, cold": 5.0},
    )


def cases(toy):
    return [lambda size=size: case(size) for size in (TOY if toy else SIZES)]
