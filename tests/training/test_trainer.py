"""The training loop: when it slows down, when it ends, what it keeps and what it begins with."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from cvae.errors import TrainingError
from cvae.training import checkpoints, datasets, presets, runs, trainer
from cvae.training.backend import Machine
from cvae.training.begin import Begin
from cvae.training.datasets import Dataset
from cvae.training.networks import features, losses
from cvae.training.presets import TINY, TINY_AE, Preset
from cvae.training.runs import Run

from ..conftest import blobs, run_here

DATA = Dataset("x", "x", blobs(64), blobs(16, seed=1))
# So small a rate that no weight moves: validation is the same after every epoch.
STILL = replace(TINY, schedule="constant", learning_rate=1e-30)


def start(folder: Path, preset: Preset, resume: bool = False, begin: Path | None = None) -> Run:
    other = Begin(begin) if begin else None
    return runs.start(folder, preset, DATA, 0, resume, force=False, begin=other)


class At(keras.callbacks.Callback):
    """Does something to the model as an epoch, counted from 1, begins."""

    def __init__(self, epoch: int, change: Callable[[keras.Model], None]) -> None:
        super().__init__()
        self._epoch, self._change = epoch, change

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if epoch + 1 == self._epoch:
            self._change(self.model)


def at(epoch: int, change: Callable[[keras.Model], None]) -> Machine:
    return Machine(callbacks=(At(epoch, change),))


def worse(model: keras.Model) -> None:
    """Pictures become black."""
    last = model.synthesis.get_layer("last")
    kernel, bias = last.get_weights()
    last.set_weights([kernel, bias - 20])


def poison(model: keras.Model) -> None:
    model.set_weights([np.nan * weight for weight in model.get_weights()])


def same(a: keras.Model, b: keras.Model, apart: float = 0) -> bool:
    pairs = zip(a.get_weights(), b.get_weights(), strict=True)
    return all(np.abs(x - y).max() <= apart for x, y in pairs)


@pytest.mark.parametrize(
    ("validation", "plateaus"),
    [
        ([], 0),
        ([5, 4, 3, 2, 1], 0),
        ([3, 3, 3, 3, 3], 0),
        ([3, 3, 3, 3, 3, 3], 1),
        ([3, 4, 5, 6, 4, 2, 3, 3, 3, 3], 0),
        ([3, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2], 1),
        ([3, *[4] * 10], 2),
        ([3, *[4] * 9, 2, *[3] * 5], 2),
    ],
)
def test_a_plateau_is_five_epochs_without_a_better_loss(
    validation: list[float], plateaus: int
) -> None:
    assert trainer._plateaus([{"val_loss": loss} for loss in validation]) == plateaus


def test_the_rate_is_halved_on_each_plateau(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_PLATEAU", 2)
    run = start(tmp_path / "run", replace(STILL, schedule="plateau", epochs=6))
    model = trainer.train(run, DATA, Machine())
    # After epochs 3 and 5, the last of which is the sixth.
    assert float(model.optimizer.learning_rate) / 1e-30 == pytest.approx(1 / 4)


def test_a_run_ends_when_it_gets_no_better_and_its_best_epoch_is_exported(tmp_path: Path) -> None:
    run = start(tmp_path / "run", replace(STILL, patience=2, epochs=9))
    begun = checkpoints.build(run, len(DATA.train))
    trainer.train(run, DATA, at(2, worse))
    assert len(runs.read_history(run)) == 3
    assert same(checkpoints.load(run), begun, apart=1e-20)
    last = checkpoints.load(run, Machine())
    assert not same(last, begun, apart=1)
    # And it is over when it is resumed, too.
    assert same(trainer.train(run, DATA, Machine()), last)
    assert len(runs.read_history(run)) == 3


def test_without_patience_the_last_epoch_is_exported(tmp_path: Path) -> None:
    run = start(tmp_path / "run", replace(STILL, epochs=3))
    last = trainer.train(run, DATA, at(2, worse))
    assert len(runs.read_history(run)) == 3
    assert same(checkpoints.load(run), last)
    assert not (run.folder / runs.BEST).exists()


def test_a_loss_that_becomes_nan_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    run = start(tmp_path / "run", replace(TINY, epochs=5))
    with pytest.raises(TrainingError, match=r"finite in epoch 3.*kept.*smaller --learning-rate"):
        trainer.train(run, DATA, at(3, poison))
    assert len(runs.read_history(run)) == 2
    kept = checkpoints.load(run)
    assert all(np.isfinite(weight).all() for weight in kept.get_weights())
    trainer.train(run, DATA, Machine())
    assert len(runs.read_history(run)) == 5


def stop(model: keras.Model) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_resumed_run_finds_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rate, noise, statistics, averages, and that dropout has ended."""
    monkeypatch.setattr(trainer, "_PLATEAU", 1)
    recipe = replace(
        presets.TINY_VAE, learning_rate=0.2, epochs=6, patience=100, dropout_share=0.4, average=0.3
    )
    run, expected = start(tmp_path / "run", recipe), start(tmp_path / "whole", recipe)
    whole = trainer.train(expected, DATA, Machine())
    assert float(whole.optimizer.learning_rate) < 0.2, "no plateau, so this shows nothing of it"
    with pytest.raises(KeyboardInterrupt):
        trainer.train(run, DATA, at(4, stop))
    resumed = trainer.train(start(run.folder, recipe, resume=True), DATA, Machine())
    assert same(resumed, whole)
    assert same(checkpoints.load(run), checkpoints.load(expected))
    ours, theirs = (
        [{**row, "seconds": 0} for row in runs.read_history(each)] for each in (run, expected)
    )
    assert ours == theirs


