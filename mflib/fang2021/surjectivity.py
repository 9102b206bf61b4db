r"""The first-layer map :math:`v \mapsto v_1^t(v, 0, \ldots, 0)` of the flow, and its preimages.

Lemma 6 of fang2021 says that the map is onto at every finite time. The proof moves each point
by at most Ct and uses Brouwer's theorem; here the preimages are found by Newton's method, and
the winding number of the image of a large circle counts them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import require_instance, require_number, require_positive_int, require_tensor
from .ghosts import Background

__all__ = ["first_layer_map", "preimages", "winding_number"]


def _in_the_plane_of(back: Background, name: str, points: Tensor) -> Tensor:
    x = require_instance("back", back, Background).net.x
    if require_tensor(name, points, 2).ndim != 2 or len(points) != x.shape[-1]:
        raise ValueError(f"{name}: shape {tuple(points.shape)}, expected ({x.shape[-1]}, G)")
    if points.dtype != x.dtype:
        raise TypeError(f"{name}: is {points.dtype}, the inputs are {x.dtype}; convert one")
    return points


def first_layer_map(back: Background, v: Tensor) -> Tensor:
    r"""Return :math:`v_1^t` of the paths (v, 0, ..., 0), for v of shape (d, G), same shape."""
    _in_the_plane_of(back, "v", v)
    alpha = torch.zeros(back.net.depth - 1, back.net.samples, v.shape[-1], dtype=v.dtype)
    return back.follow(v, alpha).first[-1]


def preimages(
    back: Background, targets: Tensor, sweeps: int = 20, radius: float | None = None
) -> tuple[Tensor, Tensor]:
    r"""Return preimages of targets (d, G) by damped Newton steps, and what is missed.

    Parameters
    ----------
    back : Background
        The flow.
    targets : Tensor
        Shape (d, G).
    sweeps : int
        The number of steps; each is halved where it does not help.
    radius : float, optional
        If given, the search stays in the ball :math:`|v|\le` radius.

    Returns
    -------
    v : Tensor
        Shape (d, G).
    missed : Tensor
        :math:`|v_1^t(v)-\text{target}|`, shape (G,).
    """
    d = len(_in_the_plane_of(back, "targets", targets))
    require_positive_int("sweeps", sweeps)
    if radius is not None:
        require_number("radius", radius, above=0)

    def inside(v: Tensor) -> Tensor:
        if radius is None:
            return v
        return v * (radius / v.norm(dim=0).clamp_min(1e-300)).clamp_max(1.0)

    def image(v: Tensor) -> Tensor:
        return first_layer_map(back, v)

    v = inside(targets)
    miss = image(v) - targets
    for _ in range(sweeps):
        if miss.norm(dim=0).max() < 1e-14 * max(1.0, float(targets.norm(dim=0).max())):
            break
        columns = []
        for k in range(d):
            unit = torch.zeros_like(v)
            unit[k] = 1.0
            columns.append(torch.func.jvp(image, (v,), (unit,))[1])
        jacobian = torch.stack(columns).permute(2, 1, 0)
        step = torch.linalg.solve(jacobian, miss.T.unsqueeze(-1)).squeeze(-1).T
        size = torch.ones(v.shape[-1], dtype=v.dtype)
        for _ in range(5):
            trial = inside(v - size * step)
            found = image(trial) - targets
            worse = found.norm(dim=0) > miss.norm(dim=0)
            if not worse.any():
                break
            size = torch.where(worse, 0.5 * size, size)
        better = found.norm(dim=0) <= miss.norm(dim=0)
        v, miss = torch.where(better, trial, v), torch.where(better, found, miss)
    return v, miss.norm(dim=0)


def winding_number(curve: Tensor, points: Tensor) -> Tensor:
    r"""Return how often a closed polygon turns around points.

    Parameters
    ----------
    curve : Tensor
        Corners in their order, shape (2, M).
    points : Tensor
        Shape (2, K), not on the polygon.

    Returns
    -------
    Tensor
        Shape (K,).
    """
    for name, value in (("curve", curve), ("points", points)):
        require_tensor(name, value, 2)
        if value.shape[:-1] != (2,):
            raise ValueError(f"{name}: shape {tuple(value.shape)} is not (2, ...), a plane's")
    away = curve.unsqueeze(-1) - points.unsqueeze(1)
    angle = torch.atan2(away[1], away[0])
    turn = torch.remainder(angle.roll(-1, 0) - angle + math.pi, 2 * math.pi) - math.pi
    return turn.sum(0) / (2 * math.pi)
