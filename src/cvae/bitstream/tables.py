"""The integer frequency tables that both coders share: the entropy model of one quality.

A symbol within the radius is an entry of its table's alphabet. One beyond it is the escape entry,
followed by Exp-Golomb bits for how far beyond.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cvae.errors import FormatError

Symbols = NDArray[np.int32]  # (images, elements)

PRECISION = 16  # bits of a frequency
TOTAL = 1 << PRECISION
MAX_SYMBOL = 1 << 15  # largest |symbol| of the format
# A table entry has 16 bits at most, the longest escape 33: no coder needs more bytes a symbol.
MAX_SYMBOL_BYTES = 7
MAX_ALPHABET = 1024


@dataclass(frozen=True, eq=False)
class Tables:
    """The frequency tables of one quality.

    `bank` has shape (tables, alphabet), every frequency at least 1, every row summing to 2^16.
    The alphabet of a row is -radius .. radius, then the escape: 2 * radius + 2 entries.
    `index` (elements,) says which row a latent element uses.
    """

    bank: NDArray[np.uint16]
    index: NDArray[np.uint16]

    def __post_init__(self) -> None:
        """Raises ValueError when the arrays are no tables; they may come from a hostile file."""
        if (
            self.bank.dtype != np.uint16
            or self.bank.ndim != 2
            or not 4 <= self.bank.shape[1] <= MAX_ALPHABET
            or self.bank.shape[1] % 2
        ):
            raise ValueError(
                f"expected a bank of uint16 (tables, even alphabet), "
                f"found {self.bank.dtype} {self.bank.shape}"
            )
        if (
            self.bank.size == 0
            or self.bank.min() < 1
            or np.any(self.bank.sum(axis=1, dtype=np.int64) != TOTAL)
        ):
            raise ValueError("expected frequencies of at least 1 that sum to 65536 in each table")
        if self.index.dtype != np.uint16 or self.index.ndim != 1 or self.index.size == 0:
            raise ValueError(f"expected an index of uint16 (elements,), found {self.index.dtype}")
        if int(self.index.max()) >= len(self.bank):
            raise ValueError(
                f"expected table numbers below {len(self.bank)}, found {self.index.max()}"
            )

    @property
    def elements(self) -> int:
        """How many symbols an image has."""
        return len(self.index)

    @property
    def radius(self) -> int:
        """The largest |symbol| that needs no escape."""
        return int(self.bank.shape[1]) // 2 - 1

    @property
    def escape(self) -> int:
        """The alphabet's last entry, which announces a symbol beyond the radius."""
        return int(self.bank.shape[1]) - 1

    @cached_property
    def frequencies(self) -> NDArray[np.int64]:
        """The bank in a type to calculate with: (tables, alphabet)."""
        return self.bank.astype(np.int64)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Cumulative frequencies before each entry: (tables, alphabet)."""
        return np.cumsum(self.frequencies, axis=1) - self.frequencies

    @cached_property
    def rows(self) -> list[tuple[list[int], list[int]]]:
        """Frequencies and starts of each element as Python integers, for the exact coder."""
        return [(self.frequencies[i].tolist(), self.starts[i].tolist()) for i in self.index]

    @cached_property
    def _entry_bits(self) -> NDArray[np.float64]:
        """-log2 of the probabilities: (tables, alphabet)."""
        return PRECISION - np.log2(self.frequencies)

    def bits(self, symbols: Symbols) -> NDArray[np.float64]:
        """Information content of each symbol: (images, elements) twice."""
        return self.element_bits(np.arange(self.elements), symbols)

    def element_bits(self, elements: NDArray[np.int64], symbols: Symbols) -> NDArray[np.float64]:
        """Information content of symbols of these elements, escapes included; arrays broadcast."""
        entries = to_entries(symbols, self)
        bits = self._entry_bits[self.index[elements], entries]
        escaped = entries == self.escape
        if escaped.any():
            # As `escape_bits`: frexp gives the length of a number in bits.
            number = 2 * (np.abs(symbols[escaped]) - self.radius - 1) + (symbols[escaped] < 0) + 1
            bits[escaped] += 2 * np.frexp(number)[1] - 1
        return np.asarray(bits, np.float64)


def to_entries(symbols: Symbols, tables: Tables) -> NDArray[np.int64]:
    """Symbols as places in the alphabet; those beyond the radius as the escape."""
    entries = symbols.astype(np.int64) + tables.radius
    beyond = np.abs(symbols) > tables.radius
    entries[beyond] = tables.escape
    return entries


def check_symbols(symbols: Symbols) -> None:
    """Raises ValueError when a symbol is beyond what the format allows."""
    if symbols.size and int(np.abs(symbols).max()) > MAX_SYMBOL:
        raise ValueError(f"expected |symbol| <= {MAX_SYMBOL}, found {int(np.abs(symbols).max())}")


def information_bits(symbols: Symbols, tables: Tables) -> NDArray[np.float64]:
    """Information content of each image in bits under the tables: (images, elements) -> (images,)."""
    return np.asarray(tables.bits(symbols).sum(axis=1))


def escape_bits(symbol: int, radius: int) -> tuple[int, int]:
    """The bits after an escape, as (value, count): a zigzagged distance n >= 1 in Elias gamma."""
    distance = abs(symbol) - radius - 1
    number = 2 * distance + (symbol < 0) + 1
    return number, 2 * number.bit_length() - 1


def escape_symbol(number: int, radius: int) -> int:
    magnitude = (number - 1 >> 1) + radius + 1
    if magnitude > MAX_SYMBOL:
        raise FormatError(f"damaged: expected |symbol| <= {MAX_SYMBOL}, found {magnitude}")
    return -magnitude if number - 1 & 1 else magnitude
