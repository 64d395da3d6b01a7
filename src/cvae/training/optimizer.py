"""Adam for losses whose gradients explode now and then, with averaged weights; backend-neutral."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

# Gradients are clipped at so many times their usual norm, and of no use above so many.
_CLIPPED, _EXPLODED = 2.0, 20.0
# Of the running average that says what is usual: its share of the past, what one norm counts at most,
# and how it grows on a skipped step, so that no run is stuck for good.
_PAST, _MOST, _GROWTH = 0.99, 4.0, 1.01
# The average of the weights reaches back over so large a share of the first steps: 1 / (1 + share).
_WARM = 10.0
# After so many steps in a row that exploded it is the weights that are spoilt, and the averages return.
_SPOILT = 20


class Steady(keras.optimizers.Adam):
    """Clips gradients by a running average of their norm, skips steps, and averages the weights.

    A step whose norm explodes or is not finite leaves the weights as they are; Adam's moments fade in
    it. After many such steps in a row the averages take the weights' place. After t steps the average
    of the weights has the momentum min(momentum, t / (t + 10)).
    """

    def __init__(self, learning_rate: Any, momentum: float) -> None:
        super().__init__(learning_rate, name="steady")
        self.momentum = momentum

    def build(self, variables: list[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        # The mean over devices, which is the same on all of them: they must agree on every step.
        self.latest, self.norm, self.taken, self.row = (
            self.add_variable((), dtype="float32", aggregation="mean", name=name)
            for name in ("latest", "norm", "taken", "row")
        )
        self.skipped = self.add_variable(
            (), dtype="float32", aggregation="only_first_replica", name="skipped"
        )
        averages = [
            self.add_variable(
                v.shape, dtype=v.dtype, aggregation="only_first_replica", name=f"average{i}"
            )
            for i, v in enumerate(variables)
        ]
        # A list of weights would be taken for variables of the optimizer.
        self.pairs = lambda: zip(variables, averages, strict=True)

    def apply(self, grads: list[Any], trainable_variables: Any = None) -> None:
        past = ops.cast(self.iterations, "float32")
        momentum = ops.minimum(self.momentum, past / (past + _WARM))
        super().apply(self._judged(grads), trainable_variables)
        spoilt = self.row >= _SPOILT
        for weight, average in self.pairs():
            weight.assign(ops.where(spoilt, average, weight))
            mixed = momentum * average + (1.0 - momentum) * weight
            average.assign(ops.where(self.taken > 0, mixed, average))
        self.row.assign(ops.where(spoilt, 0.0, ops.convert_to_tensor(self.row)))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(gradient, variable, learning_rate * self.taken)

    def swap(self) -> None:
        """Exchanges the weights and their averages; before the first step there are none."""
        if not int(ops.convert_to_numpy(self.iterations)):
            return
        for weight, average in self.pairs():
            value = ops.convert_to_numpy(weight)
            weight.assign(ops.convert_to_numpy(average))
            average.assign(value)

    def _judged(self, grads: list[Any]) -> list[Any]:
        """The gradients, clipped; zeros where the step is skipped."""
        squares = [ops.sum(ops.square(ops.cast(g, "float32"))) for g in grads if g is not None]
        self.latest.assign(ops.sqrt(sum(squares)))
        latest = ops.convert_to_tensor(self.latest)
        finite = ops.isfinite(latest)
        first = ops.where(finite, latest, 0.0)
        usual = ops.where(self.norm > 0, ops.convert_to_tensor(self.norm), first)
        taken = ops.logical_and(finite, latest <= _EXPLODED * usual)
        seen = _PAST * usual + (1 - _PAST) * ops.minimum(first, _MOST * usual)
        self.norm.assign(ops.where(taken, seen, _GROWTH * usual))
        self.taken.assign(ops.cast(taken, "float32"))
        self.row.assign(ops.where(taken, 0.0, self.row + 1.0))
        self.skipped.assign_add(1.0 - ops.cast(taken, "float32"))
        scale = ops.minimum(1.0, _CLIPPED * usual / ops.maximum(latest, 1e-12))
        return [
            None if g is None else ops.where(taken, g * ops.cast(scale, g.dtype), ops.zeros_like(g))
            for g in grads
        ]


class Averaged(keras.callbacks.Callback):
    """Validates the averages of the weights."""

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        self.model.optimizer.swap()

    on_test_end = on_test_begin
