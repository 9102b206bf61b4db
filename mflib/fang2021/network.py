r"""The residual network of Fang et al. on a law of units, its gradients and its drifts.

.. math::

    \beta_1 = \tfrac1d X v_1, \qquad
    \alpha_\ell(\Theta) = \int v_\ell(\bar\Theta, \Theta)\, h_1(\beta_{\ell-1}(\bar\Theta))\,
    dp(\bar\Theta), \qquad
    \beta_\ell = h_2(\alpha_\ell) + \beta_{\ell-1}, \qquad
    \beta_{L+1} = \int v_{L+1}\, h_1(\beta_L)\, dp

(fang2021, eq. (3.2)-(3.10)). Particles of mass 1/m are the discrete network, particles with
quadrature masses the continuous one, and a particle of mass zero is a test path that the
others carry along. The first argument of :math:`v_\ell` is the unit that sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..activations import Activation, activation
from ..arguments import (
    require_alike,
    require_broadcast,
    require_instance,
    require_number,
    require_positive_int,
    require_tensor,
)
from .connections import Connection
from .losses import Loss, loss

__all__ = ["Costates", "Drift", "Features", "Network", "Weights"]


@dataclass(frozen=True)
class Weights:
    r"""All weights of a network with the masses of its units.

    Attributes
    ----------
    first : Tensor
        :math:`v_1`, shape (..., d, m).
    middle : tuple of Connection
        :math:`v_2, \ldots, v_L`.
    last : Tensor
        :math:`v_{L+1}`, shape (..., m).
    mass : Tensor
        Shape (..., m), sum 1; 1/m each is the discrete network.
    """

    first: Tensor
    middle: tuple[Connection, ...]
    last: Tensor
    mass: Tensor


@dataclass(frozen=True)
class Features:
    r"""A forward pass: `beta` holds :math:`\beta_1..\beta_L`, `alpha` holds
    :math:`\alpha_2..\alpha_L`, each (..., N, m); `output` is :math:`\beta_{L+1}`, (..., N)."""

    beta: tuple[Tensor, ...]
    alpha: tuple[Tensor, ...]
    output: Tensor


@dataclass(frozen=True)
class Costates:
    r"""A backward pass (4.1): `beta` holds :math:`D^\beta_1..D^\beta_L`, `alpha` holds
    :math:`D^\alpha_2..D^\alpha_L`, each (..., N, m); `output` is :math:`D_{L+1}`, (..., N)."""

    beta: tuple[Tensor, ...]
    alpha: tuple[Tensor, ...]
    output: Tensor


@dataclass(frozen=True)
class Drift:
    r"""The drifts :math:`G^v` of the weights, before their minus sign.

    Attributes
    ----------
    first : Tensor
        :math:`G_1^v = \frac1N X^\top D_1^\beta`, shape (..., d, m).
    middle : tuple of (Tensor, Tensor)
        Factors s, t of :math:`G_\ell^v(\Theta,\bar\Theta)=\sum_n s_n(\Theta)t_n(\bar\Theta)`.
    last : Tensor
        :math:`G_{L+1}^v`, shape (..., m).
    """

    first: Tensor
    middle: tuple[tuple[Tensor, Tensor], ...]
    last: Tensor


@dataclass(frozen=True)
class Network:
    r"""A network architecture with its training data.

    Parameters
    ----------
    x : Tensor
        Inputs X, shape (..., N, d).
    y : Tensor
        Labels, shape (..., N).
    depth : int
        The number L of hidden layers.
    h1, h2 : str or Activation
        The activations :math:`h_1` of features and :math:`h_2` of residuals.
    loss : str or Loss
        :math:`\varphi`.
    skip : bool
        Whether :math:`\beta_{\ell-1}` is added; without, and with linear `h2`, the network
        is fully connected.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.

    Examples
    --------
    >>> import torch
    >>> from mflib.fang2021.initialisation import algorithm_two
    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.eye(3, dtype=torch.float64)
    >>> net = Network(x, torch.tensor([1.0, -1.0, 0.5]).double(), depth=3)
    >>> weights, _ = algorithm_two(net, 50, generator)
    >>> losses = [float(net.risk(f)) for _, f, _ in net.descend(weights, eta=1.0, steps=20)]
    >>> losses[-1] < losses[0]
    True
    """

    x: Tensor
    y: Tensor
    depth: int
    h1: str | Activation = "tanh"
    h2: str | Activation = "tanh"
    loss: str | Loss = "log-cosh"
    skip: bool = True

    def __post_init__(self) -> None:
        require_tensor("x", self.x, 2)
        require_tensor("y", self.y, 1, last=self.x.shape[-2])
        require_alike(x=self.x, y=self.y)
        require_broadcast(x=self.x.shape[:-2], y=self.y.shape[:-1])
        require_positive_int("depth", self.depth)
        require_instance("skip", self.skip, bool)
        for name, find in (("h1", activation), ("h2", activation), ("loss", loss)):
            try:
                found = find(getattr(self, name))
            except (ValueError, TypeError) as error:
                raise ValueError(f"{name}: {error}") from None
            object.__setattr__(self, name, found)

    def fits(self, w: Weights, f: Features | None = None) -> None:
        r"""Check that weights, and features, belong to a network of this shape.

        Raises
        ------
        TypeError, ValueError
            If they do not; the message names the part and the shape it should have.
        """
        require_instance("w", w, Weights)
        if w.first.ndim < 2:
            raise ValueError(f"w: first has shape {tuple(w.first.shape)}; pass (..., d, m)")
        m = w.first.shape[-1]
        parts = {
            "first": (w.first.shape[-2:], (self.x.shape[-1], m)),
            "last": (w.last.shape[-1:], (m,)),
            "mass": (w.mass.shape[-1:], (m,)),
            "middle": ((len(w.middle),), (self.depth - 1,)),
        }
        for name, (seen, wanted) in parts.items():
            if tuple(seen) != wanted:
                raise ValueError(f"w: {name} has {tuple(seen)} where {wanted} is needed")
        for v in w.middle:
            ends = v.v.shape[-2:] if hasattr(v, "v") else (v.a.shape[-1], v.b.shape[-1])
            if tuple(ends) != (m, m):
                raise ValueError(f"w: middle connects {tuple(ends)} units; the width is {m}")
        if f is not None:
            require_instance("f", f, Features)
            if len(f.beta) != self.depth or f.beta[0].shape[-2:] != (self.samples, m):
                raise ValueError("f: does not belong to these weights; run forward first")

    @property
    def samples(self) -> int:
        """The number N of samples."""
        return self.x.shape[-2]

    def join(self, alpha: Tensor, below: Tensor) -> Tensor:
        r"""Return :math:`\beta_\ell=h_2(\alpha_\ell)+\beta_{\ell-1}` (3.9), or without the skip."""
        require_tensor("alpha", alpha, 0)
        require_tensor("below", below, 0)
        require_alike(alpha=alpha, below=below)
        require_broadcast(alpha=alpha.shape, below=below.shape)
        return self._join(alpha, below)

    def _join(self, alpha: Tensor, below: Tensor) -> Tensor:
        return self.h2.f(alpha) + below if self.skip else self.h2.f(alpha)

    def first_features(self, first: Tensor) -> Tensor:
        r"""Return :math:`\beta_1=\frac1dXv_1` (3.7), shape (..., N, m).

        Parameters
        ----------
        first : Tensor
            :math:`v_1`, shape (..., d, m).

        Raises
        ------
        TypeError, ValueError
            If it does not fit the inputs.
        """
        require_tensor("first", first, 2)
        if first.shape[-2] != self.x.shape[-1]:
            raise ValueError(
                f"first: shape {tuple(first.shape)}; pass (..., {self.x.shape[-1]}, m)"
            )
        require_alike(x=self.x, first=first)
        require_broadcast(x=self.x.shape[:-2], first=first.shape[:-2])
        return self._first_features(first)

    def _first_features(self, first: Tensor) -> Tensor:
        return self.x @ first / self.x.shape[-1]

    def forward(self, w: Weights) -> Features:
        """Run the forward pass (3.7)-(3.10).

        Raises
        ------
        TypeError, ValueError
            If the weights do not fit the architecture.
        """
        self.fits(w)
        beta, alpha = [self._first_features(w.first)], []
        for v in w.middle:
            alpha.append(v.forward(self.h1.f(beta[-1]), w.mass))
            beta.append(self._join(alpha[-1], beta[-1]))
        output = (self.h1.f(beta[-1]) * (w.last * w.mass).unsqueeze(-2)).sum(-1)
        return Features(tuple(beta), tuple(alpha), output)

    def risk(self, f: Features) -> Tensor:
        r"""Return the loss :math:`\frac1N\sum_n\varphi(\beta_{L+1}(n), y_n)` (3.6), shape (...)."""
        require_instance("f", f, Features)
        return self.loss.value(f.output, self.y.expand_as(f.output)).mean(-1)

    def backward(self, w: Weights, f: Features, rows: Tensor | None = None) -> Costates:
        r"""Run the backward pass (4.1).

        `rows`, shape (..., N), are weights of the samples of mean 1; N at one sample and 0
        elsewhere gives the stochastic gradient of that sample.
        """
        self.fits(w, require_instance("f", f, Features))
        if rows is not None:
            counted = rows.to(self.x.dtype) if isinstance(rows, Tensor) else rows
            require_tensor("rows", counted, 1, last=self.samples)
            require_broadcast(f=f.output.shape[:-1], rows=rows.shape[:-1])
        end = self.loss.slope(f.output, self.y.expand_as(f.output))
        end = end if rows is None else end * rows
        d = end.unsqueeze(-1) * w.last.unsqueeze(-2) * self.h1.df(f.beta[-1])
        beta, alpha = [d], []
        for v, a, below in zip(w.middle[::-1], f.alpha[::-1], f.beta[-2::-1], strict=True):
            alpha.append(d * self.h2.df(a))
            pulled = v.backward(alpha[-1], w.mass) * self.h1.df(below)
            d = d + pulled if self.skip else pulled
            beta.append(d)
        return Costates(tuple(beta[::-1]), tuple(alpha[::-1]), end)

    def drift(self, f: Features, c: Costates) -> Drift:
        r"""Return the weights' drifts :math:`G^v` (4.2); descent follows their negative."""
        require_instance("f", f, Features)
        require_instance("c", c, Costates)
        n = self.samples
        middle = tuple(
            (self.h1.f(below), d / n) for below, d in zip(f.beta[:-1], c.alpha, strict=True)
        )
        last = (c.output.unsqueeze(-1) * self.h1.f(f.beta[-1])).mean(-2)
        return Drift(self.x.mT @ c.beta[0] / n, middle, last)

    def feature_drift(self, w: Weights, f: Features, g: Drift) -> Features:
        r"""Return :math:`G^\beta_\ell, G^\alpha_\ell` and the drift of the output (4.3).

        The chain rule along the weights' drift; all with the sign of :math:`G^v`.
        """
        self.fits(w, require_instance("f", f, Features))
        require_instance("g", g, Drift)
        beta, alpha = [self._first_features(g.first)], []
        layers = zip(w.middle, g.middle, f.alpha, f.beta[:-1], strict=True)
        for v, (source, target), a, below in layers:
            moved = v.forward(self.h1.df(below) * beta[-1], w.mass)
            turned = (self.h1.f(below) * w.mass.unsqueeze(-2)) @ source.mT @ target
            alpha.append(moved + turned)
            step = alpha[-1] * self.h2.df(a)
            beta.append(beta[-1] + step if self.skip else step)
        top, last = f.beta[-1], w.last.unsqueeze(-2)
        change = g.last.unsqueeze(-2) * self.h1.f(top) + last * self.h1.df(top) * beta[-1]
        return Features(tuple(beta), tuple(alpha), (change * w.mass.unsqueeze(-2)).sum(-1))

    def step(self, w: Weights, g: Drift, eta: float) -> Weights:
        r"""Return the weights after one step of scaled gradient descent (Algorithm 1).

        The scale :math:`m_{\ell-1}m_\ell` of the step is what turns the gradient of the
        discrete loss into the drift of the flow.
        """
        require_instance("w", w, Weights)
        require_instance("g", g, Drift)
        if not isinstance(eta, Tensor):
            require_number("eta", eta)
        middle = tuple(
            v.add(source, -eta * target)
            for v, (source, target) in zip(w.middle, g.middle, strict=True)
        )
        return replace(w, first=w.first - eta * g.first, middle=middle, last=w.last - eta * g.last)

    def descend(
        self, w: Weights, eta: float, steps: int, stream: Tensor | None = None
    ) -> Iterator[tuple[Weights, Features, Costates]]:
        r"""Run Algorithm 1, that is the flow by Euler steps; yield steps + 1 states.

        Parameters
        ----------
        w : Weights
            The start.
        eta : float
            The step size.
        steps : int
            The number of steps.
        stream : Tensor, optional
            Sample indices, shape (steps, ...): stochastic descent, one sample a step.

        Raises
        ------
        ValueError
            If `steps` is no positive integer, or the loss leaves the finite numbers.
        """
        require_positive_int("steps", steps)
        require_number("eta", eta)
        self.fits(w)
        for k in range(steps + 1):
            f = self.forward(w)
            if not torch.isfinite(f.output).all():
                raise ValueError(f"eta: {eta} diverges after {k} steps; take a smaller one")
            rows = None
            if stream is not None and k < steps:
                rows = self.samples * torch.nn.functional.one_hot(stream[k], self.samples)
            c = self.backward(w, f, rows)
            yield w, f, c
            if k < steps:
                w = self.step(w, self.drift(f, c), eta)
