"""Frequency tables, and the memory that they take."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cvae.bitstream import exact
from cvae.bitstream.tables import PRECISION, TOTAL, Bank

from ..strategies import make_bank


def bank_of(tables: int, alphabet: int) -> Bank:
    """Tables of all sorts, from flat ones to nearly certain ones."""
    rng = np.random.default_rng(0)
    return make_bank(rng.random((tables, alphabet)) ** rng.integers(0, 30, (tables, 1)))


def held(bank: Bank) -> int:
    """Bytes of all arrays that a bank keeps."""
    return sum(value.nbytes for value in vars(bank).values() if isinstance(value, np.ndarray))


@pytest.fixture
def symbols() -> NDArray[np.int32]:
    return np.random.default_rng(1).integers(-40, 41, (1, 3000)).astype(np.int32)


def test_starts_and_bits_are_those_of_the_frequencies(symbols: NDArray[np.int32]) -> None:
    bank = bank_of(3000, 100)
    frequencies = bank.table.astype(np.int64)
    assert np.array_equal(bank.starts, np.cumsum(frequencies, axis=1) - frequencies)
    rows = np.arange(3000)
    expected = PRECISION - np.log2(frequencies[rows, symbols[0] + bank.radius])
    assert np.array_equal(bank.bits(rows, symbols)[0], expected)
    p = frequencies / TOTAL
    assert np.allclose(bank.entropies, -(p * np.log2(p)).sum(axis=1))


def test_coding_with_tables_takes_no_more_than_as_much_again(symbols: NDArray[np.int32]) -> None:
    bank, rows = bank_of(3000, 100), np.arange(3000)
    coder = exact.Encoder(bank)
    coder.push(rows, symbols)
    bank.bits(rows, symbols)
    assert held(bank) <= 2 * bank.table.nbytes + 8 * len(bank)


def test_a_decoder_keeps_few_tables_as_python_integers(symbols: NDArray[np.int32]) -> None:
    bank, rows = bank_of(3000, 1024), np.arange(3000)
    coder = exact.Encoder(bank)
    coder.push(rows, symbols)
    (payload,) = coder.finish()
    decoder = exact.Decoder(payload, bank, 3000)
    assert np.array_equal(decoder.pull(rows[np.newaxis]), symbols)
    assert len(decoder._tables) * 1024 <= exact._KEPT + 1024
    decoder.finish()
