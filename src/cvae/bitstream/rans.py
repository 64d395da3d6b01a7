"""Symbols of a block of images <-> bytes, by rANS with interleaved lanes, vectorized over the lanes.

Duda 2013, arXiv:1311.2540. A lane's state is in ``[2^16, 2^32)`` and moves 16-bit words; symbol ``i``
of the block belongs to lane ``i % lanes``, through all stages. The encoder works from the last symbol
to the first, the decoder the other way, so the words of the stream lie in the decoder's order.

A small state codes likely symbols roughly: decisions of a lossless picture, most of which are as
expected, take 0.2 % more bytes than their information. So where any number of stages is coded, states
are in ``[2^24, 2^40)``: 0.03 %, for a byte more of each lane.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream import tables
from cvae.bitstream.tables import PRECISION, TOTAL, Bank, Rows, Symbols
from cvae.errors import FormatError

_WORD_BITS = 16
# The least state is a power of two: its exponent, and the bytes of a state.
_NARROW, _WIDE = (16, 4), (24, 5)
_LANES_MAX = 1024
# A step takes a decoder some microseconds, whatever it reads: a file of a few bytes may ask for millions.
# A block of all lanes may have more: that of a large lossless picture has.
MAX_STEPS = 1 << 17
_HEAD = struct.Struct("<H")
_ESCAPE_BYTES = 5  # at most 33 bits, the last one filled up
# A lane costs 3.4 bytes, and a coder's time is its steps: as many lanes as half a percent pays for. Where
# most symbols cost next to nothing there are many steps for few bytes, and up to two percent are paid.
_BYTES_A_LANE, _FEWEST_BYTES_A_LANE, _STEPS = 600, 150, 1 << 14
_THRIFTY_BYTES = 2400  # a lane

# A step of numpy takes as long as so many symbols one by one. A block of few images has as few lanes.
_FEW_LANES = 24
_SMALL = 1 << 12  # entries of a bank

Integers = NDArray[np.int64]


def lane_count(bits: float, symbols: int, thrifty: bool = False) -> int:
    """How many lanes code so much information in so many symbols: 1 to 1,024.

    Thrifty: as few as bytes want, where the coder's time does not count.
    """
    size = bits / 8
    least = 2 * symbols / MAX_STEPS  # twice, as it is rounded down
    if thrifty:
        wanted = max(size / _THRIFTY_BYTES, least)
    else:
        fast = min(symbols / _STEPS, size / _FEWEST_BYTES_A_LANE)
        wanted = max(size / _BYTES_A_LANE, fast, least)
    return max(1, min(_LANES_MAX, int(wanted)))


class Encoder:
    """Codes all images as one byte string; see `coders.Encoder`. The layout is in docs/format.md."""

    def __init__(self, bank: Bank, stages: int | None = 1) -> None:
        """Of so many stages; None: of any number, in which no symbol is beyond the radius."""
        self._bank, self._left = bank, stages
        # In a quarter of the bytes of what is calculated with: a photograph has millions.
        self._widths: list[NDArray[np.uint16]] = []
        self._starts: list[NDArray[np.uint16]] = []
        self._bits = 0.0
        self._escaped: list[int] = []  # symbols of the last stage that are beyond the radius

    def push(self, rows: Rows, symbols: Symbols) -> None:
        bank = self._bank
        entries = bank.entries(symbols)
        self._append(bank, rows, entries)
        self._bits += float(bank.bits(rows, symbols).sum(axis=1).sum())
        escaped = symbols[entries == bank.escape].tolist()
        if self._left is None:
            if escaped:
                raise ValueError(f"expected symbols of at most {bank.radius}, found {escaped[0]}")
            return
        self._left -= 1
        if not self._left:
            self._escaped = escaped
        elif escaped:
            # The next stage may depend on them, so they cannot wait for the end.
            numbers = np.array([tables.escape_number(s, bank.radius) - 1 for s in escaped])
            halves = np.stack([numbers >> 8, numbers & 0xFF], axis=1)
            self._append(tables.uniform(256), np.zeros(1, np.int64), halves)

    def finish(self, lanes: int | None = None, thrifty: bool = False) -> bytes:
        """The block, with 1 to 1,024 lanes: few for the least bytes, many for speed, or `lane_count`."""
        count = sum(part.size for part in self._widths)
        lanes = lanes or lane_count(self._bits, count, thrifty)
        low, state_bytes = _WIDE if self._left is None else _NARROW
        state = np.full(lanes, 1 << low, np.int64)
        words = []
        widths, starts = _in_lanes(self._widths, lanes), _in_lanes(self._starts, lanes)
        for step in reversed(range(len(widths))):
            width, start = widths[step].astype(np.int64), starts[step].astype(np.int64)
            width[width == 0] = TOTAL  # of the padded places of the last step
            full = state >= width << low + _WORD_BITS - PRECISION
            words.append(state[full] & 0xFFFF)
            state = np.where(full, state >> _WORD_BITS, state)
            quotient, rest = np.divmod(state, width)
            state = (quotient << PRECISION) + rest + start
        stream = np.concatenate([*words[::-1], np.empty(0, np.int64)])
        states = state.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :state_bytes]
        head = _HEAD.pack(lanes) + states.tobytes()
        escapes = _pack_escapes(self._escaped, self._bank.radius)
        return head + stream.astype("<u2").tobytes() + escapes

    def _append(self, bank: Bank, rows: Rows, entries: Integers) -> None:
        self._widths.append(bank.table[rows, entries].ravel())
        self._starts.append(bank.starts[rows, entries].ravel())


class Decoder:
    """Reads a block; see `coders.Decoder`."""

    def __init__(self, data: bytes, bank: Bank, symbols: int, stages: int | None = 1) -> None:
        """Raises FormatError when the bytes are no block of so many symbols, in all stages together."""
        lanes = _HEAD.unpack_from(data)[0] if len(data) >= _HEAD.size else 0
        if not 1 <= lanes <= _LANES_MAX:
            raise FormatError(f"damaged block: expected 1 to {_LANES_MAX} lanes, found {lanes}")
        low, state_bytes = _WIDE if stages is None else _NARROW
        start = _HEAD.size + state_bytes * lanes
        most = start + tables.MAX_SYMBOL_BYTES * symbols + 1
        if not start <= len(data) <= most:
            raise FormatError(f"damaged block: expected {start} to {most} bytes, found {len(data)}")
        self._bank, self._left = bank, stages
        states = np.frombuffer(data, np.uint8, state_bytes * lanes, _HEAD.size).astype(np.int64)
        self._state = states.reshape(lanes, -1) @ (1 << 8 * np.arange(state_bytes))
        self._least = 1 << low
        if self._state.min() < self._least:
            raise FormatError("damaged block: a state is below the least")
        self._body = memoryview(data)[start:]
        # Where the words end and the escapes begin is known once the words are read.
        self._words = np.frombuffer(self._body[: len(self._body) // 2 * 2], "<u2")
        self._used = 0  # words
        self._place = 0  # symbols, escapes of earlier stages included
        self._rest = ""  # bits behind the last escape

    def pull(self, rows: Rows) -> Symbols:
        radius = self._bank.radius
        entries = self._take(self._bank, rows.ravel())
        symbols = (entries - radius).astype(np.int32)
        escaped = np.flatnonzero(symbols > radius)
        if self._left is None:
            if len(escaped):
                raise FormatError("damaged block: a symbol beyond the radius")
            return symbols.reshape(rows.shape)
        self._left -= 1
        if not self._left:
            symbols[escaped] = self._last_escapes(len(escaped))
        elif len(escaped):
            halves = self._take(tables.uniform(256), np.zeros(2 * len(escaped), np.int64))
            numbers = (halves[::2] << 8) + halves[1::2] + 1
            symbols[escaped] = [tables.escape_symbol(int(number), radius) for number in numbers]
        return symbols.reshape(rows.shape)

    def finish(self) -> None:
        """Raises FormatError unless the lanes end where they began, and nothing is left over."""
        if self._left or np.any(self._state != self._least):
            raise FormatError("damaged block: the coder does not end where it began")
        left = len(self._body) - 2 * self._used if self._left is None else 0
        if left or len(self._rest) >= 8 or "1" in self._rest:
            raise FormatError("damaged block: bytes are left over")

    def _take(self, bank: Bank, rows: Rows) -> Integers:
        """The next alphabet entries (n,), of these tables."""
        self._check_worth(bank, rows)
        few = len(self._state) < _FEW_LANES
        return self._one_by_one(bank, rows) if few else self._by_lanes(bank, rows)

    def _one_by_one(self, bank: Bank, rows: Rows) -> Integers:
        """What `_by_lanes` gives, without numpy."""
        state, lanes, least = self._state.tolist(), len(self._state), self._least
        words = iter(self._words[self._used : self._used + len(rows)].tolist())
        entries, used = [], 0
        try:
            for place, row in enumerate(rows.tolist(), self._place):
                starts, frequencies = bank.lists(row)
                x = state[lane := place % lanes]
                slot = x & TOTAL - 1
                entry = bisect_right(starts, slot) - 1
                entries.append(entry)
                x = frequencies[entry] * (x >> PRECISION) + slot - starts[entry]
                if x < least:
                    x, used = x << _WORD_BITS | next(words), used + 1
                state[lane] = x
        except StopIteration:
            raise FormatError("damaged block: the stream ends too early") from None
        self._state[:], self._used, self._place = state, self._used + used, self._place + len(rows)
        return np.array(entries, np.int64)

    def _by_lanes(self, bank: Bank, rows: Rows) -> Integers:
        keys, flat_starts, frequencies = bank.flat
        if len(keys) > _SMALL:  # those of the tables in use alone, which take less time to search
            used = np.flatnonzero(np.bincount(rows, minlength=len(bank)))
            index = np.zeros(len(bank), np.int64)
            index[used] = np.arange(len(used))
            rows = index[rows]
            keys, flat_starts, frequencies = tables.flat(bank.starts[used], bank.table[used])
        bases = TOTAL * rows.astype(np.int64, copy=False)
        words, lanes, done = self._words, len(self._state), 0
        found = np.empty(len(rows), np.int64)
        while done < len(rows):
            lane = self._place % lanes  # above 0 only where a stage ends within a step
            active = min(lanes - lane, len(rows) - done)
            x, here = self._state[lane : lane + active], slice(done, done + active)
            slot = x & TOTAL - 1
            entry = keys.searchsorted(bases[here] + slot, side="right")
            entry -= 1
            found[here] = entry
            slot -= flat_starts.take(entry)
            x >>= PRECISION
            x *= frequencies.take(entry)
            x += slot
            low = (x < self._least).nonzero()[0]
            end = self._used + len(low)
            if end > len(words):
                raise FormatError("damaged block: the stream ends too early")
            x[low] = (x[low] << _WORD_BITS) | words[self._used : end]
            self._used, self._place, done = end, self._place + active, done + active
        found %= bank.starts.shape[1]
        return found

    def _check_worth(self, bank: Bank, rows: Rows) -> None:
        """Raises FormatError, before any work, when symbols take too long, or more bytes than are left.

        A state near its least may lose half of what a likely symbol costs, never more.
        """
        lanes = len(self._state)
        if lanes < _LANES_MAX and self._place + len(rows) > MAX_STEPS * lanes:
            expected = f"expected at most {MAX_STEPS:,} steps"
            raise FormatError(f"{expected} of the coder, found more")
        # A state holds a word at most.
        left = _WORD_BITS * (lanes + len(self._words) - self._used)
        if float(bank.least_bits[rows].sum()) > 2 * left + lanes:
            raise FormatError("damaged block: the stream ends too early")

    def _last_escapes(self, count: int) -> list[int]:
        """The symbols behind the words, in Elias gamma code."""
        data = self._body[2 * self._used :]
        if len(data) > _ESCAPE_BYTES * count + 1:
            raise FormatError("damaged block: bytes are left over")
        bits = format(int.from_bytes(data, "big"), f"0{8 * len(data)}b") if data else ""
        place, symbols = 0, []
        for _ in range(count):
            one = bits.find("1", place)
            end = 2 * one - place + 1
            # No escape has more: a number of thousands of digits would be slow, or refused by Python.
            if one < 0 or one - place > tables.MAX_SYMBOL.bit_length() or end > len(bits):
                raise FormatError("damaged block: an escape has no end")
            symbols.append(tables.escape_symbol(int(bits[one:end], 2), self._bank.radius))
            place = end
        self._rest = bits[place:]
        return symbols


def _in_lanes(parts: list[NDArray[np.uint16]], lanes: int) -> NDArray[np.uint16]:
    """Arrays one behind the other -> (steps, lanes) in reading order, the last step filled with zeros."""
    count = sum(part.size for part in parts)
    steps = -(-count // lanes)
    padded = np.zeros(steps * lanes, np.uint16)
    np.concatenate([*parts, np.empty(0, np.uint16)], out=padded[:count])
    return padded.reshape(steps, lanes)


def _pack_escapes(symbols: list[int], radius: int) -> bytes:
    codes = (tables.escape_bits(symbol, radius) for symbol in symbols)
    bits = "".join(format(value, f"0{count}b") for value, count in codes)
    size = math.ceil(len(bits) / 8)
    return int(bits.ljust(8 * size, "0") or "0", 2).to_bytes(size, "big")
