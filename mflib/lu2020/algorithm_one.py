r"""Algorithm 1 of lu2020 and its rivals: gradient descent on blocks and their time stamps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_choice,
    require_generator,
    require_instance,
    require_number,
    require_positive_int,
    require_tensor,
)
from ..measures import LayeredMeasure
from ..ode import Pass
from ..problem import Problem
from .sorted_network import SortedNetwork, depth_velocity, require_fit

__all__ = ["RULES", "Rule", "Training", "even_stamps", "train"]


#: Stamps are rescaled, and masses kept, no smaller than this.
_LEAST = 1e-6


@dataclass(frozen=True)
class Rule:
    r"""A training rule: what is trained besides the parameters, and what the sort permutes.

    Attributes
    ----------
    words : str
        The rule in words.
    steps : str
        ``equal``: all 1/n; ``scalar``: all T/n with T trained; ``stamps``: differences of
        the sorted stamps; ``masses``: the blocks' own, trained.
    moves : str
        What the sort permutes. ``blocks``: the blocks; ``stamps``: only the stamps, the
        blocks stay; ``others``: as many blocks, but others; ``none``: nothing.
    velocity : str
        What moves the stamps: ``gradient`` descent, or the ``flow``'s commutator.
    normalised : bool
        Whether the stamps are rescaled so that the total time stays 1.
    """

    words: str
    steps: str = "stamps"
    moves: str = "blocks"
    velocity: str = "gradient"
    normalised: bool = True

    def __post_init__(self) -> None:
        require_choice("steps", self.steps, ("equal", "scalar", "stamps", "masses"))
        require_choice("moves", self.moves, ("blocks", "stamps", "others", "none"))
        require_choice("velocity", self.velocity, ("gradient", "flow"))
        require_choice("normalised", self.normalised, (True, False))


#: The rules that the chapter compares, by name.
RULES = {
    "fixed grid": Rule("theta alone", steps="equal", moves="none"),
    "free time": Rule("theta and one scalar, the total time", steps="scalar", moves="none"),
    "printed": Rule("Algorithm 1 as printed", normalised=False),
    "normalised": Rule("Algorithm 1, total time held at 1"),
    "blocks stay": Rule("the same, the stamps sorted without their blocks", moves="stamps"),
    "others move": Rule("the same, other blocks change places", moves="others"),
    "flow": Rule("equal masses, stamps moved by flow (14)", steps="equal", velocity="flow"),
    "flow, masses": Rule(
        "the same, masses trained and carried along", steps="masses", velocity="flow"
    ),
}


@dataclass(frozen=True)
class Training:
    r"""The result of a training run.

    Attributes
    ----------
    network : SortedNetwork
        The blocks at the end, in order.
    total : Tensor
        The total time at the end, shape (...).
    loss : Tensor
        Shape (..., K+1): before the first step and after each.
    block : Tensor
        Which block stands in each place, shape (K+1, ..., n), numbered at the start.
    """

    network: SortedNetwork
    total: Tensor
    loss: Tensor
    block: Tensor

    @property
    def exchanges(self) -> Tensor:
        """The number of steps after which the blocks' order was another, shape (...)."""
        return (self.block.diff(dim=0) != 0).any(-1).sum(0)


def even_stamps(theta: Tensor, masses: bool = False) -> SortedNetwork:
    r"""Return blocks in the given order with equal steps 1/n.

    Parameters
    ----------
    theta : Tensor
        Shape (..., n, k).
    masses : bool
        Whether the blocks carry masses 1/n, with stamps :math:`(l - \frac12)/n`; otherwise
        the stamps are :math:`l/n`, and their differences are the steps.
    """
    require_tensor("theta", theta, 2)
    n = theta.shape[-2]
    places = torch.arange(1, n + 1, dtype=theta.dtype).expand(theta.shape[:-1])
    if not masses:
        return SortedNetwork(theta, places / n)
    return SortedNetwork(theta, (places - 0.5) / n, torch.full_like(places, 1.0 / n))


def _stamp_velocity(rule: Rule, tau: Tensor, phi: Tensor) -> Tensor:
    """Return minus n times the derivative of the loss by the sorted stamps."""
    slope = phi - torch.cat([phi[..., 1:], torch.zeros_like(phi[..., :1])], -1)
    if rule.normalised:
        # the loss depends on tau / tau^n: the chain rule at tau^n = 1
        last = -(tau * slope)[..., :-1].sum(-1, keepdim=True)
        slope = torch.cat([slope[..., :-1], last], -1)
    return -tau.shape[-1] * slope


