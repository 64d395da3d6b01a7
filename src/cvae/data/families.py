"""Families of near-duplicates, so that a split keeps each on one side.

Whether two pictures are near depends on these two alone. So does whether they are compared, unless
very many are alike: other pictures change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 16
Thumbnails = NDArray[np.uint8]  # (n, SIDE, SIDE, 3)
Indexes = NDArray[np.intp]

# A cell differs when a channel differs by more levels: saving as JPEG again does not count.
_LEVELS = 16
# The share of the occupied cells in which near pictures may differ, as frames of an animation do.
_NEAR = 0.15
# Locality-sensitive hashing: near pictures agree in all cells of some band, a random set of cells, and
# only those that do are compared. A band needs `_TELLING` occupied cells to tell anything, so pictures
# that are mostly background need larger ones. Its cells are rounded to eighths of the range, once from
# 0 and once from half an eighth.
_BANDS, _TELLING = (8, 16, 32, 64), 5
_LEVEL, _OFFSETS = 32, (0, 16)
# Each picture is compared with so many that follow it among those with the same band.
_NEIGHBOURS = 16
_LOT = 1 << 14  # pairs compared at once


def thumbnail(image: Image.Image) -> Thumbnails:
    """What an RGB image of any size is compared by: uint8 (SIDE, SIDE, 3)."""
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), np.uint8)


def families(thumbnails: Thumbnails) -> NDArray[np.int64]:
    """The family of each picture, (n,): the index of its first. Near pictures are of one family."""
    flat = np.ascontiguousarray(thumbnails.reshape(len(thumbnails), -1))
    # Equal ones are one picture from here on; sorting makes neighbours alike.
    _, first, which = np.unique(
        flat.view(f"V{flat.shape[1]}").ravel(), return_index=True, return_inverse=True
    )
    pictures = _Pictures(flat[first].reshape(len(first), SIDE * SIDE, 3))
    sets = _Sets(len(first))
    for a, b in _candidates(pictures):
        apart = sets.least(a) != sets.least(b)
        sets.join(*pictures.near(a[apart], b[apart]))
    roots = sets.least(np.arange(len(first)))[which]
    _, start, family = np.unique(roots, return_index=True, return_inverse=True)
    return np.asarray(start[family], np.int64)


class _Pictures:
    """Thumbnails, with what their comparison needs."""

    def __init__(self, cells: NDArray[np.uint8]) -> None:
        self._cells = cells  # (n, cells, 3)
        self.grey = (cells.sum(axis=2, dtype=np.uint16) // 3).astype(np.uint8)  # (n, cells)
        # Cells that are not of the picture's median colour, (n, cells): a background that two drawings
        # share does not make them near.
        background = np.median(cells, axis=1, keepdims=True).astype(np.uint8)
        self.occupied = np.asarray(_apart(cells, background).any(axis=2))
        self._count = self.occupied.sum(axis=1)

    def near(self, a: Indexes, b: Indexes) -> tuple[Indexes, Indexes]:
        """Those of the pairs (a, b) that differ in few of the cells which either occupies."""
        # No fewer cells differ in colour than in grey, so this settles most pairs.
        differing = _apart(self.grey[a], self.grey[b]).sum(axis=1)
        close = differing <= _NEAR * (self._count[a] + self._count[b])
        a, b = a[close], b[close]
        differing = _apart(self._cells[a], self._cells[b]).any(axis=2).sum(axis=1)
        near = differing <= _NEAR * (self.occupied[a] | self.occupied[b]).sum(axis=1)
        return a[near], b[near]


def _apart(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray(np.maximum(a, b) - np.minimum(a, b) > _LEVELS)


def _candidates(pictures: _Pictures) -> Iterator[tuple[Indexes, Indexes]]:
    """Pairs of pictures that agree in a band, in batches."""
    rng = np.random.default_rng(0)
    # A hash of a band's levels; `near` sorts collisions out.
    weights = rng.integers(1 << 63, size=SIDE * SIDE, dtype=np.uint64)
    bands = [band for size in _BANDS for band in rng.permutation(SIDE * SIDE).reshape(-1, size)]
    for offset in _OFFSETS:
        levels = ((pictures.grey.astype(np.uint16) + offset) // _LEVEL).astype(np.uint8)
        whole = np.zeros(len(levels), np.uint64)
        for band in bands:
            keys = levels[:, band].astype(np.uint64) @ weights[band]
            if len(band) == _BANDS[-1]:
                whole += keys
            telling = np.flatnonzero(pictures.occupied[:, band].sum(axis=1) >= _TELLING)
            yield from _pairs(keys[telling], telling)
        yield from _pairs(whole, np.arange(len(levels)))  # for those without a telling band


def _pairs(keys: NDArray[np.uint64], items: Indexes) -> Iterator[tuple[Indexes, Indexes]]:
    """Items of equal keys, each with those that follow, in batches."""
    order = np.argsort(keys, kind="stable")
    keys, items = keys[order], items[order]
    for gap in range(1, _NEIGHBOURS + 1):
        same = np.flatnonzero(keys[gap:] == keys[:-gap])
        if not len(same):
            return
        for start in range(0, len(same), _LOT):
            lot = same[start : start + _LOT]
            yield items[lot], items[lot + gap]


class _Sets:
    """Disjoint sets (union-find) of the integers below a number, each named by its least."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count)

    def join(self, a: Indexes, b: Indexes) -> None:
        for pair in zip(a.tolist(), b.tolist(), strict=True):
            low, high = sorted(map(self._least, pair))
            self._parent[high] = low

    def least(self, items: Indexes) -> Indexes:
        """The least of each item's set."""
        while True:
            up = self._parent[items]
            if np.array_equal(up, items):
                return items
            items = up

    def _least(self, item: int) -> int:
        while (up := int(self._parent[item])) != item:
            self._parent[item] = self._parent[up]
            item = up
        return item
