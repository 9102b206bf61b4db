r"""The ramp: a loss between the 0-1 loss and the distance, for labels :math:`\pm1`.

.. math::

    \ell_\gamma(y', y) = \min\{1, (1 - y y'/\gamma)_+\}

is 1 where the sign is wrong, 0 where the sign is right by a margin of at least :math:`\gamma`, and
:math:`1/\gamma`-Lipschitz between (chen2024, Theorems 4.9 and C.12).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_number,
    require_positive_int,
    require_tensor,
)

__all__ = ["ramp_bound", "ramp_loss", "zero_one_loss"]


def _require_labels(output: Tensor, y: Tensor) -> None:
    require_tensor("output", output, 0)
    if bool((require_tensor("y", y, 0).abs() != 1).any()):
        raise ValueError("y: expected labels +1 and -1")
    require_alike(output=output, y=y)
    require_broadcast(output=output.shape, y=y.shape)


def ramp_loss(output: Tensor, y: Tensor, margin: float = 1.0) -> Tensor:
    r"""Return :math:`\min\{1, (1 - y f/\gamma)_+\}`, entry by entry.

    Parameters
    ----------
    output : Tensor
        Outputs f, shape (...).
    y : Tensor
        Labels :math:`\pm1`, of a shape that broadcasts.
    margin : float
        :math:`\gamma`.

    Raises
    ------
    TypeError, ValueError
        If a label is no sign, or the margin not positive.

    Examples
    --------
    >>> ramp_loss(torch.tensor([-2.0, 0.25, 0.5]), torch.ones(3), margin=0.5)
    tensor([1.0000, 0.5000, 0.0000])
    """
    _require_labels(output, y)
    require_number("margin", margin, above=0)
    return (1 - y * output / margin).clamp(0, 1)


def zero_one_loss(output: Tensor, y: Tensor) -> Tensor:
    r"""Return 1 where :math:`y f \le 0` and 0 elsewhere; an output of 0 is wrong.

    Parameters
    ----------
    output, y : Tensor
        As in :func:`ramp_loss`.

    Raises
    ------
    TypeError, ValueError
        If a label is no sign.

    Examples
    --------
    >>> zero_one_loss(torch.tensor([-2.0, 0.0, 0.1]), torch.ones(3))
    tensor([1., 1., 0.])
    """
    _require_labels(output, y)
    return torch.where(y * output <= 0, 1.0, 0.0).to(output.dtype)


def ramp_bound(
    empirical: Tensor, complexity: Tensor, n: int, delta: float, margin: float = 1.0
) -> Tensor:
    r"""Return what bounds the probability of a wrong sign, for a whole class at once.

    .. math::

        \frac1n\sum_i\ell_\gamma(f(x_i), y_i) + \frac2\gamma R_n(\mathcal F)
            + 3\sqrt{\frac{\log(2/\delta)}{2n}},

    with probability :math:`1-\delta` over the sample, where :math:`R_n` is the Rademacher
    complexity of the class on this sample. Anything that lies above the mean ramp may take
    its place.

    Parameters
    ----------
    empirical : Tensor
        The mean ramp loss on the sample, shape (...).
    complexity : Tensor
        :math:`R_n(\mathcal F)`, of a shape that broadcasts.
    n : int
        The size of the sample.
    delta : float
        The probability of failure, below 1.
    margin : float
        The margin :math:`\gamma` of the ramp.

    Raises
    ------
    TypeError, ValueError
        If a number is impossible.

    Examples
    --------
    >>> round(float(ramp_bound(torch.tensor(0.0), torch.tensor(0.1), 800, 0.01)), 4)
    0.3726
    """
    for name, value in (("empirical", empirical), ("complexity", complexity)):
        if bool((require_tensor(name, value, 0) < 0).any()):
            raise ValueError(f"{name}: holds a negative number")
    require_positive_int("n", n)
    if require_number("delta", delta, above=0) >= 1:
        raise ValueError(f"delta: expected a probability below 1, got {delta!r}")
    require_number("margin", margin, above=0)
    return empirical + 2 / margin * complexity + 3 * math.sqrt(math.log(2 / delta) / (2 * n))
