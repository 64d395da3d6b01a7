"""What the network of a lossless model sees of a pixel: the window of those before it, as differences.

Pixels are coded along slanted lines, in each picture those whose windows are known at once. What is seen
of a window are differences from a value that is predicted; where nothing is predicted, the values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.data.images import Pixels
from cvae.kinds.exactnet import MOST

MIDDLE = 128  # the leaf of a value that is as predicted

Places = NDArray[np.intp]
Line = tuple[Places, Places]  # rows and columns
Levels = NDArray[np.int16]


@dataclass(frozen=True)
class Window:
    """Which pixels are seen: `up` rows above by `side` columns to each side, and those on the left."""

    up: int
    side: int
    predicts: bool

    @property
    def taps(self) -> list[tuple[int, int]]:
        """Rows and columns relative to the pixel itself."""
        above = [(-r, c) for r in range(self.up, 0, -1) for c in range(-self.side, self.side + 1)]
        return above + [(0, c) for c in range(-self.side, 0)]

    def inputs(self, channels: int) -> int:
        """How many numbers the network sees of a pixel's window."""
        return len(self.taps) * (channels + self.predicts) + self.predicts * channels

    def lines(self, height: int, width: int) -> Iterator[tuple[Places, Places]]:
        """Rows and columns of the pixels that are coded together, line by line."""
        slant = self.side + 1
        for line in range(width + slant * (height - 1)):
            first = max(0, -(-(line - width + 1) // slant))
            rows = np.arange(first, min(height - 1, line // slant) + 1)
            if len(rows):  # of narrow pictures not every line has pixels
                yield rows, line - slant * rows


class Canvas:
    """Pictures of one size with a margin, as rows of pixels; pictures that are decoded grow on it."""

    def __init__(self, window: Window, n: int, height: int, width: int, channels: int) -> None:
        self._window, self._shape = window, (n, height, width, channels)
        self._stride = width + 2 * window.side
        shape = n, height + window.up, self._stride, channels
        self._padded = np.zeros(shape, np.uint8)
        known = np.zeros(shape[1:3], np.int16)
        known[window.up :, window.side : window.side + width] = MOST
        self._flat, self._known = self._padded.reshape(n, -1), known.ravel()
        self._offsets = np.array([row * self._stride + column for row, column in window.taps])

    @property
    def pixels(self) -> Pixels:
        """The pictures (n, h, w, c), to be written to."""
        _, height, width, _ = self._shape
        up, side = self._window.up, self._window.side
        return self._padded[:, up : up + height, side : side + width]

    def seen(self, images: Places, rows: Places, columns: Places) -> tuple[Pixels, Levels]:
        """The windows of pixels (m,): values (m, taps, c), and 255 where they are known (m, taps)."""
        near, channels = self._near(rows, columns), self._shape[3]
        size = len(self._known)
        values = self._flat.reshape(-1, channels)[near + (images * size)[:, np.newaxis]]
        return values, self._known[near]

    def seen_in_each(self, rows: Places, columns: Places) -> tuple[Pixels, Levels]:
        """As `seen`, of pixels (p,) in each of the pictures, one picture after the other."""
        near, (n, _, _, channels) = self._near(rows, columns), self._shape
        # Byte by byte: numpy gathers these ten times as fast as pixels of three.
        each = near
        if channels > 1:
            each = (near[..., np.newaxis] * channels + np.arange(channels)).reshape(len(near), -1)
        values = self._flat.take(each, axis=1).reshape(n * len(near), -1, channels)
        known = self._known[near]
        return values, known if n == 1 else np.tile(known, (n, 1))

    def _near(self, rows: Places, columns: Places) -> Places:
        place = (rows + self._window.up) * self._stride + columns + self._window.side
        near: Places = place[:, np.newaxis] + self._offsets
        return near


class Sight:
    """What the network sees of windows."""

    def __init__(self, window: Window, companding: NDArray[np.uint8]) -> None:
        half = companding.astype(np.int16)
        self._companding = np.concatenate([-half[:0:-1], half])  # of -255 .. 255
        self._bytes = companding.tobytes()
        self._window = window
        taps = window.taps
        self._left, self._above, self._corner = (
            taps.index(tap) for tap in ((0, -1), (-1, 0), (-1, -1))
        )

    def inputs(self, values: Pixels, known: Levels) -> tuple[NDArray[Any], Levels]:
        """Windows -> numbers from -255 to 255 (m, inputs), and the values that are predicted (m, c)."""
        m = len(values)
        if not self._window.predicts:
            # Python translates bytes several times as fast as numpy looks them up.
            found = np.frombuffer(values.tobytes().translate(self._bytes), np.uint8)
            return found.reshape(m, values[0].size), np.zeros((m, values.shape[2]), np.int16)
        levels = values.astype(np.int16)
        base = self._predicted(levels, known)
        inside = (known > 0)[..., np.newaxis]
        differences = self.companded(levels - base[:, np.newaxis]) * inside
        return np.concatenate([differences.reshape(m, -1), known, base], axis=1), base

    def companded(self, differences: Levels) -> Levels:
        return self._companding[differences + MOST]

    def _predicted(self, values: Levels, known: Levels) -> Levels:
        """The median of left, above and left + above - corner, as LOCO-I does (Weinberger 1996)."""
        left, above, corner = (values[:, i] for i in (self._left, self._above, self._corner))
        low, high = np.minimum(left, above), np.maximum(left, above)
        median = np.clip(left + above - corner, low, high)
        has_left, has_above = (known[:, i, np.newaxis] > 0 for i in (self._left, self._above))
        one = np.where(has_left, left, np.where(has_above, above, np.int16(MIDDLE)))
        return np.where(has_left & has_above, median, one)


class Turn:
    """The channels of pixels in their order: what is predicted of each, and what the next ones see."""

    def __init__(self, sight: Sight, base: Levels, predicts: bool) -> None:
        self._sight, self._base, self._predicts = sight, base, predicts
        self._moved: list[Levels] = []  # by how much the channels before differ from their base

    def predicted(self, channel: int) -> Levels:
        """The value (m,) that leaf `MIDDLE` stands for, or leaf 0 where nothing is predicted."""
        base = self._base[:, channel]
        if not self._moved:
            return base
        mean = self._moved[0] if len(self._moved) == 1 else sum(self._moved[:2]) >> 1
        return np.clip(base + mean, 0, MOST)

    def leaves(self, channel: int, values: Levels) -> Levels:
        """Values (m,) -> leaves of the tree."""
        centre = MIDDLE if self._predicts else 0
        return (values - self.predicted(channel) + centre) & MOST

    def values(self, channel: int, leaves: Levels) -> Levels:
        """The inverse of `leaves`."""
        centre = MIDDLE if self._predicts else 0
        return (leaves + self.predicted(channel) - centre) & MOST

    def put(self, channel: int, values: Levels) -> None:
        self._moved.append(values - self._base[:, channel])

    def sides(self) -> Levels:
        """What the next channel sees of those before it: (m, channels before)."""
        if not self._moved:
            return np.empty((len(self._base), 0), np.int16)
        return np.stack([self._sight.companded(moved) for moved in self._moved], axis=1)
