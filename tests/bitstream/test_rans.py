"""The coder of blocks of images."""

from __future__ import annotations

import contextlib
import hashlib
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvae.bitstream import rans
from cvae.bitstream.tables import Bank, Rows, Symbols
from cvae.errors import FormatError

from ..strategies import Case, coded, make_bank
from .test_exact import GOLDEN, golden


def encode(case: Case, lanes: int | None = None) -> bytes:
    coder = rans.Encoder(case.bank)
    coder.push(case.rows, case.symbols)
    return coder.finish(lanes)


def decode(data: bytes, images: int, bank: Bank, rows: Rows) -> Symbols:
    coder = rans.Decoder(data, bank, images * len(rows))
    symbols = coder.pull(np.broadcast_to(rows, (images, len(rows))))
    coder.finish()
    return symbols


@settings(deadline=None)
@given(coded(max_images=60))
def test_a_block_survives_encoding_and_decoding(case: Case) -> None:
    found = decode(encode(case), len(case.symbols), case.bank, case.rows)
    assert np.array_equal(found, case.symbols)


@settings(deadline=None)
@given(coded(max_images=60), st.integers(1, 1024))
def test_a_decoder_takes_any_number_of_lanes(case: Case, lanes: int) -> None:
    found = decode(encode(case, lanes), len(case.symbols), case.bank, case.rows)
    assert np.array_equal(found, case.symbols)


@pytest.mark.parametrize("lanes", [0, 1025, 65535])
def test_a_number_of_lanes_out_of_range_is_refused(lanes: int) -> None:
    block = lanes.to_bytes(2, "little") + bytes(8 * 65536)
    with pytest.raises(FormatError, match="lanes"):
        decode(block, 3, *golden()[:2])


def test_a_block_of_ten_thousand_images_costs_its_information_and_one_percent() -> None:
    rng = np.random.default_rng(0)
    weights = np.exp(-np.abs(np.arange(-10, 12)) / rng.uniform(1, 4, (16, 1)))
    bank, rows = make_bank(weights), np.arange(16)
    shares = bank.table / bank.table.sum(axis=1, keepdims=True)
    symbols = np.stack([rng.choice(22, 10_000, p=row) for row in shares], axis=1) - 10
    symbols = symbols.astype(np.int32)  # the escape entry comes out as a symbol beyond the radius
    block = encode(Case(bank, rows, symbols))
    assert len(block) <= 1.01 * bank.bits(rows, symbols).sum() / 8


@given(coded(max_images=20), st.binary(max_size=300))
def test_any_bytes_decode_or_are_refused(case: Case, data: bytes) -> None:
    with contextlib.suppress(FormatError):
        decode(data, len(case.symbols), case.bank, case.rows)


@given(coded(max_images=20), st.data())
def test_a_truncated_block_is_refused(case: Case, data: st.DataObject) -> None:
    block = encode(case)
    cut = data.draw(st.integers(0, len(block) - 1))
    with pytest.raises(FormatError, match="damaged"):
        decode(block[:cut], len(case.symbols), case.bank, case.rows)


def repeated(times: int) -> Case:
    case = golden()
    return case._replace(symbols=np.tile(case.symbols, (times, 1)))


def test_golden_block() -> None:
    case = repeated(40)
    block = bytes.fromhex(GOLDEN["block_of_40_repeats"])
    assert encode(case) == block
    assert np.array_equal(decode(block, len(case.symbols), *case[:2]), case.symbols)


def test_golden_block_of_several_lanes() -> None:
    case = repeated(2000)
    block = encode(case)
    assert int.from_bytes(block[:2], "little") > 1
    assert hashlib.sha256(block).hexdigest() == GOLDEN["sha256_of_the_block_of_2000_repeats"]
    assert np.array_equal(decode(block, len(case.symbols), *case[:2]), case.symbols)


