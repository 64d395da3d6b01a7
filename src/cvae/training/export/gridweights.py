"""The weights of a grid, read back out of its model file: what `gridgraphs` and `gridtables` wrote.

Networks come back exactly as they were rounded, gains as exactly as steps are stored. The distributions
of the hyper latents, which only training uses, are fitted to the tables that were counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from cvae.data.images import Pixels, as_floats
from cvae.errors import ModelError, TrainingError, translated
from cvae.models.file import ANALYSIS, HYPER, SYNTHESIS, Model
from cvae.models.grids import GridTables
from cvae.training.export import grid as exported
from cvae.training.export.graph import Floats
from cvae.training.export.gridgraphs import exact_arrays
from cvae.training.networks import exact, grid

# Pixels a side of the picture that restored networks are compared on.
_SIDE = 64
# Scales of logistic distributions, in steps, that tables are compared with.
_SCALES = np.geomspace(0.03, 60, 64)
_LEVELS = 255
# What says that a file was made of other networks, or by something else.
_OTHERS = (ModelError, TrainingError, ValueError, KeyError, IndexError)


def restore(model: Any, source: Model) -> None:
    """Sets all weights of a `networks.grid.GridAutoencoder` of float32, from a grid's model file.

    Raises:
        ModelError: the file is damaged.
        TrainingError: it holds other networks than the model's.
    """
    tables = source.grids
    networks = {
        ANALYSIS: model.analysis,
        HYPER: model.hyper_analysis,
        SYNTHESIS: model.synthesis,
    }
    graphs = {member: source.graph(member) for member in networks}
    text = f"expected a model of the networks of this preset, found others in {source.path}"
    with translated(TrainingError, text, "", _OTHERS):
        opened = exported.opened_graphs(graphs, model)
        for member, network in networks.items():
            layers = [layer for layer in network.layers if layer.weights]
            for layer, weights in zip(layers, convolutions(graphs[member]), strict=True):
                layer.set_weights(weights)
        _restore_exact(model, tables)
        model.gains.assign(gains(tables))
        model.hyper_density.assign(density(tables))
        # Layers are told apart by their order; so it is not believed without a look.
        exported.check(model, opened, as_floats(_picture()))


def _picture() -> Pixels:
    """Noise over slopes: every weight has a say in what networks make of it."""
    rng = np.random.default_rng(0)
    slopes = np.linspace(0, 160, _SIDE)[:, np.newaxis, np.newaxis]
    return np.asarray(slopes + rng.integers(0, 95, (1, _SIDE, _SIDE, grid.CHANNELS)), np.uint8)


def convolutions(graph: bytes) -> list[list[Floats]]:
    """Kernel (h, w, in, out) and bias of each convolution of a graph, in its order.

    Raises ValueError, KeyError or IndexError where the graph, which ONNX Runtime could load, is not as
    `export.graph` writes them.
    """
    parsed = onnx.load_model_from_string(graph).graph
    constants = {}
    for tensor in parsed.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError(f"expected the constant {tensor.name} within the file")
        constants[tensor.name] = numpy_helper.to_array(tensor)
    made = {node.output[0]: node for node in parsed.node}

    def constant(name: str) -> Floats:
        cast = name in made and made[name].op_type == "Cast"
        return np.asarray(constants[made[name].input[0] if cast else name], np.float32)

    def kernel(name: str) -> Floats:
        """In whole numbers times a scale for each output, or in half precision."""
        if name in made and made[name].op_type == "Mul":
            whole, scale = made[name].input
            return constant(whole) * constant(scale)
        return constant(name)

    return [
        [kernel(node.input[1]).transpose(2, 3, 1, 0), constant(node.input[2])]
        for node in parsed.node
        if node.op_type == "Conv"
    ]


def _restore_exact(model: Any, tables: GridTables) -> None:
    """Raises ValueError where the tables hold other layers."""
    if not np.array_equal(exact_arrays(model)["layers"], tables.layers):
        raise ValueError("the networks of whole numbers have other sizes")
    layers = [*model.hyper_synthesis, *(layer for stage in model.stages for layer in stage)]
    weights = _cut(tables.weights, [kernel.shape for layer in layers for kernel in layer.kernels])
    biases = _cut(tables.biases, [layer.bias.shape for layer in layers])
    for layer in layers:
        for kernel in layer.kernels:
            kernel.assign(next(weights) * np.float32(2.0**-layer.bits))
        layer.bias.assign(next(biases) * np.float32(2.0 ** -(layer.bits + exact.ONE)))


def _cut(values: NDArray, shapes: Sequence[tuple[int, ...]]) -> Any:
    """Arrays of these shapes, of numbers one behind the other. Raises ValueError for another count."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    if len(values) != ends[-1]:
        raise ValueError(f"expected {ends[-1]} weights, found {len(values)}")
    parts = np.split(values.astype(np.float32), ends[:-1])
    return (part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))


def gains(tables: GridTables) -> Floats:
    """The gains between which `GridAutoencoder.steps` interpolates, (knots, c)."""
    level = _shares(tables)
    place = level[:, np.newaxis] * (grid.KNOTS - 1)
    near = np.maximum(0.0, 1.0 - np.abs(place - np.arange(grid.KNOTS)))
    logarithms = np.log(tables.step / grid.step(level)[:, np.newaxis])
    return np.asarray(np.linalg.lstsq(near, logarithms, rcond=None)[0], np.float32)


def density(tables: GridTables) -> Floats:
    """What `GridAutoencoder.hyper_density` is to be for the tables of the hyper latents, (4, z)."""
    used, index = np.unique(tables.hyper_index, return_inverse=True)
    # Every entry has 1 to be codable, and the last one is what lies beyond.
    p = tables.bank[used, :-1].astype(np.float64) - 1
    p /= np.maximum(p.sum(axis=1, keepdims=True), 1)
    radius = p.shape[1] // 2
    symbols = np.arange(-radius, radius + 1)
    location = p @ symbols
    bits = np.stack([-_logs(symbols, location, scale, p) for scale in _SCALES])
    scale = _SCALES[np.argmin(bits, axis=0)]
    level, shape = _shares(tables), tables.hyper_index.shape
    fitted = [
        np.polynomial.polynomial.polyfit(level, values[index].reshape(shape), 1)
        for values in (location, np.log(2 * scale))
    ]
    return np.concatenate(fitted).astype(np.float32)


def _logs(
    symbols: NDArray, location: NDArray[np.float64], scale: float, p: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Means under each row of p of log-probabilities of symbols under a logistic distribution."""
    distance = symbols - location[:, np.newaxis]
    below = [np.tanh((distance + edge) / (2 * scale)) / 2 for edge in (0.5, -0.5)]
    found: NDArray[np.float64] = (p * np.log(below[0] - below[1] + 1e-9)).sum(axis=1)
    return found


def _shares(tables: GridTables) -> NDArray[np.float64]:
    """The levels of all qualities in [0, 1]."""
    return tables.level / np.float64(_LEVELS)
