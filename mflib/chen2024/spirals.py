r"""Two spirals: data, and many small neural ODEs trained side by side.

The experiment of chen2024, section C.6, in our own protocol: a tied two-layer tanh
field, explicit Euler in depth, a two-layer tanh head, squared loss, Adam with the
full batch. Runs are stacked on the first axis, so that seeds, input scales and labels
of one sample size train together; the gradients are written by hand (and tested
against autograd).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import require_generator, require_positive_int, require_tensor

__all__ = [
    "SpiralNet",
    "adam",
    "errors",
    "gradient",
    "initial",
    "predict",
    "train_spirals",
    "two_spirals",
]


def two_spirals(
    n: int,
    generator: torch.Generator,
    degrees: float = 780.0,
    noise: float = 0.5,
    runs: int = 1,
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
        Points of a run.
    generator : torch.Generator
        The source of randomness.
    degrees : float
        The angle of the outer end.
    noise : float
        Width of the uniform noise.
    runs : int
        Independent samples.

    Returns
    -------
    x : Tensor
        Shape (runs, n, 2), float64.
    y : Tensor
        Shape (runs, n), the signs in equal numbers up to one.

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer, an angle or noise impossible, or `generator`
        is none.
    """
    require_generator(generator)
    require_positive_int("n", n)
    require_positive_int("runs", runs)
    if not (math.isfinite(degrees) and degrees > 0):
        raise ValueError(f"degrees: expected a positive angle, got {degrees!r}")
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise: expected a finite width >= 0, got {noise!r}")
    u = torch.rand(runs, n, generator=generator, dtype=torch.float64)
    angle = math.radians(degrees) * u.sqrt()
    y = (1.0 - 2.0 * (torch.arange(n) % 2)).double().expand(runs, n).clone()
    arm = torch.stack([-angle.cos(), angle.sin()], -1) * angle[..., None]
    blur = torch.rand(runs, n, 2, generator=generator, dtype=torch.float64) * noise
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


