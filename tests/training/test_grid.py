"""Training of grid through the command line: pictures of any size, thin networks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cvae.cli import train
from cvae.training import checkpoints, datasets, presets, runs
from cvae.training.backend import Machine
from cvae.training.begin import Begin
from cvae.training.crops import Middles
from cvae.training.runs import Run

from ..conftest import killed, run_here


@pytest.fixture
def pictures(photo_folder: Path) -> Path:
    return photo_folder


@pytest.fixture
def run(tiny_grid_run: Path) -> Path:
    return tiny_grid_run


def test_a_run_leaves_settings_history_and_checkpoint(run: Path, pictures: Path) -> None:
    settings = json.loads((run / "run.json").read_text())
    assert settings["data"]["reading"]["fit"] == "own"
    assert settings["source"] == str(pictures)
    rows = runs.read_history(Run.open(run))
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(row["skipped"] == 0 for row in rows)
    assert rows[1]["val_loss"] < rows[0]["val_loss"]
    # In the units of the progress bar: 8-bit levels squared, and bits per pixel.
    assert 10 < rows[1]["val_distortion"] < 5000
    assert 0.1 < rows[1]["val_rate"] < 20
    assert int(checkpoints.load(Run.open(run)).optimizer.iterations.numpy()) == 6


def test_it_begins_with_components_and_no_worse_than_them(run: Path, pictures: Path) -> None:
    opened = Run.open(run)
    dataset = datasets.load(str(pictures), "photos", (64, 64, 3), opened.reading)
    model = checkpoints.start(opened, dataset.train, Machine())
    (x,) = Middles(dataset.validation)[0]
    y = np.asarray(model.analysis(x / np.float32(255)))
    again = np.asarray(model.synthesis(np.concatenate([y, 0 * y[..., :1]], axis=-1)))
    error = np.square(255 * again - x).mean()
    assert error < np.var(x) / 4
    rows = runs.read_history(opened)
    assert rows[1]["val_distortion"] < np.var(x)


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_weights(
    run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "finish", lambda *_: None)
    again = killed(run, tmp_path)
    assert len(runs.read_history(Run.open(again))) == 1
    run_here("train", "tiny-grid", "--data", pictures, "-o", again, "--quiet", "--resume")
    whole, found = (checkpoints.load(Run.open(folder), Machine()) for folder in (run, again))
    pairs = zip(whole.get_weights(), found.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    averages = zip(whole.optimizer.pairs(), found.optimizer.pairs(), strict=True)
    assert all(np.array_equal(a.numpy(), b.numpy()) for (_, a), (_, b) in averages)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--size 64", "at their own sizes, which --size would scale"),
        ("--resize", "which --crop or --resize would change"),
        ("--grey", "of which --grey would take the colour"),
        ("--latents 64", "all qualities, which --latents does not change"),
        ("--distortion-weight 2", "which --distortion-weight does not change"),
        ("--epochs 3 --minutes 3", "--minutes takes the place of --epochs"),
        ("--data mnist", "photo is for a folder of pictures as --data"),
        ("--data x.npz", "photo is for a folder of pictures as --data"),
    ],
)
def test_options_that_do_not_apply_are_refused(
    options: str, message: str, pictures: Path, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("x.npz", x_train=np.zeros((10, 192, 192, 3), np.uint8))
    run_here("train", "photo", "--data", pictures, *options.split(), code=2)
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


def test_half_precision_is_the_machines_choice_and_a_resumed_run_keeps_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cvae.cli import recipes
    from cvae.training import backend

    for has, expected in ((True, "mixed_bfloat16"), (False, "float32")):
        monkeypatch.setattr(backend, "_has_half_precision", lambda has=has: has)
        assert recipes.settled(presets.PHOTO, None).precision == expected
        assert recipes.settled(presets.PHOTO, Run.open(run)).precision == "float32"
    assert recipes.settled(presets.TINY, None).precision == "float32"
    assert recipes.wishes(None) == {}
    assert recipes.wishes(False) == {"precision": "float32"}


def test_half_precision_is_for_the_networks_of_pixels_alone(run: Path) -> None:
    from dataclasses import replace

    import keras

    opened = Run.open(run)
    half = replace(opened, preset=replace(opened.preset, precision="mixed_bfloat16"))
    model = checkpoints.build(half, 10, Machine())
    assert keras.config.dtype_policy().name == "float32"
    assert {weight.dtype for weight in model.weights} == {"float32"}
    names = {network.name: network for network in (model.analysis, model.synthesis)}
    for network in names.values():
        assert network.get_layer("linear").compute_dtype == "float32"
        assert network.get_layer("last").compute_dtype == "bfloat16"
        assert network.compute_dtype == "float32", "its input is not made coarse"
    assert model.hyper_analysis.get_layer("hyper_in").compute_dtype == "float32"
    assert all(layer.compute_dtype == "float32" for stage in model.stages for layer in stage)


def test_fine_tuning_takes_the_weights_of_a_run(
    run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tmp_path / "begun"
    shutil.copytree(run, begun)
    opened = Run.open(begun)
    dataset = datasets.load(str(pictures), "photos", (64, 64, 3), opened.reading)
    tuned = runs.start(tmp_path / "new", opened.preset, dataset, 1, False, False, Begin(begun))
    model = checkpoints.start(tuned, dataset.train, Machine())
    pairs = zip(model.get_weights(), checkpoints.load(opened).get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
