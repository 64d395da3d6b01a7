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
_AT_ONCE = 32  # entries
_LEADING = PRECISION * (_AT_ONCE + 4)  # bits that tell as many entries, nearly always

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
        self._place = _Place(int.from_bytes(payload, "big"), 1 << 8 * len(payload))
        self._pulled: list[tuple[Rows, Symbols]] = []
        self._tables: dict[int, tuple[list[int], list[int]]] = {}

    def pull(self, rows: Rows) -> Symbols:
        place, radius, symbols = self._place, self._bank.radius, []
        for row in rows.ravel().tolist():
            symbol = place.entry(*(self._tables.get(row) or self._lists(row))) - radius
            if symbol > radius:
                place.settle()
                symbol, place.code = _decode_escape(place.code, place.width, radius)
                place.settle()
            symbols.append(symbol)
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


class _Place:
    """Our place `code` in the interval [0, width); both grow instead of being rounded.

    What an entry makes of them waits, and entries are found by their leading bits, until these no longer
    tell, or so many entries came that one long multiplication does for all.
    """

    def __init__(self, code: int, width: int) -> None:
        self.code, self.width = code, width
        self._begin()

    def _begin(self) -> None:
        shift = max(0, self.width.bit_length() - _LEADING)
        self._exact = shift == 0
        # Bounds of code and width, in units of 2^shift.
        self._code, self._width = self.code >> shift, self.width >> shift
        self._most_code, self._most_width = self._code + (shift > 0), self._width + (shift > 0)
        self._start, self._share, self._waiting = 0, 1, 0

    def entry(self, frequencies: list[int], starts: list[int]) -> int:
        """The entry whose range holds our place, the last that begins at or before it; goes there."""
        if self._waiting == _AT_ONCE:
            self.settle()
        entry = bisect_right(starts, (self._code << PRECISION) // self._most_width) - 1
        if not self._exact:
            last = bisect_right(starts, (self._most_code << PRECISION) // self._width) - 1
            if entry != last:
                self.settle()
                entry = bisect_right(starts, (self.code << PRECISION) // self.width) - 1
        start, frequency = starts[entry], frequencies[entry]
        self._code = (self._code << PRECISION) - start * self._most_width
        self._most_code = (self._most_code << PRECISION) - start * self._width
        self._width *= frequency
        self._most_width *= frequency
        self._start = (self._start << PRECISION) + start * self._share
        self._share *= frequency
        self._waiting += 1
        return entry

    def settle(self) -> None:
        """Does what waits."""
        self.code = (self.code << PRECISION * self._waiting) - self._start * self.width
        self.width *= self._share
        self._begin()


def _narrowed(interval: _Interval, widths: list[int], starts: list[int]) -> _Interval:
    """The interval after so many entries.

    Symbol by symbol, numbers of ten thousand digits would be multiplied ten thousand times; so intervals
    of few symbols are joined two by two.
    """
    parts = [interval]
    for first in range(0, len(widths), _AT_ONCE):
        low, width, last = 0, 1, first + _AT_ONCE
        for frequency, start in zip(widths[first:last], starts[first:last], strict=True):
            low = (low << PRECISION) + start * width
            width *= frequency
        parts.append((low, width, PRECISION * len(widths[first:last])))
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        parts = [_joined(*pair) for pair in pairs] + parts[len(parts) // 2 * 2 :]
    return parts[0]


def _joined(outer: _Interval, inner: _Interval) -> _Interval:
    (low, width, _), (inside, share, bits) = outer, inner
    return (low << bits) + inside * width, width * share, outer[2] + bits


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