def test_a_finished_run_goes_on_with_more_epochs(tmp_path: Path) -> None:
    run = start(tmp_path / "run", replace(TINY, epochs=1))
    trainer.train(run, DATA, Machine())
    first = runs.read_history(run)
    longer = start(run.folder, replace(TINY, epochs=3), resume=True)
    trainer.train(longer, DATA, Machine())
    assert runs.read_history(longer)[:1] == first
    assert len(runs.read_history(longer)) == 3
    assert Run.open(run.folder).preset.epochs == 3
    with pytest.raises(TrainingError, match="epochs was 3 and is now 2"):
        start(run.folder, replace(TINY, epochs=2), resume=True)
    with pytest.raises(TrainingError, match="noise was"):
        start(run.folder, replace(TINY, epochs=4, noise=0.1), resume=True)


def test_half_precision_leaves_weights_and_sums_whole(tmp_path: Path) -> None:
    run = start(tmp_path / "run", replace(presets.TINY_VAE, precision="mixed_bfloat16", epochs=1))
    model = trainer.train(run, DATA, Machine())
    assert model.analysis.get_layer("mean").compute_dtype == "bfloat16"
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
    # KL of almost N(0, 1) is a small difference of large terms.
    heads = [ops.cast(np.full((1, 4), 0.01), "bfloat16") for _ in range(2)]
    exact = losses.kl_divergence(*(ops.cast(head, "float32") for head in heads))
    assert np.asarray(model.rate(heads, None)) == pytest.approx(np.asarray(exact), rel=1e-3)


def test_fine_tuning_begins_with_the_other_runs_weights(tiny_run: Path, tmp_path: Path) -> None:
    run = start(tmp_path / "run", replace(TINY, learning_rate=1e-4, epochs=1), begin=tiny_run)
    begun = checkpoints.start(run, DATA.train, Machine())
    assert same(begun, checkpoints.load(Run.open(tiny_run)))
    trainer.train(run, DATA, Machine())
    reached = float(list(csv.DictReader((tiny_run / "history.csv").open()))[-1]["val_loss"])
    (row,) = runs.read_history(run)
    assert row["val_loss"] == pytest.approx(reached, rel=0.2)
    assert Run.open(run.folder).begin == str(tiny_run)
    with pytest.raises(TrainingError, match=r"fine-tune was .*tiny and is now"):
        start(run.folder, run.preset, resume=True)


def test_fine_tuning_with_what_does_not_fit_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    other = start(tmp_path / "a", replace(TINY, latent_dim=5), begin=tiny_run)
    with pytest.raises(TrainingError, match=r"--fine-tune .*expected the networks of tiny"):
        checkpoints.start(other, DATA.train, Machine())
    with pytest.raises(TrainingError, match="expected the folder of a training run"):
        start(tmp_path / "b", TINY, begin=tmp_path)
    with pytest.raises(TrainingError, match="no epoch of that run has finished"):
        start(tmp_path / "b", TINY, begin=other.folder)
    assert not (tmp_path / "b").exists()


