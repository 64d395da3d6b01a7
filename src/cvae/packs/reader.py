"""Packs opened for reading: the index, the blocks, and what is damaged; `pack` writes them.

A reader finds a block by the index at the end or, where that is damaged, by walking from block to block.
"""

from __future__ import annotations

import os
import threading
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import BinaryIO

from cvae.errors import FormatError
from cvae.packs.layout import (
    BLOCK_HEADER,
    BLOCK_HEADER_SIZE,
    BLOCK_MARKER,
    CHECK,
    END_MARKER,
    ENTRY,
    HEADER_SIZE,
    INDEX,
    INDEX_MARKER,
    MAX_BLOCK_IMAGES,
    TRAILER,
    Block,
    Header,
    unpack_names,
    unpack_sizes,
)

_MAX_IMAGES = 1 << 48
_SCAN = 1 << 20  # bytes that are looked through at once for a marker


@dataclass(frozen=True)
class Place:
    """Where a block is, and which images it holds."""

    ordinal: int
    offset: int
    size: int  # bytes, with header and check
    first: int  # number of its first image
    images: int

    def __str__(self) -> str:
        return f"block {self.ordinal}, {images_text(self.first, self.images)}"


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong with a pack, and the images that are lost with it."""

    text: str
    first: int = 0
    images: int = 0

    def __str__(self) -> str:
        return self.text


def images_text(first: int, images: int) -> str:
    """`images 4096 to 8191`, as messages name them."""
    return f"image {first}" if images == 1 else f"images {first} to {first + images - 1}"


@dataclass
class Reader:
    """A pack in a seekable file; made by `open_pack`. Several threads may read."""

    header: Header
    places: list[Place]  # of the blocks that were found, in order
    images: int  # of the whole pack; without the index, as far as is known
    size: int  # bytes of the file
    damage: list[Damage] = field(default_factory=list)  # what was seen on the way to the blocks
    _file: BinaryIO = field(kw_only=True, repr=False)
    _lock: threading.Lock = field(  # the file has one position
        default_factory=threading.Lock, init=False, repr=False, compare=False
    )

    def read(self, place: Place) -> Block:
        """The block at a place.

        Raises:
            FormatError: it is damaged; the message names its images.
        """
        try:
            return self._parse(place, self._bytes(place))
        except FormatError as error:
            raise FormatError(f"damaged: {place}: {error}") from error

    def check(self, places: Iterable[Place]) -> list[Damage]:
        """What is wrong with these blocks' bytes. Every byte is read, nothing is unpacked."""
        found = []
        for place in places:
            try:
                self._bytes(place)
            except FormatError as error:
                found.append(Damage(f"damaged: {place}: {error}", place.first, place.images))
        return found

    def damage_in(self, ranges: Sequence[tuple[int, int]]) -> list[Damage]:
        """What is wrong with the pack as a whole, and with the blocks that hold these images.

        Args:
            ranges: half-open ranges of numbers.
        """
        needed = (
            place
            for place in self.places
            if any(a < place.first + place.images and b > place.first for a, b in ranges)
        )
        return [*self.damage, *self.check(needed)]

    def find(self, number: int) -> Place | None:
        """The place of the block that holds an image; None when it was lost to damage."""
        at = bisect_right(self.places, number, key=lambda place: place.first) - 1
        if at < 0 or number >= self.places[at].first + self.places[at].images:
            return None
        return self.places[at]

    def _bytes(self, place: Place) -> bytes:
        """The block's header and body, once both checks hold and everything fits together."""
        with self._lock:
            self._file.seek(place.offset)
            data = self._file.read(place.size)
        if len(data) < BLOCK_HEADER_SIZE + CHECK.size:
            raise FormatError("it is cut off")
        head = self.header.to_bytes()
        if CHECK.unpack(data[-CHECK.size :])[0] != zlib.crc32(
            data[: -CHECK.size], zlib.crc32(head)
        ):
            raise FormatError("the check over its bytes does not hold")
        found = _parse_block_header(data, place.offset, head)
        if found != place:
            raise FormatError("its header is that of another block")
        return data[: -CHECK.size]

    def _parse(self, place: Place, data: bytes) -> Block:
        payload_size, names_size, sizes_size = BLOCK_HEADER.unpack_from(data)[4:]
        names_at = BLOCK_HEADER_SIZE + payload_size
        sizes_at = names_at + names_size
        if bool(names_size) != self.header.names or bool(sizes_size) != self.header.sizes:
            raise FormatError("its columns are not those that the pack's header names")
        return Block(
            place.images,
            data[BLOCK_HEADER_SIZE:names_at],
            unpack_names(data[names_at:sizes_at], place.images) if names_size else None,
            unpack_sizes(data[sizes_at:], place.images) if sizes_size else None,
        )


