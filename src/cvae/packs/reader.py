"""Packs opened for reading: the index, the blocks, and what is damaged; `layout` has the writer.

The index at the end says where the blocks are. Without it, the file is walked block by block.
"""

from __future__ import annotations

import os
import re
import threading
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate, chain, islice, pairwise
from typing import Any, BinaryIO

from cvae.bitstream import container
from cvae.bitstream.container import END_MARKER
from cvae.data import labels
from cvae.data.contents import HEAD
from cvae.data.files import Closing
from cvae.errors import FormatError, StorageError, translated
from cvae.packs import layout
from cvae.packs.layout import HEADER_SIZE, Block, Header

Range = tuple[int, int]  # numbers of images, half-open

_MAX_IMAGES = 1 << 48
_SCAN = 1 << 20  # bytes that are searched at once for a marker
_MARKER = re.compile(re.escape(layout.BLOCK_MARKER))
_SHOWN, _SHOWN_DAMAGE = 5, 100  # names and damages in `facts`


@dataclass(frozen=True)
class Place:
    """Where a block is, and which images it holds."""

    ordinal: int
    offset: int
    size: int  # bytes, with header and check
    first: int  # number of its first image
    images: int

    @property
    def file(self) -> str:
        """The file of a folder that has the block; empty of a pack in one file."""
        return ""

    def __str__(self) -> str:
        return f"block {self.ordinal}, {images_text(self.first, self.images)}"


@dataclass(frozen=True)
class Damage:
    """One damage of a pack, and the images that are lost with it."""

    text: str
    first: int = 0
    images: int = 0

    def __str__(self) -> str:
        return self.text


def images_text(first: int, images: int) -> str:
    """`images 4096 to 8191`, as messages name them."""
    return f"image {first}" if images == 1 else f"images {first} to {first + images - 1}"


class Reader(Closing):
    """A pack, in one file or in a folder of files, opened for reading; thread-safe."""

    header: Header  # what holds for all images, but for `names` and `labels`
    named: bool  # whether there are images with names
    labelled: bool  # whether there are images with labels
    images: int  # of a file without its index, as far as is known
    size: int  # bytes of all files
    damage: Sequence[Damage] = ()  # as far as opening shows it; `damage_in` reads more

    def check_open(self) -> None:
        """Raises StorageError when the pack was closed."""
        raise NotImplementedError

    def blocks(self) -> Iterator[Place]:
        """Where the blocks are, in order."""
        raise NotImplementedError

    def read(self, place: Place) -> Block:
        """The block at a place. Raises FormatError when it is damaged; the message names its images."""
        with damaged(place):
            return self.read_block(place)

    def read_block(self, place: Place) -> Block:
        """As `read`, with a message that says only what is wrong."""
        raise NotImplementedError

    def headers(self) -> Iterator[tuple[str, Header]]:
        """The header of each file, and the name of one in a folder. Raises FormatError at damage."""
        raise NotImplementedError

    def read_packed(self, place: Place) -> list[bytes]:
        """Payload and columns of a block as they lie in the file; raises as `read_block`."""
        raise NotImplementedError

    def find(self, number: int) -> Place | None:
        """The block that holds an image; None when it is lost to damage."""
        raise NotImplementedError

    def damage_in(self, ranges: Sequence[Range]) -> list[Damage]:
        """What is damaged as a whole, and in the blocks of these images. Raises StorageError."""
        raise NotImplementedError

    def names(self) -> Iterator[tuple[int, str]]:
        """Number and name of each image in undamaged blocks."""
        for place in self.blocks() if self.named else ():
            with suppress(FormatError):
                yield from enumerate(self.read(place).names or (), place.first)

    def facts(self) -> dict[str, Any]:
        """What `cvae info` prints, as JSON types; reads everything."""
        raise NotImplementedError

    def _facts(self, kind: str, version: int, **more: Any) -> dict[str, Any]:
        header = self.header
        return {
            "kind": kind, "version": version, "model_id": f"{header.model_id:#06x}",
            "quality": header.quality, "images": self.images, **more, "file_bytes": self.size,
            "bytes_per_image": round(self.size / self.images, 2) if self.images else None,
            "inverted": header.inverted, "original_sizes": header.sizes,
            "labels": self.fields() or None,
            "names": [name for _, name in islice(self.names(), _SHOWN)] or None,
            "damage": shortened(self.damage_in([(0, self.images)]), _SHOWN_DAMAGE) or None,
        }  # fmt: skip

    def fields(self) -> list[str]:
        """The fields of the labels of the first block that has some."""
        for place in self.blocks() if self.labelled else ():
            with suppress(FormatError):
                if found := labels.fields_of(self.read(place).labels or ()):
                    return found
        return []


