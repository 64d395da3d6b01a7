"""The progress of a training run on stderr: loss terms and time left."""

from __future__ import annotations

import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cvae.training.preset import Preset

# Seconds after which the first epoch's end is too far away to wait for its line.
_LONG = 60.0
_TERMS = ["loss", "distortion", "rate", "perceptual", "val_loss", "val_distortion", "val_rate"]


class ProgressBar(keras.callbacks.Callback):
    """One line an epoch, and on a terminal a bar over all epochs or all time; nothing when `quiet`."""

    def __init__(self, preset: Preset, before: float, quiet: bool) -> None:
        """`before` are the seconds of epochs that are done."""
        super().__init__()
        self._epochs, self._limit = preset.epochs, 60 * preset.minutes
        self._of = "" if preset.minutes else f"/{preset.epochs}"
        self._console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn(f"epoch {{task.fields[epoch]}}{self._of}"), BarColumn(),
            TextColumn("{task.description}"), TimeRemainingColumn(), console=self._console,
            disable=quiet or not self._console.is_terminal, transient=True,
        )  # fmt: skip
        self._task: Any = None
        self._started, self._first = 0.0, 0  # when, and with which epoch, this process began
        self._began, self._trained = 0.0, before  # this epoch, and the seconds of all before it
        self._told = bool(preset.minutes)  # how long all will take, where no limit says it
        self._compiled = 0.0  # when this process had done its first batch, which takes longer

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._began = time.monotonic()
        if self._task is None:
            self._started, self._first = self._began, epoch
            steps = self.params["steps"]
            total, done = self._epochs * steps, epoch * steps
            if self._limit:
                total, done = round(self._limit), round(self._trained)
            self._task = self._bar.add_task("", total=total, completed=done, epoch=epoch + 1)
        self._bar.update(self._task, epoch=epoch + 1)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._bar.update(self._task, advance=1, description=_format(logs or {}))
        if self._limit:
            self._bar.update(self._task, completed=self._trained + time.monotonic() - self._began)
        if not self._told:
            self._tell(batch)

    def _tell(self, batch: int) -> None:
        """Says once how long all epochs take, where the first one is long."""
        now, steps = time.monotonic(), self.params["steps"]
        self._compiled = self._compiled or now
        if batch == 0 or batch + 1 == steps or now - self._started <= _LONG:
            return
        self._told = True
        left = steps * (self._epochs - self._first) - batch - 1
        duration = _clock((now - self._compiled) / batch * left)
        self._console.print(
            f"epoch {self._first + 1}{self._of}: {batch + 1} of {steps} batches; all epochs take some "
            f"{duration} more (hours:minutes:seconds); --minutes M ends by the clock"
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        done, self._told = epoch + 1 - self._first, True
        now = time.monotonic()
        self._trained += now - self._began  # checkpoints between the epochs do not count
        left = (now - self._started) / done * (self._epochs - epoch - 1)
        if self._limit:
            left = max(0.0, self._limit - self._trained)
        self._console.print(
            f"epoch {epoch + 1}{self._of}: {_format(logs or {})}  {_clock(left)} left"
        )


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds, `1:02:03`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def _format(logs: dict[str, float]) -> str:
    # A rate of zero belongs to a loss that has none.
    shown = [name for name in _TERMS if name in logs and (logs[name] or "rate" not in name)]
    return "  ".join(f"{name} {float(logs[name]):.4g}" for name in shown)
