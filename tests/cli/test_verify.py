"""`cvae verify`: damage of any file, and coded images against their originals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..conftest import ROOT, SAMPLES, run_here
from .test_packs import FAST, NAMES, errors

MODEL = ROOT / "weights" / "linear-mnist.cvae"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def flipped(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def found(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, object]:
    """The one result that `--json` prints."""
    capsys.readouterr()
    run_here("verify", *arguments, "--json", code=code)
    (result,) = json.loads(capsys.readouterr().out)
    assert isinstance(result, dict)
    return result


def test_whole_files_of_every_kind_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    run_here("pack", SAMPLES, "-o", "x.bin", *FAST)
    run_here("pack", SAMPLES, "-o", "packs", "--shard-images", "4", *FAST)
    shutil.copy(MODEL, "coded/mine.cvae")
    files = ["coded/digit_0.bin", "x.bin", "packs", "coded/mine.cvae", "coded"]
    capsys.readouterr()
    run_here("verify", *files)
    said = capsys.readouterr()
    kinds = ["container", "pack", "folder of packs", "model", "11 files"]
    assert said.out.splitlines() == [
        f"{file}: {kind}, whole" for file, kind in zip(files, kinds, strict=True)
    ]
    assert said.err == ""


def test_damage_of_every_kind_is_named_and_the_exit_code_is_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    run_here("pack", SAMPLES, "-o", "x.bin", *FAST)
    run_here("pack", SAMPLES, "-o", "packs", "--shard-images", "4", *FAST)
    shutil.copy(MODEL, "mine.cvae")
    flipped(Path("coded/digit_3.bin"), 7)
    flipped(Path("x.bin"), 60)
    Path("packs/part-00001.bin").unlink()
    flipped(Path("mine.cvae"), MODEL.stat().st_size // 2)
    coded = found(capsys, "coded", code=1)
    assert (coded["file"], coded["kind"]) == ("coded", "1 of 10 files")
    assert str(coded["damage"]).startswith("['coded/digit_3.bin: damaged: ")
    assert "images 0 to 9" in str(found(capsys, "x.bin", code=1)["damage"])
    assert "part-00001.bin: is missing" in str(found(capsys, "packs", code=1)["damage"])
    assert found(capsys, "mine.cvae", code=1)["damage"]
    capsys.readouterr()
    run_here("verify", "coded", "x.bin", "packs", "mine.cvae", "coded/digit_0.bin", code=1)
    said = capsys.readouterr()
    states = [line.rsplit(", ", 1)[1] for line in said.out.splitlines()]
    assert states == ["damaged"] * 4 + ["whole"]
    lines = said.err.splitlines()
    assert [line.split(": ")[2] for line in lines] == [
        "coded/digit_3.bin", "x.bin", "packs", "mine.cvae",
    ]  # fmt: skip


def test_what_is_missing_or_nothing_of_ours_is_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("empty").mkdir()
    Path("text.bin").write_text("text")
    run_here("verify", "nowhere", "empty", "text.bin", code=1)
    lines = errors(capsys)
    assert lines[0] == "cvae: error: nowhere: there is no such file or folder"
    assert lines[1].startswith("cvae: error: empty: expected .bin or .cvae files")
    assert lines[2].startswith("cvae: error: text.bin: not a cvae container")
    assert found(capsys, "text.bin", code=1)["kind"] == "unknown kind of file"


def test_a_run_without_a_model_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    Path("run/run.json").write_text("{}")
    run_here("verify", "run", code=1)
    assert "expected a .cvae file, found a training run without one" in capsys.readouterr().err


def test_a_container_without_its_model_is_no_damage(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("x.png")
    run_here("encode", "x.png", "-m", tiny_model, *FAST)
    run_here("verify", "x.bin")
    assert "warning: x.bin: only the check sum was looked at: there is no model of id" in (
        capsys.readouterr().err
    )
    run_here("verify", "x.bin", "-m", tiny_model)
    assert capsys.readouterr().err == ""


def test_packs_and_single_files_give_the_same_figures_against_their_originals(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    run_here("pack", SAMPLES, "-o", "x.bin", *FAST)
    originals = ["--against", str(SAMPLES)]
    single, pack = (found(capsys, file, *originals) for file in ("coded", "x.bin"))
    for figure in ("images", "quality", "model", "psnr_mean", "ssim_mean", "warned", "missing"):
        assert single[figure] == pack[figure], figure
    assert single["images"] == 10
    sizes = [path.stat().st_size for path in Path("coded").iterdir()]
    assert single["file_bytes_mean"] == np.mean(sizes)
    one = found(capsys, "coded/digit_3.bin", "--against", str(SAMPLES / NAMES[3]))
    assert one["images"] == 1
    capsys.readouterr()
    run_here("verify", "x.bin", *originals)
    assert f"PSNR                    {pack['psnr_mean']:.2f} dB" in capsys.readouterr().out


def test_images_without_an_original_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    flipped(Path("coded/digit_3.bin"), 7)
    Path("some").mkdir()
    for name in NAMES[:5]:
        shutil.copy(SAMPLES / name, "some")
    run_here("verify", "coded", "--against", "some", "--json", code=1)
    said = capsys.readouterr()
    (result,) = json.loads(said.out)
    assert (result["images"], result["missing"], result["lost"]) == (4, 5, 1)
    assert "coded/digit_3.bin" in said.err
    assert (
        "error: some: has no original that can be read of 5 coded images: digit_5.bin, " in said.err
    )
    run_here("verify", "coded", "--against", "nowhere", code=1)


def test_a_split_chooses_the_originals(
    digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("pack", "digits.npz", "--split", "train", "-o", "x.bin", *FAST)
    result = found(capsys, "x.bin", "--against", "digits.npz", "--split", "train")
    assert (result["images"], result["split"], result["dataset"]) == (3, "train", "digits")
    run_here("verify", "x.bin", "--against", "digits.npz", code=1)
    assert "expected 3 images, as many as were coded" in errors(capsys)[-1]
