"""Small files in the official binary layout, made by the tests."""

import dataclasses
import hashlib
import sys
from pathlib import Path

import numpy as np

from mflib.cifar import data
from mflib.cifar.store import Store

# the plain network, which the benchmarks keep, is the tests' reference
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from plain_network import PlainNetwork, copy_parameters  # noqa: E402

__all__ = ["PlainNetwork", "copy_parameters", "official", "random_store", "write_files"]


def write_files(folder, train=20, test=30, name="cifar10", seed=0):
    """Write random official-layout files; images of a class share a colour."""
    dataset, rng = data.DATASETS[name], np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for split, records in ((dataset.train, train), (dataset.test, test)):
        for file, _ in split:
            labels = rng.integers(0, dataset.classes, (records, dataset.label_bytes))
            if dataset.label_bytes == 2:
                labels[:, 0] %= 20
            pixels = rng.integers(0, 128, (records, 3, 1024))
            pixels[np.arange(records), labels[:, -1] % 3] += 100
            raw = np.concatenate([labels, pixels.reshape(records, -1)], 1)
            (folder / file).write_bytes(raw.astype(np.uint8).tobytes())
    return folder


def official(folder, monkeypatch, train=20, test=30, name="cifar10"):
    """Make the written files the official ones: their sizes and md5 become the rule."""
    dataset = data.DATASETS[name]

    def sums(files):
        return tuple((f, hashlib.md5((folder / f).read_bytes()).hexdigest()) for f, _ in files)

    changed = dataclasses.replace(
        dataset,
        train=sums(dataset.train),
        test=sums(dataset.test),
        train_records=train,
        test_records=test,
    )
    monkeypatch.setitem(data.DATASETS, name, changed)
    return changed


def random_store(n=50, tests=20, size=8, channels=3, classes=10, seed=0, **more):
    """A store of random images."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n + tests, size, size, channels), dtype=np.uint8)
    labels = rng.integers(0, classes, n + tests)
    return Store(
        images[:n],
        labels[:n],
        images[n:],
        labels[n:],
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        classes=classes,
        **more,
    )
