"""Ctrl-C while a network trains."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Any

import keras


class Interrupts(keras.callbacks.Callback):
    """Ends the run behind the batch that Ctrl-C meets; a second one, and one before the first batch, at once.

    Raised wherever Python just is, a KeyboardInterrupt may be lost: an error in a callback of the
    garbage collector is printed and forgotten, and JAX, which Keras imports where it is installed, has one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._running = self._asked = False
        self._before: Any = signal.SIG_DFL

    def __enter__(self) -> Interrupts:
        with suppress(ValueError):  # not in the main thread
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ValueError):
            signal.signal(signal.SIGINT, self._before)

    def _note(self, *_: object) -> None:
        if self._asked or not self._running:
            raise KeyboardInterrupt
        self._asked = True

    def _check(self) -> None:
        self._running = True
        if self._asked:
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._check()

    def on_test_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._check()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._check()
