"""A run's Keras model: compiled from its preset and seed, or with the weights of a checkpoint."""

from __future__ import annotations

import io
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras

from cvae.data import files
from cvae.data.images import Images
from cvae.errors import TrainingError, translated
from cvae.models.file import Model
from cvae.training import architectures, backend, runs
from cvae.training.backend import Machine
from cvae.training.batches import shared
from cvae.training.networks import features
from cvae.training.networks.losses import Trainable
from cvae.training.optimizer import Steady
from cvae.training.preset import Preset
from cvae.training.runs import Run


def build(run: Run, train_images: int, machine: Machine | None = None) -> Trainable:
    """The compiled model with freshly initialized weights, a function of the run's seed.

    Without a machine it is in float32, not to be trained. Raises TrainingError when the preset's
    networks do not fit its image size.
    """
    precision = run.preset.precision if machine else "float32"
    keras.config.set_dtype_policy("float32" if precision == "auto" else precision)
    try:
        with backend.use(machine.devices) if machine else nullcontext():
            return _compiled(run, train_images, machine)
    finally:
        keras.config.set_dtype_policy("float32")


def _compiled(run: Run, train_images: int, machine: Machine | None) -> Trainable:
    preset = run.preset
    # A model that is not trained needs no loss, so its features may be gone.
    perceptual = features.perceptual(preset) if machine else None
    keras.utils.set_random_seed(run.seed)
    architecture = architectures.of(preset)
    model = architecture.model(preset, run.seed, perceptual)
    model.build(architecture.shape(preset))
    rate: Any = preset.learning_rate
    if preset.schedule == "cosine" and not preset.minutes:  # else `clock` has it
        total = steps(preset, train_images, model.replicas) * preset.epochs
        rate = _cosine(preset, total)
    adam = keras.optimizers.Adam(rate)
    optimizer = Steady(rate, preset.average) if preset.average else adam
    xla = "auto" if machine is None or machine.xla is None else machine.xla
    model.compile(optimizer=optimizer, jit_compile=xla)
    model.optimizer.build(model.trainable_variables)
    return model


def _cosine(preset: Preset, total: int) -> keras.optimizers.schedules.LearningRateSchedule:
    decay, rate = keras.optimizers.schedules.CosineDecay, preset.learning_rate
    warm = min(preset.warmup, total // 20)
    if not warm:
        return decay(rate, total)
    return decay(rate / warm, total - warm, warmup_target=rate, warmup_steps=warm)


def steps(preset: Preset, images: int, devices: int) -> int:
    """Batches an epoch, where no time is over before."""
    if preset.steps:
        return preset.steps
    count, size = shared(preset.passes * images, preset.batch_size, devices)
    return -(-count // size)


def load(run: Run, machine: Machine | None = None) -> Trainable:
    """The model with the weights of the run's best epoch, where the preset keeps it, or its last.

    They are the averages of weights where the preset has them. With a machine, to continue training,
    the weights of the last epoch. Raises TrainingError when no epoch has
    finished, or the file is damaged.
    """
    model = build(run, run.data["train"], machine)
    path, best = run.folder / runs.CHECKPOINT, run.folder / runs.BEST
    if machine is None and run.preset.patience and best.exists():
        path = best
    if not path.exists():
        raise TrainingError("no checkpoint; no epoch of this run has finished", where=path)
    caught = (OSError, ValueError, KeyError)
    with translated(TrainingError, "the checkpoint cannot be read", path, caught):
        model.load_weights(path)
    if machine is None and run.preset.average:
        model.optimizer.swap()
    return model


def start(run: Run, train: Images, machine: Machine) -> Trainable:
    """The model as training starts, with the weights of the run or file that it fine-tunes, if any.

    Raises TrainingError when that has other networks, ModelError when the file is damaged.
    """
    model, architecture = build(run, len(train), machine), architectures.of(run.preset)
    if not run.begin:
        architecture.begin(model, run, train)
        return model
    if run.begin_model:
        whole = build(run, len(train))  # in float32, whatever trains
        architecture.restore(whole, Model(Path(run.begin)))
        model.set_weights(whole.get_weights())
        return model
    begun = Run.open(Path(run.begin))
    found = f"expected the networks of {run.preset.name}, found those of {begun.preset.name}"
    with translated(TrainingError, f"--fine-tune {run.begin}: {found}", "", ValueError):
        model.set_weights(load(begun).get_weights())
    return model


def save(run: Run, model: Trainable, best: bool) -> None:
    """Writes the weights, each file atomically; those of the best epoch first, so that none is missing."""
    weights = _InMemory()  # HDF5 crashes when a disk is full
    model.save_weights(weights)
    for name in [runs.BEST, runs.CHECKPOINT] if best else [runs.CHECKPOINT]:
        files.write_bytes(run.folder / name, weights.getvalue(), force=True)


class _InMemory(io.BytesIO):
    """A file of weights that lies nowhere yet; Keras asks for the ending of its name."""

    def __str__(self) -> str:
        return runs.CHECKPOINT
