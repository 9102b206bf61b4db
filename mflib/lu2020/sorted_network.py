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

from ..arguments import require_tensor
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
        """Return the blocks listed by `order`, shape (..., n), with all that is theirs."""
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
    n = network.theta.shape[-2]
    if n < least:
        raise ValueError(f"network: has {n} block; an exchange needs at least {least}")
    if problem.method != "euler" or problem.steps != n:
        raise ValueError(
            f"problem: takes {problem.steps} steps of {problem.method}; the network's "
            f"{n} blocks need method='euler' and steps={n}"
        )


def derivative_at_blocks(problem: Problem, network: SortedNetwork) -> Tensor:
    r"""Return :math:`\Phi_l = \frac{\delta E}{\delta\rho}(\theta^l, t_l)`, shape (..., n), by place.

    It is the derivative of the loss by the step of place l (lu2020, Theorem 2):
    :math:`\Phi_l = \partial E/\partial h_l = \mathbb E\, p^{l+1} f(X^l, \theta^l)`.
    """
    require_fit(problem, network)
    return problem.first_variation(network.measure()).value.squeeze(-1)


def stamp_gradient(problem: Problem, network: SortedNetwork) -> Tensor:
    r"""Return :math:`\partial E/\partial\tau_i`, what gradient descent on the stamps sees.

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
    if network.mass is not None:
        return torch.zeros_like(network.tau)
    phi = derivative_at_blocks(problem, network)
    by_place = phi - torch.cat([phi[..., 1:], torch.zeros_like(phi[..., :1])], -1)
    return torch.zeros_like(by_place).scatter(-1, network.order, by_place)


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
    n = network.theta.shape[-2]
    if not 0 <= place < n - 1:
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
    r"""Return how the loss answers when neighbours change places, per product of masses.

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
    passed = problem.backward(rho) if passed is None else passed
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
    B, h = commutators(problem, network, passed), network.steps
    none = torch.zeros_like(h[..., :1])
    beyond, before = torch.cat([h[..., 1:], none], -1), torch.cat([none, h[..., :-1]], -1)
    down, up = torch.cat([B, none], -1), torch.cat([none, B], -1)
    by_place = -(beyond * down - before * up) / (beyond + before)
    return torch.zeros_like(by_place).scatter(-1, network.order, by_place)
