"""Symbols of one image <-> bytes, by an exact arithmetic coder. Knows nothing of images, floats or files.

The interval ``[low, low + width) / 2^bits`` is kept in Python integers of any length, so nothing is
rounded, and the payload is the shortest byte string inside it (a binary fraction, ``0.payload``)::

    0 |-------------[low ======*==== low + width)------------| 1
                               ^ the payload: fewest bytes that land inside

A fraction of ``k`` bytes exists in every interval of width ``256^-k`` or more, hence a payload is
never longer than the information content rounded up to whole bytes.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from cvae.bitstream.tables import (
    MAX_SYMBOL,
    MAX_SYMBOL_BYTES,
    PRECISION,
    Symbols,
    Tables,
    check_symbols,
    escape_bits,
    escape_symbol,
    to_entries,
)
from cvae.errors import FormatError


def encode_images(symbols: Symbols, tables: Tables) -> list[bytes]:
    """Each image by itself: (images, elements) -> one payload an image.

    Raises:
        ValueError: a symbol is beyond the format's range.
    """
    check_symbols(symbols)
    entries = to_entries(symbols, tables)
    # Looked up for all images at once: the loops below see Python integers only.
    all_widths = tables.frequencies[tables.index, entries].tolist()
    all_starts = tables.starts[tables.index, entries].tolist()
    escaped_images = set(np.flatnonzero((entries == tables.escape).any(axis=1)).tolist())
    payloads = []
    for image, (widths, offsets) in enumerate(zip(all_widths, all_starts, strict=True)):
        if image in escaped_images:
            payloads.append(
                _encode_escaped(symbols[image].tolist(), widths, offsets, tables.radius)
            )
            continue
        low, width = 0, 1
        for frequency, start in zip(widths, offsets, strict=True):
            low = (low << PRECISION) + start * width
            width *= frequency
        payloads.append(_shortest(low, width, PRECISION * len(widths)))
    return payloads


def decode_image(payload: bytes, tables: Tables) -> list[int]:
    """The symbols of one image. Raises FormatError when no encoder writes such a payload."""
    radius = tables.radius
    if len(payload) > tables.elements * MAX_SYMBOL_BYTES + 1:
        raise FormatError(
            f"damaged: expected at most {tables.elements * MAX_SYMBOL_BYTES + 1} bytes of payload, "
            f"found {len(payload)}"
        )
    # The interval is [0, width) and `code` our place in it; both grow instead of ever being rounded.
    code, width = int.from_bytes(payload, "big"), 1 << 8 * len(payload)
    symbols = []
    for frequencies, starts in tables.rows:
        code <<= PRECISION
        entry = _find(starts, code // width)
        code -= starts[entry] * width
        width *= frequencies[entry]
        if entry <= 2 * radius:
            symbols.append(entry - radius)
            continue
        symbol, code, width = _decode_escape(code, width, radius)
        symbols.append(symbol)
    # An exact coder has one payload for a row of symbols; another one is damage that the check missed.
    if encode_images(np.array([symbols], np.int32), tables)[0] != payload:
        raise FormatError("damaged: the payload is not one that an encoder writes")
    return symbols


def _encode_escaped(symbols: list[int], widths: list[int], starts: list[int], radius: int) -> bytes:
    low, width, bits = 0, 1, 0
    for symbol, frequency, start in zip(symbols, widths, starts, strict=True):
        low = (low << PRECISION) + start * width
        width *= frequency
        bits += PRECISION
        if abs(symbol) > radius:
            value, count = escape_bits(symbol, radius)
            low = (low << count) + value * width
            bits += count
    return _shortest(low, width, bits)


def _shortest(low: int, width: int, bits: int) -> bytes:
    """The fewest bytes whose fraction lies in [low, low + width) / 2^bits."""
    if low == 0:
        return b""
    last = low + width - 1
    # The largest power of two that has a multiple in [low, last].
    free = ((low - 1) ^ last).bit_length() - 1
    size = -(-(bits - free) // 8)
    shift = bits - 8 * size
    # The greatest of the fractions with so many bytes.
    fraction = last >> shift if shift >= 0 else ((low + width) << -shift) - 1
    return fraction.to_bytes(size, "big")


def _find(starts: list[int], target: int) -> int:
    """The entry whose range holds `target`: the last with starts[entry] <= target."""
    return bisect_right(starts, target) - 1


def _decode_escape(code: int, width: int, radius: int) -> tuple[int, int, int]:
    zeros, number = 0, 0
    while number == 0:
        code, bit = _take_bit(code, width)
        number = bit
        zeros += not bit
        if zeros > 2 * MAX_SYMBOL.bit_length():
            raise FormatError("damaged: an escape has no end")
    for _ in range(zeros):
        code, bit = _take_bit(code, width)
        number = number << 1 | bit
    return escape_symbol(number, radius), code, width


def _take_bit(code: int, width: int) -> tuple[int, int]:
    code <<= 1
    return (code - width, 1) if code >= width else (code, 0)
