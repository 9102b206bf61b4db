"""The paper's recipe, and the configuration of one run of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from . import CifarError
from .architectures import NETWORKS
from .meanfield import method

__all__ = ["RECIPES", "Config", "config"]

#: Epochs and weight decay of the paper's recipe, by data set.
RECIPES = {"cifar10": (160, 1e-4), "cifar100": (300, 5e-4)}


@dataclass(frozen=True)
class Config:
    """Everything a run depends on; two equal configurations are the same run."""

    net: str
    data: str
    method: str
    seed: int
    epochs: int
    weight_decay: float
    batch: int = 128
    rate: float = 0.1
    momentum: float = 0.9
    precision: str = "fp32"
    subset: int | None = None
    verified: bool = True

    @property
    def milestones(self) -> tuple[int, int]:
        """Epochs after which the rate is divided by 10, at 1/2 and 3/4 of all."""
        return self.epochs // 2, 3 * self.epochs // 4

    @property
    def reduced(self) -> bool:
        """Whether this is less than the paper's protocol."""
        full = RECIPES.get(self.data, (None,))[0]
        return self.subset is not None or self.epochs != full or not self.verified

    @property
    def name(self) -> str:
        """The record's file name without its ending."""
        parts = [self.data, self.net, self.method, f"s{self.seed}"]
        if self.subset is not None:
            parts.append(f"n{self.subset}")
        if self.epochs != RECIPES.get(self.data, (None,))[0]:
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
        return self.epochs <= 20 or epoch % 10 == 0 or epoch > self.epochs - 5


def config(
    net: str, how: str, seed: int, *, data: str | None = None, epochs: int | None = None,
    precision: str = "fp32", subset: int | None = None, verified: bool = True,
) -> Config:
    """Return a run of the paper's recipe.

    Raises
    ------
    CifarError
        If the network, method, data set or a number is impossible.
    """
    if net not in NETWORKS:
        raise CifarError(f"net: {net!r} is none of {', '.join(NETWORKS)}")
    data = data or ("cifar100" if net.startswith("resnext") else "cifar10")
    if data not in RECIPES:
        raise CifarError(f"data: {data!r} is none of {', '.join(RECIPES)}")
    if seed < 0:
        raise CifarError(f"seeds: {seed} is negative")
    full, decay = RECIPES[data]
    epochs = full if epochs is None else epochs
    if epochs < 1:
        raise CifarError(f"epochs: at least one is needed, got {epochs}")
    if precision not in ("fp32", "bf16"):
        raise CifarError(f"precision: {precision!r} is neither fp32 nor bf16")
    return Config(
        net, data, method(how).name, seed, epochs, decay, precision=precision,
        subset=subset, verified=verified,
    )
