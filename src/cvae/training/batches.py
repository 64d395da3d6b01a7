"""Batches of images for one epoch, read when they are needed and augmented."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from cvae.data import images
from cvae.data.images import Images

Floats = NDArray[np.float32]

# The most that augmentation adds to brightness, and to the factor of contrast.
_STRONGEST = 0.1


class Batches(keras.utils.PyDataset):
    """One epoch of training or validation images as float32 in [0, 1].

    All random numbers are a function of (seed, epoch, number of the batch), whatever ran before and
    however many threads read.
    """

    def __init__(
        self, pixels: Images, batch_size: int, seed: tuple[int, int] | None = None,
        augment: tuple[str, ...] = (), crop: int = 0, passes: int = 1, devices: int = 1,
    ) -> None:  # fmt: skip
        """All images, uint8 (n, h, w, c), in random order; without a seed unchanged and in their own.

        The seed is the run's, and the epoch. `preset.Preset` explains augment, crop and passes;
        `shared` what several devices change. The last batch may be smaller.
        """
        super().__init__()
        count, self._batch_size = shared(passes * len(pixels), batch_size, devices)
        self._pixels, self._seed = pixels, seed
        self._augment, self._crop = augment, crop
        self._order = np.arange(passes * len(pixels))
        if seed is not None:
            self._order = np.random.default_rng(seed).permutation(self._order) % len(pixels)
        self._order = self._order[:count]

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch_size)

    def __getitem__(self, number: int) -> tuple[Floats]:
        start = number * self._batch_size
        x = images.as_floats(self._pixels[self._order[start : start + self._batch_size]])
        if self._seed is None:
            return (x,)
        rng = np.random.default_rng([*self._seed, number])
        return (augmented(crops(x, self._crop, rng), self._augment, rng),)


def shared(images: int, batch_size: int, devices: int) -> tuple[int, int]:
    """The images of an epoch and of a batch, so that all devices get equal parts.

    TensorFlow fails on a part that is smaller than the others, or empty.
    """
    count = images - images % devices or images
    return count, max(devices, batch_size - batch_size % devices)


def crops(x: Floats, side: int, rng: np.random.Generator) -> Floats:
    """Random square crops: (n, h, w, c) -> (n, side, side, c); a side of 0 for whole images."""
    if not side:
        return x
    tops = rng.integers(0, x.shape[1] - side + 1, len(x))
    lefts = rng.integers(0, x.shape[2] - side + 1, len(x))
    places = zip(x, tops, lefts, strict=True)
    return np.stack([image[y : y + side, x : x + side] for image, y, x in places])


def augmented(x: Floats, kinds: tuple[str, ...], rng: np.random.Generator) -> Floats:
    """Images (n, h, w, c), each augmented at random in the ways that are named."""
    if "flip" in kinds:
        flipped = rng.random(len(x)) < 0.5
        x[flipped] = x[flipped, :, ::-1]
    if "shift" in kinds:
        height, width = x.shape[1:3]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        place = rng.integers(0, 9, len(x))
        for number in range(9):
            (down, right), here = divmod(number, 3), place == number
            x[here] = padded[here, down : down + height, right : right + width]
    one_an_image = (len(x), 1, 1, 1)
    if "brightness" in kinds:
        x = x + rng.uniform(-_STRONGEST, _STRONGEST, one_an_image).astype(np.float32)
    if "contrast" in kinds:
        mean = x.mean(axis=(1, 2, 3), keepdims=True)
        factor = rng.uniform(1 - _STRONGEST, 1 + _STRONGEST, one_an_image).astype(np.float32)
        x = mean + (x - mean) * factor
    return x.clip(0, 1)
