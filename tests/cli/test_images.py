"""Every command that takes images takes them from everything that holds images, and reads the same."""

from __future__ import annotations

import gzip
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.data.reading import Reading
from cvae.data.sources import Which
from cvae.evaluation import measure, noise
from cvae.models import registry
from cvae.packs.source import open_images
from cvae.training import datasets

from ..conftest import blobs, run_cvae, run_here
from ..data.test_sources import idx

MODEL = ["-m", "linear-mnist", "--effort", "0"]
COUNT = 30
SHAPE = (28, 28, 1)


def pixels() -> np.ndarray:
    return blobs(COUNT, side=28)


def folder() -> str:
    Path("scans").mkdir()
    for number, image in enumerate(pixels()[..., 0]):
        Image.fromarray(image).save(f"scans/{number:02d}.png")
    return "scans"


def a_tar(mode: str = "w") -> str:
    name = f"x.tar{mode[1:].replace(':', '.')}"
    with tarfile.open(name, mode) as archive:  # type: ignore[call-overload]
        for path in sorted(Path(folder()).iterdir()):
            archive.add(path, path.name)
    return name


def a_zip() -> str:
    with zipfile.ZipFile("x.zip", "w") as archive:
        for path in sorted(Path(folder()).iterdir()):
            archive.write(path, path.name)
    return "x.zip"


def an_npz(**arrays: np.ndarray) -> str:
    np.savez_compressed("x.npz", **arrays)
    return "x.npz"


def an_npy(array: np.ndarray) -> str:
    np.save("x.npy", array)
    return "x.npy"


