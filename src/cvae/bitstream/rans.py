"""Symbols of a block of images <-> bytes, by rANS with interleaved lanes, vectorized over the lanes.

Duda 2013, arXiv:1311.2540. A lane's state is in ``[2^16, 2^32)`` and moves 16-bit words; symbol ``i``
of the block belongs to lane ``i % lanes``. The encoder works from the last symbol to the first, the
decoder the other way, so the words of the stream lie in the decoder's order.
"""

from __future__ import annotations

import math
import struct

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import (
    MAX_SYMBOL,
    MAX_SYMBOL_BYTES,
    PRECISION,
    TOTAL,
    Symbols,
    Tables,
    check_symbols,
    escape_bits,
    escape_symbol,
    information_bits,
    to_entries,
)
from cvae.errors import FormatError

_STATE_MIN = 1 << 16
_WORD_BITS = 16
_LANES_MAX = 1024
_HEAD = struct.Struct("<H")
# A lane costs 3.4 bytes, and a coder's time is its steps: as many lanes as half a percent pays for. Where
# most symbols cost next to nothing there are many steps for few bytes, and up to two percent are paid.
_BYTES_A_LANE, _FEWEST_BYTES_A_LANE, _STEPS = 600, 150, 1 << 14


def lane_count(symbols: Symbols, tables: Tables) -> int:
    """How many lanes `encode_block` uses: more for more information and for many symbols, up to 1,024."""
    size = float(information_bits(symbols, tables).sum()) / 8
    wanted = max(size / _BYTES_A_LANE, min(symbols.size / _STEPS, size / _FEWEST_BYTES_A_LANE))
    return max(1, min(_LANES_MAX, int(wanted)))


def encode_block(symbols: Symbols, tables: Tables, lanes: int | None = None) -> bytes:
    """All images as one byte string: (images, elements) -> bytes. The layout is in docs/format.md.

    Args:
        symbols: of all images.
        tables: of their quality.
        lanes: 1 to 1,024, few for the least bytes and many for speed; None for `lane_count`.

    Raises:
        ValueError: a symbol is beyond the format's range.
    """
    check_symbols(symbols)
    entries = to_entries(symbols, tables)
    escaped = symbols[entries == tables.escape].tolist()
    lanes = lanes or lane_count(symbols, tables)
    widths = _in_lanes(tables.frequencies[tables.index, entries], lanes, TOTAL)
    offsets = _in_lanes(tables.starts[tables.index, entries], lanes, 0)

    state = np.full(lanes, _STATE_MIN, np.int64)
    words = []
    for width, offset in zip(widths[::-1], offsets[::-1], strict=True):
        full = state >= width << _WORD_BITS
        # A padded place has width 2^16: it is never full and leaves the state as it is.
        words.append(state[full] & 0xFFFF)
        state = np.where(full, state >> _WORD_BITS, state)
        quotient, rest = np.divmod(state, width)
        state = (quotient << PRECISION) + rest + offset
    stream = np.concatenate(words[::-1]) if words else np.empty(0, np.int64)
    return (
        _HEAD.pack(lanes)
        + state.astype("<u4").tobytes()
        + stream.astype("<u2").tobytes()
        + _pack_escapes(escaped, tables)
    )


