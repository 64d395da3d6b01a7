"""The trainable network of a lossless model: windows of pixels -> bits of what comes next.

Whole numbers throughout, as in `kinds.causal`, with rounding in the forward pass. The loss of a pixel
is the sum of the binary cross-entropies of the decisions on the way to its values.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from cvae.kinds.causal import ORDERS, Window
from cvae.kinds.trees import ROW_SHIFT, ranges_of
from cvae.models.lossless import LEVELS
from cvae.training.networks.exact import ONE, Exact, rounded
from cvae.training.networks.losses import Trainable
from cvae.training.preset import Preset

ROWS = 368  # of the bank: logits from -11.5 to 11.4 in sixteenths
FINENESS = 16
# Weights of the first, the inner and the last layers are multiples of 2^-bits.
_FIRST_BITS, _BITS, _LAST_BITS = 8, 7, ROW_SHIFT - 1


class Lossless(Trainable):
    """Batches are rows of whole numbers: the inputs of `kinds.causal`, what channels see of those before
    them, and the number of the place; with them come leaves (n, c) and weights (n,)."""

    def __init__(self, preset: Preset, seed: int) -> None:
        super().__init__(preset, seed)
        sizes, channels = preset.lossless, preset.image_shape[2]
        self.order = ORDERS[channels]
        self.inputs = Window(sizes.up, sizes.side, sizes.predicts).inputs(channels)
        self.places = math.prod(preset.image_shape[:2]) if sizes.placed else 0
        first, second, third = sizes.hidden
        self.first = Exact(first, 1, bits=_FIRST_BITS, name="first")
        self.second = Exact(second, 1, bits=_BITS, name="second")
        self.heads = [
            (
                Exact(third, *[1] * (2 if turn else 1), bits=_BITS, name=f"hidden{turn}"),
                Exact(LEVELS - 1, 1, bits=_LAST_BITS, last=True, name=f"last{turn}"),
            )
            for turn in range(channels)
        ]
        self._tracked_heads = [layer for head in self.heads for layer in head]

    def build(self, input_shape: Any) -> None:
        sizes, channels = self.first.filters, len(self.order)
        self.first.make(self.inputs)
        self.second.make(sizes)
        for turn, (hidden, last) in enumerate(self.heads):
            hidden.make(*([self.second.filters, turn] if turn else [self.second.filters]))
            last.make(hidden.filters)
        if self.places:
            self.positions = self.add_weight(
                shape=(self.places, sizes), initializer="zeros", name="positions"
            )
        # Where the ranges of the nodes begin, are split and end; `start` sets them.
        self.nodes = self.add_weight(
            shape=(channels, 3, LEVELS - 1), initializer="zeros", trainable=False, name="nodes"
        )
        self.built = True

    def set_splits(self, splits: NDArray[Any]) -> None:
        """The splits of the trees (c, 255), of channels in their own order."""
        nodes = [[*zip(*ranges_of(row), strict=True)] for row in splits]
        parts = [[low, row, high] for (low, high), row in zip(nodes, splits, strict=True)]
        self.nodes.assign(np.array(parts, np.float32))

    def splits(self) -> NDArray[np.uint8]:
        return np.asarray(ops.convert_to_numpy(self.nodes))[:, 1].astype(np.uint8)

    def call(self, x: Any, training: bool = False) -> Any:
        """The logits (n, c, 255) of all decisions, of channels in their order."""
        channels = len(self.order)
        x = ops.cast(x, "float32")
        seen, sides = x[:, : self.inputs], x[:, self.inputs : self.inputs + channels - 1]
        total = self.first.sums(seen)
        if self.places:
            rows = ops.take(self.positions, ops.cast(x[:, -1], "int32"), axis=0)
            total = total + rounded(rows * 2.0 ** (self.first.bits + ONE))
        shared = self.second(self.first.activated(total))
        logits = []
        for turn, (hidden, last) in enumerate(self.heads):
            sums = last(hidden(shared, sides[:, :turn]) if turn else hidden(shared))
            row = ops.clip(rounded(sums * 2.0**-ROW_SHIFT), -ROWS // 2, ROWS // 2 - 1)
            logits.append(row / FINENESS)
        return ops.stack(logits, axis=1)

    def compute_loss(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True
    ) -> Any:
        leaves = ops.expand_dims(ops.cast(y, "float32"), -1)
        nodes = ops.stack([self.nodes[channel] for channel in self.order])
        low, split, high = (nodes[:, i] for i in range(3))
        on = ops.logical_and(leaves >= low, leaves < high)
        turned = ops.where(leaves >= split, y_pred, -y_pred)
        nats = ops.sum(ops.where(on, ops.softplus(-turned), 0.0), axis=(1, 2))
        bits = nats / (math.log(2) * len(self.order))
        if sample_weight is not None:
            bits = bits * sample_weight
        self.rate_tracker.update_state(bits)
        return ops.mean(bits) / self.replicas


def layers(model: Any) -> list[Exact]:
    """All layers in the order of `LosslessTables.layers`."""
    return [model.first, model.second, *(layer for head in model.heads for layer in head)]
