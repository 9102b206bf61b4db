r"""Two spirals: data, and many small neural ODEs trained side by side.

The experiment of chen2024, section C.6, in our own protocol: a tied two-layer tanh
field, explicit Euler in depth, a two-layer tanh head, squared loss, Adam with the
full batch. Networks are stacked on the first axis, so that seeds, input scales and labels
of one sample size train together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_batch,
    require_generator,
    require_instance,
    require_number,
    require_positive_int,
    require_tensor,
)

__all__ = [
    "Outcome",
    "SpiralNet",
    "adam",
    "errors",
    "initial",
    "predict",
    "train_spirals",
    "two_spirals",
]

#: Points of all samples that train together.
_POINTS = 2**15


def two_spirals(
    n: int,
    generator: torch.Generator,
    degrees: float = 780.0,
    noise: float = 0.5,
    batch: tuple[int, ...] = (),
) -> tuple[Tensor, Tensor]:
    r"""Draw points on two interleaved noisy spirals, labelled :math:`\pm1`.

    .. math::

        x = y\,\varphi\,(-\cos\varphi, \sin\varphi) + \zeta, \qquad
        \varphi = \Phi\sqrt{U}, \quad U \sim \mathrm{Unif}(0, 1), \quad
        \zeta \sim \mathrm{Unif}(0, \mathrm{noise})^2,

    with :math:`\Phi` the angle `degrees` in radians, so that the radius runs to
    :math:`\Phi`.

    Parameters
    ----------
    n : int
        Points of a sample.
    generator : torch.Generator
        The source of randomness.
    degrees : float
        The angle of the outer end.
    noise : float
        Width of the uniform noise.
    batch : tuple of int
        Leading batch dimensions, an independent sample each.

    Returns
    -------
    x : Tensor
        Shape (batch..., n, 2), float64.
    y : Tensor
        Shape (batch..., n), the signs in equal numbers up to one.

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer, an angle or noise impossible, or `generator`
        is none.
    """
    require_generator(generator)
    require_positive_int("n", n)
    batch = require_batch(batch)
    require_number("degrees", degrees, above=0)
    require_number("noise", noise, least=0)
    u = torch.rand(*batch, n, generator=generator, dtype=torch.float64)
    angle = math.radians(degrees) * u.sqrt()
    y = (1.0 - 2.0 * (torch.arange(n) % 2)).double().expand(*batch, n).clone()
    arm = torch.stack([-angle.cos(), angle.sin()], -1) * angle[..., None]
    blur = torch.rand(*batch, n, 2, generator=generator, dtype=torch.float64) * noise
    return y[..., None] * arm + blur, y


@dataclass(frozen=True)
class SpiralNet:
    r"""The architecture: Euler steps of one tied field, then a head.

    .. math::

        z_{l+1} = z_l + \tfrac1L\big(V \tanh(W z_l + b) + c\big), \qquad
        f = V' \tanh(W' z_L + b') + c'.

    Parameters
    ----------
    depth : int
        Euler steps L.
    width : int
        Hidden units of the field and of the head.
    """

    depth: int = 5
    width: int = 32

    def __post_init__(self) -> None:
        require_positive_int("depth", self.depth)
        require_positive_int("width", self.width)


def _shapes(net: SpiralNet) -> list[tuple[int, int, int]]:
    """The rows, columns and fan in of every weight and bias."""
    width = net.width
    return [
        row
        for out in (2, 1)
        for row in ((width, 2, 2), (width, 1, 2), (out, width, width), (out, 1, width))
    ]


def initial(
    net: SpiralNet,
    generator: torch.Generator,
    batch: tuple[int, ...] = (),
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    r"""Draw weights and biases, uniform in :math:`\pm 1/\sqrt{\text{fan in}}`.

    Parameters
    ----------
    net : SpiralNet
        The architecture.
    generator : torch.Generator
        The source of randomness; drawn in double precision whatever `dtype` is.
    batch : tuple of int
        Leading batch dimensions, an independent start each; one dimension to train.
    dtype : torch.dtype
        Of the parameters.

    Returns
    -------
    list of Tensor
        W (batch..., width, 2), b (batch..., width, 1), V (batch..., 2, width), c
        (batch..., 2, 1), then W', b', V', c' of the head, with one output.
    """
    require_instance("net", net, SpiralNet)
    require_generator(generator)
    batch = require_batch(batch)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype: expected a floating-point dtype, got {dtype!r}")
    return [
        (
            (2 * torch.rand(*batch, a, b, generator=generator, dtype=torch.float64) - 1)
            / math.sqrt(fan)
        ).to(dtype)
        for a, b, fan in _shapes(net)
    ]


def _tanh_layers(net: SpiralNet, params: list[Tensor], x: Tensor) -> Tensor:
    # tanh z = 2 sigmoid(2 z) - 1, with the constants in the weights: torch's sigmoid is
    # three times as fast as its tanh in single precision, and half of the work is here
    w, b, v, c, w1, b1, v1, c1 = params
    w, b, w1, b1 = (2 * p for p in (w, b, w1, b1))
    c, c1 = (p - q.sum(-1, keepdim=True) for p, q in ((c, v), (c1, v1)))
    c, v, v1 = c / net.depth, 2 * v / net.depth, 2 * v1
    z = x
    for _ in range(net.depth):
        z = z + torch.baddbmm(c, v, torch.baddbmm(b, w, z).sigmoid_())
    return torch.baddbmm(c1, v1, torch.baddbmm(b1, w1, z).sigmoid_())[:, 0]


def _checked(net: SpiralNet, params: list[Tensor], x: Tensor) -> None:
    require_instance("net", net, SpiralNet)
    size = require_tensor("x", x, 3, last=2).shape[0]
    if x.ndim != 3:
        raise ValueError(f"x: expected shape (B, n, 2), got {tuple(x.shape)}")
    for p in require_instance("params", params, list):
        require_tensor("params", p, 3)
    shapes = [(size, a, b) for a, b, _ in _shapes(net)]
    if [tuple(p.shape) for p in params] != shapes:
        raise ValueError(
            f"params: shapes {[tuple(p.shape) for p in params]} do not fit the net and the "
            f"{size} samples of x; expected {shapes}"
        )
    for p in params:
        require_alike(x=x, params=p)


def predict(net: SpiralNet, params: list[Tensor], x: Tensor) -> Tensor:
    r"""Return the outputs of every network at its own points.

    Parameters
    ----------
    net : SpiralNet
        The architecture.
    params : list of Tensor
        As :func:`initial` returns them.
    x : Tensor
        Points, shape (B, n, 2).

    Returns
    -------
    Tensor
        Shape (B, n).

    Raises
    ------
    TypeError, ValueError
        If a shape does not fit, or an entry is NaN or infinite, as after a training
        that diverged.
    """
    _checked(net, params, x)
    return _tanh_layers(net, params, x.mT.contiguous())


def adam(
    net: SpiralNet,
    params: list[Tensor],
    x: Tensor,
    y: Tensor,
    steps: int,
    rate: float = 0.01,
    mass: Tensor | None = None,
) -> tuple[list[Tensor], Tensor]:
    r"""Train every network with Adam on its whole sample.

    .. math::

        \hat L = \tfrac12 \sum_i m_i\, (f(x_i) - y_i)^2

    Parameters
    ----------
    net : SpiralNet
        The architecture.
    params : list of Tensor
        The start; left as it is.
    x : Tensor
        Shape (B, n, 2).
    y : Tensor
        Shape (B, n).
    steps : int
        Steps; the decay rates are the usual .9 and .999.
    rate : float
        The learning rate at the start; it falls linearly to zero.
    mass : Tensor, optional
        Masses m, shape (B, n), default 1/n; samples of fewer points are padded with
        mass 0.

    Returns
    -------
    params : list of Tensor
        The trained parameters.
    losses : Tensor
        Shape (steps, B), each before its step.

    Raises
    ------
    TypeError, ValueError
        If shapes disagree, steps or rate are not positive, or an entry is NaN.
    """
    _checked(net, params, x)
    require_positive_int("steps", steps)
    require_number("rate", rate, above=0)
    require_tensor("y", y, 2)
    mass = torch.full_like(y, 1.0 / y.shape[-1]) if mass is None else mass
    for name, value in (("y", y), ("mass", mass)):
        if require_tensor(name, value, 2).shape != x.shape[:2]:
            raise ValueError(
                f"{name}: shape {tuple(value.shape)}, expected {tuple(x.shape[:2])} as of x"
            )
    # a few networks at a time, so that what the backward pass needs stays in the cache
    size = max(1, _POINTS // x.shape[1])
    groups = [part.split(size) for part in (x.mT.contiguous(), y, mass, *params)]
    trained = [
        _adam(net, start, points, target, weight, steps, rate)
        for points, target, weight, *start in zip(*groups, strict=True)
    ]
    ends, losses = zip(*trained, strict=True)
    return [torch.cat(p) for p in zip(*ends, strict=True)], torch.cat(losses, 1)


def _adam(
    net: SpiralNet,
    start: list[Tensor],
    x: Tensor,
    y: Tensor,
    mass: Tensor,
    steps: int,
    rate: float,
) -> tuple[list[Tensor], Tensor]:
    leaves = [p.clone().requires_grad_() for p in start]
    optimiser = torch.optim.Adam(leaves, lr=rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1.0 - step / steps)
    losses = []
    for _ in range(steps):
        loss = 0.5 * (mass * (_tanh_layers(net, leaves, x) - y).square()).sum(1)
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.detach())
    return [p.detach() for p in leaves], torch.stack(losses)


def errors(net: SpiralNet, params: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    r"""Return the share of points whose output has the wrong sign.

    Arguments as in :func:`predict`, with labels y of shape (B, n); returns shape
    (B,). An output of 0 is wrong.
    """
    if require_tensor("y", y, 2).shape != require_tensor("x", x, 3).shape[:2]:
        raise ValueError(f"y: shape {tuple(y.shape)}, expected {tuple(x.shape[:2])} as of x")
    return (predict(net, params, x) * y <= 0).double().mean(1)


class Outcome(NamedTuple):
    r"""Test errors and training losses of :func:`train_spirals`, both of shape (B, sizes).

    Attributes
    ----------
    wrong : Tensor
        Share of wrong signs on the test points.
    loss : Tensor
        The last training loss.
    """

    wrong: Tensor
    loss: Tensor


def train_spirals(
    net: SpiralNet,
    sizes: list[int],
    seeds: Tensor,
    scale: float | Tensor,
    steps: int,
    generator: torch.Generator,
    test: int = 4096,
    shuffle: bool = False,
) -> Outcome:
    r"""Draw, train and test a batch of networks of several sizes, in single precision.

    Parameters
    ----------
    net : SpiralNet
        The architecture.
    sizes : list of int
        Training points; smaller samples are padded with points of mass 0.
    seeds : Tensor
        The seed of every network, integers from 0, shape (B,): equal entries share data and
        initial parameters.
    scale : float or Tensor
        Factor on the inputs, shape () or (B, 1, 1).
    steps : int
        Of :func:`adam` at its default rate.
    generator : torch.Generator
        The source of randomness.
    test : int
        Fresh test points of a network.
    shuffle : bool
        Permute the training labels, so that there is nothing to learn.

    Returns
    -------
    Outcome
        Errors and losses, shape (B, sizes).

    Raises
    ------
    TypeError, ValueError
        If a size is impossible or `generator` is none.
    """
    for n in require_instance("sizes", sizes, list):
        require_positive_int("sizes", n)
    if not sizes:
        raise ValueError("sizes: is empty; name at least one sample size")
    require_positive_int("test", test)
    require_instance("seeds", seeds, Tensor)
    if (
        seeds.numel() == 0
        or seeds.dtype.is_floating_point
        or seeds.ndim != 1
        or not (seeds >= 0).all()
    ):
        raise ValueError("seeds: expected integers from 0, shape (B,)")
    if not isinstance(scale, Tensor):
        require_number("scale", scale)
    elif require_tensor("scale", scale, 0).ndim and scale.shape != (len(seeds), 1, 1):
        raise ValueError(f"scale: shape {tuple(scale.shape)}, expected ({len(seeds)}, 1, 1)")
    count, most, parts, starts = int(seeds.max()) + 1, max(sizes), [], []
    for n in sizes:
        x, y = two_spirals(n, generator, batch=(count,))
        if shuffle:
            y = y[:, torch.randperm(n, generator=generator)]
        full = torch.zeros(count, most, 4, dtype=x.dtype)
        full[:, :n] = torch.cat([x, y[..., None], torch.full_like(y, 1.0 / n)[..., None]], -1)
        parts.append(full[seeds])
        starts.append([p[seeds] for p in initial(net, generator, (count,), torch.float32)])
    full = torch.stack(parts)
    x, y, mass = (full[..., :2] * scale).float(), full[..., 2], full[..., 3]
    params, losses = adam(
        net,
        [torch.cat(p) for p in zip(*starts, strict=True)],
        x.flatten(0, 1),
        y.flatten(0, 1).float(),
        steps,
        mass=mass.flatten(0, 1).float(),
    )
    fresh, sign = two_spirals(test, generator, batch=(count,))
    fresh, sign, wrong = (fresh[seeds] * scale).float(), sign[seeds], []
    for trained in zip(*(p.split(len(seeds)) for p in params), strict=True):
        wrong.append(errors(net, list(trained), fresh, sign))
    last = losses[-1].double().unflatten(0, (len(sizes), -1)).mT
    return Outcome(torch.stack(wrong, 1), last)