class FileReader(Reader):
    """A pack in a seekable file; made by `open_file`."""

    def __init__(
        self, file: BinaryIO, size: int, header: Header, places: list[Place], images: int
    ) -> None:
        self.size, self.header, self.places, self.images = size, header, places, images
        self.named, self.labelled = header.names, header.labels
        self.damage: list[Damage] = []
        self._file = file
        self._lock = threading.Lock()  # the file has one position

    def close(self) -> None:
        self._file.close()

    def check_open(self) -> None:
        if self._file.closed:
            raise StorageError("the pack is closed")

    def blocks(self) -> Iterator[Place]:
        return iter(self.places)

    def headers(self) -> Iterator[tuple[str, Header]]:
        yield "", self.header

    def facts(self) -> dict[str, Any]:
        return self._facts("pack of images", self.header.version, blocks=len(self.places))

    def find(self, number: int) -> Place | None:
        return find(self.places, number)

    def damage_in(self, ranges: Sequence[Range]) -> list[Damage]:
        found = list(self.damage)
        for place in self.places:
            if overlap(ranges, place.first, place.images):
                try:
                    self.read(place)  # with its columns: their check may hold, and they be made up
                except FormatError as error:
                    found.append(Damage(error.text, place.first, place.images))
        return found

    def read_block(self, place: Place) -> Block:
        payload, names, sizes, *rest = self.read_packed(place)
        labelled = rest[0] if rest else b""
        return Block(
            place.images,
            payload,
            layout.unpack_names(names, place.images) if names else None,
            layout.unpack_sizes(sizes, place.images) if sizes else None,
            layout.unpack_labels(labelled, place.images) if labelled else None,
        )

    def read_packed(self, place: Place) -> list[bytes]:
        data, header = self._bytes(place), self.header
        _, _, _, _, *lengths = header.block.unpack_from(data)
        wanted = [header.names, header.sizes, *([True] if header.labels else [])]
        if list(map(bool, lengths[1:])) != wanted:
            raise FormatError("its columns are not those that the pack's header names")
        edges = list(accumulate(lengths, initial=header.block_size))
        return [data[start:stop] for start, stop in pairwise(edges)]

    def _bytes(self, place: Place) -> bytes:
        """A block's header and body. Raises FormatError when a check fails or the header is another's."""
        self.check_open()
        header = self.header
        # Another thread may close the file meanwhile, which is a ValueError.
        with self._lock, translated(StorageError, "cannot be read", "", (OSError, ValueError)):
            self._file.seek(place.offset)
            start = self._file.read(header.block_size)
            # First the header: an index may claim any number of bytes for a block.
            found = _parse_block_header(start, place.offset, header)
            data = start + self._file.read(place.size - len(start)) if found == place else b""
        if found is None:
            raise FormatError("the check over its header does not hold")
        if found != place:
            raise FormatError("its header is that of another block")
        if len(data) < place.size:
            raise FormatError("it is cut off")
        body = data[: -layout.CHECK.size]
        if layout.CHECK.unpack(data[len(body) :])[0] != zlib.crc32(body, zlib.crc32(header.data)):
            raise FormatError("the check over its bytes does not hold")
        return body


@contextmanager
def damaged(place: Place) -> Iterator[None]:
    """Names the block in a FormatError."""
    try:
        yield
    except FormatError as error:
        # What is only too large is whole.
        damage = "" if error.advice else "damaged: "
        raise FormatError(f"{damage}{place}: {error.text}", advice=error.advice) from error


def shortened(damage: Sequence[Damage], most: int) -> list[str]:
    """The first damages as texts, and how many more there are: a file may have a million."""
    more = len(damage) - most
    return [str(item) for item in damage[:most]] + ([f"and {more:,} more"] if more > 0 else [])


def find(places: Sequence[Place], number: int) -> Place | None:
    """The block in a sorted list that holds an image."""
    row = bisect_right(places, number, key=lambda place: place.first) - 1
    if row < 0 or number >= places[row].first + places[row].images:
        return None
    return places[row]


def overlap(ranges: Iterable[Range], first: int, images: int) -> bool:
    """Whether some of these images lie in the ranges."""
    return any(start < first + images and stop > first for start, stop in ranges)


def open_file(file: BinaryIO) -> FileReader:
    """Reads header and index of a seekable file; their damage is in `damage`.

    Raises FormatError: not a pack, one of a later version, or one whose header is lost.
    """
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise FormatError("expected a pack, found an empty file")
    file.seek(0)
    start = file.read(HEAD)
    index: FileReader | None = None
    damage: list[Damage] = []
    try:
        index = _read_index(file, size)
    except FormatError as error:
        damage.append(Damage(f"damaged: {error}"))
    try:
        header = Header.from_bytes(start)
    except FormatError as error:
        if index is None:
            raise
        is_pack = container.is_pack(start)
        damage.append(Damage(str(error) if is_pack else "damaged: the first byte is no pack's"))
        header = index.header
    if index and index.header != header:
        damage.append(Damage("damaged: the index is that of another pack"))
        index = None
    if index is None:
        places = list(_walk(file, size, header, damage))
        known: list[Place | Damage] = [*places[-1:], *damage]
        images = max(item.first + item.images for item in known)
        index = FileReader(file, size, header, places, images)
    index.damage = damage
    return index


