"""Ctrl-C while a network trains."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import keras

_STDERR = 2
_HEARD = b"\nstopping after this batch; Ctrl-C once more stops at once\n"


class Interrupts(keras.callbacks.Callback):
    """Ctrl-C ends the run after the current batch; a second one, or one before the first batch, at once.

    A KeyboardInterrupt within a callback of the garbage collector, as JAX has one, is lost.
    """

    def __init__(self, quiet: bool = False) -> None:
        """`quiet`: the first one is not answered."""
        super().__init__()
        self._quiet = quiet
        self._running = self._asked = False

    def __enter__(self) -> Interrupts:
        # Another one was chosen on purpose: a shell has those that it starts with & ignore Ctrl-C.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            with suppress(ValueError):  # outside the main thread
                signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, raised: object, *_: object) -> None:
        if signal.getsignal(signal.SIGINT) == self._note:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._asked and raised is None:  # behind the last batch
            raise KeyboardInterrupt

    def _note(self, *_: object) -> None:
        if self._asked or not self._running:
            self._asked = False
            raise KeyboardInterrupt
        self._asked = True
        if not self._quiet:
            with suppress(OSError):  # nobody reads any more
                os.write(_STDERR, _HEARD)  # not by `print`, within which the signal may have come

    def _check(self, number: int, logs: dict[str, float] | None = None) -> None:
        self._running = True
        if self._asked:
            self._asked = False
            raise KeyboardInterrupt

    on_train_batch_end = on_test_batch_end = on_epoch_end = _check
