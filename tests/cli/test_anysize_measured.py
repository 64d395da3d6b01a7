"""`eval` and `verify` with models of any size."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..anysize import Run, install, load, picture, save
from ..conftest import SAMPLES

DIGIT = SAMPLES / "digit_3.png"


@pytest.fixture(autouse=True)
def _a_model(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, and a model that takes the place of `photo`."""
    install(monkeypatch, workdir / "home", "grids")
    monkeypatch.setattr("cvae.cli.defaults.PHOTO", "grids")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def test_eval_measures_against_the_bytes_of_the_pictures(run: Run) -> None:
    shapes = [(20, 30, 3), (16, 12, 1)]
    for number, shape in enumerate(shapes):
        save(picture(*shape), f"in/{number}.png")
    result = json.loads(run("eval", "in", "-m", "grids", "--json")[1])
    run("encode", "in", "-o", "out", "-m", "grids")
    total = sum(path.stat().st_size for path in Path("out").iterdir())
    assert result["images"] == 2
    assert result["file_bytes_mean"] * 2 == total
    raw, pixels = 20 * 30 * 3 + 16 * 12, 20 * 30 + 16 * 12
    assert result["compression_ratio"] == pytest.approx(raw / total)
    assert result["bpp"] == pytest.approx(8 * total / pixels)
    assert "psnr_of_means" not in result
    run("eval", "in", "-m", "grids", "--csv", "x.csv", "--html", "x.html", "--limit", "2")
    assert len(Path("x.csv").read_text().splitlines()) == 3
    np.savez("x.npz", x_test=np.stack([picture(9, 9, 1)[..., 0]] * 3))
    assert json.loads(run("eval", "x.npz", "-m", "grids", "--json")[1])["images"] == 3


def test_eval_compares_pictures_of_mixed_sizes_as_single_files(run: Run) -> None:
    for number, shape in enumerate([(20, 30, 3), (16, 12, 1), (40, 9, 3)]):
        save(picture(*shape), f"in/{number}.png")
    codecs = "png,webp,jpeg,avif,jpeg2000"
    lines, out = run(
        "eval",
        "in",
        "-m",
        "grids",
        "--against",
        codecs,
        "--json",
        "--plot",
        "x.png",
        "--html",
        "x.html",
    )
    assert lines == []
    result = json.loads(out)
    rows = result["curve"] + result["rivals"]
    assert {row["codec"] for row in rows} == {"grids", *codecs.split(",")}
    assert {row["layout"] for row in rows} == {"single"}
    assert {row["images"] for row in rows} == {3}
    sizes = []
    for number in range(3):
        buffer = io.BytesIO()
        with Image.open(f"in/{number}.png") as image:
            image.save(buffer, "webp", lossless=True, quality=100, exact=True, method=6)
        sizes.append(len(buffer.getvalue()))
    (webp,) = (row for row in result["rivals"] if row["codec"] == "webp" and row["lossless"])
    assert webp["file_bytes_mean"] * 3 == sum(sizes)
    assert "webp" in run("eval", "in", "-m", "grids", "--against", "webp")[1]


def test_ssim_is_of_the_pictures_that_have_one(run: Run) -> None:
    for number, shape in enumerate([(20, 30, 3), (9, 12, 1), (40, 30, 3)]):
        save(picture(*shape), f"in/{number}.png")
    figures = json.loads(run("eval", "in", "-m", "grids", "--json", "--csv", "x.csv")[1])
    ssim = [line.rpartition(",")[2] for line in Path("x.csv").read_text().splitlines()[1:]]
    assert ssim[1] == ""
    assert figures["ssim_mean"] == pytest.approx((float(ssim[0]) + float(ssim[2])) / 2, abs=1e-5)
    assert figures["ssim_left_out"] == 1
    said = " without 1 image smaller than 11x11 pixels"
    assert said in run("eval", "in", "-m", "grids")[1]
    run("encode", "in", "-o", "out", "-m", "grids")
    assert said in run("verify", "out", "--against", "in")[1]
    (verified,) = json.loads(run("verify", "out", "--against", "in", "--json")[1])
    assert verified["ssim_mean"] == pytest.approx(figures["ssim_mean"])


def test_verify_checks_and_compares(run: Run) -> None:
    shapes = [(20, 30, 3), (16, 12, 1)]
    for number, shape in enumerate(shapes):
        save(picture(*shape), f"in/{number}.png")
    run("encode", "in", "-o", "out", "-m", "grids", "-q", "100")
    assert "whole" in run("verify", "out")[1]
    (result,) = json.loads(run("verify", "out", "--against", "in", "--json")[1])
    assert result["images"] == 2
    assert result["psnr_mean"] > 40
    total = sum(path.stat().st_size for path in Path("out").iterdir())
    assert result["compression_ratio"] == pytest.approx((20 * 30 * 3 + 16 * 12) / total)
    save(load(DIGIT)[..., None], "in/2.png")
    run("encode", "in/2.png", "-m", "mnist", "-o", "out/")
    results = json.loads(run("verify", "out", "--against", "in", "--json")[1])
    assert [(item["model"], item["images"]) for item in results] == [("grids", 2), ("mnist", 1)]
    assert results[0] == result | {
        "decode_images_per_second": results[0]["decode_images_per_second"]
    }
    run("verify", "out", "--against", "in")
    save(picture(5, 5), "in/0.png")
    lines, out = run("verify", "out", "--against", "in", "--json", code=1)
    assert "expected 30x20 of 3 channels, as it was coded, found 5x5 of 3" in lines[0]
    assert json.loads(out)[0]["missing"] == 1
    data = Path("out/0.bin").read_bytes()
    Path("out/0.bin").write_bytes(data[:-1])
    assert "damaged" in run("verify", "out", code=1)[0][0]