def an_idx(name: str = "train-images-idx3-ubyte") -> str:
    data = idx(pixels()[..., 0])
    Path(name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return name


def a_pattern() -> str:
    return f"{folder()}/*.png"


def an_url() -> str:
    import fsspec

    name = "memory://inputs/x.npy"
    with fsspec.open(name, "wb") as file:
        np.save(file, pixels())
    return name


PLACES = {
    "folder": folder,
    "tar": a_tar,
    "tar.gz": lambda: a_tar("w:gz"),
    "zip": a_zip,
    "npz": lambda: an_npz(x_test=pixels(), x_train=pixels()),
    "npz of images": lambda: an_npz(images=pixels(), numbers=np.arange(COUNT)),
    "npz of another key": lambda: an_npz(pictures=pixels()[..., 0], labels=np.arange(COUNT)),
    "npy": lambda: an_npy(pixels()),
    "npy without channels": lambda: an_npy(pixels()[..., 0]),
    "npy in Fortran order": lambda: an_npy(np.asfortranarray(pixels())),
    "idx": an_idx,
    "idx.gz": lambda: an_idx("t10k-images-idx3-ubyte.gz"),
    "pattern": a_pattern,
    "url": an_url,
}
every_place = pytest.mark.parametrize("place", PLACES)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def figures(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    run_here("eval", *arguments, *MODEL, "--json")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def unpacked(pack: str) -> np.ndarray:
    with cvae.open_pack(pack) as found:
        return found.images(range(len(found)))


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """What becomes of the images in a pack."""
    folder = tmp_path_factory.mktemp("expected")
    np.save(folder / "x.npy", pixels())
    run_here("pack", folder / "x.npy", "-o", folder / "x.bin", *MODEL, "--quiet")
    return unpacked(str(folder / "x.bin"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The figures of the images."""
    path = tmp_path_factory.mktemp("expected") / "x.npy"
    np.save(path, pixels())
    found: dict[str, Any] = json.loads(run_cvae("eval", path, *MODEL, "--json").stdout)
    return found


@every_place
def test_eval_measures_the_same_wherever_the_images_lie(
    place: str, expected: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found = figures(capsys, PLACES[place]())
    assert found["images"] == COUNT
    for key in ("psnr_mean", "file_bytes_mean", "ssim_mean"):
        assert found[key] == pytest.approx(expected[key]), key
    assert found["split"] == ("test" if place == "npz" else "all")


@every_place
def test_pack_makes_the_same_of_images_wherever_they_lie(place: str, decoded: np.ndarray) -> None:
    run_here("pack", PLACES[place](), "-o", "found.bin", *MODEL, "--quiet")
    assert np.array_equal(unpacked("found.bin"), decoded)


@pytest.mark.parametrize("place", ["zip", "npz of images", "idx.gz", "pattern"])
def test_a_folder_of_packs_is_made_of_images_wherever_they_lie(
    place: str, decoded: np.ndarray
) -> None:
    made = ["--workers", "1", "--shard-images", "11", "--quiet"]
    run_here("pack", PLACES[place](), "-o", "found/", *MODEL, *made)
    assert np.array_equal(unpacked("found"), decoded)


@every_place
def test_verify_finds_the_originals_wherever_they_lie(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = PLACES[place]()
    run_here("pack", where, "-o", "x.bin", *MODEL, "--quiet")
    run_here("verify", "x.bin", "--against", where, "--json")
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["images"], found["missing"], found["lost"]) == (COUNT, 0, 0)
    assert found["psnr_mean"] > 20


@every_place
def test_training_reads_the_same_images_wherever_they_lie(place: str) -> None:
    dataset = datasets.load(PLACES[place](), "mnist", SHAPE)
    parts = [dataset.train[:], dataset.validation[:]]
    if dataset.folder:
        parts.append(dataset.folder.images["test"][:])
    else:
        assert len(dataset.validation) == COUNT // 10
    found = sorted(image.tobytes() for image in np.concatenate(parts))
    assert found == sorted(image.tobytes() for image in pixels())


@every_place
def test_denoising_is_measured_wherever_the_images_lie(place: str) -> None:
    model = registry.open_model("mnist-ae")
    data = noise.load(PLACES[place](), Which(), model, limit=20)
    assert np.array_equal(np.stack([data[i] for i in range(len(data))]), pixels()[:20])


@pytest.mark.parametrize("output", ["back.npz", "back.npy", "back.tar", "back/", "x.bin", "packs/"])
def test_what_unpack_writes_and_packs_themselves_are_read_again(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("pack", an_npy(pixels()), "-o", "x.bin", *MODEL, "--quiet")
    if output == "packs/":
        run_here("pack", "x.npy", "-o", output, *MODEL, "--workers", "1", "--quiet")
    elif output != "x.bin":
        run_here("unpack", "x.bin", "-o", output)
    decoded = unpacked("x.bin")
    result = run_cvae("eval", output, *MODEL, "--json")  # which has not written it
    assert json.loads(result.stdout)["images"] == COUNT
    found, _ = measure.load(output, Which(), Reading(SHAPE, "exact"))
    assert np.array_equal(found, decoded)
    run_here("pack", output, "-o", "again.bin", *MODEL, "--quiet")
    with cvae.open_pack("again.bin") as pack:
        assert len(pack) == COUNT
    run_here("verify", "again.bin", "--against", output)
    dataset = datasets.load(output, "mnist", SHAPE)
    assert len(dataset.train) >= COUNT // 2


def test_part_of_a_pack_as_npz_is_read_again(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("pack", an_npy(pixels()), "-o", "x.bin", *MODEL, "--quiet")
    run_here("unpack", "x.bin", "--only", "3-9", "-o", "some.npz")
    assert figures(capsys, "some.npz")["images"] == 7


@pytest.mark.parametrize("command", ["eval", "pack", "verify"])
def test_a_key_names_the_array(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    an_npz(x_test=np.zeros((5, 9, 9), np.uint8), mine=pixels(), other=pixels()[:3])
    if command == "eval":
        assert figures(capsys, "x.npz", "--key", "mine")["images"] == COUNT
        return
    run_here("pack", "x.npz", "--key", "mine", "-o", "x.bin", *MODEL, "--quiet")
    assert len(unpacked("x.bin")) == COUNT
    if command == "verify":
        run_here("verify", "x.bin", "--against", "x.npz", "--key", "mine", "--json")
        assert json.loads(capsys.readouterr().out)[0]["images"] == COUNT


def test_where_no_array_is_meant_the_keys_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    an_npz(a=pixels(), b=pixels())
    for command in (
        ["eval", "x.npz"],
        ["pack", "x.npz"],
        ["train", "linear-mnist", "--data", "x.npz"],
    ):
        run_here(*command, code=1)
        assert "found a, b; --key NAME chooses one" in capsys.readouterr().err


def test_a_split_that_a_file_does_not_have_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    an_npz(images=pixels())
    run_here("eval", "x.npz", "--split", "test", *MODEL, code=1)
    assert "expected an array 'x_test', found images" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["npy", "zip", "folder"])
@pytest.mark.parametrize("command", ["pack", "eval", "train"])
def test_a_key_of_what_has_none_is_an_error(
    command: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = PLACES[place]()
    words = {
        "pack": ["pack", where],
        "eval": ["eval", where],
        "train": ["train", "linear-mnist", "--data", where],
    }
    run_here(*words[command], "--key", "mine", code=1)
    assert "expected an .npz file for --key mine, found none" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["tar", "zip", "npy", "idx"])
def test_commands_for_image_files_say_that_a_file_holds_many(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = PLACES[place]()
    for command in (["encode", where], ["denoise", where]):
        run_here(*command, code=1)
        assert "holds many images" in capsys.readouterr().err
    cvae_file = Path("one.bin")
    cvae_file.write_bytes(cvae.encode(pixels()[0], "linear-mnist"))
    run_here("verify", "one.bin", "--against", where, code=1)
    assert "holds many images" in capsys.readouterr().err


def test_a_bad_member_of_a_zip_is_named_and_the_exit_code_is_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with zipfile.ZipFile(a_zip(), "a") as archive:
        archive.writestr("../evil.png", b"")
        archive.writestr("inner.zip", b"")
    run_here("pack", "x.zip", "-o", "x.bin", *MODEL, "--quiet", code=1)
    said = capsys.readouterr().err
    assert "../evil.png: its name leads out of the archive" in said
    assert "inner.zip: is an archive in an archive" in said
    assert len(unpacked("x.bin")) == COUNT
    assert not Path("../evil.png").exists()


def test_a_pack_is_not_packed_onto_itself(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("pack", an_npy(pixels()), "-o", "x.bin", *MODEL, "--quiet")
    before = Path("x.bin").read_bytes()
    for output in ([], ["-o", "x.bin"], ["-o", "./x.bin"]):
        run_here("pack", "x.bin", *output, "--force", *MODEL, code=2)
        assert "input and output at once" in capsys.readouterr().err
    assert Path("x.bin").read_bytes() == before


def test_a_damaged_block_of_a_pack_is_named_and_the_rest_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    codec, images = cvae.open_model("linear-mnist"), pixels()
    from cvae.options import EncodeOptions
    from cvae.packs.encode import encode_pack

    encode_pack(images, "x.bin", codec, EncodeOptions(effort=0, block_images=10))
    data = bytearray(Path("x.bin").read_bytes())
    data[len(data) // 2] ^= 1
    Path("x.bin").write_bytes(data)
    refused: list[cvae.CvaeError] = []
    found, _ = open_images(["x.bin"], Reading(SHAPE, "exact"), refuse=refused.append).all()
    assert len(found) == 20
    assert "images 10 to 19" in str(refused[0])
    run_here("pack", "x.bin", "-o", "again.bin", *MODEL, "--quiet", code=1)
    assert "images 10 to 19" in capsys.readouterr().err
    assert len(unpacked("again.bin")) == 20


def test_a_pack_gives_images_at_their_original_sizes_with_their_names() -> None:
    Path("in").mkdir()
    for number, side in enumerate((28, 40, 30)):
        Image.fromarray(blobs(1, side=side)[0, ..., 0]).save(f"in/{number}.png")
    run_here("pack", "in", "-o", "x.bin", "--fit", *MODEL, "--quiet")
    stream = open_images(["x.bin"], Reading((0, 0, 1), "any"))
    assert stream.named
    batches = list(stream.batches())
    assert [batch.pixels.shape[1:3] for batch in batches] == [(28, 28), (40, 40), (30, 30)]
    assert [name for batch in batches for name in batch.names or []] == ["0.png", "1.png", "2.png"]
    assert measure.load("x.bin", Which(), Reading(SHAPE, "exact"))[1] == ["0.png", "1.png", "2.png"]
