"""The recipes, the configuration of one run, and the order of the runs of each protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from . import CifarError
from .algorithm_one import ABLATIONS, rule
from .architectures import NETWORKS

__all__ = ["PAPER", "PROTOCOLS", "RECIPES", "Config", "Recipe", "config", "protocol"]


@dataclass(frozen=True)
class Recipe:
    """What the runs on one data set have in common.

    Attributes
    ----------
    epochs : int
        Passes over the data.
    weight_decay : float
        Of all parameters but the stamps.
    pad : int
        Black pixels around an image, from which a crop is drawn.
    """

    epochs: int
    weight_decay: float
    pad: int


#: The paper's recipes, and that of the small protocol, by data set.
RECIPES = {
    "cifar10": Recipe(160, 1e-4, 4),
    "cifar100": Recipe(300, 5e-4, 4),
    "cifar10-16px": Recipe(20, 1e-4, 2),
}

#: Test errors in percent of the paper's Table 1, (vanilla, mean-field).
PAPER = {
    ("resnet20", "cifar10"): (8.75, 8.19),
    ("resnet32", "cifar10"): (7.51, 7.15),
    ("resnet44", "cifar10"): (7.17, 6.91),
    ("resnet56", "cifar10"): (6.97, 6.72),
    ("resnet110", "cifar10"): (6.37, 6.10),
    ("resnet164", "cifar10"): (5.46, 5.19),
    ("resnext29-8x64d", "cifar100"): (17.92, 17.53),
    ("resnext29-16x64d", "cifar100"): (17.65, 16.81),
}

_PAIR = ("vanilla", "mean-field")
_SORT = ("blocks-stay", "normalised", "others-move", "flow", "T1")
#: Rows of each protocol in the order of running: (network, rules, seeds).
PROTOCOLS = {
    "small": (
        ("small-n3", _PAIR, 16),
        ("small-n3", _SORT, 8),
        ("small-n5", _PAIR, 8),
        ("small-n9", _PAIR, 8),
        ("small-n9", ("flow", "T1"), 8),
        ("small-n7", _PAIR, 8),
    ),
    "full": (
        ("resnet20", _PAIR, 8),
        ("resnet32", _PAIR, 8),
        ("resnet20", ABLATIONS, 8),
        ("resnet44", _PAIR, 8),
        ("resnet56", _PAIR, 8),
        ("resnet110", _PAIR, 3),
        ("resnet56", ABLATIONS, 3),
        ("resnet164", _PAIR, 3),
        ("resnext29-8x64d", _PAIR, 3),
        ("resnext29-16x64d", _PAIR, 3),
    ),
}


@dataclass(frozen=True)
class Config:
    """Everything a run depends on; two equal configurations are the same run."""

    net: str
    data: str
    rule: str
    seed: int
    epochs: int
    weight_decay: float
    batch: int = 128
    rate: float = 0.1
    momentum: float = 0.9
    pad: int = 4
    precision: str = "fp32"
    subset: int | None = None
    verified: bool = True

    @property
    def protocol(self) -> str | None:
        """The protocol this run belongs to: one whose own configuration it equals.

        None for a rehearsal: other epochs, images, numbers or files than the protocol's.
        The small protocol is in fp32, the full one in either precision.
        """
        for name, rows in PROTOCOLS.items():
            if self.net in {net for net, _, _ in rows}:
                own = config(self.net, self.rule, self.seed, precision=self.precision)
                return name if self == own and (name, self.precision) != ("small", "bf16") else None
        return None

    @property
    def name(self) -> str:
        """The record's file name without its ending."""
        parts = [self.data, self.net, self.rule, f"s{self.seed}"]
        if self.subset is not None:
            parts.append(f"n{self.subset}")
        if self.data not in RECIPES or self.epochs != RECIPES[self.data].epochs:
            parts.append(f"e{self.epochs}")
        if not self.verified:
            parts.append("unverified")
        return "-".join([*parts, self.precision])

    @property
    def digest(self) -> str:
        """A short hash of every field."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def evaluates(self, epoch: int) -> bool:
        """Whether the test error is measured after `epoch` (from 1)."""
        if self.epochs <= 20:
            return epoch % max(self.epochs // 4, 1) == 0 or epoch == self.epochs
        return epoch % 10 == 0 or epoch > self.epochs - 5


def config(
    net: str,
    how: str,
    seed: int,
    *,
    epochs: int | None = None,
    precision: str = "fp32",
    subset: int | None = None,
    verified: bool = True,
) -> Config:
    """Return a run of a network by the recipe of its data set.

    Raises
    ------
    CifarError
        If the network, the rule or a number is impossible.
    """
    if net not in NETWORKS:
        raise CifarError(f"net: {net!r} is none of {', '.join(NETWORKS)}")
    data = (
        "cifar10-16px"
        if net.startswith("small")
        else ("cifar100" if net.startswith("resnext") else "cifar10")
    )
    if not 0 <= seed < 2**31:
        raise CifarError(f"seeds: {seed} is not between 0 and 2^31 - 1")
    recipe = RECIPES[data]
    epochs = recipe.epochs if epochs is None else epochs
    if epochs < 1:
        raise CifarError(f"epochs: at least one is needed, got {epochs}")
    if precision not in ("fp32", "bf16"):
        raise CifarError(f"precision: {precision!r} is neither fp32 nor bf16")
    return Config(
        net,
        data,
        rule(how).name,
        seed,
        epochs,
        recipe.weight_decay,
        pad=recipe.pad,
        precision=precision,
        subset=subset,
        verified=verified,
    )


def protocol(
    name: str = "full",
    precision: str = "fp32",
    *,
    resnext: bool = False,
    verified: bool = True,
    epochs: int | None = None,
    subset: int | None = None,
    seeds: int | None = None,
    nets: list[str] | None = None,
) -> list[Config]:
    """Return every run of a protocol in its order; pairs of a seed stand together.

    Parameters
    ----------
    name : {"small", "full"}
        The small networks on averaged images, or Table 1.
    precision : {"fp32", "bf16"}
        The compute precision.
    resnext : bool
        Include the ResNeXt rows, which need some ten GPU-hours.
    verified, epochs, subset, seeds, nets
        For rehearsals: fewer epochs, images, seeds or networks.
    """

    def runs() -> Iterator[Config]:
        for net, rules, count in PROTOCOLS[name]:
            wanted = (resnext or not net.startswith("resnext")) and (nets is None or net in nets)
            for seed in range(min(count, seeds or count) if wanted else 0):
                for how in rules:
                    yield config(
                        net,
                        how,
                        seed,
                        precision=precision,
                        verified=verified,
                        epochs=epochs,
                        subset=subset,
                    )

    if name not in PROTOCOLS:
        raise CifarError(f"protocol: {name!r} is none of {', '.join(PROTOCOLS)}")
    return list(runs())
