"""Integer frequency tables: the entropy model that both coders share.

A symbol within the radius is an entry of its table's alphabet. One beyond it is the escape entry,
followed by bits for how far beyond.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from cvae.errors import FormatError

Symbols = NDArray[np.int32]
Rows = NDArray[np.integer]  # numbers of tables, one a symbol

PRECISION = 16  # bits of a frequency
TOTAL = 1 << PRECISION
MAX_SYMBOL = 1 << 15  # largest |symbol| of the format
# A table entry has 16 bits at most, the longest escape 33: no coder needs more bytes a symbol.
MAX_SYMBOL_BYTES = 7
MAX_ALPHABET = 1024


@dataclass(frozen=True, eq=False)
class Bank:
    """The frequency tables of a model; each symbol names the row that it uses.

    `table` has shape (tables, alphabet), every frequency at least 1, every row summing to 2^16.
    The alphabet of a row is -radius .. radius, then the escape: 2 * radius + 2 entries.
    """

    table: NDArray[np.uint16]

    def __post_init__(self) -> None:
        """Raises ValueError when the array holds no tables; it may come from a hostile file."""
        table = self.table
        fits = table.ndim == 2 and 4 <= table.shape[1] <= MAX_ALPHABET and table.shape[1] % 2 == 0
        if table.dtype != np.uint16 or not fits:
            raise ValueError(
                f"expected a bank of uint16 (tables, even alphabet), found {table.dtype} {table.shape}"
            )
        sums = table.sum(axis=1, dtype=np.int64)
        if table.size == 0 or table.min() < 1 or np.any(sums != TOTAL):
            raise ValueError("expected frequencies of at least 1 that sum to 65536 in each table")

    def __len__(self) -> int:
        return len(self.table)

    @property
    def radius(self) -> int:
        """The largest |symbol| that needs no escape."""
        return int(self.table.shape[1]) // 2 - 1

    @property
    def escape(self) -> int:
        """The alphabet's last entry, which announces a symbol beyond the radius."""
        return int(self.table.shape[1]) - 1

    @cached_property
    def starts(self) -> NDArray[np.uint16]:
        """Cumulative frequencies before each entry: (tables, alphabet)."""
        # The last sum, 2^16, is 0 here, and comes out right again.
        sums: NDArray[np.uint16] = np.cumsum(self.table, axis=1, dtype=np.uint16)
        return sums - self.table

    @cached_property
    def flat(self) -> tuple[NDArray[np.int64], ...]:
        """See `flat`."""
        return flat(self.starts, self.table)

    @cached_property
    def _lists(self) -> dict[int, tuple[list[int], list[int]]]:
        return {}

    def lists(self, row: int) -> tuple[list[int], list[int]]:
        """Starts and frequencies of one table, for work without numpy."""
        found = self._lists.get(row)
        if found is None:
            found = self._lists[row] = self.starts[row].tolist(), self.table[row].tolist()
        return found

    @cached_property
    def entropies(self) -> NDArray[np.float64]:
        """The mean information content of a symbol of each table, in bits, escapes as one: (tables,)."""
        p = self.table / TOTAL
        return np.asarray(-np.sum(p * np.log2(p), axis=1))

    @cached_property
    def least_bits(self) -> NDArray[np.float64]:
        """The information of each table's likeliest entry: no symbol costs less. (tables,)"""
        return np.asarray(_bits_of_frequencies()[self.table.max(axis=1)])

    def entries(self, symbols: Symbols) -> NDArray[np.int64]:
        """Symbols as places in the alphabet. Raises ValueError when one is beyond the format's range."""
        magnitude = np.abs(symbols)
        if symbols.size and (largest := int(magnitude.max())) > MAX_SYMBOL:
            raise ValueError(f"expected |symbol| <= {MAX_SYMBOL}, found {largest}")
        places = symbols.astype(np.int64) + self.radius
        return np.where(magnitude > self.radius, self.escape, places)

    def bits(self, rows: Rows, symbols: Symbols) -> NDArray[np.float64]:
        """Information content of each symbol in bits, escapes included; the arrays broadcast."""
        magnitude = np.abs(symbols)
        escaped = magnitude > self.radius
        entries = np.where(escaped, self.escape, symbols + self.radius)
        bits = _bits_of_frequencies()[self.table[rows, entries]]
        if escaped.any():
            # As `escape_bits`: frexp gives the length of a number in bits.
            number = 2 * (magnitude - self.radius - 1) + (symbols < 0) + 1
            bits = bits + np.where(escaped, 2 * np.frexp(number)[1] - 1, 0)
        return np.asarray(bits, np.float64)


def flat(starts: NDArray[np.uint16], table: NDArray[np.uint16]) -> tuple[NDArray[np.int64], ...]:
    """Of tables (tables, alphabet), flat arrays (tables * alphabet,): sorted starts, starts, frequencies.

    Of the sorted ones each table begins `TOTAL` behind the one before: a search finds table and entry.
    """
    sorted_starts = (starts + TOTAL * np.arange(len(starts))[:, np.newaxis]).ravel()
    return sorted_starts, starts.ravel().astype(np.int64), table.ravel().astype(np.int64)


@cache
def _bits_of_frequencies() -> NDArray[np.float64]:
    """The information content of an entry by its frequency, for the tables of all models; of 0 none."""
    return np.concatenate([[0], PRECISION - np.log2(np.arange(1, TOTAL, dtype=np.int64))])


@cache
def uniform(size: int) -> Bank:
    """One table in which so many entries, a power of two, are equally likely."""
    return Bank(np.full((1, size), TOTAL // size, np.uint16))


def escape_number(symbol: int, radius: int) -> int:
    """The zigzagged distance n >= 1 of a symbol beyond the radius; at most 2^16."""
    return 2 * (abs(symbol) - radius - 1) + (symbol < 0) + 1


def escape_bits(symbol: int, radius: int) -> tuple[int, int]:
    """The bits after an escape, as (value, count): its number in Elias gamma code."""
    number = escape_number(symbol, radius)
    return number, 2 * number.bit_length() - 1


def escape_symbol(number: int, radius: int) -> int:
    """The inverse of `escape_number`. Raises FormatError when the symbol is out of range."""
    magnitude = (number - 1 >> 1) + radius + 1
    if magnitude > MAX_SYMBOL:
        raise FormatError(f"damaged: expected |symbol| <= {MAX_SYMBOL}, found {magnitude}")
    return -magnitude if number - 1 & 1 else magnitude
