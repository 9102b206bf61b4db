r"""Algorithm 1 of lu2020: blocks carry a depth :math:`\tau`; train it, sort, go on.

In each stage the movable block in place :math:`\ell` makes the step
:math:`\tau^\ell-\tau^{\ell-1}` with :math:`\tau^0=0` before the first. After every
update the blocks are sorted by :math:`\tau`: rows of parameters, momentum and running
statistics are gathered by index on the device, nothing is read back by the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import CifarError

__all__ = ["ABLATIONS", "METHODS", "Method", "initial_tau", "method", "reorder", "steps"]


@dataclass(frozen=True)
class Method:
    r"""What is done with the depths.

    Attributes
    ----------
    name, words : str
        The name on the command line, and what it does.
    steps : str
        ``one``: steps of 1; ``depth``: differences of tau; ``free``: tau itself;
        ``normalised``: differences of T tau / max tau; ``equal``: steps of 1, and tau
        moves by the depth velocity of the flow, not by the gradient of the loss.
    total : float, optional
        The total time T of a stage at the start; None means the number of blocks.
    sort : str
        Who moves when tau leaves its order. ``never``: nobody; ``tau``: the block of
        that tau; ``random``: other blocks, by the sort's permutation conjugated by a
        random one.
    rate, decay : float
        Learning rate and weight decay of tau relative to the network's.
    random : bool
        Whether tau starts as sorted uniform draws.
    """

    name: str
    words: str
    steps: str = "depth"
    total: float | None = None
    sort: str = "tau"
    rate: float = 1.0
    decay: float = 0.0
    random: bool = False

    @property
    def learns(self) -> bool:
        """Whether there is a tau to learn."""
        return self.steps != "one"


METHODS = {
    m.name: m
    for m in (
        Method("vanilla", "every step is 1", steps="one", sort="never"),
        Method("mean-field", "Algorithm 1: tau trained and sorted, T = m, equals vanilla"
               " at the start"),
        Method("T1", "Algorithm 1 with total time 1 at the start", total=1.0),
        Method("free-steps", "one free step a block, no depth, no sort", steps="free",
               sort="never"),
        Method("frozen-order", "tau trained, blocks never change places", sort="never"),
        Method("fixed-total", "Algorithm 1 with the total time held at m",
               steps="normalised"),
        Method("random-tau", "Algorithm 1 from sorted uniform draws of tau", random=True),
        Method("wd-tau", "Algorithm 1 with weight decay on tau", decay=1.0),
        Method("tau-lr0.1", "Algorithm 1 with a tenth of the learning rate on tau",
               rate=0.1),
        Method("tau-lr10", "Algorithm 1 with ten times the learning rate on tau",
               rate=10.0),
        Method("random-reorder", "when tau sorts, as many other blocks change places",
               sort="random"),
        Method("bracket", "steps of 1; tau in [0, 1] moves by the depth velocity of the"
               " flow and sorts",
               steps="equal", total=1.0),
    )
}
#: Everything beside the two columns of the table.
ABLATIONS = tuple(name for name in METHODS if name not in ("vanilla", "mean-field"))


def method(name: str) -> Method:
    """Return a method by its name.

    Raises
    ------
    CifarError
        If the name is unknown.
    """
    if name not in METHODS:
        raise CifarError(f"method: {name!r} is none of {', '.join(METHODS)}")
    return METHODS[name]


def initial_tau(how: Method, movable: tuple[int, ...], generator: torch.Generator) -> Tensor:
    r"""Return the depths at the start, stage after stage.

    .. math:: \tau_i=\tfrac{i}{m}T,\qquad i=1,\dots,m.

    Parameters
    ----------
    how : Method
        ``free`` steps start at 1, ``random`` depths as sorted uniforms on [0, T].
    movable : tuple of int
        Movable blocks a stage.
    generator : torch.Generator
        For random depths.

    Returns
    -------
    Tensor
        Shape (sum of movable,), float32.
    """
    parts = []
    for m in movable:
        total = float(m) if how.total is None else how.total
        if how.steps == "free":
            parts.append(torch.full((m,), total / max(m, 1)))
        elif how.random:
            parts.append(total * torch.rand(m, generator=generator).sort()[0])
        else:
            parts.append(torch.arange(1, m + 1) * (total / max(m, 1)))
    return torch.cat(parts)


def steps(how: Method, tau: Tensor, movable: tuple[int, ...]) -> list[Tensor] | None:
    r"""Return the residual steps of every stage, differentiable in tau.

    .. math:: h_\ell=\tau^\ell-\tau^{\ell-1},\qquad\tau^0=0.

    Parameters
    ----------
    how : Method
        Which steps.
    tau : Tensor
        Shape (sum of movable,).
    movable : tuple of int
        Movable blocks a stage.

    Returns
    -------
    list of Tensor, or None
        Shape (movable,) each; None for steps of 1.
    """
    if how.steps in ("one", "equal"):
        return None
    parts = tau.split(list(movable))
    if how.steps == "free":
        return list(parts)
    if how.steps == "normalised":
        parts = [m * t / t[-1:].clamp_min(1e-6) for m, t in zip(movable, parts, strict=True)]
    return [torch.diff(t, prepend=t.new_zeros(1)) for t in parts]


def _permute(rows: Tensor, order: Tensor) -> None:
    rows.copy_(rows.index_select(0, order))


@torch.no_grad()
def reorder(
    how: Method,
    tau: Tensor,
    follow_tau: list[Tensor],
    follow_block: list[list[Tensor]],
    movable: tuple[int, ...],
    scores: Tensor | None = None,
) -> Tensor | None:
    r"""Keep tau at or above 0, sort it, and let the blocks' state travel, in place.

    Where tau follows the flow it keeps to [0, T], as a particle that meets a wall.

    Parameters
    ----------
    how : Method
        Who moves.
    tau : Tensor
        Shape (sum of movable,).
    follow_tau : list of Tensor
        Vectors that move with tau: its momentum.
    follow_block : list of list of Tensor
        For each stage the tensors whose rows are the blocks.
    movable : tuple of int
        Movable blocks a stage.
    scores : Tensor, optional
        Random numbers, shape (sum of movable,), for ``sort == "random"``.

    Returns
    -------
    Tensor or None
        Whether each stage changed its order, int64 (stages,); None if nothing sorts.
    """
    if how.steps != "free":
        tau.clamp_(min=0.0, max=how.total if how.steps == "equal" else None)
    if how.sort == "never":
        return None
    moved, start = [], 0
    for stage, m in enumerate(movable):
        part = slice(start, start + m)
        start += m
        order = torch.argsort(tau[part], stable=True)
        moved.append((order.diff() < 0).any())
        for vector in (tau, *follow_tau):
            _permute(vector[part], order)
        if how.sort == "random":
            shuffle = torch.argsort(scores[part], stable=True)
            order = shuffle[order[torch.argsort(shuffle)]]
        for rows in follow_block[stage]:
            _permute(rows, order)
    return torch.stack(moved).long()
