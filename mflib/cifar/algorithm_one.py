r"""Algorithm 1 of lu2020 in a network: blocks carry time stamps; train them, sort, go on.

In each stage the movable block in place :math:`\ell` makes the step
:math:`\tau^\ell-\tau^{\ell-1}` with :math:`\tau^0=0` before the first. After every
update the blocks are sorted by their stamps :math:`\tau`: rows of parameters, momentum
and running statistics are gathered by index on the device, nothing is read back by the
host. The words are those of :mod:`mflib.lu2020.algorithm_one`, which trains a toy problem.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from . import CifarError

__all__ = ["ABLATIONS", "RULES", "Rule", "initial_stamps", "rearrange", "rule", "steps", "twin"]


@dataclass(frozen=True)
class Rule:
    r"""What is trained besides the blocks' parameters, and who moves.

    Attributes
    ----------
    name, words : str
        The name on the command line, and the rule in words.
    steps : str
        ``equal``: all 1; ``stamps``: differences of the stamps; ``free``: the stamps
        themselves.
    moves : str
        What the sort moves. ``blocks``: the blocks; ``stamps``: only the stamps, the
        blocks stay; ``others``: as many blocks, but others; ``none``: nothing.
    velocity : str
        What moves the stamps: ``gradient`` descent, the ``flow``'s commutator, or
        ``none``.
    normalised : bool
        Whether the steps are rescaled so that a stage's total time stays what it was.
    total : float, optional
        The total time of a stage at the start; None means the number of its blocks.
    rate, decay : float
        Learning rate and weight decay of the stamps relative to the network's.
    random : bool
        Whether the stamps start as sorted uniform draws.
    """

    name: str
    words: str
    steps: str = "stamps"
    moves: str = "blocks"
    velocity: str = "gradient"
    normalised: bool = False
    total: float | None = None
    rate: float = 1.0
    decay: float = 0.0
    random: bool = False

    @property
    def learns(self) -> bool:
        """Whether there are stamps to train."""
        return self.velocity != "none"


#: The rules by name: the paper's two columns, then what tells its reasons apart.
RULES = {
    r.name: r
    for r in (
        Rule(
            "vanilla",
            "theta alone on a fixed grid: every step is 1",
            steps="equal",
            moves="none",
            velocity="none",
        ),
        Rule(
            "mean-field",
            "Algorithm 1 as printed, total time m at the start: there it equals vanilla",
        ),
        Rule("normalised", "Algorithm 1, total time held at m", normalised=True),
        Rule("blocks-stay", "as printed, the stamps sorted without their blocks", moves="stamps"),
        Rule("others-move", "as printed, other blocks change places", moves="others"),
        Rule("free-steps", "one free step a block, no stamps, no sort", steps="free", moves="none"),
        Rule(
            "flow",
            "equal steps 1, stamps in [0, 1] moved by flow (14) and sorted",
            steps="equal",
            velocity="flow",
            total=1.0,
        ),
        Rule("T1", "as printed, total time 1 at the start", total=1.0),
        Rule(
            "T1-blocks-stay",
            "total time 1 at the start, the stamps sorted without their blocks",
            moves="stamps",
            total=1.0,
        ),
        Rule(
            "T1-others-move",
            "total time 1 at the start, other blocks change places",
            moves="others",
            total=1.0,
        ),
        Rule("random-stamps", "as printed, from sorted uniform draws", random=True),
        Rule("stamps-decay", "as printed, weight decay on the stamps too", decay=1.0),
        Rule("stamps-rate-0.1", "as printed, a tenth of the learning rate on the stamps", rate=0.1),
        Rule("stamps-rate-10", "as printed, ten times the learning rate on the stamps", rate=10.0),
    )
}
#: Everything beside the two columns of the table.
ABLATIONS = tuple(name for name in RULES if name not in ("vanilla", "mean-field"))


def rule(name: str) -> Rule:
    """Return a rule by its name.

    Raises
    ------
    CifarError
        If the name is unknown.
    """
    if name not in RULES:
        raise CifarError(f"rule: {name!r} is none of {', '.join(RULES)}")
    return RULES[name]


def twin(name: str) -> str | None:
    """Return the sorting rule from which `name` differs only in what its sort moves.

    Until the stamps first leave their order the two train the same network to the last
    bit; None where there is no such rule.
    """
    how = rule(name)
    if how.moves not in ("stamps", "others"):
        return None
    for other in RULES.values():
        if replace(how, name=other.name, words=other.words, moves="blocks") == other:
            return other.name
    return None


def initial_stamps(how: Rule, movable: tuple[int, ...], generator: torch.Generator) -> Tensor:
    r"""Return the stamps at the start, stage after stage.

    .. math:: \tau_i=\tfrac{i}{m}T,\qquad i=1,\dots,m.

    Parameters
    ----------
    how : Rule
        ``free`` steps start at 1, ``random`` stamps as sorted uniforms on [0, T].
    movable : tuple of int
        Movable blocks a stage.
    generator : torch.Generator
        For random stamps.

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


def steps(how: Rule, tau: Tensor, movable: tuple[int, ...]) -> list[Tensor] | None:
    r"""Return the residual steps of every stage, differentiable in the stamps.

    .. math:: h_\ell=\tau^\ell-\tau^{\ell-1},\qquad\tau^0=0.

    Parameters
    ----------
    how : Rule
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
    if how.steps == "equal":
        return None
    parts = tau.split(list(movable))
    if how.steps == "free":
        return list(parts)
    if how.normalised:
        parts = [m * t / t[-1:].clamp_min(1e-6) for m, t in zip(movable, parts, strict=True)]
    return [torch.diff(t, prepend=t.new_zeros(1)) for t in parts]


def _permute(rows: Tensor, order: Tensor) -> None:
    rows.copy_(rows.index_select(0, order))


@torch.no_grad()
def rearrange(
    how: Rule,
    tau: Tensor,
    follow_tau: list[Tensor],
    follow_block: list[list[Tensor]],
    movable: tuple[int, ...],
    scores: Tensor | None = None,
) -> Tensor | None:
    r"""Keep stamps at or above 0, sort them, and let the blocks' state travel, in place.

    Stamps that follow the flow keep to [0, T], as a particle that meets a wall.

    Parameters
    ----------
    how : Rule
        Who moves.
    tau : Tensor
        Shape (sum of movable,).
    follow_tau : list of Tensor
        Vectors that move with the stamps: their momentum.
    follow_block : list of list of Tensor
        For each stage the tensors whose rows are the blocks.
    movable : tuple of int
        Movable blocks a stage.
    scores : Tensor, optional
        Random numbers, shape (sum of movable,), where other blocks move.

    Returns
    -------
    Tensor or None
        Whether the stamps of each stage had left their order, int64 (stages,); None if
        nothing sorts.
    """
    if how.steps != "free":
        tau.clamp_(min=0.0, max=how.total if how.velocity == "flow" else None)
    if how.moves == "none":
        return None
    moved, start = [], 0
    for stage, m in enumerate(movable):
        part = slice(start, start + m)
        start += m
        order = torch.argsort(tau[part], stable=True)
        moved.append((order.diff() < 0).any())
        for vector in (tau, *follow_tau):
            _permute(vector[part], order)
        if how.moves == "stamps":
            continue
        if how.moves == "others":
            # the sort's permutation conjugated by a random one: as many blocks move
            shuffle = torch.argsort(scores[part], stable=True)
            order = shuffle[order[torch.argsort(shuffle)]]
        for rows in follow_block[stage]:
            _permute(rows, order)
    return torch.stack(moved).long()
