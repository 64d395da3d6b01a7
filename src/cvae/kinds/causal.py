"""The exact network of a lossless model: pixels that are known -> how likely each value of the next is.

Pixels are coded along slanted lines, in each picture those whose windows are known at once. What the
network sees of the window are differences from a value that is predicted; where nothing is predicted,
the values themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import Bank, Rows
from cvae.data import pipeline
from cvae.data.images import Pixels
from cvae.kinds.exactnet import LIMIT, MOST, Whole, activated, stored_layers
from cvae.kinds.trees import MOST_DEPTH, Ask, Tree
from cvae.models.lossless import LEVELS, LosslessTables

MIDDLE = 128  # the leaf of a value that is as predicted
# In which channels are coded: each sees those before it.
ORDERS = {1: (0,), 3: (1, 0, 2)}
_TRUNK = 2  # layers that all channels share; each has two of its own behind them

# Pixels that are known, and looked at together.
_AT_ONCE = 1 << 14

Places = NDArray[np.intp]
Line = tuple[Places, Places]  # rows and columns
Levels = NDArray[np.int16]
# Takes rows of the bank, decisions, and which picture each is of, all (k,).
Take = Callable[[NDArray[Any], NDArray[Any], Places], None]


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
        self._flat, self._known = self._padded.reshape(-1, channels), known.ravel()
        self._offsets = np.array([row * self._stride + column for row, column in window.taps])

    @property
    def pixels(self) -> Pixels:
        """The pictures (n, h, w, c), to be written to."""
        _, height, width, _ = self._shape
        up, side = self._window.up, self._window.side
        return self._padded[:, up : up + height, side : side + width]

    def seen(self, images: Places, rows: Places, columns: Places) -> tuple[Levels, Levels]:
        """The windows of pixels (m,): values (m, taps, c), and 255 where they are known (m, taps)."""
        place = (rows + self._window.up) * self._stride + columns + self._window.side
        near = place[:, np.newaxis] + self._offsets
        size = len(self._known)
        values = self._flat[near + (images * size)[:, np.newaxis]].astype(np.int16)
        return values, self._known[near]


class Sight:
    """What the network sees of windows."""

    def __init__(self, window: Window, companding: NDArray[np.uint8]) -> None:
        half = companding.astype(np.int16)
        self._companding = np.concatenate([-half[:0:-1], half])  # of -255 .. 255
        self._window = window
        taps = window.taps
        self._left, self._above, self._corner = (
            taps.index(tap) for tap in ((0, -1), (-1, 0), (-1, -1))
        )

    def inputs(self, values: Levels, known: Levels) -> tuple[Levels, Levels]:
        """Windows -> numbers from -255 to 255 (m, inputs), and the values that are predicted (m, c)."""
        m = len(values)
        if not self._window.predicts:
            base = np.zeros((m, values.shape[2]), np.int16)
            return self.companded(values).reshape(m, -1), base
        base = self._predicted(values, known)
        found = self.companded(values - base[:, np.newaxis]) * (known > 0)[..., np.newaxis]
        return np.concatenate([found.reshape(m, -1), known, base], axis=1), base

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


class Causal:
    """The exact networks and trees of a lossless model."""

    def __init__(self, tables: LosslessTables) -> None:
        """Raises ValueError when they do not fit together, or sums might not be exact."""
        up, side, predicts = tables.window.tolist()
        self.channels = len(tables.trees)
        self.order = ORDERS[self.channels]
        self.window = Window(up, side, bool(predicts))
        self.sight = Sight(self.window, tables.companding)
        self.trees = [Tree(splits, len(tables.bank)) for splits in tables.trees]
        self.bank, self._positions = Bank(tables.bank), tables.positions
        layers = stored_layers(tables)
        if len(layers) != _TRUNK + 2 * self.channels:
            raise ValueError(f"expected {_TRUNK + 2 * self.channels} layers, found {len(layers)}")
        self._first, self._second = layers[:_TRUNK]
        self._heads = [layers[_TRUNK + 2 * k :][:2] for k in range(self.channels)]
        self._check(layers)

    def _check(self, layers: list[Any]) -> None:
        if any(len(kernel) != 1 for layer in layers for kernel in layer.kernels):
            raise ValueError("expected kernels of 1x1")
        inner = [layer for layer in layers if layer is not self._first]
        inner = [layer for layer in inner if all(layer is not head[1] for head in self._heads)]
        if any(layer.shift is None or layer.shift > 24 for layer in [*inner, self._first]):
            raise ValueError("expected a shift of 0 to 24")
        if any(
            head[1].shift is not None or len(head[1].bias) != LEVELS - 1 for head in self._heads
        ):
            raise ValueError(f"expected {LEVELS - 1} sums of each channel")
        width = len(self._first.bias)
        if self._positions.shape[1] != width:
            raise ValueError(f"expected {width} sums of each position")
        most = self._first.most + np.abs(self._positions.astype(np.int64)).max(axis=0, initial=0)
        if most.max() >= LIMIT:
            raise ValueError("expected sums below 2^24")
        self.at(np.zeros((1, self.window.inputs(self.channels)), np.int16), None)

    def check(self) -> NDArray[np.int64]:
        """What a test vector gives: weighted sums of the outputs for each channel."""
        count = self.window.inputs(self.channels)
        inputs = (np.arange(4 * count).reshape(4, count) * 7919 % 511 - MOST).astype(np.int16)
        places = np.arange(4) % len(self._positions) if len(self._positions) else None
        shared, found = self.at(inputs, places), []
        for turn in range(self.channels):
            sides = inputs[:, :turn]
            sums = self.sums(turn, shared, sides).astype(np.int64)
            found.append(int((sums * np.arange(1, sums.size + 1).reshape(sums.shape)).sum()))
        return np.array(found, np.int64)

    def at(self, inputs: Levels, positions: Places | None) -> Whole:
        """What all channels share of pixels: inputs (m, i) -> activations (m, a)."""
        total = self._first.sums(inputs)
        if positions is not None:
            total = total + self._positions[positions].astype(np.float32)
        return self._second.of_rows(activated(total, self._first.shift or 0))

    def sums(self, turn: int, shared: Whole, sides: Levels) -> Whole:
        """The outputs (m, 255) for the channel whose turn it is."""
        hidden, last = self._heads[turn]
        given = [shared, sides] if turn else [shared]
        return last.of_rows(hidden.of_rows(*given))

    def walk(self, canvas: Canvas, shape: tuple[int, int, int], ask: Ask) -> None:
        """Goes through the pixels of n pictures (n, h, w), which the decisions that `ask` gives tell."""
        n, height, width = shape
        pixels = canvas.pixels
        for rows, columns in self.window.lines(height, width):
            pipeline.checkpoint()
            images = np.repeat(np.arange(n), len(rows))
            rows, columns = np.tile(rows, n), np.tile(columns, n)
            shared, turn = self._seen(canvas, images, rows, columns, width)

            def asked(found: Any, place: Any, bits: Any, images: Any = images) -> Any:
                return ask(found, images[place], bits)

            for number, channel in enumerate(self.order):
                sums = self.sums(number, shared, turn.sides())
                leaves = self.trees[channel].walk(sums, asked, None).astype(np.int16)
                values = turn.values(channel, leaves)
                pixels[images, rows, columns, channel] = values
                turn.put(channel, values)

    def tell(self, canvas: Canvas, shape: tuple[int, int, int], take: Take) -> None:
        """Gives the decisions of n pictures (n, h, w), which are known, in the order of `walk`."""
        n, height, width = shape
        pixels, channels = canvas.pixels, len(self.order)
        for lines in _several(self.window.lines(height, width), max(1, _AT_ONCE // n)):
            pipeline.checkpoint()
            line = np.repeat(np.arange(len(lines)), [n * len(rows) for rows, _ in lines])
            images = np.concatenate([np.repeat(np.arange(n), len(rows)) for rows, _ in lines])
            rows, columns = (
                np.concatenate([np.tile(places, n) for places in of])
                for of in zip(*lines, strict=True)
            )
            shared, turn = self._seen(canvas, images, rows, columns, width)
            told = _Told(line, images)
            for number, channel in enumerate(self.order):
                told.turn(number, channels)
                values = pixels[images, rows, columns, channel].astype(np.int16)
                sums = self.sums(number, shared, turn.sides())
                self.trees[channel].walk(sums, told, turn.leaves(channel, values))
                turn.put(channel, values)
            take(*told.in_order())

    def _seen(
        self, canvas: Canvas, images: Places, rows: Places, columns: Places, width: int
    ) -> tuple[Whole, Turn]:
        inputs, base = self.sight.inputs(*canvas.seen(images, rows, columns))
        placed = rows * width + columns if len(self._positions) else None
        return self.at(inputs, placed), Turn(self.sight, base, self.window.predicts)


class _Told:
    """Decisions of pixels whose lines and pictures are known, which come channel by channel."""

    def __init__(self, line: Places, images: Places) -> None:
        self._line, self._images = line, images
        self._parts: list[tuple[Any, Any, Any, Any]] = []

    def turn(self, number: int, channels: int) -> None:
        """A channel's turn begins: lines, in a line channels, and of these depths follow each other."""
        self._next = (self._line * channels + number) * MOST_DEPTH

    def __call__(self, rows: Rows, place: Places, bits: Any) -> Places:
        key = self._next[place] * len(self._line) + place
        self._parts.append((rows, bits, self._images[place], key))
        self._next = self._next + 1
        return np.asarray(bits, np.intp)

    def in_order(self) -> list[NDArray[Any]]:
        """Rows, decisions and images (k,) in the order of coding."""
        *found, key = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        order = np.argsort(key)
        return [part[order] for part in found]


def _several(lines: Iterable[Line], pixels: int) -> Iterator[list[Line]]:
    """Lines that are known, so many pixels of a picture at once."""
    held: list[Line] = []
    for line in lines:
        if held and sum(len(rows) for rows, _ in held) + len(line[0]) > pixels:
            yield held
            held = []
        held.append(line)
    yield held
