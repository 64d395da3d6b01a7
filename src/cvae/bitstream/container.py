"""Bytes <-> header and payload of one coded image. Standard library only; the layout is docs/format.md."""

from __future__ import annotations

import binascii
import os
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from cvae.errors import FormatError, UnsupportedError

VERSION = 0
KIND_IMAGE, KIND_PACK, KIND_STAGED = 0, 1, 2

# Byte 0: magic 110 (no ASCII text starts so), three bits of version, two of kind.
MAGIC = 0b110 << 5
_EXTENSION = 0x80
_HAS_SIZE = 0x01
_INVERTED = 0x02
# The flags of a container of several stages.
_OWN_SIZE = 0x01
_GREY = 0x02
_ALPHA = 0x04

MIN_QUALITY, MAX_QUALITY = 1, 100
LOSSLESS = 0  # in place of a quality: every pixel comes back; of staged containers and packs
MAX_SIDE = 65535

# The last bytes of a pack, and the fewest that one has: a header and a trailer.
END_MARKER = b"\xc1END"
_MIN_PACK = 25

# From here up the check has four bytes instead of two.
_LONG_PAYLOAD = 256


@dataclass(frozen=True)
class Container:
    """One coded image: which model and quality, the payload, and what the picture was.

    Of a staged one, `original_size` is None where it is the model's own; it is never inverted.
    """

    model_id: int  # 0 .. 65535
    quality: int  # 1 .. 100, or LOSSLESS
    payload: bytes
    original_size: tuple[int, int] | None = None  # width, height in pixels
    inverted: bool = False
    staged: bool = False  # of KIND_STAGED, which models of several stages write
    grey: bool = False  # staged ones only: the mean of the three channels is the picture
    alpha: bool = False  # staged ones only: what is coded has the transparency below the colours


def pack(container: Container) -> bytes:
    """The container's bytes, 6 to 15 more than its payload's. Raises ValueError at a field out of range."""
    least = LOSSLESS if container.staged else MIN_QUALITY
    if not least <= container.quality <= MAX_QUALITY:
        raise ValueError(f"expected a quality of {least} to 100, found {container.quality}")
    if container.staged:
        kind, extension, extended = KIND_STAGED, _pack_staged(container), 0
    else:
        kind, extension = KIND_IMAGE, _pack_extension(container)
        extended = _EXTENSION if extension else 0
    first, second = MAGIC | VERSION << 2 | kind, extended | container.quality
    head = struct.pack(">BBH", first, second, container.model_id)
    body = head + extension + container.payload
    return body + _check(body, len(container.payload))


def is_container(data: bytes) -> bool:
    """Whether bytes are meant as a container, by the first one; image files begin otherwise."""
    return data[:1] != b"" and data[0] & 0xE0 == MAGIC


def is_pack(data: bytes) -> bool:
    """Whether bytes are meant as a pack of any version, by the first one."""
    return data[:1] != b"" and data[0] & 0xE3 == MAGIC | KIND_PACK


def is_pack_file(file: BinaryIO) -> bool:
    """Whether a seekable file is meant as a pack, by its first byte or else by its last ones."""
    if is_pack(file.read(1)):
        return True
    if file.seek(0, os.SEEK_END) < _MIN_PACK:
        return False
    file.seek(-len(END_MARKER), os.SEEK_END)
    return file.read() == END_MARKER


