"""Packs opened for reading: the index, the blocks, and what is damaged; `layout` has the writer.

The index at the end says where the blocks are. Where it is damaged, the file is walked block by block.
"""

from __future__ import annotations

import os
import threading
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from typing import Any, BinaryIO, Protocol, Self

from cvae.bitstream.container import END_MARKER, VERSION
from cvae.data.files import Closing
from cvae.errors import FormatError
from cvae.packs.layout import (
    BLOCK_HEADER,
    BLOCK_HEADER_SIZE,
    BLOCK_MARKER,
    CHECK,
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

Range = tuple[int, int]  # numbers of images, half-open

_MAX_IMAGES = 1 << 48
_SCAN = 1 << 20  # bytes that are searched at once for a marker
_SHOWN = 5  # names in `facts`


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
    """One damage of a pack, and the images that are lost with it."""

    text: str
    first: int = 0
    images: int = 0

    def __str__(self) -> str:
        return self.text


def images_text(first: int, images: int) -> str:
    """`images 4096 to 8191`, as messages name them."""
    return f"image {first}" if images == 1 else f"images {first} to {first + images - 1}"


class Reader(Protocol):
    """A pack, in one file or in a folder of files, opened for reading; thread-safe."""

    @property
    def header(self) -> Header:
        """What holds for all images, but for `names`."""

    @property
    def named(self) -> bool:
        """Whether there are images with names."""

    @property
    def images(self) -> int:
        """How many images there are; of a file without its index, as far as is known."""

    @property
    def size(self) -> int:
        """Bytes of all files."""

    @property
    def places(self) -> Sequence[Place]:
        """The blocks that were found, in order."""

    @property
    def damage(self) -> Sequence[Damage]:
        """What is damaged, as far as opening shows it; `damage_in` reads more."""

    def read(self, place: Place) -> Block:
        """The block at a place. Raises FormatError when it is damaged; the message names its images."""

    def find(self, number: int) -> Place | None:
        """The block that holds an image; None when it is lost to damage."""

    def damage_in(self, ranges: Sequence[Range]) -> list[Damage]:
        """What is damaged as a whole, and in the blocks of these images. Raises StorageError."""

    def facts(self) -> dict[str, Any]:
        """What `cvae info` prints, as JSON types; reads everything."""

    def close(self) -> None:
        """Closes the files; so does the end of a `with` statement."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


@dataclass
class FileReader(Closing):
    """A pack in a seekable file; made by `open_file`."""

    header: Header
    places: list[Place]
    images: int
    size: int
    damage: list[Damage] = field(default_factory=list)
    _file: BinaryIO = field(kw_only=True, repr=False)
    _lock: threading.Lock = field(  # the file has one position
        default_factory=threading.Lock, init=False, repr=False, compare=False
    )

    @property
    def named(self) -> bool:
        return self.header.names

    def close(self) -> None:
        self._file.close()

    def facts(self) -> dict[str, Any]:
        return facts(self, "pack of images", VERSION, blocks=len(self.places))

    def read(self, place: Place) -> Block:
        try:
            return self._parse(place, self._bytes(place))
        except FormatError as error:
            raise FormatError(f"damaged: {place}: {error}") from error

    def check(self, places: Iterable[Place]) -> list[Damage]:
        """What is damaged in these blocks. Every byte is read, nothing is decoded."""
        found = []
        for place in places:
            try:
                self._bytes(place)
            except FormatError as error:
                found.append(Damage(f"damaged: {place}: {error}", place.first, place.images))
        return found

    def damage_in(self, ranges: Sequence[Range]) -> list[Damage]:
        needed = (p for p in self.places if overlap(ranges, p.first, p.first + p.images))
        return [*self.damage, *self.check(needed)]

    def find(self, number: int) -> Place | None:
        return find(self.places, number)

    def _bytes(self, place: Place) -> bytes:
        """The block's header and body, once both checks hold and everything fits together."""
        with self._lock:
            self._file.seek(place.offset)
            data = self._file.read(place.size)
        if len(data) < BLOCK_HEADER_SIZE + CHECK.size:
            raise FormatError("it is cut off")
        head = self.header.to_bytes()
        check = zlib.crc32(data[: -CHECK.size], zlib.crc32(head))
        if CHECK.unpack(data[-CHECK.size :])[0] != check:
            raise FormatError("the check over its bytes does not hold")
        if _parse_block_header(data, place.offset, head) != place:
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


def find(places: Sequence[Place], number: int) -> Place | None:
    """The block in a sorted list that holds an image."""
    row = bisect_right(places, number, key=lambda place: place.first) - 1
    if row < 0 or number >= places[row].first + places[row].images:
        return None
    return places[row]


def overlap(ranges: Iterable[Range], start: int, stop: int) -> bool:
    """Whether a range has a number in common with others."""
    return any(a < stop and b > start for a, b in ranges)


def facts(reader: Reader, kind: str, version: int, **more: Any) -> dict[str, Any]:
    """What `Reader.facts` gives; `more` is what only one implementation knows."""
    header = reader.header
    damage = reader.damage_in([(0, reader.images)])
    return {
        "kind": kind,
        "version": version,
        "model_id": f"{header.model_id:#06x}",
        "quality": header.quality,
        "images": reader.images,
        **more,
        "file_bytes": reader.size,
        "bytes_per_image": round(reader.size / reader.images, 2) if reader.images else None,
        "inverted": header.inverted,
        "original_sizes": header.sizes,
        "names": list(islice(_names(reader), _SHOWN)) or None,
        "damage": [str(item) for item in damage] or None,
    }


def _names(reader: Reader) -> Iterator[str]:
    """The names of all images in blocks that are whole."""
    for place in reader.places if reader.named else ():
        try:
            yield from reader.read(place).names or ()
        except FormatError:
            continue


def open_file(file: BinaryIO) -> FileReader:
    """Reads header and index of a seekable file; their damage is in `damage`.

    Raises:
        FormatError: not a pack, one of a later version, or one whose header is lost.
    """
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise FormatError("expected a pack, found an empty file")
    file.seek(0)
    start = file.read(HEADER_SIZE)
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
        damage.append(Damage(str(error)))
        header = index.header
    if index is not None and index.header == header:
        index.damage += damage
        return index
    if index is not None:
        damage.append(Damage("damaged: the index is that of another pack"))
    places = list(_walk(file, size, header, damage))
    known = [place.first + place.images for place in places[-1:]]
    images = max(known + [item.first + item.images for item in damage])
    return FileReader(header, places, images, size, damage, _file=file)


def _read_index(file: BinaryIO, size: int) -> FileReader:
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
    places: list[Place] = []
    first, expected = 0, HEADER_SIZE
    for (start, count), (stop, _) in pairwise([*entries, (offset, 0)]):
        if start != expected or not 1 <= count <= MAX_BLOCK_IMAGES:
            raise FormatError("the index contradicts itself")
        places.append(Place(len(places), start, stop - start, first, count))
        first, expected = first + count, max(stop, start + BLOCK_HEADER_SIZE)
    if first != images or expected != offset:
        raise FormatError("the index contradicts itself")
    return FileReader(header, places, images, size, _file=file)


def _parse_block_header(data: bytes, offset: int, head: bytes) -> Place | None:
    """Where a block is and what it holds; None when no header is there whose check holds."""
    if len(data) < BLOCK_HEADER_SIZE or data[:4] != BLOCK_MARKER:
        return None
    check = zlib.crc32(data[: BLOCK_HEADER.size], zlib.crc32(head))
    if CHECK.unpack_from(data, BLOCK_HEADER.size)[0] != check:
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
