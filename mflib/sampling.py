r"""Sampling of particle laws: Gaussian layers, waves smooth in depth, Sobol points."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .arguments import (
    require_batch,
    require_generator,
    require_instance,
    require_int,
    require_number,
    require_positive_int,
)
from .measures import CurveMeasure, LayeredMeasure

__all__ = ["gaussian_measure", "independent_layers", "sobol_gaussian", "wave_measure"]


def gaussian_measure(
    layers: int,
    particles: int,
    k: int,
    generator: torch.Generator,
    scale: float = 1.0,
    batch: tuple[int, ...] = (),
) -> LayeredMeasure:
    r"""Sample :math:`\theta_{l,i} \sim N(0, \text{scale}^2 I_k)` independently, mass 1/N each.

    Parameters
    ----------
    layers, particles, k : int
        The sizes L, N and k.
    generator : torch.Generator
        The source of randomness.
    scale : float
        The standard deviation.
    batch : tuple of int
        Leading batch dimensions, one independent measure each.

    Returns
    -------
    LayeredMeasure
        With `theta` of shape (batch..., L, N, k).

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer, `scale` negative or `generator` none.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> gaussian_measure(4, 10, 3, generator, batch=(2,)).theta.shape
    torch.Size([2, 4, 10, 3])
    """
    require_generator(generator)
    for name, size in (("layers", layers), ("particles", particles), ("k", k)):
        require_positive_int(name, size)
    require_number("scale", scale, least=0)
    require_batch(batch)
    theta = scale * torch.randn(
        *batch, layers, particles, k, generator=generator, dtype=torch.float64
    )
    return LayeredMeasure(theta)


def wave_measure(
    particles: int,
    k: int,
    generator: torch.Generator,
    scale: float = 1.0,
    batch: tuple[int, ...] = (),
    tilt: float = 0.0,
) -> CurveMeasure:
    r"""Sample a measure that is smooth in depth: N particles on random waves.

    .. math::

        \theta_i(t) = A_i + B_i \sin(2\pi t + \phi_i),
        \qquad m(t) = 1 + \kappa \cos 2\pi t,

    with independent Gaussian :math:`A_i, B_i` of standard deviation `scale` and uniform
    phases. Its total mass is 1 for every tilt.

    Parameters
    ----------
    particles, k : int
        The sizes N and k.
    generator : torch.Generator
        The source of randomness.
    scale : float
        The standard deviation of the waves' coefficients.
    batch : tuple of int
        Leading batch dimensions, one independent measure each.
    tilt : float
        The modulation :math:`\kappa` of the depth density, between -1 and 1.

    Returns
    -------
    CurveMeasure
        With particles of shape (batch..., N, k).

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer, `tilt` is too large, or `generator` is none.

    Examples
    --------
    >>> rho = wave_measure(10, 3, torch.Generator().manual_seed(0))
    >>> rho.theta(0.3).shape
    torch.Size([10, 3])
    """
    require_generator(generator)
    for name, size in (("particles", particles), ("k", k)):
        require_positive_int(name, size)
    require_number("scale", scale, least=0)
    require_number("tilt", tilt, least=-1, most=1)
    require_batch(batch)
    shape = (*batch, particles, k)
    a, b = scale * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    phase = 2 * math.pi * torch.rand(shape, generator=generator, dtype=torch.float64)
    uniform = torch.full((particles,), 1.0 / particles, dtype=torch.float64)
    return CurveMeasure(
        lambda t: a + b * torch.sin(2 * math.pi * t + phase),
        lambda t: uniform * (1.0 + tilt * math.cos(2 * math.pi * t)),
    )


def independent_layers(
    measure: CurveMeasure,
    layers: int,
    generator: torch.Generator,
    batch: tuple[int, ...] = (),
) -> LayeredMeasure:
    r"""Draw networks of one particle a layer, independently from a curve measure.

    The depths :math:`t_i` are uniform, then sorted; each layer takes one of the measure's
    particles at its depth, all equally likely. The measure must have equal weights, a
    uniform depth marginal, and curves that accept tensors of depths.

    Parameters
    ----------
    measure : CurveMeasure
        With particles of shape (N, k).
    layers : int
        The depth n of a network.
    generator : torch.Generator
        The source of randomness.
    batch : tuple of int
        Leading batch dimensions, an independent network each.

    Returns
    -------
    LayeredMeasure
        With `theta` of shape (batch..., n, 1, k), weight 1 a layer.

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer or `generator` is none.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> independent_layers(wave_measure(10, 3, generator), 50, generator).theta.shape
    torch.Size([50, 1, 3])
    """
    require_generator(generator)
    require_instance("measure", measure, CurveMeasure)
    require_positive_int("layers", layers)
    require_batch(batch)
    depth = torch.rand(*batch, layers, generator=generator, dtype=torch.float64).sort(-1)[0]
    theta = measure.theta(depth[..., None, None])
    pick = torch.randint(theta.shape[-2], (*batch, layers, 1, 1), generator=generator)
    return LayeredMeasure(theta.gather(-2, pick.expand(*theta.shape[:-2], 1, theta.shape[-1])))


def sobol_gaussian(
    points: int,
    k: int,
    generator: torch.Generator,
    mirrored: int = 0,
    batch: tuple[int, ...] = (),
) -> Tensor:
    r"""Return scrambled Sobol points of :math:`N(0, I)`, one scrambling a batch entry.

    Parameters
    ----------
    points, k : int
        The numbers N and k; a power of two serves the sequence best.
    generator : torch.Generator
        The source of the scrambling.
    mirrored : int
        If positive, N/2 points and their mirror images, the first `mirrored`
        coordinates with the opposite sign: the symmetrised start of chen2024's network.
    batch : tuple of int
        Leading batch kensions.

    Returns
    -------
    Tensor
        Shape (batch..., N, k), float64; mass 1/N each.

    Raises
    ------
    TypeError, ValueError
        If a size is impossible, or odd when mirrored.

    Examples
    --------
    >>> points = sobol_gaussian(8, 3, torch.Generator().manual_seed(0), mirrored=1)
    >>> points.mean(-2)[0]  # of the coordinate that is mirrored
    tensor(0., dtype=torch.float64)
    """
    from scipy.stats import qmc

    require_generator(generator)
    require_positive_int("points", points)
    require_int("k", k, 1, qmc.Sobol.MAXDIM)
    require_batch(batch)
    if require_int("mirrored", mirrored, 0) and (points % 2 or not mirrored <= k):
        raise ValueError(
            f"mirrored: needs an even number of points and 0 < mirrored <= {k}; "
            f"got {points} points, mirrored = {mirrored}"
        )
    half = points // 2 if mirrored else points
    count = math.prod(batch)
    seeds = torch.randint(2**31 - 1, (count,), generator=generator).tolist()
    rows = [torch.as_tensor(qmc.Sobol(k, scramble=True, rng=s).random(half)) for s in seeds]
    uniform = torch.stack(rows).clamp(2.0**-40, 1.0 - 2.0**-40)
    gaussian = torch.special.ndtri(uniform).reshape(*batch, half, k)
    if not mirrored:
        return gaussian
    flip = torch.ones(k, dtype=torch.float64)
    flip[:mirrored] = -1.0
    return torch.cat([gaussian, gaussian * flip], -2)
