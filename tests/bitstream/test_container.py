"""The container of one image."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvae.bitstream import container
from cvae.bitstream.container import Container
from cvae.errors import FormatError, UnsupportedError

sizes = st.none() | st.tuples(st.integers(1, 65535), st.integers(1, 65535))
images = st.builds(
    Container,
    model_id=st.integers(0, 65535),
    quality=st.integers(1, 100),
    payload=st.binary(max_size=300),
    original_size=sizes,
    inverted=st.booleans(),
)
staged = st.builds(
    Container,
    model_id=st.integers(0, 65535),
    quality=st.integers(1, 100),
    payload=st.binary(max_size=300),
    original_size=sizes,
    staged=st.just(True),
    grey=st.booleans(),
)
containers = images | staged
# Both sides of the length at which the check grows.
edge_lengths = [0, 1, 11, 254, 255, 256, 257, 258, 1000]


@given(containers)
def test_a_container_survives_packing_and_unpacking(item: Container) -> None:
    assert container.unpack(container.pack(item)) == item


@pytest.mark.parametrize("length", edge_lengths)
def test_one_image_costs_six_bytes_and_eight_from_256_on(length: int) -> None:
    data = container.pack(Container(1, 50, bytes(length)))
    assert len(data) == length + (6 if length < 256 else 8)


def test_fit_and_invert_cost_at_most_five_more() -> None:
    plain = len(container.pack(Container(1, 50, b"abc")))
    assert len(container.pack(Container(1, 50, b"abc", inverted=True))) == plain + 1
    assert len(container.pack(Container(1, 50, b"abc", (640, 480), True))) == plain + 5


@pytest.mark.parametrize("length", [0, 11, 255, 256, 300])
@pytest.mark.parametrize("size", [None, (640, 480)])
def test_every_flipped_bit_is_refused(length: int, size: tuple[int, int] | None) -> None:
    data = container.pack(Container(0xBEEF, 50, bytes(range(7, 107)) * 3, size))[:-2]
    data = container.pack(Container(0xBEEF, 50, data[:length], size))
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            container.unpack(bytes(damaged))


@pytest.mark.parametrize("length", [0, 11, 255, 256, 300])
@pytest.mark.parametrize("size", [None, (640, 480), (1, 65535)])
@pytest.mark.parametrize("grey", [False, True])
def test_every_flipped_bit_and_truncation_of_a_staged_one_is_refused(
    length: int, size: tuple[int, int] | None, grey: bool
) -> None:
    payload = (bytes(range(7, 107)) * 3)[:length]
    data = container.pack(Container(0xBEEF, 50, payload, size, staged=True, grey=grey))
    flipped = [
        data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
        for place in range(len(data))
        for bit in range(8)
    ]
    for damaged in [*flipped, *(data[:cut] for cut in range(len(data)))]:
        with pytest.raises(FormatError):
            container.unpack(damaged)


def sealed(body: str) -> bytes:
    """Bytes behind which a check of two bytes holds."""
    data = bytes.fromhex(body)
    return data + container._check(data, 0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("c232beef08", "damaged"),  # an unknown flag, and no size
        ("c232beef09", "has flags 0x09"),
        ("c232beef07", "has flags 0x07"),  # grey and alpha
        ("c2b2beef01", "has quality 178"),
        ("c265beef01", "has quality 101"),
        ("c232beef000001", "a side of 1 to 65535"),
        ("c232beef000100", "a side of 1 to 65535"),
        ("c232beef00800001", "a side of 1 to 65535"),  # zero in two bytes
        ("c232beef00810001", "a side of 1 to 65535"),  # one in two bytes
        ("c232beef0081800001", "a side of 1 to 65535"),
        ("c232beef0080800401", "a side of 1 to 65535"),  # 65,536
        ("c232beef00ffffff0f01", "a side of 1 to 65535"),
        ("c232beef0001", "damaged"),
        ("c332beef01", "kind 3"),
        ("c632beef01", "version 1"),
    ],
)
def test_staged_headers_that_nobody_writes_are_refused(body: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        container.unpack(sealed(body))


@pytest.mark.parametrize("side", [1, 127, 128, 16383, 16384, 65535])
def test_a_size_takes_as_few_bytes_as_it_can(side: int) -> None:
    item = Container(1, 50, b"abc", (side, 1), staged=True)
    data = container.pack(item)
    assert len(data) == 5 + (1 if side < 128 else 2 if side < 16384 else 3) + 1 + 3 + 2
    assert container.unpack(data) == item


def test_what_a_kind_of_container_has_no_place_for_is_not_packed() -> None:
    with pytest.raises(ValueError, match="no inversion"):
        container.pack(Container(1, 50, b"", inverted=True, staged=True))
    with pytest.raises(ValueError, match="grey"):
        container.pack(Container(1, 50, b"", grey=True))
    with pytest.raises(ValueError, match="sides of 1 to 65535"):
        container.pack(Container(1, 50, b"", (0, 1), staged=True))


@given(containers, st.data())
def test_truncations_and_appended_zeros_are_refused(item: Container, data: st.DataObject) -> None:
    packed = container.pack(item)
    cut = data.draw(st.integers(0, len(packed) - 1))
    zeros = data.draw(st.integers(1, 8))
    for damaged in (packed[:cut], packed + bytes(zeros)):
        # A check of 16 bits lets one damage in 65,536 through; it must then at least differ.
        with contextlib.suppress(FormatError):
            assert container.unpack(damaged) != item


def test_every_truncation_of_a_fixed_container_is_refused() -> None:
    packed = container.pack(Container(0x1234, 50, b"hello world", (28, 30), True))
    for cut in range(len(packed)):
        with pytest.raises(FormatError):
            container.unpack(packed[:cut])


@given(st.binary(max_size=300))
def test_any_bytes_are_a_container_or_refused(data: bytes) -> None:
    try:
        item = container.unpack(data)
    except FormatError:
        return
    assert container.pack(item) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"hello", "expected a container, found"),
        (b"\x89PNG\r\n\x1a\n", "expected a container, found"),
        (b"\xc4\x32\x00\x01\x00\x00", "version 1"),
        (b"\xc1\x32\x00\x01\x00\x00", "found a pack"),
        (b"\xc0\x32\x00", "at least 6 bytes"),
        (b"\xc0\x32\x00\x01\x00\x00", "check"),
    ],
)
def test_messages_say_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        container.unpack(data)


def test_the_short_check_is_crc_16_genibus() -> None:
    # The check value of the CRC catalogue, over the digits 1 to 9.
    assert container._check(b"123456789", 0) == bytes.fromhex("d64e")


def test_golden_containers() -> None:
    golden = {
        "c032beef6869a735": Container(0xBEEF, 50, b"hi"),
        "c0e4000103001c001e6869d3d7": Container(1, 100, b"hi", (28, 30), True),
        "c232beef01686945a5": Container(0xBEEF, 50, b"hi", staged=True),
        "c264000102ac020368696bf2": Container(1, 100, b"hi", (300, 3), staged=True, grey=True),
        "c201000000ffff030147e0": Container(0, 1, b"", (65535, 1), staged=True),
    }
    for text, item in golden.items():
        assert container.pack(item).hex() == text
        assert container.unpack(bytes.fromhex(text)) == item


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_out_of_range_is_not_packed(quality: int) -> None:
    with pytest.raises(ValueError, match="1 to 100"):
        container.pack(Container(1, quality, b""))


@pytest.mark.parametrize(
    "body",
    [
        "c432beef",
        "c332beef",
        "de32beef0102",
        "c4b2beef" + "07" * 300,
        "c232beef09",
        "c265beef01",
        "c0b2beef08",
    ],
)
def test_what_is_whole_and_of_a_later_version_is_not_called_damaged(body: str) -> None:
    data = bytes.fromhex(body)
    with pytest.raises(UnsupportedError, match=r"^has .*, which this cvae does not know; a later"):
        container.unpack(data + container._check(data, len(data) if len(data) > 256 else 0))


@pytest.mark.parametrize("body", ["c432beef", "c332beef"])
def test_what_may_be_damaged_or_of_a_later_version_is_said_to_be_one_of_both(body: str) -> None:
    data = sealed(body)
    with pytest.raises(FormatError, match="is damaged, or of a later version") as caught:
        container.unpack(data[:-1] + bytes([data[-1] ^ 1]))
    assert not isinstance(caught.value, UnsupportedError)


@pytest.mark.parametrize("data", [None, "text", 5, [b"x"], {}])
def test_what_is_no_bytes_is_no_container(data: Any) -> None:
    with pytest.raises(FormatError, match="expected the bytes of a container, found"):
        container.unpack(data)
