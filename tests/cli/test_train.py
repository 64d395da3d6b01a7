"""What `cvae train` says, leaves and makes possible."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae.cli import main, recipes
from cvae.cli.talk import Talk
from cvae.evaluation import plots
from cvae.training import pictures, presets, runs, trainer
from cvae.training.begin import Begin
from cvae.training.runs import Run

from ..conftest import blobs, run_cvae, run_here

KEPT = {"run.json", "history.csv", "checkpoint.weights.h5", "best.weights.h5"}
CODEC = {"curves.png", "reconstructions.png", "samples.png", "latents.png"}
PICTURES = {
    "tiny_ae_run": CODEC | {"denoised.png", "rotation.npz"},
    "tiny_vae_run": CODEC,
    "tiny_dae_run": {"curves.png", "denoised.png"},
}


def grey(path: Path, side: int = 8) -> Path:
    Image.fromarray(blobs(1, side, seed=3)[0, ..., 0]).save(path)
    return path


@pytest.mark.parametrize(
    "run",
    [pytest.param(run, marks=[] if run == "tiny_ae_run" else pytest.mark.slow) for run in PICTURES],
)
def test_a_run_leaves_the_pictures_that_show_what_it_does(
    run: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(run)
    expected = KEPT | PICTURES[run] | {f"{folder.name}.cvae"}
    assert {path.name for path in folder.iterdir()} == expected
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert np.ptp(np.asarray(picture.convert("L"))) > 50, f"{path} shows nothing"
    # Rows of twelve 8x8 images, three times as large, with gaps between them.
    width = 3 * (12 * 10 + 2)
    for name, rows in (("reconstructions", 2), ("denoised", 3), ("samples", 4)):
        if (folder / f"{name}.png").exists():
            assert Image.open(folder / f"{name}.png").size == (width, 3 * (rows * 10 + 2))


def test_a_map_shows_images_where_their_points_are(tmp_path: Path) -> None:
    points = np.array([[0, 0], [1, 0], [0, 2]], np.float32)
    pixels = np.zeros((3, 4, 4, 3), np.uint8)
    pixels[:, ..., 0] = 255
    plots.latent_map(points, pixels, tmp_path / "map.png")
    shown = np.asarray(Image.open(tmp_path / "map.png").convert("RGB")).astype(int)
    red = (shown[..., 0] > 250) & (shown[..., 1:].max(axis=2) < 5)
    rows, columns = np.nonzero(red)
    middle = [(side.min() + side.max()) / 2 for side in (rows, columns)]
    quarters = {
        (bool(y > middle[0]), bool(x > middle[1])) for y, x in zip(rows, columns, strict=True)
    }
    assert quarters == {(True, False), (True, True), (False, False)}


@pytest.mark.parametrize("points", [np.zeros((1, 2)), np.ones((5, 2)), np.eye(5)[:, :2] * [1, 0]])
def test_a_map_of_points_in_one_place_is_drawn(
    points: np.ndarray, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    plots.latent_map(points.astype(np.float32), blobs(len(points)), tmp_path / "map.png")
    Image.open(tmp_path / "map.png").verify()
    assert not [warning for warning in recwarn if "identical" in str(warning.message)]


def test_one_image_has_a_place_too(tiny_vae_run: Path) -> None:
    from cvae.codec import open_model

    codec = open_model(tiny_vae_run / "tiny-vae.cvae")
    assert pictures._flattened(codec, blobs(1)).tolist() == [[0, 0]]
    points = pictures._flattened(codec, blobs(30))
    assert points.shape == (30, 2)
    assert points[:, 0].std() >= points[:, 1].std() > 0


def test_a_denoiser_does_not_code_and_says_what_it_is(tiny_dae_run: Path, workdir: Path) -> None:
    result = run_cvae("encode", grey(Path("x.png")), "-m", tiny_dae_run, code=1)
    assert b"tiny-dae is a denoiser, not a codec: `cvae denoise -m tiny-dae IMAGE`" in result.stderr


def test_a_trained_denoiser_takes_any_size(tiny_dae_run: Path, workdir: Path) -> None:
    run_cvae("denoise", grey(Path("x.png"), 21), "-m", tiny_dae_run)
    assert Image.open("x_denoised.png").size == (21, 21)


def test_an_autoencoder_of_noisy_images_denoises_and_codes(
    tiny_ae_run: Path, workdir: Path
) -> None:
    run_here("denoise", grey(Path("x.png")), "-m", tiny_ae_run, "--quiet")
    run_here("encode", "x.png", "-m", tiny_ae_run, "--quiet")
    assert Path("x.bin").stat().st_size < 40
    run_here("decode", "x.bin", "-m", tiny_ae_run, "--quiet")
    original = np.asarray(Image.open("x.png"), float)
    for name in ("x_denoised.png", "x_reconstructed.png"):
        assert np.square(np.asarray(Image.open(name)) - original).mean() < original.var() / 2


def test_a_codec_denoises_by_its_whole_latents_not_by_the_few_it_codes(tiny_ae_run: Path) -> None:
    from cvae import denoising
    from cvae.codec import open_model
    from cvae.data import images
    from cvae.training import checkpoints, runs

    codec, pixels = open_model(tiny_ae_run / "tiny-ae.cvae"), blobs(20)
    run = runs.Run.open(tiny_ae_run)
    trained = checkpoints.load(run)
    x = images.as_floats(pixels)
    expected = np.asarray(trained.synthesis.predict(trained.analysis.predict(x, verbose=0)))
    few = codec.coding.synthesize(codec.coding.analyse(x))
    assert np.abs(few - expected).max() > 0.01
    # Weights are stored as float16, and pixels rounded to 8 bits.
    found = denoising.denoise(codec.model, pixels) / 255.0
    assert np.abs(found - expected).max() < 0.004


@pytest.mark.parametrize("run", ["tiny_ae_run", "tiny_dae_run"])
def test_eval_measures_what_was_trained_against_noise(
    run: str, tiny_data: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    folder: Path = request.getfixturevalue(run)
    run_here("eval", tiny_data, "-m", folder, "--noise", "0.3", "--json")
    said = capsys.readouterr()
    figures = json.loads(said.out)
    assert (figures["model"], figures["images"], figures["noise"]) == (folder.name, 50, 0.3)
    assert figures["denoised_mse"] < 0.75 * figures["noisy_mse"]
    assert ("psnr_mean" in figures) == (run == "tiny_ae_run")
    assert "not trained on noisy images" not in said.err


def test_help_shows_first_what_a_newcomer_needs(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("train", "--help")
    said = capsys.readouterr().out
    headings = re.findall(r"^([A-Z][\w -]*):$", said, re.MULTILINE)
    assert headings[0] == "Options"
    assert set(headings) == {"Options", "A folder of images as --data", "Recipe", "Machine"}
    parts = re.split(r"^[A-Z][\w -]*:$", said, flags=re.MULTILINE)[1:]
    options = {
        heading: set(re.findall(r"^  (?:-\w, )?--([\w-]+)", part, re.MULTILINE))
        for heading, part in zip(headings, parts, strict=True)
    }
    assert options["Options"] == {"data", "key", "out", "resume", "name", "force", "quiet", "help"}
    assert {"epochs", "latents", "fine-tune", "seed"} <= options["Recipe"]
    assert {"mixed-precision", "xla", "devices", "tensorboard"} == options["Machine"]
    assert {"size", "grey", "crop", "background", "lossless"} == options[
        "A folder of images as --data"
    ]
    presets = said.partition("  Presets:\n")[2]
    assert "  auto  " in presets
    assert "  fashion-ae  " in presets
    assert "  lossless-fashion  " in presets  # the longest name has room, too
    assert "tiny" not in presets


def test_latents_of_a_denoiser_are_wrong_usage(
    tiny_data: Path, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("train", "tiny-dae", "--data", tiny_data, "--latents", "4", code=2)
    assert "tiny-dae is a denoiser, which has no latents" in capsys.readouterr().err


def test_what_does_not_fit_is_said_before_anything_is_read(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data").mkdir()
    for preset, options, expected in (
        ("tiny-dae", ("--size", "2"), "at least 4, found 2x2; --size changes it"),
        ("tiny-dae", ("--size", "9"), "multiples of 2 and at least 4, found 9x9"),
        ("tiny-ae", ("--latents", "33"), "at most 32 as --latents, found 33"),
    ):
        run_here("train", preset, "--data", "data", *options, code=1)
        assert expected in capsys.readouterr().err
    run_here("train", "linear", code=1)
    assert "for images of your own; name them with --data FOLDER" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("linear-mnist --epochs 3", "fitted in closed form"),
        ("linear-mnist --xla", "fitted in closed form by numpy"),
        ("photo-dae --latents 3", "a denoiser, which has no latents"),
        ("mnist-ae --distortion-weight 3", "nothing that --distortion-weight"),
        ("auto", "name it with --data"),
        ("mnist --features vgg16", "only with a --perceptual-weight"),
        ("mnist --size 32", "for a folder of images"),
        ("auto --data blobs.npz", "found nothing of that name"),
    ],
)
def test_options_that_a_preset_has_not_are_refused(
    command: str, message: str, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("train", *command.split(), code=2)
    assert message in capsys.readouterr().err
    assert not list(Path().iterdir())


@pytest.fixture
def few(workdir: Path) -> str:
    """A folder of twelve pictures."""
    Path("few").mkdir()
    for number, pixels in enumerate(blobs(12)):
        Image.fromarray(pixels[..., 0]).save(f"few/{number}.png")
    return "few"


def test_no_more_latents_than_images(few: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", few, "--size", "8", "--epochs", "1", "-o", "run"]
    run_here("train", "tiny-ae", *options, "--latents", "16", code=1)
    assert "--latents: expected at most" in capsys.readouterr().err
    assert not Path("run").exists()
    run_here("train", "tiny-ae", *options)
    found = re.search(r"(\d+) latents and not 16", capsys.readouterr().err)
    model = json.loads(Path("run/run.json").read_text())["preset"]
    assert found
    assert model["latent_dim"] == int(found[1]) < 12


def test_a_run_in_the_folder_of_its_images_is_refused(
    few: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("train", "tiny", "--data", few, "--size", "8", "-o", few, code=2)
    assert "expected another folder than that of the images" in capsys.readouterr().err


def test_a_run_without_a_model_says_what_makes_one(
    tiny_run: Path, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_run, "run", ignore=shutil.ignore_patterns("*.cvae"))
    run_here("encode", grey(Path("x.png")), "-m", "run", code=1)
    assert "`cvae export run` makes one of the finished epochs" in capsys.readouterr().err
    for name in ("old", "new"):  # by age and not by name
        shutil.copy(tiny_run / "tiny.cvae", f"run/{name}.cvae")
    os.utime("run/old.cvae", (0, 0))
    run_here("encode", "x.png", "-m", "run")


def test_fine_tuning_goes_slowly_unless_told_otherwise() -> None:
    base = presets.PRESETS["tiny"].learning_rate
    talk = Talk(quiet=True, verbose=False)
    images = recipes.Images(None, None, None, None, None)
    begin = Begin(Path("other"))
    tuned, start = recipes.choose("tiny", images, {}, Path("run"), talk, begin)
    assert start is begin
    assert tuned.learning_rate == pytest.approx(base / 10)
    told, _ = recipes.choose("tiny", images, {"learning_rate": 0.5}, Path("run"), talk, begin)
    assert told.learning_rate == 0.5


def test_ctrl_c_says_what_is_kept(
    workdir: Path,
    tiny_data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(run: Run, *_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "train", interrupted)
    command = ["train", "tiny", "--data", str(tiny_data), "-o", "run"]
    with pytest.raises(KeyboardInterrupt):
        main(command)
    said = capsys.readouterr().err
    assert "run: no epoch was finished; the same command with --resume starts again" in said

    def later(run: Run, *_: object) -> None:
        runs.write_history(run, [{"epoch": 1, "loss": 1.0, "val_loss": 1.0, "seconds": 1.0}])
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "train", later)
    with pytest.raises(KeyboardInterrupt):
        main([*command, "--resume"])
    assert (
        "run: finished epochs are kept; the same command with --resume" in capsys.readouterr().err
    )