def open_pack(file: BinaryIO) -> Reader:
    """Reads header and index of a seekable file; what is damaged of them is told by `Reader.damage`.

    Raises:
        FormatError: not a pack, one of a later version, or one whose header is lost.
    """
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise FormatError("expected a pack, found an empty file")
    file.seek(0)
    start = file.read(HEADER_SIZE)
    index: _Index | None = None
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
        damage.append(Damage(str(error)))
        header = index.header
    if index is not None and index.header != header:
        damage.append(Damage("damaged: the index is that of another pack"))
        index = None
    if index is not None:
        return Reader(header, index.places, index.images, size, damage, _file=file)
    places = list(_walk(file, size, header, damage))
    images = max(
        [place.first + place.images for place in places[-1:]]
        + [item.first + item.images for item in damage]
    )
    return Reader(header, places, images, size, damage, _file=file)


@dataclass(frozen=True)
class _Index:
    header: Header
    places: list[Place]
    images: int


def _read_index(file: BinaryIO, size: int) -> _Index:
    fixed = INDEX.size + HEADER_SIZE
    if size < HEADER_SIZE + fixed + TRAILER.size:
        raise FormatError("the index at its end is missing")
    file.seek(size - TRAILER.size)
    offset, check, end = TRAILER.unpack(file.read(TRAILER.size))
    if end != END_MARKER:
        raise FormatError("the index at its end is missing")
    length = size - TRAILER.size - offset
    if offset < HEADER_SIZE or length < fixed or (length - fixed) % ENTRY.size:
        raise FormatError("the index at its end is damaged")
    file.seek(offset)
    data = file.read(length + 8)
    if zlib.crc32(data) != check:
        raise FormatError("the check over the index does not hold")
    marker, blocks, images = INDEX.unpack_from(data)
    header = Header.from_bytes(data[INDEX.size : fixed])
    entries = list(ENTRY.iter_unpack(data[fixed:length]))
    if marker != INDEX_MARKER or len(entries) != blocks:
        raise FormatError("the index at its end is damaged")
    places, first = [], 0
    ends = [*(start for start, _ in entries), offset][1:]
    expected = HEADER_SIZE
    for ordinal, ((start, count), stop) in enumerate(zip(entries, ends, strict=True)):
        if (
            start != expected
            or stop < start + BLOCK_HEADER_SIZE
            or not 1 <= count <= MAX_BLOCK_IMAGES
        ):
            raise FormatError("the index contradicts itself")
        places.append(Place(ordinal, start, stop - start, first, count))
        first, expected = first + count, stop
    if first != images or expected != offset:
        raise FormatError("the index contradicts itself")
    return _Index(header, places, images)


def _parse_block_header(data: bytes, offset: int, head: bytes) -> Place | None:
    """Where a block is and what it holds; None when no header is there whose check holds."""
    if len(data) < BLOCK_HEADER_SIZE or data[:4] != BLOCK_MARKER:
        return None
    if CHECK.unpack_from(data, BLOCK_HEADER.size)[0] != zlib.crc32(
        data[: BLOCK_HEADER.size], zlib.crc32(head)
    ):
        return None
    _, ordinal, first, images, *lengths = BLOCK_HEADER.unpack_from(data)
    if not 1 <= images <= MAX_BLOCK_IMAGES or first > _MAX_IMAGES:
        return None
    return Place(ordinal, offset, BLOCK_HEADER_SIZE + sum(lengths) + CHECK.size, first, images)


def _walk(file: BinaryIO, size: int, header: Header, damage: list[Damage]) -> Iterator[Place]:
    """The blocks of a pack without an index; what is missing between them is added to `damage`."""
    head = header.to_bytes()
    position, ordinal, first = HEADER_SIZE, 0, 0

    def follows(place: Place) -> bool:
        return place.ordinal >= ordinal and place.first >= first

    while position < size:
        file.seek(position)
        expected = _parse_block_header(file.read(BLOCK_HEADER_SIZE), position, head)
        # What is behind is looked at only where the expected block is not whole.
        behind = _headers(file, position + 1, head)
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


def _headers(file: BinaryIO, position: int, head: bytes) -> Iterator[Place]:
    """Everything behind a position that looks like a block's header."""
    while True:
        file.seek(position)
        # A header may lie across the edge.
        data = file.read(_SCAN + BLOCK_HEADER_SIZE)
        at = data.find(BLOCK_MARKER, 0, _SCAN + 3)
        while at >= 0:
            place = _parse_block_header(data[at : at + BLOCK_HEADER_SIZE], position + at, head)
            if place is not None:
                yield place
            at = data.find(BLOCK_MARKER, at + 1, _SCAN + 3)
        if len(data) < _SCAN:
            return
        position += _SCAN
