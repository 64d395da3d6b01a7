"""The exact network of a lossless model: pixels that are known -> how likely each value of the next is.

What it sees of them is in `sight`. Each value is then told by decisions, whose trees are in `trees`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import Bank, Rows
from cvae.data import pipeline
from cvae.kinds.exactnet import LIMIT, MOST, Layer, Whole, activated, stored_layers
from cvae.kinds.sight import Canvas, Line, Places, Sight, Turn, Window
from cvae.kinds.trees import MOST_DEPTH, Ask, Tree
from cvae.models.lossless import LEVELS, LosslessTables

# In which channels are coded: each sees those before it.
ORDERS = {1: (0,), 3: (1, 0, 2)}
_TRUNK = 2  # layers that all channels share; each has two of its own behind them

# Pixels that are known, and looked at together; rows whose activations stay in a processor's cache.
_AT_ONCE, _ROWS = 1 << 14, 2048

# Takes rows of the bank, decisions, and which picture each is of, all (k,).
Take = Callable[[NDArray[Any], NDArray[Any], Places], None]


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

    def at(self, inputs: NDArray[Any], positions: Places | None) -> Whole:
        """What all channels share of pixels: inputs (m, i) -> activations (m, a)."""

        placed = positions is not None

        def trunk(inputs: NDArray[Any], positions: Places) -> Whole:
            total = self._first.sums(inputs)
            if placed:
                total += self._positions[positions].astype(np.float32)
            return self._second.of_rows(activated(total, self._first.shift or 0))

        # Without positions any numbers do.
        return _in_parts(trunk, inputs, inputs if positions is None else positions)

    def sums(self, turn: int, shared: Whole, sides: NDArray[Any]) -> Whole:
        """The outputs (m, 255) for the channel whose turn it is."""
        return self._heads[turn][1].of_rows(self._hidden(turn, shared, sides))

    def _hidden(self, turn: int, shared: Whole, sides: NDArray[Any]) -> Whole:
        given = [shared, sides] if turn else [shared]
        return _in_parts(self._heads[turn][0].of_rows, *given)

    def walk(self, canvas: Canvas, shape: tuple[int, int, int], ask: Ask) -> None:
        """Goes through the pixels of n pictures (n, h, w), which the decisions that `ask` gives tell."""
        n, height, width = shape
        pixels = canvas.pixels
        for rows, columns in self.window.lines(height, width):
            pipeline.checkpoint()
            seen = self._seen(canvas, n, rows, columns, width)
            images = np.repeat(np.arange(n), len(rows))

            def asked(found: Any, place: Any, bits: Any, images: Any = images) -> Any:
                return ask(found, images[place], bits)

            for number, channel in enumerate(self.order):
                tree, outputs = self.trees[channel], self._outputs(number, channel, seen)
                leaves = tree.walk(outputs, asked, None).astype(np.int16)
                values = seen.turn.values(channel, leaves)
                pixels[:, rows, columns, channel] = values.reshape(n, -1)
                seen.turn.put(channel, values)

    def tell(self, canvas: Canvas, shape: tuple[int, int, int], take: Take) -> None:
        """Gives the decisions of n pictures (n, h, w), which are known, in the order of `walk`."""
        n, height, width = shape
        pixels, channels = canvas.pixels, len(self.order)
        for lines in _several(self.window.lines(height, width), max(1, _AT_ONCE // n)):
            pipeline.checkpoint()
            rows, columns = (np.concatenate(of) for of in zip(*lines, strict=True))
            seen = self._seen(canvas, n, rows, columns, width)
            line = np.repeat(np.arange(len(lines)), [len(rows) for rows, _ in lines])
            told = _Told(np.tile(line, n), np.repeat(np.arange(n), len(rows)))
            for number, channel in enumerate(self.order):
                told.turn(number, channels)
                values = pixels[:, rows, columns, channel].ravel().astype(np.int16)
                leaves, outputs = (
                    seen.turn.leaves(channel, values),
                    self._outputs(number, channel, seen),
                )
                self.trees[channel].walk(outputs, told, leaves)
                seen.turn.put(channel, values)
            take(*told.in_order())

    def _seen(self, canvas: Canvas, n: int, rows: Places, columns: Places, width: int) -> _Seen:
        values, known = canvas.seen_in_each(rows, columns)
        inputs, base = self.sight.inputs(values, known)
        turn = Turn(self.sight, base, self.window.predicts)
        placed = len(self._positions) > 0
        places = np.tile(rows * width + columns, n) if placed else None
        if self.window.predicts or n == 1:
            return _Seen(self.at(inputs, places), None, turn)
        kept, owners = _distinct(inputs, len(rows), placed)
        shared = self.at(inputs[kept], None if places is None else places[kept])
        return _Seen(shared, owners, turn)

    def _outputs(self, number: int, channel: int, seen: _Seen) -> _Outputs:
        """Of the channel whose turn it is."""
        shared, owners = seen.shared, seen.owners
        if number and owners is not None:  # what it sees of the channels before is its own
            shared, owners = shared[owners], None
        hidden = self._hidden(number, shared, seen.turn.sides())
        return _Outputs(hidden, owners, self._heads[number][1], self.trees[channel].near)


@dataclass(frozen=True)
class _Seen:
    """What the network knows of pixels (m,) before their channels' turns."""

    shared: Whole  # what all channels share: (m, a), or fewer rows
    owners: Places | None  # which of the rows (m,) is a pixel's
    turn: Turn


