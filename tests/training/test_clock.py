"""A limit of time: epochs that end early, a learning rate that follows the time, and going on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cvae.errors import TrainingError
from cvae.training import clock, runs, trainer
from cvae.training.backend import Machine
from cvae.training.datasets import Dataset
from cvae.training.presets import TINY
from cvae.training.runs import Run

from ..conftest import blobs

DATA = Dataset("x", "x", blobs(1000), blobs(16, seed=1))
PRESET = replace(TINY, minutes=1, average=0.9, warmup=4)


def start(folder: Path, **changes: Any) -> Run:
    preset = replace(PRESET, **changes)
    return runs.start(folder, preset, DATA, 0, resume=False, force=False)


class Watch(keras.callbacks.Callback):
    """A time in which every step takes a second, and nothing else any; notes the learning rates."""

    def __init__(self, last_epoch: int = 1000) -> None:
        super().__init__()
        self.rates: list[float] = []
        self._now, self._last = 1000.0, last_epoch

    def monotonic(self) -> float:
        return self._now

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if epoch == self._last:
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.rates.append(float(self.model.optimizer.learning_rate))
        self._now += 1


Train = Callable[[Run, Watch], keras.Model]


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Train:
    """Trains by a watch."""

    def trained(run: Run, watch: Watch) -> keras.Model:
        monkeypatch.setattr(clock, "time", watch)
        monkeypatch.setattr(trainer, "time", watch)
        return trainer.train(run, DATA, Machine(callbacks=(watch,)))

    return trained


def test_the_rate_warms_up_and_decays_with_the_time() -> None:
    preset = replace(PRESET, learning_rate=1.0, warmup=100)
    assert clock.rate(preset, 0.0, 0) == pytest.approx(0.01)
    assert clock.rate(preset, 0.01, 49) == pytest.approx(0.5, rel=1e-3)
    # Where steps are slow, the warm-up is a share of the time.
    assert clock.rate(preset, 0.025, 3) == pytest.approx(0.5, rel=1e-2)
    assert clock.rate(preset, 0.5, 1000) == pytest.approx(0.5)
    assert clock.rate(preset, 1.0, 1000) == pytest.approx(0, abs=1e-12)
    assert clock.rate(preset, 1.1, 1000) == pytest.approx(0, abs=1e-12)
    assert clock.rate(replace(preset, warmup=0), 0.0, 0) == 1


@pytest.mark.slow
def test_training_ends_when_the_time_is_over_and_resumed_goes_on_with_what_is_left(
    tmp_path: Path, train: Train
) -> None:
    whole, watch = start(tmp_path / "whole"), Watch()
    expected = train(whole, watch)
    history = runs.read_history(whole)
    # Epochs of 32 steps end after a tenth of the time, for their checkpoints.
    assert [row["steps"] for row in history] == [*range(6, 61, 6)]
    assert [row["seconds"] for row in history] == [6] * 10
    assert watch.rates == sorted(watch.rates[:4]) + sorted(watch.rates[4:], reverse=True)
    rates = [clock.rate(whole.preset, step / 60, step) for step in range(60)]
    assert watch.rates == pytest.approx(rates, rel=1e-5)
    assert watch.rates[-1] < 0.01 * max(watch.rates)
    # It is over when it is resumed, too.
    train(whole, Watch())
    assert runs.read_history(whole) == history

    run, first, second = start(tmp_path / "run"), Watch(last_epoch=4), Watch()
    with pytest.raises(KeyboardInterrupt):
        train(run, first)
    assert len(runs.read_history(run)) == 4
    model = train(run, second)
    assert (len(first.rates), len(second.rates)) == (24, 36)
    assert watch.rates == pytest.approx([*first.rates, *second.rates])
    pairs = zip(expected.get_weights(), model.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.slow
def test_without_a_schedule_the_rate_stays_and_a_lost_history_is_not_made_up(
    tmp_path: Path, train: Train
) -> None:
    run, watch = start(tmp_path / "run", schedule="constant", minutes=0.2, average=0.0), Watch()
    train(run, watch)
    assert watch.rates == pytest.approx([PRESET.learning_rate] * 12)
    rows = runs.read_history(run)
    # An epoch whose checkpoint was not written is forgotten.
    more = [*rows, {**rows[-1], "epoch": len(rows) + 1, "steps": rows[-1]["steps"] + 5}]
    runs.write_history(run, more)
    trainer._resumed(run, DATA, Machine())
    assert runs.read_history(run) == rows
    (run.folder / runs.HISTORY).unlink()
    with pytest.raises(TrainingError, match=r"expected 1 epochs in history\.csv, found 0"):
        train(run, Watch())
