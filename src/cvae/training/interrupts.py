"""Ctrl-C while a network trains."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Any

import keras


class Interrupts(keras.callbacks.Callback):
    """Ctrl-C ends the run after the current batch; a second one, or one before the first batch, at once.

    A KeyboardInterrupt within a callback of the garbage collector, as JAX has one, is lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self._running = self._asked = False
        self._before: Any = signal.SIG_DFL

    def __enter__(self) -> Interrupts:
        with suppress(ValueError):  # outside the main thread
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ValueError):
            signal.signal(signal.SIGINT, self._before)

    def _note(self, *_: object) -> None:
        if self._asked or not self._running:
            raise KeyboardInterrupt
        self._asked = True

    def _check(self, number: int, logs: dict[str, float] | None = None) -> None:
        self._running = True
        if self._asked:
            raise KeyboardInterrupt

    on_train_batch_end = on_test_batch_end = on_epoch_end = _check
