r"""The bounded-Lipschitz norm of a signed measure with finitely many atoms on a line.

.. math::

    \|\mu\|_{BL} = \sup\Big\{\int\varphi\,d\mu :\ |\varphi|\le1,\
        |\varphi(x)-\varphi(y)|\le|x-y|\Big\}.

lu2020, Section 1.3, compares it with narrow convergence, that is, with the pairings of all
bounded continuous functions.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from ..arguments import require_alike, require_int, require_number, require_tensor

__all__ = ["bounded_lipschitz_norm", "tents"]


def bounded_lipschitz_norm(places: Tensor, masses: Tensor) -> Tensor:
    r"""Return the norm of :math:`\sum_i m_i\delta_{x_i}`, by linear programming.

    On a line it is enough to bound the slope between neighbours, and values at the atoms
    extend to the whole line with the same bounds.

    Parameters
    ----------
    places : Tensor
        The atoms :math:`x_i`, shape (..., N).
    masses : Tensor
        Signed masses :math:`m_i`, shape (..., N).

    Returns
    -------
    Tensor
        Shape (...).

    Raises
    ------
    TypeError, ValueError
        If shapes or dtypes do not fit, or the program was not solved.

    Examples
    --------
    A dipole of length 1/4, and one so long that the bound on the values decides.

    >>> at = torch.tensor([[0.0, 0.25], [0.0, 9.0]])
    >>> bounded_lipschitz_norm(at, torch.tensor([[1.0, -1.0], [1.0, -1.0]]))
    tensor([0.2500, 2.0000])
    """
    count = require_tensor("places", places, 1).shape[-1]
    if require_tensor("masses", masses, 1, last=count).shape != places.shape:
        raise ValueError(f"masses: shape {tuple(masses.shape)}, expected {tuple(places.shape)}")
    require_alike(places=places, masses=masses)
    norms = [
        _norm(x, m)
        for x, m in zip(
            places.detach().double().reshape(-1, count).numpy(),
            masses.detach().double().reshape(-1, count).numpy(),
            strict=True,
        )
    ]
    return torch.tensor(norms, dtype=places.dtype).reshape(places.shape[:-1])


def _norm(x: np.ndarray, m: np.ndarray) -> float:
    order = np.argsort(x)
    x, m = x[order], m[order]
    scale = np.abs(m).sum() or 1.0
    # the unknowns are the first value and the slopes: short dipoles keep their digits
    values = np.tri(len(x)) * np.append(1.0, np.diff(x))
    options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    found = linprog(
        -(m @ values) / scale,
        np.vstack([values, -values]),
        np.ones(2 * len(x)),
        bounds=(-1.0, 1.0),
        method="highs",
        options=options,
    )
    if not found.success:
        raise ValueError(f"places: the linear program was not solved ({found.message})")
    return float(-found.fun * scale)


def tents(x: Tensor, first: int, last: int, start: float = 0.0) -> Tensor:
    r"""Return a bounded continuous function whose slopes grow without bound.

    .. math::

        \varphi(x) = \sum_{n=n_0}^{n_1} \big(1 - n\,|x - s - n|\big)_+,

    which is 1 at :math:`s+n` and 0 at :math:`s+n+\frac1n`.

    Parameters
    ----------
    x : Tensor
        Points, any shape.
    first, last : int
        :math:`n_0 \ge 2`, so that no two tents meet, and :math:`n_1`.
    start : float
        The shift s.

    Returns
    -------
    Tensor
        The shape of `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.
    """
    require_tensor("x", x, 0)
    require_number("start", start)
    require_int("last", last, require_int("first", first, 2))
    n = torch.arange(first, last + 1, dtype=x.dtype)
    return (1 - n * (x.unsqueeze(-1) - start - n).abs()).clamp_min(0).sum(-1)
