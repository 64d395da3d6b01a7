"""Pictures of a folder at their own sizes, of which some are kept in memory, and parts of them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cvae.data.images import Pixels, read_file
from cvae.data.reading import Reading


class Room:
    """Memory for pixels, of so many bytes; thread-safe."""

    def __init__(self, size: int) -> None:
        self._left, self._lock = size, threading.Lock()

    def take(self, size: int) -> bool:
        """Whether so many bytes were left, which are then taken."""
        with self._lock:
            fits = size <= self._left
            self._left -= size if fits else 0
            return fits


@dataclass(frozen=True, eq=False)
class Photos:
    """Pictures at their own sizes; indexed, the parts in their middle. See `images.Images`."""

    root: Path
    reading: Reading  # its shape is that of the parts, (h, w, c)
    names: list[str]
    sizes: NDArray[np.int64]  # (n, 2): height, width
    kept: list[Pixels | None]  # those in memory; others are decoded whenever they are asked for

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.names), *self.reading.shape)

    @property
    def small(self) -> int:
        """How many have a side that is smaller than a part's."""
        return int((self.sizes < self.reading.shape[:2]).any(axis=1).sum())

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: slice | NDArray[np.intp], /) -> Pixels:
        """The parts in the middle of those pictures: uint8 (k, h, w, c). Raises ImageError."""
        numbers = np.arange(len(self))[index]
        parts = np.empty((len(numbers), *self.reading.shape), np.uint8)
        for place, number in enumerate(numbers):
            parts[place] = middle(self.whole(number), *self.reading.shape[:2])
        return parts

    def whole(self, number: int) -> Pixels:
        """A picture, uint8 (h, w, c); not to be written to. Raises ImageError."""
        pixels = self.kept[number]
        if pixels is None:
            path = self.root / self.names[number]
            pixels = self.reading.read(read_file(path), str(path))
        return pixels


def at_least(pixels: Pixels, height: int, width: int) -> Pixels:
    """(h, w, c) pixels, reflected at their edges where a side is smaller."""
    missing = [
        max(0, side - found) for side, found in zip((height, width), pixels.shape, strict=False)
    ]
    if not any(missing):
        return pixels
    before_after = [(count // 2, count - count // 2) for count in missing]
    return np.pad(pixels, [*before_after, (0, 0)], mode="reflect")


def middle(pixels: Pixels, height: int, width: int) -> Pixels:
    """The part (height, width, c) in the middle of (h, w, c) pixels, reflected where these are smaller."""
    pixels = at_least(pixels, height, width)
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]
