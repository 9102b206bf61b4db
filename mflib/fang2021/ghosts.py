r"""Test paths that follow a neural feature flow without mass.

A path :math:`\Theta=(v_1,\alpha_2,\ldots,\alpha_L)` of mass zero is moved by the flow and moves
nothing. Once the flow of the law p is known, each path obeys equations of its own,

.. math::

    \alpha_\ell(\Theta)(t) = \int v_\ell^t(\bar\Theta,\Theta)\,h_1(\beta^t_{\ell-1})\,dp,
    \qquad \dot v_1(\Theta) = -\tfrac1N X^\top D_1^\beta(\Theta),

in which the flow enters through N x N matrices only. The paths may be any, and as many as one
likes; they can be differentiated by their start, and two of them can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import require_tensor
from .initialisation import feature_gram
from .network import Network, Weights

__all__ = ["Background", "Paths"]


@dataclass(frozen=True)
class Paths:
    r"""Trajectories of G paths at the K + 1 times of a flow.

    Attributes
    ----------
    first : Tensor
        :math:`v_1`, shape (K+1, d, G).
    last : Tensor
        :math:`v_{L+1}`, shape (K+1, G).
    beta, alpha : Tensor
        Features and residuals, shapes (K+1, L, N, G) and (K+1, L-1, N, G).
    costate, pulled : Tensor
        :math:`D^\beta_\ell`, and the integrals :math:`\int v_\ell D^\alpha_\ell\,dp` of (4.1),
        same shapes.
    """

    first: Tensor
    last: Tensor
    beta: Tensor
    alpha: Tensor
    costate: Tensor
    pulled: Tensor


class Background:
    r"""A neural feature flow that test paths can follow.

    Parameters
    ----------
    net : Network
        The architecture and its data.
    w : Weights
        The start, with middle connections of low rank from a regression.
    eta : float
        The step of the flow.
    steps : int
        The number K of steps.
    """

    def __init__(self, net: Network, w: Weights, eta: float, steps: int) -> None:
        self.net, self.eta, self.steps = net, eta, steps
        self.last = w.last.flatten()[0]
        self.forward: list[list[Tensor]] = []
        self.back: list[list[Tensor]] = []
        self.output: list[Tensor] = []
        losses = []
        for now, f, c in net.descend(w, eta, steps):
            if not self.output:
                self.grams = [feature_gram(net.h1.f(b), w.mass) for b in f.beta[:-1]]
            pairs = list(zip(now.middle, f.beta[:-1], c.alpha, strict=True))
            self.forward.append([(net.h1.f(b) * w.mass) @ v.a.mT for v, b, _ in pairs])
            self.back.append([(d * w.mass) @ v.b.mT for v, _, d in pairs])
            self.output.append(c.output)
            losses.append(net.risk(f))
        self.losses = torch.stack(losses)

    def follow(self, first: Tensor, alpha: Tensor) -> Paths:
        r"""Return the trajectories of paths that start at `first` (d, G), `alpha` (L-1, N, G)."""
        net, rate = self.net, self.eta / self.net.samples
        layers = net.depth - 1
        require_tensor("first", first, 2)
        if alpha.shape != (layers, net.samples, first.shape[-1]):
            raise ValueError(
                f"alpha: shape {tuple(alpha.shape)} is not (L-1, N, G) = "
                f"{(layers, net.samples, first.shape[-1])}"
            )
        b = [torch.linalg.solve(k, v) for k, v in zip(self.grams, alpha, strict=True)]
        a: list[Tensor] = []
        last = self.last.expand(first.shape[-1])
        rows = []
        for step in range(self.steps + 1):
            beta, res = [net.first_features(first)], []
            for j in range(layers):
                res.append(self.forward[step][j] @ b[j])
                beta.append(net.join(res[-1], beta[-1]))
            values = [net.h1.f(v) for v in beta]
            a = a or values[:-1]
            end = self.output[step]
            d = end.unsqueeze(-1) * last * net.h1.df(beta[-1])
            costate, pulled, inner = [d], [], []
            for j in reversed(range(layers)):
                inner.append(d * net.h2.df(res[j]))
                pulled.append(self.back[step][j] @ a[j])
                d = d + pulled[-1] * net.h1.df(beta[j])
                costate.append(d)
            parts = (beta, res, costate[::-1], pulled[::-1])
            rows.append((first, last, *(torch.stack(part) for part in parts)))
            first = first - rate * net.x.mT @ costate[-1]
            last = last - rate * (end @ values[-1])
            b = [torch.cat([v, -rate * t]) for v, t in zip(b, inner[::-1], strict=True)]
            a = [torch.cat([v, s]) for v, s in zip(a, values[:-1], strict=True)]
        return Paths(*(torch.stack(part) for part in zip(*rows, strict=True)))

    def majorant(
        self, one: Paths, other: Paths, slopes: tuple[float, float], bends: tuple[float, float]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        r"""Return bounds on the distance of pairs of paths, from their distance at the start.

        The equations of the difference with absolute values throughout: a discrete Gronwall
        argument whose constants are matrices. It is linear in the distance at the start and
        grows at most exponentially in time (fang2021, Theorem 4).

        Parameters
        ----------
        one, other : Paths
            Two trajectories of G paths each, from :meth:`follow`; of their later times only
            the sizes of :math:`v_{L+1}`, the costates and the pulled integrals are used.
        slopes, bends : tuple of float
            Bounds on the first and second derivatives of :math:`h_1` and :math:`h_2`.

        Returns
        -------
        first, last, beta, alpha : Tensor
            Entrywise bounds, of the shapes that :class:`Paths` has.
        """
        net, rate = self.net, self.eta / self.net.samples
        layers, inputs = net.depth - 1, net.x.abs()
        (s1, s2), (k1, k2) = slopes, bends
        d_first = (one.first[0] - other.first[0]).abs()
        d_last = torch.zeros_like(one.last[0])
        moved = one.alpha[0] - other.alpha[0]
        b = [torch.linalg.solve(k, v).abs() for k, v in zip(self.grams, moved, strict=True)]
        a: list[Tensor] = []
        top = torch.maximum(one.last.abs(), other.last.abs())
        size = torch.maximum(one.costate.abs(), other.costate.abs())
        pull = torch.maximum(one.pulled.abs(), other.pulled.abs())
        rows = []
        for step in range(self.steps + 1):
            beta, res = [inputs @ d_first / inputs.shape[-1]], []
            for j in range(layers):
                res.append(self.forward[step][j].abs() @ b[j])
                beta.append(beta[-1] + s2 * res[-1])
            a = a or [s1 * v for v in beta[:-1]]
            rows.append((d_first, d_last, torch.stack(beta), torch.stack(res)))
            end = self.output[step].abs()
            d = end.unsqueeze(-1) * (s1 * d_last + k1 * top[step] * beta[-1])
            inner = []
            for j in reversed(range(layers)):
                inner.append(s2 * d + k2 * size[step, j + 1] * res[j])
                d = d + s1 * (self.back[step][j].abs() @ a[j]) + k1 * pull[step, j] * beta[j]
            d_first = d_first + rate * inputs.mT @ d
            d_last = d_last + rate * s1 * (end @ beta[-1])
            b = [torch.cat([v, rate * t]) for v, t in zip(b, inner[::-1], strict=True)]
            a = [torch.cat([v, s1 * t]) for v, t in zip(a, beta[:-1], strict=True)]
        return tuple(torch.stack(part) for part in zip(*rows, strict=True))