def initial(
    net: SpiralNet,
    runs: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    r"""Draw weights and biases, uniform in :math:`\pm 1/\sqrt{\text{fan in}}`.

    Returns
    -------
    list of Tensor
        W (runs, width, 2), b (runs, width, 1), V (runs, 2, width), c (runs, 2, 1), then
        W', b', V', c' of the head, with one output.
    """
    require_generator(generator)
    require_positive_int("runs", runs)
    shapes = []
    for out in (2, 1):
        shapes += [(net.width, 2, 2), (net.width, 1, 2)]
        shapes += [(out, net.width, net.width), (out, 1, net.width)]
    return [
        (
            (2 * torch.rand(runs, a, b, generator=generator, dtype=torch.float64) - 1)
            / math.sqrt(fan)
        ).to(dtype)
        for a, b, fan in shapes
    ]


def _forward(
    net: SpiralNet, params: list[Tensor], x: Tensor
) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    w, b, v, c, w1, b1, v1, c1 = params
    z, tape = x, []
    for _ in range(net.depth):
        hidden = torch.baddbmm(b, w, z).tanh_()
        tape.append((z, hidden))
        z = z + torch.baddbmm(c, v, hidden) / net.depth
    hidden = torch.baddbmm(b1, w1, z).tanh_()
    tape.append((z, hidden))
    return tape, torch.baddbmm(c1, v1, hidden)


def predict(net: SpiralNet, params: list[Tensor], x: Tensor) -> Tensor:
    r"""Return the outputs, shape (runs, n), at x of shape (runs, n, 2)."""
    require_tensor("x", x, 3, last=2)
    return _forward(net, params, x.mT.contiguous())[1][:, 0]


def gradient(
    net: SpiralNet, params: list[Tensor], x: Tensor, y: Tensor, mass: Tensor
) -> tuple[Tensor, list[Tensor]]:
    r"""Return the loss of every run and its gradient, by backpropagation written out.

    .. math::

        \hat L = \tfrac12 \sum_i m_i\, (f(x_i) - y_i)^2.

    Parameters
    ----------
    net : SpiralNet
        The architecture.
    params : list of Tensor
        As :func:`initial` returns them.
    x : Tensor
        Features first, shape (runs, 2, n).
    y, mass : Tensor
        Shape (runs, n); masses sum to 1 over the points, 0 for padding.

    Returns
    -------
    loss : Tensor
        Shape (runs,).
    grads : list of Tensor
        Shapes of `params`.
    """
    w, _, v, _, w1, _, v1, _ = params
    tape, f = _forward(net, params, x)
    residual = f - y[:, None]
    weighted = residual * mass[:, None]
    loss = 0.5 * (weighted * residual).sum((1, 2))

    z, hidden = tape.pop()
    gv1, gc1 = weighted @ hidden.mT, weighted.sum(2, keepdim=True)
    back = (v1.mT @ weighted).mul_(1.0 - hidden.square())
    gw1, gb1 = back @ z.mT, back.sum(2, keepdim=True)
    dz = w1.mT @ back
    gw, gb, gv, gc = (torch.zeros_like(p) for p in params[:4])
    while tape:
        z, hidden = tape.pop()
        step = dz / net.depth
        gv.baddbmm_(step, hidden.mT)
        gc += step.sum(2, keepdim=True)
        back = (v.mT @ step).mul_(hidden.square_().neg_().add_(1.0))
        gw.baddbmm_(back, z.mT)
        gb += back.sum(2, keepdim=True)
        dz = torch.baddbmm(dz, w.mT, back)
    return loss, [gw, gb, gv, gc, gw1, gb1, gv1, gc1]


def adam(
    net: SpiralNet,
    params: list[Tensor],
    x: Tensor,
    y: Tensor,
    steps: int,
    rate: float = 0.01,
    mass: Tensor | None = None,
) -> tuple[list[Tensor], Tensor]:
    r"""Train every run with Adam on its full batch.

    Parameters
    ----------
    net : SpiralNet
        The architecture.
    params : list of Tensor
        The start; left as it is.
    x : Tensor
        Shape (runs, n, 2).
    y : Tensor
        Shape (runs, n).
    steps : int
        Steps; the decay rates are the usual .9 and .999.
    rate : float
        The learning rate at the start; it falls linearly to zero.
    mass : Tensor, optional
        Shape (runs, n), default 1/n; runs of fewer points are padded with mass 0.

    Returns
    -------
    params : list of Tensor
        The trained parameters.
    losses : Tensor
        Shape (steps, runs), each before its step.

    Raises
    ------
    ValueError
        If shapes disagree, or steps or rate are not positive.
    """
    require_tensor("x", x, 3, last=2)
    require_positive_int("steps", steps)
    if not rate > 0:
        raise ValueError(f"rate: expected a positive learning rate, got {rate!r}")
    mass = torch.full_like(y, 1.0 / y.shape[-1]) if mass is None else mass
    if y.shape != x.shape[:2] or mass.shape != y.shape or len(params[0]) != len(x):
        raise ValueError(
            f"x, y, mass, params: shapes {tuple(x.shape)}, {tuple(y.shape)}, "
            f"{tuple(mass.shape)} and {len(params[0])} runs do not agree"
        )
    x, params = x.mT.contiguous(), [p.clone() for p in params]
    sizes, shapes = [p[0].numel() for p in params], [p.shape for p in params]
    flat = torch.cat([p.flatten(1) for p in params], 1)
    first, second = torch.zeros_like(flat), torch.zeros_like(flat)
    losses = []
    for step in range(1, steps + 1):
        views = [p.view(s) for p, s in zip(flat.split(sizes, 1), shapes, strict=True)]
        loss, grads = gradient(net, views, x, y, mass)
        grad = torch.cat([g.flatten(1) for g in grads], 1)
        first.lerp_(grad, 0.1)
        second.lerp_(grad.square(), 0.001)
        scale = (second / (1 - 0.999**step)).sqrt_().add_(1e-8)
        now = rate * (1.0 - (step - 1) / steps)
        flat = flat - now / (1 - 0.9**step) * first / scale
        losses.append(loss)
    params = [p.reshape(s) for p, s in zip(flat.split(sizes, 1), shapes, strict=True)]
    return params, torch.stack(losses)


def errors(net: SpiralNet, params: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    r"""Return the share of wrong signs, (runs,), on x (runs, n, 2), y (runs, n)."""
    return (predict(net, params, x) * y <= 0).double().mean(1)


def train_spirals(
    net: SpiralNet,
    sizes: list[int],
    runs: Tensor,
    scale: float | Tensor,
    steps: int,
    generator: torch.Generator,
    test: int = 4096,
    shuffle: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""Draw, train and test a batch of runs of several sizes, in single precision.

    Parameters
    ----------
    net : SpiralNet
        The architecture.
    sizes : list of int
        Training points; smaller samples are padded with points of mass 0.
    runs : Tensor
        The seed of every run, integers, shape (R,): runs with the same entry share data
        and initial parameters.
    scale : float or Tensor
        Factor on the inputs, shape () or (R, 1, 1).
    steps : int
        Of :func:`adam` at its default rate.
    generator : torch.Generator
        The source of randomness.
    test : int
        Fresh test points a run.
    shuffle : bool
        Permute the training labels, so that there is nothing to learn.

    Returns
    -------
    wrong : Tensor
        Share of wrong signs on the test points, shape (R, sizes).
    loss : Tensor
        The last training loss, shape (R, sizes).

    Raises
    ------
    TypeError, ValueError
        If a size is impossible or `generator` is none.
    """
    if not sizes:
        raise ValueError("sizes: is empty; name at least one sample size")
    seeds, most, parts, starts = int(runs.max()) + 1, max(sizes), [], []
    for n in sizes:
        x, y = two_spirals(n, generator, runs=seeds)
        if shuffle:
            y = y[:, torch.randperm(n, generator=generator)]
        full = torch.zeros(seeds, most, 4, dtype=x.dtype)
        full[:, :n] = torch.cat(
            [x, y[..., None], torch.full_like(y, 1.0 / n)[..., None]], -1
        )
        parts.append(full[runs])
        starts.append([p[runs] for p in initial(net, seeds, generator, torch.float32)])
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
    fresh, sign = two_spirals(test, generator, runs=seeds)
    fresh, sign, wrong = (fresh[runs] * scale).float(), sign[runs], []
    for trained in zip(*(p.split(len(runs)) for p in params), strict=True):
        wrong.append(errors(net, list(trained), fresh, sign))
    return torch.stack(wrong, 1), losses[-1].double().unflatten(0, (len(sizes), -1)).mT