def decode_block(data: bytes, images: int, tables: Tables) -> Symbols:
    """The inverse of `encode_block`: (images, elements) int32.

    Raises:
        FormatError: the bytes are not a block of so many images.
    """
    count = images * tables.elements
    lanes = _HEAD.unpack_from(data)[0] if len(data) >= _HEAD.size else 0
    if not 1 <= lanes <= _LANES_MAX:
        raise FormatError(f"damaged block: expected 1 to {_LANES_MAX} lanes, found {lanes}")
    start = _HEAD.size + 4 * lanes
    most = start + MAX_SYMBOL_BYTES * count + 1
    if not start <= len(data) <= most:
        raise FormatError(f"damaged block: expected {start} to {most} bytes, found {len(data)}")
    state = np.frombuffer(data, "<u4", lanes, _HEAD.size).astype(np.int64)
    body = data[start:]
    # Where the words end and the escapes begin is known once the words are read.
    words = np.frombuffer(body[: len(body) // 2 * 2], "<u2").astype(np.int64)
    entries, used = _decode_lanes(state, words, count, lanes, tables)
    symbols = (entries - tables.radius).astype(np.int32).reshape(images, tables.elements)
    escaped = symbols > tables.radius
    symbols[escaped] = _unpack_escapes(body[2 * used :], int(escaped.sum()), tables)
    return symbols


def _decode_lanes(
    state: NDArray[np.int64], words: NDArray[np.int64], count: int, lanes: int, tables: Tables
) -> tuple[NDArray[np.int64], int]:
    """The alphabet entries (count,) and how many words were read."""
    # One sorted array of the starts of all tables in use: a single search finds table and entry at once.
    used, index = np.unique(tables.index, return_inverse=True)
    frequencies, starts = tables.frequencies[used], tables.starts[used]
    alphabet = starts.shape[1]
    flat_frequencies, flat_starts = frequencies.ravel(), starts.ravel()
    keys = (starts + TOTAL * np.arange(len(used))[:, np.newaxis]).ravel()
    steps = -(-count // lanes)
    # The table of each place, lane by lane; the places that pad the last step are not decoded.
    rows = np.resize(index.astype(np.int64), steps * lanes).reshape(steps, lanes)
    entries = np.empty((steps, lanes), np.int64)
    place = 0
    for step in range(steps):
        active = min(lanes, count - step * lanes)
        x, row = state[:active], rows[step, :active]
        slot = x & TOTAL - 1
        found = np.searchsorted(keys, row * TOTAL + slot, side="right") - 1
        entries[step, :active] = found - row * alphabet
        x = flat_frequencies[found] * (x >> PRECISION) + slot - flat_starts[found]
        low = np.flatnonzero(x < _STATE_MIN)
        if place + len(low) > len(words):
            raise FormatError("damaged block: the stream ends too early")
        x[low] = (x[low] << _WORD_BITS) | words[place : place + len(low)]
        place += len(low)
        state[:active] = x
    if np.any(state != _STATE_MIN):
        raise FormatError("damaged block: the coder does not end where it began")
    return entries.ravel()[:count], place


def _in_lanes(values: NDArray[np.int64], lanes: int, fill: int) -> NDArray[np.int64]:
    """(images, elements) -> (steps, lanes) in reading order, the last step filled up."""
    flat = values.ravel()
    steps = -(-flat.size // lanes)
    padded = np.full(steps * lanes, fill, np.int64)
    padded[: flat.size] = flat
    return padded.reshape(steps, lanes)


def _pack_escapes(symbols: list[int], tables: Tables) -> bytes:
    bits = "".join(
        format(value, f"0{count}b")
        for value, count in (escape_bits(symbol, tables.radius) for symbol in symbols)
    )
    size = math.ceil(len(bits) / 8)
    return int(bits.ljust(8 * size, "0"), 2).to_bytes(size, "big") if bits else b""


def _unpack_escapes(data: bytes, count: int, tables: Tables) -> list[int]:
    bits = format(int.from_bytes(data, "big"), f"0{8 * len(data)}b") if data else ""
    place, symbols = 0, []
    for _ in range(count):
        one = bits.find("1", place)
        end = 2 * one - place + 1
        # No escape has more: a number of thousands of digits would be slow, or refused by Python.
        if one < 0 or one - place > MAX_SYMBOL.bit_length() or end > len(bits):
            raise FormatError("damaged block: an escape has no end")
        symbols.append(escape_symbol(int(bits[one:end], 2), tables.radius))
        place = end
    if len(bits) - place >= 8 or "1" in bits[place:]:
        raise FormatError("damaged block: bytes are left over")
    return symbols
