"""Models that take images of any size: Python's interface and single containers."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import cvae
from cvae import errors
from cvae.bitstream import container, exact
from cvae.bitstream.container import Container
from cvae.data.images import Pixels
from cvae.options import Encoded, EncodeOptions

from .anysize import install, picture

SIZES = [(1, 1), (200, 3), (3, 200), (16, 16), (17, 31), (4, 65), (37, 41)]  # height, width


@pytest.fixture
def codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cvae.Codec:
    install(monkeypatch, tmp_path, "mosaic")
    return cvae.open_model("mosaic")


def near(x: Pixels, x_hat: Pixels, most: int = 3) -> bool:
    """Whether two pictures are of one shape and nearly equal."""
    return x.shape == x_hat.shape and bool(np.abs(x.astype(int) - x_hat).max() <= most)


@pytest.mark.parametrize("size", SIZES)
def test_an_image_of_any_size_comes_back(codec: cvae.Codec, size: tuple[int, int]) -> None:
    image = picture(*size)
    data = codec.encode(image, 100)
    assert data[0] == 0xC2
    assert container.unpack(data).original_size == size[::-1]
    assert near(image, codec.decode(data))
    assert np.array_equal(cvae.decode(data), codec.decode(data))


@pytest.mark.parametrize("size", SIZES)
def test_grey_images_come_back_grey(codec: cvae.Codec, size: tuple[int, int]) -> None:
    image = picture(*size, channels=1)[..., 0]
    data = codec.encode(image, 100)
    assert container.unpack(data).grey
    assert near(image, codec.decode(data))
    assert codec.encode(image[..., np.newaxis], 100) == data
    colours = codec.encode(np.repeat(image[..., np.newaxis], 3, axis=2), 100)
    assert not container.unpack(colours).grey
    assert codec.decode(colours).shape == (*size, 3)


def test_grey_is_the_rounded_mean_of_the_channels(
    codec: cvae.Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = codec.encode(picture(5, 7, 1), 100)
    monkeypatch.setattr(
        cvae.Codec, "to_pixels", lambda *_: np.full((1, 5, 7, 3), [1, 1, 3], np.uint8)
    )
    assert np.array_equal(codec.decode(data), np.full((5, 7), 2))
    (item,) = codec.encode_batch(np.full((1, 5, 7, 1), 2, np.uint8))
    assert item.psnr == 99


def test_lists_hold_images_of_any_sizes(codec: cvae.Codec) -> None:
    images = [picture(*size, seed=seed) for seed, size in enumerate(SIZES)]
    images += [picture(9, 9, seed=1), picture(9, 9, seed=2), picture(9, 9, 1)[..., 0]]
    data = codec.encode(images, 100)
    assert data == [codec.encode(image, 100) for image in images]
    for image, again in zip(images, codec.decode(data), strict=True):
        assert near(image, again)
    batch = np.stack(images[7:9])
    assert codec.encode(batch, 100) == data[7:9]
    assert codec.encode([]) == []


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8), "text", None,
        np.zeros(4, np.uint8), [np.zeros((2, 4, 4, 3), np.uint8)], np.zeros((65536, 1), np.uint8),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(codec: cvae.Codec, image: object) -> None:
    with pytest.raises(cvae.ImageError, match="expected"):
        codec.encode(image)  # type: ignore[call-overload]


def test_a_sized_codec_shares_the_model_and_knows_its_size(codec: cvae.Codec) -> None:
    sized = codec.sized(17, 31)
    assert codec.any_size
    assert sized.model is codec.model
    assert sized.image_shape == (17, 31, 3)
    assert sized.coding.elements == 3 * (5 * 8 + 2 * 2)
    assert sized.sized(4, 4).coding.elements == 6
    assert codec.image_shape == (16, 16, 3)
    fixed = cvae.open_model("mnist")
    assert fixed.sized(9, 9) is fixed
    assert fixed.coding.sized(9, 9) is fixed.coding
    assert not fixed.any_size


def test_both_coders_give_the_symbols_back(codec: cvae.Codec) -> None:
    for size in SIZES:
        coding = codec.sized(*size).coding
        batch = np.stack([picture(*size, seed=seed) for seed in range(3)])
        symbols = codec.quantize(batch, 40)
        assert symbols.shape == (3, coding.elements)
        block = coding.encode_block(symbols, 40)
        assert np.array_equal(coding.decode_block(block, 3, 40), symbols)
        each = coding.encode_each(symbols, 40)
        again = [coding.decode_each(payload, 40) for payload in each]
        assert np.array_equal(np.concatenate(again), symbols)


def test_what_is_known_of_an_image_is_that_of_its_pixels(codec: cvae.Codec) -> None:
    for image in (picture(13, 9), picture(13, 9, 1)):
        (item,) = codec.encode_batch(image[None], EncodeOptions(quality=30))
        again = codec.decode_containers([container.unpack(item.data)])[0]
        error = np.square(image.astype(float) - again).mean()
        assert item.psnr == pytest.approx(10 * np.log10(255**2 / error))
        assert item.payload_bytes <= np.ceil((item.information_bits + 1e-6) / 8)
        assert len(item.data) == item.payload_bytes + 9


def test_a_container_of_the_wrong_kind_is_damaged(codec: cvae.Codec) -> None:
    item = container.unpack(codec.encode(picture(4, 4)))
    wrong = [
        Container(item.model_id, item.quality, item.payload, item.original_size),
        Container(item.model_id, item.quality, item.payload, staged=True),
    ]
    digit = cvae.open_model("mnist")
    staged = Container(digit.model.manifest.id, 50, b"abc", staged=True)
    for model, other in [*((codec, other) for other in wrong), (digit, staged)]:
        with pytest.raises(cvae.FormatError, match="unlike the containers of model"):
            model.decode(container.pack(other))


def test_a_size_of_too_many_pixels_is_refused_before_decoding(
    codec: cvae.Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(exact, "Decoder", never)
    monkeypatch.setattr(cvae.Codec, "sized", never)
    data = container.pack(Container(9, 50, b"x", (8001, 8000), staged=True))
    with pytest.raises(cvae.FormatError, match="at most 64,000,000 pixels, found 8001x8000"):
        codec.decode(data)


def test_damaged_payloads_are_refused(codec: cvae.Codec) -> None:
    item = container.unpack(codec.encode(picture(20, 20)))
    for payload in (item.payload + b"\0", b"\xff" * 9999):
        other = Container(9, item.quality, payload, item.original_size, staged=True)
        with pytest.raises(cvae.FormatError):
            codec.decode(container.pack(other))


def test_nothing_is_inverted(codec: cvae.Codec) -> None:
    with pytest.raises(errors.CvaeError, match="does not invert"):
        codec.encode_batch(picture(4, 4)[None], EncodeOptions(invert=True))


def test_warnings_name_images_that_come_back_badly(
    codec: cvae.Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cvae.Codec, "expected_psnr", lambda *_: 98.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        codec.encode([picture(9, 9), picture(5, 5)], 20)
    assert "2 of 2 images came back below" in str(caught[0].message)


@pytest.mark.parametrize(
    "limits", [{"max_bytes": 60}, {"min_psnr": 28}, {"max_bytes": 90, "min_psnr": 20}]
)
def test_targets_are_met_by_a_dozen_qualities(
    codec: cvae.Codec, limits: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = np.stack([picture(16, 16, seed=seed) for seed in range(3)])
    options = EncodeOptions(**limits)  # type: ignore[arg-type]
    every = [codec.encode_batch(batch, EncodeOptions(quality=quality)) for quality in range(1, 101)]
    coding = type(codec.coding)
    choose, tried = coding.choose, []

    def counted(self: object, x: Pixels, *given: object) -> object:
        tried.append(given[1])
        return choose(self, x, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(coding, "choose", counted)
    found = codec.encode_to_target(batch, options)
    assert len(tried) <= 14 * len(batch)
    for item, all_of_it in zip(found, zip(*every, strict=True), strict=True):
        assert isinstance(item, Encoded)
        assert options.allows(item)
        best = max(all_of_it, key=options.rank)
        assert len(item.data) <= 1.05 * len(best.data)
        assert item.psnr >= best.psnr - 1
    (missed,) = codec.encode_to_target(batch[:1], EncodeOptions(max_bytes=8))
    assert isinstance(missed, errors.TargetError)
