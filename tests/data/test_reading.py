"""How any image becomes one of a model's shape."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cvae.data.reading import Reading
from cvae.errors import ImageError

RGB = Reading((8, 8, 3), "crop")
GREY = Reading((8, 8, 1), "crop")
# Left half red, right half blue.
COLOURS = np.zeros((8, 8, 3), np.uint8)
COLOURS[:, :4, 0] = COLOURS[:, 4:, 2] = 255


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def read(reading: Reading, image: Image.Image, kind: str = "PNG", **options: Any) -> np.ndarray:
    return reading.read(encoded(image, kind, **options), "x")


def test_images_of_the_size_keep_their_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert np.array_equal(read(RGB, Image.fromarray(noise)), noise)
    assert np.array_equal(read(GREY, Image.fromarray(noise[..., 0])), noise[..., :1])


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {}), ("PPM", {})],
)
def test_formats_are_known_by_content(kind: str, options: dict[str, Any]) -> None:
    assert np.array_equal(read(RGB, Image.fromarray(COLOURS), kind, **options), COLOURS)


def test_of_an_animation_the_first_picture_is_read() -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    pixels = read(RGB, first, "GIF", save_all=True, append_images=[second])
    assert np.array_equal(pixels, np.asarray(first))


def test_transparency_is_laid_on_the_background() -> None:
    clear = Image.new("RGBA", (8, 8), (9, 9, 9, 0))
    assert not read(RGB, clear).any()
    white = Reading((8, 8, 3), "crop", background="#ff8000")
    assert (read(white, clear) == [255, 128, 0]).all()
    palette = clear.quantize(4)
    assert (read(white, palette, transparency=0) == [255, 128, 0]).all()
    assert (read(white, clear.convert("LA")) == [255, 128, 0]).all()
    assert (read(Reading((8, 8, 1), "crop", background="#ffffff"), clear) == 255).all()


def test_sixteen_bits_are_scaled_and_cmyk_is_converted() -> None:
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8) * 4
    assert np.array_equal(read(GREY, Image.fromarray(ramp * 257))[..., 0], ramp)
    cyan = read(RGB, Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=100)
    assert np.abs(cyan.astype(int) - [0, 255, 255]).max() < 8


def test_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    lying = Image.fromarray(COLOURS).transpose(Image.Transpose.ROTATE_90)
    assert np.array_equal(read(RGB, lying, exif=exif), COLOURS)


def test_crop_takes_the_middle_and_resize_all_of_it() -> None:
    wide = Image.new("RGB", (64, 16), "red")
    wide.paste("blue", (16, 0, 48, 16))
    assert (read(RGB, wide) == [0, 0, 255]).all()
    resized = read(Reading((8, 8, 3), "resize"), wide)
    assert (resized[:, 0] == [255, 0, 0]).all()
    assert resized[0, 4, 2] > 200


def test_large_photographs_are_read_small_and_look_the_same() -> None:
    y, x = np.mgrid[:1024, :1024]
    photo = np.stack([x // 4, y // 4, (x + y) // 8], axis=2).astype(np.uint8)
    pixels = read(RGB, Image.fromarray(photo), "JPEG", quality=95)
    expected = photo.reshape(8, 128, 8, 128, 3).mean(axis=(1, 3))
    assert np.abs(pixels - expected).max() < 12


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(1151, 799), (799, 1151), (1055, 1055)])
def test_what_is_reduced_first_lies_where_it_would_without(
    size: tuple[int, int], orientation: int, kind: str
) -> None:
    width, height = size
    y, x = np.mgrid[:height, :width]
    colours = [255 * x / width, 255 * y / height, 128 + 80 * np.sin(x / 80) * np.sin(y / 70)]
    image = Image.fromarray(np.stack(colours, axis=2).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    quality = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    data = encoded(image, kind, exif=exif, **quality)
    whole = Reading((0, 0, 3), "own").picture(data, "x").image
    for fit in ("resize", "crop"):
        for sides in ((24, 24), (16, 32)):
            reading = Reading((*sides, 3), fit)  # type: ignore[arg-type]
            picture = reading.picture(data, "x")
            assert picture.image.width * 3 < whole.width  # reduced
            near = np.abs(reading.pixels(picture).astype(int) - reading.pixels(whole))
            assert near.max() <= 2


def test_images_far_smaller_than_the_shape_are_refused_and_others_enlarged() -> None:
    assert read(Reading((32, 32, 3), "crop"), Image.fromarray(COLOURS)).shape == (32, 32, 3)
    with pytest.raises(ImageError, match=r"x: expected at least a quarter of 33x33 .* found 8x8"):
        read(Reading((33, 33, 3), "crop"), Image.fromarray(COLOURS))


def test_damage_and_floats_are_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), "JPEG")
    with pytest.raises(ImageError, match=r"x: the image is damaged: .*truncated"):
        RGB.picture(data[: len(data) * 2 // 3], "x")
    with pytest.raises(ImageError, match="expected an image, found something else"):
        RGB.picture(b"a text", "x")
    with pytest.raises(ImageError, match="floats"):
        read(RGB, Image.new("F", (8, 8)), "TIFF")


def test_a_reading_survives_json_and_nonsense_is_refused() -> None:
    reading = Reading((8, 16, 3), "resize", "#ff0080")
    assert Reading.from_json(reading.to_json()) == reading
    for name, value in {
        "shape": [8, 8],
        "fit": "stretch",
        "background": "red",
    }.items():
        with pytest.raises((ValueError, TypeError)):
            Reading.from_json({**reading.to_json(), name: value})
    for shape in ([0, 8, 3], [8, 8, 2], [10**6, 10**6, 3], [8.0, 8, 3], ["8", 8, 3]):
        with pytest.raises((ValueError, TypeError)):
            Reading.from_json({**reading.to_json(), "shape": shape})


def test_a_picture_of_its_own_size_says_what_it_was() -> None:
    reading = Reading((0, 0, 3), "own")
    for mode, grey, changed in [("L", True, False), ("RGB", False, False), ("CMYK", False, True)]:
        picture = reading.picture(encoded(Image.new(mode, (9, 7)), "TIFF"), "x")
        assert (picture.grey, bool(picture.changes)) == (grey, changed)
        assert reading.pixels(picture.image).shape == (7, 9, 3)
    clear = reading.picture(encoded(Image.new("LA", (9, 7), (200, 0))), "x")
    assert (clear.grey, bool(clear.changes)) == (True, True)
    assert not reading.pixels(clear.image).any()


def test_sides_that_a_pack_cannot_hold_are_refused() -> None:
    with pytest.raises(ImageError, match=r"x: expected sides of at most 65535, found 65536x1"):
        Reading((8, 8, 1), "stretch").read(encoded(Image.new("L", (65536, 1))), "x")


def test_pictures_of_which_decoders_keep_copies_are_not_shrunk_from_any_size() -> None:
    flat = encoded(Image.new("L", (16_383, 1_470)), "WEBP")
    with pytest.raises(
        ImageError, match=r"x: expected at most 24,000,000 pixels of WEBP to shrink"
    ):
        Reading((8, 8, 3), "stretch").picture(flat, "x")


def test_grey_pictures_on_a_colour_are_coloured_however_large() -> None:
    pixels = np.full((1500, 1500, 2), 200, np.uint8)
    pixels[:700, :, 1], pixels[700:, :, 1] = 255, 0
    data = encoded(Image.fromarray(pixels, "LA"))
    found = Reading((0, 0, 3), "any", "#ff0000").read(data, "x")
    assert found.shape == (1500, 1500, 3)
    assert (found[0] == 200).all()
    assert (found[-1] == [255, 0, 0]).all()


def test_sixteen_bits_of_a_ppm_are_said_and_not_exact() -> None:
    data = b"P6 8 8 65535\n" + bytes(8 * 8 * 6)
    assert Reading((0, 0, 3), "any").picture(data, "x").changes == (
        "16 bits a sample reduced to 8",
    )
    with pytest.raises(ImageError, match="expected 8x8 RGB"):
        Reading((8, 8, 3), "exact").picture(data, "x")


def test_of_a_panorama_the_middle_has_to_be_restorable_alone() -> None:
    wide = encoded(Image.new("L", (20_000, 1_000)))
    picture = Reading((28, 28, 1), "crop", most=16_000_000).picture(wide, "x")
    assert picture.size == (1000, 1000)
    with pytest.raises(ImageError, match="would have to restore"):
        Reading((28, 28, 1), "stretch", most=16_000_000).picture(wide, "x")
    with pytest.raises(ImageError, match="would have to restore"):
        Reading((28, 28, 1), "crop", most=16_000_000).check_array((5000, 5000, 1), "x")


def test_no_memory_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("cvae.data.samples.flat", none)
    with pytest.raises(ImageError, match="memory"):
        read(RGB, Image.fromarray(COLOURS))
