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

from cvae.bitstream import tables
from cvae.bitstream.tables import PRECISION, Bank, Rows, Symbols
from cvae.errors import FormatError

# Entries of tables that a decoder keeps as Python integers, which take some 40 bytes each.
_KEPT = 1 << 18

_Interval = tuple[int, int, int]  # low, width, bits


class Encoder:
    """Codes images side by side, each to a payload of its own; see `coders.Encoder`."""

    def __init__(self, bank: Bank, images: int = 1) -> None:
        self._bank = bank
        self._intervals: list[_Interval] = [(0, 1, 0)] * images

    def push(self, rows: Rows, symbols: Symbols) -> None:
        bank = self._bank
        entries = bank.entries(symbols)
        # Looked up for all images at once: the loops below see Python integers only.
        widths = bank.table[rows, entries].tolist()
        starts = bank.starts[rows, entries].tolist()
        escaped = (entries == bank.escape).any(axis=1).tolist()
        for image, interval in enumerate(self._intervals):
            given = interval, widths[image], starts[image]
            if escaped[image]:
                found = _narrowed_with_escapes(*given, symbols[image].tolist(), bank.radius)
            else:
                found = _narrowed(*given)
            self._intervals[image] = found

    def finish(self) -> list[bytes]:
        """The payload of each image."""
        return [_shortest(*interval) for interval in self._intervals]


class Decoder:
    """Reads the payload of one image; see `coders.Decoder`."""

    def __init__(self, payload: bytes, bank: Bank, symbols: int) -> None:
        """Raises FormatError when the payload is longer than any of so many symbols."""
        most = symbols * tables.MAX_SYMBOL_BYTES + 1
        if len(payload) > most:
            raise FormatError(f"damaged: expected at most {most} bytes, found {len(payload)}")
        self._payload, self._bank = payload, bank
        # The interval is [0, width) and `code` our place in it; both grow instead of being rounded.
        self._code, self._width = int.from_bytes(payload, "big"), 1 << 8 * len(payload)
        self._pulled: list[tuple[Rows, Symbols]] = []
        self._tables: dict[int, tuple[list[int], list[int]]] = {}

    def pull(self, rows: Rows) -> Symbols:
        code, width, radius = self._code, self._width, self._bank.radius
        symbols = []
        for row in rows.ravel().tolist():
            frequencies, starts = self._tables.get(row) or self._lists(row)
            code <<= PRECISION
            # The entry whose range holds our place: the last that begins at or before it.
            entry = bisect_right(starts, code // width) - 1
            code -= starts[entry] * width
            width *= frequencies[entry]
            symbol = entry - radius
            if symbol > radius:
                symbol, code = _decode_escape(code, width, radius)
            symbols.append(symbol)
        self._code, self._width = code, width
        found: Symbols = np.array(symbols, np.int32).reshape(rows.shape)
        self._pulled.append((rows, found))
        return found

    def finish(self) -> None:
        """An exact coder has one payload for its symbols; another one is damage that the check missed."""
        again = Encoder(self._bank)
        if self._pulled:  # at once: stages may be many and small
            parts = ([part.reshape(1, -1) for part in of] for of in zip(*self._pulled, strict=True))
            again.push(*(np.concatenate(part, axis=1) for part in parts))
        if again.finish() != [self._payload]:
            raise FormatError("damaged: the payload is not one that an encoder writes")

    def _lists(self, row: int) -> tuple[list[int], list[int]]:
        """Frequencies and starts of a table as Python integers."""
        if len(self._tables) * (self._bank.escape + 1) > _KEPT:
            self._tables.clear()
        found = self._bank.table[row].tolist(), self._bank.starts[row].tolist()
        return self._tables.setdefault(row, found)


def _narrowed(interval: _Interval, widths: list[int], starts: list[int]) -> _Interval:
    low, width, bits = interval
    for frequency, start in zip(widths, starts, strict=True):
        low = (low << PRECISION) + start * width
        width *= frequency
    return low, width, bits + PRECISION * len(widths)


def _narrowed_with_escapes(
    interval: _Interval, widths: list[int], starts: list[int], symbols: list[int], radius: int
) -> _Interval:
    low, width, bits = interval
    for frequency, start, symbol in zip(widths, starts, symbols, strict=True):
        low = (low << PRECISION) + start * width
        width *= frequency
        bits += PRECISION
        if abs(symbol) > radius:
            value, count = tables.escape_bits(symbol, radius)
            low = (low << count) + value * width
            bits += count
    return low, width, bits


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


def _decode_escape(code: int, width: int, radius: int) -> tuple[int, int]:
    """The symbol in Elias gamma code, and our place behind it: bits are those of a long division."""
    zeros = 0
    while (code := code << 1) < width:
        zeros += 1
        if zeros > 2 * tables.MAX_SYMBOL.bit_length():
            raise FormatError("damaged: an escape has no end")
    rest, code = divmod((code - width) << zeros, width)
    return tables.escape_symbol(1 << zeros | rest, radius), code
