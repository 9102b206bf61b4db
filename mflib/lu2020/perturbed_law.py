r"""The perturbed law of lu2020, eq. (12), as printed and repaired.

With a bump :math:`\varphi \ge 0` around the depth :math:`t_\ast`, :math:`\int\varphi = 1`,

.. math::

    \delta\nu_{\text{printed}}
        = \varphi(t)\,\Big(\hat\nu - \frac{\rho(\cdot, t_\ast)}{m(t_\ast)}\Big), \qquad
    \delta\nu_{\text{repaired}} = \varphi(t)\,\Big(\hat\nu - \frac{\rho(\cdot, t)}{m(t)}\Big).

The first takes away at depth t what the law has at depth :math:`t_\ast`.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..arguments import (
    require_alike,
    require_instance,
    require_int,
    require_number,
    require_positive_int,
    require_tensor,
)
from ..measures import LayeredMeasure
from ..problem import Problem
from .descent import Direction

__all__ = ["FORMS", "negative_mass", "pairings"]

#: What is subtracted: the law at the bump's centre, or at its own depth.
FORMS = ("printed", "repaired")


def _form(form: str) -> str:
    if form not in FORMS:
        raise ValueError(f"form: no {form!r}; choose one of {', '.join(FORMS)}")
    return form


def negative_mass(
    speed: float,
    half_width: float,
    bump_width: float,
    step: float,
    form: str = "printed",
    nodes: int = 64,
) -> float:
    r"""Return the mass of the negative part of :math:`\rho + r\,\delta\nu` for a moving box.

    The law at depth t is uniform on :math:`[at - s, at + s]`, :math:`\varphi` is a raised
    cosine of half width :math:`\epsilon`, and :math:`\hat\nu` lives elsewhere. At every
    depth the density is constant between the end points of the two boxes, so its negative
    part is summed over these pieces; in depth by Gauss-Legendre nodes, split where a piece
    appears or vanishes.

    Parameters
    ----------
    speed, half_width : float
        a and s > 0.
    bump_width : float
        :math:`\epsilon > 0`.
    step : float
        r > 0, at most :math:`1/\max\varphi = \epsilon`: beyond it even the repaired
        form goes below zero.
    form : {"printed", "repaired"}
        What is subtracted.
    nodes : int
        Gauss-Legendre nodes a piece.

    Returns
    -------
    float
        Of a law of total mass 1.

    Raises
    ------
    ValueError
        If a width is not positive or the step too long.
    """
    for name, value in (("half_width", half_width), ("bump_width", bump_width), ("step", step)):
        require_number(name, value, above=0)
    require_number("speed", speed)
    require_positive_int("nodes", nodes)
    if step > bump_width:
        raise ValueError(f"step: {step} exceeds 1/max(phi) = {bump_width}; make it shorter")
    printed = _form(form) == "printed"
    breaks = {0.0, -bump_width, bump_width}
    if speed:
        reach = 2 * half_width / abs(speed)
        breaks |= {v for v in (-reach, reach) if abs(v) < bump_width}
    ends = np.array(sorted(breaks))
    unit, mass = np.polynomial.legendre.leggauss(nodes)
    middle, half = 0.5 * (ends[1:] + ends[:-1]), 0.5 * np.diff(ends)
    u = (middle[:, None] + half[:, None] * unit).ravel()
    du = (half[:, None] * mass).ravel()
    phi = (1.0 + np.cos(np.pi * u / bump_width)) / (2.0 * bump_width)
    here = speed * u  # centre of the law's box; the other box stands at 0 or moves along
    there = np.zeros_like(u) if printed else here
    edges = np.sort(
        np.stack(
            [here - half_width, here + half_width, there - half_width, there + half_width], -1
        ),
        -1,
    )
    centre, length = 0.5 * (edges[:, 1:] + edges[:, :-1]), np.diff(edges, axis=-1)
    height = 1.0 / (2.0 * half_width)

    def box(at: np.ndarray) -> np.ndarray:
        return height * (np.abs(centre - at[:, None]) < half_width)

    density = box(here) - step * phi[:, None] * box(there)
    return float((du[:, None] * length * np.maximum(-density, 0.0)).sum())


def pairings(
    problem: Problem,
    rho: LayeredMeasure,
    direction: Direction,
    bumps: Tensor,
    layer: int,
    form: str = "printed",
) -> Tensor:
    r"""Return what each datum adds to the pairing of the first variation with :math:`\delta\nu`.

    .. math::

        \int \varphi(t)\, p_i(t)\cdot\int f(X_i(t), \theta)\, \delta\nu(d\theta, t)\, dt

    for several bumps; the pairing is the mean over the data measure. As a bump narrows
    this tends to :math:`-|p_i(t_\ast)|^2`.

    Parameters
    ----------
    problem : Problem
        The task, one Euler step a layer.
    rho : LayeredMeasure
        The law, `theta` of shape (..., L, N, k).
    direction : Direction
        :math:`\hat\nu`, from :func:`~mflib.lu2020.descent.descent_direction`.
    bumps : Tensor
        Bumps over the layers, each of mean 1, shape (W, L).
    layer : int
        The layer of :math:`t_\ast`.
    form : {"printed", "repaired"}
        What is subtracted.

    Returns
    -------
    Tensor
        Shape (..., W, n).

    Raises
    ------
    ValueError
        If the layer does not exist or `form` is unknown.
    """
    _form(form)
    require_instance("problem", problem, Problem)
    require_instance("direction", direction, Direction)
    require_int("layer", layer, 0, require_instance("rho", rho, LayeredMeasure).layers - 1)
    require_tensor("bumps", bumps, 2, last=rho.layers)
    require_alike(rho=rho.theta, bumps=bumps, direction=direction.theta)
    seen = problem.backward(rho)
    X, p = seen.states, seen.costates
    share = rho.weights / rho.depth_density.unsqueeze(-1)
    theta = rho.theta
    if form == "printed":
        theta = theta[..., layer : layer + 1, :, :]
        share = share[..., layer : layer + 1, :]
    change = problem.block.field(
        X, direction.theta.unsqueeze(-3), direction.weights.unsqueeze(-2)
    ) - problem.block.field(X, theta, share)
    return bumps @ (p * change).sum(-1) / rho.layers
