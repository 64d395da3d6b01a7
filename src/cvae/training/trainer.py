"""The training loop: a run can be killed at any moment and resumed to the same weights."""

from __future__ import annotations

import math
import time

import keras
import numpy as np

from cvae.errors import TrainingError
from cvae.training import checkpoints, runs
from cvae.training.backend import Machine
from cvae.training.batches import Batches
from cvae.training.datasets import Dataset
from cvae.training.networks.losses import Trainable
from cvae.training.preset import Preset
from cvae.training.runs import Run

# Epochs without a better validation loss, after which the schedule "plateau" halves the rate.
_PLATEAU = 5
_VALIDATION_VALUES = 1 << 21  # of a batch of images to validate


def train(run: Run, dataset: Dataset, machine: Machine) -> Trainable:
    """Trains from the last finished epoch to the last one of the preset.

    All random numbers of an epoch are a function of (seed, epoch), learning rate and early stopping
    of the history: a resumed run passes through the same weights as an uninterrupted one. After
    each epoch the history and then the checkpoint (weights and optimizer state) are replaced
    atomically. Raises TrainingError when a loss is no longer finite; the last checkpoint is kept.
    """
    preset, callbacks = run.preset, list(machine.callbacks)
    if machine.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(str(run.folder / "tensorboard")))
    model, history = _resumed(run, dataset, machine)
    batch = max(1, min(1000, _VALIDATION_VALUES // math.prod(preset.image_shape)))
    validation = Batches(dataset.validation, batch, devices=model.replicas)
    for epoch in range(len(history), preset.epochs):
        if _is_over(history, preset):
            break
        started = time.monotonic()
        _seed_noise(model, run.seed, epoch)
        if preset.schedule == "plateau":
            model.optimizer.learning_rate = preset.learning_rate * 0.5 ** _plateaus(history)
        if epoch >= round(preset.dropout_share * preset.epochs):
            _end_dropout(model)
        batches = Batches(
            dataset.train, preset.batch_size, (run.seed, epoch), preset.augment, preset.crop,
            preset.passes, model.replicas,
        )  # fmt: skip
        record = model.fit(
            batches, shuffle=False, validation_data=validation, initial_epoch=epoch,
            epochs=epoch + 1, verbose=0, callbacks=callbacks,
        )  # fmt: skip
        row = {name: values[0] for name, values in record.history.items()}
        if not np.isfinite(list(row.values())).all():
            text = f"the loss is no longer finite in epoch {epoch + 1}: {row}"
            advice = "earlier epochs are kept; try a smaller --learning-rate"
            raise TrainingError(text, where=run.folder, advice=advice)
        seconds = round(time.monotonic() - started, 2)
        history.append({"epoch": epoch + 1, **row, "seconds": seconds})
        runs.write_history(run, history)
        checkpoints.save(run, model, best=preset.patience > 0 and _best(history) == epoch)
    return model


def _resumed(run: Run, dataset: Dataset, machine: Machine) -> tuple[Trainable, list[runs.Row]]:
    """The model and the history after the last finished epoch, if any."""
    if not (run.folder / runs.CHECKPOINT).exists():
        return checkpoints.start(run, dataset.train, machine), []
    model = checkpoints.load(run, machine)
    steps = checkpoints.steps(run.preset, len(dataset.train), model.replicas)
    done = int(model.optimizer.iterations.numpy()) // steps
    history = runs.read_history(run)[:done]
    if len(history) < done:
        text = f"expected {done} epochs in {runs.HISTORY}, found {len(history)}"
        raise TrainingError(text, where=run.folder, advice="--force starts the run anew")
    if history:
        runs.write_history(run, history)  # without an epoch whose checkpoint was not written
    return model, history


def _best(history: list[runs.Row]) -> int:
    """The first epoch of the smallest validation loss, from 0."""
    return int(np.argmin([row["val_loss"] for row in history]))


def _is_over(history: list[runs.Row], preset: Preset) -> bool:
    """Whether the validation loss has not improved for the preset's patience."""
    waited = len(history) - 1 - _best(history) if history else 0
    return bool(preset.patience) and waited >= preset.patience


def _plateaus(history: list[runs.Row]) -> int:
    """How often the validation loss has not improved for `_PLATEAU` epochs."""
    best, waited, found = math.inf, 0, 0
    for row in history:
        waited = 0 if row["val_loss"] < best else waited + 1
        best = min(best, row["val_loss"])
        if waited == _PLATEAU:
            found, waited = found + 1, 0
    return found


def _end_dropout(model: Trainable) -> None:
    for network in model.layers:
        for layer in getattr(network, "layers", []):
            if isinstance(layer, keras.layers.Dropout) and layer.rate:
                layer.rate = 0.0
                model.train_function = None  # it was compiled with the dropout


def _seed_noise(model: Trainable, seed: int, epoch: int) -> None:
    """Seeds the model's noise and dropout, which a checkpoint does not keep."""
    states = [v for v in model.variables if v.path.endswith("seed_generator_state")]
    states.sort(key=lambda state: state is not model.noise.state)
    for number, state in enumerate(states):
        entropy = [seed, epoch, number] if number else [seed, epoch]
        state.assign(np.random.SeedSequence(entropy).generate_state(2).astype(np.uint32))
