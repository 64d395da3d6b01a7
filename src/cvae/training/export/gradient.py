"""The gradient of a synthesis graph as another graph, by reverse mode over its few kinds of nodes.

It tells the encoder's search how the squared error changes with each latent. The search checks its
results with the synthesis itself, so nothing in the format depends on the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import helper, shape_inference

from cvae.errors import TrainingError
from cvae.training.export.graph import Graph


class Tape:
    """A synthesis graph, to which its gradient is added, and the shapes of all that it computes."""

    def __init__(self, synthesis: bytes) -> None:
        source = shape_inference.infer_shapes(onnx.load_from_string(synthesis)).graph
        self.graph, self.nodes = Graph(source), list(source.node)
        self.constants, self.output = dict(self.graph.constants), source.output[0].name
        for node in self.nodes:
            if node.op_type == "Cast":  # of a constant that is stored in half precision
                self.constants[node.output[0]] = self.constants[node.input[0]]
            if node.op_type == "Mul" and {*node.input} <= self.constants.keys():  # in 8 bits
                kernel, scale = (self.constants[name] for name in node.input)
                self.constants[node.output[0]] = kernel * scale
        self.shapes: dict[str, tuple[int, ...]] = {
            value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)[1:]
            for value in [*source.input, *source.output, *source.value_info]
        }

    def adjoint(self, residual: str) -> str:
        """Adds the pull-back of `residual`, an adjoint of the output, to the input `x`."""
        adjoints = {self.output: residual}
        for node in reversed(self.nodes):
            if node.output[0] in adjoints:
                parts = self.pull_back(node, adjoints[node.output[0]])
                for value, part in zip(node.input, parts, strict=False):
                    earlier = adjoints.get(value)
                    adjoints[value] = self.graph.add("Add", earlier, part) if earlier else part
        return adjoints["x"]

    def pull_back(self, node: Any, adjoint: str) -> Iterator[str]:
        """The adjoint of a node's output -> those of its inputs, but for constants."""
        add, x, y = self.graph.add, node.input[0], node.output[0]
        given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        strides = given.get("strides", [1, 1])
        match node.op_type:
            case "Gemm":
                yield add("Gemm", adjoint, node.input[1], transB=1 - given.get("transB", 0))
            case "Conv" if strides == [1, 1]:
                yield self._convolution(node.input[1], adjoint, given.get("pads", [0] * 4))
            case "Relu":
                yield add("Mul", adjoint, add("Sign", y))
            case "Sigmoid":
                yield add("Mul", adjoint, add("Sub", y, add("Mul", y, y)))
            case "Clip":
                inside = add("Equal", x, y)
                yield add("Mul", adjoint, add("Cast", inside, to=1))  # 1 is float32
            case "Add":
                yield from [adjoint] * len(node.input)
            case "Concat":  # along the channels
                ends = np.cumsum([0, *(self.shapes[value][0] for value in node.input)])
                for limits in pairwise(ends):
                    yield add("Slice", adjoint, *(np.array([i], np.int64) for i in (*limits, 1)))
            case "Transpose":
                yield add("Transpose", adjoint, perm=np.argsort(given["perm"]).tolist())
            case "Reshape":
                yield self.graph.shape(adjoint, *self.shapes[x])
            case "SpaceToDepth":
                yield add("DepthToSpace", adjoint, blocksize=given["blocksize"])
            case "DepthToSpace":
                yield add("SpaceToDepth", adjoint, blocksize=given["blocksize"])
            case "Col2Im":
                # Overlapping blocks (im2col): a convolution with a single 1 for each place in them.
                height, width = self.constants[node.input[2]]
                channels, length = self.shapes[y][0], height * width
                places = np.eye(length, dtype=np.float32).reshape(length, 1, height, width)
                kernel = np.tile(places, (channels, 1, 1, 1))
                blocks = add("Conv", adjoint, kernel, group=channels, **given)
                yield self.graph.shape(blocks, *self.shapes[x])
            case kind:
                raise TrainingError(
                    f"no gradient is known of {kind} with strides {strides}: synthesis may have "
                    "none of `pool` and `/2`"
                )

    def _convolution(self, kernel: str, adjoint: str, pads: list[int]) -> str:
        """A convolution with the kernel rotated by 180 degrees and complementary padding."""
        last = [side - 1 for side in self.constants[kernel].shape[2:]]
        # Rotated in the graph, where ONNX Runtime does it once, so that the file holds the kernel once.
        ends = [np.array(i, np.int64) for i in ([-1, -1], [-(1 << 31)] * 2, [2, 3], [-1, -1])]
        turned = self.graph.add("Slice", kernel, *ends)
        turned = self.graph.add("Transpose", turned, perm=[1, 0, 2, 3])
        complement = [side - pad for side, pad in zip(last * 2, pads, strict=True)]
        return self.graph.add("Conv", adjoint, turned, pads=complement)


def gradient(synthesis: bytes) -> bytes:
    """The graph of the pull-back of a synthesis graph `x_hat(y)` as `layers` writes it.

    Returns:
        A graph from latents `x` (batch, d) and images `target` (batch, h, w, c) to (batch, d + 1):
        half the negative gradient of ||target - x_hat||^2 over the latents, then that squared error.

    Raises:
        TrainingError: no rule is known for one of the nodes.
    """
    tape = Tape(synthesis)
    graph, shapes = tape.graph, tape.shapes
    residual = graph.add("Sub", "target", tape.output)
    slope = tape.adjoint(residual)
    square, axes = graph.add("Mul", residual, residual), np.array([1, 2, 3], np.int64)
    error = graph.shape(graph.add("ReduceSum", square, axes, keepdims=0), 1)
    output = graph.add("Concat", slope, error, axis=1)
    given = {"x": shapes["x"], "target": shapes[tape.output]}
    return graph.to_bytes("gradient", given, output, (shapes["x"][0] + 1,))
