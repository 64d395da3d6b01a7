"""Keras networks of the layers that `stacks` writes, as nodes of an ONNX graph, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from cvae.training.export.graph import Graph, Layer, interleave, phases
from cvae.training.networks.chains import NORM

# A value in the graph, images as (c, h, w); or the four phases of a cell, not yet interleaved.
Value = str | list[str]


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
    """Adds a network without normalization that does anything (see `fold_normalization`).

    Args:
        graph: gets the nodes.
        network: of one input.
        x: the input's name, images as (h, w, c), or vectors.
        output: the Keras tensor to compute; None for the network's only output.

    Returns:
        The name of the output, images again as (h, w, c).
    """
    output = network.output if output is None else output
    if len(network.input.shape) == 4:
        x = graph.add("Transpose", x, perm=[0, 3, 1, 2])
    values: dict[int, Value] = {id(network.input): x}
    for layer in network.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        several = isinstance(layer.input, list)
        given = [values[id(tensor)] for tensor in (layer.input if several else [layer.input])]
        values[id(layer.output)] = _EMITTERS[type(layer)](graph, layer, *given)
        if layer.output is output:
            break
    result = _whole(graph, values[id(output)], output)
    return graph.add("Transpose", result, perm=[0, 2, 3, 1]) if len(output.shape) == 4 else result


def _whole(graph: Graph, x: Value, tensor: Any) -> str:
    """A value as one name; phases are interleaved to the sides of the Keras tensor."""
    if isinstance(x, str):
        return x
    _, height, width, channels = tensor.shape
    return interleave(graph, graph.add("Concat", *x, axis=1), height, width, channels)


def _convolution(graph: Graph, layer: Any, x: Value) -> str:
    kernel, bias = layer.get_weights()
    return graph.add(
        "Conv",
        _whole(graph, x, layer.input),
        kernel.transpose(3, 2, 0, 1),
        bias,
        strides=list(layer.strides),
        pads=_pads(layer),
    )


def _pads(layer: Any) -> list[int]:
    """Of a convolution or pooling: [top, left, bottom, right], the larger half behind as Keras has it."""
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


def _transposed(graph: Graph, layer: Any, x: Value) -> Value:
    weights = Layer(*layer.get_weights())
    x = _whole(graph, x, layer.input)
    if layer.strides == (2, 2):
        return phases(graph, x, weights)
    turned = weights.kernel[::-1, ::-1].transpose(2, 3, 0, 1)
    return graph.add("Conv", x, turned, weights.bias, pads=[1, 1, 1, 1])


def _activation(graph: Graph, layer: Any, x: Value) -> Value:
    kind = {"relu": "Relu", "sigmoid": "Sigmoid"}[layer.activation.__name__]
    # On phases before they are put together: so ONNX Runtime makes one step of it and a convolution.
    return graph.add(kind, x) if isinstance(x, str) else [graph.add(kind, part) for part in x]


def _pooling(graph: Graph, layer: Any, x: Value) -> str:
    x = _whole(graph, x, layer.input)
    return graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], pads=_pads(layer))


def _upsampling(graph: Graph, layer: Any, x: Value) -> str:
    x = _whole(graph, x, layer.input)
    return graph.add("DepthToSpace", graph.add("Concat", x, x, x, x, axis=1), blocksize=2)


def _same(graph: Graph, layer: Any, x: Value) -> Value:
    return x


def _flatten(graph: Graph, layer: Any, x: Value) -> str:
    x = _whole(graph, x, layer.input)
    if len(layer.input.shape) == 4:
        x = graph.add("Transpose", x, perm=[0, 2, 3, 1])
    return graph.shape(x, layer.output.shape[1])


def _dense(graph: Graph, layer: Any, x: Value) -> str:
    return graph.add("Gemm", _whole(graph, x, layer.input), *layer.get_weights())


def _reshape(graph: Graph, layer: Any, x: Value) -> str:
    x = graph.shape(_whole(graph, x, layer.input), *layer.output.shape[1:])
    return graph.add("Transpose", x, perm=[0, 3, 1, 2])


def _concatenation(graph: Graph, layer: Any, *parts: Value) -> str:
    given = zip(parts, layer.input, strict=True)
    return graph.add("Concat", *(_whole(graph, x, tensor) for x, tensor in given), axis=1)


_EMITTERS: dict[type, Callable[..., Value]] = {
    layers.Conv2D: _convolution,
    layers.Conv2DTranspose: _transposed,
    layers.Activation: _activation,
    layers.MaxPooling2D: _pooling,
    layers.UpSampling2D: _upsampling,
    layers.BatchNormalization: _same,  # after `fold_normalization`
    layers.Dropout: _same,
    layers.Flatten: _flatten,
    layers.Dense: _dense,
    layers.Reshape: _reshape,
    layers.Concatenate: _concatenation,
}
