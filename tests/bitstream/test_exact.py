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

from cvae.bitstream import exact as entropy
from cvae.bitstream.tables import MAX_SYMBOL, Symbols, Tables, information_bits
from cvae.errors import FormatError

from ..strategies import coded, make_tables

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "coders.json").read_text())


def golden_tables() -> Tables:
    return Tables(np.array(GOLDEN["bank"], np.uint16), np.array(GOLDEN["index"], np.uint16))


@given(coded())
def test_symbols_survive_encoding_and_decoding(case: tuple[Tables, Symbols]) -> None:
    tables, symbols = case
    payloads = entropy.encode_images(symbols, tables)
    assert [entropy.decode_image(payload, tables) for payload in payloads] == symbols.tolist()


@given(coded())
def test_a_payload_is_never_longer_than_its_information_rounded_up(
    case: tuple[Tables, Symbols],
) -> None:
    tables, symbols = case
    payloads = entropy.encode_images(symbols, tables)
    bits = information_bits(symbols, tables)
    # The logarithms of the information content are only good to about 1e-9.
    assert all(len(p) <= math.ceil((b - 1e-6) / 8) for p, b in zip(payloads, bits, strict=True))


@given(coded())
def test_a_payload_is_the_one_that_the_format_describes(case: tuple[Tables, Symbols]) -> None:
    tables, symbols = case
    for image, payload in zip(
        symbols.tolist(), entropy.encode_images(symbols, tables), strict=True
    ):
        low, width = Fraction(0), Fraction(1)
        for element, symbol in enumerate(image):
            row = tables.bank[tables.index[element]].astype(int).tolist()
            entry = symbol + tables.radius if abs(symbol) <= tables.radius else tables.escape
            low += width * Fraction(sum(row[:entry]), 1 << 16)
            width *= Fraction(row[entry], 1 << 16)
            if entry == tables.escape:
                number = 2 * (abs(symbol) - tables.radius - 1) + (symbol < 0) + 1
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
        entropy.decode_image(b"\xff" * 10**7, golden_tables())


@given(coded(max_images=1), st.binary(max_size=60))
def test_any_bytes_decode_to_symbols_that_encode_to_them_or_are_refused(
    case: tuple[Tables, Symbols], payload: bytes
) -> None:
    tables, _ = case
    try:
        symbols = entropy.decode_image(payload, tables)
    except FormatError:
        return
    assert entropy.encode_images(np.array([symbols], np.int32), tables) == [payload]


def test_golden_payloads() -> None:
    tables = golden_tables()
    symbols = np.array(GOLDEN["symbols"], np.int32)
    payloads = [bytes.fromhex(text) for text in GOLDEN["payloads"]]
    assert entropy.encode_images(symbols, tables) == payloads
    assert [entropy.decode_image(payload, tables) for payload in payloads] == symbols.tolist()


def test_the_likeliest_symbols_of_a_sure_table_need_no_byte() -> None:
    tables = make_tables(np.array([[0.0, 1e9, 0.0, 0.0]]), [0] * 16)
    zeros = np.zeros((1, 16), np.int32)
    # 16 times -log2(65533 / 65536) is a thousandth of a bit, but only an interval from 0 needs none.
    assert len(entropy.encode_images(zeros, tables)[0]) <= 1


def test_symbols_beyond_the_format_are_refused() -> None:
    tables = golden_tables()
    with pytest.raises(ValueError, match="32768"):
        entropy.encode_images(np.full((1, tables.elements), MAX_SYMBOL + 1, np.int32), tables)


def test_an_endless_escape_is_refused() -> None:
    # The escape entry has nearly all probability and its bits are all zeros.
    tables = make_tables(np.array([[0.0, 0.0, 0.0, 1.0]]), [0])
    with pytest.raises(FormatError, match="no end"):
        entropy.decode_image(b"\x00\x03" + b"\x00" * 6, tables)


@pytest.mark.parametrize(
    ("bank", "index"),
    [
        ([[1, 1, 1, 1]], [0]),  # does not sum to 2^16
        ([[0, 65534, 1, 1]], [0]),  # an impossible symbol
        ([[65533, 1, 1, 1]], [1]),  # no such table
        ([[65534, 1, 1]], [0]),  # an odd alphabet
    ],
)
def test_tables_that_are_none_are_refused(bank: list[list[int]], index: list[int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Tables(np.array(bank, np.uint16), np.array(index, np.uint16))