def _step(
    problem: Problem,
    network: SortedNetwork,
    total: Tensor,
    rho: LayeredMeasure,
    passed: Pass,
    rule: Rule,
    time_step: float,
    rate: Tensor,
) -> tuple[SortedNetwork, Tensor]:
    """Return the blocks, not yet sorted, and the total time after one step."""
    first = problem.first_variation(rho, passed)
    phi = first.value.squeeze(-1)
    theta = network.theta - time_step * rho.weights * first.gradient.squeeze(-2)
    tau, mass, reach = network.tau, network.mass, time_step * rate
    if rule.steps == "scalar":
        total = (total - reach * phi.mean(-1, keepdim=True)).clamp(min=0.0)
    if rule.velocity == "flow":
        tau = (tau + reach * depth_velocity(problem, network, passed)).clamp(0.0, 1.0)
    elif rule.steps == "stamps":
        tau = (tau + reach * _stamp_velocity(rule, tau, phi)).clamp(min=0.0)
        if rule.normalised:
            tau = tau / tau.amax(-1, keepdim=True).clamp(min=_LEAST)
    if rule.steps == "masses":
        mass = torch.softmax(mass.log() - reach * phi, -1).clamp(min=_LEAST)
    return SortedNetwork(theta, tau, mass), total


def _rearrange(
    rule: Rule, network: SortedNetwork, block: Tensor, generator: torch.Generator | None
) -> tuple[SortedNetwork, Tensor]:
    order = network.order
    ordered = network.take(order)
    if rule.moves == "stamps":
        return replace(network, tau=ordered.tau), block
    if rule.moves == "others":
        # the sort's permutation conjugated by a random one: as many blocks move
        label = torch.rand(order.shape, generator=generator).argsort(-1)
        order = label.gather(-1, order.gather(-1, label.argsort(-1)))
        ordered = replace(network.take(order), tau=ordered.tau)
    return ordered, block.gather(-1, order)


def train(
    problem: Problem,
    theta: Tensor,
    rule: Rule,
    time_step: float,
    steps: int,
    rate: float | Tensor = 1.0,
    generator: torch.Generator | None = None,
) -> Training:
    r"""Train blocks by one of the :data:`RULES`, every seed at once.

    In units of the mean field, a step of length :math:`\eta` is

    .. math::

        \theta_i \leftarrow \theta_i - \eta\, n\, \partial_{\theta_i} E, \qquad
        \tau_i \leftarrow \tau_i - \eta\, \kappa\, n\, \partial_{\tau_i} E, \qquad
        T \leftarrow T - \eta\, \kappa\, \partial_T E,

    followed by the sort. With ``velocity="flow"`` the stamps take
    :func:`~mflib.lu2020.sorted_network.depth_velocity` times :math:`\eta\kappa` instead, and
    stay in [0, 1]; trained masses follow :math:`m_i \leftarrow m_i\, e^{-\eta\kappa\Phi_i}`,
    rescaled to sum 1.

    Parameters
    ----------
    problem : Problem
        The regression problem, Euler steps, as many as blocks.
    theta : Tensor
        The blocks at the start, shape (..., n, k), in order.
    rule : Rule
        What is trained, and who moves.
    time_step : float
        The length :math:`\eta` of a step in training time.
    steps : int
        The number K of steps.
    rate : float or Tensor
        The rate :math:`\kappa` of stamps, masses or total time, broadcast with (...). In the
        paper's own units, where the first steps are 1, a common learning rate means
        :math:`\kappa = n^{-2}`.
    generator : torch.Generator, optional
        Needed where other blocks move.

    Returns
    -------
    Training

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed, or the loss leaves the finite numbers.
    """
    require_instance("problem", problem, Problem)
    require_instance("rule", rule, Rule)
    require_tensor("theta", theta, 2, last=problem.block.k)
    require_alike(problem=problem.x, theta=theta)
    batches = {
        "problem": torch.broadcast_shapes(problem.x.shape[:-2], problem.y.shape[:-1]),
        "theta": theta.shape[:-2],
        "rate": require_tensor("rate", rate, 0).shape if isinstance(rate, Tensor) else (),
    }
    whole = require_broadcast(**batches)
    theta = theta.expand(*whole, *theta.shape[-2:])
    require_positive_int("steps", steps)
    require_number("time_step", time_step, above=0)
    if not isinstance(rate, Tensor):
        require_number("rate", rate)
    if rule.moves == "others":
        require_generator(generator)
    rate = torch.as_tensor(rate, dtype=theta.dtype)[..., None]
    network = even_stamps(theta, masses=rule.steps != "stamps")
    require_fit(problem, network, least=2 if rule.velocity == "flow" else 1)
    total = torch.ones_like(network.tau[..., :1])
    block = torch.arange(theta.shape[-2]).expand(network.tau.shape)
    losses, blocks = [], [block]
    for step in range(steps + 1):
        try:
            rho = network.measure()
            rho = LayeredMeasure(rho.theta, total.unsqueeze(-1) * rho.weights)
            passed = problem.backward(rho)
            losses.append(passed.loss)
            if not passed.loss.isfinite().all():
                raise ValueError("the loss overflows")
            if step == steps:
                break
            network, total = _step(problem, network, total, rho, passed, rule, time_step, rate)
        except ValueError as error:  # every argument was checked above
            raise ValueError(
                f"time_step: training with {time_step:g} left the finite numbers at step "
                f"{step} ({error}); pass a smaller one"
            ) from error
        if rule.moves != "none":
            network, block = _rearrange(rule, network, block, generator)
        blocks.append(block)
    total = total[..., 0] * network.steps.sum(-1)
    return Training(network, total, torch.stack(losses, -1), torch.stack(blocks))
