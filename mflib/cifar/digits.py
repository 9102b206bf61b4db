"""The same trainer on the bundled digits: Algorithm 1 in seconds, watched step by step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .algorithm_one import rearrange, steps
from .architectures import residual
from .networks import Network
from .recipe import Config
from .store import Store
from .training import Run

__all__ = [
    "Trace",
    "digits_run",
    "digits_store",
    "exchange_blocks",
    "exchange_stamps",
    "respond",
    "watch",
]


@lru_cache(maxsize=4)
def digits_store(seed: int = 0, train: int = 1024) -> Store:
    r"""Return the handwritten digits of scikit-learn as 8 x 8 images.

    Parameters
    ----------
    seed : int
        Of the split into training and test images.
    train : int
        Training images; the other ones of the 1797 are for the test.

    Returns
    -------
    Store
        With a border of one pixel for random crops, and no flip.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images * (255 / 16)).round().astype(np.uint8)[..., None]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).numpy()
    images, labels = images[order], bunch.target[order]
    return Store(
        images[:train],
        labels[:train],
        images[train:],
        labels[train:],
        mean=(0.305,),
        std=(0.376,),
        classes=10,
        pad=1,
        flip=False,
    )


def digits_run(
    how: str,
    seed: int,
    blocks: int = 6,
    width: int = 8,
    epochs: int = 10,
    store: Store | None = None,
) -> Run:
    r"""Return a run of a one-stage pre-activation network on the digits.

    Parameters
    ----------
    how : str
        The method.
    seed : int
        Of initialisation and data order.
    blocks, width, epochs : int
        Movable blocks, channels, passes over the data.
    store : Store, optional
        Default: the split of seed 0.

    Returns
    -------
    Run
        The paper's recipe otherwise, with batches of 64.
    """
    net = Network(residual("digits", (blocks,), (width,), 10, channels=1, size=8))
    cfg = Config("digits", "digits", how, seed, epochs, weight_decay=1e-4, batch=64, pad=1)
    return Run(cfg, store or digits_store(), net)


@dataclass(frozen=True)
class Trace:
    """What was seen of a run.

    Attributes
    ----------
    tau : numpy.ndarray
        Shape (steps + 1, blocks): the depth of each block, by the block's number.
    place : numpy.ndarray
        Shape (steps + 1, blocks): where each block stands in the network.
    """

    tau: np.ndarray
    place: np.ndarray


def watch(run: Run) -> Trace:
    """Train a run to its end and return how its blocks moved."""
    seen: list[tuple[Tensor, Tensor]] = []

    def look() -> None:
        where = run.blocks.argsort()
        seen.append((run.tau.detach()[where].clone(), where.clone()))

    look()
    while not run.finished:
        run.step()
        look()
        if run.at_end:
            last = run.cfg.evaluates(run.epoch + 1)
            run.close_epoch(run.errors() if last else None)
    return Trace(*(torch.stack(part).numpy() for part in zip(*seen, strict=True)))


def respond(run: Run, plain: bool = False, images: int = 64) -> Tensor:
    r"""Return logits and the gradient of the loss of a run's network, as one vector.

    Parameters
    ----------
    run : Run
        Its first training images are used, as they are.
    plain : bool
        Take the vanilla network with steps of 1 instead of the steps by tau.
    images : int
        How many.

    Returns
    -------
    Tensor
        Shape (10 images + parameters,).
    """
    index = torch.arange(images)
    corner = torch.full((images, 2), run.store.pad, dtype=torch.uint8)
    x = run.store.batch(index, corner, torch.zeros(images, dtype=torch.bool), run.dtype)
    heights = None if plain else steps(run.how, run.tau, run.movable)
    logits = run.net(run.theta, run.stats.clone(), x, heights)
    loss = F.cross_entropy(logits, run.store.labels[:images])
    (gradient,) = torch.autograd.grad(loss, run.theta)
    return torch.cat([logits.detach().flatten(), gradient])


@torch.no_grad()
def exchange_stamps(run: Run, sort: bool = True) -> Run:
    """Exchange the stamps of the first two blocks, then sort as Algorithm 1 does."""
    run.tau[:2] = run.tau[:2].flip(0)
    if sort:
        rearrange(run.how, run.tau, [run.tau_momentum], run.rows(), run.movable)
    return run


@torch.no_grad()
def exchange_blocks(run: Run) -> Run:
    """Let the first two blocks change places by hand; the stamps stay where they are."""
    for rows in run.rows()[0]:
        rows[:2] = rows[:2].flip(0)
    return run
