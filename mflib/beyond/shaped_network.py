r"""Residual networks of any shape: depth L, hidden width M, embedding dimension D.

.. math::

    h_{l+1} = h_l + \frac{\alpha}{LM} \sum_{j=1}^M V_{l,j} \tanh(U_{l,j}\cdot h_l / D),
    \qquad f = W_U \cdot h_L / D,

with independent entries of U and V from :math:`N(0, D)` at the start (chizat2025, eq. (1) for
two-layer blocks). In the words of the library it is a flow of
:class:`~mflib.blocks.NeuronBlock` whose particles are :math:`(V, U/D, 0)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..activations import Activation
from ..arguments import (
    require_alike,
    require_batch,
    require_broadcast,
    require_generator,
    require_instance,
    require_int,
    require_number,
    require_positive_int,
    require_tensor,
)
from ..blocks import NeuronBlock
from ..measures import LayeredMeasure
from ..ode import Trajectory, adjoint, flow

__all__ = ["Run", "ShapedNetwork", "local_movement", "standard_start"]


@dataclass(frozen=True)
class Run:
    r"""A network at one step of its training.

    Attributes
    ----------
    theta : Tensor
        Particles (V, U/D, 0), shape (..., L, M, 2D+1).
    trajectory : Trajectory
        The hidden states, ``trajectory.X`` of shape (..., L+1, n, D).
    output : Tensor
        Shape (..., n).
    """

    theta: Tensor
    trajectory: Trajectory
    output: Tensor

    @property
    def hidden(self) -> Tensor:
        """The last hidden states, shape (..., n, D)."""
        return self.trajectory.X[..., -1, :, :]

    @property
    def preactivation(self) -> Tensor:
        r"""The numbers :math:`U_{l,j}\cdot h_l(x_i)/D`, shape (..., L, n, M)."""
        d = self.hidden.shape[-1]
        w = self.theta[..., d : 2 * d]
        return torch.einsum("...lid,...ljd->...lij", self.trajectory.X[..., :-1, :, :], w)


def local_movement(first: Run, last: Run) -> Tensor:
    r"""Return how far neurons' own weights moved their pre-activations, relative, shape (...).

    .. math::

        \Big(\overline{\big((U_K-U_0)\cdot h^0/D\big)^2} \Big/
              \overline{\big(U_0\cdot h^0/D\big)^2}\Big)^{1/2},

    means over layers, neurons and samples, at the hidden states :math:`h^0` of the first
    run: what earlier layers did to the input does not count.

    Parameters
    ----------
    first, last : Run
        Two runs of one training.

    Raises
    ------
    TypeError, ValueError
        If they are no runs, or of different shapes.
    """
    for name, run in (("first", first), ("last", last)):
        require_instance(name, run, Run)
    if first.theta.shape != last.theta.shape:
        raise ValueError(
            f"last: particles of shape {tuple(last.theta.shape)}, first has "
            f"{tuple(first.theta.shape)}; take two runs of one training"
        )
    moved = Run(last.theta - first.theta, first.trajectory, first.output).preactivation
    mean = [v.square().mean((-1, -2, -3)) for v in (moved, first.preactivation)]
    return (mean[0] / mean[1]).sqrt()


def standard_start(
    L: int, M: int, D: int, generator: torch.Generator, batch: tuple[int, ...] = ()
) -> Tensor:
    r"""Draw particles (V, U/D, 0), shape (batch..., L, M, 2D+1), entries of U, V from N(0, D).

    Parameters
    ----------
    L, M, D : int
        Depth, hidden width and embedding dimension.
    generator : torch.Generator
        The source of randomness.
    batch : tuple of int
        Leading dimensions, an independent network each.

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer or `generator` none.

    Examples
    --------
    >>> standard_start(4, 2, 3, torch.Generator().manual_seed(0)).shape
    torch.Size([4, 2, 7])
    """
    require_generator(generator)
    for name, size in (("L", L), ("M", M), ("D", D)):
        require_positive_int(name, size)
    shape = (*require_batch(batch), L, M, 2 * D)
    theta = torch.randn(shape, generator=generator, dtype=torch.float64)
    theta[..., :D] *= D**0.5
    theta[..., D:] *= D**-0.5
    return torch.cat([theta, torch.zeros_like(theta[..., :1])], -1)


@dataclass(frozen=True)
class ShapedNetwork:
    r"""Data, embedding and read-out of a residual network, for every depth and width.

    Parameters
    ----------
    x : Tensor
        Embedded inputs :math:`h_0 = W_E x_i`, shape (..., n, D).
    y : Tensor
        Targets, shape (..., n).
    readout : Tensor
        The vector :math:`W_U`, shape (..., D).
    branch : float
        The residual scale :math:`\alpha`; :math:`\alpha = L^{1-a}` is a branch of
        scale :math:`L^{-a}`.
    sigma : str or Activation
        The activation.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.

    Examples
    --------
    >>> net = ShapedNetwork(torch.ones(1, 2), torch.zeros(1), torch.ones(2))
    >>> idle = torch.zeros(3, 1, 5)  # three layers that do nothing
    >>> net.forward(idle).output
    tensor([1.])
    """

    x: Tensor
    y: Tensor
    readout: Tensor
    branch: float = 1.0
    sigma: str | Activation = "tanh"

    def __post_init__(self) -> None:
        d = require_tensor("x", self.x, 2).shape[-1]
        require_tensor("y", self.y, 1, last=self.x.shape[-2])
        require_tensor("readout", self.readout, 1, last=d)
        require_number("branch", self.branch, above=0)
        require_alike(x=self.x, y=self.y, readout=self.readout)
        require_broadcast(x=self.x.shape[:-2], y=self.y.shape[:-1], readout=self.readout.shape[:-1])
        NeuronBlock(d, self.sigma)

    @property
    def block(self) -> NeuronBlock:
        """The block that drives the flow."""
        return NeuronBlock(self.x.shape[-1], self.sigma)

    def forward(self, theta: Tensor) -> Run:
        r"""Return hidden states and output of the network with particles `theta`.

        Parameters
        ----------
        theta : Tensor
            Particles (V, U/D, 0), shape (..., L, M, 2D+1).

        Raises
        ------
        TypeError, ValueError
            If the particles do not fit the data.
        """
        require_tensor("theta", theta, 3, last=self.block.k)
        require_alike(x=self.x, theta=theta)
        L, M = theta.shape[-3:-1]
        require_broadcast(
            x=self.x.shape[:-2],
            y=self.y.shape[:-1],
            readout=self.readout.shape[:-1],
            theta=theta.shape[:-3],
        )
        weights = torch.full((L, M), self.branch / M, dtype=theta.dtype)
        states = flow(self.block, LayeredMeasure(theta, weights), self.x, L)
        end = states.X[..., -1, :, :]
        output = (end * self.readout.unsqueeze(-2)).mean(-1)
        return Run(theta, states, output)

    def gradient(self, run: Run) -> Tensor:
        r"""Return :math:`\nabla_\theta\frac{\delta E}{\delta\rho}` of
        :math:`E=\frac1{2n}\sum_i(f_i-y_i)^2` at the particles, shape (..., L, M, 2D+1).

        The derivative of E by a particle is :math:`\frac{\alpha}{LM}` times this.

        Parameters
        ----------
        run : Run
            From :meth:`forward`.
        """
        require_instance("run", run, Run)
        n, d = self.x.shape[-2:]
        if run.theta.shape[-1] != self.block.k or run.output.shape[-1] != n:
            raise ValueError("run: is not of this network; take one from forward")
        p1 = (run.output - self.y).unsqueeze(-1) * self.readout.unsqueeze(-2) / d
        states = run.trajectory
        costates = adjoint(self.block, states, p1.expand_as(run.hidden)).stages[..., 0, :, :]
        mass = torch.full((n,), 1.0 / n, dtype=self.x.dtype)
        return self.block.pairing_grad(states.stages[..., 0, :, :], run.theta, costates, mass)

    def descend(self, theta: Tensor, rate: float, steps: int) -> Iterator[Run]:
        r"""Follow gradient descent with maximal local updates; yields steps + 1 runs.

        .. math::

            V \leftarrow V - \eta\,\frac{LMD}{\alpha^2}\,\nabla_V E, \qquad
            U \leftarrow U - \eta\,\frac{LMD}{\alpha^2}\,\nabla_U E,

        so that a step changes the output at order :math:`\eta` for every L, M, D and
        :math:`\alpha`. The biases of the block stay zero.

        Parameters
        ----------
        theta : Tensor
            The start, shape (..., L, M, 2D+1).
        rate : float
            The step :math:`\eta`.
        steps : int
            The number K of steps.

        Raises
        ------
        TypeError, ValueError
            If an argument is malformed, or the network leaves the finite numbers.

        Examples
        --------
        >>> net = ShapedNetwork(torch.ones(1, 2), torch.zeros(1), torch.ones(2))
        >>> start = standard_start(3, 2, 2, torch.Generator().manual_seed(0)).float()
        >>> losses = [float(run.output.square().sum()) for run in net.descend(start, 0.1, 5)]
        >>> losses[5] < losses[0]
        True
        """
        require_number("rate", rate, above=0)
        require_int("steps", steps, 0)
        require_tensor("theta", theta, 3, last=self.block.k)
        return self._descend(theta, rate, steps)

    def _descend(self, theta: Tensor, rate: float, steps: int) -> Iterator[Run]:
        d = self.x.shape[-1]
        scale = torch.ones(2 * d + 1, dtype=theta.dtype)
        scale[:d], scale[d : 2 * d], scale[2 * d] = d, 1.0 / d, 0.0
        for step in range(steps + 1):
            run = self.forward(theta)
            yield run
            if step < steps:
                theta = theta - (rate / self.branch) * scale * self.gradient(run)

    def train(self, theta: Tensor, rate: float, steps: int) -> Run:
        r"""Return the last run of :meth:`descend`.

        Parameters
        ----------
        theta : Tensor
            The start, shape (..., L, M, 2D+1).
        rate : float
            The step :math:`\eta`.
        steps : int
            The number K of steps.

        Raises
        ------
        TypeError, ValueError
            As :meth:`descend`.
        """
        for run in self.descend(theta, rate, steps):
            last = run
        return last
