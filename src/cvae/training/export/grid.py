"""A trained grid -> graphs that agree with it, exact networks, counted tables, measured floors."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import TOTAL
from cvae.data.images import Pixels, as_floats
from cvae.errors import TrainingError
from cvae.kinds.context import CLASSES, FINENESS, Entropy
from cvae.models.file import ANALYSIS, GRADIENT, HYPER, SYNTHESIS
from cvae.models.grids import GridTables
from cvae.models.networks import Network
from cvae.models.qualities import QUALITIES
from cvae.training.export import layers
from cvae.training.export.gradient import Tape
from cvae.training.export.graph import Floats, Graph, eight_bits, half_precision
from cvae.training.networks import exact, grid

_FREE = ("height", "width")
_LEVELS = 255


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
    seen = _channels(graph, "x", 0, grid.HYPER_SEES)
    companded = graph.add("Asinh", graph.add("Mul", seen, np.array(0.5, np.float32)))
    level = _channels(graph, "x", channels, channels + 1)
    given = graph.add("Concat", companded, level, axis=3)
    z = layers.add_network(graph, model.hyper_analysis, given)
    found[HYPER] = graph.to_bytes("hyper", {"x": latents}, z, ("rows", "columns", grid.HYPER))

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
    cells = graph.add("SpaceToDepth", square, blocksize=grid.CELL)
    error = graph.add("ReduceSum", cells, np.array([1], np.int64), keepdims=1)
    error = graph.add("Transpose", error, perm=[0, 2, 3, 1])
    output = graph.add("Concat", slope, error, axis=3)
    given = {"x": (*_FREE, channels + 1), "target": ("rows", "columns", 3)}
    return graph.to_bytes("gradient", given, output, (*_FREE, channels + 1))


def exact_arrays(model: Any) -> dict[str, NDArray]:
    """`layers`, `weights` and `biases` of `GridTables`."""
    rows: list[list[int]] = []
    weights, biases = [], []
    stages = [layer for stage in model.stages for layer in stage]
    for number, layer in enumerate([*model.hyper_synthesis, *stages]):
        kernels, bias = layer.integers()
        for place, kernel in enumerate(kernels):
            whole = np.rint(np.asarray(kernel)).astype(np.int8)
            if layer.name in _SECOND_TURNS and place == len(kernels) - 1:
                whole[_unseen(len(whole))] = 0
            shift = -1 if layer.last else layer.bits
            rows.append([number, whole.shape[0], *whole.shape[2:], shift])
            weights.append(whole.ravel())
        biases.append(np.rint(np.asarray(bias)).astype(np.int32))
    return {
        "layers": np.array(rows, np.int32),
        "weights": np.concatenate(weights),
        "biases": np.concatenate(biases),
    }


# Their last input is the first half of the checkerboard.
_SECOND_TURNS = {f"stage{number}a" for number in range(1, 2 * len(grid.GROUPS), 2)}


def _unseen(side: int) -> NDArray[np.bool_]:
    """The taps of a kernel that reach cells of the same colour, which are not known yet."""
    rows, columns = np.divmod(np.arange(side * side), side)
    same: NDArray[np.bool_] = ((rows + columns - 2 * (side // 2)) % 2 == 0).reshape(side, side)
    return same


def tables(model: Any, curvature: Floats, reach: Sequence[int], bank: NDArray[np.uint16],
           hyper_index: NDArray[np.uint16]) -> GridTables:  # fmt: skip
    """The tables of a prepared model, with the test vector of its exact networks."""
    level = np.rint(np.linspace(0, _LEVELS, len(QUALITIES)))
    share = level / _LEVELS
    steps = np.asarray(model.steps(share.astype(np.float32)))[:, 0, 0]
    # The loss weighs the mean over three channels of squared errors of 8-bit levels.
    weight = grid.lagrangian(share) * 255**2 / grid.CHANNELS
    sixteenths = np.arange(1 << 14) / FINENESS
    companding = np.minimum(np.rint(exact.SLOPE * np.arcsinh(sixteenths / exact.WIDTH)), exact.MOST)
    arrays: dict[str, Any] = {
        "bank": bank,
        "hyper_index": hyper_index,
        "step": steps.astype(np.float32),
        "curvature": curvature.astype(np.float32),
        "weight": weight.astype(np.float32),
        "level": level.astype(np.uint8),
        "groups": np.array(grid.GROUPS, np.uint16),
        "companding": companding.astype(np.uint8),
        **exact_arrays(model),
        "reach": np.array(reach, np.uint8),
    }
    untested = GridTables(**arrays, check=np.zeros((0, 2), np.int64))
    return GridTables(**arrays, check=Entropy(untested).check())


def first_bank(radius: int) -> NDArray[np.uint16]:
    """A table for each class: logistic distributions, before symbols were counted."""
    ratio = np.log(grid.SCALE_MOST / grid.SCALE_LEAST) / (CLASSES - 1)
    scale = grid.SCALE_LEAST * np.exp(ratio * np.arange(CLASSES)) * np.sqrt(3) / np.pi
    return np.stack([frequencies(logistic(0.0, s, radius)) for s in scale])


def logistic(location: float, scale: float, radius: int) -> NDArray[np.float64]:
    """Probabilities of -radius .. radius, then of all beyond."""
    edges = np.arange(-radius, radius + 2) - 0.5 - location
    below = 0.5 * (1 + np.tanh(edges / scale / 2))
    inside = np.diff(below)
    return np.append(inside, max(1 - inside.sum(), 0))


def frequencies(p: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Probabilities, or counts -> frequencies of at least 1 that sum to 2^16."""
    whole = 1 + np.floor(p / p.sum() * (TOTAL - len(p))).astype(np.int64)
    whole[np.argmax(whole)] += TOTAL - whole.sum()
    return whole.astype(np.uint16)


