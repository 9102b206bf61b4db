"""Exact W2 from the start to the snapshots of a trajectory.

Ours takes the solver that suits each snapshot and looks at every exchange of two partners. The
peers are one library for all snapshots, each on its own, and two warm starts: both solvers with
dual potentials, of the last snapshot or of the first.
"""

from __future__ import annotations

import numpy as np
import torch

from mflib.transport import wasserstein

from ..harness import Case, optional

SIZES = [(500, 5, 10, 0.05), (1000, 5, 5, 0.05), (1000, 2, 5, 0.5)]
TOY = [(20, 3, 4, 0.05)]


def case(size):
    N, k, T, step = size
    g = torch.Generator().manual_seed(0)
    start = torch.randn(N, k, generator=g, dtype=torch.float64)
    speed = step * torch.randn(N, k, generator=g, dtype=torch.float64) + 0.01
    path = start + speed * torch.arange(1, T + 1).double()[:, None, None]
    x, points, mass = start.numpy(), path.numpy(), np.full(N, 1.0 / N)
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    ot = optional("ot")

    def costs():
        return [cdist(x, y, "sqeuclidean") for y in points]

    def simplex():
        return [ot.emd2(mass, mass, c) ** 0.5 for c in costs()]

    def simplex_warm():
        found, known = [], None
        for c in costs():
            _, log = ot.emd(mass, mass, c, log=True, potentials_init=known)
            known = log["u"], log["v"]
            found.append(log["cost"] ** 0.5)
        return found

    def assignment():
        return [c[linear_sum_assignment(c)].mean() ** 0.5 for c in costs()]

    def assignment_warm():
        first, *rest = costs()
        _, log = ot.emd(mass, mass, first, log=True)
        moved = log["u"][:, None] + log["v"]
        later = [c[linear_sum_assignment(c - moved)].mean() for c in rest]
        return [float(v) ** 0.5 for v in (log["cost"], *later)]

    peers = {"SciPy": assignment}
    if ot:
        peers |= {"POT": simplex, "POT, warm": simplex_warm, "SciPy, warm": assignment_warm}
    return Case(
        f"N={N} k={k} snapshots={T} step={step}",
        lambda: wasserstein(start.expand(path.shape), path),
        peers,
        tolerance=1e-10,
        goals={"POT": 5.0, "SciPy": 5.0},
    )


def cases(toy):
    return [lambda size=size: case(size) for size in (TOY if toy else SIZES)]
