"""Images as callers of the API give them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.data.given import as_array, as_picture

from ..conftest import SAMPLES, blobs, photo

pytestmark = pytest.mark.filterwarnings("ignore::cvae.codec.QualityWarning")

GRID = Path(__file__).parents[1] / "golden" / "grid.cvae"
DIGIT = blobs(1, side=28)[0]


@pytest.fixture(scope="module")
def codec() -> cvae.Codec:
    return cvae.open_model("linear-mnist")


@pytest.fixture(scope="module")
def grid() -> cvae.Codec:
    return cvae.open_model(GRID)


def test_one_image_of_pillow_gives_one_container(codec: cvae.Codec, grid: cvae.Codec) -> None:
    image = Image.open(SAMPLES / "digit_3.png")
    assert codec.encode(image) == codec.encode(np.asarray(image))
    assert codec.encode([image, image]) == [codec.encode(image)] * 2
    assert cvae.encode(image, codec) == codec.encode(image)
    picture = Image.fromarray(photo(20, 33))
    assert grid.encode(picture) == grid.encode(photo(20, 33))
    assert grid.encode([picture, image]) == [grid.encode(picture), grid.encode(image)]
    assert grid.decode(grid.encode(image)).shape == (28, 28)


def test_an_object_that_numpy_can_read_is_one_image_too(codec: cvae.Codec) -> None:
    class Tensor:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            return DIGIT

    assert codec.encode(Tensor()) == codec.encode(DIGIT)  # type: ignore[call-overload]


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "LA", "RGBA"])
def test_modes_that_lose_nothing_pass(codec: cvae.Codec, mode: str) -> None:
    image = Image.fromarray((DIGIT[..., 0] > 128).astype(np.uint8) * 255)
    found = as_array(image.convert(mode), (28, 28, 1))
    assert np.array_equal(found, np.asarray(image))


@pytest.mark.parametrize("mode", ["I", "F", "I;16", "CMYK", "RGBA"])
def test_modes_that_would_lose_something_are_refused(
    codec: cvae.Codec, grid: cvae.Codec, mode: str
) -> None:
    image = Image.new(mode, (28, 28))  # black, and transparent where it can be
    for model in (codec, grid):
        with pytest.raises(
            cvae.ImageError, match=f"found ({mode}|16 bits a sample), which would lose|are floats"
        ):
            model.encode(image)


def test_colour_for_a_grey_model_is_refused(codec: cvae.Codec) -> None:
    with pytest.raises(cvae.ImageError, match="expected an image of mode L, found RGB"):
        codec.encode(Image.new("RGB", (28, 28), "red"))


def test_pictures_of_another_size_get_the_models_that_take_them(
    tmp_path: Path, codec: cvae.Codec
) -> None:
    lake, advice = Image.fromarray(photo(20, 33)), "models photo and lossless-photo take"
    with pytest.raises(cvae.ImageError, match=f"expected 28x28 grey, found .* RGB; .*the {advice}"):
        codec.encode(lake)
    batch = np.stack([photo(20, 33)] * 2)
    for several in ([lake, lake], batch):
        with pytest.raises(cvae.ImageError, match=advice):
            codec.encode(several)
        with pytest.raises(cvae.ImageError, match=advice):
            cvae.encode_pack(several, tmp_path / "x.bin", codec)
    with pytest.raises(cvae.ImageError, match=advice):
        codec.encode_batch(batch)


def test_another_size_or_mode_is_a_shape_error(
    tmp_path: Path, codec: cvae.Codec, grid: cvae.Codec
) -> None:
    small, colour = Image.new("L", (40, 40)), Image.new("RGB", (28, 28), "red")
    for given in (small, colour, np.zeros((30, 30), np.uint8), photo(20, 33), [photo(20, 33)]):
        for use in (
            codec.encode,
            codec.latents,
            lambda x: cvae.encode_pack([x], tmp_path / "x", codec),
        ):
            with pytest.raises(cvae.ImageShapeError):
                use(given)
    for given in (Image.new("CMYK", (9, 9)), np.zeros((9, 9, 4), np.uint8)):
        with pytest.raises(cvae.ImageShapeError):
            grid.encode(given)
    others: list[Any] = [DIGIT / 255, "digit.png", np.zeros(9, np.uint8), None]
    for given in others:
        with pytest.raises(cvae.ImageError) as raised:
            codec.encode(given)
        assert not isinstance(raised.value, cvae.ImageShapeError)


def test_of_several_images_the_one_that_is_wrong_is_named(
    tmp_path: Path, codec: cvae.Codec, grid: cvae.Codec
) -> None:
    digits = [*blobs(2, side=28), np.zeros((27, 28), np.uint8)]
    expected = r"^image 2: expected uint8 arrays of shape \(28, 28\), found uint8 \(27, 28\)"
    for use in (
        codec.encode,
        codec.latents,
        lambda x: cvae.encode_pack(x, tmp_path / "x.bin", codec),
    ):
        with pytest.raises(cvae.ImageShapeError, match=expected):
            use(digits)
    with pytest.raises(cvae.ImageShapeError, match=r"^image 1: .*found uint8 \(9, 9, 2\)"):
        grid.encode([photo(9, 9), np.zeros((9, 9, 2), np.uint8)])
    with pytest.raises(cvae.ImageError, match=r"^image 1100: .* found float64"):
        cvae.encode_pack([DIGIT] * 1100 + [DIGIT / 255], tmp_path / "x.bin", codec, effort=0)


def test_a_batch_of_grey_images_without_channels_gets_advice_that_helps(
    codec: cvae.Codec, grid: cvae.Codec
) -> None:
    grey = blobs(2, side=28)[..., 0]
    for model in (codec, grid):
        with pytest.raises(cvae.ImageError, match=r"x\[\.\.\., np\.newaxis\] gives grey images"):
            model.encode_batch(grey)
        assert len(model.encode_batch(grey[..., np.newaxis])) == 2


def test_a_photograph_that_lies_on_its_side_is_made_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo(20, 33)).save(tmp_path / "x.png", exif=exif)
    assert as_picture(Image.open(tmp_path / "x.png")).shape == (33, 20, 3)


def test_a_damaged_image_of_pillow_is_an_image_error(tmp_path: Path, codec: cvae.Codec) -> None:
    data = (SAMPLES / "digit_3.png").read_bytes()
    (tmp_path / "x.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(cvae.ImageError, match="the image is damaged"):
        codec.encode(Image.open(tmp_path / "x.png"))


def test_a_pack_is_made_of_images_of_pillow_and_with_a_codec(
    tmp_path: Path, codec: cvae.Codec, grid: cvae.Codec
) -> None:
    images = [Image.fromarray(image[..., 0]) for image in blobs(3, side=28)]
    for model in (codec, grid):
        cvae.encode_pack(images, tmp_path / "x.bin", model, effort=0, force=True)
        cvae.encode_pack(blobs(3, side=28), tmp_path / "y.bin", model, effort=0, force=True)
        assert (tmp_path / "x.bin").read_bytes() == (tmp_path / "y.bin").read_bytes()
        with cvae.open_pack(tmp_path / "x.bin", model) as pack:
            assert len(pack) == 3


def test_latents_take_what_encode_takes(codec: cvae.Codec, grid: cvae.Codec) -> None:
    digits = blobs(3, side=28)
    expected = codec.latents(digits)
    assert expected.shape == (3, 400)
    for same in (digits[..., 0], list(digits), [Image.fromarray(d[..., 0]) for d in digits]):
        assert np.array_equal(codec.latents(same), expected)
    for one in (digits[1], digits[1, ..., 0], Image.fromarray(digits[1, ..., 0])):
        assert np.allclose(codec.latents(one), expected[1], atol=1e-5)
    assert codec.latents([]).shape == (0, 400)
    pictures = [photo(20, 33), photo(16, 16), digits[0]]
    found = grid.latents(pictures)
    assert [len(rows) // grid.model.manifest.latent_shape[0] for rows in found] == [6, 1, 4]
    assert np.array_equal(found[1], grid.latents(pictures[1]))
    assert np.array_equal(grid.latents(np.stack([pictures[1]] * 2))[1], found[1])


def test_floats_are_refused_everywhere(tmp_path: Path, codec: cvae.Codec, grid: cvae.Codec) -> None:
    floats = (DIGIT / 255).astype(np.float32)
    for model in (codec, grid):
        for take in (
            model.encode, model.latents, lambda x, m=model: m.encode([x]),
            lambda x, m=model: m.encode_batch(x[np.newaxis]),
            lambda x, m=model: m.quantize(x[np.newaxis], 50),
            lambda x, m=model: cvae.encode_pack([x], tmp_path / "x.bin", m),
        ):  # fmt: skip
            with pytest.raises(cvae.ImageError, match=r"np\.rint\(255 \* x\)"):
                take(floats)
    assert not list(tmp_path.iterdir())


def test_arrays_in_fortran_order_give_the_same_bytes(codec: cvae.Codec, grid: cvae.Codec) -> None:
    for model, batch in ((codec, blobs(3, side=28)), (grid, np.stack([photo(20, 33)] * 2))):
        assert model.encode(np.asfortranarray(batch)) == model.encode(batch)
        assert np.array_equal(model.latents(np.asfortranarray(batch)), model.latents(batch))


def test_arrays_with_alpha_get_advice_that_helps(codec: cvae.Codec, grid: cvae.Codec) -> None:
    rgba = np.zeros((2, 28, 28, 4), np.uint8)
    for model in (codec, grid):
        for given in (rgba, rgba[0], list(rgba)):
            with pytest.raises(cvae.ImageError, match=r"x\[\.\.\., :3\] drops the alpha"):
                model.encode(given)
    alpha = rgba[..., 3:] / 255
    onto_white = np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    assert len(grid.encode(onto_white)) == 2


def test_a_colour_profile_that_is_converted_is_said(grid: cvae.Codec) -> None:
    from .pictures import swapped_profile

    image = Image.new("RGB", (20, 30), (200, 40, 90))
    plain = grid.encode(image)
    image.info["icc_profile"] = swapped_profile()
    with pytest.warns(cvae.ConversionWarning, match="colours converted from their profile to sRGB"):
        assert grid.encode(image) != plain


@pytest.mark.parametrize("work", [cvae.Codec.encode, cvae.Codec.latents])
def test_a_warning_names_the_line_of_the_caller(
    grid: cvae.Codec, work: Callable[..., object]
) -> None:
    from .pictures import swapped_profile

    image = Image.new("RGB", (20, 30), (200, 40, 90))
    image.info["icc_profile"] = swapped_profile()
    for given in (image, [image, image]):
        with pytest.warns(cvae.ConversionWarning) as found:
            work(grid, given)
        assert {Path(warning.filename) for warning in found} == {Path(__file__)}
