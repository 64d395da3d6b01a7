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

from cvae.kinds.causal import ORDERS
from cvae.kinds.sight import Window
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
        self.window = Window(sizes.up, sizes.side, sizes.predicts)
        self.inputs = self.window.inputs(channels)
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
        self._follow()

    def set_weights(self, weights: Any) -> None:
        super().set_weights(weights)
        self._follow()

    def load_weights(self, *arguments: Any, **more: Any) -> None:
        super().load_weights(*arguments, **more)
        self._follow()

    def _follow(self) -> None:
        """Finds the way to each leaf of the trees: a loss of all nodes would take most of a step."""
        ways = [_ways(row) for row in self.splits()]
        most = max(len(way) for of in ways for way in of)
        self._path = np.zeros((len(ways), LEVELS, most), np.int32)  # the nodes on the way
        self._turn = np.zeros((len(ways), LEVELS, most), np.float32)  # -1: low, 1: high, 0: over
        for channel, of in enumerate(ways):
            for leaf, way in enumerate(of):
                self._path[channel, leaf, : len(way)] = [node for node, _ in way]
                self._turn[channel, leaf, : len(way)] = [turn for _, turn in way]

    def splits(self) -> NDArray[np.uint8]:
        return np.asarray(ops.convert_to_numpy(self.nodes))[:, 1].astype(np.uint8)

    def call(self, x: Any, training: bool = False) -> Any:
        """The sums (n, c, 255) of all decisions, of channels in their order."""
        channels = len(self.order)
        x = ops.cast(x, "float32")
        seen, sides = x[:, : self.inputs], x[:, self.inputs : self.inputs + channels - 1]
        total = self.first.sums(seen)
        if self.places:
            rows = ops.take(self.positions, ops.cast(x[:, -1], "int32"), axis=0)
            total = total + rounded(rows * 2.0 ** (self.first.bits + ONE))
        shared = self.second(self.first.activated(total))
        outputs = []
        for turn, (hidden, last) in enumerate(self.heads):
            sums = last(hidden(shared, sides[:, :turn]) if turn else hidden(shared))
            outputs.append(sums)
        return ops.stack(outputs, axis=1)

    def compute_loss(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True
    ) -> Any:
        y = ops.cast(y, "int32")
        nats = 0.0
        for turn, channel in enumerate(self.order):
            way = ops.take(self._path[channel], y[:, turn], axis=0)
            sign = ops.take(self._turn[channel], y[:, turn], axis=0)
            sums = ops.take_along_axis(y_pred[:, turn], way, axis=1)
            nats = nats + ops.sum(ops.abs(sign) * ops.softplus(-sign * logits(sums)), axis=1)
        bits = nats / (math.log(2) * len(self.order))
        if sample_weight is not None:
            bits = bits * sample_weight
        self.rate_tracker.update_state(bits)
        return ops.mean(bits) / self.replicas


def logits(sums: Any) -> Any:
    """Sums of the last layer -> the logits of the rows of the bank that they name."""
    rows = ops.clip(rounded(sums * 2.0**-ROW_SHIFT), -ROWS // 2, ROWS // 2 - 1)
    return rows / FINENESS


def _ways(splits: NDArray[Any]) -> list[list[tuple[int, int]]]:
    """Of each leaf the nodes that lead to it, and to which side: -1 to the lower one, 1 to the higher."""
    ways: list[list[tuple[int, int]]] = [[] for _ in range(LEVELS)]
    for node, (low, high) in enumerate(ranges_of(splits)):
        for leaf in range(low, high):
            ways[leaf].append((node, 1 if leaf >= splits[node] else -1))
    return ways


def layers(model: Any) -> list[Exact]:
    """All layers in the order of `LosslessTables.layers`."""
    return [model.first, model.second, *(layer for head in model.heads for layer in head)]
