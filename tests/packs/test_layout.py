"""Packs as bytes: blocks, index, damage."""

from __future__ import annotations

import io
import json
import struct
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvae.bitstream import container
from cvae.errors import CvaeError, FormatError, UnsupportedError
from cvae.packs import layout
from cvae.packs import reader as readers
from cvae.packs.layout import Block, Header
from cvae.packs.reader import Damage, FileReader

from ..bitstream.test_exact import GOLDEN, golden
from ..bitstream.test_rans import decode as decode_block
from ..bitstream.test_rans import encode as encode_block

PACKS = json.loads((Path(__file__).parents[1] / "golden" / "packs.json").read_text())

names = st.text("aä/.\\\n😀", max_size=6)
sizes = st.tuples(st.integers(1, 65535), st.integers(1, 65535))


@st.composite
def packs(draw: st.DrawFn) -> tuple[Header, list[Block]]:
    header = Header(
        draw(st.integers(0, 65535)), draw(st.integers(1, 100)),
        draw(st.booleans()), draw(st.booleans()), draw(st.booleans()),
    )  # fmt: skip
    blocks = []
    for _ in range(draw(st.integers(0, 4))):
        count = draw(st.integers(1, 5))
        lists = {"min_size": count, "max_size": count}
        blocks.append(
            Block(
                count,
                draw(st.binary(max_size=50)),
                draw(st.lists(names, **lists)) if header.names else None,
                draw(st.lists(sizes, **lists)) if header.sizes else None,
            )
        )
    return header, blocks


def written(header: Header, blocks: list[Block]) -> bytes:
    buffer = io.BytesIO()
    writer = layout.Writer(buffer, header)
    for block in blocks:
        writer.write(block)
    writer.close()
    assert writer.size == len(buffer.getvalue())
    return buffer.getvalue()


def opened(data: bytes) -> FileReader:
    return readers.open_file(io.BytesIO(data))


HEADER = Header(0xBEEF, 50, names=True, sizes=True)
BLOCKS = [
    Block(2, bytes(range(10 * i, 10 * i + 30)), [f"{i}/a.png", f"{i}/b.png"], [(28, 30), (1, 2)])
    for i in range(4)
]
SMALL = written(HEADER, BLOCKS)
SIZE_OF_INDEX = 41 + 12 * len(BLOCKS)


def whole(reader: FileReader) -> dict[int, Block]:
    """The blocks that can be read, by the number of their first image."""
    found = {}
    for place in reader.places:
        try:
            found[place.first] = reader.read(place)
        except FormatError:
            assert reader.damage_in([(place.first, place.first + place.images)])
    return found


@settings(deadline=None, max_examples=50)
@given(packs())
def test_a_pack_survives_writing_and_reading(case: tuple[Header, list[Block]]) -> None:
    header, blocks = case
    reader = opened(written(header, blocks))
    assert reader.header == header
    assert [reader.read(place) for place in reader.places] == blocks
    assert reader.images == sum(block.images for block in blocks)
    assert not reader.damage
    assert not reader.damage_in([(0, reader.images)])


def test_an_image_is_found_in_its_block() -> None:
    reader = opened(SMALL)
    places = [reader.find(number) for number in range(8)]
    assert [place.ordinal for place in places if place] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert reader.find(8) is reader.find(-1) is None


@settings(deadline=None, max_examples=30)
@given(packs(), st.integers(1, 200))
def test_without_its_index_a_pack_is_walked(case: tuple[Header, list[Block]], cut: int) -> None:
    header, blocks = case
    data = written(header, blocks)
    reader = opened(data[: -min(cut, 41 + 12 * len(blocks))])
    assert [reader.read(place) for place in reader.places] == blocks
    assert "index" in str(reader.damage[0])


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_is_noticed_and_costs_one_block_at_most(flip: int) -> None:
    original = dict(zip((0, 2, 4, 6), BLOCKS, strict=True))
    for at in range(len(SMALL)):
        damaged = bytearray(SMALL)
        damaged[at] ^= flip
        assert container.is_pack_file(io.BytesIO(bytes(damaged)))
        reader = opened(bytes(damaged))
        assert reader.damage_in([(0, 8)]), at
        found = whole(reader)
        assert len(found) >= 3, at
        assert all(original[first] == block for first, block in found.items()), at


def test_two_flipped_bytes_cost_the_index_and_one_block() -> None:
    original = dict(zip((0, 2, 4, 6), BLOCKS, strict=True))
    index = len(SMALL) - SIZE_OF_INDEX
    for at in range(9, index):
        damaged = bytearray(SMALL)
        damaged[at] ^= 0xFF
        damaged[index] ^= 0xFF
        reader = opened(bytes(damaged))
        found = whole(reader)
        assert len(found) >= 3, at
        assert all(original[first] == block for first, block in found.items()), at
        lost = [item for item in reader.damage_in([(0, 8)]) if item.images]
        # What is lost behind the last block that is whole, nobody can know.
        assert sum(item.images for item in lost) == 2 or reader.images == 6


