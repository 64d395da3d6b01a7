"""The commands with models of any size, and which model they take where none is named."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.bitstream import container

from ..anysize import Run, install, load, near, picture, save
from ..conftest import SAMPLES, run_here

DIGIT = SAMPLES / "digit_3.png"


@pytest.fixture(autouse=True)
def _a_model(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, and a model that takes the place of `photo`."""
    install(monkeypatch, workdir / "home", "grids")
    monkeypatch.setattr("cvae.cli.defaults.PHOTO", "grids")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


@pytest.mark.parametrize("size", [(33, 21, 3), (1, 1, 3), (200, 3, 3), (50, 7, 1)])
def test_one_file_there_and_back(run: Run, size: tuple[int, int, int]) -> None:
    pixels = picture(*size)
    save(pixels, "a.png")
    run("encode", "a.png", "-m", "grids", "-q", "100")
    run("decode", "a.bin")
    assert near(pixels, load("a_reconstructed.png"))


def test_a_folder_of_all_sizes_there_and_back(run: Run) -> None:
    shapes = [(9, 9, 3), (9, 9, 3), (200, 3, 3), (9, 9, 1), (1, 1, 3)]
    pictures = [picture(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    for number, pixels in enumerate(pictures):
        save(pixels, f"in/{number}.png")
    Path("in/bad.png").write_text("text")
    lines, _ = run("encode", "in", "-o", "coded", "-q", "100", "--effort", "0", code=1)
    (named,) = [line for line in lines if line.startswith("model grids")]
    others = "images other than 28x28 grey ones, which mnist takes"
    assert named == f"model grids, the default for {others}; -m names another"
    total = sum(path.stat().st_size for path in Path("coded").glob("*.bin"))
    raw = sum(pixels.size for pixels in pictures)
    assert f"5 of 6 images encoded in {total:,} bytes, {raw / total:.1f}:1" in lines[-1]
    run("decode", "coded", "-o", "back")
    for number, pixels in enumerate(pictures):
        assert near(pixels, load(f"back/{number}_reconstructed.png"))


def test_pipes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        def __init__(self, data: bytes) -> None:
            self.buffer = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]

    save(picture(12, 9), "a.png")
    monkeypatch.setattr(sys, "stdin", Stdin(Path("a.png").read_bytes()))
    run_here("encode", "-", "-o", "b.bin", "--quiet")
    run_here("encode", "a.png", "-o", "c.bin", "--quiet")
    assert Path("b.bin").read_bytes() == Path("c.bin").read_bytes()
    monkeypatch.setattr(sys, "stdin", Stdin(Path("b.bin").read_bytes()))
    run_here("decode", "-", "-o", "d.png", "--quiet")
    assert load("d.png").shape == (12, 9, 3)


def test_small_grey_images_go_to_mnist_whatever_their_mode(run: Run) -> None:
    digit = load(DIGIT)
    save(np.repeat(digit[..., None], 3, axis=2), "in/rgb.png")
    save(digit, "in/grey.png")
    save(picture(28, 28), "in/colours.png")
    save(picture(28, 29, 1), "in/wide.png")
    lines, _ = run("encode", "in", "-o", "out")
    assert [line.split(",")[0] for line in lines[:-1]] == ["model grids"]
    kinds = {path.stem: container.unpack(path.read_bytes()) for path in Path("out").iterdir()}
    assert {name for name, item in kinds.items() if item.staged} == {"colours", "wide"}
    assert kinds["rgb"] == kinds["grey"]
    run("decode", "out", "-o", "back")
    assert load("back/wide_reconstructed.png").shape == (28, 29)
    lines, _ = run("encode", DIGIT, "-m", "mnist", "-o", "named.bin")
    assert not any(line.startswith("model") for line in lines)
    assert not run("encode", DIGIT, "-o", "quiet.bin", "--quiet")[0]


def test_without_a_model_for_photographs_all_go_to_mnist(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CVAE_MODELS")
    lines, _ = run("encode", DIGIT)
    assert len(lines) == 1
    assert lines[0].startswith(f"{DIGIT} -> digit_3.bin")
    save(picture(9, 9), "a.png")
    lines, _ = run("encode", "a.png", code=1)
    assert "expected 28x28 grey, found 9x9 RGB" in lines[0]


def test_transparency_is_laid_on_white_and_that_is_said(run: Run) -> None:
    Image.new("RGBA", (8, 8), (10, 20, 30, 0)).save("clear.png")
    lines, _ = run("encode", "clear.png", "-m", "grids", "-q", "100")
    laid, unseen = [line for line in lines if "warning" in line]
    assert "clear.png: transparent parts laid on #ffffff" in laid
    assert "clear.png: nothing is seen on #ffffff" in unseen
    run("decode", "clear.bin")
    assert load("clear_reconstructed.png").min() == 255
    lines, _ = run("pack", "clear.png", "-o", "pack.bin", "-m", "grids")
    assert any("clear.png: transparent parts laid on #ffffff" in line for line in lines)
    Image.new("LA", (8, 8), (10, 0)).save("grey.png")
    run("encode", "grey.png", "-m", "grids", "-q", "100")
    run("decode", "grey.bin")
    assert np.array_equal(load("grey_reconstructed.png"), np.full((8, 8), 255))


def test_targets(run: Run) -> None:
    save(picture(16, 16), "a.png")
    lines, _ = run("encode", "a.png", "-m", "grids", "--max-bytes", "70")
    assert Path("a.bin").stat().st_size <= 70
    assert "quality" in lines[0]
    run("encode", "a.png", "-m", "grids", "--min-psnr", "35", "-o", "b.bin")
    back = cvae.decode(Path("b.bin").read_bytes()).astype(float)
    assert 10 * np.log10(255**2 / np.square(back - load("a.png")).mean()) >= 35
    lines, _ = run("encode", "a.png", "-m", "grids", "--max-bytes", "9", "-o", "c.bin", code=1)
    assert "at most 9 bytes" in lines[0]


def test_what_does_not_apply_is_said_in_one_line(run: Run) -> None:
    save(picture(9, 9), "a.png")
    for given, text in (
        (["--invert"], "model grids does not invert images"),
        (["-o", "x.npy"], "symbols as .npy have no size, and model grids takes images of any"),
    ):
        lines, _ = run("encode", "a.png", "-m", "grids", *given, code=1)
        assert len(lines) == 1
        assert text in lines[0]
        lines, _ = run("encode", "a.png", *given, code=1)
        assert text in lines[-1]
    lines, _ = run("encode", "a.png", "-m", "grids", "--fit")
    assert lines[0] == "--fit changes nothing: model grids takes images of any size"
    assert len(lines) == 2
    for option in (["--crop"], ["--resize"], ["--max-pixels", "9"]):
        lines, _ = run("encode", "a.png", "-m", "grids", *option, "-o", "x.bin", "-f")
        assert lines[0] == f"{option[0]} changes nothing: model grids takes images of any size"
        lines, _ = run("pack", "a.png", "-m", "grids", *option, "--fit", "-o", "y.bin", "-f")
        assert lines[0].startswith("--fit and --")
        assert lines[0].endswith(" change nothing: model grids takes images of any size")
    for command in (
        ["eval", "a.png", "-m", "grids"],
        ["verify", "x.bin", "--against", "a.png"],
        ["verify", "y.bin", "--against", "a.png"],
    ):
        lines, _ = run(*command, "--crop")
        assert lines == ["--crop changes nothing: model grids takes images of any size"]
    for command in ("decode", "x.bin"), ("unpack", "y.bin"):
        lines, _ = run(*command, "--max-pixels", "9")
        assert lines[0] == "--max-pixels changes nothing: model grids takes images of any size"
    np.save("s.npy", np.zeros(1, np.int8))
    lines, _ = run("decode", "s.npy", "-m", "grids", "-q", "9", code=1)
    assert "symbols as .npy have no size" in lines[0]
    lines, _ = run("interpolate", "a.png", "a.png", "-m", "grids", code=1)
    assert lines[0].endswith("which takes any; name one of one size, such as mnist")
    lines, _ = run("interpolate", "a.png", "a.png", "-m", "mnist", code=1)
    assert "; --fit converts" in lines[0]
    lines, _ = run("sample", "-m", "grids", code=1)
    assert lines[0].endswith("such as mnist")
    lines, _ = run("encode", "a.png", "-o", "x.cvae", code=2)
    assert lines[-1].endswith("the ending of a model; -o x.bin names one")


def test_info(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    save(picture(33, 21, 1), "a.png")
    run("encode", "a.png", "-m", "grids")
    facts = json.loads(run("info", "a.bin", "--json")[1])
    assert facts["original_size"] == [21, 33]
    assert facts["grey"] is True
    assert facts["model"] == "grids"
    assert facts["symbol_count"] == 3 * (9 * 6 + 3 * 2)
    monkeypatch.setattr("cvae.cli.info._LARGE", 1)  # bytes of payload, above which none is decoded
    assert "symbol_count" not in run("info", "a.bin", "--json")[1]
    assert "inverted" not in facts
    assert "symbols" not in facts
    run("info", "a.bin")
    run("info", "grids")


def test_packs_there_and_back(run: Run) -> None:
    shapes = [(9, 9, 3), (9, 9, 3), (200, 3, 3), (9, 9, 1), (1, 1, 3)]
    pictures = [picture(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    for number, pixels in enumerate(pictures):
        save(pixels, f"in/{number}.png")
    lines, _ = run("pack", "in", "-q", "100", "--effort", "0", "--fit")
    assert lines[0].startswith("model grids, the default")
    assert lines[1] == "--fit changes nothing: model grids takes images of any size"
    raw = sum(pixels.size for pixels in pictures)
    assert f"{raw / Path('in.bin').stat().st_size:.1f}:1" in lines[-1]
    run("unpack", "in.bin", "-o", "back")
    for number, pixels in enumerate(pictures):
        again = load(f"back/{number}.png")
        assert near(np.broadcast_to(pixels, again.shape), again)
    run("unpack", "in.bin", "--only", "2", "-o", "two.png")
    assert near(pictures[2], load("two.png"))
    run("unpack", "in.bin", "--only", "4.png", "--only", "0", "-o", "some.tar")
    lines, _ = run("unpack", "in.bin", "-o", "x.npz", code=2)
    assert "-o x.npz is one array, expected a folder or .tar for images of any size" in lines[-1]
    assert "whole" in run("verify", "in.bin")[1]
    (result,) = json.loads(run("verify", "in.bin", "--against", "in", "--json")[1])
    assert result["images"] == 5
    assert result["compression_ratio"] == pytest.approx(raw / Path("in.bin").stat().st_size)
    assert json.loads(run("info", "in.bin", "--json")[1])["model"] == "grids"
    save(picture(7, 7), "in/0.png")
    assert "expected 9x9" in run("verify", "in.bin", "--against", "in", code=1)[0][0]
    lines, _ = run("pack", "in", "--invert", "-o", "y.bin", code=1)
    assert "does not invert" in lines[-1]


def test_a_pack_takes_the_model_of_its_first_image(run: Run) -> None:
    digit = load(DIGIT)
    Path("in").mkdir()
    Path("in/0.png").write_text("no image")
    save(np.repeat(digit[..., None], 3, axis=2), "in/1.png")
    save(digit, "in/2.png")
    save(picture(9, 9), "in/3.png")
    lines, _ = run("pack", "in", code=1)
    assert "in/3.png: expected 28x28 grey, found 9x9 RGB; -m photo takes images of any" in lines[1]
    assert lines[2].startswith("in.bin: 2 images in ")
    assert "; model mnist, by the first image; single files, as of" in lines[2]
    named = run("pack", "in/1.png", "-m", "mnist", "-o", "m.bin", "--fit")[0][-1]
    assert "by the first image" not in named
    assert json.loads(run("info", "in.bin", "--json")[1])["model"] == "mnist"
    np.savez("x.npz", x_test=np.stack([digit] * 3))
    run("pack", "x.npz")
    assert json.loads(run("info", "x.bin", "--json")[1])["model"] == "mnist"
    np.savez("y.npz", x_test=np.stack([picture(12, 12, 1)[..., 0]] * 3))
    assert run("pack", "y.npz")[0][0].startswith("model grids")
    (result,) = json.loads(run("verify", "y.bin", "--against", "y.npz", "--json")[1])
    assert result["images"] == 3
    with tarfile.open("z.tar", "w") as archive:
        for number, channels in enumerate((3, 1, 3)):
            archive.add(save(picture(9, 9, channels), f"z{number}.png"))
    run("pack", "z.tar")
    (result,) = json.loads(run("verify", "z.bin", "--against", "z.tar", "--json")[1])
    assert result["images"] == 3
    assert result["bpp"] * 9 * 9 * 3 / 8 == pytest.approx(Path("z.bin").stat().st_size)
    run("unpack", "y.bin", "-o", "back")
    assert [load(path).shape for path in Path("back").iterdir()] == [(12, 12, 3)] * 3


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("model", [None, "grids"])
def test_an_archive_on_stdin_is_looked_into_and_read_whole(
    run: Run, monkeypatch: pytest.MonkeyPatch, mode: str, model: str | None
) -> None:
    with tarfile.open("x.tar", mode) as archive:  # type: ignore[call-overload]
        for number in range(20):
            archive.add(save(picture(9, 9 + number, seed=number), f"{number:02}.png"))

    class Stdin:
        def __init__(self, data: bytes) -> None:
            self.buffer = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]

    monkeypatch.setattr(sys, "stdin", Stdin(Path("x.tar").read_bytes()))
    run("pack", "-", "-o", "x.bin", *(["-m", model] if model else []))
    with cvae.open_pack("x.bin") as pack:
        assert [image.shape[1] for image in pack.images(range(20))] == list(range(9, 29))
