r"""Laws of particles perturbed in the Wasserstein distance, and their worst direction.

For particles of equal mass the gradient of a functional F in W2 is the number of
particles times its ordinary gradient, and its norm is the root mean square over the
particles. Moving every particle along it,

.. math::

    \theta_j \mapsto \theta_j + r\, \frac{\nabla_W F(\theta_j)}{\|\nabla_W F\|_{L^2(\nu)}},

changes F by :math:`r\,\|\nabla_W F\|` to first order, more than any other law at the
distance r. A random displacement averages out over the particles.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..arguments import require_callable, require_choice, require_tensor

__all__ = ["displacement_norm", "worst_direction"]


def _particles(axes: int) -> tuple[int, ...]:
    return tuple(range(-1 - require_choice("axes", axes, (1, 2)), -1))


def displacement_norm(v: Tensor, axes: int = 1) -> Tensor:
    r"""Return :math:`(\frac1N \sum_j |v_j|^2)^{1/2}`, over layers in mean square too.

    Parameters
    ----------
    v : Tensor
        Displacements, shape (..., N, k), or (..., L, N, k) with ``axes=2``.
    axes : int
        1 for one law, 2 for a law at every depth (:math:`L^2` in depth).

    Returns
    -------
    Tensor
        Shape (...): what the coupling costs that moves every particle by v. It is at
        least :func:`mflib.transport.wasserstein`, and equal to it where displacements are
        small beside the gaps between particles.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.
    """
    inner = _particles(axes)
    return require_tensor("v", v, 1 + axes).square().mean(inner).sum(-1).sqrt()


def worst_direction(
    function: Callable[[Tensor], Tensor], particles: Tensor, axes: int = 1
) -> tuple[Tensor, Tensor]:
    r"""Return the displacement that changes a vector most, and the slope along it.

    .. math::

        \sup_{\|v\|_{L^2(\nu)} = 1} |DF(\nu)[v]| = \sqrt{\lambda_{\max}(S)}, \qquad
        S_{ab} = \langle \nabla_W F_a, \nabla_W F_b \rangle_{L^2(\nu)},

    attained along :math:`\sum_a e_a \nabla_W F_a` with the top eigenvector e of S.

    Parameters
    ----------
    function : callable
        F, maps particles (..., N, k) to vectors (..., m), each batch entry on its own.
    particles : Tensor
        Shape (..., N, k), or (..., L, N, k) with ``axes=2``.
    axes : int
        As in :func:`displacement_norm`.

    Returns
    -------
    direction : Tensor
        Of norm 1, the shape of `particles`.
    slope : Tensor
        Shape (...); for m = 1 the norm of the gradient, and the direction ascends.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed, or F does not depend on the particles.
    """
    require_callable("function", function)
    inner = _particles(axes)
    leaf = require_tensor("particles", particles, 1 + axes).detach().requires_grad_()
    values = function(leaf)
    rows = [
        torch.autograd.grad(values[..., a].sum(), leaf, retain_graph=True)[0]
        for a in range(values.shape[-1])
    ]
    count = math.prod(particles.shape[i] for i in inner)
    grads = count * torch.stack([row.flatten(-1 - axes) for row in rows], -2)
    square, vectors = torch.linalg.eigh(grads @ grads.mT / count)
    slope = square[..., -1].clamp_min(0).sqrt()
    if not (slope > 0).all():
        raise ValueError("function: does not change with the particles, to first order")
    top = vectors[..., -1]
    # an eigenvector's sign is arbitrary: let the components' sum increase
    top = top * torch.where(top.sum(-1, keepdim=True) < 0, -1.0, 1.0)
    direction = (top.unsqueeze(-2) @ grads).squeeze(-2) / slope.unsqueeze(-1)
    return direction.unflatten(-1, particles.shape[-1 - axes :]), slope
