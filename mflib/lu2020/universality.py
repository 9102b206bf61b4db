r"""How far a function is from the averages of blocks, with and without signs (lu2020, eq. (11)).

With the values :math:`a_j = f(\cdot, \theta_j)` on the data, the two distances are

.. math::

    \min_{c \ge 0,\ \sum c = 1} \Big\|g - \sum_j c_j a_j\Big\|_\mu
    \qquad\text{and}\qquad
    \min_{c} \Big\|g - \sum_j c_j a_j\Big\|_\mu :

from the convex hull, which is what a probability over parameters reaches, and from the
span, which is what universality of a kernel speaks of.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import lsq_linear
from torch import Tensor

from ..arguments import require_alike, require_tensor

__all__ = ["hull_distance", "span_distance"]


def _scaled(values: Tensor, target: Tensor, mass: Tensor) -> tuple[np.ndarray, np.ndarray]:
    require_tensor("values", values, 2)
    n = values.shape[-2]
    require_tensor("target", target, 1, last=n)
    require_tensor("mass", mass, 1, last=n)
    if bool((mass < 0).any()):
        raise ValueError("mass: holds a negative mass; pass a measure")
    for name, given, ndim in (("values", values, 2), ("target", target, 1), ("mass", mass, 1)):
        if given.ndim != ndim:
            raise ValueError(f"{name}: expected {ndim} dimensions, got shape {tuple(given.shape)}")
    require_alike(values=values, target=target, mass=mass)
    root = mass.sqrt()
    return (root[:, None] * values).numpy(), (root * target).numpy()


def hull_distance(values: Tensor, target: Tensor, mass: Tensor) -> float:
    r"""Return the distance of a function from the convex hull of others.

    The point of a hull that is nearest to 0 solves, up to its scale, the non-negative least
    squares problem :math:`\min_{c\ge0} \|\sum_j c_j (a_j - g)\|_\mu^2 + (\sum_j c_j - 1)^2`,
    which SciPy's active-set method for bounds (BVLS) solves to rounding.

    Parameters
    ----------
    values : Tensor
        The functions :math:`a_j` on the data, shape (n, P).
    target : Tensor
        g, shape (n,).
    mass : Tensor
        The data measure, shape (n,).

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If a shape or a mass is impossible.

    Examples
    --------
    >>> import torch
    >>> square = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> round(hull_distance(square, torch.tensor([1.0, 1.0]), torch.ones(2)), 6)
    0.707107
    """
    a, g = _scaled(values, target, mass)
    rows = np.vstack([a - g[:, None], np.ones(a.shape[1])])
    # nnls stops early now and then: 11 of 4000 random hulls were off by a part in a thousand
    c = lsq_linear(rows, np.append(np.zeros(len(g)), 1.0), (0.0, np.inf), "bvls", 1e-14).x
    return float(np.linalg.norm(a @ (c / c.sum()) - g))


def span_distance(values: Tensor, target: Tensor, mass: Tensor) -> float:
    r"""Return the distance of a function from the linear span of others.

    Singular values below 1e-13 of the largest count as zero.

    Parameters
    ----------
    values : Tensor
        The functions :math:`a_j` on the data, shape (n, P).
    target : Tensor
        g, shape (n,).
    mass : Tensor
        The data measure, shape (n,).

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If a shape or a mass is impossible.
    """
    a, g = _scaled(values, target, mass)
    c = np.linalg.lstsq(a, g, rcond=1e-13)[0]
    return float(np.linalg.norm(a @ c - g))