def as_bytes(data: object) -> bytes:
    """What a caller of the API gives as a container. Raises FormatError when it is no bytes."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise FormatError(f"expected the bytes of a container, found {type(data).__name__}")
    try:
        return bytes(data)
    except ValueError as error:  # a view whose memory is released
        raise FormatError(f"expected the bytes of a container: {error}") from error


def unpack(data: bytes) -> Container:
    """The inverse of `pack`.

    Raises:
        FormatError: not a container, one of a later version, or a damaged one.
    """
    data = as_bytes(data)
    if not data:
        raise FormatError("expected a container, found an empty file")
    if not is_container(data):
        raise FormatError("expected a container, found something else")
    if is_pack(data):
        advice = "`cvae unpack` or `cvae.open_pack` decodes it"
        raise FormatError("expected one image, found a pack", advice=advice)
    version, kind = data[0] >> 2 & 7, data[0] & 3
    if version != VERSION or kind not in (KIND_IMAGE, KIND_STAGED):
        raise unsupported(f"version {version} and kind {kind}", _holds(data))
    least = 7 if kind == KIND_STAGED else 6
    if len(data) < least:
        raise FormatError(f"damaged: expected at least {least} bytes, found {len(data)}")
    return _unpack_staged(data) if kind == KIND_STAGED else _unpack_image(data)


def parts(data: bytes) -> dict[str, bytes]:
    """The header, size, payload and check that a container is made of; raises as `unpack` does."""
    payload = len(unpack(data).payload)
    end = len(data) - (2 if payload < _LONG_PAYLOAD else 4)
    has_flags = data[0] & 3 == KIND_STAGED or data[1] & _EXTENSION
    fixed, start = 5 if has_flags else 4, end - payload
    pieces = data[:fixed], data[fixed:start], data[start:end], data[end:]
    return dict(zip(("header", "size", "payload", "check"), pieces, strict=True))


def _unpack_image(data: bytes) -> Container:
    extended = data[1] & _EXTENSION
    flags = data[4] if extended else 0
    start = 4 + bool(extended) + (4 if flags & _HAS_SIZE else 0)
    payload = _payload(data, start)
    if extended and (flags == 0 or flags & ~(_HAS_SIZE | _INVERTED)):
        raise unsupported(f"flags {flags:#04x}")
    quality, (model_id,) = data[1] & ~_EXTENSION, struct.unpack(">H", data[2:4])
    size = struct.unpack(">HH", data[5:9]) if flags & _HAS_SIZE else None
    if not MIN_QUALITY <= quality <= MAX_QUALITY:
        raise unsupported(f"quality {quality}")
    if size and 0 in size:
        raise FormatError(f"expected an original size, found {size[0]}x{size[1]}")
    return Container(model_id, quality, payload, size, bool(flags & _INVERTED))


def _unpack_staged(data: bytes) -> Container:
    quality, (model_id,), flags = data[1], struct.unpack(">H", data[2:4]), data[4]
    size, start = None, 5
    if not flags & _OWN_SIZE:
        width, start = _unpack_varint(data, start)
        height, start = _unpack_varint(data, start)
        size = width, height
    payload = _payload(data, start)
    if flags & ~(_OWN_SIZE | _GREY | _ALPHA) or flags & (_GREY | _ALPHA) == _GREY | _ALPHA:
        raise unsupported(f"flags {flags:#04x}")
    if not LOSSLESS <= quality <= MAX_QUALITY:
        raise unsupported(f"quality {quality}")
    marks = {"grey": bool(flags & _GREY), "alpha": bool(flags & _ALPHA)}
    return Container(model_id, quality, payload, size, staged=True, **marks)


def _payload(data: bytes, start: int) -> bytes:
    """What lies between header and check. Raises FormatError when the check does not hold."""
    # A payload of 255 bytes ends with two bytes of check, one of 256 with four: no length means both.
    check_size = 2 if len(data) - start - 2 < _LONG_PAYLOAD else 4
    body, payload = data[:-check_size], data[start : len(data) - check_size]
    if len(data) < start + check_size or data[-check_size:] != _check(body, len(payload)):
        raise FormatError("damaged: the check over its bytes does not hold")
    return payload


def _holds(data: bytes) -> bool:
    """Whether the last bytes are a check over all others: what is of another version is whole then."""
    return any(
        data[-size:] == _check(data[:-size], payload)
        for size, payload in ((2, 0), (4, _LONG_PAYLOAD))
    )


def unsupported(found: str, whole: bool = True) -> FormatError:
    """What a file of a later version is refused with; one that may not be `whole` may be damaged, too."""
    if not whole:
        return FormatError(f"is damaged, or of a later version: found {found}")
    return UnsupportedError(f"has {found}, which this cvae does not know", advice="a later one may")


def _pack_staged(container: Container) -> bytes:
    """Flags and size. Raises ValueError when a side is out of range, or the image was inverted."""
    if container.inverted:
        raise ValueError("expected no inversion in a container of several stages")
    if container.grey and container.alpha:
        raise ValueError("expected a grey picture or one with alpha, found both flags")
    flags = (_GREY if container.grey else 0) | (_ALPHA if container.alpha else 0)
    if container.original_size is None:
        return bytes([flags | _OWN_SIZE])
    _check_sides(container.original_size)
    return bytes([flags]) + b"".join(map(_pack_varint, container.original_size))


def _pack_varint(number: int) -> bytes:
    """7 bits a byte, the lowest ones first; bit 7 says that another byte follows."""
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def _unpack_varint(data: bytes, start: int) -> tuple[int, int]:
    """A side from 1 to MAX_SIDE in its shortest form, and where it ends. Raises FormatError."""
    number = 0
    for place, byte in enumerate(data[start : start + 3]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            if 1 <= number <= MAX_SIDE and (byte or not place):
                return number, start + place + 1
            break
    raise FormatError(f"damaged: expected a side of 1 to {MAX_SIDE} pixels")


def _pack_extension(container: Container) -> bytes:
    flags = (_HAS_SIZE if container.original_size else 0) | (_INVERTED if container.inverted else 0)
    if container.grey or container.alpha:
        raise ValueError("expected a flag of grey or alpha in a container of several stages only")
    if not flags:
        return b""
    if container.original_size is None:
        return bytes([flags])
    _check_sides(container.original_size)
    return struct.pack(">BHH", flags, *container.original_size)


def _check_sides(size: tuple[int, int]) -> None:
    width, height = size
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ValueError(f"expected sides of 1 to {MAX_SIDE} pixels, found {width}x{height}")


def _check(body: bytes, payload_size: int) -> bytes:
    if payload_size >= _LONG_PAYLOAD:
        return struct.pack(">I", zlib.crc32(body))
    # CRC-16/GENIBUS; without the final inversion, zeros appended to a valid file would pass.
    return struct.pack(">H", binascii.crc_hqx(body, 0xFFFF) ^ 0xFFFF)
