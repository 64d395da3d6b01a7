"""Any number of images to one pack and back, from Python."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import cvae
from cvae.codec import Codec
from cvae.data import metrics
from cvae.data.batches import Batch
from cvae.errors import (
    CvaeError,
    FormatError,
    ImageError,
    ModelNotFoundError,
    OutputError,
    StorageError,
)
from cvae.options import EncodeOptions, Tally
from cvae.packs import encode as packing
from cvae.packs import layout
from cvae.packs import reader as readers
from cvae.packs.decode import Pack
from cvae.packs.ranges import ranges_of, without
from cvae.packs.reader import Place, Range

from ..conftest import blobs

pytestmark = pytest.mark.filterwarnings("ignore::cvae.codec.QualityWarning")  # of blobs


@cache
def model() -> Codec:
    return cvae.open_model()


@pytest.fixture(scope="module")
def codec() -> Codec:
    """Of a linear model, which is small."""
    return cvae.open_model("linear-mnist")


def options(**changes: Any) -> EncodeOptions:
    return EncodeOptions(**{"quality": 50, "effort": 0, "names": False, **changes})


def digits(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return blobs(count, side=28, seed=seed)


def packed(codec: Codec, batches: list[Batch], asked: EncodeOptions) -> tuple[bytes, Tally]:
    buffer = io.BytesIO()
    tally = packing.encode(codec, batches, buffer, asked)
    return buffer.getvalue(), tally


def opened(codec: Codec, data: bytes) -> Pack:
    return Pack(readers.open_file(io.BytesIO(data)), codec)


def expected(codec: Codec, pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """What the images come back as, each by itself."""
    return codec.synthesize(codec.quantize(pixels, quality, 0), quality)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 12), max_size=4), st.integers(1, 20), st.booleans(), st.booleans())
def test_any_batches_in_any_blocks_come_back(
    sizes: list[int], block: int, inverted: bool, named: bool
) -> None:
    codec = model()
    total = sum(sizes)
    pixels, names = digits(total), [f"{i}.png" for i in range(total)]
    starts = np.cumsum([0, *sizes]).tolist()
    batches = [
        Batch(pixels[a:b], names[a:b] if named else None) for a, b in itertools.pairwise(starts)
    ]
    asked = options(quality=30, invert=inverted, names=named, verify=False, block_images=block)
    data, tally = packed(codec, batches, asked)
    assert (tally.images, tally.file_bytes) == (total, len(data))
    found = opened(codec, data)
    assert len(found) == total
    assert all(place.images == block for place in found.reader.places[:-1])
    coded = expected(codec, 255 - pixels if inverted else pixels, 30)
    coded = 255 - coded if inverted else coded
    images = [picture[np.newaxis, ..., np.newaxis] for picture in found]
    assert np.array_equal(np.concatenate([coded[:0], *images]), coded)
    decoded = list(found.decode([(0, total)] if total else []))
    assert [name for part in decoded for name in part.names or []] == (names if named else [])


def test_images_come_in_the_order_of_their_numbers(codec: Codec, tmp_path: Path) -> None:
    pixels = digits(50)
    packing.encode_pack(pixels, tmp_path / "x.bin", codec, options(block_images=8))
    with cvae.open_pack(tmp_path / "x.bin") as found:
        assert len(found) == 50
        everything = found.images(range(50))
        assert np.array_equal(found.images([42, 7, 7, 0]), everything[[42, 7, 7, 0]])
        assert found.images([]).shape == (0, 28, 28, 1)
        assert metrics.psnr(pixels, everything).mean() > 20
        for number in (-1, 50, 10**15):
            with pytest.raises(CvaeError, match=f"no image {number}"):
                found.images([0, number])


def test_only_the_blocks_that_are_needed_are_read(codec: Codec) -> None:
    data, _ = packed(codec, [Batch(digits(40))], options(block_images=8))
    whole = opened(codec, data)
    places = whole.reader.places
    damaged = bytearray(data)
    for place in (places[0], places[2], places[4]):
        damaged[place.offset + 50] ^= 1
    found = opened(codec, bytes(damaged))
    assert np.array_equal(found.images([9, 30]), whole.images([9, 30]))
    with pytest.raises(FormatError, match="block 2, images 16 to 23"):
        found.images([9, 20, 30])


def test_python_users_write_arrays_and_iterables(tmp_path: Path) -> None:
    pixels = digits(5)[..., 0]
    path = tmp_path / "x.bin"
    names = [f"{i}" for i in range(5)]
    cvae.encode_pack(iter(pixels), path, "linear-mnist", 40, 0, names=iter(names))
    with cvae.open_pack(path) as found:
        assert isinstance(found, cvae.Pack)
        assert found.find("3") == [3]
        by_iterable = found.images(range(5))
    with pytest.raises(OutputError, match="exists already"):
        cvae.encode_pack(pixels, path, "linear-mnist")
    cvae.encode_pack(pixels, path, "linear-mnist", 40, 0, force=True)
    with cvae.open_pack(path) as found:
        assert np.array_equal(found.images(range(5)), by_iterable)
    with pytest.raises(ModelNotFoundError, match="of mnist"):
        cvae.open_pack(path, "mnist")
    with pytest.raises(ImageError, match="expected uint8"):
        cvae.encode_pack(pixels[:, 1:], tmp_path / "y.bin", "linear-mnist")
    with pytest.raises(CvaeError, match="fewer"):
        cvae.encode_pack(pixels, tmp_path / "y.bin", "linear-mnist", names=["a"])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("numbers", [3, slice(3), ["a"], [1.5], "12", None, [[1, 2]], [True]])
def test_what_are_no_numbers_of_images_is_refused(tmp_path: Path, numbers: object) -> None:
    cvae.encode_pack(digits(3), tmp_path / "x.bin", "linear-mnist", effort=0)
    with cvae.open_pack(tmp_path / "x.bin") as found:
        for good in ([2, 1], np.array([2, 1], np.uint8), (np.int64(2), 1), {1, 2}):
            assert len(found.images(good)) == 2  # type: ignore[arg-type]
        with pytest.raises(CvaeError, match=r"x\.bin: expected numbers of images, such as"):
            found.images(numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3000, 28, 28)), r"found float64 \(3000, 28, 28\)"),
        (np.zeros((3000, 28, 27), np.uint8), r"found uint8 \(3000, 28, 27\)"),
        (
            (np.zeros((28, 28 - i // 2000), np.uint8) for i in range(3000)),
            r"image 2000: .* \(28, 27\)",
        ),
        ([np.zeros((28, 28))], r"image 0: expected uint8 .*\(28, 28\), found float64 \(28, 28\)"),
        ([[1, 2], [3]], "image 0"),
        (["x.npy"], "image 0"),
        ("x.npy", "expected an array of images, .* found 'x.npy'"),
        (Path("x.npy"), "expected an array of images"),
        (3, "expected an array of images"),
    ],
)
def test_what_are_no_images_is_refused_with_what_the_caller_gave(
    tmp_path: Path, images: Any, message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        cvae.encode_pack(images, tmp_path / "x.bin", "linear-mnist", effort=0)
    assert not list(tmp_path.iterdir())


def test_errors_of_an_opened_pack_begin_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    cvae.encode_pack(digits(3), path, "linear-mnist", effort=0)
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    with cvae.open_pack(path) as found:
        for kind, work in (
            (CvaeError, lambda: found.images([5000])),
            (IndexError, lambda: found[5000]),
            (FormatError, lambda: found[0]),
            (FormatError, lambda: found.images([0])),
            (FormatError, lambda: list(found)),
        ):
            with pytest.raises(kind) as error:
                work()
            assert str(error.value).startswith(f"{path}: ")


def test_a_damaged_pack_is_not_opened(codec: Codec, tmp_path: Path) -> None:
    data, _ = packed(codec, [Batch(digits(3))], options())
    path = tmp_path / "x.bin"
    for bad in (data[:-1], b"", b"text", data[:5] + b"\xff" + data[6:]):
        path.write_bytes(bad)
        with pytest.raises(FormatError, match=r"x\.bin"):
            cvae.open_pack(path)
    with pytest.raises(StorageError, match=r"y\.bin: cannot be read"):
        cvae.open_pack(tmp_path / "y.bin")


def test_a_flipped_byte_gives_no_other_pixels(codec: Codec) -> None:
    data, _ = packed(codec, [Batch(digits(6))], options(block_images=3))
    right = opened(codec, data).images(range(6))
    for at in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        try:
            found = opened(codec, bytes(damaged))
        except CvaeError:
            continue
        for place in found.reader.places:
            numbers = range(place.first, place.first + place.images)
            try:
                pixels = found.images(numbers)
            except FormatError:
                continue
            assert np.array_equal(pixels, right[numbers])


def test_a_block_of_more_symbols_than_the_format_allows_is_refused(codec: Codec) -> None:
    buffer = io.BytesIO()
    writer = layout.Writer(buffer, layout.Header(codec.model.manifest.id, 50))
    writer.write(layout.Block(65536, bytes(100)))
    writer.close()
    with pytest.raises(FormatError, match="4,194,304 symbols"):
        opened(codec, buffer.getvalue()).images([0])


def test_original_sizes_out_of_range_are_refused(codec: Codec) -> None:
    sizes = [(28, 28), (65535, 65535)]
    data, _ = packed(codec, [Batch(digits(2), sizes=sizes)], options(fit=True))
    with pytest.raises(FormatError, match="64,000,000 pixels"):
        opened(codec, data).images([0])


def test_a_payload_that_no_encoder_writes_is_refused(codec: Codec) -> None:
    buffer = io.BytesIO()
    writer = layout.Writer(buffer, layout.Header(codec.model.manifest.id, 50))
    writer.write(layout.Block(3, b"made up"))
    writer.close()
    with pytest.raises(FormatError, match="block 0, images 0 to 2"):
        opened(codec, buffer.getvalue()).images([0])


def test_a_pack_costs_its_information_and_one_percent(codec: Codec) -> None:
    pixels = digits(3000)
    data, _ = packed(codec, [Batch(pixels)], options(verify=False))
    symbols = codec.quantize(pixels, 50, 0)
    bits = codec.coding.information_bits(symbols, 50).sum()
    assert len(data) <= 1.01 * bits / 8


def test_verifying_tells_the_psnr_and_changes_nothing(codec: Codec) -> None:
    pixels = digits(20)
    plain, tally = packed(codec, [Batch(pixels)], options(verify=False))
    assert tally.psnr_mean is None
    verified, tally = packed(codec, [Batch(pixels)], options())
    assert verified == plain
    assert tally.psnr_mean == pytest.approx(
        metrics.psnr(pixels, expected(codec, pixels, 50)).mean()
    )


def test_images_of_another_shape_are_refused(codec: Codec) -> None:
    with pytest.raises(ImageError, match=r"\(28, 28, 1\)"):
        packed(codec, [Batch(np.zeros((2, 8, 8, 1), np.uint8))], options())


def test_no_more_than_a_few_batches_and_blocks_are_held_at_once() -> None:
    codec, part, under_way, most = model(), digits(10), 0, 0

    def batches() -> Iterator[Batch]:
        nonlocal under_way, most
        for _ in range(100):
            under_way += len(part)
            most = max(most, under_way)
            yield Batch(part)

    def progress(images: int) -> None:
        nonlocal under_way
        under_way -= images

    buffer = io.BytesIO()
    packing.encode(
        codec,
        batches(),
        buffer,
        options(verify=False, block_images=20, quality=1),
        progress=progress,
    )
    assert under_way == 0
    assert most <= 250

    found = opened(codec, buffer.getvalue())
    read = found.reader.read
    under_way = most = 0

    def counted(place: Place) -> layout.Block:
        nonlocal under_way, most
        under_way += place.images
        most = max(most, under_way)
        return read(place)

    found.reader.read = counted  # type: ignore[method-assign]
    for decoded in found.decode([(0, 1000)]):
        under_way -= len(decoded.pixels)
    assert most <= 250


@pytest.mark.parametrize(
    ("ranges", "lost", "left"),
    [
        ([(0, 10)], [], [(0, 10)]),
        ([(0, 10)], [(3, 5)], [(0, 3), (5, 10)]),
        ([(0, 4), (6, 10)], [(3, 7)], [(0, 3), (7, 10)]),
        ([(0, 4)], [(0, 4)], []),
        ([(2, 4)], [(0, 1), (5, 9)], [(2, 4)]),
    ],
)
def test_what_is_lost_is_taken_out_of_ranges(
    ranges: list[Range], lost: list[Range], left: list[Range]
) -> None:
    assert without(ranges, lost) == left
    assert ranges_of(reversed(left)) == left
