r"""Optimal transport between laws of particles.

.. math::

    W_p(\rho, \nu)^p = \min_{\gamma \in \Gamma(\rho, \nu)}
        \int \|z - z'\|^p \, d\gamma(z, z').

Finite laws are solved exactly, by libraries: POT's network simplex, SciPy's assignment for
equal masses of near laws, sorting in one dimension. Mean and covariance alone enforce
Gelbrich's distance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .arguments import (
    require_alike,
    require_broadcast,
    require_choice,
    require_masses,
    require_symmetric,
    require_tensor,
)

__all__ = [
    "Moments",
    "gelbrich",
    "moments",
    "wasserstein",
]


#: SciPy's names of the costs |x - y| and |x - y|^2.
_METRIC = {1: "euclidean", 2: "sqeuclidean"}


class Moments(NamedTuple):
    """Mean (..., k) and covariance (..., k, k) of a law."""

    mean: Tensor
    cov: Tensor


def _couple(x: np.ndarray, a: np.ndarray, y: np.ndarray, b: np.ndarray, order: int) -> tuple:
    """Return an optimal coupling of two finite laws: indices i, j and the masses moved."""
    import ot  # it imports every array library that it finds: only when needed
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    if x.shape[1] == 1:
        # on a line equal quantiles are joined, whatever the order
        plan = ot.emd_1d(x[:, 0], y[:, 0], a / a.sum(), b / b.sum(), dense=False)
        return plan.row, plan.col, plan.data
    # from differences: the library's |x|^2 + |y|^2 - 2 x y cancels for atoms far out
    cost = cdist(x, y, _METRIC[order])
    equal = len(a) == len(b) and np.ptp(np.concatenate([a, b])) <= 1e-14 * a[0]
    # the assignment is found sooner where most atoms have a nearest partner of their own, up to
    # ten times; elsewhere the network simplex is, up to six times at a thousand atoms
    if equal and 2 * len(np.unique(cost.argmin(1))) >= len(a):
        i, j = linear_sum_assignment(cost)
        return _exchanged(cost, i, j, a)
    plan, log = ot.emd(a, b * (a.sum() / b.sum()), cost, numItermax=1_000_000, log=True)
    if log["warning"]:
        raise RuntimeError(f"optimal transport was not solved: {log['warning']}")
    i, j = np.nonzero(plan)
    return _exchanged(cost, i, j, plan[i, j])


def _exchanged(cost: np.ndarray, i: np.ndarray, j: np.ndarray, moved: np.ndarray) -> tuple:
    """Return the coupling after every exchange of two partners that makes it cheaper.

    The solvers compare costs to rounding of the *largest* one, so one pair of atoms far out
    hides what is better among near ones. An exchange compares four costs among themselves.
    """
    moved = np.array(moved)
    for _ in range(1 + len(i)):
        own = cost[i, j]
        best, pair = 1e-12 * (moved @ own), None  # less is rounding of the whole
        for start in range(0, len(i), 256):  # rows at a time: memory
            rows, rest = slice(start, start + 256), slice(start, None)
            crossed = cost[i[rows]][:, j[rest]] + cost[i[rest]][:, j[rows]].T
            gain = own[rows, None] + own[rest] - crossed
            if gain.max() * moved.max() <= best:
                continue
            gain[gain <= 1e-13 * crossed] = 0.0  # rounding
            gain *= np.minimum(moved[rows, None], moved[rest])
            at = np.unravel_index(gain.argmax(), gain.shape)
            if gain[at] > best:
                best, pair = gain[at], (start + at[0], start + at[1])
        if pair is None:
            return i, j, moved
        r, s = pair
        share = min(moved[r], moved[s])
        moved[[r, s]] -= share
        i, j = np.append(i, [i[r], i[s]]), np.append(j, [j[s], j[r]])
        moved = np.append(moved, [share, share])
        keep = moved > 0
        i, j, moved = i[keep], j[keep], moved[keep]
    raise ValueError(
        "x, y: the atoms lie too far apart for the solver to compare near ones; "
        "split the laws or rescale the far atoms"
    )


def _masses(name: str, masses: Tensor | None, atoms: Tensor) -> Tensor:
    if masses is None:
        return atoms.new_full(atoms.shape[:-1], 1.0 / atoms.shape[-2])
    require_masses(name, masses, atoms.shape[-2])
    if require_broadcast(atoms=atoms.shape[:-1], **{name: masses.shape}) != atoms.shape[:-1]:
        raise ValueError(f"{name}: shape {tuple(masses.shape)} has more batch than the atoms")
    return masses.expand(atoms.shape[:-1])


def wasserstein(
    x: Tensor, y: Tensor, a: Tensor | None = None, b: Tensor | None = None, order: int = 2
) -> Tensor:
    r"""Return the exact distance :math:`W_p` of two finite laws, for every batch entry.

    Parameters
    ----------
    x, y : Tensor
        Atoms, shapes (..., A, k) and (..., B, k), with the same leading dimensions.
    a, b : Tensor, optional
        Masses, shapes (..., A) and (..., B), sum 1. Default: equal.
    order : {1, 2}
        The exponent p.

    Returns
    -------
    Tensor
        Shape (...). It may be differentiated by the atoms, with the coupling held fixed
        (the envelope theorem), but not by the masses.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed, masses do not sum to 1, or the atoms are spread too
        wide for an exact plan.

    Notes
    -----
    Exact means: the solver's plan, in which no exchange of two partners makes it cheaper by
    more than 1e-12 of the whole.

    Examples
    --------
    >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    >>> wasserstein(x, x.flip(0) + torch.tensor([0.0, 3.0]))
    tensor(3.)
    """
    require_choice("order", order, (1, 2))
    require_tensor("x", x, 2)
    require_tensor("y", y, 2, last=x.shape[-1])
    require_alike(x=x, y=y, a=a, b=b)
    if x.shape[:-2] != y.shape[:-2]:
        raise ValueError(
            f"y: leading dimensions {tuple(y.shape[:-2])} differ from "
            f"{tuple(x.shape[:-2])} of x; expand one of them"
        )
    a, b = _masses("a", a, x), _masses("b", b, y)
    flat = [v.reshape(-1, *v.shape[-k:]) for v, k in ((x, 2), (a, 1), (y, 2), (b, 1))]
    costs = []
    for xs, a_s, ys, bs in zip(*flat, strict=True):  # the libraries solve one at a time
        keep, kept = a_s > 0, bs > 0
        xs, ys = xs[keep], ys[kept]
        data = [v.detach().double().numpy() for v in (xs, a_s[keep], ys, bs[kept])]
        i, j, moved = _couple(*data, order)
        gap = (xs[torch.as_tensor(i).long()] - ys[torch.as_tensor(j).long()]).norm(dim=-1)
        moved = torch.as_tensor(moved, dtype=xs.dtype)
        costs.append((moved * gap**order).sum() ** (1.0 / order))
    return torch.stack(costs).reshape(x.shape[:-2])


def gelbrich(
    mean: Tensor, cov: Tensor, mean0: Tensor | None = None, cov0: Tensor | None = None
) -> Tensor:
    r"""Return Gelbrich's distance: W2 of Gaussians, a lower bound of W2 for other laws.

    .. math::

        W^2 = |m-m_0|^2 + \operatorname{tr}
              \big(S + S_0 - 2(S_0^{1/2} S S_0^{1/2})^{1/2}\big).

    Parameters
    ----------
    mean, cov : Tensor
        Moments of the first law, shapes (..., k) and (..., k, k).
    mean0, cov0 : Tensor, optional
        Moments of the second; default those of N(0, I).

    Returns
    -------
    Tensor
        The distance, shape (...).

    Raises
    ------
    TypeError, ValueError
        If a matrix is not symmetric and positive semi-definite.

    Notes
    -----
    The trace is :math:`\min_O \|S^{1/2} - S_0^{1/2} O\|_F^2` over orthogonal O, attained at
    the polar factor of :math:`S_0^{1/2} S^{1/2}`: a norm of differences, which has no
    cancellation however near the two laws are.

    Examples
    --------
    >>> gelbrich(torch.zeros(2), 4.0 * torch.eye(2))  # N(0, 4 I) against N(0, I)
    tensor(1.4142)
    """
    k = require_symmetric("cov", cov).shape[-1]
    shift = require_tensor("mean", mean, 1, last=k)
    require_alike(mean=mean, cov=cov, mean0=mean0, cov0=cov0)
    shapes = {"mean": mean.shape[:-1], "cov": cov.shape[:-2]}
    if mean0 is not None:
        shapes["mean0"] = require_tensor("mean0", mean0, 1, last=k).shape[:-1]
    if cov0 is not None:
        shapes["cov0"] = require_symmetric("cov0", cov0).shape[:-2]
        if cov0.shape[-1] != k:
            raise ValueError(f"cov0: shape {tuple(cov0.shape)}, expected ({k}, {k}) as cov")
    require_broadcast(**shapes)
    shift = (shift if mean0 is None else shift - mean0).square().sum(-1)
    root = _root("cov", cov)
    if cov0 is None:
        gap = root - torch.eye(k, dtype=cov.dtype)
    else:
        root0 = _root("cov0", cov0)
        left, _, right = torch.linalg.svd(root0 @ root)
        gap = root - root0 @ (left @ right)
    return (shift + gap.square().sum((-1, -2))).sqrt()


def _root(name: str, cov: Tensor) -> Tensor:
    """Return the symmetric square root of positive semi-definite matrices."""
    values, vectors = torch.linalg.eigh(cov)
    if (values < -1e-9 * values.abs().amax(-1, keepdim=True)).any():
        raise ValueError(f"{name}: has a negative eigenvalue; a covariance has none")
    return (vectors * values.clamp_min(0).sqrt().unsqueeze(-2)) @ vectors.mT


def moments(points: Tensor) -> Moments:
    r"""Return mean (..., k) and covariance (..., k, k) of points (..., N, k), mass 1/N each.

    Raises
    ------
    TypeError, ValueError
        If the points are malformed.

    Examples
    --------
    >>> moments(torch.tensor([[1.0], [3.0]]))
    Moments(mean=tensor([2.]), cov=tensor([[1.]]))
    """
    require_tensor("points", points, 2)
    mean = points.mean(-2)
    centred = points - mean.unsqueeze(-2)
    return Moments(mean, centred.mT @ centred / points.shape[-2])
