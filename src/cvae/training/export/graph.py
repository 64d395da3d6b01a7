"""ONNX graphs written node by node from trained weights, in the form that runs fastest.

So they do not depend on the backend that trained, nor on a converter. What a graph computes is
checked against the trained networks by `export`.

ONNX Runtime computes a transposed convolution of stride 2 one image at a time and multiplies by the
zeros it inserts. The same sum, ordered by which of the 2x2 pixels of a cell it belongs to (its
phase), is four small convolutions at the lower resolution (sub-pixel convolution, Shi et al. 2016,
arXiv:1609.05158), for which it has fast kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Sides = tuple[int | str, ...]

# A row of a 3x3 kernel of stride 2 (same padding, output 2m + k from input m) that reaches phase
# 0 or 1 of a cell, by which input row it multiplies: 0 the one above, 1 the cell's own.
_TAPS = {0: {0: 2, 1: 0}, 1: {1: 1}}
_PHASES = [(a, b) for a in (0, 1) for b in (0, 1)]
_OPSET = 18
_IR_VERSION = 8
_FLOAT32 = 1  # onnx.TensorProto.FLOAT


class Layer(NamedTuple):
    """Weights in Keras' order: kernel (3, 3, in, out), or (3, 3, out, in) if transposed; bias (out,).

    For a dense layer the kernel is (in, out).
    """

    kernel: Array
    bias: Array


class Graph:
    """Nodes and constants, added one after another; each call gives the name of its output."""

    def __init__(self) -> None:
        self._nodes: list = []
        self._constants: dict[str, NDArray] = {}

    @classmethod
    def copy(cls, source: Any) -> Graph:
        """The nodes and constants of an ONNX graph, to add more to."""
        from onnx import numpy_helper

        graph = cls()
        graph._nodes = list(source.node)
        graph._constants = {item.name: numpy_helper.to_array(item) for item in source.initializer}
        return graph

    def constant(self, value: NDArray) -> str:
        """Weights, that is float32 along two axes and more, are stored in half precision."""
        name = f"c{len(self._constants)}"
        half = value.dtype == np.float32 and sum(side > 1 for side in value.shape) > 1
        self._constants[name] = np.ascontiguousarray(value, np.float16 if half else None)
        return self.add("Cast", name, to=_FLOAT32) if half else name

    def add(self, kind: str, *inputs: str | NDArray, **attributes: object) -> str:
        """A node whose inputs are names or arrays."""
        from onnx import helper

        names = [self.constant(x) if isinstance(x, np.ndarray) else x for x in inputs]
        output = f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, names, [output], **attributes))
        return output

    def shape(self, x: str, *sides: int) -> str:
        """`x` reshaped, the batch axis left free."""
        return self.add("Reshape", x, np.array([-1, *sides], np.int64))

    def to_bytes(self, name: str, given: Mapping[str, Sides], output: str, result: Sides) -> bytes:
        """The graph from inputs of the shapes `given` to `output`, all behind a free batch axis.

        A side that is a name, not a number, is free, and equal wherever that name is.
        """
        from onnx import checker, helper, numpy_helper

        model = helper.make_model(
            helper.make_graph(
                self._nodes,
                name,
                [
                    helper.make_tensor_value_info(key, _FLOAT32, ["batch", *shape])
                    for key, shape in given.items()
                ],
                [helper.make_tensor_value_info(output, _FLOAT32, ["batch", *result])],
                [numpy_helper.from_array(value, key) for key, value in self._constants.items()],
            ),
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="cvae",
        )
        checker.check_model(model, full_check=True)
        data: bytes = model.SerializeToString()
        return data


def linear_analysis(mean: Array, basis: Array, shape: tuple[int, int, int]) -> bytes:
    """`(x - mean) @ basis` on flattened images; mean (n,), basis (n, d)."""
    graph = Graph()
    flat = graph.add("Flatten", "x", axis=1)
    latents = graph.add("Gemm", flat, basis, -mean @ basis)
    return graph.to_bytes("analysis", {"x": shape}, latents, (basis.shape[1],))


def linear_synthesis(mean: Array, basis: Array, shape: tuple[int, int, int]) -> bytes:
    """`y @ basis.T + mean`, clipped to [0, 1], as images."""
    graph = Graph()
    flat = graph.add("Gemm", "x", basis, mean, transB=1)
    clipped = graph.add("Clip", flat, np.array(0, np.float32), np.array(1, np.float32))
    return graph.to_bytes(
        "synthesis", {"x": (basis.shape[1],)}, graph.shape(clipped, *shape), shape
    )


def cvae_analysis(
    stages: list[Layer], dense: Layer, mean: Layer, shape: tuple[int, int, int]
) -> bytes:
    """The analysis of `architectures.build_cvae`, up to the means.

    Args:
        stages: the convolutions of stride 2, each followed by ReLU.
        dense: the layer before the heads, followed by ReLU.
        mean: the head that gives the means.
        shape: (h, w, c) of the images.
    """
    graph = Graph()
    x = _downward(graph, stages, len(dense.kernel))
    x = graph.add("Relu", graph.add("Gemm", x, *dense))
    latents = graph.add("Gemm", x, *mean)
    return graph.to_bytes("analysis", {"x": shape}, latents, (len(mean.bias),))


def residual_analysis(
    stages: list[Layer], mean: Layer, linear: Layer, shape: tuple[int, int, int]
) -> bytes:
    """The analysis of `architectures.build_residual`."""
    graph = Graph()
    x = graph.add("Gemm", _downward(graph, stages, len(mean.kernel)), *mean)
    flat = graph.add("Gemm", graph.add("Flatten", "x", axis=1), *linear)
    return graph.to_bytes("analysis", {"x": shape}, graph.add("Add", x, flat), (len(mean.bias),))


def _downward(graph: Graph, stages: list[Layer], length: int) -> str:
    """Images -> what the convolutions of stride 2, each followed by ReLU, make of them, flattened."""
    x = graph.add("Transpose", "x", perm=[0, 3, 1, 2])
    for stage in stages:
        # Sides are even, where same padding of stride 2 adds one row below and one column right.
        kernel = stage.kernel.transpose(3, 2, 0, 1)
        x = graph.add("Conv", x, kernel, stage.bias, strides=[2, 2], pads=[0, 0, 1, 1])
        x = graph.add("Relu", x)
    return graph.shape(graph.add("Transpose", x, perm=[0, 2, 3, 1]), length)


def residual_synthesis(layers: dict[str, Layer], levels: int, shape: tuple[int, int, int]) -> bytes:
    """The synthesis of `architectures.build_residual`, clipped to [0, 1].

    Args:
        layers: by the names that they have there.
        levels: how often the U-Net halves the resolution.
        shape: (h, w, c) of the images.
    """
    graph = Graph()
    height, width, channels = shape
    kernel, bias = layers["linear"]
    order = np.arange(len(bias)).reshape(shape).transpose(2, 0, 1).ravel()
    flat = graph.add("Gemm", "x", kernel[:, order], bias[order])
    linear = graph.shape(flat, channels, height, width)

    def block(x: str, name: str) -> str:
        y = graph.add("Relu", _conv(graph, x, layers[f"{name}a"]))
        return graph.add("Add", x, _conv(graph, y, layers[f"{name}b"]))

    def level(x: str, number: int) -> str:
        x = graph.add("SpaceToDepth", x, blocksize=2)
        x = graph.add("Relu", _conv(graph, x, layers[f"enter{number}"]))
        x = block(x, f"before{number}")
        if number == levels - 1:
            return x
        coarse = _conv(graph, level(x, number + 1), layers[f"leave{number + 1}"])
        coarse = graph.add("DepthToSpace", coarse, blocksize=2)
        return block(graph.add("Add", x, coarse), f"after{number}")

    x = _conv(graph, graph.add("Relu", level(linear, 0)), layers["last"])
    x = graph.add("Add", linear, graph.add("DepthToSpace", x, blocksize=2))
    x = graph.add("Clip", x, np.array(0, np.float32), np.array(1, np.float32))
    output = graph.add("Transpose", x, perm=[0, 2, 3, 1])
    return graph.to_bytes("synthesis", {"x": (len(kernel),)}, output, shape)


def _conv(graph: Graph, x: str, layer: Layer) -> str:
    """Same padding, stride 1."""
    pad = layer.kernel.shape[0] // 2
    return graph.add("Conv", x, layer.kernel.transpose(3, 2, 0, 1), layer.bias, pads=[pad] * 4)


def cvae_synthesis(
    dense: Layer, stages: list[Layer], last: Layer, shape: tuple[int, int, int]
) -> bytes:
    """The synthesis of `architectures.build_cvae` with all transposed convolutions as sub-pixel ones.

    Args:
        dense: the first layer, followed by ReLU.
        stages: the layers of stride 2, each followed by ReLU.
        last: the layer of stride 1, followed by a sigmoid.
        shape: (h, w, c) of the images.
    """
    graph = Graph()
    height, width = (side >> len(stages) for side in shape[:2])
    kernel, bias = dense
    # Keras' dense layer gives (h, w, c); convolutions here take (c, h, w).
    order = np.arange(len(bias)).reshape(height, width, -1).transpose(2, 0, 1).ravel()
    x = graph.add("Relu", graph.add("Gemm", "x", kernel[:, order], bias[order]))
    x = graph.shape(x, len(bias) // (height * width), height, width)
    for stage in stages[:-1]:
        parts = [graph.add("Relu", part) for part in phases(graph, x, stage)]
        height, width = 2 * height, 2 * width
        x = interleave(graph, graph.add("Concat", *parts, axis=1), height, width, len(stage.bias))
    parts = [graph.add("Relu", part) for part in phases(graph, x, stages[-1])]
    pixels = graph.add("Sigmoid", _from_phases(graph, parts, last, shape))
    return graph.to_bytes("synthesis", {"x": (len(kernel),)}, pixels, shape)


def phases(graph: Graph, x: str, layer: Layer) -> list[str]:
    """A transposed convolution of stride 2 on (c, h, w): one (out, h, w) for each phase of a cell."""
    kernel = layer.kernel.transpose(2, 3, 0, 1)  # out, in, 3, 3
    parts = []
    for a, b in _PHASES:
        rows, columns = _TAPS[a], _TAPS[b]
        taps = kernel[:, :, list(rows.values())][:, :, :, list(columns.values())]
        pads = [0 in rows, 0 in columns, 0, 0]
        parts.append(graph.add("Conv", x, taps, layer.bias, pads=[int(pad) for pad in pads]))
    return parts


def interleave(graph: Graph, x: str, height: int, width: int, channels: int) -> str:
    """Phases (4 * c, h / 2, w / 2) -> (c, h, w).

    By way of channels last, where this moves whole rows of channels; DepthToSpace moves numbers.
    """
    x = graph.add("Transpose", x, perm=[0, 2, 3, 1])
    x = graph.shape(x, height // 2, width // 2, 2, 2 * channels)
    x = graph.add("Transpose", x, perm=[0, 1, 3, 2, 4])
    return graph.add("Transpose", graph.shape(x, height, width, channels), perm=[0, 3, 1, 2])


def _from_phases(graph: Graph, parts: list[str], layer: Layer, shape: tuple[int, int, int]) -> str:
    """The last layer (3x3, stride 1) on phases, each (c, h / 2, w / 2) -> (h, w, out).

    A cell's 2x2 pixels reach the 4x4 around it, so products give 16 numbers a cell for each output
    channel, and what falls on the same pixel is added up.
    """
    height, width, out = shape
    spread = ""
    for (a, b), part in zip(_PHASES, parts, strict=True):
        weights = np.zeros((out, 4, 4, layer.kernel.shape[3]), np.float32)
        weights[:, a : a + 3, b : b + 3] = layer.kernel.transpose(2, 0, 1, 3)
        product = graph.add("Conv", part, weights.reshape(16 * out, -1, 1, 1))
        # Sums of 16 numbers a cell; to put the phases side by side first would copy all their channels.
        spread = graph.add("Add", spread, product) if spread else product
    cells = graph.shape(spread, 16 * out, height * width // 4)
    sides = np.array([height, width], np.int64), np.array([4, 4], np.int64)
    x = graph.add("Col2Im", cells, *sides, strides=[2, 2], pads=[1, 1, 1, 1])
    x = graph.add("Add", x, layer.bias.reshape(-1, 1, 1))
    return graph.add("Transpose", x, perm=[0, 2, 3, 1])
