r"""Conditional optimal transport of layered laws: mass moves within its layer only.

.. math::

    \mathrm{COT}(\rho, \nu)^2 = \int_0^1 W_2\big(\rho(\cdot|t), \nu(\cdot|t)\big)^2 dt
    \;\ge\; W_2(\rho, \nu)^2,

for laws whose depth marginal is uniform (barboni2025, Section 2); :math:`W_2` is the
distance on :math:`(\theta, t)`, which may also move mass along the depth.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import require_alike, require_instance
from ..measures import LayeredMeasure
from ..transport import wasserstein

__all__ = ["conditional_distance", "joint_distance"]


def _pair(rho: object, nu: object) -> tuple[LayeredMeasure, LayeredMeasure]:
    require_instance("rho", rho, LayeredMeasure)
    require_instance("nu", nu, LayeredMeasure)
    require_alike(rho=rho.theta, nu=nu.theta)
    if rho.theta.shape[-1] != nu.theta.shape[-1] or rho.layers != nu.layers:
        raise ValueError(
            f"nu: {nu.layers} layers of particles of size {nu.theta.shape[-1]}, rho has "
            f"{rho.layers} of size {rho.theta.shape[-1]}; both must agree"
        )
    if rho.theta.shape[:-3] != nu.theta.shape[:-3]:
        raise ValueError("nu: leading dimensions differ from those of rho; expand one of them")
    for name, law in (("rho", rho), ("nu", nu)):
        one = torch.ones_like(law.depth_density)
        if bool((law.weights < 0).any()) or not torch.allclose(law.depth_density, one, rtol=1e-9):
            raise ValueError(f"{name}: every layer must have non-negative weights of sum 1")
    return rho, nu


def conditional_distance(rho: LayeredMeasure, nu: LayeredMeasure) -> Tensor:
    r"""Return :math:`\mathrm{COT}(\rho, \nu)`, shape (...).

    Parameters
    ----------
    rho, nu : LayeredMeasure
        Laws with as many layers, each layer of mass 1, and the same batch.

    Raises
    ------
    TypeError, ValueError
        If they do not fit each other.

    Examples
    --------
    >>> rho = LayeredMeasure(torch.tensor([[[0.0]], [[3.0]]]))  # one particle a layer
    >>> conditional_distance(rho, LayeredMeasure(torch.tensor([[[4.0]], [[3.0]]])))
    tensor(2.8284)
    """
    _pair(rho, nu)
    per_layer = wasserstein(rho.theta, nu.theta, *_masses(rho, nu))
    return per_layer.square().mean(-1).sqrt()


def joint_distance(rho: LayeredMeasure, nu: LayeredMeasure) -> Tensor:
    r"""Return :math:`W_2(\rho, \nu)` on :math:`(\theta, t)`, layers at their midpoints.

    Parameters
    ----------
    rho, nu : LayeredMeasure
        As for :func:`conditional_distance`.

    Returns
    -------
    Tensor
        Shape (...).

    Raises
    ------
    TypeError, ValueError
        If they do not fit each other.

    Examples
    --------
    >>> rho = LayeredMeasure(torch.tensor([[[0.0]], [[3.0]]]))
    >>> joint_distance(rho, LayeredMeasure(rho.theta.flip(0)))  # half a unit of depth
    tensor(0.5000)
    """
    _pair(rho, nu)
    stamped = [_stamped(law.theta).flatten(-3, -2) for law in (rho, nu)]
    masses = [w.flatten(-2) / rho.layers for w in _masses(rho, nu)]
    return wasserstein(*stamped, *masses)


def _masses(rho: LayeredMeasure, nu: LayeredMeasure) -> list[Tensor]:
    return [law.weights.expand(law.theta.shape[:-1]) for law in (rho, nu)]


def _stamped(theta: Tensor) -> Tensor:
    layers = theta.shape[-3]
    depth = (torch.arange(layers, dtype=theta.dtype) + 0.5) / layers
    return torch.cat([theta, depth[:, None, None].expand_as(theta[..., :1])], -1)
