"""The training loop: a run can be killed at any moment and resumed to the same weights."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cvae.data import files, images
from cvae.data.images import Images
from cvae.errors import TrainingError
from cvae.training import backend, datasets, runs
from cvae.training.batches import Batches, shared
from cvae.training.datasets import Dataset
from cvae.training.export import linear
from cvae.training.networks import architectures, features, losses
from cvae.training.preset import Preset
from cvae.training.runs import Run

# So many images show what spread the latents begin with.
_DENSITY_IMAGES = 2000
# Epochs without a better validation loss, after which the schedule "plateau" halves the rate.
_PLATEAU = 5
_VALIDATION_VALUES = 1 << 21


@dataclass(frozen=True)
class Machine:
    """How a machine is used; no part of what a run is."""

    devices: str | None = None  # see `backend.use`
    xla: bool | None = None  # None: as Keras chooses
    callbacks: tuple[keras.callbacks.Callback, ...] = ()


def build(run: Run, train_images: int, machine: Machine | None = None) -> losses.Trainable:
    """The compiled model with freshly initialized weights, a function of the run's seed.

    Args:
        run: the run.
        train_images: how many there are.
        machine: what to train on; None for a model to look at, in whole precision.

    Raises:
        TrainingError: the preset's networks do not fit its image size.
    """
    precision = run.preset.precision if machine else "float32"
    keras.config.set_dtype_policy(precision)
    try:
        with backend.use(machine.devices) if machine else nullcontext():
            # A model to look at needs no loss, so the features need not be there any more.
            perceptual = features.perceptual(run.preset) if machine else None
            return _build(run, train_images, machine.xla if machine else None, perceptual)
    finally:
        keras.config.set_dtype_policy("float32")


def _build(
    run: Run, train_images: int, xla: bool | None, perceptual: losses.Perceptual | None
) -> losses.Trainable:
    keras.utils.set_random_seed(run.seed)
    preset = run.preset
    try:
        model = _model(preset, run.seed, perceptual)
    except ValueError as error:
        raise TrainingError(str(error), where=preset.name) from error
    sides = (preset.crop, preset.crop) if preset.crop else preset.image_shape[:2]
    model.build((None, *sides, preset.image_shape[2]))
    rate: Any = preset.learning_rate
    if preset.schedule == "cosine":
        steps = _steps(preset, train_images, model.replicas) * preset.epochs
        rate = keras.optimizers.schedules.CosineDecay(preset.learning_rate, steps)
    model.compile(optimizer=keras.optimizers.Adam(rate), jit_compile="auto" if xla is None else xla)
    model.optimizer.build(model.trainable_variables)
    return model


def _steps(preset: Preset, images: int, devices: int) -> int:
    """Batches an epoch."""
    count, size = shared(preset.passes * images, preset.batch_size, devices)
    return -(-count // size)


def _model(preset: Preset, seed: int, perceptual: losses.Perceptual | None) -> losses.Trainable:
    if preset.architecture == "denoiser":
        return losses.Denoiser(architectures.build_denoiser(preset), preset, seed, perceptual)
    kinds = {
        "cvae": losses.VariationalAutoencoder,
        "vae": losses.VariationalAutoencoder,
        "residual": losses.QuantizedAutoencoder,
        "autoencoder": losses.PlainAutoencoder,
    }
    networks = architectures.build(preset)
    return kinds[preset.architecture](networks, preset, seed, perceptual)


def start(run: Run, train: Images, machine: Machine) -> losses.Trainable:
    """The model as training begins.

    That is `build`, with the weights of the run that it is to begin with; and for residual networks
    the data's own linear codec.
    """
    model = build(run, len(train), machine)
    if run.begin:
        other = load(Run.open(Path(run.begin)))
        try:
            model.set_weights(other.get_weights())
        except ValueError as error:
            raise TrainingError(
                f"--fine-tune {run.begin}: expected the networks of {run.preset.name}, found those "
                f"of {other.name.replace('_', '-')}: {error}"
            ) from error
    elif isinstance(model, losses.QuantizedAutoencoder):
        sample = datasets.sample(train)
        components = linear.components(sample, run.preset.latent_dim, str(run.folder))
        architectures.start_from_components(
            architectures.Networks(model.analysis, model.synthesis),
            *components,
            run.preset.linear_step,
        )
        x = images.as_floats(sample[:_DENSITY_IMAGES])
        model.density.fit(model.analysis.predict(x, verbose=0))
    return model


def load(run: Run, machine: Machine | None = None) -> losses.Trainable:
    """The model with the weights of the run's best epoch, where the preset keeps it, or its last.

    Args:
        run: the run.
        machine: what to go on training on, from the last epoch.

    Raises:
        TrainingError: no epoch of the run has finished, or the file is damaged.
    """
    model = build(run, run.data["train"], machine)
    path = run.folder / runs.CHECKPOINT
    best = run.folder / runs.BEST
    if machine is None and run.preset.patience and best.exists():
        path = best
    if not path.exists():
        raise TrainingError("no checkpoint; no epoch of this run has finished", where=path)
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"the checkpoint cannot be read: {error}", where=path) from error
    return model


def train(run: Run, dataset: Dataset, machine: Machine) -> losses.Trainable:
    """Trains from the last finished epoch to the last one of the preset.

    Everything random in an epoch is a function of (seed, epoch), and what the learning rate is and
    whether training goes on one of the history, so a run that was killed and resumed passes
    through the same weights as one that was not. After each epoch the history and then the
    checkpoint (weights and optimizer state) are replaced in one step each.

    Raises:
        TrainingError: a loss is no longer finite; the last good checkpoint is kept.
    """
    preset = run.preset
    resumed = (run.folder / runs.CHECKPOINT).exists()
    model = load(run, machine) if resumed else start(run, dataset.train, machine)
    steps = _steps(preset, len(dataset.train), model.replicas)
    done = int(model.optimizer.iterations.numpy()) // steps
    history = runs.read_history(run)[:done]
    if len(history) < done:
        raise TrainingError(
            f"expected {done} epochs in {runs.HISTORY}, found {len(history)}",
            where=run.folder,
            advice="--force starts the run anew",
        )
    if history:
        runs.write_history(run, history)  # without an epoch whose checkpoint was not written
    validation = Batches(dataset.validation, _validation_batch(preset), devices=model.replicas)
    for epoch in range(done, preset.epochs):
        if _is_over(history, preset):
            break
        started = time.monotonic()
        _seed_noise(model, run.seed, epoch)
        if preset.schedule == "plateau":
            model.optimizer.learning_rate = preset.learning_rate * 0.5 ** _plateaus(history)
        if epoch >= round(preset.dropout_share * preset.epochs):
            _end_dropout(model)
        record = model.fit(
            Batches(
                dataset.train,
                preset.batch_size,
                (run.seed, epoch),
                preset.augment,
                preset.crop,
                preset.passes,
                model.replicas,
            ),
            shuffle=False,
            validation_data=validation,
            initial_epoch=epoch,
            epochs=epoch + 1,
            verbose=0,
            callbacks=list(machine.callbacks),
        )
        row = {name: values[0] for name, values in record.history.items()}
        if not all(np.isfinite(value) for value in row.values()):
            raise TrainingError(
                f"the loss is no longer finite in epoch {epoch + 1}: {row}",
                where=run.folder,
                advice="earlier epochs are kept; try a smaller --learning-rate",
            )
        row["seconds"] = round(time.monotonic() - started, 2)
        history.append({"epoch": epoch + 1, **row})
        _keep(run, model, history)
    return model


def _keep(run: Run, model: losses.Trainable, history: list[runs.Row]) -> None:
    """Writes the history, then the weights; those of the best epoch first, so that it is never missing."""
    runs.write_history(run, history)
    names = [runs.CHECKPOINT]
    if run.preset.patience and _best(history) == len(history) - 1:
        names.insert(0, runs.BEST)
    for name in names:
        with files.atomic_path(run.folder / name, force=True) as temporary:
            model.save_weights(temporary)


def _best(history: list[runs.Row]) -> int:
    """The number of the first epoch of the smallest validation loss, from 0 on."""
    return int(np.argmin([row["val_loss"] for row in history]))


def _is_over(history: list[runs.Row], preset: Preset) -> bool:
    """Whether the validation loss has not improved for as long as the preset waits."""
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


def _validation_batch(preset: Preset) -> int:
    """Images that together have some million values."""
    return max(1, min(1000, _VALIDATION_VALUES // math.prod(preset.image_shape)))


def _end_dropout(model: losses.Trainable) -> None:
    for network in model.layers:
        for layer in getattr(network, "layers", []):
            if isinstance(layer, keras.layers.Dropout) and layer.rate:
                layer.rate = 0.0
                model.train_function = None  # it was compiled with the dropout


def _seed_noise(model: losses.Trainable, seed: int, epoch: int) -> None:
    """Of the model itself and then of its dropout: a checkpoint keeps neither."""
    states = [v for v in model.variables if v.path.endswith("seed_generator_state")]
    states.sort(key=lambda state: state is not model.noise.state)
    for number, state in enumerate(states):
        entropy = [seed, epoch, number] if number else [seed, epoch]
        state.assign(np.random.SeedSequence(entropy).generate_state(2).astype(np.uint32))
