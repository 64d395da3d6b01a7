"""Qualities found for a size or a picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvae.codec import Codec, open_model
from cvae.errors import TargetError
from cvae.options import Encoded, EncodeOptions

from .conftest import SAMPLES, blobs, run_cvae


@pytest.fixture(scope="module")
def codec(tiny_model: Path) -> Codec:
    return open_model(tiny_model)


BATCH = blobs(30, seed=5)


@pytest.fixture(scope="module")
def every_quality(codec: Codec) -> list[list[Encoded]]:
    """All that there is to choose from: one list a quality."""
    return [codec.encode_batch(BATCH, EncodeOptions(quality=quality)) for quality in range(1, 101)]


def coded(codec: Codec, **limits: float) -> list[Encoded]:
    results = codec.encode_to_target(BATCH, EncodeOptions(**limits))  # type: ignore[arg-type]
    good = [item for item in results if isinstance(item, Encoded)]
    assert len(good) == len(results), results
    return good


def test_the_picture_is_the_best_that_fits(
    codec: Codec, every_quality: list[list[Encoded]]
) -> None:
    found = coded(codec, max_bytes=9)
    best = [
        max(item.psnr for item in items if len(item.data) <= 9)
        for items in zip(*every_quality, strict=True)
    ]
    assert all(len(item.data) <= 9 for item in found)
    assert all(item.data[1] & 127 == item.quality for item in found)  # what the header says
    assert [item.psnr for item in found] == best
    assert len({item.quality for item in found}) > 1, "each image has a quality of its own"


def test_the_file_is_the_smallest_that_is_good_enough(
    codec: Codec, every_quality: list[list[Encoded]]
) -> None:
    found = coded(codec, min_psnr=18)
    best = [
        min(len(item.data) for item in items if item.psnr >= 18)
        for items in zip(*every_quality, strict=True)
    ]
    assert all(item.psnr >= 18 for item in found)
    assert [len(item.data) for item in found] == best


def test_both_limits_are_kept(codec: Codec) -> None:
    for item in coded(codec, max_bytes=10, min_psnr=15):
        assert len(item.data) <= 10
        assert item.psnr >= 15


def test_a_limit_that_is_no_number_is_refused() -> None:
    with pytest.raises(TargetError, match="nan"):
        EncodeOptions(min_psnr=float("nan"))


def test_images_are_analysed_once_for_all_qualities(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysed = []
    analyse = codec.coding.analyse
    monkeypatch.setattr(codec.coding, "analyse", lambda x: analysed.append(len(x)) or analyse(x))
    codec.encode_to_target(BATCH, EncodeOptions(max_bytes=9, effort=0))
    assert analysed == [len(BATCH)]


def test_what_cannot_be_reached_says_how_near_it_comes(codec: Codec) -> None:
    batch = blobs(3)
    for limits, text in (
        ({"max_bytes": 5}, "at most 5 bytes, found [678] as the least"),
        ({"min_psnr": 80}, "at least 80 dB, found .* dB as the best"),
        ({"max_bytes": 9, "min_psnr": 70}, "at least 70 dB in at most 9 bytes, found .* dB"),
    ):
        for item in codec.encode_to_target(batch, EncodeOptions(**limits)):  # type: ignore[arg-type]
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
