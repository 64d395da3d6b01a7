"""Keras networks as ONNX graphs, layer by layer, in the forms that run fastest.

ONNX Runtime computes a transposed convolution of stride 2 image by image and multiplies by the zeros
it inserts. Ordered by which of a cell's 2x2 pixels it belongs to (its phase), the sum is four small
convolutions at the lower resolution (sub-pixel convolution, Shi et al. 2016, arXiv:1609.05158), for
which there are fast kernels. Phases are interleaved only where a layer needs whole images. Layouts
are converted where a layer needs another, and each at most once.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import keras
import numpy as np
from keras import layers

from cvae.training.export.graph import Floats, Graph, half_precision
from cvae.training.export.rotation import Rotation
from cvae.training.networks.builders import DepthToSpace, SpaceToDepth
from cvae.training.networks.chains import NORM
from cvae.training.networks.grid import LINEAR, Shuffle

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
# They work in any layout. All but activations do nothing at inference (see `prepare`).
_ELEMENTWISE = (layers.Activation, layers.BatchNormalization, layers.Dropout)


def prepare(model: keras.Model) -> str:
    """Folds normalization and rounds all weights to half precision, in place.

    Returns the sha256 of the weights: equal for equal networks.
    """
    for network in model.layers:
        if isinstance(network, keras.Model):
            fold_normalization(network)
    model.set_weights([half_precision(weight) for weight in model.get_weights()])
    return hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()


def fold_normalization(network: keras.Model) -> None:
    """Moves what batch normalization does at inference into the convolutions before it, in place."""
    for norm in network.layers:
        if not isinstance(norm, layers.BatchNormalization):
            continue
        convolution = network.get_layer(norm.name.removesuffix(NORM))
        gamma, beta, mean, variance = norm.get_weights()
        scale = gamma / np.sqrt(variance + norm.epsilon)
        kernel, bias = convolution.get_weights()
        transposed = isinstance(convolution, layers.Conv2DTranspose)  # (3, 3, out, in)
        kernel = kernel * (scale[:, np.newaxis] if transposed else scale)
        convolution.set_weights([kernel, (bias - mean) * scale + beta])
        # Left to do nothing at all: 1 - epsilon would be another number in half precision.
        ones, zeros = np.ones_like(gamma), np.zeros_like(gamma)
        norm.set_weights([ones, zeros, zeros, ones])
        norm.epsilon = 0.0
    network.predict_function = None  # one that was traced before has the old epsilon


def analysis_graph(network: keras.Model, rotation: Rotation | None = None) -> bytes:
    """Images -> latents, of two heads the means, or their components."""
    graph, output = Graph(), network.outputs[0]
    y, size = add_network(graph, network, "x", output), math.prod(output.shape[1:])
    if rotation is not None:
        offset = -rotation.mean @ rotation.forward
        y = graph.add("Gemm", graph.shape(y, size), rotation.forward, offset)
        size = rotation.forward.shape[1]
    return graph.to_bytes("analysis", {"x": network.input.shape[1:]}, y, (size,))


def synthesis_graph(network: keras.Model, rotation: Rotation | None = None) -> bytes:
    """A vector, that is the network's own latents flattened or their components, -> images."""
    graph, x, given = Graph(), "x", network.input.shape[1:]
    size = math.prod(given)
    if rotation is not None:
        x = graph.add("Gemm", x, rotation.backward, rotation.mean)
        x = graph.add("Relu", x) if rotation.rectified else x
        size = len(rotation.backward)
    if len(given) > 1:
        x = graph.shape(x, *given)
    x = _add_pictures(graph, network, x)
    return graph.to_bytes("synthesis", {"x": (size,)}, x, network.output.shape[1:])


def denoiser_graph(analysis: keras.Model, synthesis: keras.Model) -> bytes:
    """Images -> images, past no code."""
    graph, shape = Graph(), synthesis.output.shape[1:]
    x = _add_pictures(graph, synthesis, add_network(graph, analysis, "x"))
    return graph.to_bytes("denoiser", {"x": shape}, x, shape)


def _add_pictures(graph: Graph, network: keras.Model, x: str) -> str:
    """Adds a synthesis; pixels that no sigmoid confines to [0, 1] are clipped."""
    x = add_network(graph, network, x)
    activation = getattr(network.layers[-1], "activation", None)
    return x if getattr(activation, "__name__", "") == "sigmoid" else graph.clip(x)


