r"""Residual networks whose blocks are linear in what is trained, and a certificate for them.

.. math::

    h_{l+1} = h_l + \frac1L\, W_l\,\varphi(h_l), \qquad h_0 = x, \qquad f = B \cdot h_L,
    \qquad \varphi(h) = \sqrt{2/m}\,\cos(\Omega h + b),

with fixed random Fourier features :math:`\varphi` (barboni2022). The loss is
:math:`E = \frac12|r|^2` with the residual :math:`r = f(x) - y`, and training is
:math:`\dot W_l = -L\,\partial E/\partial W_l`. Then :math:`\dot E = -r^\top K r` with

.. math::

    K_{ij} = \frac1L \sum_l (p^{l+1}_i \cdot p^{l+1}_j)\,
        \big(\varphi(h^l_i)\cdot\varphi(h^l_j)\big),

p the costates; at :math:`W = 0` and :math:`|B| = 1` it is the Gram matrix of the features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_positive_int,
    require_tensor,
)
from ..stepping import runge_kutta_step

__all__ = ["Certificate", "LinearResiduals", "certificate"]


class _Pass(NamedTuple):
    """Residual (..., n), features (..., L, n, m) and costates (..., L, n, d)."""

    residual: Tensor
    phi: Tensor
    costates: Tensor


@dataclass(frozen=True)
class LinearResiduals:
    r"""The features, the data and the read-out.

    Parameters
    ----------
    frequencies : Tensor
        :math:`\Omega`, shape (m, d).
    phases : Tensor
        b, shape (m,).
    x : Tensor
        Inputs, shape (..., n, d).
    y : Tensor
        Targets, shape (..., n).
    readout : Tensor
        B, shape (d,).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.

    Notes
    -----
    Methods take `weights` (..., L, d, m) and raise a TypeError or ValueError that names them
    where they do not fit.

    Examples
    --------
    One feature that is constant, :math:`\sqrt2`, and one layer of weight 1:

    >>> one, zero = torch.ones(1, 1), torch.zeros(1)
    >>> net = LinearResiduals(0 * one, zero, one, zero, torch.ones(1))
    >>> net.residual(torch.ones(1, 1, 1)), net.kernel(torch.ones(1, 1, 1))
    (tensor([2.4142]), tensor([[2.0000]]))
    """

    frequencies: Tensor
    phases: Tensor
    x: Tensor
    y: Tensor
    readout: Tensor

    def __post_init__(self) -> None:
        require_tensor("frequencies", self.frequencies, 2)
        if self.frequencies.ndim != 2:
            raise ValueError(f"frequencies: shape {tuple(self.frequencies.shape)} is not (m, d)")
        m, d = self.frequencies.shape
        for name, value, size in (("phases", self.phases, m), ("readout", self.readout, d)):
            if require_tensor(name, value, 1, last=size).ndim != 1:
                raise ValueError(f"{name}: shape {tuple(value.shape)} is not ({size},)")
        require_tensor("x", self.x, 2, last=d)
        require_tensor("y", self.y, 1, last=self.x.shape[-2])
        require_alike(**vars(self))
        require_broadcast(x=self.x.shape[:-1], y=self.y.shape)

    def _admit(self, weights: Tensor) -> None:
        m, d = self.frequencies.shape
        require_tensor("weights", weights, 3, last=m)
        if weights.shape[-2] != d:
            raise ValueError(f"weights: shape {tuple(weights.shape)} is not (..., L, {d}, {m})")
        require_alike(x=self.x, weights=weights)
        require_broadcast(x=self.x.shape[:-2], weights=weights.shape[:-3])

    def _angle(self, h: Tensor) -> Tensor:
        return h @ self.frequencies.mT + self.phases

    @property
    def _scale(self) -> float:
        return math.sqrt(2 / len(self.phases))

    def _states(self, weights: Tensor) -> list[Tensor]:
        h = [self.x]
        for w in weights.unbind(-3):
            h.append(h[-1] + self._scale * self._angle(h[-1]).cos() @ w.mT / weights.shape[-3])
        return h

    def _backward(self, weights: Tensor) -> _Pass:
        *h, last = self._states(weights)
        angle = self._angle(torch.stack(torch.broadcast_tensors(*h), -3))
        bend = -self._scale * angle.sin()
        p, costates = self.readout.expand_as(last), []
        for w, slope in zip(weights.unbind(-3)[::-1], bend.unbind(-3)[::-1], strict=True):
            costates.append(p)
            p = p + (slope * (p @ w)) @ self.frequencies / weights.shape[-3]
        return _Pass(
            last @ self.readout - self.y, self._scale * angle.cos(), torch.stack(costates[::-1], -3)
        )

    def residual(self, weights: Tensor) -> Tensor:
        r"""Return r, shape (..., n)."""
        self._admit(weights)
        return self._states(weights)[-1] @ self.readout - self.y

    def loss(self, weights: Tensor) -> Tensor:
        r"""Return E, shape (...)."""
        return 0.5 * self.residual(weights).square().sum(-1)

    def kernel(self, weights: Tensor) -> Tensor:
        r"""Return K, shape (..., n, n)."""
        self._admit(weights)
        _, phi, p = self._backward(weights)
        return ((p @ p.mT) * (phi @ phi.mT)).mean(-3)

    def velocity(self, weights: Tensor) -> Tensor:
        r"""Return :math:`-L\,\partial E/\partial W`, the shape of `weights`."""
        self._admit(weights)
        return self._velocity(weights)

    def _velocity(self, weights: Tensor) -> Tensor:
        r, phi, p = self._backward(weights)
        return -(r[..., None, :, None] * p).mT @ phi

    def train(self, weights: Tensor, time: Tensor, steps: int) -> Tensor:
        r"""Return the losses along training, shape (steps + 1, ...).

        Parameters
        ----------
        weights : Tensor
            The start, shape (..., L, d, m).
        time : Tensor
            The length of training, shape (...), one for each problem.
        steps : int
            Equal steps of the classical Runge-Kutta method.

        Raises
        ------
        TypeError, ValueError
            If an argument is malformed, or the losses leave the finite numbers.
        """
        self._admit(weights)
        require_tensor("time", time, 0)
        if bool((time < 0).any()):
            raise ValueError("time: must not be negative")
        require_alike(weights=weights, time=time)
        batch = require_broadcast(
            x=self.x.shape[:-2], y=self.y.shape[:-1], weights=weights.shape[:-3], time=time.shape
        )
        require_positive_int("steps", steps)
        weights = weights.expand(*batch, *weights.shape[-3:])
        h, losses = time[..., None, None, None] / steps, [self.loss(weights)]
        for _ in range(steps):
            weights = runge_kutta_step(self._velocity, weights, h)
            losses.append(self.loss(weights))
        if not bool(torch.isfinite(losses[-1]).all()):
            raise ValueError(f"steps: {steps} are too few for that time; the losses grow")
        return torch.stack(losses)


class Certificate(NamedTuple):
    r"""What is certain of training from :math:`W = 0` before it begins.

    Attributes
    ----------
    rate : Tensor
        A :math:`\lambda > 0` with :math:`E(s) \le E(0)\,e^{-2\lambda s}` for all s, or 0 where
        nothing is certain, shape (...).
    largest : Tensor
        The norm of the residual up to which a rate can be certified, shape (...).
    """

    rate: Tensor
    largest: Tensor


def certificate(net: LinearResiduals, nodes: int = 4000) -> Certificate:
    r"""Return a certified rate of training from :math:`W = 0`, for any depth.

    While :math:`|W| = (\frac1L\sum|W_l|^2)^{1/2} \le R`, states move by at most
    :math:`\sqrt2R` and costates by :math:`e^{\Lambda R} - 1`, with
    :math:`\Lambda = \sqrt{2/m}\,\|\Omega\|`, so

    .. math::

        \lambda_{\min}(K)^{1/2} \ge \lambda(R)^{1/2} := \lambda_0^{1/2}
            - \sqrt{2n}\,\big(e^{\Lambda R} - 1 + \Lambda R\big),

    :math:`\lambda_0` the least eigenvalue of the Gram matrix. The path of training is no longer
    than :math:`|r|/\lambda(R)^{1/2}`; if that is at most R it never leaves, and
    :math:`\lambda(R)` is certain.

    Parameters
    ----------
    net : LinearResiduals
        The problem, with a read-out of norm 1.
    nodes : int
        Radii that are tried; the least that serves is taken.

    Raises
    ------
    TypeError, ValueError
        If `net` is none, its read-out has another norm, or `nodes` is no positive integer.

    Examples
    --------
    A residual of norm 3 is too large for the one feature, 2 the Gram matrix:

    >>> one = torch.ones(1)
    >>> net = LinearResiduals(one[None], -one, one[None], 4 * one, one)
    >>> float(certificate(net).rate), round(float(certificate(net).largest), 3)
    (0.0, 0.118)
    """
    if not isinstance(net, LinearResiduals):
        raise TypeError(f"net: expected a LinearResiduals, got {type(net).__name__}")
    require_positive_int("nodes", nodes)
    if not torch.allclose(net.readout.norm(), torch.ones_like(net.readout[0])):
        raise ValueError("readout: its norm is not 1; divide by it")
    n, start = net.x.shape[-2], net.x.new_zeros(1, net.x.shape[-1], len(net.phases))
    least = torch.linalg.eigvalsh(net.kernel(start))[..., 0].clamp_min(0).sqrt()
    bend = net._scale * torch.linalg.matrix_norm(net.frequencies, 2)
    top = least.unsqueeze(-1) / (math.sqrt(8 * n) * bend)  # there lambda(R) is negative
    radius = top * torch.arange(1, nodes + 1, dtype=top.dtype) / nodes
    root = least.unsqueeze(-1) - math.sqrt(2 * n) * (torch.expm1(bend * radius) + bend * radius)
    reach = radius * root.clamp_min(0)
    enough = reach >= net.residual(start).norm(dim=-1, keepdim=True)
    first = enough.to(torch.uint8).argmax(-1, keepdim=True)
    rate = torch.where(enough.any(-1), root.clamp_min(0).gather(-1, first).squeeze(-1) ** 2, 0.0)
    return Certificate(rate, reach.amax(-1))
