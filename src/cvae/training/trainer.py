"""The training loop: a run can be killed at any moment and resumed to the same weights."""

from __future__ import annotations

import math
import time
from typing import Any

import keras
import numpy as np

from cvae import files, images
from cvae.errors import TrainingError
from cvae.training import architectures, features, linear, losses, runs
from cvae.training.batches import Batches, Images
from cvae.training.datasets import Dataset
from cvae.training.presets import Preset
from cvae.training.runs import Run

# So many images give the linear codec that residual networks start from, and show what spread the
# latents begin with.
_PCA_IMAGES, _DENSITY_IMAGES = 60_000, 2000
# Epochs without a better validation loss, after which the schedule "plateau" halves the rate.
_PLATEAU = 5
_VALIDATION_VALUES = 1 << 21


def build(run: Run, train_images: int) -> losses.Trainable:
    """The compiled model with freshly initialized weights, a function of the run's seed.

    Raises:
        TrainingError: the preset's networks do not fit its image size.
    """
    keras.utils.set_random_seed(run.seed)
    preset = run.preset
    try:
        model = _model(preset, run.seed)
    except ValueError as error:
        raise TrainingError(f"{preset.name}: {error}") from error
    sides = (preset.crop, preset.crop) if preset.crop else preset.image_shape[:2]
    model.build((None, *sides, preset.image_shape[2]))
    rate: Any = preset.learning_rate
    if preset.schedule == "cosine":
        steps = -(-train_images // preset.batch_size) * preset.epochs
        rate = keras.optimizers.schedules.CosineDecay(preset.learning_rate, steps)
    model.compile(optimizer=keras.optimizers.Adam(rate))
    model.optimizer.build(model.trainable_variables)
    return model


def _model(preset: Preset, seed: int) -> losses.Trainable:
    perceptual = features.perceptual(preset) if preset.perceptual_weight else None
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


def start(run: Run, train: Images) -> losses.Trainable:
    """The model as training begins: `build`, and for residual networks the data's own linear codec."""
    model = build(run, len(train))
    if isinstance(model, losses.QuantizedAutoencoder):
        sample = train[np.arange(min(len(train), _PCA_IMAGES))]
        components = linear.components(sample, run.preset.latent_dim, str(run.folder))
        architectures.start_from_components(
            architectures.Networks(model.analysis, model.synthesis),
            *components,
            run.preset.linear_step,
        )
        x = images.as_floats(sample[:_DENSITY_IMAGES])
        model.density.fit(model.analysis.predict(x, verbose=0))
    return model


def load(run: Run, best: bool = True) -> losses.Trainable:
    """The model with the weights of the run's best epoch, or with its last checkpoint.

    Args:
        run: the run.
        best: take the best epoch's where the preset keeps it; training goes on from the last.

    Raises:
        TrainingError: no epoch of the run has finished, or the file is damaged.
    """
    model = build(run, run.data["train"])
    path = run.folder / runs.CHECKPOINT
    if best and run.preset.patience and (run.folder / runs.BEST).exists():
        path = run.folder / runs.BEST
    if not path.exists():
        raise TrainingError(f"{path}: no checkpoint; no epoch of this run has finished")
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{path}: the checkpoint cannot be read: {error}") from error
    return model


def train(run: Run, dataset: Dataset, progress: keras.callbacks.Callback) -> losses.Trainable:
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
    model = load(run, best=False) if resumed else start(run, dataset.train)
    steps = -(-len(dataset.train) // preset.batch_size)
    done = int(model.optimizer.iterations) // steps
    history = runs.read_history(run)[:done]
    if history:
        runs.write_history(run, history)  # without an epoch whose checkpoint was not written
    validation = Batches(dataset.validation, _validation_batch(preset))
    for epoch in range(done, preset.epochs):
        if _is_over(history, preset):
            break
        started = time.monotonic()
        _seed_noise(model, run.seed, epoch)
        if preset.schedule == "plateau":
            model.optimizer.learning_rate = preset.learning_rate * 0.5 ** _plateaus(history)
        record = model.fit(
            Batches(
                dataset.train, preset.batch_size, (run.seed, epoch), preset.augment, preset.crop
            ),
            shuffle=False,
            validation_data=validation,
            initial_epoch=epoch,
            epochs=epoch + 1,
            verbose=0,
            callbacks=[progress],
        )
        row = {name: values[0] for name, values in record.history.items()}
        if not all(np.isfinite(value) for value in row.values()):
            raise TrainingError(
                f"{run.folder}: the loss is no longer finite in epoch {epoch + 1}: {row}; "
                "earlier epochs are kept; try a smaller --learning-rate"
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


def _seed_noise(model: losses.Trainable, seed: int, epoch: int) -> None:
    state = np.random.SeedSequence([seed, epoch]).generate_state(2)
    model.noise.state.assign(state.astype(np.uint32))
