r"""What the operator :math:`\Sigma g(x) = \int \sigma(x \cdot \theta)\, g(d\theta)` can see.

On the sphere it is diagonal in spherical harmonics (Funk and Hecke), with

.. math::

    \lambda_k = |S^{d-2}| \int_{-1}^1 \sigma(t)\, P_k(t)\, (1 - t^2)^{(d-3)/2}\, dt,
    \qquad P_k(1) = 1;

on the line it splits into its even and its odd part (teacher_student, Examples 1 and 2).
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from ..activations import Activation, activation
from ..arguments import (
    require_alike,
    require_choice,
    require_int,
    require_masses,
    require_number,
    require_positive_int,
    require_tensor,
)

__all__ = [
    "gegenbauer",
    "off_teacher_mass",
    "relu_moment",
    "sphere_eigenvalue",
    "sphere_rule",
    "visible_part",
]


def gegenbauer(degree: int, dim: int, t: Tensor) -> Tensor:
    r"""Return the polynomial :math:`P_k(t)` of dimension d with :math:`P_k(1) = 1`.

    :math:`\theta \mapsto P_k(a \cdot \theta)` is a harmonic of degree k on the sphere of
    :math:`\mathbb R^d`, for every unit vector a; these functions span the degree.

    Parameters
    ----------
    degree, dim : int
        The degree k >= 0 and the dimension d >= 2.
    t : Tensor
        Where, of any shape.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed, or the value too large.
    """
    require_int("degree", degree, 0)
    require_int("dim", dim, 2)
    value = _gegenbauer(degree, dim, require_tensor("t", t, 0))
    if not bool(torch.isfinite(value).all()):
        raise ValueError("t: the value left the finite numbers; take t in [-1, 1]")
    return value


def _gegenbauer(degree: int, dim: int, t: Tensor) -> Tensor:
    before, now = torch.ones_like(t), t
    if degree == 0:
        return before
    for k in range(1, degree):
        before, now = now, ((2 * k + dim - 2) * t * now - k * before) / (k + dim - 2)
    return now


def sphere_rule(dim: int, number: int = 12) -> tuple[Tensor, Tensor]:
    r"""Return an antipodally symmetric quadrature rule on the circle or the sphere.

    Parameters
    ----------
    dim : {2, 3}
        The dimension d of the space.
    number : int
        Even. Polynomials of degree up to 2 number - 1 are integrated exactly.

    Returns
    -------
    points, weights : Tensor
        Shapes (P, d) and (P,), weights of sum 1.

    Raises
    ------
    ValueError
        For other dimensions, or an odd number.
    """
    require_choice("dim", dim, (2, 3))
    if require_int("number", number, 2) % 2:
        raise ValueError(f"number: expected an even number, got {number}")
    angle = math.pi * (torch.arange(2 * number, dtype=torch.float64) + 0.5) / number
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    if dim == 2:
        return circle, torch.full((2 * number,), 0.5 / number, dtype=circle.dtype)
    z, w = (torch.as_tensor(v) for v in np.polynomial.legendre.leggauss(number))
    flat = (1 - z**2).sqrt()[:, None, None] * circle
    height = z[:, None, None].expand(number, 2 * number, 1)
    weights = (w[:, None] / (4 * number)).expand(number, 2 * number)
    return torch.cat([flat, height], -1).flatten(0, 1), weights.flatten()


def sphere_eigenvalue(sigma: str | Activation, degree: int, dim: int, nodes: int = 64) -> float:
    r"""Return :math:`\lambda_k` on the sphere of :math:`\mathbb R^d`, by Gauss quadrature.

    Parameters
    ----------
    sigma : str or Activation
        Smooth on both sides of 0.
    degree, dim : int
        The degree k >= 0 and the dimension d >= 2.
    nodes : int
        On each of the two halves of the sphere.

    Raises
    ------
    ValueError
        If an argument is impossible.

    Examples
    --------
    >>> round(sphere_eigenvalue("relu", 2, 2), 12) == round(2 / 3, 12)
    True
    """
    require_int("degree", degree, 0)
    require_int("dim", dim, 2, 300)
    require_positive_int("nodes", nodes)
    at, weights = (torch.as_tensor(v) for v in np.polynomial.legendre.leggauss(nodes))
    angle = 0.25 * math.pi * torch.cat([1 + at, 3 + at])
    t = torch.cos(angle)
    values = activation(sigma).f(t) * _gegenbauer(degree, dim, t) * torch.sin(angle) ** (dim - 2)
    area = 2 * math.pi ** ((dim - 1) / 2) / math.gamma((dim - 1) / 2)
    return area * 0.25 * math.pi * float((values * torch.cat([weights, weights])).sum())


def relu_moment(degree: int, dim: int) -> Fraction:
    r"""Return :math:`\int_0^1 t\, P_k(t)\, (1 - t^2)^{(d-3)/2} dt` exactly, for odd d >= 3.

    It is :math:`\lambda_k / |S^{d-2}|` of ReLU.

    Examples
    --------
    >>> relu_moment(3, 3), relu_moment(2, 3)
    (Fraction(0, 1), Fraction(1, 8))
    """
    require_int("degree", degree, 0)
    if require_int("dim", dim, 3) % 2 == 0:
        raise ValueError(f"dim: expected an odd number >= 3, got {dim!r}")
    before, now = [Fraction(1)], [Fraction(0), Fraction(1)]
    for k in range(1, degree):
        up = [Fraction(2 * k + dim - 2) * c for c in [Fraction(0), *now]]
        down = [k * c for c in before] + [Fraction(0)] * 2
        before, now = now, [(u - v) / (k + dim - 2) for u, v in zip(up, down, strict=True)]
    poly = before if degree == 0 else now
    for _ in range((dim - 3) // 2):  # times 1 - t^2
        wide = poly + [Fraction(0)] * 2
        poly = [c - (poly[j - 2] if j >= 2 else 0) for j, c in enumerate(wide)]
    return sum((c / (j + 2) for j, c in enumerate(poly)), Fraction(0))


def visible_part(
    sigma: str | Activation, atoms: Tensor, x: Tensor, output: Tensor, cutoff: float = 1e-12
) -> tuple[Tensor, Tensor]:
    r"""Return the even and odd part of a difference of laws, as far as its output tells.

    The difference has masses :math:`e_j + o_j` at :math:`a_j` and :math:`e_j - o_j` at
    :math:`-a_j`. The least-squares solution of smallest norm is returned: a part that the
    operator sees is recovered, a part in its null space is returned as 0.

    Parameters
    ----------
    sigma : str or Activation
        The activation, in one dimension.
    atoms : Tensor
        The places :math:`a_j > 0`, shape (J,).
    x : Tensor
        Inputs of both signs, shape (n,).
    output : Tensor
        :math:`\Sigma g(x_i)`, shape (..., n).
    cutoff : float
        Singular values below this share of the largest count as 0.

    Returns
    -------
    even, odd : Tensor
        Shape (..., J) each.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.
    """
    _require_lists(atoms=atoms, x=x)
    require_tensor("output", output, 1, last=len(x))
    require_alike(x=x, output=output)
    require_number("cutoff", cutoff, least=0)
    f = activation(sigma).f
    plus, minus = f(torch.outer(x, atoms)), f(-torch.outer(x, atoms))
    design = torch.cat([plus + minus, plus - minus], -1)
    found = output @ torch.linalg.pinv(design, rtol=cutoff).mT
    return found[..., : len(atoms)], found[..., len(atoms) :]


def _require_lists(**lists: Tensor) -> None:
    for name, value in lists.items():
        if require_tensor(name, value, 1).ndim > 1:
            raise ValueError(f"{name}: expected one dimension, got shape {tuple(value.shape)}")
    require_alike(**lists)


def off_teacher_mass(
    sigma: str | Activation,
    x: Tensor,
    grid: Tensor,
    atoms: Tensor,
    masses: Tensor,
    tolerance: float,
    mirrored: bool = False,
) -> float:
    r"""Return the largest mass that a student of almost zero loss can have off the teacher.

    .. math::

        \max_{\rho \ge 0} \rho(\text{grid} \setminus \text{atoms}) \quad\text{so that}\quad
        \rho(1) = 1,\ |\Sigma(\rho - \rho_*)(x_i)| \le \text{tolerance}

    A density has all its mass off the atoms. If the value tends to 0 with the tolerance,
    no density has zero loss.

    Parameters
    ----------
    sigma : str or Activation
        The activation, in one dimension.
    x : Tensor
        Inputs, shape (n,).
    grid : Tensor
        Places where the student may have mass, shape (M,); the atoms are added.
    atoms, masses : Tensor
        The teacher, shape (J,) each; the masses have sum 1.
    tolerance : float
        Positive.
    mirrored : bool
        Do not count mass at the mirror images of the atoms either: an even activation
        cannot tell them apart.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed, or the solver finds no solution.
    """
    require_number("tolerance", tolerance, above=0)
    _require_lists(x=x, grid=grid, atoms=atoms, masses=masses)
    require_masses("masses", masses, len(atoms))
    require_choice("mirrored", mirrored, (False, True))
    free = torch.cat([atoms, -atoms]) if mirrored else atoms
    places = torch.cat([grid[(grid[:, None] - free).abs().min(-1).values > 1e-9], free])
    f = activation(sigma).f
    seen = (f(torch.outer(x, places)) / tolerance).numpy()
    goal = (f(torch.outer(x, atoms)) @ masses / tolerance).numpy()
    gain = np.r_[-np.ones(len(places) - len(free)), np.zeros(len(free))]
    for method in ("highs", "highs-ipm"):  # the simplex gives up on some scalings
        result = linprog(
            gain,
            A_ub=np.r_[seen, -seen],
            b_ub=np.r_[goal + 1, 1 - goal],
            A_eq=np.ones((1, len(places))),
            b_eq=[1.0],
            method=method,
        )
        if result.success:
            break
    if not result.success:
        raise ValueError(f"tolerance: no solution was found ({result.message})")
    return float(-result.fun)
