"""Images on the device: an epoch's order, crops and flips, and the gather that applies them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

__all__ = ["Plan", "Store", "block_sums", "decode", "epoch_plan"]


def decode(raw: np.ndarray, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 32, 32, 3) uint8 and labels (N,) of records in the official layout.

    Parameters
    ----------
    raw : numpy.ndarray
        Shape (N, label_bytes + 3072), uint8: label bytes, of which the last is the class,
        then planar RGB pixels.
    label_bytes : int
        How many label bytes.
    """
    pixels = raw[:, label_bytes:].reshape(-1, 3, 32, 32)
    images = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    return images, raw[:, label_bytes - 1].astype(np.int64)


def block_sums(images: np.ndarray, factor: int) -> np.ndarray:
    """Return sums over squares of pixels: the averaged image, exactly, in units of 1/factor^2.

    Parameters
    ----------
    images : numpy.ndarray
        Shape (N, H, W, C), uint8.
    factor : int
        Side of a square, a divisor of H and W.

    Returns
    -------
    numpy.ndarray
        Shape (N, H / factor, W / factor, C), uint8 for factor 1, else int16.
    """
    if factor == 1:
        return images
    n, h, w, c = images.shape
    squares = images.reshape(n, h // factor, factor, w // factor, factor, c)
    return squares.sum((2, 4), dtype=np.int16)


@dataclass(frozen=True)
class Plan:
    """The random numbers of one epoch, from an explicit generator on the CPU.

    Attributes
    ----------
    order : Tensor
        Shape (N,), int64: a permutation of the images.
    crop : Tensor
        Shape (N, 2), uint8: the corner of the crop in the padded image.
    flip : Tensor
        Shape (N,), bool.
    """

    order: Tensor
    crop: Tensor
    flip: Tensor


@lru_cache(maxsize=64)
def epoch_plan(n: int, seed: int, epoch: int, pad: int = 4, flip: bool = True) -> Plan:
    r"""Return the order, crops and flips of an epoch; equal for all methods of a seed.

    Parameters
    ----------
    n : int
        Images.
    seed, epoch : int
        The generator depends on nothing else, so that a resumed run needs no state.
    pad : int
        Corners are drawn from 0 to 2 pad.
    flip : bool
        Whether a fair coin decides on a horizontal flip.

    Returns
    -------
    Plan
        In the order in which the images are visited.
    """
    generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + epoch)
    order = torch.randperm(n, generator=generator)
    crop = torch.randint(0, 2 * pad + 1, (n, 2), generator=generator, dtype=torch.uint8)
    coin = torch.randint(0, 2, (n,), generator=generator, dtype=torch.uint8).bool()
    return Plan(order, crop, coin & flip)


class Store:
    r"""Images as integers on the device; crop and flip are one gather there.

    Parameters
    ----------
    images, test_images : numpy.ndarray
        Shape (N, H, W, C), uint8 or int16.
    labels, test_labels : numpy.ndarray
        Shape (N,).
    mean, std : sequence of float
        Of the channels, for pixels in [0, 1].
    classes : int
        Classes.
    device : str
        Where the tensors live.
    pad : int
        Zeros (black pixels) around a training image, from which a crop is drawn.
    flip : bool
        Whether training images are flipped at random.
    white : int
        The value of a pixel that means 1.
    """

    def __init__(
        self,
        images,
        labels,
        test_images,
        test_labels,
        *,
        mean,
        std,
        classes,
        device="cpu",
        pad=4,
        flip=True,
        white=255,
    ) -> None:
        self.device, self.classes = torch.device(device), classes
        self.pad, self.flip = pad, flip
        self.train_images, self.test_images = len(images), len(test_images)
        self.size, self.channels = images.shape[1], images.shape[3]
        edge = ((0, 0), (pad, pad), (pad, pad), (0, 0))
        padded = torch.from_numpy(np.pad(images, edge)).to(self.device)
        self._wide = self.size + 2 * pad
        self._pixels = padded.reshape(-1, self.channels)
        self.labels = torch.from_numpy(np.asarray(labels, np.int64)).to(self.device)
        self._test = torch.from_numpy(np.ascontiguousarray(test_images)).to(self.device)
        self.test_labels = torch.from_numpy(np.asarray(test_labels, np.int64))
        self.test_labels = self.test_labels.to(self.device)
        shift, scale = torch.tensor(mean), torch.tensor(std)
        self._scale = (1 / (white * scale)).to(self.device)
        self._shift = (-shift / scale).to(self.device)
        self._line = torch.arange(self.size, device=self.device)

    def _normalise(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        x = torch.addcmul(self._shift, pixels.float(), self._scale).to(dtype)
        return x.permute(0, 3, 1, 2)

    def batch(self, index: Tensor, crop: Tensor, flip: Tensor, dtype: torch.dtype) -> Tensor:
        r"""Return augmented training images.

        Parameters
        ----------
        index, flip : Tensor
            Shape (B,).
        crop : Tensor
            Shape (B, 2).
        dtype : torch.dtype
            Of the result.

        Returns
        -------
        Tensor
            Shape (B, C, H, W), channels last in memory.
        """
        crop = crop.long()
        rows = crop[:, :1] + self._line
        columns = torch.where(flip[:, None], self.size - 1 - self._line, self._line)
        columns = columns + crop[:, 1:]
        first = (index[:, None] * self._wide + rows) * self._wide
        where = first[:, :, None] + columns[:, None, :]
        pixels = self._pixels.index_select(0, where.flatten())
        return self._normalise(pixels.view(*where.shape, self.channels), dtype)

    def test_batch(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Return test images, the single original view, (B, C, H, W) channels last."""
        return self._normalise(self._test[start:stop], dtype)
