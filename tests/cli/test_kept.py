"""No input is ever an output, whatever is forced and whatever name leads to it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

import cvae

from ..conftest import ROOT, SAMPLES, run_here
from .test_inputs import put, said

FAST = ("-m", "mnist", "--quiet", "--effort", "0")
DIGITS = sorted(SAMPLES.glob("*.png"))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    Path("in").mkdir()
    for number in range(2):
        shutil.copy(DIGITS[number], f"in/{number}.png")


def kept(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 2) -> None:
    """Runs a command, which refuses and leaves every file as it is."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    capsys.readouterr()
    run_here(*arguments, "-f", code=code)
    assert "is input and output at once" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_a_pack_of_a_folder_is_kept_under_another_name(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("pack", "in", "-o", "out", "--workers", "1", *FAST)
    Path("link.bin").symlink_to("out/part-00000.bin")
    Path("hard.bin").hardlink_to("out/part-00000.bin")
    for name in ("link.bin", "hard.bin", "l*.bin"):
        kept(capsys, "pack", name, "-o", "out", "--workers", "1", *FAST, code=1)
    run_here("pack", "in", "-o", "out", "--workers", "1", "-f", *FAST)


def test_an_image_among_the_packs_of_a_folder_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("pack", "in", "-o", "out", "--workers", "1", *FAST)
    shutil.copy("in/0.png", "out/part-00009.bin")  # an image by its content
    Path("in/9.png").symlink_to("../out/part-00009.bin")
    kept(capsys, "pack", "in", "-o", "out", "--workers", "1", *FAST, code=1)


def test_a_file_of_a_folder_that_is_packed_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("in/0.png", "in/x.bin")  # an image by its content
    kept(capsys, "pack", "in/", "-o", "in/x.bin", *FAST)
    run_here("pack", "in", "-o", "out", "--workers", "1", *FAST)
    kept(capsys, "pack", "out", "-o", "out/part-00000.bin", *FAST)
    for _ in range(2):  # a pack is no image: it is not read
        run_here("pack", "in", "-o", "in/all.bin", "-f", *FAST)


@pytest.mark.parametrize("option", ["--csv", "--html"])
def test_what_eval_reads_is_kept(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    for data in ("in", "in/*.png", "./in/0.png"):
        kept(capsys, "eval", data, "-m", "mnist", option, "in/0.png")


def test_ends_of_interpolate_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    kept(capsys, "interpolate", "in/0.png", "in/1.png", "-o", Path.cwd() / "in/0.png")
    Path("link.png").symlink_to("in/1.png")
    kept(capsys, "interpolate", "in/0.png", "in/1.png", "-o", "link.png")
    shutil.copy("in/0.png", "in/step_0001.png")
    kept(capsys, "interpolate", "in/step_0001.png", "in/1.png", "-o", "in")


def test_the_model_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(ROOT / "weights/mnist.cvae", "m.cvae")
    Path("m.bin").symlink_to("m.cvae")
    kept(capsys, "encode", "in/0.png", "-m", "m.cvae", "-o", "m.bin")
    kept(capsys, "pack", "in", "-m", "./m.cvae", "-o", "m.bin")
    kept(capsys, "sample", "-m", "m.cvae", "-n", "1", "-o", "m.cvae")
    kept(capsys, "eval", "in", "-m", "m.cvae", "--csv", "m.cvae")


def test_a_pack_that_is_unpacked_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("pack", "in/0.png", "-o", "x.bin", *FAST)
    for name in ("x.tar", "x.npz", "x.png"):
        shutil.copy("x.bin", name)  # a pack by its content
        kept(capsys, "unpack", name, "-o", name)
    Path("back").mkdir()
    shutil.copy("x.bin", "back/0.png")
    kept(capsys, "unpack", "back/0.png", "-o", "back", code=1)
    run_here("unpack", "x.bin", "-o", "back", "-f")
    assert Image.open("back/0.png").size == (28, 28)


def test_the_data_of_a_run_are_kept(
    tiny_run: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(tiny_data, "data.npz")
    kept(capsys, "export", tiny_run, "--data", "data.npz", "-o", "data.npz")


def test_an_input_is_not_replaced_under_another_spelling(tmp_path: Path) -> None:
    put("a.png")
    before = Path("a.png").read_bytes()
    run_here("denoise", "a.png", "-o", tmp_path / "a.png", "--force", code=2)
    run_here("pack", "a.png", "-o", "x.bin", *FAST)
    Path("link.bin").symlink_to("x.bin")
    run_here("pack", "link.bin", "-o", tmp_path / "x.bin", "--force", *FAST, code=2)
    assert Path("a.png").read_bytes() == before


def test_what_a_pattern_matches_is_not_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    put("a.png", "b.png")
    run_here("pack", "a.png", "-o", "f1.bin", *FAST)
    run_here("pack", "b.png", "-o", "f2.bin", *FAST)
    before = {path: path.read_bytes() for path in Path().glob("*.bin")}
    for inputs in (["f*.bin"], ["a.png", "./f?.bin"], ["f1.bin", "**"]):
        capsys.readouterr()
        run_here("pack", *inputs, "-o", "f1.bin", "-f", *FAST, code=2)
        assert "f1.bin is input and output at once; name another with -o" in said(capsys)[-1]
    assert {path: path.read_bytes() for path in Path().glob("*.bin")} == before
    run_here("pack", "f*.bin", "-o", "new.bin", "-f", *FAST)
    assert len(cvae.open_pack("new.bin")) == 2


def test_a_folder_of_packs_that_is_read_is_not_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    folder = [*FAST, "--workers", "1", "-f"]
    run_here("pack", "in", "-o", "out", *folder)
    before = Path("out/part-00000.bin").read_bytes()
    for inputs in ("out", "out/part-*.bin", "out/part-00000.bin", "./out/"):
        capsys.readouterr()
        run_here("pack", inputs, "-o", "out", *folder, code=1)
        assert "is input and output at once, expected another folder" in said(capsys)[0]
    assert Path("out/part-00000.bin").read_bytes() == before
    run_here("pack", "out/part-*.bin", "-o", "other", *folder)
    assert len(cvae.open_pack("other")) == 2


def test_a_result_never_replaces_another_input(capsys: pytest.CaptureFixture[str]) -> None:
    put("a.png", "a_denoised.png")
    Path("b.bin").write_bytes(Path("a_denoised.png").read_bytes())  # an image, whatever its name
    before = Path("a_denoised.png").read_bytes()
    run_here("denoise", "a.png", "a_denoised.png", "-f", code=1)
    run_here("encode", "a.png", "b.bin", "-f", *FAST, code=1)
    assert Path("a_denoised.png").read_bytes() == before == Path("b.bin").read_bytes()
    wrong = "is input and output at once; the output is named with -o"
    errors = [line for line in said(capsys) if "error" in line]
    assert [f"cvae: error: {name}: {wrong}" for name in ("a_denoised.png", "b.bin")] == errors
