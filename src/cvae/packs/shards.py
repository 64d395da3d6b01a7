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

    def found(self) -> Iterator[Found]:
        """Its files, in order. Raises DataError when there are none, or a folder cannot be read."""
        if self.folder is None:
            yield from self.files
            return
        found = self.folder.below(SUFFIXES)
        first = next(found, None)
        if first is None:
            raise DataError(
                "expected images, found none in this folder",
                where=self.text,
                advice="a pattern in quotes finds arrays and archives: "
                f"'{self.text.rstrip('/')}/*.npz'",
            )
        yield from chain([first], found)


def resolve(texts: Iterable[str]) -> list[Input]:
    """The inputs that arguments stand for, each a path, a URL or a glob pattern of either.

    Raises:
        DataError: one of them is not there, or matches nothing.
        StorageError: one of them cannot be reached.
    """
    return [_resolve(text) for text in texts]


def _resolve(text: str) -> Input:
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
        StorageError: one cannot be reached.
    """
    found = chain.from_iterable(item.found() for item in inputs)
    for ordinal, (source, files) in enumerate(sources.cut(found, size, split)):
        yield Shard(ordinal, source, _digest(files, *source.rows))


def _digest(items: Iterable[Found], *more: object) -> str:
    """What tells one piece of work from another, and from itself with other images."""
    found = hashlib.sha256(repr(more).encode())
    for item in items:
        found.update(
            repr((str(item.place), item.name, item.stamp)).encode("utf-8", "surrogatepass")
        )
    return found.hexdigest()


def shared(inputs: Iterable[Input], output: Place) -> None:
    """Raises CvaeError when a place is in this process's memory, which no worker sees."""
    for place in [
        output,
        *(i.folder for i in inputs),
        *(f.place for i in inputs for f in i.files[:1]),
    ]:
        if str(place).startswith("memory://"):
            raise CvaeError(
                "is in the memory of one process, which workers cannot see", where=place
            )