def find_reach(network: Any) -> int:
    """How many cells a network looks beyond the edges of one: the sum of what its layers do."""
    scale, reach = {}, {}  # of a tensor: pixels of the input a side of its own; pixels beyond a cell
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


def curvature(synthesis: Network, latents: Floats, step: Floats) -> Floats:
    """What a change of each latent adds to the squared error, over its square: (c,).

    `latents` (n, h, w, c + 1) have the level as their last channel, `step` is (c,). All latents of a
    channel change by a step at once, with random signs, so that what they add together cancels.
    """
    rng = np.random.default_rng(0)
    before = synthesis(latents)
    found = np.empty(len(step), np.float32)
    for channel in range(len(step)):
        signs = rng.choice(np.array([-1, 1], np.float32), latents.shape[:3])
        moved = latents.copy()
        moved[..., channel] += signs * step[channel]
        change = np.square(synthesis(moved) - before).sum(dtype=np.float64)
        found[channel] = change / (signs.size * step[channel] ** 2)
    return found


def crops(pictures: Sequence[Pixels], side: int) -> Floats:
    """The middles of pictures as floats (n, side, side, 3)."""
    parts = []
    for picture in pictures:
        top, left = ((n - side) // 2 for n in picture.shape[:2])
        parts.append(picture[top : top + side, left : left + side])
    return as_floats(np.stack(parts))


def check(model: Any, opened: dict[str, Network], x: Floats) -> None:
    """Raises TrainingError where the graphs differ from the prepared model."""
    y = np.asarray(model.analysis(x))
    found = opened[ANALYSIS](x)
    if not np.allclose(found, y, atol=1e-3 * float(np.abs(y).max())):
        raise TrainingError("the exported analysis differs from the trained one")
    step = np.asarray(model.steps(np.full(len(x), 0.5, np.float32)))
    latents = np.concatenate([np.rint(y / step) * step, np.full_like(y[..., :1], 0.5)], axis=3)
    expected = np.clip(np.asarray(model.synthesis(latents)), 0, 1)
    if float(np.abs(opened[SYNTHESIS](latents) - expected).max()) > 1 / 255:
        raise TrainingError("the exported synthesis differs from the trained one")
