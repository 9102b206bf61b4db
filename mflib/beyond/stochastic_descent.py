r"""Stochastic gradient descent of a two-layer network, with a step that depends on the width.

.. math::

    w_i \leftarrow w_i - \gamma N^{\beta - 1}\,
        \big(f(x_k) - y_k\big)\, \nabla_w \tanh(w_i \cdot x_k), \qquad
    f(x) = \frac1N \sum_i \tanh(w_i \cdot x),

one sample a step, over a fixed training time :math:`T`: :math:`T N^{1-\beta}/\gamma` steps
(debortoli2020, with :math:`0 \le \beta \le 1`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_generator,
    require_number,
    require_tensor,
)

__all__ = ["stochastic_descent"]


def stochastic_descent(
    w: Tensor,
    x: Tensor,
    y: Tensor,
    beta: float,
    time: float,
    generator: torch.Generator,
    gamma: float = 1.0,
) -> Tensor:
    r"""Return the neurons after training, each batch member with a data stream of its own.

    Parameters
    ----------
    w : Tensor
        Neurons at the start, shape (..., N, d).
    x : Tensor
        The samples, shape (n, d); a step draws one uniformly.
    y : Tensor
        Their targets, shape (n,).
    beta : float
        The exponent of the step, between 0 and 1.
    time : float
        The training time.
    generator : torch.Generator
        The source of the streams.
    gamma : float
        The step at :math:`\beta = 1`.

    Returns
    -------
    Tensor
        Shape (..., N, d).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.

    Examples
    --------
    One sample, whose target is met already: nothing moves.

    >>> w = torch.zeros(2, 1)
    >>> stochastic_descent(w, torch.ones(1, 1), torch.zeros(1), 0.5, 1.0, torch.Generator())
    tensor([[0.],
            [0.]])
    """
    require_tensor("w", w, 2)
    require_tensor("x", x, 2, last=w.shape[-1])
    require_tensor("y", y, 1)
    require_alike(w=w, x=x, y=y)
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"y: shape {tuple(y.shape)} for samples of shape {tuple(x.shape)}")
    require_number("beta", beta, least=0, most=1)
    require_number("time", time, least=0)
    require_number("gamma", gamma, above=0)
    require_generator(generator)
    step = gamma * w.shape[-2] ** (beta - 1.0)
    for _ in range(round(time / step)):
        pick = torch.randint(len(y), w.shape[:-2], generator=generator)
        sample = x[pick].unsqueeze(-2)  # (..., 1, d)
        active = torch.tanh((w * sample).sum(-1, keepdim=True))
        residual = active.mean((-2, -1)) - y[pick]
        w = w - step * residual[..., None, None] * (1 - active.square()) * sample
    if not bool(torch.isfinite(w).all()):
        raise ValueError("gamma: the neurons leave the finite numbers; take a smaller step")
    return w
