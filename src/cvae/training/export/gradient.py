"""The gradient of a synthesis graph as another graph, by reverse mode over its few kinds of nodes.

It tells the encoder's search how the squared error changes with each latent. The search checks its
results with the synthesis itself, so nothing in the format depends on the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.errors import TrainingError
from cvae.training.export.graph import Graph

Shape = tuple[int, ...]
_Rule = Callable[["_Tape", Any, str], None]


class _Tape:
    """A copied synthesis graph, its constants, attributes and shapes, and the adjoints so far."""

    def __init__(self, synthesis: bytes) -> None:
        import onnx
        from onnx import helper, numpy_helper, shape_inference

        model = shape_inference.infer_shapes(onnx.load_from_string(synthesis))
        source = model.graph
        self.constants: dict[str, NDArray] = {
            item.name: numpy_helper.to_array(item) for item in source.initializer
        }
        self.nodes = list(source.node)
        self.attributes: dict[str, dict[str, Any]] = {
            node.output[0]: {a.name: helper.get_attribute_value(a) for a in node.attribute}
            for node in self.nodes
        }
        for node in self.nodes:
            if node.op_type == "Cast":  # of a constant that is stored in half precision
                self.constants[node.output[0]] = self.constants[node.input[0]].astype(np.float32)
        values = [*source.input, *source.output, *source.value_info]
        self.shapes: dict[str, Shape] = {
            value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)[1:]
            for value in values
        }
        self.graph = Graph.copy(source)
        self.output = source.output[0].name
        self.adjoints: dict[str, str] = {}

    def accumulate(self, value: str, adjoint: str) -> None:
        if value in self.adjoints:
            adjoint = self.graph.add("Add", self.adjoints[value], adjoint)
        self.adjoints[value] = adjoint


def gradient(synthesis: bytes) -> bytes:
    """The graph of the pull-back of a synthesis graph `x_hat(y)` as `layers` writes it.

    Returns:
        A graph from latents `x` (batch, d) and images `target` (batch, h, w, c) to (batch, d + 1):
        half the negative gradient of ||target - x_hat||^2 over the latents, then that squared error.

    Raises:
        TrainingError: no rule is known for one of the nodes.
    """
    tape = _Tape(synthesis)
    graph = tape.graph
    residual = graph.add("Sub", "target", tape.output)
    tape.adjoints[tape.output] = residual
    for node in reversed(tape.nodes):
        if node.output[0] in tape.adjoints:
            _rule(tape, node)(tape, node, tape.adjoints[node.output[0]])
    error = graph.add(
        "ReduceSum", graph.add("Mul", residual, residual), np.array([1, 2, 3], np.int64), keepdims=0
    )
    error = graph.shape(error, 1)
    output = graph.add("Concat", tape.adjoints["x"], error, axis=1)
    given = {"x": tape.shapes["x"], "target": tape.shapes[tape.output]}
    return graph.to_bytes("gradient", given, output, (tape.shapes["x"][0] + 1,))


def _rule(tape: _Tape, node: Any) -> _Rule:
    """How an adjoint passes through a node. Raises TrainingError where no rule is known."""
    strides = tape.attributes[node.output[0]].get("strides", [1, 1])
    if node.op_type not in _RULES or (node.op_type == "Conv" and strides != [1, 1]):
        raise TrainingError(
            f"no gradient is known of {node.op_type} with strides {strides}: synthesis may have "
            "none of `pool` and `/2`"
        )
    return _RULES[node.op_type]


def _gemm(tape: _Tape, node: Any, adjoint: str) -> None:
    transposed = tape.attributes[node.output[0]].get("transB", 0)
    product = tape.graph.add("Gemm", adjoint, node.input[1], transB=1 - transposed)
    tape.accumulate(node.input[0], product)


def _conv(tape: _Tape, node: Any, adjoint: str) -> None:
    """With stride 1: a convolution with the kernel rotated by 180 degrees and complementary padding."""
    height, width = tape.constants[node.input[1]].shape[2:]
    top, left, bottom, right = tape.attributes[node.output[0]].get("pads", [0, 0, 0, 0])
    # Rotated in the graph, where ONNX Runtime does it once, so that the file holds the kernel once.
    ends = [np.array(limit, np.int64) for limit in ([-1, -1], [-(1 << 31)] * 2, [2, 3], [-1, -1])]
    turned = tape.graph.add("Slice", node.input[1], *ends)
    turned = tape.graph.add("Transpose", turned, perm=[1, 0, 2, 3])
    pads = [height - 1 - top, width - 1 - left, height - 1 - bottom, width - 1 - right]
    tape.accumulate(node.input[0], tape.graph.add("Conv", adjoint, turned, pads=pads))


def _elementwise(tape: _Tape, node: Any, adjoint: str) -> None:
    x, y, add = node.input[0], node.output[0], tape.graph.add
    if node.op_type == "Relu":
        slope = add("Sign", y)
    elif node.op_type == "Sigmoid":
        slope = add("Sub", y, add("Mul", y, y))
    else:  # Clip
        slope = add("Cast", add("Equal", x, y), to=1)  # 1 is float32
    tape.accumulate(x, add("Mul", adjoint, slope))


def _add(tape: _Tape, node: Any, adjoint: str) -> None:
    for value in node.input:
        tape.accumulate(value, adjoint)


def _concat(tape: _Tape, node: Any, adjoint: str) -> None:
    """Along the channels."""
    start = 0
    for value in node.input:
        end = start + tape.shapes[value][0]
        limits = [np.array([limit], np.int64) for limit in (start, end, 1)]
        tape.accumulate(value, tape.graph.add("Slice", adjoint, *limits))
        start = end


def _transpose(tape: _Tape, node: Any, adjoint: str) -> None:
    order = np.argsort(tape.attributes[node.output[0]]["perm"]).tolist()
    tape.accumulate(node.input[0], tape.graph.add("Transpose", adjoint, perm=order))


def _reshape(tape: _Tape, node: Any, adjoint: str) -> None:
    tape.accumulate(node.input[0], tape.graph.shape(adjoint, *tape.shapes[node.input[0]]))


def _moved(tape: _Tape, node: Any, adjoint: str) -> None:
    inverse = {"SpaceToDepth": "DepthToSpace", "DepthToSpace": "SpaceToDepth"}[node.op_type]
    tape.accumulate(node.input[0], tape.graph.add(inverse, adjoint, blocksize=2))


def _col2im(tape: _Tape, node: Any, adjoint: str) -> None:
    """Overlapping blocks of the image (im2col): a convolution with a single 1 for each place in them."""
    attributes = tape.attributes[node.output[0]]
    height, width = tape.constants[node.input[2]]
    channels, length = tape.shapes[node.output[0]][0], height * width
    places = np.eye(length, dtype=np.float32).reshape(length, 1, height, width)
    blocks = tape.graph.add(
        "Conv", adjoint, np.tile(places, (channels, 1, 1, 1)), group=channels,
        strides=attributes["strides"], pads=attributes["pads"],
    )  # fmt: skip
    tape.accumulate(node.input[0], tape.graph.shape(blocks, *tape.shapes[node.input[0]]))


_RULES: dict[str, _Rule] = {
    "Gemm": _gemm,
    "Conv": _conv,
    "Relu": _elementwise,
    "Sigmoid": _elementwise,
    "Clip": _elementwise,
    "Add": _add,
    "Concat": _concat,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Col2Im": _col2im,
    "SpaceToDepth": _moved,
    "DepthToSpace": _moved,
}
