"""Qualities found for a size or a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cvae import targets
from cvae.codec import Codec, Encoded, open_model
from cvae.errors import TargetError
from cvae.targets import Target

from .conftest import SAMPLES, blobs, run_cvae


@pytest.fixture(scope="module")
def codec(tiny_model: Path) -> Codec:
    return open_model(tiny_model)


def coded(codec: Codec, target: Target, effort: int = 0) -> list[Encoded]:
    results = targets.encode_batch(codec, blobs(30, seed=5), target, effort=effort)
    good = [item for item in results if isinstance(item, Encoded)]
    assert len(good) == len(results), results
    return good


@pytest.mark.parametrize("effort", [0, 5])
def test_a_file_fits_and_the_next_quality_does_not(codec: Codec, effort: int) -> None:
    batch = blobs(30, seed=5)
    for image, item in zip(batch, coded(codec, Target(max_bytes=9), effort), strict=True):
        assert len(item.data) <= 9
        assert item.data[1] & 127 == item.quality  # what the header says
        if item.quality < 100:
            above = codec.encode_batch(image[np.newaxis], item.quality + 1, effort=effort)[0]
            assert len(above.data) > 9


def test_a_picture_is_good_enough_and_the_quality_below_is_not(codec: Codec) -> None:
    batch = blobs(30, seed=5)
    qualities = set()
    for image, item in zip(batch, coded(codec, Target(min_psnr=18)), strict=True):
        assert item.psnr >= 18
        qualities.add(item.quality)
        if item.quality > 1:
            below = codec.encode_batch(image[np.newaxis], item.quality - 1, effort=0)[0]
            assert below.psnr < 18
    assert len(qualities) > 1, "each image has a quality of its own"


def test_what_cannot_be_reached_says_how_near_it_comes(codec: Codec) -> None:
    batch = blobs(3)
    for target, text in (
        (Target(max_bytes=6), "at most 6 bytes, found [789] at quality 1"),
        (Target(min_psnr=80), "at least 80 dB, found .* dB at quality 100"),
        (Target(max_bytes=9, min_psnr=70), "found .* dB in the 9 bytes"),
    ):
        for item in targets.encode_batch(codec, batch, target, effort=0):
            assert isinstance(item, TargetError)
            with pytest.raises(TargetError, match=text):
                raise item


def test_command_line(workdir: Path) -> None:
    digits = sorted(SAMPLES.glob("*.png"))[:4]
    run_cvae("encode", *digits, "--max-bytes", "13", "--quiet")
    assert all(path.stat().st_size <= 13 for path in workdir.glob("*.bin"))
    assert len(list(workdir.glob("*.bin"))) == 4
    verbose = run_cvae("encode", digits[0], "-o", "better.bin", "--min-psnr", "24")
    assert b"quality" in verbose.stderr
    refused = run_cvae("encode", digits[0], "-o", "none.bin", "--max-bytes", "6", code=1)
    assert str(digits[0]).encode() in refused.stderr
    assert not (workdir / "none.bin").exists()
    run_cvae("encode", digits[0], "-o", "x.bin", "--max-bytes", "9", "-q", "20", code=2)
