"""Folders, patterns, files, arrays and archives -> shards: pieces of work of about one size, in order.

The same inputs give the same shards, however many machines work on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from cvae.data import places, sources
from cvae.data.names import SUFFIXES
from cvae.data.places import Found, Place
from cvae.data.sources import Source
from cvae.errors import CvaeError, DataError

SHARD_IMAGES = 1 << 16  # sixteen blocks


@dataclass(frozen=True)
class Shard:
    """What one worker makes one file of."""

    ordinal: int
    source: Source
    stamp: str  # a digest that changes when the images do, as far as names, sizes and dates tell

    @property
    def name(self) -> str:
        """The file it becomes."""
        return f"part-{self.ordinal:05d}.bin"


class Input(NamedTuple):
    """What one argument stands for: a folder, or files."""

    text: str
    folder: Place | None
    files: tuple[Found, ...] = ()

    @property
    def place(self) -> Place:
        """Where it is; that of the first of several files."""
        return self.folder or self.files[0].place

    def found(self) -> Iterator[Found]:
        """Its files, in order. Raises DataError when there are none, or a folder cannot be read."""
        found = iter(self.files) if self.folder is None else self.folder.below(SUFFIXES)
        first = next(found, None)
        if first is None:
            pattern = f"'{self.text.rstrip('/')}/*.npz'"
            raise DataError(
                "expected images, found none in this folder", where=self.text,
                advice=f"a pattern in quotes finds arrays and archives: {pattern}",
            )  # fmt: skip
        yield from chain([first], found)


def resolve(text: str) -> Input:
    """The input that a path, a URL or a glob pattern of either stands for.

    Raises:
        DataError: it is not there, or matches nothing.
        StorageError: it cannot be reached.
    """
    if not places.is_pattern(text) and places.locate(text).is_folder():
        return Input(text, places.locate(text).absolute())
    found = places.find(text, SUFFIXES)
    return Input(text, None, tuple(f._replace(place=f.place.absolute()) for f in found))


def cut(
    inputs: Sequence[Input], size: int = SHARD_IMAGES, split: str | None = None
) -> Iterator[Shard]:
    """The shards of all inputs, in order; see `sources.cut`.

    Args:
        inputs: what `resolve` gives.
        size: images of a shard, at most; an archive may have more.
        split: of `.npz` files, `test` or `train`.

    Raises:
        DataError: a folder or an array cannot be read.
        StorageError: an input cannot be reached.
    """
    found = chain.from_iterable(item.found() for item in inputs)
    for ordinal, (source, files) in enumerate(sources.cut(found, size, split)):
        yield Shard(ordinal, source, _digest(files, *source.rows))


def _digest(items: Iterable[Found], *more: object) -> str:
    """What tells one piece of work from another, and from itself with other images."""
    found = hashlib.sha256(repr(more).encode())
    for item in items:
        known = repr((str(item.place), item.name, item.stamp))
        found.update(known.encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def shared(inputs: Iterable[Input], output: Place) -> None:
    """Raises CvaeError when a place is in this process's memory, which no worker sees."""
    for place in (output, *(item.place for item in inputs)):
        if str(place).startswith("memory://"):
            what = "is in the memory of one process, which workers cannot see"
            raise CvaeError(what, where=place)
