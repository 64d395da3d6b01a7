"""Packs that exist, measured against their originals."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae import packs
from cvae.data import images, metrics
from cvae.errors import CvaeError, FormatError, StorageError
from cvae.evaluation import containers, verify
from cvae.evaluation.originals import Originals
from cvae.options import EncodeOptions
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
    run_here("pack", "x.npy", "-o", "x.bin", *FAST)
    run_here("pack", "in", "-o", "in.bin", *FAST)


def figures(data: str, coded: str, split: str | None = None) -> dict[str, Any]:
    with cvae.open_pack(coded) as pack:
        return verify.compare(pack, Originals(data), EncodeOptions(fit=True, split=split)).figures[
            0
        ]


def of_containers(pixels: np.ndarray, coded: list[bytes]) -> dict[str, Any]:
    """The figures of containers in a folder beside their originals in another."""
    for folder in ("coded", "originals"):
        Path(folder).mkdir()
    for number, (image, data) in enumerate(zip(pixels, coded, strict=True)):
        Image.fromarray(image[..., 0]).save(f"originals/{number}.png")
        Path(f"coded/{number}.bin").write_bytes(data)
    files = [(f"coded/{number}.bin", f"{number}.bin") for number in range(len(coded))]
    refused: list[CvaeError] = []
    originals = Originals("originals", refused.append)
    options, find = EncodeOptions(fit=True), verify.codec_finder()
    (result,) = containers.compare(files, originals, options, find, refused.append).figures
    assert refused == []
    return result


FIGURES = (
    "images", "quality", "psnr_mean", "psnr_of_mean_mse", "mse_mean", "ssim_mean", "warned",
)  # fmt: skip


def test_a_pack_is_measured_as_evaluation_measures(capsys: pytest.CaptureFixture[str]) -> None:
    found = figures("x.npy", "x.bin")
    np.savez("x.npz", x_test=np.load("x.npy")[..., 0])
    run_here("eval", "x.npz", "-m", "linear-mnist", "--effort", "0", "--json")
    expected = json.loads(capsys.readouterr().out)
    for key in FIGURES:
        assert found[key] == pytest.approx(expected[key]), key
    size = Path("x.bin").stat().st_size
    assert found["file_bytes_mean"] == pytest.approx(size / 30)
    assert found["compression_ratio"] == pytest.approx(30 * 784 / size)
    assert found["bpp"] == pytest.approx(8 * size / 30 / 784)


def test_containers_are_measured_as_packs_are() -> None:
    pixels, codec = np.load("x.npy"), cvae.open_model("linear-mnist")
    coded = [item.data for item in codec.encode_batch(pixels, EncodeOptions(effort=0))]
    found, expected = of_containers(pixels, coded), figures("x.npy", "x.bin")
    for key in (*FIGURES, "model"):
        assert found[key] == pytest.approx(expected[key]), key
    assert found["file_bytes_mean"] == pytest.approx(sum(map(len, coded)) / 30)


def test_fitted_and_inverted_containers_are_measured_at_the_size_of_the_model() -> None:
    large, codec = images.resize(np.load("x.npy")[0], 100, 70), cvae.open_model("linear-mnist")
    options = EncodeOptions(quality=90, effort=0, fit=True, invert=True)
    reading = codec.reading(options)
    fitted = reading.pixels(reading.picture(images.as_image(large), ""))
    (item,) = codec.encode_batch(fitted[None], options, [(100, 70)])
    found = of_containers(large[None], [item.data])
    assert (found["images"], found["quality"]) == (1, 90)
    assert found["psnr_mean"] == pytest.approx(item.psnr)


def test_damage_is_found_in_files_of_every_kind() -> None:
    Path("one.bin").write_bytes(cvae.encode(np.load("x.npy")[0], "linear-mnist"))
    run_here("pack", "x.npy", "-o", "folder", "--workers", "1", *FAST)
    for place in ("one.bin", "x.bin", "folder"):
        assert verify.check(place) == []
    for place in ("one.bin", "x.bin", "folder/part-00000.bin"):
        data = bytearray(Path(place).read_bytes())
        data[len(data) // 2] ^= 4
        Path(place).write_bytes(data)
    assert [item.images for place in ("one.bin", "x.bin", "folder") for item in verify.check(place)] == [
        1, 30, 30,
    ]  # fmt: skip
    for data in (b"", b"text", Path("in.bin").read_bytes()[:-1]):
        Path("bad").write_bytes(data)
        assert verify.check("bad")
    with pytest.raises(StorageError, match="no-such-file"):
        verify.check("no-such-file")


def test_a_model_is_opened_once_for_many_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def find(model_id: int) -> cvae.Codec:
        opened.append(model_id)
        return cvae.open_model("linear-mnist")

    monkeypatch.setattr(verify, "find_codec", find)
    finder = verify.codec_finder()
    codec = cvae.open_model("linear-mnist")
    for i, item in enumerate(codec.encode_batch(np.load("x.npy")[:4], EncodeOptions(effort=0))):
        Path(f"{i}.bin").write_bytes(item.data)
        assert verify.check(f"{i}.bin", finder) == []
    assert opened == [codec.model.manifest.id]


def test_images_are_matched_by_name_in_folders_and_archives() -> None:
    expected = figures("x.npy", "x.bin")["psnr_mean"]
    assert figures("in", "in.bin")["psnr_mean"] == pytest.approx(expected)
    with tarfile.open("in.tar", "w") as archive:
        for path in sorted(Path("in").rglob("*.png")):
            archive.add(path, path.relative_to("in").as_posix())
    run_here("pack", "in.tar", "-o", "tar.bin", *FAST)
    assert figures("in.tar", "tar.bin")["psnr_mean"] == pytest.approx(expected)
    # Nothing of the order is needed where names can be looked up.
    assert figures("in", "tar.bin")["psnr_mean"] == pytest.approx(expected)


def test_missing_originals_are_counted() -> None:
    Path("in/a/01.png").unlink()
    with tarfile.open("in.tar", "w") as archive:
        for path in sorted(Path("in").rglob("*.png"), key=lambda path: path.as_posix()):
            archive.add(path, path.relative_to("in").as_posix())
    expected: dict[str, Any] = {}
    for data in ("in", "in.tar"):
        originals = Originals(data)
        with cvae.open_pack("in.bin") as pack:
            found = verify.compare(pack, originals)
        (result,) = found.figures
        assert (result["images"], result["missing"]) == (29, 1)
        assert (found.absent, originals.uncoded) == (["a/01.png"], [])
        expected = expected or result
        for figure in FIGURES:
            assert result[figure] == pytest.approx(expected[figure]), figure


def test_an_archive_in_another_order_than_the_pack_is_refused() -> None:
    with tarfile.open("in.tar", "w") as archive:
        for name in ("a/03.png", "a/01.png"):
            archive.add(f"in/{name}", name)
    with (
        cvae.open_pack("in.bin") as pack,
        pytest.raises(CvaeError, match=r"order of the pack, found .a/01"),
    ):
        verify.compare(pack, Originals("in.tar"))


def test_originals_that_were_never_coded_are_named() -> None:
    images = {"in/0.png", "in/a/zz.png"}
    for name in images:
        Image.new("L", (28, 28)).save(name)
    with tarfile.open("in.tar", "w") as archive:
        for path in sorted(Path("in").rglob("*.png"), key=lambda path: (path.parts[1:-1], path)):
            archive.add(path, path.relative_to("in").as_posix())
    run_here("pack", "in", "-o", "more.bin", *FAST)
    for data in ("in", "in.tar"):
        originals = Originals(data)
        with cvae.open_pack("in.bin") as pack:
            found = verify.compare(pack, originals)
        assert (found.figures[0]["images"], found.figures[0]["uncoded"]) == (30, 2)
        assert {f"in/{name}" for name in originals.uncoded} == images


def test_the_split_that_was_measured_is_named() -> None:
    pixels = np.load("x.npy")
    np.savez("x.npz", x_test=pixels, x_train=pixels)
    np.savez("plain.npz", images=pixels)
    for data, split, expected in (
        ("x.npz", None, "test"),
        ("x.npz", "train", "train"),
        ("plain.npz", None, "all"),
        ("x.npy", None, "all"),
    ):
        assert figures(data, "x.bin", split)["split"] == expected
    assert figures("in", "in.bin", "test")["split"] == "all"


@pytest.mark.parametrize("named", [False, True])
def test_of_a_damaged_pack_what_is_whole_is_measured(named: bool) -> None:
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
    refused: list[CvaeError] = []
    with cvae.open_pack("d.bin") as pack:
        (found,) = verify.compare(pack, Originals(data), refuse=refused.append).figures
    assert (found["images"], found["lost"], found["missing"]) == (14, 16, 0)
    kept = [*range(8, 16), *range(24, 30)]
    expected = metrics.psnr(images[kept], decoded[kept]).mean()
    assert found["psnr_mean"] == pytest.approx(expected)
    assert [type(error) for error in refused] == [FormatError] * 2
    assert "images 0 to 7" in str(refused[0])
    assert "images 16 to 23" in str(refused[1])


@pytest.mark.parametrize(
    ("data", "coded", "message"),
    [
        ("y.npy", "x.bin", "expected 30 images, as many as were coded, found 20"),
        ("z.npy", "x.bin", "as many as were coded, found more"),
        ("in", "x.bin", "expected names in the pack"),
        ("x.npy", "cut.bin", "damaged"),
        ("x.npy", "missing.bin", r"missing\.bin"),
    ],
)
def test_what_does_not_belong_together_is_refused(data: str, coded: str, message: str) -> None:
    np.save("y.npy", blobs(20, side=28))
    np.save("z.npy", blobs(31, side=28))
    Path("cut.bin").write_bytes(Path("x.bin").read_bytes()[:-60])
    with pytest.raises(CvaeError, match=message), packs.open(coded, damaged=True) as pack:
        verify.compare(pack, Originals(data))
