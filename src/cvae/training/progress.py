"""The progress of a training run on stderr: loss terms and time left."""

from __future__ import annotations

import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_TERMS = ["loss", "distortion", "rate", "perceptual", "val_loss", "val_distortion", "val_rate"]


class ProgressBar(keras.callbacks.Callback):
    """One line an epoch, and on a terminal a bar over all epochs; nothing when `quiet`."""

    def __init__(self, epochs: int, quiet: bool) -> None:
        super().__init__()
        self._epochs = epochs
        self._console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn(f"epoch {{task.fields[epoch]}}/{epochs}"), BarColumn(),
            TextColumn("{task.description}"), TimeRemainingColumn(), console=self._console,
            disable=quiet or not self._console.is_terminal, transient=True,
        )  # fmt: skip
        self._task: Any = None
        self._started, self._first = 0.0, 0  # when, and with which epoch, this process began

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self._task is None:
            self._started, self._first = time.monotonic(), epoch
            steps = self.params["steps"]
            total, done = self._epochs * steps, epoch * steps
            self._task = self._bar.add_task("", total=total, completed=done, epoch=epoch + 1)
        self._bar.update(self._task, epoch=epoch + 1)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._bar.update(self._task, advance=1, description=_format(logs or {}))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        done = epoch + 1 - self._first
        left = (time.monotonic() - self._started) / done * (self._epochs - epoch - 1)
        minutes, seconds = divmod(int(left), 60)
        terms = f"{_format(logs or {})}  {minutes}:{seconds:02d} left"
        self._console.print(f"epoch {epoch + 1}/{self._epochs}: {terms}")


def _format(logs: dict[str, float]) -> str:
    # A rate of zero belongs to a loss that has none.
    shown = [name for name in _TERMS if name in logs and (logs[name] or "rate" not in name)]
    return "  ".join(f"{name} {float(logs[name]):.4g}" for name in shown)
