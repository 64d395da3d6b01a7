"""A run's Keras model: compiled from its preset and seed, or with the weights of a checkpoint."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from cvae.data import files
from cvae.data.images import Images
from cvae.errors import TrainingError, translated
from cvae.training import architectures, backend, runs
from cvae.training.batches import shared
from cvae.training.networks import features
from cvae.training.networks.losses import Perceptual, Trainable
from cvae.training.preset import Preset
from cvae.training.runs import Run


@dataclass(frozen=True)
class Machine:
    """How a machine is used; no part of a run's settings."""

    devices: str | None = None  # see `backend.use`
    xla: bool | None = None  # None: as Keras chooses
    callbacks: tuple[keras.callbacks.Callback, ...] = ()


def build(run: Run, train_images: int, machine: Machine | None = None) -> Trainable:
    """The compiled model with freshly initialized weights, a function of the run's seed.

    Args:
        run: the run.
        train_images: how many there are.
        machine: what to train on; None for a model in float32 that is not trained.

    Raises:
        TrainingError: the preset's networks do not fit its image size.
    """
    keras.config.set_dtype_policy(run.preset.precision if machine else "float32")
    try:
        with backend.use(machine.devices) if machine else nullcontext():
            # A model that is not trained needs no loss, so its features may be gone.
            perceptual = features.perceptual(run.preset) if machine else None
            xla = machine.xla if machine else None
            return _compiled(run, train_images, xla, perceptual)
    finally:
        keras.config.set_dtype_policy("float32")


def _compiled(
    run: Run, train_images: int, xla: bool | None, perceptual: Perceptual | None
) -> Trainable:
    keras.utils.set_random_seed(run.seed)
    preset = run.preset
    model = architectures.of(preset).model(preset, run.seed, perceptual)
    sides = (preset.crop, preset.crop) if preset.crop else preset.image_shape[:2]
    model.build((None, *sides, preset.image_shape[2]))
    rate: Any = preset.learning_rate
    if preset.schedule == "cosine":
        total = steps(preset, train_images, model.replicas) * preset.epochs
        rate = keras.optimizers.schedules.CosineDecay(preset.learning_rate, total)
    model.compile(optimizer=keras.optimizers.Adam(rate), jit_compile="auto" if xla is None else xla)
    model.optimizer.build(model.trainable_variables)
    return model


def steps(preset: Preset, images: int, devices: int) -> int:
    """Batches an epoch."""
    count, size = shared(preset.passes * images, preset.batch_size, devices)
    return -(-count // size)


def load(run: Run, machine: Machine | None = None) -> Trainable:
    """The model with the weights of the run's best epoch, where the preset keeps it, or its last.

    Args:
        run: the run.
        machine: what to continue training on, from the last epoch.

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
    caught = (OSError, ValueError, KeyError)
    with translated(TrainingError, "the checkpoint cannot be read", path, caught):
        model.load_weights(path)
    return model


def start(run: Run, train: Images, machine: Machine) -> Trainable:
    """The model as training starts, with the weights of the run that it fine-tunes, if any.

    Raises:
        TrainingError: that run has other networks.
    """
    model = build(run, len(train), machine)
    if not run.begin:
        architectures.of(run.preset).begin(model, run, train)
        return model
    begun = Run.open(Path(run.begin))
    expected = (
        f"--fine-tune {run.begin}: expected the networks of {run.preset.name}, found those of "
        f"{begun.preset.name}"
    )
    with translated(TrainingError, expected, "", ValueError):
        model.set_weights(load(begun).get_weights())
    return model


def save(run: Run, model: Trainable, best: bool) -> None:
    """Writes the weights, each file atomically; those of the best epoch first, so that none is missing."""
    for name in [runs.BEST, runs.CHECKPOINT] if best else [runs.CHECKPOINT]:
        with files.atomic_path(run.folder / name, force=True) as temporary:
            model.save_weights(temporary)