def test_a_pack_cut_off_anywhere_gives_its_whole_blocks() -> None:
    for cut in range(len(SMALL)):
        try:
            reader = opened(SMALL[:cut])
        except FormatError:
            assert cut < 9
            continue
        assert reader.damage
        assert list(whole(reader).values()) == BLOCKS[: len(reader.places)]


def test_a_block_that_is_cut_off_is_named_and_its_images_are_counted() -> None:
    places = opened(SMALL).places
    for last, cut in ((places[2], 36), (places[2], 50), (places[3], places[3].size - 1)):
        reader = opened(SMALL[: last.offset + cut])
        assert reader.places == places[: last.ordinal]
        assert reader.images == last.first + last.images
        (lost,) = [item for item in reader.damage if item.images]
        assert (lost.first, lost.images) == (last.first, last.images)
        assert str(lost) == f"damaged: {last}: it is cut off"


def test_of_a_damaged_pack_that_is_cut_off_every_lost_image_is_counted_once() -> None:
    places = opened(SMALL).places
    damaged = bytearray(SMALL[: places[3].offset + 40])
    damaged[places[2].offset + 6] ^= 1  # the header of the block before it
    reader = opened(bytes(damaged))
    lost = [(item.first, item.images) for item in reader.damage if item.images]
    assert (lost, reader.images) == ([(4, 2), (6, 2)], 8)


def test_a_block_that_reaches_beyond_the_end_is_not_taken_for_the_last() -> None:
    blocks = [Block(2, bytes(300)), Block(2, b"payload")]
    data = written(Header(1, 50), blocks)
    _, last = opened(data).places
    reader = opened(data[:60] + data[last.offset : last.offset + last.size])
    assert [(item.first, item.images) for item in reader.damage if item.images] == [(0, 2)]
    assert (whole(reader), reader.images) == ({2: blocks[1]}, 4)


def test_swapped_blocks_and_blocks_of_another_pack_are_noticed() -> None:
    reader = opened(SMALL)
    first, second = (SMALL[p.offset : p.offset + p.size] for p in reader.places[:2])
    assert len(first) == len(second)
    swapped = SMALL.replace(first + second, second + first)
    assert [damage.first for damage in opened(swapped).damage_in([(0, 8)])] == [0, 2]
    other = written(Header(0xBEEF, 51, names=True, sizes=True), BLOCKS)
    mixed = SMALL.replace(first, other[9 : 9 + len(first)])
    assert [damage.first for damage in opened(mixed).damage_in([(0, 8)])] == [0]


@given(st.binary(max_size=200), st.sampled_from([b"", SMALL[:9], SMALL[:100], SMALL]))
def test_any_bytes_are_a_pack_or_refused(data: bytes, start: bytes) -> None:
    for made_up in (start + data, data + start, start + data + SMALL[-40:]):
        try:
            reader = opened(made_up)
        except FormatError:
            continue
        whole(reader)


def peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("column", ["_pack_names", "_pack_sizes"])
def test_a_column_that_unpacks_to_much_is_refused(
    column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = zlib.compress(bytes(1 << 28))
    monkeypatch.setattr(layout, column, lambda block: bomb)
    reader = opened(written(HEADER, BLOCKS[:1]))

    def read() -> None:
        with pytest.raises(FormatError, match="expected at most"):
            reader.read(reader.places[0])

    assert peak(read) < 1 << 26


class Interrupted(io.BufferedReader):
    """A file where another thread works between a seek and the read behind it, if nothing forbids that."""

    meanwhile: threading.Thread | None = None

    def seek(self, offset: int, whence: int = 0) -> int:
        position = super().seek(offset, whence)
        thread, self.meanwhile = self.meanwhile, None
        if thread is not None:
            thread.start()
            thread.join(0.2)  # longer than it takes; for ever where it has to wait for this thread
        return position


def test_two_threads_read_one_pack() -> None:
    file = Interrupted(io.BytesIO(SMALL))  # type: ignore[arg-type]
    reader = readers.open_file(file)
    found = []
    other = threading.Thread(target=lambda: found.append(reader.read(reader.places[3])))
    file.meanwhile = other
    assert reader.read(reader.places[0]) == BLOCKS[0]
    other.join()
    assert found == [BLOCKS[3]]


def test_lengths_that_are_not_there_allocate_nothing() -> None:
    head = HEADER.to_bytes()
    block = struct.pack(">4sIQIIII", b"\xc1BLK", 0, 0, 65536, 2**32 - 1, 2**32 - 1, 2**32 - 1)
    block += struct.pack(">I", zlib.crc32(head + block))
    index = struct.pack(">4sIQ", b"\xc1IDX", 2**32 - 1, 2**48) + head
    index += struct.pack(">Q", 9)
    trailer = struct.pack(">I4s", zlib.crc32(index), b"\xc1END")

    def read() -> None:
        assert not whole(opened(head + block + bytes(100)))
        assert not whole(opened(head + index + trailer))

    assert peak(read) < 1 << 22


def indexed(body: bytes, entries: list[tuple[int, int]], gap: int = 0) -> bytes:
    """A pack of a header and this body, with an index whose check holds."""
    offset = 9 + len(body) + gap
    images = sum(count for _, count in entries)
    index = struct.pack(">4sIQ", b"\xc1IDX", len(entries), images) + HEADER.to_bytes()
    index += b"".join(struct.pack(">QI", *entry) for entry in entries) + struct.pack(">Q", offset)
    trailer = struct.pack(">I4s", zlib.crc32(index), b"\xc1END")
    return HEADER.to_bytes() + body + bytes(gap) + index + trailer


def test_a_gap_that_an_index_counts_to_a_block_is_damage_and_is_not_read() -> None:
    body = SMALL[9:-SIZE_OF_INDEX]
    starts = [place.offset for place in opened(SMALL).places]
    for gap in (1, 1 << 26):
        data = indexed(body, [(start, 2) for start in starts], gap)

        def read(data: bytes = data) -> None:
            reader = opened(data)
            (damage,) = reader.damage_in([(0, 8)])
            assert (
                str(damage)
                == "damaged: block 3, images 6 to 7: its header is that of another block"
            )
            assert len(whole(reader)) == 3

        assert peak(read) < 1 << 22


@pytest.mark.parametrize("lengths", [(1 << 28, 0, 0), (0, 1 << 26, 0), (0, 0, 1 << 26)])
def test_no_block_may_have_more_bytes_than_a_reader_holds(lengths: tuple[int, int, int]) -> None:
    head = HEADER.to_bytes()
    block = struct.pack(">4sIQIIII", b"\xc1BLK", 0, 0, 1, *lengths)
    block += struct.pack(">I", zlib.crc32(head + block))
    data = indexed(block, [(9, 1)], gap=sum(lengths) + 4)
    assert peak(lambda: whole(opened(data))) < 1 << 22


def test_a_pack_has_no_more_blocks_than_a_reader_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MAX_BLOCKS", 3)
    with pytest.raises(CvaeError, match="at most 3 blocks in a pack; a folder of packs holds more"):
        written(HEADER, BLOCKS)
    reader = opened(SMALL)
    assert "index" in str(reader.damage[0])  # it is walked instead


def test_of_any_number_of_damages_a_message_names_few() -> None:
    many = [Damage(f"damaged: {number}") for number in range(1000)]
    assert readers.shortened(many, 2) == ["damaged: 0", "damaged: 1", "and 998 more"]
    assert readers.shortened(many[:2], 2) == ["damaged: 0", "damaged: 1"]
    assert readers.shortened([], 2) == []


def test_names_are_cut_to_what_the_format_holds() -> None:
    block = Block(2, b"", ["x" * 5000 + ".png", "a\0b"])
    reader = opened(written(Header(1, 1, names=True), [block]))
    long, short = reader.read(reader.places[0]).names or []
    assert len(long) == 4095
    assert long.endswith("x.png")
    assert short == "a_b"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\xc1\x32", "at least 9 bytes"),
        (b"hello", "expected a pack, found something else"),
        (b"\xc9" + SMALL[1:9], "version 2"),
        (SMALL[:8] + b"\x00", "check"),
    ],
)
def test_messages_say_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        opened(data)


@pytest.mark.parametrize(
    "body", [b"\xc1\x32\x00\x01\x08", b"\xc9\x32\x00\x01\x00", b"\xc1\x65\x00\x01\x00"]
)
def test_a_header_that_is_whole_and_of_a_later_version_is_not_called_damaged(body: bytes) -> None:
    with pytest.raises(UnsupportedError, match="does not know; a later one may"):
        opened(body + struct.pack(">I", zlib.crc32(body)))


def test_golden_pack() -> None:
    case = golden()
    symbols = np.array(GOLDEN["symbols"] * 3, np.int32)
    parts = [symbols[:4], symbols[4:]]
    blocks = [Block(len(part), encode_block(case._replace(symbols=part))) for part in parts]
    written_before = bytes.fromhex(PACKS["plain"])
    assert written(Header(0xBEEF, 50, inverted=True), blocks) == written_before
    reader = opened(written_before)
    assert reader.header == Header(0xBEEF, 50, inverted=True)
    found = [reader.read(place) for place in reader.places]
    decoded = [decode_block(block.payload, block.images, case.bank, case.rows) for block in found]
    assert np.array_equal(np.concatenate(decoded), symbols)


def test_golden_pack_with_columns() -> None:
    # Read only: what zlib writes depends on its version.
    reader = opened(bytes.fromhex(PACKS["columns"]))
    assert reader.header == HEADER
    assert [reader.read(place) for place in reader.places] == BLOCKS
    assert not reader.damage
