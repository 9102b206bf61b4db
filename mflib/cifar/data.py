"""CIFAR from the official binary files, checked as they are read; fetched when asked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from . import CifarError
from .store import Store, block_sums, decode

__all__ = ["DATASETS", "Dataset", "default_folder", "download", "find", "load", "unpack"]

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Dataset:
    """The official layout of one data set, with the md5 of every file.

    Attributes
    ----------
    name, folder, archive, archive_md5 : str
        Where the official archive is and the folder it holds.
    classes, label_bytes : int
        The class is the last label byte of a record (CIFAR-100: the fine one).
    train, test : tuple
        Pairs (file name, md5).
    train_records, test_records : int
        Records a file.
    mean, std : tuple of float
        Of the channels, for pixels in [0, 1].
    averaged : int
        Images are averaged over squares of this side.
    """

    name: str
    folder: str
    archive: str
    archive_md5: str
    classes: int
    label_bytes: int
    train: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]
    train_records: int
    test_records: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    averaged: int = 1

    @property
    def record_bytes(self) -> int:
        """Bytes of a record, which holds labels, then 3072 planar RGB pixels."""
        return self.label_bytes + _PIXELS


_URL = "https://www.cs.toronto.edu/~kriz/"
DATASETS = {
    "cifar10": Dataset(
        "cifar10",
        "cifar-10-batches-bin",
        _URL + "cifar-10-binary.tar.gz",
        "c32a1d4ab5d03f1284b67883e8d87530",
        10,
        1,
        (
            ("data_batch_1.bin", "5dd7e06a14cb22eb9f671a540d1b7c25"),
            ("data_batch_2.bin", "5ea93a67294ea407fff1d09f752e9692"),
            ("data_batch_3.bin", "942cd6a4bcdd0dd3c604fbe906cb4421"),
            ("data_batch_4.bin", "ae636b3ba5c66a11e91e8cb52e771fcb"),
            ("data_batch_5.bin", "53f37980c15c3d472c316c40844f3f0d"),
        ),
        (("test_batch.bin", "803d5f7f4d78ea53de84dbe85f74fb6d"),),
        10_000,
        10_000,
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    ),
    "cifar100": Dataset(
        "cifar100",
        "cifar-100-binary",
        _URL + "cifar-100-binary.tar.gz",
        "03b5dce01913d631647c71ecec9e9cb8",
        100,
        2,
        (("train.bin", "6172c7755cfe09b2fe270c85cebc1b15"),),
        (("test.bin", "4499cfba6c016c1be1438163640a0898"),),
        50_000,
        10_000,
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
    ),
}
#: The same files, images averaged 2 x 2 to 16 x 16; the channels' scale stays.
DATASETS["cifar10-16px"] = replace(DATASETS["cifar10"], averaged=2)


def _expanded(path: str | Path) -> Path:
    """Return a path with its ~ replaced, where there is such a home."""
    with contextlib.suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)


def default_folder() -> Path:
    """Return the folder of the variable MFLIB_CIFAR, or a cache of the user's."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or "~/.cache"
    given = os.environ.get("MFLIB_CIFAR")
    return _expanded(given or Path(cache) / "mflib" / "cifar")


def find(name: str, folder: str | Path | None = None) -> Path:
    """Return where the files of a data set lie: in a folder, or in the archive's inside it.

    Raises
    ------
    CifarError
        If they do not.
    """
    if name not in DATASETS:
        raise CifarError(f"data: {name!r} is none of {', '.join(DATASETS)}")
    return _locate(DATASETS[name], _expanded(folder) if folder else default_folder())


def _locate(dataset: Dataset, folder: Path) -> Path:
    first = dataset.train[0][0]
    places = [folder, folder / dataset.folder, folder / dataset.name]
    for place in places:
        if (place / first).is_file():
            return place
    names = ", ".join(name for name, _ in dataset.train + dataset.test)
    raise CifarError(
        f"data: no {first} in {folder}; put the official binary files ({names}) there, "
        "name their folder by --data or MFLIB_CIFAR, or fetch them with --download"
    )


