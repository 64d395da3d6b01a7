"""The training loop: a run can be killed at any moment and resumed to the same weights."""

from __future__ import annotations

import math
import time
from itertools import count

import keras
import numpy as np

from cvae.errors import TrainingError
from cvae.training import architectures, checkpoints, runs
from cvae.training.backend import Machine
from cvae.training.clock import Clock
from cvae.training.datasets import Dataset
from cvae.training.networks.losses import Trainable
from cvae.training.optimizer import Averaged
from cvae.training.preset import Preset
from cvae.training.runs import Run

# Epochs without a better validation loss, after which the schedule "plateau" halves the rate.
_PLATEAU = 5


def train(run: Run, dataset: Dataset, machine: Machine) -> Trainable:
    """Trains from the last finished epoch to the last one of the preset, or until its time is over.

    All random numbers of an epoch are a function of (seed, epoch), learning rate and early stopping
    of the history: a resumed run passes through the same weights as an uninterrupted one, unless
    its limit is a time. After each epoch the history and then the checkpoint (weights and optimizer
    state) are replaced atomically. Raises TrainingError when a loss is no longer finite; the last
    checkpoint is kept.
    """
    preset, architecture = run.preset, architectures.of(run.preset)
    callbacks = [*machine.callbacks, *([Averaged()] if preset.average else [])]
    if machine.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(str(run.folder / "tensorboard")))
    model, history = _resumed(run, dataset, machine)
    validation = architecture.validation(run, dataset.validation, model.replicas)
    for epoch in count(len(history)):
        if _is_over(history, run):
            break
        started = time.monotonic()
        _seed_noise(model, run.seed, epoch)
        if preset.schedule == "plateau":
            model.optimizer.learning_rate = preset.learning_rate * 0.5 ** _plateaus(history)
        if _dropout_is_over(history, preset):
            _end_dropout(model)
        clock = [Clock(preset, runs.seconds(history))] if preset.minutes else []
        with architecture.batches(run, dataset.train, epoch, model.replicas) as batches:
            record = model.fit(
                batches, shuffle=False, validation_data=validation, initial_epoch=epoch,
                epochs=epoch + 1, verbose=0, callbacks=[*callbacks, *clock],
            )  # fmt: skip
        row = {name: values[0] for name, values in record.history.items()}
        # A loss that is infinite once does no harm where such steps are skipped.
        judged = [v for name, v in row.items() if name.startswith("val_") or not preset.average]
        if not np.isfinite(judged).all():
            text = f"the loss is no longer finite in epoch {epoch + 1}: {row}"
            advice = "earlier epochs are kept; try a smaller --learning-rate"
            raise TrainingError(text, where=run.folder, advice=advice)
        seconds = round(time.monotonic() - started, 2)
        history.append({"epoch": epoch + 1, **row, **_steps(model, preset), "seconds": seconds})
        runs.write_history(run, history)
        checkpoints.save(run, model, best=preset.patience > 0 and _best(history) == epoch)
    return model


def _resumed(run: Run, dataset: Dataset, machine: Machine) -> tuple[Trainable, list[runs.Row]]:
    """The model and the history after the last finished epoch, if any."""
    if not (run.folder / runs.CHECKPOINT).exists():
        return checkpoints.start(run, dataset.train, machine), []
    model = checkpoints.load(run, machine)
    steps = int(model.optimizer.iterations.numpy())
    history = runs.read_history(run)
    if run.preset.minutes:
        done = 1 + sum(row["steps"] < steps for row in history)
    else:
        done = steps // checkpoints.steps(run.preset, len(dataset.train), model.replicas)
    history = history[:done]
    if len(history) < done:
        text = f"expected {done} epochs in {runs.HISTORY}, found {len(history)}"
        raise TrainingError(text, where=run.folder, advice="--force starts the run anew")
    if history:
        runs.write_history(run, history)  # without an epoch whose checkpoint was not written
    return model, history


def _best(history: list[runs.Row]) -> int:
    """The first epoch of the smallest validation loss, from 0."""
    return int(np.argmin([row["val_loss"] for row in history]))


def _steps(model: Trainable, preset: Preset) -> runs.Row:
    """What else a row of the history has: all steps so far, and those that were skipped."""
    row: runs.Row = {}
    if preset.minutes:
        row["steps"] = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
    if preset.average:
        row["skipped"] = int(keras.ops.convert_to_numpy(model.optimizer.skipped))
    return row


def _is_over(history: list[runs.Row], run: Run) -> bool:
    """Whether epochs or time are over, or the validation loss has not improved for the patience."""
    waited = len(history) - 1 - _best(history) if history else 0
    patience = run.preset.patience
    return runs.is_over(run, history) or (bool(patience) and waited >= patience)


def _plateaus(history: list[runs.Row]) -> int:
    """How often the validation loss has not improved for `_PLATEAU` epochs."""
    best, waited, found = math.inf, 0, 0
    for row in history:
        waited = 0 if row["val_loss"] < best else waited + 1
        best = min(best, row["val_loss"])
        if waited == _PLATEAU:
            found, waited = found + 1, 0
    return found


def _dropout_is_over(history: list[runs.Row], preset: Preset) -> bool:
    if preset.minutes:
        return runs.seconds(history) >= preset.dropout_share * 60 * preset.minutes
    return len(history) >= round(preset.dropout_share * preset.epochs)


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
