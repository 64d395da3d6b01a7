"""Folders, patterns, files, arrays and archives -> shards: pieces of work of about one size, in order.

The same inputs give the same shards, however many machines work on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, groupby, islice

from cvae.data import arrays, images, sources, tars
from cvae.data import places as storage
from cvae.data.places import Found, Location
from cvae.data.sources import ListSource, Source, TarSource
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


@dataclass(frozen=True)
class Input:
    """What one argument stands for: a folder, or files."""

    text: str
    folder: Location | None = None
    files: tuple[Found, ...] = ()

    def found(self) -> Iterator[Found]:
        """Its files, in order. Raises DataError when there are none, or a folder cannot be read."""
        if self.folder is None:
            yield from self.files
            return
        found = storage.below(self.folder, images.SUFFIXES)
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
    if storage.is_pattern(text):
        found = storage.matching(text)
        files = tuple(item for item in found if not storage.is_folder(item.place))
        if not files:
            raise DataError("matches folders only", where=text)
        return Input(text, files=tuple(_absolute(item) for item in files))
    place = storage.absolute(storage.locate(text))
    if storage.is_folder(place):
        return Input(text, folder=place)
    return Input(text, files=(storage.one(place),))


def _absolute(item: Found) -> Found:
    return item._replace(place=storage.absolute(item.place))


def cut(
    inputs: Sequence[Input], size: int = SHARD_IMAGES, split: str | None = None
) -> Iterator[Shard]:
    """The shards of all inputs, in order.

    Image files that follow each other are cut every `size` of them, whatever input they come from; an array
    every `size` rows; an archive is one shard.

    Args:
        inputs: what `resolve` gives.
        size: images of a shard, at most; an archive may have more.
        split: of `.npz` files, `test` or `train`.

    Raises:
        DataError: a folder or an array cannot be read.
        StorageError: one cannot be reached.
    """
    ordinals = count()
    found = chain.from_iterable(item.found() for item in inputs)
    for many, group in groupby(found, _holds_many):
        cut_up = partial(_parts, split=split) if many else _lists
        for source, stamp in cut_up(group, size):
            yield Shard(next(ordinals), source, stamp)


def _holds_many(item: Found) -> bool:
    return sources.is_array(item.place) or tars.is_tar(item.place)


def _lists(items: Iterator[Found], size: int) -> Iterator[tuple[Source, str]]:
    while chunk := list(islice(items, size)):
        source = ListSource(tuple((item.place, item.name) for item in chunk))
        yield source, _digest(chunk)


def _parts(items: Iterator[Found], size: int, split: str | None) -> Iterator[tuple[Source, str]]:
    for item in items:
        if tars.is_tar(item.place):
            yield TarSource(item.place, str(item.place)), _digest([item])
            continue
        with storage.reaching(item.place):
            array = sources.array_source(item.place, split)
            with arrays.open_rows(array.path, array.member) as rows:
                total = rows.shape[0] if rows.shape else 0
        for start in range(0, total, size):
            stop = min(start + size, total)
            part = sources.ArraySource(array.path, array.member, start, stop)
            yield part, _digest([item], array.member, start, stop)


def _digest(items: Iterable[Found], *more: object) -> str:
    """What tells one piece of work from another, and from itself with other images."""
    found = hashlib.sha256(repr(more).encode())
    for item in items:
        found.update(
            repr((str(item.place), item.name, item.stamp)).encode("utf-8", "surrogatepass")
        )
    return found.hexdigest()


def shared(inputs: Iterable[Input], output: Location) -> None:
    """Raises CvaeError when a place is in this process's memory, which no worker sees."""
    places = [output, *(i.folder for i in inputs), *(f.place for i in inputs for f in i.files[:1])]
    for place in places:
        if isinstance(place, storage.Remote) and place.protocol == "memory":
            raise CvaeError(
                "is in the memory of one process, which workers cannot see",
                where=place,
            )
