"""`Codec.read`: a picture in Python as the command reads it."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.bitstream import container

from .cli.test_lossless_samples import TEN_BITS
from .conftest import photo, run_here
from .cropped import picture, write_model


@pytest.mark.parametrize("kind", ["path", "text", "image"])
def test_a_codec_reads_as_the_command_does(kind: str, workdir: Path) -> None:
    model = write_model("own.cvae")
    picture().save("a.png")
    # So large that a part of the pixels would be decoded for a model of 28x28.
    Image.fromarray(photo(600, 900, 1)[..., 0]).save("large.jpg")
    codec, options = cvae.open_model(model), cvae.EncodeOptions(crop=False, background="#000000")
    for path, changes in (("a.png", 2), ("large.jpg", 1)):
        run_here("encode", path, "-m", model, "-f", "-o", "a.bin", "--quiet")
        given: Any = {"path": Path(path), "text": path, "image": Image.open(path)}[kind]
        with pytest.warns(cvae.ConversionWarning, match="to 28x28|laid on #ffffff") as found:
            pixels = codec.read(given)
        assert len(found) == changes
        assert found[0].filename == __file__
        assert pixels.shape == (28, 28)
        (ours,) = codec.encode_batch(pixels[None, ..., None])
        payload = container.unpack(ours.data).payload
        if kind != "image" or path == "a.png":  # a JPEG's parts have other roundings
            assert payload == container.unpack(Path("a.bin").read_bytes()).payload
        if kind == "image":
            assert given.size == Image.open(path).size
        pixels[0, 0] = 0  # the caller's own
    with pytest.warns(cvae.ConversionWarning, match=r"(?<!and )scaled to 28x28|laid on #000000"):
        assert codec.read("a.png", options).mean() < 100


def files_of_all_depths() -> dict[str, bytes]:
    """Files, some of whose samples have more than 8 bits, and keys that Pillow forgets when it decodes."""
    levels = np.arange(28 * 28, dtype=np.uint32).reshape(28, 28) * 83
    deep = io.BytesIO()
    Image.fromarray(levels.astype(np.uint16)).save(deep, "PNG")
    key = io.BytesIO()
    Image.fromarray((levels % 16).astype(np.uint8)).save(key, "PNG", bits=4, transparency=3)
    pgm = b"P5 28 28 65535 " + levels.astype(">u2").tobytes()
    return {
        "deep": deep.getvalue(),
        "key": key.getvalue(),
        "pgm": pgm,
        "avif": base64.b64decode(TEN_BITS),
    }


@pytest.mark.parametrize("name", files_of_all_depths())
@pytest.mark.filterwarnings("ignore::cvae.ConversionWarning")
def test_an_opened_file_is_read_as_its_path_is(name: str, workdir: Path) -> None:
    data = files_of_all_depths()[name]
    Path("x").write_bytes(data)
    for model in ("photo", "lossless-photo"):
        codec, found = cvae.open_model(model), []
        for given in (Path("x"), Image.open("x")):
            try:
                found.append(codec.read(given).tobytes())
            except cvae.ImageError as error:
                found.append(error.text)
        assert found[0] == found[1]
        if name != "key":
            assert isinstance(found[0], str) == codec.lossless
            with pytest.raises(cvae.ImageShapeError, match="bits a sample, which would lose"):
                codec.encode(Image.open("x"))


def test_samples_that_pillow_has_no_8_bits_of_are_refused(workdir: Path) -> None:
    exact = cvae.open_model("lossless-photo")
    for mode in ("HSV", "LAB", "YCbCr", "CMYK"):
        with pytest.raises(cvae.ImageError, match=mode):
            exact.read(Image.new(mode, (28, 28)))
    for value in (-5, 70_000):
        with pytest.raises(cvae.ImageError, match="expected samples of 16 bits, found others"):
            cvae.open_model("photo").read(Image.new("I", (28, 28), value))


def test_more_pixels_are_restored_where_they_are_asked_for(workdir: Path) -> None:
    codec, large = cvae.open_model("linear-mnist"), Image.new("L", (4001, 4000))
    with pytest.raises(cvae.ImageError, match="max_pixels=N allows more"):
        codec.read(large, cvae.EncodeOptions(fit=True))
    options = cvae.EncodeOptions(fit=True, max_pixels=17_000_000)
    assert codec.read(large, options).shape == (28, 28)


def test_the_first_of_several_pages_is_said_to_be_it(workdir: Path) -> None:
    first = Image.new("L", (28, 28))
    first.save("x.tif", save_all=True, append_images=[first, first])
    with pytest.warns(cvae.ConversionWarning, match="the first of 3 pages"):
        cvae.open_model("linear-mnist").read("x.tif")


def test_what_a_codec_does_not_fit_is_refused_with_advice(workdir: Path) -> None:
    picture().save("a.png")
    codec = cvae.open_model("linear-mnist")
    with pytest.raises(cvae.ImageShapeError, match=r"^a.png: .*; EncodeOptions\(fit=True\)"):
        codec.read("a.png")
    with pytest.warns(cvae.ConversionWarning, match="transparent"):
        assert codec.read("a.png", cvae.EncodeOptions(fit=True)).shape == (28, 28)
    with pytest.raises(cvae.ImageShapeError, match=r"; Codec.read with .*\(background=\"#ffffff"):
        cvae.encode(picture((28, 28)))
    with pytest.warns(cvae.ConversionWarning, match="laid on #ffffff"):
        codec.read(picture((28, 28)), cvae.EncodeOptions(background="#ffffff"))
    with pytest.raises(cvae.ImageShapeError, match=r"; image.convert\('L'\) converts it"):
        cvae.encode(Image.new("RGBA", (28, 28), (200, 0, 0, 255)), "linear-mnist")
    with pytest.raises(cvae.ImageError, match="found one of 0x0"):
        codec.read(Image.new("L", (0, 0)))
    with pytest.raises(cvae.ImageError, match="at most 64,000,000 pixels, found 9000x8000"):
        codec.read(Image.new("L", (9000, 8000)))
    with pytest.raises(cvae.ImageError, match=r"missing\.png"):
        codec.read("missing.png")
    picture((28, 28)).save("b.png")
    exact = cvae.open_model("lossless-mnist")
    with pytest.raises(cvae.ImageError, match=r"transparent parts; EncodeOptions\(background="):
        exact.read("b.png")
    assert cvae.open_model("lossless-photo").read("b.png").shape == (28, 28, 4)
