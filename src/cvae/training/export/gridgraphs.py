"""The networks of a grid -> ONNX graphs, and arrays of whole numbers."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cvae.kinds.grid import CELL
from cvae.models.file import ANALYSIS, GRADIENT, HYPER, SYNTHESIS
from cvae.training.export import layers
from cvae.training.export.gradient import Tape
from cvae.training.export.graph import Graph, eight_bits, half_precision, without_constants
from cvae.training.networks import exact, grid

_FREE = ("height", "width")


def prepare(model: Any) -> str:
    """Rounds weights as graphs store them, in place; returns the sha256 of all of them."""
    for network in (model.analysis, model.hyper_analysis, model.synthesis):
        for layer in network.layers:
            if not layer.get_weights():
                continue
            kernel, bias = layer.get_weights()
            fine = layer.name == grid.LINEAR
            kernel = half_precision(kernel) if fine else eight_bits(kernel, -1)
            layer.set_weights([kernel, bias])
    return hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()


def graphs(model: Any) -> dict[str, bytes]:
    """The graphs of a prepared model, by member."""
    channels = model.latents
    latents, image = (*_FREE, channels + 1), (*_FREE, 3)
    graph = Graph(eight_bits=True)
    y = layers.add_network(graph, model.analysis, "x")
    found = {ANALYSIS: graph.to_bytes("analysis", {"x": image}, y, ("rows", "columns", channels))}

    graph = Graph(eight_bits=True)
    seen = _channels(graph, "x", 0, model.sizes.hyper_sees)
    companded = graph.add("Asinh", graph.add("Mul", seen, np.array(0.5, np.float32)))
    level = _channels(graph, "x", channels, channels + 1)
    given = graph.add("Concat", companded, level, axis=3)
    z = layers.add_network(graph, model.hyper_analysis, given)
    found[HYPER] = graph.to_bytes(
        "hyper", {"x": latents}, z, ("rows", "columns", model.sizes.hyper)
    )

    graph = Graph(eight_bits=True)
    x_hat = graph.clip(layers.add_network(graph, model.synthesis, "x"))
    synthesis = graph.to_bytes("synthesis", {"x": latents}, x_hat, ("rows", "columns", 3))
    return {**found, SYNTHESIS: synthesis, GRADIENT: _gradient(synthesis, channels)}


def _channels(graph: Graph, x: str, start: int, stop: int) -> str:
    return graph.add("Slice", x, *(np.array([i], np.int64) for i in (start, stop, 3)))


def _gradient(synthesis: bytes, channels: int) -> bytes:
    """Latents and target -> half the negative gradient of the squared error, and in place of the
    level the squared error of each cell."""
    tape = Tape(synthesis)
    graph = tape.graph
    residual = graph.add("Sub", "target", tape.output)
    slope = _channels(graph, tape.adjoint(residual), 0, channels)
    square = graph.add("Transpose", graph.add("Mul", residual, residual), perm=[0, 3, 1, 2])
    cells = graph.add("SpaceToDepth", square, blocksize=CELL)
    error = graph.add("ReduceSum", cells, np.array([1], np.int64), keepdims=1)
    error = graph.add("Transpose", error, perm=[0, 2, 3, 1])
    output = graph.add("Concat", slope, error, axis=3)
    given = {"x": (*_FREE, channels + 1), "target": ("rows", "columns", 3)}
    data = graph.to_bytes("gradient", given, output, (*_FREE, channels + 1))
    return without_constants(data, synthesis)


def exact_arrays(model: Any) -> dict[str, NDArray]:
    """`layers`, `weights` and `biases` of `GridTables`."""
    stages = [layer for stage in model.stages for layer in stage]
    # Their last input is the first half of the checkerboard.
    second_turns = {stage[0].name for stage in model.stages[1::2]}

    def hide(layer: Any, place: int, whole: NDArray) -> None:
        if layer.name in second_turns and place == len(layer.kernels) - 1:
            whole[_unseen(len(whole))] = 0

    return exact.arrays([*model.hyper_synthesis, *stages], hide)


def _unseen(side: int) -> NDArray[np.bool_]:
    """The taps of a kernel that reach cells of the same colour, which are not known yet."""
    rows, columns = np.divmod(np.arange(side * side), side)
    same: NDArray[np.bool_] = ((rows + columns - 2 * (side // 2)) % 2 == 0).reshape(side, side)
    return same


def find_reach(network: Any) -> int:
    """How many cells a network looks beyond the edges of one: the sum of what its layers do."""
    # Of a tensor: pixels of the input a side of its own; pixels beyond the edges of a cell.
    scale: dict[int, float] = {}
    reach: dict[int, float] = {}
    for layer in network.layers[1:]:  # the first one is the input
        given = layer.input if isinstance(layer.input, list) else [layer.input]
        before = max((reach.get(id(tensor), 0.0) for tensor in given), default=0.0)
        unit = scale.get(id(given[0]), 1.0)
        if isinstance(layer, keras.layers.Conv2D):
            # Of same padding; the larger half is last.
            overlap = layer.kernel_size[0] - layer.strides[0]
            before += unit * (overlap - overlap // 2)
            unit *= layer.strides[0]
        elif isinstance(layer, grid.Shuffle):
            unit /= layer.side
        scale[id(layer.output)], reach[id(layer.output)] = unit, before
    return math.ceil(reach[id(network.output)] / max(scale[id(network.output)], 1))