def escaped_block(bits: str) -> bytes:
    """A block of one image of one symbol, the entry that escapes, with these bits behind it."""
    bank, rows = one_symbol()
    block = encode(Case(bank, rows, np.array([[bank.radius + 1]], np.int32)))
    stream = block[:-1]  # the escape of the nearest symbol is one byte
    return stream + int(bits, 2).to_bytes(len(bits) // 8, "big")


def one_symbol() -> tuple[Bank, Rows]:
    return make_bank(np.ones((1, 22))), np.zeros(1, int)


def test_an_escape_longer_than_any_symbol_is_refused() -> None:
    bank, rows = one_symbol()
    assert decode(escaped_block("10000000"), 1, bank, rows)[0, 0] == bank.radius + 1
    for zeros in (17, 20_000):
        bits = "0" * zeros + "1" + "0" * zeros
        bits += "0" * (-len(bits) % 8)
        with pytest.raises(FormatError, match=r"no end|bytes"):
            decode(escaped_block(bits), 1, bank, rows)


def test_a_block_of_more_bytes_than_its_symbols_can_need_is_refused_unread() -> None:
    data = (1).to_bytes(2, "little") + bytes(1 << 26)
    tracemalloc.start()
    with pytest.raises(FormatError, match="bytes"):
        decode(data, 1, *one_symbol())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def nearly_certain(share: float) -> Bank:
    """One table in which a symbol has this share."""
    weights = np.full((1, 22), (1 - share) / 21)
    weights[0, 10] = share
    return make_bank(weights)


@settings(deadline=None)
@given(
    st.sampled_from([0.3, 0.6, 0.9, 0.99, 0.9999, 1]), st.integers(1, 1024), st.integers(0, 60_000)
)
def test_likely_symbols_are_worth_their_bytes_however_few_these_are(
    share: float, lanes: int, count: int
) -> None:
    case = Case(nearly_certain(share), np.zeros(1, int), np.zeros((count, 1), np.int32))
    found = decode(encode(case, lanes), count, case.bank, case.rows)
    assert np.array_equal(found, case.symbols)


def test_a_few_bytes_that_claim_millions_of_symbols_are_refused_at_once() -> None:
    bank, rows = nearly_certain(1), np.zeros(1, int)
    for lanes, size in ((1, 10), (1, 100), (30, 0), (1024, 0)):
        data = lanes.to_bytes(2, "little") + b"\xff\xff\xff\x7f" * lanes + bytes(size)
        started = time.perf_counter()
        with pytest.raises(FormatError, match=r"ends too early|steps"):
            decode(data, 1 << 22, bank, rows)
        assert time.perf_counter() - started < 1


def test_a_block_that_takes_too_many_steps_is_refused_before_the_first() -> None:
    count = rans.MAX_STEPS + 1
    case = Case(nearly_certain(0.9), np.zeros(1, int), np.zeros((count, 1), np.int32))
    started = time.perf_counter()
    data = (1).to_bytes(2, "little") + b"\x00\x00\x01\x00" + bytes(count)
    with pytest.raises(FormatError, match="steps"):
        decode(data, count, case.bank, case.rows)
    assert time.perf_counter() - started < 1


def test_the_encoder_takes_as_many_lanes_as_keep_the_steps_within_the_bound() -> None:
    for symbols in (1, 1 << 17, 1 << 18, (1 << 18) + 1, 1 << 22, 80_000_000):
        for bits in (0, 100, 1e5):
            assert symbols <= rans.MAX_STEPS * rans.lane_count(bits, symbols)
    count = 3 * rans.MAX_STEPS
    case = Case(nearly_certain(1), np.zeros(1, int), np.zeros((count, 1), np.int32))
    assert np.array_equal(decode(encode(case), count, case.bank, case.rows), case.symbols)


def test_bytes_that_no_escape_takes_are_refused_unread() -> None:
    bank, rows = one_symbol()
    block = encode(Case(bank, rows, np.zeros((20_000, 1), np.int32)))
    tracemalloc.start()
    with pytest.raises(FormatError, match="left over"):
        decode(block + bytes(70_000), 20_000, bank, rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20
