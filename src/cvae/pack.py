"""Packs: many coded images as bytes, in blocks with an index. No images, no symbols; docs/format.md.

A writer appends to a file that need not be seekable. A reader finds a block by the index at the end or,
where that is damaged, by walking from block to block.
"""

from __future__ import annotations

import os
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from cvae.container import KIND_PACK, MAGIC, MAX_QUALITY, MAX_SIDE, MIN_QUALITY, VERSION
from cvae.errors import FormatError

MAX_BLOCK_IMAGES = 1 << 16
MAX_BLOCK_SYMBOLS = 1 << 22  # bounds what decoding a block takes, whatever its header claims
_MAX_IMAGES = 1 << 48
MAX_NAME = 4095  # bytes
_MAX_NAMES = 1 << 24  # bytes of a block's names: 4,096 of the longest

_SIZES, _INVERTED, _NAMES = 0x01, 0x02, 0x04
_BLOCK_MARKER, _INDEX_MARKER, _END_MARKER = b"\xc1BLK", b"\xc1IDX", b"\xc1END"

_HEADER = struct.Struct(">BBHB")
_CHECK = struct.Struct(">I")
_BLOCK = struct.Struct(">4sIQIIII")
_INDEX = struct.Struct(">4sIQ")
_ENTRY = struct.Struct(">QI")
_TRAILER = struct.Struct(">QI4s")

_HEADER_SIZE = _HEADER.size + _CHECK.size
_BLOCK_SIZE = _BLOCK.size + _CHECK.size
_SCAN = 1 << 20  # bytes that are looked through at once for a marker


