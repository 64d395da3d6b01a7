"""Keras networks as nodes of an ONNX graph, layer by layer, in the forms that run fastest.

ONNX Runtime computes a transposed convolution of stride 2 image by image and multiplies by the zeros
it inserts. Ordered by which of a cell's 2x2 pixels it belongs to (its phase), the sum is four small
convolutions at the lower resolution (sub-pixel convolution, Shi et al. 2016, arXiv:1609.05158), for
which there are fast kernels. Phases are interleaved only where a layer needs whole images. Layouts
are converted where a layer needs another, and each at most once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from cvae.training.export.graph import Floats, Graph, half_precision
from cvae.training.networks.builders import DepthToSpace, SpaceToDepth
from cvae.training.networks.chains import NORM

# How a Keras tensor lies in the graph: as in Keras, (h, w, c); (c, h, w), or a vector in that order;
# or the four phases of a cell, each (c, h / 2, w / 2).
_LAST, _FIRST, _PHASES = "last", "first", "phases"
# A row of a 3x3 kernel of stride 2 (same padding, output 2m + k from input m) that reaches phase
# 0 or 1 of a cell, by which input row it multiplies: 0 the one above, 1 the cell's own.
_TAPS = {0: {0: 2, 1: 0}, 1: {1: 1}}
_CELL = [(a, b) for a in (0, 1) for b in (0, 1)]
# Up to so many output channels the last layer is computed on phases: it makes 16 numbers of each.
_FEW = 4
_NODES = {"relu": "Relu", "sigmoid": "Sigmoid"}


def prepare(model: keras.Model) -> str:
    """Folds normalization and rounds all weights to half precision, in place.

    Args:
        model: a model whose layers are networks.

    Returns:
        The sha256 of the weights: equal for equal networks.
    """
    for network in model.layers:
        if isinstance(network, keras.Model):
            fold_normalization(network)
    model.set_weights([half_precision(weight) for weight in model.get_weights()])
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def fold_normalization(network: keras.Model) -> None:
    """Moves what batch normalization does at inference into the convolutions before it, in place."""
    for norm in network.layers:
        if not isinstance(norm, layers.BatchNormalization):
            continue
        convolution = network.get_layer(norm.name.removesuffix(NORM))
        gamma, beta, mean, variance = norm.get_weights()
        scale = gamma / np.sqrt(variance + norm.epsilon)
        kernel, bias = convolution.get_weights()
        if isinstance(convolution, layers.Conv2DTranspose):  # (3, 3, out, in)
            kernel = kernel * scale[:, np.newaxis]
        else:
            kernel = kernel * scale
        convolution.set_weights([kernel, (bias - mean) * scale + beta])
        # Left to do nothing at all: 1 - epsilon would be another number in half precision.
        ones, zeros = np.ones_like(gamma), np.zeros_like(gamma)
        norm.set_weights([ones, zeros, zeros, ones])
        norm.epsilon = 0.0
    network.predict_function = None  # one that was traced before has the old epsilon


def add_network(graph: Graph, network: keras.Model, x: str, output: Any = None) -> str:
    """Adds a network whose normalization has been folded (see `fold_normalization`).

    Args:
        graph: gets the nodes.
        network: has one input.
        x: the input's name, images as (h, w, c), or vectors.
        output: the Keras tensor to compute; None for the network's only output.

    Returns:
        The name of the output, images again as (h, w, c).
    """
    output = network.output if output is None else output
    walk = _Walk(graph, network, x)
    for layer in network.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        _EMITTERS[type(layer)](walk, layer)
        if layer.output is output:
            break
    return walk.get(output, _LAST)


class _Walk:
    """The graph, and what each Keras tensor is called in it, by layout."""

    def __init__(self, graph: Graph, network: keras.Model, x: str) -> None:
        self.graph, self.add = graph, graph.add
        self._names: dict[int, dict[str, list[str]]] = {id(network.input): {_LAST: [x]}}
        self._users: dict[int, list[Any]] = {}
        for layer in network.layers:
            for tensor in layer.input if isinstance(layer.input, list) else [layer.input]:
                self._users.setdefault(id(tensor), []).append(layer)

    def names(self, tensor: Any) -> dict[str, list[str]]:
        """The names of a tensor by layout; the first one is that in which it was computed."""
        return self._names[id(tensor)]

    def get(self, tensor: Any, layout: str) -> str:
        """The name of a tensor in `_FIRST` or `_LAST`, to which it is converted if need be."""
        names = self.names(tensor)
        if layout not in names:
            if layout == _FIRST:
                found = self.add("Transpose", self.get(tensor, _LAST), perm=[0, 3, 1, 2])
            elif _PHASES in names:
                found = self._interleaved(names[_PHASES], tensor.shape[1:])
            else:
                found = self.add("Transpose", names[_FIRST][0], perm=[0, 2, 3, 1])
            names[layout] = [found]
        return names[layout][0]

    def put(self, layer: Any, layout: str, *names: str) -> None:
        """Notes a layer's output, after its activation.

        On phases this comes before they are interleaved: so ONNX Runtime fuses it with the convolution.
        """
        node = _NODES.get(getattr(getattr(layer, "activation", None), "__name__", ""))
        found = [self.add(node, name) for name in names] if node else list(names)
        self._names[id(layer.output)] = {layout: found}

    def grid(self, tensor: Any) -> tuple[int, ...] | None:
        """The (h, w, c) that a vector is reshaped to, where nothing else is made of it."""
        users = self._users.get(id(tensor), [])
        if len(users) == 1 and isinstance(users[0], layers.Reshape):
            sides: tuple[int, ...] = users[0].output.shape[1:]
            return sides
        if len(users) == 1 and _EMITTERS.get(type(users[0])) is _elementwise:
            return self.grid(users[0].output)
        return None

    def _interleaved(self, parts: list[str], shape: tuple[int, int, int]) -> str:
        """Phases -> (h, w, c).

        By way of channels last, where this moves whole rows of channels; DepthToSpace moves numbers.
        """
        height, width, channels = shape
        x = self.add("Transpose", self.add("Concat", *parts, axis=1), perm=[0, 2, 3, 1])
        x = self.graph.shape(x, height // 2, width // 2, 2, 2 * channels)
        x = self.add("Transpose", x, perm=[0, 1, 3, 2, 4])
        return self.graph.shape(x, height, width, channels)


def _elementwise(walk: _Walk, layer: Any) -> None:
    """Whatever the layout; what is no activation does nothing at inference (see `prepare`)."""
    ((layout, names), *_) = walk.names(layer.input).items()
    walk.put(layer, layout, *names)


def _dense(walk: _Walk, layer: Any) -> None:
    kernel, bias = layer.get_weights()
    layout, grid = _LAST, walk.grid(layer.output)
    if grid:  # columns in the order (c, h, w) that convolutions take cost no transpose
        layout, order = _FIRST, np.arange(len(bias)).reshape(grid).transpose(2, 0, 1).ravel()
        kernel, bias = kernel[:, order], bias[order]
    walk.put(layer, layout, walk.add("Gemm", walk.get(layer.input, _LAST), kernel, bias))


def _flatten(walk: _Walk, layer: Any) -> None:
    x = walk.get(layer.input, _LAST)
    walk.put(layer, _LAST, walk.graph.shape(x, layer.output.shape[1]))


def _reshape(walk: _Walk, layer: Any) -> None:
    ((layout, (x,)), *_) = walk.names(layer.input).items()
    height, width, channels = layer.output.shape[1:]
    sides = (channels, height, width) if layout == _FIRST else (height, width, channels)
    walk.put(layer, layout, walk.graph.shape(x, *sides))


def _convolution(walk: _Walk, layer: Any) -> None:
    kernel, bias = layer.get_weights()
    x, turned = walk.get(layer.input, _FIRST), kernel.transpose(3, 2, 0, 1)
    attributes = {"strides": list(layer.strides), "pads": _pads(layer)}
    walk.put(layer, _FIRST, walk.add("Conv", x, turned, bias, **attributes))


def _pads(layer: Any) -> list[int]:
    """[top, left, bottom, right] of a convolution or pooling; as in Keras the larger half is last."""
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    sizes = getattr(layer, "kernel_size", None) or layer.pool_size
    totals = []
    for side, size, stride in zip(layer.input.shape[1:3], sizes, layer.strides, strict=True):
        # Free sides come only with a stride of one, or divided by pooling without a rest.
        free = side is None
        totals.append(
            size - stride if free else max((-(-side // stride) - 1) * stride + size - side, 0)
        )
    before = [total // 2 for total in totals]
    return [*before, *(total - half for total, half in zip(totals, before, strict=True))]


def _transposed(walk: _Walk, layer: Any) -> None:
    kernel, bias = layer.get_weights()  # (3, 3, out, in)
    parts = walk.names(layer.input).get(_PHASES)
    if layer.strides == (2, 2):
        x = walk.get(layer.input, _FIRST)
        walk.put(layer, _PHASES, *_to_phases(walk, x, kernel, bias))
    elif parts and len(bias) <= _FEW:
        walk.put(layer, _FIRST, _from_phases(walk, parts, kernel, bias, layer.output.shape[1:3]))
    else:
        turned = kernel[::-1, ::-1].transpose(2, 3, 0, 1)
        x = walk.add("Conv", walk.get(layer.input, _FIRST), turned, bias, pads=[1, 1, 1, 1])
        walk.put(layer, _FIRST, x)


def _to_phases(walk: _Walk, x: str, kernel: Floats, bias: Floats) -> list[str]:
    """A 3x3 transposed convolution of stride 2 on (c, h, w): one (out, h, w) for each phase."""
    parts = []
    for a, b in _CELL:
        rows, columns = _TAPS[a], _TAPS[b]
        taps = kernel[list(rows.values())][:, list(columns.values())].transpose(2, 3, 0, 1)
        pads = [int(0 in rows), int(0 in columns), 0, 0]
        parts.append(walk.add("Conv", x, taps, bias, pads=pads))
    return parts


def _from_phases(
    walk: _Walk, parts: list[str], kernel: Floats, bias: Floats, sides: tuple[int, int]
) -> str:
    """A 3x3 transposed convolution of stride 1 on phases -> (out, h, w).

    A cell's 2x2 pixels reach the 4x4 around it, so products give 16 numbers a cell for each output
    channel, and what falls on the same pixel is added up.
    """
    out, spread = len(bias), ""
    for (a, b), part in zip(_CELL, parts, strict=True):
        weights = np.zeros((out, 4, 4, kernel.shape[3]), np.float32)
        weights[:, a : a + 3, b : b + 3] = kernel.transpose(2, 0, 1, 3)
        product = walk.add("Conv", part, weights.reshape(16 * out, -1, 1, 1))
        # Sums of 16 numbers a cell; side by side the phases' channels would all be copied first.
        spread = walk.add("Add", spread, product) if spread else product
    cells = walk.graph.shape(spread, 16 * out, sides[0] * sides[1] // 4)
    block = np.array(sides, np.int64), np.array([4, 4], np.int64)
    x = walk.add("Col2Im", cells, *block, strides=[2, 2], pads=[1, 1, 1, 1])
    return walk.add("Add", x, bias.reshape(-1, 1, 1))


def _pooling(walk: _Walk, layer: Any) -> None:
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": _pads(layer)}
    walk.put(layer, _FIRST, walk.add("MaxPool", walk.get(layer.input, _FIRST), **attributes))


def _upsampling(walk: _Walk, layer: Any) -> None:
    four = walk.add("Concat", *[walk.get(layer.input, _FIRST)] * 4, axis=1)
    walk.put(layer, _FIRST, walk.add("DepthToSpace", four, blocksize=2))


def _moving(walk: _Walk, layer: Any) -> None:
    """`SpaceToDepth` and `DepthToSpace` order channels as ONNX does."""
    x = walk.add(type(layer).__name__, walk.get(layer.input, _FIRST), blocksize=2)
    walk.put(layer, _FIRST, x)


def _concatenation(walk: _Walk, layer: Any) -> None:
    parts = [walk.get(tensor, _FIRST) for tensor in layer.input]
    walk.put(layer, _FIRST, walk.add("Concat", *parts, axis=1))


def _sum(walk: _Walk, layer: Any) -> None:
    layout = _FIRST if len(layer.output.shape) == 4 else _LAST
    walk.put(layer, layout, walk.add("Add", *(walk.get(tensor, layout) for tensor in layer.input)))


_EMITTERS: dict[type, Callable[[_Walk, Any], None]] = {
    layers.Activation: _elementwise,
    layers.BatchNormalization: _elementwise,
    layers.Dropout: _elementwise,
    layers.Dense: _dense,
    layers.Flatten: _flatten,
    layers.Reshape: _reshape,
    layers.Conv2D: _convolution,
    layers.Conv2DTranspose: _transposed,
    layers.MaxPooling2D: _pooling,
    layers.UpSampling2D: _upsampling,
    layers.Concatenate: _concatenation,
    layers.Add: _sum,
    SpaceToDepth: _moving,
    DepthToSpace: _moving,
}
