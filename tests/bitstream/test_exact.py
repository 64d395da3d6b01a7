"""The exact coder of one image."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvae.bitstream import exact
from cvae.bitstream.tables import MAX_SYMBOL, Bank, Rows, Symbols
from cvae.errors import FormatError

from ..strategies import Case, coded, make_bank

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "coders.json").read_text())


def golden() -> Case:
    """The tables and symbols that the golden files are of."""
    symbols = np.array(GOLDEN["symbols"], np.int32)
    return Case(Bank(np.array(GOLDEN["bank"], np.uint16)), np.array(GOLDEN["index"]), symbols)


def encode(case: Case) -> list[bytes]:
    coder = exact.Encoder(case.bank, len(case.symbols))
    coder.push(case.rows, case.symbols)
    return coder.finish()


def decode(payload: bytes, bank: Bank, rows: Rows) -> Symbols:
    coder = exact.Decoder(payload, bank, len(rows))
    symbols = coder.pull(rows[np.newaxis])
    coder.finish()
    return symbols[0]


@given(coded())
def test_symbols_survive_encoding_and_decoding(case: Case) -> None:
    decoded = [decode(payload, case.bank, case.rows).tolist() for payload in encode(case)]
    assert decoded == case.symbols.tolist()


@given(coded())
def test_a_payload_is_never_longer_than_its_information_rounded_up(
    case: Case,
) -> None:
    bits = case.bank.bits(case.rows, case.symbols).sum(axis=1)
    # The logarithms of the information content are only good to about 1e-9.
    sizes = zip(map(len, encode(case)), bits, strict=True)
    assert all(size <= math.ceil((b - 1e-6) / 8) for size, b in sizes)


@given(coded())
def test_a_payload_is_the_one_that_the_format_describes(case: Case) -> None:
    bank, rows, symbols = case
    for image, payload in zip(symbols.tolist(), encode(case), strict=True):
        low, width = Fraction(0), Fraction(1)
        for element, symbol in enumerate(image):
            row = bank.table[rows[element]].astype(int).tolist()
            entry = symbol + bank.radius if abs(symbol) <= bank.radius else bank.escape
            low += width * Fraction(sum(row[:entry]), 1 << 16)
            width *= Fraction(row[entry], 1 << 16)
            if entry == bank.escape:
                number = 2 * (abs(symbol) - bank.radius - 1) + (symbol < 0) + 1
                bits = 2 * number.bit_length() - 1
                low += width * Fraction(number, 1 << bits)
                width /= 1 << bits
        for size in itertools.count():
            greatest = math.ceil((low + width) * 256**size) - 1
            if Fraction(greatest, 256**size) >= low:
                break
        assert payload == greatest.to_bytes(size, "big")


def test_payloads_longer_than_any_encoder_writes_are_refused_unread() -> None:
    with pytest.raises(FormatError, match="at most"):
        decode(b"\xff" * 10**7, *golden()[:2])


@given(coded(max_images=1), st.binary(max_size=60))
def test_any_bytes_decode_to_symbols_that_encode_to_them_or_are_refused(
    case: Case, payload: bytes
) -> None:
    try:
        symbols = decode(payload, case.bank, case.rows)
    except FormatError:
        return
    assert encode(case._replace(symbols=symbols[np.newaxis])) == [payload]


def test_golden_payloads() -> None:
    case = golden()
    payloads = [bytes.fromhex(text) for text in GOLDEN["payloads"]]
    assert encode(case) == payloads
    decoded = [decode(payload, case.bank, case.rows).tolist() for payload in payloads]
    assert decoded == case.symbols.tolist()


def test_the_likeliest_symbols_of_a_sure_table_need_no_byte() -> None:
    bank, rows = make_bank(np.array([[0.0, 1e9, 0.0, 0.0]])), np.zeros(16, int)
    zeros = np.zeros((1, 16), np.int32)
    # 16 times -log2(65533 / 65536) is a thousandth of a bit, but only an interval from 0 needs none.
    assert len(encode(Case(bank, rows, zeros))[0]) <= 1


def test_symbols_beyond_the_format_are_refused() -> None:
    case = golden()
    with pytest.raises(ValueError, match="32768"):
        encode(case._replace(symbols=np.full_like(case.symbols, MAX_SYMBOL + 1)))


def test_an_endless_escape_is_refused() -> None:
    # The escape entry has nearly all probability and its bits are all zeros.
    bank = make_bank(np.array([[0.0, 0.0, 0.0, 1.0]]))
    with pytest.raises(FormatError, match="no end"):
        decode(b"\x00\x03" + b"\x00" * 6, bank, np.zeros(1, int))


@pytest.mark.parametrize(
    "table",
    [
        [[1, 1, 1, 1]],  # does not sum to 2^16
        [[0, 65534, 1, 1]],  # an impossible symbol
        [[65534, 1, 1]],  # an odd alphabet
        [],
    ],
)
def test_tables_that_are_none_are_refused(table: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Bank(np.array(table, np.uint16))
