"""What the tabs of the page show, computed without a page."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.bitstream import container
from cvae.demo import beside, markup, work
from cvae.errors import CvaeError, FormatError, ImageError, ModelError

from ..conftest import ROOT, SAMPLES

DIGIT = (SAMPLES / "digit_3.png").read_bytes()
PHOTO = (ROOT / "samples" / "photo_lake.png").read_bytes()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def coded(data: bytes, name: str = work.AUTOMATIC, **asked: int) -> work.Coded:
    codec = work.choose(name, data)
    return work.code(work.read(data, codec), codec, **{"quality": 50, "effort": 1, **asked})


def test_small_pictures_get_the_default_model_and_others_that_for_photographs() -> None:
    assert work.choose(work.AUTOMATIC, DIGIT).name == "mnist"
    assert work.choose(work.AUTOMATIC, PHOTO).name == "photo"
    assert work.choose("fashion", PHOTO).name == "fashion"


def test_what_is_shown_is_what_the_file_decodes_to() -> None:
    done = coded(DIGIT, quality=70)
    assert done.quality == 70
    assert np.array_equal(done.back[..., 0], cvae.decode(done.data))
    pixels, name = work.decode(done.data)
    assert name == "mnist"
    assert np.array_equal(pixels, done.back)


def test_lossless_models_give_every_pixel_back() -> None:
    done = coded(DIGIT, "lossless-mnist")
    assert np.array_equal(done.back, done.read.pixels)
    assert markup.decibels(done.psnr) == "every pixel"
    lines = {line.codec: line.psnr for line in beside.lines(done.read.pixels, done.psnr)}
    assert lines["png"] == lines["webp"] == 99  # the others come as near as they can


def test_pictures_of_other_sizes_are_scaled_with_a_word() -> None:
    done = coded(png(Image.new("L", (60, 50))), "mnist")
    assert done.read.pixels.shape == (28, 28, 1)
    assert "scaled from 60x50 to 28x28" in done.notes
    large = work.read(png(Image.new("RGB", (1500, 1000))), work.codec_of("photo"))
    assert large.pixels.shape[0] * large.pixels.shape[1] <= work.MOST_CODED
    assert "scaled from 1500x1000" in large.changes[0]


def test_a_dark_digit_on_white_is_advised_to_be_inverted() -> None:
    dark = png(Image.fromarray(255 - np.asarray(Image.open(io.BytesIO(DIGIT)))))
    assert any("inverted it reaches" in note for note in coded(dark).notes)
    assert not any("inverted" in note for note in coded(DIGIT).notes)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"plain text", "expected an image"),
        (b"", "empty file"),
        (png(Image.new("L", (10_000, 6_000))), "at most 24,000,000 pixels, found 10000x6000"),
    ],
    ids=["text", "empty", "sixty megapixels"],
)
def test_what_is_no_picture_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ImageError) as refused:
        coded(data)
    assert said in work.line(refused.value)


def test_foreign_and_damaged_files_are_refused() -> None:
    good = coded(DIGIT).data
    foreign = container.pack(container.Container(0xFFFF, 50, b"abc"))
    large = container.pack(
        container.Container(work.codec_of("mnist").model.manifest.id, 50, b"", (4000, 3000))
    )
    for data, kind in [
        (b"plain text", FormatError),
        (good[:-1] + bytes([good[-1] ^ 1]), FormatError),
        (foreign, ModelError),
        (large, ImageError),
    ]:
        with pytest.raises(kind):
            work.decode(data)


def test_an_own_model_decodes_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.cvae"
    path.write_bytes((ROOT / "weights" / "mnist-ae.cvae").read_bytes())
    codec = work.own_codec(path)
    data = coded(DIGIT, str(path)).data
    assert np.array_equal(work.decode(data, codec)[0], work.decode(data)[0])


def test_no_line_of_an_error_names_a_folder() -> None:
    error = CvaeError("is no model: /tmp/secret/place/x.cvae", where="/a/b", advice="read\nmore")
    assert work.line(error) == "is no model: x.cvae; read more"


def test_hexadecimal_has_every_byte_in_its_part() -> None:
    for data in (coded(DIGIT).data, coded(png(Image.new("RGB", (40, 30))), "photo").data):
        parts = container.parts(data)
        assert b"".join(parts.values()) == data
        html = markup.hexadecimal(data)
        for name, part in parts.items():
            assert not part or f'<span class="{name}">{part.hex(" ")}</span>' in html
    assert list(container.parts(data)) == ["header", "size", "payload", "check"]
    assert parts["size"] == bytes([40, 30])


def test_a_long_payload_is_cut_in_the_middle() -> None:
    data = coded(PHOTO).data
    html = markup.hexadecimal(data)
    assert len(html) < 4000
    assert re.search(r"… [\d,]+ bytes …", html)


def test_names_of_files_are_escaped() -> None:
    assert "<script" not in markup.download(b"x", '"><script>.bin')
    assert "<b>&lt;i&gt;</b>" in markup.facts({"name": "<i>"})


def test_other_codecs_are_as_good_or_say_so() -> None:
    pixels = work.read(DIGIT, work.codec_of("mnist")).pixels
    lines = {line.codec: line for line in beside.lines(pixels, 24.0)}
    assert list(lines) == ["png", "webp", "jpeg", "avif"]
    assert all(line.psnr >= 24 for line in lines.values())
    assert lines["png"].psnr == 99
    better = {line.codec: line for line in beside.lines(pixels, 35.0)}
    assert better["webp"].bytes > lines["webp"].bytes
    text = markup.beside(15, 24.0, lines.values())
    assert f"<td>{lines['webp'].bytes}</td>" in text


def test_the_error_map_is_black_where_nothing_is_wrong() -> None:
    pixels = work.read(DIGIT, work.codec_of("mnist")).pixels
    assert work.error_map(pixels, pixels).max() <= 4
    assert work.error_map(pixels, 255 - pixels).max() == 255


def test_a_drawing_becomes_a_digit_in_the_middle() -> None:
    drawing = np.zeros((112, 112, 1), np.uint8)
    drawing[5:45, 8:16] = 255
    digit = work.digit_of(drawing)
    rows, columns = np.nonzero(digit[..., 0])
    assert digit.shape == (28, 28, 1)
    assert (rows.min(), rows.max()) == (4, 23)
    assert abs(columns.mean() - 13.5) <= 1
    with pytest.raises(ImageError, match="nothing was drawn"):
        work.digit_of(np.zeros((112, 112, 1), np.uint8))


def test_latents_of_a_picture_decode_to_it() -> None:
    found = work.latents_of(DIGIT)
    pixels = work.read(DIGIT, work.codec_of("mnist")).pixels
    assert len(found) == 16
    assert np.abs(work.picture_of(found).astype(int) - pixels).mean() < 12
    for bad in ([np.nan] * 16, [9.0] * 16):
        with pytest.raises(CvaeError, match="latents from"):
            work.picture_of(bad)


def test_interpolation_moves() -> None:
    gif = Image.open(io.BytesIO(work.animation(DIGIT, PHOTO, "mnist", 5)))
    assert gif.n_frames == 8  # there and back
    with pytest.raises(CvaeError, match="2 to 32"):
        work.animation(DIGIT, DIGIT, "mnist", 1000)


def test_noise_goes_away_and_total_variation_stands_beside() -> None:
    small = png(Image.open(io.BytesIO(PHOTO)).crop((100, 80, 196, 176)))
    found, noisy, model = work.noisy(small, work.AUTOMATIC, 0.25)
    assert model.manifest.name == "photo-dae"
    clean = work.denoised(model, noisy)
    smooth, weight = work.smoothed(found.pixels, noisy)

    def error(pixels: np.ndarray) -> float:
        return float(np.square(pixels.astype(float) - found.pixels).mean())

    assert error(clean) < error(noisy) / 3
    assert error(smooth) < error(noisy) / 2
    assert 0.03 <= weight <= 1


def test_the_same_seed_draws_the_same_pictures() -> None:
    first = work.drawn("mnist", 5, 1)
    assert np.array_equal(first, work.drawn("mnist", 5, 1))
    assert not np.array_equal(first, work.drawn("mnist", 5, 2))
    for count, seed in ((1000, 1), (4, -1)):
        with pytest.raises(CvaeError, match="expected"):
            work.drawn("mnist", count, seed)
