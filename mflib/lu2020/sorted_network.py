r"""Networks whose blocks act in the order of their time stamps (lu2020, Algorithm 1).

.. math::

    X^{l+1} = X^l + h_l\, f(X^l, \theta^l), \qquad \tau^1 \le \dots \le \tau^n.

As printed (eq. (15)) the step :math:`h_l = \tau^l - \tau^{l-1}` belongs to the *place* l: where
two stamps cross, it passes from one block to the other. When each block carries a mass of
its own, :math:`h_l = m^l`, the stamps say only who acts first, as particles of the law
:math:`\rho = \sum_i m_i \delta_{(\theta_i, \tau_i)}` do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..arguments import require_alike, require_instance, require_int, require_tensor
from ..measures import LayeredMeasure
from ..ode import Pass
from ..problem import Problem

__all__ = [
    "SortedNetwork",
    "at_crossing",
    "commutators",
    "depth_velocity",
    "derivative_at_blocks",
    "require_fit",
    "stamp_gradient",
]


@dataclass(frozen=True)
class SortedNetwork:
    r"""Residual blocks :math:`\theta_i` with time stamps :math:`\tau_i`, in any order.

    Parameters
    ----------
    theta : Tensor
        Parameters, shape (..., n, k).
    tau : Tensor
        Time stamps :math:`\tau_i \ge 0`, shape (..., n).
    mass : Tensor, optional
        The blocks' own steps :math:`m_i \ge 0`, shape (..., n). Default: none, and the
        steps are the differences of the sorted stamps, with :math:`\tau^0 = 0` (the paper
        leaves the first one open).

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed, its batch does not fit the others, or a stamp or mass
        is negative.
    """

    theta: Tensor
    tau: Tensor
    mass: Tensor | None = None

    def __post_init__(self) -> None:
        require_tensor("theta", self.theta, 2)
        for name in ("tau", "mass"):
            value = getattr(self, name)
            if value is None:
                continue
            require_tensor(name, value, 1)
            if value.shape[-1] != self.theta.shape[-2]:
                raise ValueError(
                    f"{name}: holds {value.shape[-1]} numbers for {self.theta.shape[-2]} "
                    "blocks theta; pass one a block"
                )
            if bool((value < 0).any()):
                raise ValueError(f"{name}: a number is negative; clamp it at 0")
        require_alike(theta=self.theta, tau=self.tau, mass=self.mass)
        self._share_batch()

    def _share_batch(self) -> None:
        """Expand what is shared by a batch to the shape of the whole."""
        parts = {"theta": self.theta[..., 0], "tau": self.tau, "mass": self.mass}
        shapes = {name: part.shape for name, part in parts.items() if part is not None}
        try:
            whole = torch.broadcast_shapes(*shapes.values())
        except RuntimeError as error:
            said = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
            raise ValueError(f"tau: batches do not fit each other: {said}") from error
        for name, shape in shapes.items():
            if shape != whole:
                more = self.theta.shape[-1:] if name == "theta" else ()
                object.__setattr__(self, name, getattr(self, name).expand(*whole, *more))

    @property
    def order(self) -> Tensor:
        """The block in each place, shape (..., n); equal stamps keep their order."""
        return torch.argsort(self.tau, dim=-1, stable=True)

    def take(self, order: Tensor) -> SortedNetwork:
        """Return the blocks listed by `order`, shape (..., n), with their stamps and masses."""
        if not isinstance(order, Tensor) or order.dtype != torch.int64:
            raise TypeError("order: expected an integer tensor, one place a block")
        n = self.tau.shape[-1]
        fits = order.ndim == self.tau.ndim and order.shape[:-1] == self.tau.shape[:-1]
        if not fits or ((order < 0) | (order >= n)).any():
            raise ValueError(
                f"order: shape {tuple(order.shape)}, expected places 0 to {n - 1} of the blocks "
                f"{tuple(self.tau.shape)}"
            )
        index = order.unsqueeze(-1).expand(*order.shape, self.theta.shape[-1])
        theta, tau = self.theta.gather(-2, index), self.tau.gather(-1, order)
        mass = None if self.mass is None else self.mass.gather(-1, order)
        return SortedNetwork(theta, tau, mass)

    def sorted(self) -> SortedNetwork:
        """Return the blocks in the order of their stamps."""
        return self.take(self.order)

    @property
    def steps(self) -> Tensor:
        r"""The step :math:`h_l` of each *place*, in the order of the stamps, shape (..., n)."""
        if self.mass is not None:
            return self.mass.gather(-1, self.order)
        tau = self.tau.sort(dim=-1, stable=True)[0]
        return tau.diff(dim=-1, prepend=torch.zeros_like(tau[..., :1]))

    def measure(self) -> LayeredMeasure:
        r"""Return the network as a layered measure, one block a layer, weights :math:`n h_l`."""
        theta = self.sorted().theta.unsqueeze(-2)
        return LayeredMeasure(theta, (theta.shape[-3] * self.steps).unsqueeze(-1))


def require_fit(problem: Problem, network: SortedNetwork, least: int = 1) -> None:
    """Raise ValueError unless the problem takes one Euler step a block, for enough blocks."""
    require_instance("problem", problem, Problem)
    n = require_instance("network", network, SortedNetwork).theta.shape[-2]
    if n < require_int("least", least, 1):
        raise ValueError(f"network: has {n} block; an exchange needs at least {least}")
    if network.theta.shape[-1] != problem.block.k:
        raise ValueError(
            f"network: blocks of size {network.theta.shape[-1]} do not fit the problem's block, "
            f"expected k = {problem.block.k}"
        )
    if problem.method != "euler" or problem.steps != n:
        raise ValueError(
            f"problem: takes {problem.steps} steps of {problem.method}; the network's "
            f"{n} blocks need method='euler' and steps={n}"
        )


def derivative_at_blocks(problem: Problem, network: SortedNetwork) -> Tensor:
    r"""Return the functional derivative at the block of each place, shape (..., n).

    It is the derivative of the loss by the step of place l (lu2020, Theorem 2):

    .. math::

        \Phi_l = \frac{\delta E}{\delta\rho}(\theta^l, t_l)
            = \frac{\partial E}{\partial h_l} = \mathbb E\, p^{l+1} f(X^l, \theta^l).
    """
    require_fit(problem, network)
    return problem.first_variation(network.measure()).value.squeeze(-1)


def stamp_gradient(problem: Problem, network: SortedNetwork) -> Tensor:
    r"""Return the gradient :math:`\partial E/\partial\tau_i` of the loss in the time stamps.

    .. math::

        \frac{\partial E}{\partial\tau^l} = \Phi_l - \Phi_{l+1}, \qquad \Phi_{n+1} = 0,

    because the stamp of place l lengthens its own step and shortens the next. Where the
    blocks carry their masses it is zero: the loss is then a staircase in the stamps.

    Parameters
    ----------
    problem : Problem
        The regression problem, Euler steps, as many as blocks.
    network : SortedNetwork
        The blocks.

    Returns
    -------
    Tensor
        Shape (..., n), in the order in which the blocks were given.
    """
    require_fit(problem, network)
    if network.mass is not None:
        return torch.zeros_like(network.tau)
    phi = derivative_at_blocks(problem, network)
    by_place = phi - torch.cat([phi[..., 1:], torch.zeros_like(phi[..., :1])], -1)
    return _by_block(network, by_place)


def _by_block(network: SortedNetwork, by_place: Tensor) -> Tensor:
    """Return values of places in the order in which the blocks were given."""
    order = network.order.expand(by_place.shape)
    return torch.zeros_like(by_place).scatter(-1, order, by_place)


def at_crossing(network: SortedNetwork, place: int) -> tuple[SortedNetwork, SortedNetwork]:
    r"""Return the network just before and just after two neighbours change places.

    The block of place + 1 comes down to the stamp of its neighbour; the two networks are
    the one-sided limits, and their difference is the jump at the crossing.

    Parameters
    ----------
    network : SortedNetwork
        The blocks.
    place : int
        The first of the two places, from 0 to n - 2.

    Returns
    -------
    before, after : SortedNetwork

    Raises
    ------
    ValueError
        If there is no such pair.
    """
    n = require_instance("network", network, SortedNetwork).theta.shape[-2]
    if require_int("place", place, 0) > n - 2:
        raise ValueError(f"place: {place} has no neighbour beyond it among {n} blocks")
    ordered = network.sorted()
    tau = ordered.tau.clone()
    tau[..., place + 1] = tau[..., place]
    before = replace(ordered, tau=tau)
    order = torch.arange(n)
    order[place], order[place + 1] = place + 1, place
    return before, before.take(order.expand(tau.shape))


def commutators(
    problem: Problem,
    network: SortedNetwork,
    passed: Pass | None = None,
) -> Tensor:
    r"""Return the change of the loss when neighbours are exchanged, per product of masses.

    .. math::

        B_l = n^2\, \mathbb E\, p^{l+2} \cdot (X_{\text{exchanged}} - X_{\text{in order}})
            = \mathbb E\, p\, [\nabla_x f^l f^{l+1} - \nabla_x f^{l+1} f^l] + O(\tfrac1n),

    where both blocks act on :math:`X^l` with steps 1/n. The network obtains it by evaluating
    each block at its neighbour's state; no derivative of a block is taken.

    Parameters
    ----------
    problem : Problem
        The regression problem, Euler steps, as many as blocks.
    network : SortedNetwork
        At least two blocks.
    passed : Pass, optional
        A forward and backward pass of the network, if there is one already.

    Returns
    -------
    Tensor
        Shape (..., n - 1). With masses 1/n the exchange at l changes the loss by
        :math:`B_l/n^2`, up to the square of the change of the state.
    """
    require_fit(problem, network, least=2)
    rho = network.measure()
    passed = problem.backward(rho) if passed is None else require_instance("passed", passed, Pass)
    f, h = problem.block.value, 1.0 / rho.layers
    X, theta = passed.states[..., :-1, :, :], rho.theta
    first, second = theta[..., :-1, :, :], theta[..., 1:, :, :]
    early, late = f(X, first)[..., 0, :], f(X, second)[..., 0, :]
    in_order = early + f(X + h * early, second)[..., 0, :]
    exchanged = late + f(X + h * late, first)[..., 0, :]
    change = (exchanged - in_order) / h
    p = passed.costates[..., 1:, :, :]  # at the end of the second block
    return torch.einsum("...lid,...lid,i->...l", p, change, problem.mass)


def depth_velocity(
    problem: Problem,
    network: SortedNetwork,
    passed: Pass | None = None,
) -> Tensor:
    r"""Return the velocity in depth that flow (14) of lu2020 gives to each block.

    .. math::

        \dot\tau^l = -\frac{h_{l+1} B_l - h_{l-1} B_{l-1}}{h_{l+1} + h_{l-1}}, \qquad
        h_0 = h_{n+1} = 0,

    minus the mean of the answers to passing either neighbour. One neighbour stands for
    the mean field F: the velocity is :math:`-\partial_t \frac{\delta E}{\delta\rho}` on average
    over the neighbours that a block may meet, not for each of them.

    Parameters
    ----------
    problem : Problem
        The regression problem, Euler steps, as many as blocks.
    network : SortedNetwork
        At least two blocks, with masses.
    passed : Pass, optional
        A forward and backward pass of the network, if there is one already.

    Returns
    -------
    Tensor
        Shape (..., n), in the order in which the blocks were given.
    """
    B = commutators(problem, network, passed)
    h = network.steps.expand(*B.shape[:-1], B.shape[-1] + 1)
    none = torch.zeros_like(h[..., :1])
    beyond, before = torch.cat([h[..., 1:], none], -1), torch.cat([none, h[..., :-1]], -1)
    down, up = torch.cat([B, none], -1), torch.cat([none, B], -1)
    if not (beyond + before > 0).all():
        raise ValueError("network: a block has only neighbours without mass; give them some")
    return _by_block(network, -(beyond * down - before * up) / (beyond + before))
