"""A value as the decisions on its way through a binary tree, for many values at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import Rows
from cvae.errors import FormatError
from cvae.models.lossless import LEVELS

MOST_DEPTH = 64  # decisions of a value
# An output of the last layer is a logit in units of 2^-11; a row of the bank is one of 1/16.
ROW_SHIFT = 7
_NEAR = 5
# A step of numpy takes as long as so many values one by one.
_FEW = 16

Bits = NDArray[Any]  # integers, or truth values
# Rows of the bank (k,), which of the values they belong to, and the decisions where they are known.
# Returns the decisions, or 2 for what is none.
Ask = Callable[[Rows, NDArray[np.intp], Bits | None], Bits]


class Outputs(Protocol):
    """The outputs of the last layer for values (m,), a logit for each node of their tree: whole numbers."""

    @property
    def count(self) -> int:
        """How many values: m."""

    def all(self) -> NDArray[np.float32]:
        """All of them (m, 255)."""

    def __call__(self, place: NDArray[np.intp], node: NDArray[np.intp]) -> NDArray[np.float32]:
        """Those of some values (k,), for a node of each. All nodes are of one depth."""


class Tree:
    """Ranges of the values 0 .. 255, each split in two until one value is left: 255 nodes.

    Nodes are numbered breadth first. A decision is 1 where a value is at or above its node's split.
    """

    def __init__(self, splits: NDArray[np.uint8], rows: int) -> None:
        """Of a bank of so many rows. Raises ValueError when a split lies outside of its range."""
        ranges, self._half = ranges_of(splits), rows // 2
        self.splits = splits.astype(np.int64)
        first = {(low, high): node for node, (low, high) in enumerate(ranges)}
        # The nodes, or ~value, that a decision leads to; 2 stands for what is none.
        self._next = np.full((len(ranges), 3), ~LEVELS, np.intp)
        for node, (low, high) in enumerate(ranges):
            split = int(splits[node])
            for turn, part in enumerate(((low, split), (split, high))):
                self._next[node, turn] = first.get(part, ~part[0])
        self.near = self._count(_NEAR)  # nodes of the first levels, where most values end

    def _count(self, levels: int) -> int:
        nodes = level = [0]
        for _ in range(levels - 1):
            level = [n for node in level for n in self._next[node, :2].tolist() if n > 0]
            nodes = nodes + level
        return len(nodes)

    def walk(self, outputs: Outputs, ask: Ask, values: NDArray[Any] | None) -> Any:
        """The values (m,) that decisions lead to.

        Where the values are known, so are the decisions. Raises FormatError when one is neither 0 nor 1.
        """
        if values is None and outputs.count <= _FEW:
            return self._one_by_one(outputs, ask)
        count = outputs.count
        found, place = np.empty(count, np.int64), np.arange(count)
        node = np.zeros(count, np.intp)
        while len(place):
            rows = self._rows(outputs(place, node))
            known = None if values is None else values[place] >= self.splits[node]
            node = self._next[node, ask(rows, place, known)]
            done = node < 0
            found[place[done]] = ~node[done]
            place, node = place[~done], node[~done]
        return _checked(found)

    def _one_by_one(self, outputs: Outputs, ask: Ask) -> Any:
        """What `walk` gives, with numpy where it pays."""
        rows = self._rows(outputs.all())
        found, place = [0] * outputs.count, list(range(outputs.count))
        while place:
            asked = np.array([rows.item(i, found[i]) for i in place])
            bits = ask(asked, np.array(place), None).tolist()
            for i, bit in zip(place, bits, strict=True):
                found[i] = self._next.item(found[i], bit)
            place = [i for i in place if found[i] >= 0]
        return _checked(~np.array(found))

    def _rows(self, outputs: NDArray[np.float32]) -> NDArray[np.int64]:
        """Which rows of the bank the outputs name."""
        rows = np.rint(outputs * np.float32(2.0**-ROW_SHIFT))
        found: NDArray[np.int64] = np.clip(rows, -self._half, self._half - 1).astype(np.int64)
        found += self._half
        return found


def _checked(found: NDArray[np.int64]) -> NDArray[np.int64]:
    if found.max(initial=0) == LEVELS:
        raise FormatError("damaged: a decision is neither 0 nor 1")
    return found


def ranges_of(splits: NDArray[Any]) -> list[tuple[int, int]]:
    """The half-open range of each node, breadth first. Raises ValueError when they are none."""
    ranges, deep, start = [(0, LEVELS)], 0, 0
    while start < len(ranges):
        stop = len(ranges)
        for node in range(start, stop):
            (low, high), split = ranges[node], int(splits[node])
            if not low < split < high:
                raise ValueError(f"a split at {split} is outside of {low} to {high}")
            ranges += [part for part in ((low, split), (split, high)) if part[1] - part[0] > 1]
        start, deep = stop, deep + 1
        if deep > MOST_DEPTH:
            raise ValueError(f"expected trees of at most {MOST_DEPTH} decisions")
    return ranges


def balanced(counts: NDArray[Any]) -> NDArray[np.uint8]:
    """Splits (255,) that halve the counts (256,) of their ranges as nearly as may be."""
    below = np.concatenate([[0], np.cumsum(counts + 1e-3 * counts.sum() / LEVELS)])
    splits: list[int] = []
    ranges = [(0, LEVELS)]
    for low, high in ranges:
        middle = (below[low] + below[high]) / 2
        split = low + 1 + int(np.argmin(np.abs(below[low + 1 : high] - middle)))
        splits.append(split)
        ranges += [part for part in ((low, split), (split, high)) if part[1] - part[0] > 1]
    return np.array(splits, np.uint8)
