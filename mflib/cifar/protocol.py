"""The order in which the rows of the table are run when device time is short."""

from __future__ import annotations

from .meanfield import ABLATIONS
from .recipe import Config, config

__all__ = ["PAPER", "protocol"]

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
_MAIN = (
    ("resnet20", _PAIR, 8), ("resnet32", _PAIR, 8), ("resnet20", ABLATIONS, 8),
    ("resnet44", _PAIR, 8), ("resnet56", _PAIR, 8), ("resnet110", _PAIR, 3),
    ("resnet56", ABLATIONS, 3), ("resnet164", _PAIR, 3),
)
_RESNEXT = (("resnext29-8x64d", _PAIR, 3), ("resnext29-16x64d", _PAIR, 3))


def protocol(
    precision: str, resnext: bool = False, verified: bool = True,
    epochs: int | None = None, subset: int | None = None, seeds: int | None = None,
    nets: list[str] | None = None,
) -> list[Config]:
    """Return every run of the table in the order of the protocol.

    Parameters
    ----------
    precision : {"fp32", "bf16"}
        The compute precision.
    resnext : bool
        Include the ResNeXt rows, which need some ten GPU-hours.
    verified, epochs, subset, seeds, nets
        For reduced rehearsals: fewer epochs, images, seeds or networks.

    Returns
    -------
    list of Config
        Pairs of a seed stand together.
    """
    rows = _MAIN + (_RESNEXT if resnext else ())
    return [
        config(net, how, seed, precision=precision, verified=verified, epochs=epochs,
               subset=subset)
        for net, methods, count in rows
        if nets is None or net in nets
        for seed in range(min(count, seeds or count))
        for how in methods
    ]
