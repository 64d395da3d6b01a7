"""Numbers of images: checked, taken from masks, and in sorted ranges."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from operator import index, itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.errors import CvaeError
from cvae.packs.reader import Range


def as_number(key: Any) -> int:
    """An integer. Raises TypeError where it is none, and of a boolean, which Python takes for 0 or 1."""
    if isinstance(key, bool | np.bool_):
        raise TypeError(f"found {key}")
    return index(key)


def is_mask(key: list[Any] | NDArray[Any]) -> bool:
    """Whether a key is one of booleans alone."""
    if isinstance(key, np.ndarray):
        return key.dtype == np.bool_
    return bool(key) and all(isinstance(item, bool | np.bool_) for item in key)


def taken(mask: list[Any] | NDArray[Any], images: int) -> list[int]:
    """The numbers that a mask takes. Raises CvaeError where it is not one of so many images."""
    if len(mask) != images:
        expected = f"expected a mask of {images:,} booleans, one for each image"
        raise CvaeError(f"{expected}, found {len(mask):,}")
    return np.flatnonzero(mask).tolist()


def numbers_in(ranges: Sequence[Range], first: int, images: int) -> NDArray[np.int64]:
    """Which of so many images, from a first one on, lie in the ranges."""
    last = first + images
    inside = [np.empty(0, np.int64)]
    for row in range(bisect_right(ranges, first, key=itemgetter(1)), len(ranges)):
        start, stop = ranges[row]
        if start >= last:
            break
        inside.append(np.arange(max(start, first), min(stop, last), dtype=np.int64))
    return np.concatenate(inside)


def checked(ranges: Sequence[Range]) -> list[Range]:
    """Ranges that a caller gives. Raises CvaeError unless they are sorted and do not overlap."""
    expected = "expected sorted ranges of numbers, such as [(0, 10), (20, 30)]"
    try:
        found = [(index(start), index(stop)) for start, stop in ranges]
    except (TypeError, ValueError) as error:
        raise CvaeError(f"{expected}: {error}") from error
    edges = [edge for pair in found for edge in pair]
    if edges != sorted(edges):
        raise CvaeError(f"{expected}, found {found!r:.99}")
    return found


def ranges_of(ranges: Iterable[Range]) -> list[Range]:
    """Half-open ranges of numbers, sorted and joined where they touch."""
    joined: list[Range] = []
    for start, stop in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        elif stop > start:
            joined.append((start, stop))
    return joined


def without(ranges: Sequence[Range], lost: Iterable[Range]) -> list[Range]:
    """Sorted ranges without what is lost, in one pass: a pack may have lost any number of blocks."""
    left, holes = [], deque(ranges_of(lost))
    for start, stop in ranges:
        while holes and holes[0][0] < stop:
            low, high = holes[0]
            if low > start:
                left.append((start, low))
            start = max(start, high)
            if high > stop:
                break  # it reaches into the next range
            holes.popleft()
        if start < stop:
            left.append((start, stop))
    return left