def test_a_run_does_not_begin_with_itself(
    tiny_run: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (tiny_run / "checkpoint.weights.h5").read_bytes()
    base = ["train", "tiny", "--data", tiny_data, "--out", tiny_run, "--force", "--quiet"]
    run_here(*base, "--fine-tune", tiny_run, code=1)
    assert "expected another folder" in capsys.readouterr().err
    assert (tiny_run / "checkpoint.weights.h5").read_bytes() == before


def test_features_are_for_training_alone(tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    features.save(features.build().get_weights(), path)
    preset = replace(TINY_AE, perceptual_weight=5.0, features=str(path), epochs=1)
    run = start(tmp_path / "run", preset)
    trained = trainer.train(run, DATA, Machine())
    plain = checkpoints.build(replace(run, preset=TINY_AE), 64)
    assert len(trained.weights) == len(plain.weights)
    (row,) = runs.read_history(run)
    terms = 30 * row["distortion"] + 5 * row["perceptual"]
    assert row["perceptual"] > 0
    assert row["loss"] == pytest.approx(terms, rel=1e-4)
    path.unlink()
    assert same(checkpoints.load(run), trained)


def test_settings_name_all_that_weights_depend_on(tmp_path: Path) -> None:
    run = start(tmp_path / "run", TINY)
    assert json.loads((run.folder / "run.json").read_text())["preset"] == json.loads(
        json.dumps(TINY.to_json())
    )
    (run.folder / runs.CHECKPOINT).touch()
    for change in ({"noise": 0.1}, {"precision": "mixed_bfloat16"}, {"crop": 4}):
        with pytest.raises(TrainingError, match=f"{next(iter(change))} was .* and is now"):
            start(run.folder, replace(TINY, **change), resume=True)


@pytest.mark.parametrize("resume", [True, False])
def test_a_run_that_never_began_is_in_nobodys_way(resume: bool, tmp_path: Path) -> None:
    start(tmp_path / "run", TINY)
    again = start(tmp_path / "run", replace(TINY, noise=0.1), resume=resume)
    assert Run.open(tmp_path / "run").preset == again.preset


def test_a_lost_history_is_not_made_up(tiny_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    dataset = datasets.load(str(tiny_data), "mnist", (8, 8, 1))
    run = Run.open(Path(shutil.copytree(tiny_run, tmp_path / "run")))
    (run.folder / runs.HISTORY).unlink()
    with pytest.raises(TrainingError, match=r"expected 30 epochs in history\.csv, found 0"):
        trainer.train(run, dataset, Machine())


@pytest.mark.slow
def test_dropout_ends_after_its_share_of_the_epochs(tiny_ae_run: Path, tmp_path: Path) -> None:
    preset = replace(TINY_AE, epochs=2, patience=0)
    without = tuple("drop 0.0" if "drop" in layer else layer for layer in preset.analysis)
    assert without != preset.analysis

    def trained(name: str, **changes: Any) -> keras.Model:
        # All begin with the same weights: a layer without dropout takes no random numbers.
        run = start(tmp_path / name, replace(preset, **changes), begin=tiny_ae_run)
        return trainer.train(run, DATA, Machine())

    never, always = trained("never", dropout_share=0.0), trained("always", dropout_share=1.0)
    assert same(never, trained("without", analysis=without), apart=1e-5)
    assert not same(never, always, apart=1e-3)
    half = trained("half", dropout_share=0.5)
    assert not same(half, never, apart=1e-3)
    assert not same(half, always, apart=1e-3)


# --- averages of weights ------------------------------------------------------------------------

AVERAGED = replace(TINY, average=0.99, epochs=3, learning_rate=0.05, warmup=1)


def test_averages_are_validated_and_exported_and_training_goes_on_from_the_last(
    tmp_path: Path,
) -> None:
    run = start(tmp_path / "run", AVERAGED)
    last = trainer.train(run, DATA, Machine())
    history = runs.read_history(run)
    exported = checkpoints.load(run)
    assert not same(exported, last, apart=1e-3)
    assert same(checkpoints.load(run, Machine()), last)
    # Training went on from the last weights: more than averages of averages move.
    exported.compile()
    found = {
        name: model.evaluate(DATA.validation / np.float32(255), batch_size=16, verbose=0)[0]
        for name, model in (("averages", exported), ("last", last))
    }
    assert history[-1]["val_loss"] == pytest.approx(found["averages"], rel=1e-4)
    assert history[-1]["val_loss"] != pytest.approx(found["last"], rel=1e-3)
    averages = {id(average): weight for weight, average in last.optimizer.pairs()}
    assert len(averages) == len(last.trainable_variables)
    begun = checkpoints.start(
        start(tmp_path / "more", AVERAGED, begin=run.folder), DATA.train, Machine()
    )
    assert same(begun, exported)


def test_a_warm_up_is_short_and_ends_at_the_rate() -> None:
    cosine = checkpoints._cosine(replace(TINY, warmup=10, learning_rate=1.0), 1000)
    rates = [float(cosine(step)) for step in range(1001)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(1)
    assert rates[505] == pytest.approx(0.5, abs=1e-3)
    assert rates[1000] == pytest.approx(0, abs=1e-6)
    assert float(checkpoints._cosine(replace(TINY, warmup=10), 100)(5)) == pytest.approx(1e-2)
    assert float(checkpoints._cosine(TINY, 100)(0)) == pytest.approx(1e-2)
