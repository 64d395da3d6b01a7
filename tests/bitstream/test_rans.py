"""The coder of blocks of images."""

from __future__ import annotations

import contextlib
import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvae.bitstream import rans
from cvae.bitstream.tables import Symbols, Tables, information_bits
from cvae.errors import FormatError

from ..bitstream.test_exact import GOLDEN, golden_tables
from ..strategies import coded, make_tables


@settings(deadline=None)
@given(coded(max_images=60))
def test_a_block_survives_encoding_and_decoding(case: tuple[Tables, Symbols]) -> None:
    tables, symbols = case
    block = rans.encode_block(symbols, tables)
    assert np.array_equal(rans.decode_block(block, len(symbols), tables), symbols)


@settings(deadline=None)
@given(coded(max_images=60), st.integers(1, 1024))
def test_a_decoder_takes_any_number_of_lanes(case: tuple[Tables, Symbols], lanes: int) -> None:
    tables, symbols = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rans, "lane_count", lambda *_: lanes)
        block = rans.encode_block(symbols, tables)
    assert np.array_equal(rans.decode_block(block, len(symbols), tables), symbols)


@pytest.mark.parametrize("lanes", [0, 1025, 65535])
def test_a_number_of_lanes_out_of_range_is_refused(lanes: int) -> None:
    block = lanes.to_bytes(2, "little") + bytes(8 * 65536)
    with pytest.raises(FormatError, match="lanes"):
        rans.decode_block(block, 3, golden_tables())


def test_a_block_of_ten_thousand_images_costs_its_information_and_one_percent() -> None:
    rng = np.random.default_rng(0)
    weights = np.exp(-np.abs(np.arange(-10, 12)) / rng.uniform(1, 4, (16, 1)))
    tables = make_tables(weights, list(range(16)))
    shares = tables.bank / tables.bank.sum(axis=1, keepdims=True)
    symbols = np.stack([rng.choice(22, 10_000, p=row) for row in shares], axis=1) - 10
    symbols = symbols.astype(np.int32)  # the escape entry comes out as a symbol beyond the radius
    block = rans.encode_block(symbols, tables)
    assert len(block) <= 1.01 * information_bits(symbols, tables).sum() / 8


@given(coded(max_images=20), st.binary(max_size=300))
def test_any_bytes_decode_or_are_refused(case: tuple[Tables, Symbols], data: bytes) -> None:
    tables, symbols = case
    with contextlib.suppress(FormatError):
        rans.decode_block(data, len(symbols), tables)


@given(coded(max_images=20), st.data())
def test_a_truncated_block_is_refused(case: tuple[Tables, Symbols], data: st.DataObject) -> None:
    tables, symbols = case
    block = rans.encode_block(symbols, tables)
    cut = data.draw(st.integers(0, len(block) - 1))
    with pytest.raises(FormatError, match="damaged"):
        rans.decode_block(block[:cut], len(symbols), tables)


def test_golden_block() -> None:
    tables = golden_tables()
    symbols = np.array(GOLDEN["symbols"] * 40, np.int32)
    block = bytes.fromhex(GOLDEN["block_of_40_repeats"])
    assert rans.encode_block(symbols, tables) == block
    assert np.array_equal(rans.decode_block(block, len(symbols), tables), symbols)


def test_golden_block_of_several_lanes() -> None:
    tables = golden_tables()
    symbols = np.array(GOLDEN["symbols"] * 2000, np.int32)
    block = rans.encode_block(symbols, tables)
    assert int.from_bytes(block[:2], "little") > 1
    assert hashlib.sha256(block).hexdigest() == GOLDEN["sha256_of_the_block_of_2000_repeats"]
    assert np.array_equal(rans.decode_block(block, len(symbols), tables), symbols)


def escaped_block(bits: str) -> bytes:
    """A block of one image of one symbol, the entry that escapes, with these bits behind it."""
    tables = one_symbol_tables()
    block = rans.encode_block(np.array([[tables.radius + 1]], np.int32), tables)
    stream = block[:-1]  # the escape of the nearest symbol is one byte
    return stream + int(bits, 2).to_bytes(len(bits) // 8, "big")


def one_symbol_tables() -> Tables:
    return make_tables(np.ones((1, 22)), [0])


def test_an_escape_longer_than_any_symbol_is_refused() -> None:
    tables = one_symbol_tables()
    assert rans.decode_block(escaped_block("10000000"), 1, tables)[0, 0] == tables.radius + 1
    for zeros in (17, 20_000):
        bits = "0" * zeros + "1" + "0" * zeros
        bits += "0" * (-len(bits) % 8)
        with pytest.raises(FormatError, match=r"no end|bytes"):
            rans.decode_block(escaped_block(bits), 1, tables)


def test_a_block_of_more_bytes_than_its_symbols_can_need_is_refused_unread() -> None:
    data = (1).to_bytes(2, "little") + bytes(1 << 26)
    tracemalloc.start()
    with pytest.raises(FormatError, match="bytes"):
        rans.decode_block(data, 1, one_symbol_tables())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
