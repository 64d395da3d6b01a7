"""Folders, patterns, files, arrays and archives -> shards, the same however many machines work on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from cvae.data import listing, places, sources
from cvae.data.apart import read_as_well
from cvae.data.batches import Source, drop
from cvae.data.contents import What, what_lies_at
from cvae.data.lists import Names
from cvae.data.places import Found, Location, Place
from cvae.data.sources import AS_USUAL, Which
from cvae.errors import CvaeError, DataError, OutputError, Refuse
from cvae.packs import manifest
from cvae.packs.source import pack_source

SHARD_IMAGES = 1 << 16  # sixteen blocks


@dataclass(frozen=True)
class Shard:
    """What one worker makes one file of: images of about the same number in each."""

    ordinal: int
    source: Source
    stamp: str  # a digest that changes when the images do, as far as names, sizes and dates tell

    @property
    def name(self) -> str:
        """The file it becomes."""
        return f"part-{self.ordinal:05d}.bin"


class Input(NamedTuple):
    """What one argument stands for: a folder of images, or files, or a folder of packs."""

    text: str
    place: Place  # the folder, or the first of the files
    files: tuple[Found, ...] = ()

    def found(self, refuse: Refuse = None) -> Iterator[Found]:
        """Its files, in order; a folder's images. Raises DataError when there are none.

        `refuse` is called with what of a folder cannot be listed, and with notices; see `errors.told`.
        """
        listed = listing.images(self.place.below(refuse=refuse), refuse)
        found = iter(self.files) if self.files else listed
        first = next(found, None)
        if first is None:
            text, pattern = "expected images, found none in this folder", self.text.rstrip("/")
            advice = f"a pattern in quotes finds arrays and archives: '{pattern}/*.npz'"
            raise DataError(text, where=self.text, advice=advice)
        yield from chain([first], found)

    def absolute(self) -> Input:
        """The same for a process with another current folder; messages then have whole paths."""
        files = tuple(file._replace(place=file.place.absolute()) for file in self.files)
        return Input(self.text, self.place.absolute(), files)


def resolve(text: str, refuse: Refuse = None) -> Input:
    """The input that a path, a URL or a glob pattern of either stands for; raises as `places.find`."""
    if not places.is_pattern(text) and (folder := places.locate(text)).is_folder():
        packs = (
            (Found(folder, folder.absolute().name),) if what_lies_at(folder) is What.PACKS else ()
        )
        return Input(text, folder, packs)
    files = tuple(places.find(text, refuse))
    return Input(text, files[0].place, files)


def cut(
    inputs: Iterable[Input],
    size: int = SHARD_IMAGES,
    which: Which = AS_USUAL,
    refuse: Refuse = None,
    folders: bool = False,
) -> Iterator[Shard]:
    """The shards of all inputs, in order, of at most `size` images each; raises as `sources.cut`.

    `refuse` is that of `Input.found`. Files of several inputs that have one name get that of their folder
    before it; with `folders`, all files of several folders do.
    """
    inputs = list(inputs)
    found: Iterable[Found] = chain.from_iterable(item.found(refuse) for item in inputs)
    if len(inputs) > 1:
        listed = (((f.place, f.name) for f in item.found(drop)) for item in inputs)
        names = Names(listed, folders)
        found = (file._replace(name=names(file.place, file.name)) for file in found)
    for ordinal, (source, files) in enumerate(sources.cut(found, size, which, pack_source)):
        # What tells a shard from others, and from itself with other images.
        digest = hashlib.sha256(repr(source.rows).encode())
        for file in files:
            known = repr((str(file.place), file.name, file.stamp))
            digest.update(known.encode("utf-8", "surrogatepass"))
        yield Shard(ordinal, source, digest.hexdigest())


def apart(inputs: Iterable[Input], output: Place) -> None:
    """Raises OutputError when a file that is read, by whatever name, would be replaced or deleted.

    Those are the files of a run in `output`; and an input is not that folder itself.
    """
    inputs = list(inputs)
    found: Location | None = next(
        (i.place for i in inputs if places.is_same(i.place, output)), None
    )
    if found is None:
        ours = (output / name for name in output.sizes() if manifest.is_ours(name))
        found = read_as_well(ours, (item.text for item in inputs))
    if found is not None:
        text = "is input and output at once, expected another folder"
        raise OutputError(text, where=found)


def shared(inputs: Iterable[Input], output: Place) -> None:
    """Raises CvaeError when a place is in this process's memory, which no worker sees."""
    for place in (output, *(item.place for item in inputs)):
        if str(place).startswith("memory://"):
            what = "is in the memory of one process, which workers cannot see"
            raise CvaeError(what, where=place)
