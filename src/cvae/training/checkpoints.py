"""A run's Keras model: compiled from its preset and seed, or with the weights of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import keras

from cvae.data import files
from cvae.errors import TrainingError
from cvae.training import backend, runs
from cvae.training.batches import shared
from cvae.training.networks import features
from cvae.training.networks.losses import Perceptual, Trainable
from cvae.training.preset import Preset
from cvae.training.runs import Run

# Makes the model of a preset, from its seed and what the perceptual loss compares.
Make = Callable[[Preset, int, Perceptual | None], Trainable]


@dataclass(frozen=True)
class Machine:
    """How a machine is used; no part of what a run is."""

    devices: str | None = None  # see `backend.use`
    xla: bool | None = None  # None: as Keras chooses
    callbacks: tuple[keras.callbacks.Callback, ...] = ()


def build(make: Make, run: Run, train_images: int, machine: Machine | None = None) -> Trainable:
    """The compiled model with freshly initialized weights, a function of the run's seed.

    Args:
        make: the architecture's.
        run: the run.
        train_images: how many there are.
        machine: what to train on; None for a model to look at, in whole precision.

    Raises:
        TrainingError: the preset's networks do not fit its image size.
    """
    keras.config.set_dtype_policy(run.preset.precision if machine else "float32")
    try:
        with backend.use(machine.devices) if machine else nullcontext():
            # A model to look at needs no loss, so the features need not be there any more.
            perceptual = features.perceptual(run.preset) if machine else None
            xla = machine.xla if machine else None
            return _compiled(make, run, train_images, xla, perceptual)
    finally:
        keras.config.set_dtype_policy("float32")


def _compiled(
    make: Make, run: Run, train_images: int, xla: bool | None, perceptual: Perceptual | None
) -> Trainable:
    keras.utils.set_random_seed(run.seed)
    preset = run.preset
    model = make(preset, run.seed, perceptual)
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


def load(make: Make, run: Run, machine: Machine | None = None) -> Trainable:
    """The model with the weights of the run's best epoch, where the preset keeps it, or its last.

    Args:
        make: the architecture's.
        run: the run.
        machine: what to go on training on, from the last epoch.

    Raises:
        TrainingError: no epoch of the run has finished, or the file is damaged.
    """
    model = build(make, run, run.data["train"], machine)
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


def save(run: Run, model: Trainable, best: bool) -> None:
    """Writes the weights, each file atomically; those of the best epoch first, so that none is missing."""
    for name in [runs.BEST, runs.CHECKPOINT] if best else [runs.CHECKPOINT]:
        with files.atomic_path(run.folder / name, force=True) as temporary:
            model.save_weights(temporary)
