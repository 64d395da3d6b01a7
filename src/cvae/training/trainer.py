"""The training loop: a run can be killed at any moment and resumed to the same weights."""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cvae import files, images
from cvae.errors import TrainingError
from cvae.images import Images
from cvae.training import architectures, datasets, linear, losses, runs
from cvae.training.datasets import Dataset
from cvae.training.runs import Run

Floats = NDArray[np.float32]

# So many images show what spread the latents begin with.
_DENSITY_IMAGES = 2000


def build(run: Run, train_images: int) -> losses.Autoencoder:
    """The compiled model with freshly initialized weights, a function of the run's seed."""
    keras.utils.set_random_seed(run.seed)
    preset = run.preset
    kinds = {"cvae": losses.VariationalAutoencoder, "residual": losses.QuantizedAutoencoder}
    model = kinds[preset.architecture](architectures.build(preset), preset, run.seed)
    model.build((None, *preset.image_shape))
    rate: Any = preset.learning_rate
    if preset.schedule == "cosine":
        steps = -(-train_images // preset.batch_size) * preset.epochs
        rate = keras.optimizers.schedules.CosineDecay(preset.learning_rate, steps)
    model.compile(optimizer=keras.optimizers.Adam(rate))
    model.optimizer.build(model.trainable_variables)
    return model


def start(run: Run, train: Images) -> losses.Autoencoder:
    """The model as training begins: `build`, and for residual networks the data's own linear codec."""
    model = build(run, len(train))
    if isinstance(model, losses.QuantizedAutoencoder):
        components = linear.components(
            datasets.sample(train), run.preset.latent_dim, str(run.folder)
        )
        architectures.start_from_components(
            architectures.Networks(model.analysis, model.synthesis),
            *components,
            run.preset.linear_step,
        )
        sample = images.as_floats(train[:_DENSITY_IMAGES])
        model.density.fit(model.analysis.predict(sample, verbose=0))
    return model


def load(run: Run) -> losses.Autoencoder:
    """The model with the run's last checkpoint. Raises TrainingError when there is none."""
    model = build(run, run.data["train"])
    path = run.folder / runs.CHECKPOINT
    if not path.exists():
        raise TrainingError(f"{path}: no checkpoint; no epoch of this run has finished")
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{path}: the checkpoint cannot be read: {error}") from error
    return model


def train(run: Run, dataset: Dataset, progress: keras.callbacks.Callback) -> losses.Autoencoder:
    """Trains from the last finished epoch to the last one of the preset.

    Everything random in an epoch is a function of (seed, epoch), so a run that was killed and
    resumed passes through the same weights as one that was not. After each epoch the history and
    then the checkpoint (weights and optimizer state) are replaced in one step each.

    Raises:
        TrainingError: a loss is no longer finite; the last good checkpoint is kept.
    """
    preset = run.preset
    resumed = (run.folder / runs.CHECKPOINT).exists()
    model = load(run) if resumed else start(run, dataset.train)
    steps = -(-len(dataset.train) // preset.batch_size)
    done = int(model.optimizer.iterations) // steps
    history = runs.read_history(run)[:done]
    if history:
        runs.write_history(run, history)  # without an epoch whose checkpoint was not written
    x_train, x_validation = (
        images.as_floats(part[:]) for part in (dataset.train, dataset.validation)
    )
    for epoch in range(done, preset.epochs):
        started = time.monotonic()
        _seed_noise(model, run.seed, epoch)
        rng = np.random.default_rng([run.seed, epoch])
        order = rng.permutation(len(x_train))
        record = model.fit(
            _augment(x_train[order], preset.augment, rng),
            batch_size=preset.batch_size,
            shuffle=False,
            validation_data=(x_validation,),
            validation_batch_size=1000,
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
        runs.write_history(run, history)
        with files.atomic_path(run.folder / runs.CHECKPOINT, force=True) as temporary:
            model.save_weights(temporary)
    return model


def _augment(x: Floats, kinds: tuple[str, ...], rng: np.random.Generator) -> Floats:
    """Images (n, h, w, c), each changed at random in the ways that the preset names."""
    if "flip" in kinds:
        flipped = rng.random(len(x)) < 0.5
        x[flipped] = x[flipped, :, ::-1]
    if "shift" in kinds:
        height, width = x.shape[1:3]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        place = rng.integers(0, 9, len(x))
        for down in range(3):
            for right in range(3):
                here = place == 3 * down + right
                x[here] = padded[here, down : down + height, right : right + width]
    return x


def _seed_noise(model: losses.Autoencoder, seed: int, epoch: int) -> None:
    state = np.random.SeedSequence([seed, epoch]).generate_state(2)
    model.noise.state.assign(state.astype(np.uint32))