@dataclass(frozen=True)
class Header:
    """What holds for all images of a pack."""

    model_id: int  # 0 .. 65535
    quality: int  # 1 .. 100
    inverted: bool = False
    names: bool = False  # blocks have a column of names
    sizes: bool = False  # blocks have a column of original sizes

    def to_bytes(self) -> bytes:
        """Raises ValueError when the quality is out of range."""
        if not MIN_QUALITY <= self.quality <= MAX_QUALITY:
            raise ValueError(f"expected a quality of 1 to 100, found {self.quality}")
        flags = self.sizes * _SIZES | self.inverted * _INVERTED | self.names * _NAMES
        first = MAGIC | VERSION << 2 | KIND_PACK
        body = _HEADER.pack(first, self.quality, self.model_id, flags)
        return body + _CHECK.pack(zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """The inverse of `to_bytes`.

        Raises:
            FormatError: not the header of a pack, one of a later version, or a damaged one.
        """
        if len(data) < _HEADER_SIZE:
            raise FormatError(f"damaged: expected at least {_HEADER_SIZE} bytes, found {len(data)}")
        first, quality, model_id, flags = _HEADER.unpack_from(data)
        if not is_pack(data):
            raise FormatError("not a pack (the first byte differs)")
        if first >> 2 & 7 != VERSION:
            raise FormatError(
                f"expected a pack of version {VERSION}, found version {first >> 2 & 7}: damaged, or "
                "written by a later cvae"
            )
        if _CHECK.unpack_from(data, _HEADER.size)[0] != zlib.crc32(data[: _HEADER.size]):
            raise FormatError("damaged: the check over its header does not hold")
        if flags & ~(_SIZES | _INVERTED | _NAMES):
            raise FormatError(f"expected known flags, found {flags:#04x}: written by a later cvae")
        if not MIN_QUALITY <= quality <= MAX_QUALITY:
            raise FormatError(f"damaged: quality {quality}")
        return cls(
            model_id, quality, bool(flags & _INVERTED), bool(flags & _NAMES), bool(flags & _SIZES)
        )


@dataclass(frozen=True)
class Block:
    """What one block holds."""

    images: int
    payload: bytes  # of `rans.encode_block`
    names: list[str] | None = None
    sizes: list[tuple[int, int]] | None = None  # width, height in pixels


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


def is_pack(data: bytes) -> bool:
    """Whether bytes are meant as a pack of any version, by the first one."""
    return data[:1] != b"" and data[0] & 0xE3 == MAGIC | KIND_PACK


def is_pack_file(file: BinaryIO) -> bool:
    """Whether a seekable file is meant as a pack, by its first byte or else by its last ones."""
    if is_pack(file.read(1)):
        return True
    if file.seek(0, os.SEEK_END) < _HEADER_SIZE + _TRAILER.size:
        return False
    file.seek(-len(_END_MARKER), os.SEEK_END)
    return file.read() == _END_MARKER


class Writer:
    """Appends blocks to an open binary file, then the index. The file need not be seekable."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self.images = 0
        self.blocks = 0
        self.size = 0  # bytes written so far
        self._file = file
        self._header = header
        self._head = header.to_bytes()
        self._entries = bytearray()
        self._write(self._head)

    def write(self, block: Block) -> None:
        """Raises ValueError when the block is out of the format's range, or lacks a column."""
        if not 1 <= block.images <= MAX_BLOCK_IMAGES:
            raise ValueError(f"expected 1 to {MAX_BLOCK_IMAGES} images, found {block.images}")
        names = _pack_names(block) if self._header.names else b""
        sizes = _pack_sizes(block) if self._header.sizes else b""
        head = _BLOCK.pack(
            _BLOCK_MARKER, self.blocks, self.images, block.images,
            len(block.payload), len(names), len(sizes),
        )  # fmt: skip
        head += _CHECK.pack(zlib.crc32(self._head + head))
        body = head + block.payload + names + sizes
        self._entries += _ENTRY.pack(self.size, block.images)
        self._write(body + _CHECK.pack(zlib.crc32(self._head + body)))
        self.images += block.images
        self.blocks += 1

    def close(self) -> None:
        """Writes the index; the file stays open."""
        offset = self.size
        index = _INDEX.pack(_INDEX_MARKER, self.blocks, self.images) + self._head + self._entries
        check = zlib.crc32(index + struct.pack(">Q", offset))
        self._write(index + _TRAILER.pack(offset, check, _END_MARKER))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.size += len(data)


@dataclass
class Reader:
    """A pack in a seekable file; made by `open_pack`."""

    header: Header
    places: list[Place]  # of the blocks that were found, in order
    images: int  # of the whole pack; without the index, as far as is known
    size: int  # bytes of the file
    damage: list[Damage] = field(default_factory=list)  # what was seen on the way to the blocks
    _file: BinaryIO = field(kw_only=True, repr=False)

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
        self._file.seek(place.offset)
        data = self._file.read(place.size)
        if len(data) < _BLOCK_SIZE + _CHECK.size:
            raise FormatError("it is cut off")
        head = self.header.to_bytes()
        if _CHECK.unpack(data[-_CHECK.size :])[0] != zlib.crc32(
            data[: -_CHECK.size], zlib.crc32(head)
        ):
            raise FormatError("the check over its bytes does not hold")
        found = _parse_block_header(data, place.offset, head)
        if found != place:
            raise FormatError("its header is that of another block")
        return data[: -_CHECK.size]

    def _parse(self, place: Place, data: bytes) -> Block:
        payload_size, names_size, sizes_size = _BLOCK.unpack_from(data)[4:]
        names_at = _BLOCK_SIZE + payload_size
        sizes_at = names_at + names_size
        if bool(names_size) != self.header.names or bool(sizes_size) != self.header.sizes:
            raise FormatError("its columns are not those that the pack's header names")
        return Block(
            place.images,
            data[_BLOCK_SIZE:names_at],
            _unpack_names(data[names_at:sizes_at], place.images) if names_size else None,
            _unpack_sizes(data[sizes_at:], place.images) if sizes_size else None,
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
    start = file.read(_HEADER_SIZE)
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
    images = places[-1].first + places[-1].images if places else 0
    return Reader(header, places, images, size, damage, _file=file)


@dataclass(frozen=True)
class _Index:
    header: Header
    places: list[Place]
    images: int


def _read_index(file: BinaryIO, size: int) -> _Index:
    fixed = _INDEX.size + _HEADER_SIZE
    if size < _HEADER_SIZE + fixed + _TRAILER.size:
        raise FormatError("the index at its end is missing")
    file.seek(size - _TRAILER.size)
    offset, check, end = _TRAILER.unpack(file.read(_TRAILER.size))
    if end != _END_MARKER:
        raise FormatError("the index at its end is missing")
    length = size - _TRAILER.size - offset
    if offset < _HEADER_SIZE or length < fixed or (length - fixed) % _ENTRY.size:
        raise FormatError("the index at its end is damaged")
    file.seek(offset)
    data = file.read(length + 8)
    if zlib.crc32(data) != check:
        raise FormatError("the check over the index does not hold")
    marker, blocks, images = _INDEX.unpack_from(data)
    header = Header.from_bytes(data[_INDEX.size : fixed])
    entries = list(_ENTRY.iter_unpack(data[fixed:length]))
    if marker != _INDEX_MARKER or len(entries) != blocks:
        raise FormatError("the index at its end is damaged")
    places, first = [], 0
    ends = [*(start for start, _ in entries), offset][1:]
    expected = _HEADER_SIZE
    for ordinal, ((start, count), stop) in enumerate(zip(entries, ends, strict=True)):
        if start != expected or stop < start + _BLOCK_SIZE or not 1 <= count <= MAX_BLOCK_IMAGES:
            raise FormatError("the index contradicts itself")
        places.append(Place(ordinal, start, stop - start, first, count))
        first, expected = first + count, stop
    if first != images or expected != offset:
        raise FormatError("the index contradicts itself")
    return _Index(header, places, images)


def _parse_block_header(data: bytes, offset: int, head: bytes) -> Place | None:
    """Where a block is and what it holds; None when no header is there whose check holds."""
    if len(data) < _BLOCK_SIZE or data[:4] != _BLOCK_MARKER:
        return None
    if _CHECK.unpack_from(data, _BLOCK.size)[0] != zlib.crc32(
        data[: _BLOCK.size], zlib.crc32(head)
    ):
        return None
    _, ordinal, first, images, *lengths = _BLOCK.unpack_from(data)
    if not 1 <= images <= MAX_BLOCK_IMAGES or first > _MAX_IMAGES:
        return None
    return Place(ordinal, offset, _BLOCK_SIZE + sum(lengths) + _CHECK.size, first, images)


def _walk(file: BinaryIO, size: int, header: Header, damage: list[Damage]) -> Iterator[Place]:
    """The blocks of a pack without an index; what is missing between them is added to `damage`."""
    head = header.to_bytes()
    position, ordinal, first = _HEADER_SIZE, 0, 0

    def fits(place: Place | None) -> bool:
        return (
            place is not None
            and place.offset + place.size <= size
            and place.ordinal >= ordinal
            and place.first >= first
        )

    while position < size:
        file.seek(position)
        place = _parse_block_header(file.read(_BLOCK_SIZE), position, head)
        if not fits(place):
            place = next(filter(fits, _headers(file, position + 1, head)), None)
        if place is None:
            return
        if place.first > first:
            lost = place.first - first
            damage.append(Damage(f"damaged: {images_text(first, lost)} are lost", first, lost))
        yield place
        position = place.offset + place.size
        ordinal, first = place.ordinal + 1, place.first + place.images


def _headers(file: BinaryIO, position: int, head: bytes) -> Iterator[Place]:
    """Everything behind a position that looks like a block's header."""
    while True:
        file.seek(position)
        # A header may lie across the edge.
        data = file.read(_SCAN + _BLOCK_SIZE)
        at = data.find(_BLOCK_MARKER, 0, _SCAN + 3)
        while at >= 0:
            place = _parse_block_header(data[at : at + _BLOCK_SIZE], position + at, head)
            if place is not None:
                yield place
            at = data.find(_BLOCK_MARKER, at + 1, _SCAN + 3)
        if len(data) < _SCAN:
            return
        position += _SCAN


def encode_name(name: str) -> bytes:
    """A name as a pack holds it: UTF-8 without zero bytes, of a long one the end."""
    data = name.replace("\0", "_").encode("utf-8", "replace")
    return data[-MAX_NAME:].decode("utf-8", "ignore").encode() if len(data) > MAX_NAME else data


def _pack_names(block: Block) -> bytes:
    if block.names is None or len(block.names) != block.images:
        raise ValueError(f"expected {block.images} names")
    names = b"".join(encode_name(name) + b"\0" for name in block.names)
    if len(names) > _MAX_NAMES:
        raise ValueError(f"expected at most {_MAX_NAMES:,} bytes of names, found {len(names):,}")
    return zlib.compress(names, 9)


def _unpack_names(data: bytes, images: int) -> list[str]:
    names = _inflate(data, _MAX_NAMES)
    if names.count(b"\0") != images or not names.endswith(b"\0"):
        raise FormatError(f"expected {images} names, found {names.count(bytes(1))}")
    try:
        return names.decode().split("\0")[:-1]
    except UnicodeDecodeError as error:
        raise FormatError("its names are not UTF-8") from error


def _pack_sizes(block: Block) -> bytes:
    if block.sizes is None or len(block.sizes) != block.images:
        raise ValueError(f"expected {block.images} sizes")
    sides = [side for size in block.sizes for side in size]
    if min(sides) < 1 or max(sides) > MAX_SIDE:
        raise ValueError(f"expected sides of 1 to {MAX_SIDE} pixels")
    return zlib.compress(struct.pack(f">{len(sides)}H", *sides), 9)


def _unpack_sizes(data: bytes, images: int) -> list[tuple[int, int]]:
    values = _inflate(data, 4 * images)
    if len(values) != 4 * images:
        raise FormatError(f"expected sizes of {images} images, found {len(values)} bytes")
    sides = struct.unpack(f">{2 * images}H", values)
    if 0 in sides:
        raise FormatError("an original size of zero")
    return list(zip(sides[::2], sides[1::2], strict=True))


def _inflate(data: bytes, limit: int) -> bytes:
    """Unpacks at most `limit` bytes; a small column can unpack to a large one."""
    unpacker = zlib.decompressobj()
    try:
        result = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise FormatError(f"a column cannot be unpacked: {error}") from error
    if len(result) > limit:
        raise FormatError(f"expected at most {limit:,} bytes in a column, found more")
    if not unpacker.eof or unpacker.unused_data:
        raise FormatError("a column is cut off, or bytes follow it")
    return result