def _read_index(file: BinaryIO, size: int) -> FileReader:
    trailer, fixed = layout.TRAILER, layout.INDEX.size + HEADER_SIZE
    if size < HEADER_SIZE + fixed + trailer.size:
        raise FormatError("the index at its end is missing")
    file.seek(size - trailer.size)
    offset, check, end = trailer.unpack(file.read(trailer.size))
    if end != END_MARKER:
        raise FormatError("the index at its end is missing")
    length = size - trailer.size - offset
    blocks, rest = divmod(length - fixed, layout.ENTRY.size)
    if offset < HEADER_SIZE or not 0 <= blocks <= layout.MAX_BLOCKS or rest:
        raise FormatError("the index at its end is damaged")
    file.seek(offset)
    data = file.read(length + 8)
    if zlib.crc32(data) != check:
        raise FormatError("the check over the index does not hold")
    marker, claimed, images = layout.INDEX.unpack_from(data)
    header = Header.from_bytes(data[layout.INDEX.size : fixed])
    entries = list(layout.ENTRY.iter_unpack(data[fixed:length]))
    if marker != layout.INDEX_MARKER or claimed != blocks:
        raise FormatError("the index at its end is damaged")
    edges = [*(start for start, _ in entries), offset]
    firsts = list(accumulate((count for _, count in entries), initial=0))
    places = [
        Place(ordinal, start, edges[ordinal + 1] - start, firsts[ordinal], count)
        for ordinal, (start, count) in enumerate(entries)
    ]
    fine = all(
        1 <= p.images <= layout.MAX_BLOCK_IMAGES and p.size >= header.block_size for p in places
    )
    if not fine or edges[0] != HEADER_SIZE or firsts[-1] != images:
        raise FormatError("the index contradicts itself")
    return FileReader(file, size, header, places, images)


def _parse_block_header(data: bytes, offset: int, header: Header) -> Place | None:
    """Where a block is and what it holds; None without a header whose check holds."""
    struct = header.block
    if len(data) < header.block_size or not data.startswith(layout.BLOCK_MARKER):
        return None
    check = zlib.crc32(data[: struct.size], zlib.crc32(header.data))
    if layout.CHECK.unpack_from(data, struct.size)[0] != check:
        return None
    _, ordinal, first, images, *lengths = struct.unpack_from(data)
    if not 1 <= images <= layout.MAX_BLOCK_IMAGES or first > _MAX_IMAGES:
        return None
    if lengths[0] > layout.MAX_PAYLOAD or max(lengths[1:]) > layout.MAX_COLUMN:
        return None
    size = header.block_size + sum(lengths) + layout.CHECK.size
    return Place(ordinal, offset, size, first, images)


def _walk(file: BinaryIO, size: int, header: Header, damage: list[Damage]) -> Iterator[Place]:
    """The blocks of a pack without an index; what is missing between them is added to `damage`."""
    position, ordinal, first = HEADER_SIZE, 0, 0

    def follows(place: Place) -> bool:
        return place.ordinal >= ordinal and place.first >= first

    while position < size:
        file.seek(position)
        expected = _parse_block_header(file.read(header.block_size), position, header)
        # What is behind is looked at only where the expected block is not whole.
        behind = _headers(file, position + 1, header)
        cut_off = None
        for place in filter(follows, chain([expected] if expected else [], behind)):
            if place.offset + place.size <= size:
                break
            cut_off = cut_off or place
        else:
            if cut_off is None:
                return
            place = cut_off
        if place.first > first:
            lost = place.first - first
            damage.append(Damage(f"damaged: {images_text(first, lost)} are lost", first, lost))
        if place is cut_off:
            damage.append(Damage(f"damaged: {place}: it is cut off", place.first, place.images))
            return
        yield place
        position = place.offset + place.size
        ordinal, first = place.ordinal + 1, place.first + place.images


def _headers(file: BinaryIO, position: int, header: Header) -> Iterator[Place]:
    """Everything behind a position that looks like a block's header."""
    while True:
        file.seek(position)
        # A header may lie across the edge.
        data = file.read(_SCAN + header.block_size)
        for found in _MARKER.finditer(data, 0, _SCAN + 3):
            at = found.start()
            place = _parse_block_header(data[at : at + header.block_size], position + at, header)
            if place is not None:
                yield place
        if len(data) < _SCAN:
            return
        position += _SCAN