def add_network(graph: Graph, network: keras.Model, x: str, output: Any = None) -> str:
    """Adds a network of one input, `x`, whose normalization has been folded.

    Returns the name of its output, or of that one of several. Images are (h, w, c), in and out.
    """
    output = network.output if output is None else output
    walk = _Walk(graph, network, x)
    for layer in network.layers[1:]:  # the first one is the input
        walk.add_layer(layer)
        if layer.output is output:
            break
    return walk.get(output, _LAST)


class _Walk:
    """The graph, and what each Keras tensor is called in it, by layout."""

    def __init__(self, graph: Graph, network: keras.Model, x: str) -> None:
        self.graph, self.add = graph, graph.add
        # The first layout of a tensor is that in which it was computed.
        self.names: dict[int, dict[str, list[str]]] = {id(network.input): {_LAST: [x]}}
        self.users: dict[int, list[Any]] = {}
        for layer in network.layers:
            for tensor in layer.input if isinstance(layer.input, list) else [layer.input]:
                self.users.setdefault(id(tensor), []).append(layer)

    def get(self, tensor: Any, layout: str) -> str:
        """The name of a tensor in `_FIRST` or `_LAST`, to which it is converted if need be."""
        names = self.names[id(tensor)]
        if layout not in names:
            if layout == _FIRST:
                found = self.add("Transpose", self.get(tensor, _LAST), perm=[0, 3, 1, 2])
            elif _PHASES in names:
                # By way of channels last, where this moves whole rows of channels; DepthToSpace
                # moves numbers.
                height, width, channels = tensor.shape[1:]
                x = self.add("Concat", *names[_PHASES], axis=1)
                x = self.add("Transpose", x, perm=[0, 2, 3, 1])
                x = self.graph.shape(x, height // 2, width // 2, 2, 2 * channels)
                x = self.add("Transpose", x, perm=[0, 1, 3, 2, 4])
                found = self.graph.shape(x, height, width, channels)
            else:
                found = self.add("Transpose", names[_FIRST][0], perm=[0, 2, 3, 1])
            names[layout] = [found]
        return names[layout][0]

    def add_layer(self, layer: Any) -> None:
        """Adds a layer and its activation.

        On phases this comes before they are interleaved: so ONNX Runtime fuses it with the convolution.
        """
        layout, *names = self._computed(layer)
        if node := _NODES.get(getattr(getattr(layer, "activation", None), "__name__", "")):
            names = [self.add(node, name) for name in names]
        self.names[id(layer.output)] = {layout: names}

    def _computed(self, layer: Any) -> tuple[str, ...]:
        """The layout of a layer's output before its activation, and its name or those of its phases."""
        add, given, shape = self.add, layer.input, layer.output.shape[1:]
        match layer:
            case _ if isinstance(layer, _ELEMENTWISE):
                ((layout, names), *_) = self.names[id(given)].items()
                return layout, *names
            case layers.Dense():
                return self._dense(layer)
            case layers.Flatten():
                return _LAST, self.graph.shape(self.get(given, _LAST), *shape)
            case layers.Reshape():
                ((layout, (x,)), *_) = self.names[id(given)].items()
                height, width, channels = shape
                sides = (channels, height, width) if layout == _FIRST else shape
                return layout, self.graph.shape(x, *sides)
            case layers.Conv2D():
                kernel, bias = layer.get_weights()
                x, turned = self.get(given, _FIRST), kernel.transpose(3, 2, 0, 1)
                turned = self.graph.kernel(turned, layer.name == LINEAR)
                strides = list(layer.strides)
                return _FIRST, add("Conv", x, turned, bias, strides=strides, pads=_pads(layer))
            case layers.Conv2DTranspose():
                return self._transposed(layer)
            case layers.MaxPooling2D():
                sides, x = {"kernel_shape": [2, 2], "strides": [2, 2]}, self.get(given, _FIRST)
                return _FIRST, add("MaxPool", x, pads=_pads(layer), **sides)
            case layers.UpSampling2D():
                four = add("Concat", *[self.get(given, _FIRST)] * 4, axis=1)
                return _FIRST, add("DepthToSpace", four, blocksize=2)
            case layers.Concatenate():
                return _FIRST, add("Concat", *(self.get(part, _FIRST) for part in given), axis=1)
            case layers.Add():
                layout = _FIRST if len(shape) == 3 else _LAST
                return layout, add("Add", *(self.get(part, layout) for part in given))
            case Shuffle():
                side, x = layer.side, self.get(given, _FIRST)
                return _FIRST, add("DepthToSpace", x, blocksize=side)
            case SpaceToDepth() | DepthToSpace():  # they order channels as ONNX does
                return _FIRST, add(type(layer).__name__, self.get(given, _FIRST), blocksize=2)
        raise TypeError(f"no ONNX nodes are known of {layer}")

    def _dense(self, layer: Any) -> tuple[str, str]:
        (kernel, bias), x, layout = layer.get_weights(), self.get(layer.input, _LAST), _LAST
        if grid := self._grid(layer.output):
            # Columns in the order (c, h, w) that convolutions take cost no transpose.
            layout, order = _FIRST, np.arange(len(bias)).reshape(grid).transpose(2, 0, 1).ravel()
            kernel, bias = kernel[:, order], bias[order]
        return layout, self.add("Gemm", x, kernel, bias)

    def _grid(self, tensor: Any) -> tuple[int, ...] | None:
        """The (h, w, c) that a vector is reshaped to, where nothing else is made of it."""
        users = self.users.get(id(tensor), [])
        if len(users) == 1 and isinstance(users[0], _ELEMENTWISE):
            return self._grid(users[0].output)
        if len(users) == 1 and isinstance(users[0], layers.Reshape):
            sides: tuple[int, ...] = users[0].output.shape[1:]
            return sides
        return None

    def _transposed(self, layer: Any) -> tuple[str, ...]:
        kernel, bias = layer.get_weights()  # (3, 3, out, in)
        parts = self.names[id(layer.input)].get(_PHASES)
        if layer.strides == (1, 1) and parts and len(bias) <= _FEW:
            return _FIRST, self._from_phases(parts, kernel, bias, layer.output.shape[1:3])
        x = self.get(layer.input, _FIRST)
        if layer.strides == (2, 2):
            return _PHASES, *(self._phase(x, kernel, bias, *place) for place in _CELL)
        turned = kernel[::-1, ::-1].transpose(2, 3, 0, 1)
        return _FIRST, self.add("Conv", x, turned, bias, pads=[1, 1, 1, 1])

    def _phase(self, x: str, kernel: Floats, bias: Floats, row: int, column: int) -> str:
        """One phase (out, h, w) of a 3x3 transposed convolution of stride 2 on (c, h, w)."""
        rows, columns = _TAPS[row], _TAPS[column]
        taps = kernel[list(rows.values())][:, list(columns.values())].transpose(2, 3, 0, 1)
        return self.add("Conv", x, taps, bias, pads=[int(0 in rows), int(0 in columns), 0, 0])

    def _from_phases(
        self, parts: list[str], kernel: Floats, bias: Floats, sides: tuple[int, int]
    ) -> str:
        """A 3x3 transposed convolution of stride 1 on phases -> (out, h, w).

        A cell's 2x2 pixels reach the 4x4 around it, so products give 16 numbers a cell for each
        output channel, and what falls on the same pixel is added up.
        """
        out, spread = len(bias), ""
        for (a, b), part in zip(_CELL, parts, strict=True):
            weights = np.zeros((out, 4, 4, kernel.shape[3]), np.float32)
            weights[:, a : a + 3, b : b + 3] = kernel.transpose(2, 0, 1, 3)
            product = self.add("Conv", part, weights.reshape(16 * out, -1, 1, 1))
            # Sums of 16 numbers a cell; side by side the phases' channels would all be copied first.
            spread = self.add("Add", spread, product) if spread else product
        cells = self.graph.shape(spread, 16 * out, sides[0] * sides[1] // 4)
        block = np.array(sides, np.int64), np.array([4, 4], np.int64)
        x = self.add("Col2Im", cells, *block, strides=[2, 2], pads=[1, 1, 1, 1])
        return self.add("Add", x, bias.reshape(-1, 1, 1))


def _pads(layer: Any) -> list[int]:
    """[top, left, bottom, right] of a convolution or pooling; as in Keras the larger half is last."""
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    sizes = getattr(layer, "kernel_size", None) or layer.pool_size
    totals = []
    for side, size, stride in zip(layer.input.shape[1:3], sizes, layer.strides, strict=True):
        # Free sides come only with a stride of one, or divided by pooling without a rest.
        rest = stride if side is None else (side - 1) % stride + 1
        totals.append(max(size - rest, 0))
    return [total // 2 for total in totals] + [total - total // 2 for total in totals]
