"""Training of lossless models: what a batch holds, what is learned, and that the export is exact."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cvae
from cvae.bitstream.tables import Bank
from cvae.cli import train
from cvae.data.images import Pixels
from cvae.errors import TrainingError
from cvae.kinds.sight import Window
from cvae.models.file import Model
from cvae.training import architectures, auto, checkpoints, pixels, presets, runs
from cvae.training.backend import Machine
from cvae.training.export import lossless as exported
from cvae.training.export import losslessweights
from cvae.training.preset import LosslessSizes
from cvae.training.runs import Run

from ..conftest import blobs, killed, photo, run_here

FLAT = Window(2, 2, False)


def test_training_learns_and_the_model_brings_every_pixel_back(
    tiny_lossless_run: Path, tiny_data: Path
) -> None:
    rows = runs.read_history(Run.open(tiny_lossless_run))
    assert rows[-1]["val_loss"] < rows[0]["val_loss"]
    codec = cvae.open_model(tiny_lossless_run / "tiny-lossless.cvae")
    images = np.load(tiny_data)["x_test"][:10]
    assert np.array_equal(codec.decode(codec.encode(images)), images)
    assert codec.model.manifest.figures["psnr_mean"] == 99


def test_what_the_loss_says_is_what_files_take(tiny_lossless_run: Path) -> None:
    run = Run.open(tiny_lossless_run)
    model, codec = checkpoints.load(run), cvae.open_model(tiny_lossless_run / "tiny-lossless.cvae")
    batch = blobs(20, seed=5)
    examples = pixels.Examples(pixels.window(run.preset.lossless), batch)
    x, leaves = examples.at(np.arange(examples.count))
    loss = float(model.compute_loss(x, leaves, model(x)))
    tables = exported.made_tables(model, run)
    assert bits(codec, tables.bank, batch) / batch.size == pytest.approx(loss, rel=0.01)


def bits(codec: cvae.Codec, bank: NDArray[np.uint16], pictures: Pixels) -> float:
    """The information of pictures, if the codec had this bank."""
    symbols = pictures.reshape(len(pictures), -1).astype(np.int32)
    rows, decisions, _ = codec.coding._decisions(symbols)
    return float(Bank(bank).bits(rows, decisions).sum())


def test_the_bank_counts_decisions_of_pictures_that_were_not_learned(
    tiny_lossless_run: Path,
) -> None:
    run, pictures = Run.open(tiny_lossless_run), blobs(12, seed=3)
    tables = exported.made_tables(checkpoints.load(run), run)
    counted = exported.counted(tables, pictures)
    codec = cvae.open_model(tiny_lossless_run / "tiny-lossless.cvae")
    assert bits(codec, counted, pictures) < bits(codec, tables.bank, pictures)
    assert (counted == tables.bank).all(axis=1).any()  # rows of no decision are as they were


def test_pictures_of_any_size(tiny_lossless_any_run: Path) -> None:
    codec = cvae.open_model(tiny_lossless_any_run / "tiny-lossless-any.cvae")
    for shape in ((1, 1, 3), (30, 21, 3), (18, 7, 1)):
        picture = photo(*shape, seed=9)
        back = codec.decode(codec.encode(picture))
        assert np.array_equal(back.reshape(shape), picture)
    facts = json.loads((tiny_lossless_any_run / "run.json").read_text())
    assert facts["data"]["reading"]["fit"] == "own"


def test_a_resumed_run_ends_with_the_same_weights(
    tiny_lossless_run: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "finish", lambda *_: None)
    again = killed(tiny_lossless_run, tmp_path)
    run_here("train", "tiny-lossless", "--data", tiny_data, "-o", again, "--quiet", "--resume")
    folders = tiny_lossless_run, again
    whole, found = (checkpoints.load(Run.open(folder), Machine()) for folder in folders)
    pairs = zip(whole.get_weights(), found.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_an_export_of_the_same_weights_keeps_the_id(
    tiny_lossless_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("export", tiny_lossless_run, "--force")
    assert "(as before)" in capsys.readouterr().err


# Weights that are read back out of model files


def networks(**changes: Any) -> Any:
    """Those of the preset of tests, untrained."""
    sizes = replace(presets.TINY_LOSSLESS.lossless, **changes)
    preset = replace(presets.TINY_LOSSLESS, lossless=sizes)
    model = architectures.of(preset).model(preset, seed=3)
    model.build(architectures.of(preset).shape(preset))
    return model


def test_a_network_begins_as_that_of_a_model_file(tiny_lossless_run: Path) -> None:
    trained = checkpoints.load(Run.open(tiny_lossless_run))
    source = Model(tiny_lossless_run / "tiny-lossless.cvae")
    examples = pixels.Examples(trained.window, blobs(4, seed=6))
    x, _ = examples.at(np.arange(examples.count))
    for hidden in ((8, 8, 8), (13, 9, 10)):  # the same, and more units
        model = networks(hidden=hidden)
        assert not np.array_equal(model(x), trained(x))
        losslessweights.restore(model, source)
        assert np.array_equal(model(x), trained(x))
        assert np.array_equal(model.splits(), trained.splits())


@pytest.mark.parametrize("other", [{"hidden": (8, 7, 8)}, {"up": 3}, {"placed": False}])
def test_a_network_of_other_sizes_does_not(tiny_lossless_run: Path, other: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="this preset's window"):
        losslessweights.restore(networks(**other), Model(tiny_lossless_run / "tiny-lossless.cvae"))


def test_fine_tuning_a_model_file(
    tiny_lossless_run: Path, tiny_data: Path, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tiny_lossless_run / "tiny-lossless.cvae"
    begun = "--data", tiny_data, "--fine-tune", source
    run_here("train", "tiny-lossless", *begun, "-o", "run", "--epochs", "1", "--quiet")
    before = runs.read_history(Run.open(tiny_lossless_run))
    after = runs.read_history(Run.open(Path("run")))
    assert after[0]["val_loss"] < before[0]["val_loss"]
    run_here("train", "tiny-lossless-any", *begun, "-o", "other", code=1)
    assert "expected a model of the kind lossless-any, found one of the kind lossless" in (
        capsys.readouterr().err
    )


# Batches


def test_windows_hold_what_lies_before_a_pixel() -> None:
    batch = np.arange(2 * 4 * 5).reshape(2, 4, 5, 1).astype(np.uint8)
    examples = pixels.Examples(FLAT, batch)
    x, leaves = examples.at(np.array([20 + 2 * 5 + 3]))  # the second picture, row 2, column 3
    table = pixels.companding().astype(int)
    seen = [[21, 22, 23, 24, 0], [26, 27, 28, 29, 0], [31, 32]]
    seen[0] = [21, 22, 23, 24, 0]
    expected = [table[value] for row in seen for value in row]
    assert x[0, :-1].tolist() == expected
    assert x[0, -1] == 13  # the place
    assert leaves.tolist() == [[33]]


def test_weights_make_the_mean_of_a_sample_that_of_all_pixels() -> None:
    batch = blobs(40, seed=2)
    batch[batch < 100] = 0  # most pixels are like those before them
    examples = pixels.Examples(FLAT, batch)
    busy = examples.busy()
    assert 0.02 < busy.mean() < 0.6
    rng = np.random.default_rng(0)
    means, shares = [], []
    for _ in range(30):
        _, leaves, weights = examples.sample(500, rng)
        means.append(float((weights * leaves[:, 0]).mean()))
        shares.append(float((leaves[:, 0] > 0).mean()))
    assert np.mean(means) == pytest.approx(batch.mean(), rel=0.1)
    assert np.mean(shares) > 1.3 * (batch > 0).mean()
    flat = pixels.Examples(FLAT, np.zeros((3, 8, 8, 1), np.uint8))
    assert flat.sample(10, rng)[2].tolist() == [1.0] * 10


def test_crops_are_scaled_down_by_two_where_the_preset_says_so(
    tiny_lossless_any_run: Path,
) -> None:
    from cvae.training import datasets

    run = Run.open(tiny_lossless_any_run)
    dataset = datasets.load(run.source, "own", (16, 16, 3), run.reading)
    halves = replace(run.preset, lossless=replace(run.preset.lossless, halved=1.0))
    drawn = [
        pixels.crops_of(dataset.train, preset, False)(np.random.default_rng(0))
        for preset in (run.preset, halves)
    ]
    assert [part.shape for part in drawn] == [(4, 16, 16, 3)] * 2
    # The same places, of which the second ones show twice as much.
    spread = [np.abs(np.diff(part.astype(int), axis=2)).mean() for part in drawn]
    assert spread[1] > spread[0]


def test_batches_are_a_function_of_seed_epoch_and_number() -> None:
    preset = presets.PRESETS["tiny-lossless"]
    draw = pixels.any_of(blobs(30), 8, True)
    first, again, other = (
        pixels.PixelBatches(draw, preset, 40, (0, epoch))[3] for epoch in (1, 1, 2)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        ("lossless-mnist", ["--latents", "4"], "neither latents nor a loss of pictures"),
        ("lossless-mnist", ["--distortion-weight", "4"], "nothing that --distortion-weight"),
        ("lossless-photo", ["--size", "64"], "which --size would scale"),
        ("lossless", ["--grey"], "would take the colour"),
    ],
)
def test_options_that_have_no_meaning_are_refused(
    preset: str, options: list[str], message: str, photo_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    data = [] if preset == "lossless-mnist" else ["--data", str(photo_folder)]
    run_here("train", preset, *data, *options, code=2)
    assert message in capsys.readouterr().err


def test_a_network_that_is_not_exact_is_refused(tiny_lossless_run: Path) -> None:
    from cvae.errors import TrainingError
    from cvae.training.export import lossless

    run = Run.open(tiny_lossless_run)
    model = checkpoints.load(run)
    model.first.bias.assign(np.full(model.first.filters, 1e5, np.float32))
    with pytest.raises(TrainingError, match="not exact: expected sums below"):
        lossless.made_tables(model, run)


def test_presets_see_what_their_kind_can() -> None:
    for name, preset in presets.PRESETS.items():
        if preset.architecture.startswith("lossless"):
            any_size = preset.architecture == "lossless-any"
            assert not (preset.lossless.placed and any_size), name
            assert preset.image_shape[2] == 3 or not preset.lossless.predicts, name
    assert LosslessSizes().placed


def test_auto_begins_with_the_shipped_model_of_photographs() -> None:
    recipe, start = auto.tuned(presets.LOSSLESS)
    assert start is not None
    assert start.name == "lossless-photo"
    assert recipe.minutes
    other = replace(presets.LOSSLESS.lossless, up=9)
    assert auto.tuned(replace(presets.LOSSLESS, lossless=other))[1] is None


def test_auto_makes_a_lossless_model_of_a_folder(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    sizes = replace(presets.LOSSLESS.lossless, hidden=(8, 8, 8), up=2, side=2)
    quick = replace(presets.LOSSLESS, lossless=sizes, batch_size=64, steps=3)
    monkeypatch.setattr(presets, "LOSSLESS", quick)
    out = tmp_path / "run"
    run_here("train", "auto", "--lossless", "--data", photo_folder, "--epochs", "1", "-o", out)
    said = capsys.readouterr().err
    assert f"cvae train lossless --data {photo_folder}" in said
    picture = photo(9, 30, 3)
    codec = cvae.open_model(out / "lossless.cvae")
    assert np.array_equal(codec.decode(codec.encode(picture)), picture)
    run_here("train", "photo", "--lossless", "--data", photo_folder, code=2)
    assert "--lossless is for auto" in capsys.readouterr().err
