"""What a lossless file keeps: transparency, grey, and what Pillow would cut."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cvae.data.images import as_image

from ..conftest import photo, run_here
from ..lossless import write
from .test_lossless import SHAPE, _models, save, there_and_back  # noqa: F401


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_comes_back(mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (7, 9, 4), np.uint8)
    if mode == "LA":
        pixels[..., 1:3] = pixels[..., :1]
    picture = Image.fromarray(pixels)
    if mode == "P":
        picture = picture.convert("RGB").quantize(8)
        picture.info["transparency"] = 3
    elif mode == "LA":
        picture = picture.convert("LA")
    picture.save("x.png")
    expected = np.asarray(Image.open("x.png").convert("RGBA"))
    assert expected[..., 3].min() < 255
    back = there_and_back(Path("x.png"))
    assert np.array_equal(back, expected)
    assert "transparent" not in capsys.readouterr().err
    run_here("verify", "coded.bin", "--against", "x.png", "--json", code=0)
    assert json.loads(capsys.readouterr().out)[0]["images_that_differ"] == 0
    run_here("decode", "coded.bin", "-o", "x.jpg", code=1)


def test_a_lossless_model_has_nothing_to_choose(capsys: pytest.CaptureFixture[str]) -> None:
    path = save("a.png", photo(*SHAPE))
    for command in ("encode", "pack"):
        run_here(command, path, "-m", "one-1", "-o", "a.bin", "--effort", "3", code=1)
        said = capsys.readouterr().err
        assert "model one-1 keeps every pixel: --effort has nothing to choose" in said
        assert not Path("a.bin").exists()
    run_here("encode", path, "-m", "one-1", "-o", "a.bin")
    run_here("info", "a.bin")
    assert "quality        lossless\n" in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_a_grey_picture_is_one_however_it_is_stored(mode: str) -> None:
    shape = (8, 9, 1)
    write(Path("models/grey.cvae"), shape, id=503)
    grey = photo(*shape)
    path = Path("a.png")
    as_image(grey).convert(mode).save(path)
    sizes = []
    for options in (["--lossless"], ["-m", "grey"], ["-m", "any"]):
        run_here("encode", path, *options, "-o", "a.bin", "-f")
        sizes.append(Path("a.bin").stat().st_size)
        run_here("verify", "a.bin", "--against", path)
    assert sizes[0] <= min(sizes)
    Path("models/grey.cvae").unlink()
    assert np.array_equal(there_and_back(path), grey[..., 0])
    run_here("verify", "coded.bin", "--against", path)


# 8x8 pixels of 10 bits, of libavif; Pillow writes 8 bits alone.
TEN_BITS = (
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAA"
    "AAAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAHwAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEA"
    "AGF2MDFDb2xvcgAAAABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAACAAAAAgAAAAQcGl4aQAAAAADCgoKAAAADGF2MUOBIEAA"
    "AAAAE2NvbHJuY2x4AAIAAgAGgAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAJ21kYXQSAAoIOAi/bwICBpAyER2CYsTgABYAAACQ"
    "NY64xhgk"
)


def test_what_pillow_cuts_or_leaves_out_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("ten.avif").write_bytes(base64.b64decode(TEN_BITS))
    four = photo(*SHAPE[:2], 4 - 1, seed=1).repeat(2, axis=2)[..., :4]
    for kind in ("unspecified", "assocalpha"):
        tifffile.imwrite(f"{kind}.tif", four, photometric="rgb", extrasamples=[kind])
    said = {
        "ten.avif": "found 10 bits a sample; convert it to 8 bits",
        "unspecified.tif": "found a channel of no known meaning",
        "assocalpha.tif": "found colours that are multiplied with their transparency",
    }
    for name, text in said.items():
        for command in ("encode", "pack"):
            run_here(command, name, "--lossless", "-o", "a.bin", code=1)
            assert text in capsys.readouterr().err
            assert not Path("a.bin").exists()
    run_here("encode", "ten.avif", "-m", "mnist", "--fit", "-o", "a.bin")
    assert "10 bits a sample reduced to 8" in capsys.readouterr().err
    Image.open("ten.avif").convert("RGB").save("eight.avif", quality=100)
    run_here("encode", "eight.avif", "--lossless", "-o", "b.bin")


def test_a_size_that_no_model_has_is_refused_before_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("x").mkdir()
    run_here("train", "lossless-tiles", "--data", "x", "--size", "130", code=1)
    said = capsys.readouterr().err
    assert "130x130" in said
    assert "train lossless --data FOLDER" in said


def test_pictures_with_alpha_have_fewer_rows(capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGBA", (1, 32_768)).save("a.png")
    run_here("encode", "a.png", "--lossless", "-o", "b.bin", code=1)
    assert "a.png: expected an image of at most 32,767 rows" in capsys.readouterr().err
