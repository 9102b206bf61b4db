"""Supremum over a Kullback-Leibler ball, for 32 draws of the signs.

``SciPy, scalar`` minimises the dual draw by draw with Brent's method and NumPy; ``Newton per
draw`` is our own routine without its batch. With ``radii`` a curve of 20 radii is wanted.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import optimize
from scipy.special import logsumexp

from mflib.rademacher import ball_supremum

from ..harness import Case

SIZES = [(32, 200, 1), (32, 1000, 1), (32, 5000, 1), (32, 1000, 20)]
TOY = [(3, 50, 2)]


def case(size):
    draws, M, curve = size
    g = torch.Generator().manual_seed(0)
    energy = torch.randn(draws, M, generator=g, dtype=torch.float64).square()
    radii = torch.logspace(-2, 0, curve).double() if curve > 1 else torch.tensor([0.3]).double()
    rows = energy.numpy()

    def ours():
        return torch.stack([ball_supremum(energy, float(r)).dual for r in radii])

    def one_by_one():
        return torch.stack(
            [torch.stack([ball_supremum(row, float(r)).dual for row in energy]) for r in radii]
        )

    def by_scipy():
        found = []
        for r in radii.tolist():
            for row in rows:

                def dual(log_mu, row=row, r=r):
                    mu = math.exp(log_mu)
                    return (r + logsumexp(0.5 * mu**2 * row) - math.log(M)) / mu

                found.append(optimize.minimize_scalar(dual, bracket=(-2, 1), tol=1e-8).fun)
        return np.reshape(found, (curve, draws))

    return Case(
        f"draws={draws} M={M} radii={curve}",
        ours,
        {"SciPy, scalar": by_scipy, "Newton per draw": one_by_one},
        tolerance=1e-10,
        goals={"SciPy, scalar": 5.0 if curve > 1 else 2.0, "Newton per draw": 2.0},
    )


def cases(toy):
    return [lambda size=size: case(size) for size in (TOY if toy else SIZES)]
