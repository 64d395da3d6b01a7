"""Image files in and out."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae.data import images
from cvae.data.reading import Reading
from cvae.errors import ImageError, ImageShapeError, OutputError

GREY = (6, 5, 1)
COLOUR = (6, 5, 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5), dtype=np.uint8)


def png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **options)
    return buffer.getvalue()


def read(image: Image.Image, shape: images.Shape = GREY, fit: bool = False) -> images.Pixels:
    return of_data(png(image), shape, fit)


def of_data(data: bytes, shape: images.Shape = GREY, fit: bool = False) -> images.Pixels:
    return Reading(shape, "stretch" if fit else "exact").read(data, "x.png")


def opaque(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    rgba.putalpha(255)
    return rgba


grey = Image.fromarray(PIXELS)


@pytest.mark.parametrize(
    "image",
    [grey, grey.convert("RGB"), opaque(grey), grey.convert("LA"), grey.quantize(256)],
    ids=["L", "RGB", "RGBA", "LA", "P"],
)
def test_changes_of_mode_that_lose_nothing_pass(image: Image.Image) -> None:
    expected = np.asarray(image.convert("RGB"))[..., :1]
    assert np.array_equal(read(image), expected)
    assert np.array_equal(read(image, COLOUR), expected.repeat(3, axis=2))


def test_black_and_white_passes() -> None:
    assert set(np.unique(read(grey.convert("1")))) <= {0, 255}


def coloured() -> Image.Image:
    return Image.fromarray(np.stack([PIXELS, 255 - PIXELS, PIXELS], axis=2))


def transparent() -> Image.Image:
    image = grey.convert("RGBA")
    image.putalpha(128)
    return image


@pytest.mark.parametrize(
    "image",
    [coloured(), transparent(), Image.fromarray(PIXELS.astype(np.uint16) * 257)],
    ids=["colour", "transparent", "16-bit"],
)
def test_changes_of_mode_that_lose_something_take_fit(image: Image.Image) -> None:
    with pytest.raises(ImageShapeError, match=r"x\.png: expected 5x6 grey, found 5x6 "):
        read(image)
    assert read(image, fit=True).shape == GREY


def test_a_transparent_palette_is_named_in_words() -> None:
    data = png(grey.convert("P"), transparency=int(PIXELS[0, 0]))
    with pytest.raises(ImageShapeError, match="found 5x6 palette with transparency"):
        of_data(data)


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    assert np.array_equal(
        read(Image.fromarray(PIXELS.astype(np.uint16) * 257), fit=True)[..., 0], PIXELS
    )


def test_another_size_takes_fit_and_the_original_size_is_told() -> None:
    data = png(grey.resize((50, 60)))
    with pytest.raises(ImageError, match="found 50x60"):
        of_data(data)
    assert of_data(data, fit=True).shape == GREY
    assert Reading(GREY, "stretch").picture(data, "x.png").size == (50, 60)


def test_exif_rotation_is_applied_before_the_size_is_judged() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    data = png(grey.transpose(Image.Transpose.ROTATE_90), exif=exif)
    assert np.array_equal(of_data(data)[..., 0], PIXELS)


def header_only(width: int, height: int) -> bytes:
    """A PNG that has nothing but a header."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk


@pytest.mark.parametrize("fit", [False, True])
@pytest.mark.parametrize("side", [9_000, 12_000, 100_000])
def test_a_header_that_claims_a_giant_is_refused_unread(side: int, fit: bool) -> None:
    with pytest.raises(ImageError, match=r"x\.png"):
        of_data(header_only(side, side), GREY, fit)


@pytest.mark.parametrize("data", [b"", b"no image", header_only(5, 6), png(grey)[:-30]])
def test_damaged_images_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"x\.png"):
        of_data(data, fit=True)


def cut(image: Image.Image, file_format: str) -> bytes:
    """The first half of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, format=file_format)
    return buffer.getvalue()[: len(buffer.getvalue()) // 2]


noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 50), np.uint8))


@pytest.mark.parametrize(
    "data",
    [
        cut(noise.convert("CMYK"), "JPEG"),
        cut(Image.fromarray(np.asarray(noise).astype(np.uint16) * 257), "TIFF"),
        cut(noise.convert("F"), "TIFF"),
    ],
    ids=["CMYK", "16-bit", "float"],
)
def test_truncated_images_of_modes_that_take_conversion_are_refused(data: bytes) -> None:
    for fit in (False, True):
        with pytest.raises(ImageError, match=r"x\.png"):
            of_data(data, (60, 50, 1), fit)
    with pytest.raises(ImageError, match=r"x\.png"):
        Reading((0, 0, 3), "own").read(data, "x.png")


def test_of_a_huge_file_no_more_is_read_than_an_image_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "movie.mp4").write_bytes(bytes(1001))
    monkeypatch.setattr(images, "MAX_FILE", 1000)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("read whole"))
    with pytest.raises(ImageError, match=r"movie\.mp4: expected an image, found more than 1,000"):
        images.read_file(tmp_path / "movie.mp4")
    with pytest.raises(ImageError, match=r"^movie: "):
        images.read_file(tmp_path / "movie.mp4", "movie")
    (tmp_path / "movie.mp4").write_bytes(bytes(1000))
    assert images.read_file(tmp_path / "movie.mp4") == bytes(1000)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 3)])
def test_pixels_survive_png(shape: tuple[int, ...]) -> None:
    pixels = np.resize(PIXELS, shape)
    data = images.encode_image(pixels, "x.png")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels.squeeze())


def test_an_unknown_format_names_the_ending() -> None:
    with pytest.raises(OutputError, match=r"\.xyz"):
        images.encode_image(PIXELS, "x.xyz")


@pytest.mark.parametrize(
    ("shape", "size"),
    [((28, 28, 1), (3000, 2000)), ((32, 32, 3), (2000, 1500)), ((9, 7, 3), (1, 65535)),
     ((9, 7, 1), (65535, 40)), ((64, 64, 3), (5, 3)), ((8, 8, 1), (8, 9))],
)  # fmt: skip
def test_an_image_is_restored_in_strips_as_in_one_go(
    shape: tuple[int, int, int], size: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    whole = images.as_image(pixels).resize(size, Image.Resampling.LANCZOS)
    assert np.array_equal(images.resize(pixels, *size), np.asarray(whole).reshape(*size[::-1], -1))


def test_the_mean_of_channels_is_that_of_all_rows_at_once() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 30, 20, 3), np.uint8)
    expected = np.rint(pixels.mean(axis=-1, keepdims=True, dtype=np.float32))
    assert np.array_equal(images.as_grey(pixels), expected)
    assert np.array_equal(images.as_grey(pixels[0]), expected[0])
