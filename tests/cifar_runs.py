"""A tiny network and the record of a tiny finished run."""

from cifar_files import random_store

from mflib.cifar import records
from mflib.cifar.architectures import residual
from mflib.cifar.networks import Network
from mflib.cifar.recipe import config
from mflib.cifar.training import Run

TOY = Network(residual("toy", (2,), (8,), 10, size=8))


def made(how="mean-field", seed=0, epochs=2, **more):
    """The record of a tiny finished run."""
    run = Run(config("resnet20", how, seed, epochs=epochs, subset=50), random_store(), TOY)
    while not run.finished:
        run.step()
        if run.at_end:
            run.close_epoch(run.errors())
    return records.describe(run) | more
