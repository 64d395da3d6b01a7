"""`cvae train auto`: looks at a folder and chooses a recipe for it."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cvae.errors import DataError, TrainingError
from cvae.models.file import Model
from cvae.training import auto, runs
from cvae.training.auto import Survey, choose, survey
from cvae.training.datasets import Dataset
from cvae.training.preset import Preset

from ..conftest import blobs, run_here


def folder_of(root: Path, count: int, size: tuple[int, int], colour: bool = False) -> Path:
    """Noise of that (width, height), grey saved as RGB."""
    root.mkdir(exist_ok=True)
    rng = np.random.default_rng(count)
    for number in range(count):
        pixels = rng.integers(0, 256, (*size[::-1], 3 if colour else 1), np.uint8)
        picture = Image.fromarray(np.broadcast_to(pixels, (*size[::-1], 3)))
        picture.save(root / f"{size[0]}x{size[1]}-{number}.png")
    return root


def test_grey_saved_as_rgb_is_grey_and_colour_is_colour(tmp_path: Path) -> None:
    assert survey(folder_of(tmp_path / "grey", 12, (9, 16))) == Survey(12, 9, True)
    assert survey(folder_of(tmp_path / "colour", 12, (16, 9), colour=True)) == Survey(12, 9, False)


def test_the_most_common_shorter_side_counts_and_without_one_the_median(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", 6, (20, 30))
    folder_of(root, 4, (40, 50))
    assert survey(root).side == 20
    for side in (10, 60, 70, 80, 90, 95):
        folder_of(root, 1, (side, side + 1))
    assert survey(root).side == 40
    folder_of(root / "below", 3, (5, 5))
    assert survey(root).count == 19


def test_files_that_are_no_images_are_passed_over(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", 3, (8, 8))
    (root / "0.png").write_text("text")
    data = (root / "8x8-0.png").read_bytes()
    (root / "1.png").write_bytes(data[: len(data) // 2])
    (root / "2.png").write_bytes(data.replace(b"IDAT", b"IDAX"))
    assert survey(root) == Survey(6, 8, True)
    with pytest.raises(DataError, match="expected images, found none"):
        survey(folder_of(tmp_path / "empty", 0, (8, 8)))


def test_any_error_of_an_image_reader_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import struct

    folder_of(tmp_path / "x", 12, (8, 8))
    seen: list[Image.Image] = []

    def fails(image: Image.Image) -> bool:
        seen.append(image)
        raise struct.error("unpack requires a buffer of 4 bytes")

    monkeypatch.setattr(auto, "is_grey", fails)
    assert survey(tmp_path / "x").side == 8
    assert seen


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # side, channels, latents, epochs
        (Survey(5000, 32, False), (32, 3, 128, 100)),
        (Survey(60_000, 28, True), (28, 1, 98, 32)),
        (Survey(100_000, 100, False), (36, 3, 128, 10)),
        (Survey(100_000, 100, True), (64, 1, 128, 10)),
        (Survey(5000, 32, False, large=True), (32, 3, 128, 100)),
        (Survey(50, 30, True), (28, 1, 8, 200)),
        (Survey(500, 4, True), (8, 1, 8, 200)),
    ],
)
def test_the_recipe_follows_size_colour_and_count(
    found: Survey, expected: tuple[int, int, int, int]
) -> None:
    recipe = choose(found, None, None)
    height, width, channels = recipe.image_shape
    assert height == width
    assert (width, channels, recipe.latent_dim, recipe.epochs) == expected
    assert math.prod(recipe.image_shape) <= 4096
    assert recipe.name == ("own-grey" if channels == 1 else "own")


def test_what_the_user_says_of_size_and_colour_goes(tmp_path: Path) -> None:
    found = Survey(1000, 32, True)
    assert choose(found, 16, None).image_shape == (16, 16, 1)
    assert choose(found, None, False).image_shape == (32, 32, 3)
    assert choose(Survey(1000, 32, False), 12, True).image_shape == (12, 12, 1)
    large = Survey(1000, 512, False, large=True)
    assert choose(large, 48, None).image_shape == (48, 48, 3)
    assert choose(large, None, True).image_shape == (64, 64, 1)
    assert choose(large, None, None, scaled=True).image_shape == (36, 36, 3)
    assert choose(large, None, False).name == "photo"


def test_large_pictures_keep_their_sizes(tmp_path: Path) -> None:
    folder_of(tmp_path / "x", 5, (60, 90), colour=True)
    folder_of(tmp_path / "x", 1, (200, 128), colour=True)
    assert not survey(tmp_path / "x").large  # one of six
    folder_of(tmp_path / "x", 1, (200, 129), colour=True)
    found = survey(tmp_path / "x")
    assert found == Survey(7, 60, False, large=True)
    recipe = choose(found, None, None)
    assert (recipe.name, recipe.architecture, recipe.minutes) == ("photo", "grid", 60)
    first, second, third = auto.explain(found, recipe, "x", Path("run"), ["--seed", "3"])
    told = "7 files, typically of 60 pixels a side, colour; many have 128 or more, and they keep their sizes"
    assert first == told
    assert second.endswith("; 60 minutes")
    assert third.endswith("cvae train photo --data x -o run --minutes 60 --seed 3")


@pytest.mark.parametrize("options", [(), ("--epochs", "3"), ("--minutes", "2", "--seed", "1")])
def test_the_command_that_is_printed_repeats_a_run_of_large_pictures(
    options: tuple[str, ...], workdir: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder_of(Path("x"), 14, (150, 140), colour=True)
    begun: list[Preset] = []

    def start(folder: Path, preset: Preset, *others: Any) -> None:
        begun.append(preset)
        raise TrainingError("stopped here")

    monkeypatch.setattr(runs, "start", start)
    monkeypatch.setattr(auto, "tuned", lambda recipe: (recipe, None))  # as without a model photo
    run_here("train", "auto", "--data", "x", "--out", "run", *options, code=1)
    said = capsys.readouterr().err
    (line,) = (line for line in said.splitlines() if "the same again" in line)
    run_here(*shlex.split(line.partition("the same again: cvae ")[2]), code=1)
    recipe, again = begun
    assert again == recipe
    minutes, epochs = {0: (60, 200), 2: (0, 3), 4: (2, 200)}[len(options)]
    assert (recipe.minutes, recipe.epochs) == (minutes, epochs)


def test_the_command_that_is_printed_repeats_a_lossless_run(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_of(Path("x"), 14, (150, 140), colour=True)
    begun: list[Preset] = []

    def start(folder: Path, preset: Preset, *others: Any) -> None:
        begun.append(preset)
        raise TrainingError("stopped here")

    monkeypatch.setattr(runs, "start", start)
    run_here("train", "auto", "--lossless", "--data", "x", "--out", "run", "--epochs", "1", code=1)
    said = capsys.readouterr().err
    assert "; 1 epoch\n" in said
    (line,) = (line for line in said.splitlines() if "the same again" in line)
    run_here(*shlex.split(line.partition("the same again: cvae ")[2]), code=1)
    recipe, again = begun
    assert again == recipe


# --- through the command line -------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 small grey pictures, saved as RGB."""
    folder = tmp_path_factory.mktemp("own pictures")
    for number, pixels in enumerate(blobs(60, 16)):
        Image.fromarray(pixels[..., 0]).convert("RGB").save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--size", "12", "--colour", "--epochs", "3", "--latents", "9"),
        ("--resize", "--background", "white", "--seed", "7", "--learning-rate", "0.003"),
        ("--crop", "--batch-size", "16", "--patience", "4", "--no-xla", "--mixed-precision"),
    ],
)
def test_the_command_that_is_printed_repeats_the_run(
    options: tuple[str, ...], data: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    begun: list[tuple[Preset, Dataset, Any]] = []

    def start(folder: Path, preset: Preset, dataset: Dataset, *others: Any) -> None:
        begun.append((preset, dataset, (folder, *others)))
        raise TrainingError("stopped here")

    monkeypatch.setattr(runs, "start", start)
    run_here("train", "auto", "--data", data, "--out", "a run", *options, code=1)
    said = capsys.readouterr().err
    (line,) = (line for line in said.splitlines() if "the same again" in line)
    program, *words = shlex.split(line.partition("the same again: ")[2])
    assert program == "cvae"
    run_here(*words, code=1)
    (recipe, dataset, others), (again, dataset_again, others_again) = begun
    assert again == recipe
    assert dataset_again.describe() == dataset.describe()
    assert others_again == others


def test_a_folder_trains_with_no_more_than_its_name(
    data: Path, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("train", "auto", "--data", data, "--epochs", "1")
    said = capsys.readouterr().err
    assert "auto: 60 files, typically of 16 pixels a side, grey\n" in said
    assert "8 latents, 1 epoch" in said
    model = Model(Path("runs/auto/own-grey.cvae"))
    assert model.manifest.image_shape == (16, 16, 1)
    for name in ("curves", "reconstructions", "samples", "latents"):
        Image.open(f"runs/auto/{name}.png").verify()


@pytest.mark.parametrize("options", [(), ("--data", "mnist"), ("--data", "nowhere")])
def test_without_a_folder_it_is_wrong_usage(
    options: tuple[str, ...], workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("train", "auto", *options, code=2)
    assert "auto looks at a folder of images: " in capsys.readouterr().err
    assert not Path("runs").exists()
