"""Packs that exist, measured against their originals."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.codec import EncodeOptions
from cvae.data import metrics
from cvae.packs.encode import encode_pack

from ..conftest import blobs, run_here

FAST = ["-m", "linear-mnist", "--effort", "0", "--quiet"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    """`x.npy` and `in`, the same images, and packs of both."""
    pixels = blobs(30, side=28)
    np.save("x.npy", pixels)
    Path("in/a").mkdir(parents=True)
    for i, image in enumerate(pixels[..., 0]):
        Image.fromarray(image).save(f"in/{'a/' if i % 2 else ''}{i:02d}.png")
    run_here("encode", "x.npy", "-o", "x.bin", *FAST)
    run_here("encode", "in", "-o", "in.bin", *FAST)


def figures(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, float]:
    run_here("eval", *arguments, "--json")
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def test_a_pack_is_measured_as_evaluation_measures(capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, "x.npy", "--coded", "x.bin")
    np.savez("x.npz", x_test=np.load("x.npy")[..., 0])
    expected = figures(capsys, "x.npz", "-m", "linear-mnist", "--effort", "0")
    for key in (
        "images",
        "quality",
        "psnr_mean",
        "psnr_of_mean_mse",
        "mse_mean",
        "ssim_mean",
        "warned",
    ):
        assert found[key] == pytest.approx(expected[key]), key
    size = Path("x.bin").stat().st_size
    assert found["file_bytes_mean"] == pytest.approx(size / 30)
    assert found["compression_ratio"] == pytest.approx(30 * 784 / size)
    assert found["bpp"] == pytest.approx(8 * size / 30 / 784)


def test_images_are_matched_by_name_in_folders_and_archives(
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = figures(capsys, "x.npy", "--coded", "x.bin")["psnr_mean"]
    assert figures(capsys, "in", "--coded", "in.bin")["psnr_mean"] == pytest.approx(expected)
    with tarfile.open("in.tar", "w") as archive:
        for path in sorted(Path("in").rglob("*.png")):
            archive.add(path, path.relative_to("in").as_posix())
    run_here("encode", "in.tar", "-o", "tar.bin", *FAST)
    assert figures(capsys, "in.tar", "--coded", "tar.bin")["psnr_mean"] == pytest.approx(expected)
    # Nothing of the order is needed where names can be looked up.
    assert figures(capsys, "in", "--coded", "tar.bin")["psnr_mean"] == pytest.approx(expected)


def test_missing_originals_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/a/01.png").unlink()
    run_here("eval", "in", "--coded", "in.bin", "--json")
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert (found["images"], found["missing"]) == (29, 1)
    assert "in: has no original of 1 coded image\n" in output.err


def test_the_split_that_was_measured_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.load("x.npy")
    np.savez("x.npz", x_test=pixels, x_train=pixels)
    np.savez("plain.npz", images=pixels)
    for arguments, split in (
        (["x.npz"], "test"),
        (["x.npz", "--split", "train"], "train"),
        (["plain.npz"], "all"),
        (["x.npy"], "all"),
    ):
        assert figures(capsys, *arguments, "--coded", "x.bin")["split"] == split
    assert figures(capsys, "in", "--split", "test", "--coded", "in.bin")["split"] == "all"


@pytest.mark.parametrize("named", [False, True])
def test_of_a_damaged_pack_what_is_whole_is_measured(
    named: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.load("x.npy")
    data = "in" if named else "x.npy"
    names = sorted(p.relative_to("in").as_posix() for p in Path("in").rglob("*.png"))
    images = np.stack([pixels[int(name[-6:-4])] for name in names]) if named else pixels
    options = EncodeOptions(effort=0, block_images=8)
    codec = cvae.open_model("linear-mnist")
    encode_pack(images, "d.bin", codec, options, names if named else None)
    with cvae.open_pack("d.bin") as pack:
        places = pack.reader.places
        decoded = pack.images(range(30))
    damaged = bytearray(Path("d.bin").read_bytes())
    for block in (0, 2):
        damaged[places[block].offset + 50] ^= 1
    Path("d.bin").write_bytes(damaged)
    capsys.readouterr()
    run_here("eval", data, "--coded", "d.bin", "--json", code=1)
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert (found["images"], found["lost"], found["missing"]) == (14, 16, 0)
    kept = [*range(8, 16), *range(24, 30)]
    expected = metrics.psnr(images[kept], decoded[kept]).mean()
    assert found["psnr_mean"] == pytest.approx(expected)
    lines = output.err.splitlines()
    assert [line.split(": ")[:3] for line in lines] == 2 * [["cvae", "error", "d.bin"]]
    assert "images 0 to 7" in lines[0]
    assert "images 16 to 23" in lines[1]


@pytest.mark.parametrize(
    ("data", "coded", "message"),
    [
        ("y.npy", "x.bin", "expected 30 images, as many as were coded, found 20"),
        ("z.npy", "x.bin", "as many as were coded, found more"),
        ("in", "x.bin", "expected names in the pack"),
        ("x.npy", "cut.bin", "damaged"),
        ("x.npy", "missing.bin", "missing.bin"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    data: str, coded: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("y.npy", blobs(20, side=28))
    np.save("z.npy", blobs(31, side=28))
    Path("cut.bin").write_bytes(Path("x.bin").read_bytes()[:-60])
    run_here("eval", data, "--coded", coded, code=1)
    assert message in capsys.readouterr().err
