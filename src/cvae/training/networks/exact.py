"""Layers that compute in whole numbers, trained with rounding in the forward pass.

Activations are whole numbers of at most 255 in magnitude, weights of at most 127, all of them stored as
float32, so that every sum is exact whatever its order (Balle, Johnston, Minnen 2019, "Integer networks
for data compression with latent-variable models", on why learned entropy models need that). Gradients
pass through the rounding as if it were not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from cvae.kinds.exactnet import MOST, MOST_WEIGHT

ONE = 5  # an activation of 2^ONE stands for 1.0


def rounded(x: Any, how: Any = ops.round) -> Any:
    """`how(x)`, with the gradient of x."""
    return x + ops.stop_gradient(how(x) - x)


class Exact(layers.Layer):
    """Convolutions of several inputs with zero padding, summed, shifted right by `bits`, clipped to [0, 255].

    Args:
        filters: output channels.
        sizes: side of the kernel for each input.
        bits: weights are multiples of 2^-bits.
        last: leaves out the shift and the clip, so the outputs are sums.
    """

    def __init__(
        self, filters: int, *sizes: int, bits: int = 7, last: bool = False, name: str = ""
    ) -> None:
        super().__init__(name=name, dtype="float32")
        self.filters, self.sizes, self.bits, self.last = filters, sizes, bits, last

    def make(self, *channels: int) -> None:
        """Makes the weights for inputs of so many channels."""
        values = sum(c * size * size for c, size in zip(channels, self.sizes, strict=True))
        deviation = (0.3 if self.last else 1.0) / math.sqrt(values)
        start = keras.initializers.RandomNormal(stddev=deviation)
        self.kernels = [
            self.add_weight(
                shape=(size, size, c, self.filters), initializer=start, name=f"kernel{i}"
            )
            for i, (c, size) in enumerate(zip(channels, self.sizes, strict=True))
        ]
        # An eighth of the range above zero, where clipping passes gradients.
        bias = "zeros" if self.last else keras.initializers.Constant(0.25)
        self.bias = self.add_weight(shape=(self.filters,), initializer=bias, name="bias")
        self.built = True

    def integers(self) -> tuple[list[Any], Any]:
        """Kernels (size, size, in, out) and bias as whole numbers in float32."""
        scaled = [ops.clip(k * 2.0**self.bits, -MOST_WEIGHT, MOST_WEIGHT) for k in self.kernels]
        return [rounded(k) for k in scaled], rounded(self.bias * 2.0 ** (self.bits + ONE))

    def call(self, *inputs: Any) -> Any:
        total = self.sums(*inputs)
        return total if self.last else self.activated(total)

    def sums(self, *inputs: Any) -> Any:
        """Before they are shifted and clipped; of rows (n, c), with kernels of 1x1, as of grids."""
        kernels, total = self.integers()
        for x, kernel in zip(inputs, kernels, strict=True):
            flat = len(x.shape) == 2
            total = total + (
                ops.matmul(x, kernel[0, 0]) if flat else ops.conv(x, kernel, padding="same")
            )
        return total

    def activated(self, sums: Any) -> Any:
        return ops.clip(rounded(sums * 2.0**-self.bits, ops.floor), 0, MOST)


def arrays(layers: Sequence[Exact], hide: Callable[[Exact, int, Any], None]) -> dict[str, Any]:
    """`layers`, `weights` and `biases` as models store them, one layer behind the other.

    `hide` may take weights out of a layer's kernel, whose place among its kernels it is told.
    """
    rows: list[list[int]] = []
    weights, biases = [], []
    for number, layer in enumerate(layers):
        kernels, bias = layer.integers()
        for place, kernel in enumerate(kernels):
            whole = np.rint(np.asarray(kernel)).astype(np.int8)
            hide(layer, place, whole)
            shift = -1 if layer.last else layer.bits
            rows.append([number, whole.shape[0], *whole.shape[2:], shift])
            weights.append(whole.ravel())
        biases.append(np.rint(np.asarray(bias)).astype(np.int32))
    return {
        "layers": np.array(rows, np.int32),
        "weights": np.concatenate(weights),
        "biases": np.concatenate(biases),
    }


def companded(steps: Any) -> Any:
    """Values in quantization steps -> activations: fine near zero, coarse far out."""
    return rounded(ops.clip(SLOPE * ops.arcsinh(steps / WIDTH), -MOST, MOST))


SLOPE, WIDTH = 40.0, 2.0
