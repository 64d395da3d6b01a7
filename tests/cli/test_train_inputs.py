"""What `cvae train` takes images from, and what it says of them."""

from __future__ import annotations

import json
import re
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from cvae.cli import recipes
from cvae.cli import train as cli_train
from cvae.cli.talk import Talk
from cvae.data.reading import Reading
from cvae.errors import DataError
from cvae.training import datasets, presets

from ..cli.test_images import PLACES, SHAPE, an_npy, an_npz, pixels
from ..conftest import blobs, photo, run_here


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def test_a_key_of_training_data_is_kept_for_export() -> None:
    an_npz(x_train=np.zeros((20, 9, 9), np.uint8), mine=pixels())
    run_here("train", "linear-mnist", "--data", "x.npz", "--key", "mine", "-o", "run", "--quiet")
    assert json.loads(Path("run/run.json").read_text())["data"]["key"] == "mine"
    run_here("export", "run", "-o", "again.cvae", "--name", "again", "--quiet")


def test_training_never_falls_back_to_the_test_split() -> None:
    an_npz(x_test=pixels())
    with pytest.raises(DataError, match="'x_train' or 'images', found x_test"):
        datasets.load("x.npz", "mnist", SHAPE)


def test_a_few_large_pictures_are_coded_by_what_they_span(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In seconds: the covariance of 64x64 pixels in colour would take minutes."""
    Path("pictures").mkdir()
    for number in range(16):
        Image.fromarray(photo(300, 320, seed=number)).save(f"pictures/{number}.png")
    command = ["train", "linear-cifar", "--data", "pictures", "--size", "64"]
    run_here(*command)
    said = capsys.readouterr().err
    assert "most images have some 300 pixels a side and are scaled to 64; --size N keeps" in said
    steps = re.findall(r"(?m)^  ([a-z]+)", said)
    assert steps == ["writing", "counting", "checking", "measuring", "writing", "drawing"]
    # A second run is in nobody's way.
    monkeypatch.setattr(cli_train, "finish", lambda *_: None)
    first = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    run_here(*command)
    assert "the run's folder is runs/linear-cifar-2; others hold runs" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in first} == first
    assert Path("runs/linear-cifar-2/linear.npz").is_file()


def test_sides_that_are_cut_and_pictures_that_vanish_are_worth_a_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_train, "finish", lambda *_: None)
    Path("icons").mkdir()
    for number in range(24):
        drawn = photo(12, 18 if number < 9 else 12, seed=number)
        alpha = np.full(drawn.shape[:2], 255, np.uint8)
        alpha[:, :2] = 0
        if number % 4 == 0:
            drawn[...] = 255
        picture = np.dstack([drawn, alpha])
        Image.fromarray(picture).save(f"icons/{number}.png")
    command = ["train", "linear-mnist", "--data", "icons", "--colour", "--size", "12"]
    run_here(*command, "--background", "white")
    said = capsys.readouterr().err
    assert "; the sides of 9 images are cut off, --resize squeezes them in" in said
    assert "of 6 images nothing is seen on #ffffff; --background lays them on another" in said
    run_here(*command, "--background", "black", "--resize")
    said = capsys.readouterr().err
    assert "cut off" not in said
    assert "nothing is seen" not in said


def test_of_many_skipped_files_one_of_each_kind_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = [f"{i}.png: expected at least a quarter of 8x8, found {i}x2" for i in range(1200)]
    Talk().skipped("x", ["a.txt: is no image", *small], ", in run/skipped.txt")
    assert capsys.readouterr().err.splitlines() == [
        "cvae: warning: x: 1,201 files skipped",
        "  1,200: expected at least a quarter of 8x8, such as 0.png",
        "  1: is no image, such as a.txt",
        "  all of them, in run/skipped.txt",
    ]


def test_few_images_are_worth_a_word() -> None:
    data = datasets.Dataset("x", "x", blobs(40), blobs(4))
    few = replace(presets.TINY, batch_size=8, latent_dim=64)
    said = [*recipes.concerns(few, data)]
    assert said[0].startswith("40 images to train, 5 x 8 an epoch, are few")
    assert said[1] == "40 images to train are fewer than the 64 latents of one"
    assert not [*recipes.concerns(replace(few, batch_size=2, latent_dim=4), data)]
    linear = replace(presets.PRESETS["linear-mnist"], latent_dim=4)
    assert not [*recipes.concerns(linear, data)]


@pytest.mark.parametrize("place", ["tar", "zip"])
def test_training_reads_archives_as_folders_and_says_what_it_skipped(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("scans").mkdir()
    Image.fromarray(blobs(1, side=60)[0, ..., 0]).convert("RGB").save("scans/large.jpg")
    Path("scans/text.png").write_text("text")
    for number, image in enumerate(pixels()[..., 0]):
        Image.fromarray(image).save(f"scans/{number:02d}.png")
    if place == "tar":
        with tarfile.open("x.tar", "w") as archive:
            archive.add("scans", ".")
    else:
        with zipfile.ZipFile("x.zip", "w") as pictures:
            for path in sorted(Path("scans").iterdir()):
                pictures.write(path, path.name)
    run_here("train", "linear-mnist", "--data", f"x.{place}", "-o", "run")
    said = capsys.readouterr().err
    assert "1 file skipped" in said
    assert "text.png: expected an image" in said
    assert (
        "x: 28 images to train, 3 to validate, chosen by chance; read as 28x28 grey, cropped"
        in said
    )
    assert "text.png" in Path("run/skipped.txt").read_text()
    data = json.loads(Path("run/run.json").read_text())["data"]
    assert Reading.from_json(data["reading"]).shape == SHAPE
    assert data["skipped"] == 1
    run_here("export", "run", "-o", "again.cvae", "--name", "again", "--quiet")


def test_training_of_arrays_of_another_shape_is_refused_with_both_shapes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    an_npy(np.zeros((20, 9, 8, 3), np.uint8))
    run_here("train", "linear-mnist", "--data", "x.npy", "-o", "run", "--quiet", code=1)
    line = capsys.readouterr().err
    assert "the preset takes 28x28 grey" in line
    assert "found 8x9 with 3 channels" in line


@pytest.mark.parametrize("place", ["tar", "zip", "npy"])
def test_image_files_of_an_archive_can_be_scaled_for_training_and_arrays_cannot(place: str) -> None:
    where = PLACES[place]()
    images = recipes.Images(where, 20, None, None, None)
    if place == "npy":
        with pytest.raises(click.UsageError, match="for a folder of images or an archive"):
            recipes.read_as(presets.PRESETS["mnist"], images, None)
        return
    recipe, reading = recipes.read_as(presets.PRESETS["mnist"], images, None)
    assert recipe.image_shape == (20, 20, 1)
    dataset = datasets.load(where, "mnist", recipe.image_shape, reading)
    assert dataset.train.shape[1:] == (20, 20, 1)
