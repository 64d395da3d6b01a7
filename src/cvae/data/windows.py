"""Windows on a large image, one after another, that overlap by what a network looks around."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple


class Window(NamedTuple):
    """One tile along one axis."""

    tile: slice  # of the image
    kept: slice  # of the image: what is kept of the tile
    inner: slice  # the same within the tile


def windows(length: int, tile: int, reach: int) -> list[Window]:
    """Tiles of one size that cover an axis; where two join, each loses at least `reach`.

    With all three multiples of a number, so is every place in the result.
    """
    if length <= tile:
        return [Window(*[slice(0, length)] * 3)]
    # The last one ends where the image does; it may overlap more.
    starts = [*range(0, length - tile, tile - 2 * reach), length - tile]
    edges = pairwise([0, *(start + reach for start in starts[1:]), length])
    return [
        Window(slice(start, start + tile), slice(low, high), slice(low - start, high - start))
        for start, (low, high) in zip(starts, edges, strict=True)
    ]


def even_windows(length: int, most: int, reach: int) -> list[Window]:
    """As `windows`, with as few tiles of at most `most` as cover the axis, and hardly longer than need be."""
    inner = most - 2 * reach
    count = max(1, math.ceil((length - 2 * reach) / inner))
    return windows(length, math.ceil((length - 2 * reach) / count) + 2 * reach, reach)
