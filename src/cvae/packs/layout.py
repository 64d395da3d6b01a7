"""Packs as bytes: many coded images in blocks, then an index; docs/format.md. `reader` reads them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

from cvae.bitstream import container
from cvae.bitstream.container import LOSSLESS, MAX_QUALITY, MAX_SIDE
from cvae.data import contents, labels
from cvae.data.labels import Label
from cvae.errors import CvaeError, FormatError

MAX_BLOCK_IMAGES = 1 << 16
MOST_BLOCKS = 8  # that threads work on side by side: each takes tens of megabytes
MAX_BLOCK_SYMBOLS = 1 << 22  # bounds what decoding a block takes, whatever its header claims
MAX_NAME = 4095  # bytes
_MAX_NAMES, _MAX_LABELS = 1 << 24, 1 << 25  # bytes of a block's: 4,096 of the longest
# Bytes of a block's parts, and blocks of a pack: what a reader holds at once, whatever the file claims.
MAX_PAYLOAD, MAX_COLUMN, MAX_BLOCKS = 1 << 27, 1 << 25, 1 << 19

LABELLED = 1  # the version of packs with a column of labels; others are of version 0
_SIZES, _INVERTED, _NAMES = 0x01, 0x02, 0x04
BLOCK_MARKER, INDEX_MARKER = b"\xc1BLK", b"\xc1IDX"

_HEADER = struct.Struct(">BBHB")
CHECK = struct.Struct(">I")
# By version: marker, ordinal, first, images, then the length of the payload and of each column.
_BLOCK_HEADERS = struct.Struct(">4sIQIIII"), struct.Struct(">4sIQIIIII")
INDEX = struct.Struct(">4sIQ")
ENTRY = struct.Struct(">QI")
TRAILER = struct.Struct(">QI4s")

HEADER_SIZE = _HEADER.size + CHECK.size


@dataclass(frozen=True)
class Header:
    """What holds for all images of a pack."""

    model_id: int  # 0 .. 65535
    quality: int  # 1 .. 100, or LOSSLESS
    inverted: bool = False
    names: bool = False  # blocks have a column of names
    sizes: bool = False  # blocks have a column of original sizes
    labels: bool = False  # blocks have a column of labels

    @property
    def version(self) -> int:
        return LABELLED if self.labels else 0

    @property
    def block(self) -> struct.Struct:
        """The header of a block, without its check."""
        return _BLOCK_HEADERS[self.version]

    @property
    def block_size(self) -> int:
        """Bytes of a block's header with its check."""
        return self.block.size + CHECK.size

    @cached_property
    def data(self) -> bytes:
        """Its bytes."""
        return self.to_bytes()

    def to_bytes(self) -> bytes:
        """Raises ValueError when the quality is out of range."""
        if not LOSSLESS <= self.quality <= MAX_QUALITY:
            raise ValueError(f"expected a quality of 0 to 100, found {self.quality}")
        flags = self.sizes * _SIZES | self.inverted * _INVERTED | self.names * _NAMES
        first = container.MAGIC | self.version << 2 | container.KIND_PACK
        body = _HEADER.pack(first, self.quality, self.model_id, flags)
        return body + CHECK.pack(zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """The header that bytes begin with; the first `HEAD` of another file tell what it is.

        Raises FormatError: not the header of a pack, one of a later version, or a damaged one.
        """
        if not container.is_pack(data):
            raise contents.other("a pack", data)
        if len(data) < HEADER_SIZE:
            raise FormatError(f"damaged: expected at least {HEADER_SIZE} bytes, found {len(data)}")
        first, quality, model_id, flags = _HEADER.unpack_from(data)
        whole = CHECK.unpack_from(data, _HEADER.size)[0] == zlib.crc32(data[: _HEADER.size])
        version = first >> 2 & 7
        if version > LABELLED:
            raise container.unsupported(f"version {version}", whole)
        if not whole:
            raise FormatError("damaged: the check over its header does not hold")
        if flags & ~(_SIZES | _INVERTED | _NAMES):
            raise container.unsupported(f"flags {flags:#04x}")
        if not LOSSLESS <= quality <= MAX_QUALITY:
            raise container.unsupported(f"quality {quality}")
        inverted, names, sizes = (bool(flags & bit) for bit in (_INVERTED, _NAMES, _SIZES))
        return cls(model_id, quality, inverted, names, sizes, version == LABELLED)


@dataclass(frozen=True)
class Block:
    """What one block holds."""

    images: int
    payload: bytes  # of `Coding.encode_block`
    names: list[str] | None = None
    sizes: list[tuple[int, int]] | None = None  # width, height in pixels
    labels: list[Label] | None = None


class Writer:
    """Appends blocks to an open binary file, then the index. The file need not be seekable."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self.images = self.blocks = self.size = 0  # written so far; size in bytes
        self.header, self._file, self._head = header, file, header.to_bytes()
        self._entries = bytearray()
        self._write(self._head)

    def write(self, block: Block) -> None:
        """Raises ValueError when the block is out of the format's range, or lacks a column.

        Raises CvaeError when the pack has as many blocks as it may.
        """
        columns = [_pack_names(block) if self.header.names else b""]
        columns += [_pack_sizes(block) if self.header.sizes else b""]
        columns += [_pack_labels(block)] if self.header.labels else []
        self.write_packed(block.images, block.payload, columns)

    def write_packed(self, images: int, payload: bytes, columns: Sequence[bytes]) -> None:
        """A block as it lies in a file: with one of each column of the header's version, empty or not.

        Raises as `write` does.
        """
        if not 1 <= images <= MAX_BLOCK_IMAGES:
            raise ValueError(f"expected 1 to {MAX_BLOCK_IMAGES} images, found {images}")
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"expected a payload of at most {MAX_PAYLOAD:,} bytes")
        if self.blocks == MAX_BLOCKS:
            advice = "a folder of packs holds more"
            raise CvaeError(f"expected at most {MAX_BLOCKS:,} blocks in a pack", advice=advice)
        lengths = map(len, (payload, *columns))
        head = self.header.block.pack(BLOCK_MARKER, self.blocks, self.images, images, *lengths)
        head += CHECK.pack(zlib.crc32(self._head + head))
        body = b"".join((head, payload, *columns))
        self._entries += ENTRY.pack(self.size, images)
        self._write(body + CHECK.pack(zlib.crc32(self._head + body)))
        self.images += images
        self.blocks += 1

    def close(self) -> None:
        """Writes the index; the file stays open."""
        offset = self.size
        index = INDEX.pack(INDEX_MARKER, self.blocks, self.images) + self._head + self._entries
        check = zlib.crc32(index + struct.pack(">Q", offset))
        self._write(index + TRAILER.pack(offset, check, container.END_MARKER))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.size += len(data)


def encode_name(name: str) -> bytes:
    """A name as a pack holds it: UTF-8 without zero bytes; a long name keeps its end."""
    data = name.replace("\0", "_").encode("utf-8", "replace")
    return data[-MAX_NAME:].decode("utf-8", "ignore").encode() if len(data) > MAX_NAME else data


def _pack_names(block: Block) -> bytes:
    if block.names is None or len(block.names) != block.images:
        raise ValueError(f"expected {block.images} names")
    names = b"".join(encode_name(name) + b"\0" for name in block.names)
    if len(names) > _MAX_NAMES:
        raise ValueError(f"expected at most {_MAX_NAMES:,} bytes of names, found {len(names):,}")
    return zlib.compress(names, 9)


def unpack_names(data: bytes, images: int) -> list[str]:
    """One name for each image. Raises FormatError when the column is damaged."""
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


def unpack_sizes(data: bytes, images: int) -> list[tuple[int, int]]:
    """Width and height of each image. Raises FormatError when the column is damaged."""
    values = _inflate(data, 4 * images)
    if len(values) != 4 * images:
        raise FormatError(f"expected sizes of {images} images, found {len(values)} bytes")
    sizes = [(width, height) for width, height in struct.iter_unpack(">HH", values)]
    if any(0 in size for size in sizes):
        raise FormatError("an original size of zero")
    return sizes


def _pack_labels(block: Block) -> bytes:
    if block.labels is None or len(block.labels) != block.images:
        raise ValueError(f"expected {block.images} labels")
    text = labels.to_text(block.labels)
    if len(text) > _MAX_LABELS:
        raise ValueError(f"expected at most {_MAX_LABELS:,} bytes of labels, found {len(text):,}")
    return zlib.compress(text, 9)


def unpack_labels(data: bytes, images: int) -> list[Label]:
    """The label of each image. Raises FormatError when the column is damaged."""
    return labels.from_text(_inflate(data, _MAX_LABELS), images)


def unpack_fields(data: bytes) -> list[str]:
    """The fields of the labels alone; raises as `unpack_labels` does."""
    return labels.fields_in(_inflate(data, _MAX_LABELS))


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