class _Outputs:
    """The outputs of the last layer for pixels (m,); see `trees.Outputs`.

    Most values of flat pictures are told by the first decisions: those behind are computed for the rest.
    """

    def __init__(self, hidden: Whole, owners: Places | None, last: Layer, near: int) -> None:
        self._hidden, self._owners, self._last, self._near = hidden, owners, last, near
        self.count = len(hidden if owners is None else owners)
        self._first: Whole | None = None
        self._rest: tuple[Places, Whole] | None = None

    def all(self) -> Whole:
        """All outputs (m, 255)."""
        return self._last.sums(self._hidden[self._row(np.arange(self.count))])

    def __call__(self, place: Places, node: Places) -> Whole:
        if self._first is None:
            self._first = _in_parts(partial(self._last.sums, last=self._near), self._hidden)
        if node.max() < self._near:
            return self._first[self._row(place), node]
        if self._rest is None:
            where = np.empty(place[-1] + 1, np.intp)
            where[place] = np.arange(len(place))
            of = partial(self._last.sums, first=self._near)
            self._rest = where, _in_parts(of, self._hidden[self._row(place)])
        where, sums = self._rest
        return sums[where[place], node - self._near]

    def _row(self, place: Places) -> Places:
        return place if self._owners is None else self._owners[place]


def _distinct(inputs: NDArray[Any], period: int, placed: bool) -> tuple[Places, Places]:
    """Which rows (m, i) to compute, and which of these gives each row's result (m,).

    Of rows in which nothing is seen one is enough, or one for each of the `period` places that repeat.
    """
    idle = ~inputs.any(axis=1)
    busy, empty = np.flatnonzero(~idle), np.flatnonzero(idle)
    of = empty % period if placed else np.zeros(len(empty), np.intp)
    first = np.full(period, -1)
    first[of[::-1]] = empty[::-1]
    number = len(busy) + np.cumsum(first >= 0) - 1
    owners = np.empty(len(inputs), np.intp)
    owners[busy], owners[empty] = np.arange(len(busy)), number[of]
    return np.concatenate([busy, first[first >= 0]]), owners


def _in_parts(of: Callable[..., Whole], *arrays: NDArray[Any]) -> Whole:
    """What a function of rows gives, computed for as many at once as caches hold."""
    count = len(arrays[0])
    if count <= _ROWS:
        return of(*arrays)
    parts = [of(*(rows[i : i + _ROWS] for rows in arrays)) for i in range(0, count, _ROWS)]
    return np.concatenate(parts)


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
    count = 0
    for line in lines:
        count += len(line[0])
        if held and count > pixels:
            yield held
            held, count = [], len(line[0])
        held.append(line)
    yield held
