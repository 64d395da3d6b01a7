"""The training run: a folder that can be killed at any moment and resumed to the same weights."""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import cvae
from cvae import files
from cvae.errors import TrainingError
from cvae.training import architectures, losses
from cvae.training.datasets import Dataset
from cvae.training.presets import Preset

CHECKPOINT = "checkpoint.weights.h5"
HISTORY = "history.csv"
RUN = "run.json"

Row = dict[str, float]


@dataclass(frozen=True)
class Run:
    """A training run's folder and the settings that `run.json` in it records."""

    folder: Path
    preset: Preset
    seed: int
    data: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Reads `run.json`. Raises TrainingError when the folder holds no run."""
        try:
            values = json.loads((folder / RUN).read_text())
            return cls(folder, Preset.from_json(values["preset"]), values["seed"], values["data"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{folder}: expected a training run with {RUN}: {error}") from error

    def save(self) -> None:
        values = {
            "cvae": cvae.__version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "preset": self.preset.to_json(),
            "seed": self.seed,
            "data": self.data,
        }
        files.write_bytes(self.folder / RUN, (json.dumps(values, indent=2) + "\n").encode(), True)


def start(folder: Path, preset: Preset, dataset: Dataset, seed: int, resume: bool, force: bool) -> Run:
    """Makes the run's folder, or checks that the run in it is the one to be resumed.

    Raises:
        TrainingError: the folder holds a run already, or one with other settings.
    """
    run = Run(folder, preset, seed, dataset.describe())
    if (folder / RUN).exists() and resume:
        found = Run.open(folder)
        for what in ("preset", "seed", "data"):
            if getattr(found, what) != getattr(run, what):
                raise TrainingError(
                    f"{folder}: cannot resume with another {what}: "
                    f"expected {getattr(found, what)}, found {getattr(run, what)}"
                )
        return found
    if (folder / RUN).exists() and not force:
        raise TrainingError(
            f"{folder}: holds a training run already; --resume carries it on, --force starts it anew"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CHECKPOINT, HISTORY, RUN):
        (folder / name).unlink(missing_ok=True)
    run.save()
    return run


def build(run: Run, train_images: int) -> losses.VariationalAutoencoder:
    """The compiled model with freshly initialized weights, a function of the run's seed."""
    keras.utils.set_random_seed(run.seed)
    preset = run.preset
    model = losses.VariationalAutoencoder(architectures.build_cvae(preset), preset, run.seed)
    model.build((None, *preset.image_shape))
    rate: Any = preset.learning_rate
    if preset.schedule == "cosine":
        steps = -(-train_images // preset.batch_size) * preset.epochs
        rate = keras.optimizers.schedules.CosineDecay(preset.learning_rate, steps)
    model.compile(optimizer=keras.optimizers.Adam(rate))
    model.optimizer.build(model.trainable_variables)
    return model


def load(run: Run) -> losses.VariationalAutoencoder:
    """The model with the run's last checkpoint. Raises TrainingError when there is none."""
    model = build(run, run.data["train"])
    path = run.folder / CHECKPOINT
    if not path.exists():
        raise TrainingError(f"{path}: no checkpoint; no epoch of this run has finished")
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{path}: the checkpoint cannot be read: {error}") from error
    return model


def train(run: Run, dataset: Dataset, progress: keras.callbacks.Callback) -> losses.VariationalAutoencoder:
    """Trains from the last finished epoch to the last one of the preset.

    Everything random in an epoch is a function of (seed, epoch), so a run that was killed and
    resumed passes through the same weights as one that was not. After each epoch the history and
    then the checkpoint (weights and optimizer state) are replaced in one step each.

    Raises:
        TrainingError: a loss is no longer finite; the last good checkpoint is kept.
    """
    preset = run.preset
    resumed = (run.folder / CHECKPOINT).exists()
    model = load(run) if resumed else build(run, len(dataset.train))
    steps = -(-len(dataset.train) // preset.batch_size)
    done = int(model.optimizer.iterations) // steps
    history = read_history(run)[:done]
    x_train, x_validation = as_floats(dataset.train), as_floats(dataset.validation)
    for epoch in range(done, preset.epochs):
        started = time.monotonic()
        _seed_noise(model, run.seed, epoch)
        order = np.random.default_rng([run.seed, epoch]).permutation(len(x_train))
        record = model.fit(
            x_train[order],
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
                f"the checkpoint of epoch {epoch} is kept; try a smaller --learning-rate"
            )
        row["seconds"] = round(time.monotonic() - started, 2)
        history.append({"epoch": epoch + 1, **row})
        write_history(run, history)
        with files.atomic_path(run.folder / CHECKPOINT, force=True) as temporary:
            # Keras insists on the ending .weights.h5, which `atomic_path` does not keep whole.
            whole = temporary.with_suffix(".weights.h5")
            model.save_weights(whole)
            whole.replace(temporary)
    return model


def as_floats(pixels: np.ndarray) -> np.ndarray:
    """uint8 pixels as float32 in [0, 1]."""
    return pixels.astype(np.float32) / np.float32(255)


def read_history(run: Run) -> list[Row]:
    path = run.folder / HISTORY
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {name: int(text) if name == "epoch" else float(text) for name, text in row.items()}
            for row in csv.DictReader(file)
        ]


def write_history(run: Run, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_bytes(run.folder / HISTORY, text.getvalue().encode(), force=True)


def _seed_noise(model: losses.VariationalAutoencoder, seed: int, epoch: int) -> None:
    state = np.random.SeedSequence([seed, epoch]).generate_state(2)
    model.noise.state.assign(state.astype(np.uint32))
