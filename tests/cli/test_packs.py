"""Packs on the command line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.options import EncodeOptions
from cvae.packs.encode import encode_pack

from ..conftest import SAMPLES, run_cvae, run_here

NAMES = [f"digit_{i}.png" for i in range(10)]
FAST = ["--effort", "0", "--quiet"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def listed(folder: str) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "error" in line]


def tar_of(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, arcname=".", filter=lambda i: None if i.name.endswith(".py") else i)
    return buffer.getvalue()


def test_a_folder_becomes_a_pack_and_a_folder_again() -> None:
    run_here("pack", SAMPLES, "-o", "digits.bin", *FAST)
    run_here("unpack", "digits.bin", "-o", "back")
    assert listed("back") == NAMES
    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    run_here("decode", "coded", "-o", "single", "--quiet")
    for name in NAMES:
        single = Path("single", name.replace(".png", "_reconstructed.png"))
        pictures = [
            np.asarray(Image.open(path)).astype(int) for path in (single, Path("back", name))
        ]
        assert np.abs(pictures[0] - pictures[1]).max() <= 1
    total = sum(path.stat().st_size for path in Path("coded").iterdir())
    run_here("pack", SAMPLES, "-o", "bare.bin", "--no-names", *FAST)
    assert Path("bare.bin").stat().st_size < total + 150


def test_several_files_become_a_pack() -> None:
    run_here("pack", SAMPLES / NAMES[3], SAMPLES / NAMES[1], "-o", "two.bin", *FAST)
    run_here("unpack", "two.bin")
    assert listed("two_reconstructed") == [NAMES[1], NAMES[3]]


def test_a_pattern_in_quotes_becomes_a_pack() -> None:
    run_here("pack", f"{SAMPLES}/digit_[13].png", "-o", "two.bin", *FAST)
    run_here("unpack", "two.bin")
    assert listed("two_reconstructed") == [NAMES[1], NAMES[3]]


def test_npz_to_pack_to_npz(digits: np.ndarray) -> None:
    run_here("pack", "digits.npz", *FAST)
    run_here("unpack", "digits.bin", "-o", "back.npz")
    images = np.load("back.npz")["images"]
    assert images.shape == (80, 28, 28)
    codec = cvae.open_model()
    symbols = codec.quantize(digits[..., None], 50, 0)
    assert np.abs(codec.synthesize(symbols, 50)[..., 0].astype(int) - images).max() <= 1
    run_here("pack", "digits.npz", "--split", "train", "-o", "train.bin", *FAST)
    run_here("unpack", "train.bin", "-o", "train.npy")
    assert len(np.load("train.npy")) == 3
    run_here("pack", "back.npz", "train.npy", "-o", "all.bin", "--no-verify", *FAST)
    assert len(cvae.open_pack("all.bin")) == 83


def test_a_tar_on_stdin_and_a_tar_on_stdout() -> None:
    run_cvae("pack", "-", "-o", "x.bin", *FAST, stdin=tar_of(SAMPLES))
    coded = run_cvae("pack", "-", *FAST, stdin=tar_of(SAMPLES)).stdout
    assert coded == Path("x.bin").read_bytes()
    archive = run_cvae("unpack", "-", "-o", "-", "--quiet", stdin=coded).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        assert sorted(found.getnames()) == NAMES
    Path("x.tar").write_bytes(archive)
    run_here("pack", "x.tar", "-o", "y.bin", *FAST)
    assert len(cvae.open_pack("y.bin")) == 10


def test_a_pack_from_stdin_goes_to_stdout_as_a_tar_and_on_a_terminal_to_a_folder() -> None:
    run_here("pack", SAMPLES, "-o", "x.bin", *FAST)
    data = Path("x.bin").read_bytes()
    archive = run_cvae("unpack", "-", "--quiet", stdin=data).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        assert sorted(found.getnames()) == NAMES
    assert listed(".") == ["x.bin"]
    terminal, stdout = os.openpty()
    command = [sys.executable, "-m", "cvae", "unpack", "-", "--quiet"]
    subprocess.run(command, input=data, stdout=stdout, check=True)
    os.close(stdout)
    os.close(terminal)
    assert listed("stdin_reconstructed") == NAMES


@pytest.mark.parametrize("ending", ["tar.gz", "tgz", "tar.xz", "ZIP", "7z", "gz", "bin"])
def test_no_folder_is_made_where_an_archive_is_meant(
    ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("pack", SAMPLES, "-o", "x.bin", *FAST)
    run_here("unpack", "x.bin", "-o", f"out.{ending}", code=2)
    message = f"out.{ending}: expected a folder, .npz, .npy or .tar; put a / behind it"
    assert message in " ".join(capsys.readouterr().err.split())
    assert listed(".") == ["x.bin"]
    run_here("unpack", "x.bin", "-o", f"out.{ending}/", "--quiet")
    run_here("unpack", "x.bin", "-o", f"out.{ending}", "--quiet", "--force")  # it is one now
    assert listed(f"out.{ending}") == NAMES


def test_some_images_by_number_and_by_name(digits: np.ndarray) -> None:
    run_here("pack", "digits.npz", *FAST)
    run_here("unpack", "digits.bin", "--only", "17,42-44", "--only", "3", "-o", "some")
    assert listed("some") == [f"{i:06d}.png" for i in (3, 17, 42, 43, 44)]
    run_here("pack", SAMPLES, "-o", "named.bin", *FAST)
    run_here("unpack", "named.bin", "--only", NAMES[4], "-o", "four.png")
    assert Image.open("four.png").size == (28, 28)
    for wrong in ("80", "70-80", "5-3", "no.png", "9" * 5000):
        code = 2 if wrong == "5-3" else 1
        run_here("unpack", "digits.bin", "--only", wrong, "-o", "never", code=code)
    assert not Path("never").exists()


def test_three_damaged_blocks_are_named_and_the_rest_is_decoded(
    digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = cvae.open_model()
    encode_pack(digits, "x.bin", codec, EncodeOptions(effort=0, block_images=16))
    run_here("unpack", "x.bin", "-o", "whole.npz")
    places = cvae.open_pack("x.bin").reader.places
    data = bytearray(Path("x.bin").read_bytes())
    for block in (0, 2, 3):
        data[places[block].offset + 60] ^= 0x40
    Path("x.bin").write_bytes(data)

    capsys.readouterr()
    run_here("unpack", "x.bin", "-o", "back.npz", code=1)
    assert "images 0 to 15" in errors(capsys)[0]
    run_here("unpack", "x.bin", "-o", "back", code=1)
    assert listed(".") == ["digits.npz", "whole.npz", "x.bin"]

    capsys.readouterr()
    run_here("unpack", "x.bin", "-o", "back.npz", "--keep-going", code=1)
    named = errors(capsys)
    assert len(named) == 3
    for line, images in zip(named, ("0 to 15", "32 to 47", "48 to 63"), strict=True):
        assert f"images {images}" in line
    back = np.load("back.npz")
    kept = [*range(16, 32), *range(64, 80)]
    assert back["numbers"].tolist() == kept
    assert np.array_equal(back["images"], np.load("whole.npz")["images"][kept])
    run_here("unpack", "x.bin", "-o", "back", "--keep-going", code=1)
    assert listed("back") == [f"{i:06d}.png" for i in kept]
    run_here("unpack", "x.bin", "-o", "one.npz", "--only", "20")


def test_a_pack_without_its_end_is_decoded_as_far_as_it_goes(digits: np.ndarray) -> None:
    codec = cvae.open_model()
    encode_pack(digits, "x.bin", codec, EncodeOptions(effort=0, block_images=16))
    places = cvae.open_pack("x.bin").reader.places
    os.truncate("x.bin", places[3].offset + 30)
    run_here("unpack", "x.bin", "-o", "x.npy", code=1)
    assert not Path("x.npy").exists()
    run_here("unpack", "x.bin", "-o", "x.npy", "--keep-going", code=1)
    assert len(np.load("x.npy")) == 48


def test_a_block_that_is_cut_off_is_named_and_counted(
    digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = cvae.open_model()
    encode_pack(digits, "x.bin", codec, EncodeOptions(effort=0, block_images=16))
    os.truncate("x.bin", cvae.open_pack("x.bin").reader.places[3].offset + 60)
    run_here("unpack", "x.bin", "-o", "x.npy", "--keep-going", code=1)
    said = capsys.readouterr().err
    assert "block 3, images 48 to 63: it is cut off" in said
    assert "48 of 64 images decoded" in said
    assert len(np.load("x.npy")) == 48
    run_here("info", "x.bin", "--json", code=1)
    facts = json.loads(capsys.readouterr().out)
    assert (facts["images"], facts["blocks"], len(facts["damage"])) == (64, 3, 2)


def test_info_describes_a_pack_and_its_damage(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("pack", SAMPLES, "-o", "x.bin", *FAST)
    capsys.readouterr()
    run_here("info", "x.bin", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert (facts["model"], facts["images"], facts["blocks"]) == ("mnist", 10, 1)
    assert facts["names"] == NAMES[:5]
    assert facts["damage"] is None
    data = bytearray(Path("x.bin").read_bytes())
    data[60] ^= 1
    Path("x.bin").write_bytes(data)
    run_here("info", "x.bin", code=1)
    assert "block 0, images 0 to 9" in capsys.readouterr().out


def test_bad_images_are_named_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    Path("in/a.png").write_text("text")
    Path("in/b.png").write_bytes((SAMPLES / NAMES[0]).read_bytes())
    Image.new("RGB", (30, 40)).save("in/c.png")
    run_here("pack", "in", "-o", "x.bin", *FAST, code=1)
    named = errors(capsys)
    assert [line.split(":")[2].strip() for line in named] == ["in/a.png", "in/c.png"]
    assert "--fit" in named[1]
    assert len(cvae.open_pack("x.bin")) == 1
    Path("in/b.png").unlink()
    run_here("pack", "in", "-o", "y.bin", "-m", "mnist", *FAST, code=1)
    assert not Path("y.bin").exists()


def test_names_in_an_archive_do_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open("x.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("\x1b[31mred.png"))
        archive.add(SAMPLES / NAMES[0], arcname="good.png")
    run_here("pack", "x.tar", "-o", "x.bin", *FAST, code=1)
    assert "\\x1b[31mred.png: expected an image, found an empty file" in errors(capsys)[0]


def test_one_image_is_still_decoded_from_a_pipe_with_a_name() -> None:
    run_here("encode", SAMPLES / NAMES[0], "-o", "x.bin", *FAST)
    script = f"{sys.executable} -m cvae decode <(cat x.bin) -o x.png"
    subprocess.run(["bash", "-c", script], check=True)
    assert Path("x.png").exists()


def test_fit_and_invert_are_undone() -> None:
    Path("in").mkdir()
    dark = 255 - np.asarray(Image.open(SAMPLES / NAMES[3]))
    Image.fromarray(dark).resize((56, 84)).save("in/a.png")
    Image.fromarray(dark).save("in/b.png")
    run_here("pack", "in", "-o", "x.bin", "-m", "mnist", "--fit", "--invert", *FAST)
    run_here("unpack", "x.bin", "-o", "back")
    assert Image.open("back/a.png").size == (56, 84)
    back = np.asarray(Image.open("back/b.png")).astype(float)
    assert 10 * np.log10(255**2 / np.mean((back - dark) ** 2)) > 20


def test_poor_pictures_are_one_warning_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    images = [255 - np.asarray(Image.open(SAMPLES / name)) for name in NAMES]
    np.save("dark.npy", np.stack(images))
    run_here("pack", "dark.npy", "--effort", "0", "-o", "x.bin")
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "10 of 10 images come back" in warnings[0]
    assert "they are of the other polarity: --invert" in warnings[0]
    np.save("one.npy", np.stack([255 - images[0], 255 - images[1], images[2]]))
    run_here("pack", "one.npy", "--effort", "0", "-o", "y.bin")
    assert "1 of 3 images comes back" in capsys.readouterr().err


def test_poor_pictures_name_the_models_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", np.random.default_rng(0).integers(0, 256, (2, 28, 28), np.uint8))
    run_here("pack", "x.npy", "--effort", "0")
    warning = capsys.readouterr().err
    models = warning.rpartition("; models ")[2]
    assert models.endswith(" take 28x28 grey images, too: -m NAME\n")
    names = models.partition(" take ")[0].split(", ")
    assert {"fashion", "fashion-hq"} < {*names}
    # Those of the same images do no better, and others keep every pixel or are of another size.
    assert not {"mnist", "mnist-hq", "lossless-fashion", "photo", "cifar", "fashion-dae"} & {*names}


def test_poor_pictures_are_named_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    images = [np.asarray(Image.open(SAMPLES / name)) for name in NAMES[:5]]
    images[1], images[3] = 255 - images[1], 255 - images[3]
    np.save("mixed.npy", np.stack(images))
    Path("in").mkdir()
    for name, pixels in zip(NAMES, images, strict=False):
        Image.fromarray(pixels).save(f"in/{name}")
    encoded = ["--effort", "0", "-v", "-o", "x.bin", "--force"]
    psnr = {}
    for source, labels in (("mixed.npy", ["image 1", "image 3"]), ("in", [NAMES[1], NAMES[3]])):
        capsys.readouterr()
        run_here("pack", source, *encoded)
        *named, _, warning = capsys.readouterr().err.splitlines()
        assert "2 of 5 images come back below" in warning
        assert [line.split(": comes back at ")[0] for line in named] == labels
        psnr[source] = [line.split(": comes back at ")[1] for line in named]
    assert psnr["in"] == psnr["mixed.npy"]
    with cvae.open_pack("x.bin") as pack:
        back = pack.images([1])[0, ..., 0].astype(float)
    found = 10 * np.log10(255**2 / np.mean((back - images[1]) ** 2))
    assert psnr["in"][0] == f"{found:.2f} dB"
    run_here("pack", "in", *encoded, "--no-verify")
    assert "comes back" not in capsys.readouterr().err


def test_a_pack_that_is_larger_than_single_files_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    size = sum(path.stat().st_size for path in Path("coded").iterdir())
    capsys.readouterr()
    run_here("pack", SAMPLES, "-o", "x.bin", "--effort", "0")
    assert f"; single files, as of `cvae encode`, would take {size} bytes" in (
        capsys.readouterr().err
    )
    pixels = np.stack([np.asarray(Image.open(SAMPLES / name)) for name in NAMES])
    np.save("many.npy", np.concatenate([pixels] * 5))
    run_here("pack", "many.npy", "--effort", "0")
    assert "single files" not in capsys.readouterr().err
