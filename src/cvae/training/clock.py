"""A limit of time for a training run: when it ends, and how fast it learns meanwhile."""

from __future__ import annotations

import math
import time

import keras

from cvae.training.preset import Preset

# An epoch lasts at most this share of the time, and so many seconds: after it there is a checkpoint.
_EPOCH_SHARE, _EPOCH_SECONDS = 0.1, 300.0
_WARM = 0.05  # a warm-up lasts at most this share of the time
_FINE = 1 / 2000  # the share of the time that a learning rate stays: setting it takes JAX a while


class Clock(keras.callbacks.Callback):
    """Ends an epoch when it or the whole time is over; slows down by the time where the preset decays."""

    def __init__(self, preset: Preset, before: float) -> None:
        """`before` are the seconds of earlier epochs."""
        super().__init__()
        self._preset, self._before = preset, before
        self._started = time.monotonic()
        self._limit = 60 * preset.minutes
        self._next = 0.0  # when the rate is set again

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        now = time.monotonic()
        if self._preset.schedule != "cosine" or now < self._next:
            return
        self._next = now + _FINE * self._limit
        if sync := getattr(self.model, "jax_state_sync", None):
            sync()  # while it trains, JAX has variables of its own
        optimizer = self.model.optimizer
        share = (self._before + now - self._started) / self._limit
        step = int(keras.ops.convert_to_numpy(optimizer.iterations))
        optimizer.learning_rate = rate(self._preset, share, step)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        spent = time.monotonic() - self._started
        longest = min(_EPOCH_SHARE * self._limit, _EPOCH_SECONDS)
        if spent >= longest or self._before + spent >= self._limit:
            self.model.stop_training = True


def rate(preset: Preset, share: float, step: int) -> float:
    """The learning rate at a share of the time and a step: a short warm-up, then half a cosine."""
    warm = max(share / _WARM, (step + 1) / preset.warmup) if preset.warmup else 1.0
    decay = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return preset.learning_rate * min(1.0, warm) * decay