def _read(dataset: Dataset, path: Path, md5: str, records: int, verify: bool) -> np.ndarray:
    """Return one file as (records, record_bytes) uint8 after its checks."""
    if not path.is_file():
        raise CifarError(f"data: {path} is missing; unpack the official archive again")
    size, expected = path.stat().st_size, records * dataset.record_bytes
    if verify and size != expected:
        raise CifarError(
            f"data: {path} has {size} bytes instead of {expected}: truncated, or not "
            f"the official {dataset.name} file; unpack the archive again"
        )
    if size == 0 or size % dataset.record_bytes:
        raise CifarError(
            f"data: {path} has {size} bytes, no whole number of records of "
            f"{dataset.record_bytes} bytes; is it truncated, or another data set?"
        )
    raw = np.fromfile(path, np.uint8)
    if verify and hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5:
        raise CifarError(f"data: {path} does not match its md5; it is corrupted")
    raw = raw.reshape(-1, dataset.record_bytes)
    labels = raw[:, dataset.label_bytes - 1]
    if labels.max() >= dataset.classes:
        where = int(np.argmax(labels >= dataset.classes))
        raise CifarError(
            f"data: {path}, record {where}: label {labels[where]} is out of range, "
            f"{dataset.name} has {dataset.classes} classes"
        )
    return raw


def load(
    name: str,
    folder: str | Path | None = None,
    subset: int | None = None,
    device: str | torch.device = "cpu",
    verify: bool = True,
    pad: int = 4,
) -> Store:
    r"""Read a data set from the official binary files into a store on the device.

    Parameters
    ----------
    name : {"cifar10", "cifar100", "cifar10-16px"}
        The data set.
    folder : path, optional
        The files, or the folder that holds the archive's folder; default
        ``default_folder()``.
    subset : int, optional
        Train on the first images only.
    device : str
        Where the store lives.
    verify : bool
        Check size and md5; without it any whole number of records is accepted.
    pad : int
        Black pixels around a training image, from which a crop is drawn.

    Returns
    -------
    Store
        The images, averaged where the data set says so, and their labels.

    Raises
    ------
    CifarError
        If a file is missing, truncated, corrupted or holds a label out of range.
    """
    place, dataset = find(name, folder), DATASETS[name]
    parts = []
    for split, records in (("train", dataset.train_records), ("test", dataset.test_records)):
        raw = np.concatenate(
            [
                _read(dataset, place / file, md5, records, verify)
                for file, md5 in getattr(dataset, split)
            ]
        )
        most = subset if split == "train" and subset is not None else len(raw)
        if not 0 < most <= len(raw):
            raise CifarError(f"subset: {most} is not between 1 and the {len(raw)} images")
        images, labels = decode(raw[:most], dataset.label_bytes)
        parts += [block_sums(images, dataset.averaged), labels]
    return Store(
        *parts,
        mean=dataset.mean,
        std=dataset.std,
        classes=dataset.classes,
        device=device,
        pad=pad,
        white=255 * dataset.averaged**2,
    )


def unpack(archive: str | Path, folder: str | Path, name: str) -> None:
    """Unpack an official archive with the safe filter: nothing leaves the folder.

    Raises
    ------
    CifarError
        If the archive is damaged, holds a path that leaves the folder, or the disk is
        full.
    """
    if not hasattr(tarfile, "data_filter"):
        raise CifarError("download: this Python has no safe tar filter; use 3.11.4 or later")
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise CifarError(f"download: {archive} cannot be unpacked: {error}") from None
    _locate(DATASETS[name], Path(folder))


def download(name: str, folder: str | Path | None = None) -> Path:
    """Fetch an official archive with its checksum, through pooch, and unpack it.

    Where the files lie already nothing is fetched; ``load`` checks them.

    Raises
    ------
    CifarError
        If there is no network, no pooch, or the archive is not the official one.
    """
    if name not in DATASETS:
        raise CifarError(f"data: {name!r} is none of {', '.join(DATASETS)}")
    dataset, folder = DATASETS[name], _expanded(folder or default_folder())
    with contextlib.suppress(CifarError):
        _locate(dataset, folder)
        return folder
    try:
        import pooch
    except ImportError:
        raise CifarError(
            f"download: needs pooch (pip install pooch), or unpack {dataset.archive} "
            f"in {folder} by hand"
        ) from None
    try:
        archive = pooch.retrieve(
            dataset.archive,
            f"md5:{dataset.archive_md5}",
            path=folder,
            fname=dataset.archive.rsplit("/", 1)[-1],
            progressbar=False,
        )
    except (OSError, ValueError) as error:
        raise CifarError(
            f"download: {dataset.archive} could not be fetched ({error}); put the "
            f"official files in {folder} by hand"
        ) from None
    unpack(archive, folder, name)
    return folder
