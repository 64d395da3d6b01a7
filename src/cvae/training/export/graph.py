"""An ONNX graph, written node by node, independent of the backend that trained and of converters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import checker, helper, numpy_helper

Floats = NDArray[np.float32]
Sides = tuple[int | str, ...]

_OPSET = 18
_IR_VERSION = 8
_FLOAT32 = 1  # onnx.TensorProto.FLOAT
_LEAST_SCALE = 6.2e-5  # the least that half precision holds with all its bits


class Graph:
    """Nodes and constants, added one after another; each call returns the name of its output."""

    def __init__(self, source: Any = None, eight_bits: bool = False) -> None:
        """Begins with the nodes and constants of an ONNX graph, if one is given.

        With `eight_bits`, `kernel` stores 8 bits a weight; see the function of that name.
        """
        self._eight_bits = eight_bits
        given = source.initializer if source else ()
        self.nodes: list[Any] = list(source.node) if source else []
        self.constants: dict[str, NDArray] = {c.name: numpy_helper.to_array(c) for c in given}

    def constant(self, value: NDArray) -> str:
        """Weights (float32 with two or more axes longer than 1) are stored in half precision."""
        name = f"c{len(self.constants)}"
        half = value.dtype == np.float32 and sum(side > 1 for side in value.shape) > 1
        self.constants[name] = np.ascontiguousarray(value, np.float16 if half else None)
        return self.add("Cast", name, to=_FLOAT32) if half else name

    def kernel(self, value: Floats, fine: bool = False) -> str:
        """A kernel (out, in, h, w); `fine` ones are never stored in 8 bits."""
        if fine or not self._eight_bits:
            return self.constant(value)
        scale, name = _scale(value, 0), f"c{len(self.constants)}"
        self.constants[name] = np.rint(value / scale).astype(np.int8)
        return self.add("Mul", self.add("Cast", name, to=_FLOAT32), scale)

    def add(self, kind: str, *inputs: str | NDArray, **attributes: object) -> str:
        """Adds a node whose inputs are names or arrays."""
        names = [self.constant(x) if isinstance(x, np.ndarray) else x for x in inputs]
        output = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [output], **attributes))
        return output

    def shape(self, x: str, *sides: int) -> str:
        """Reshapes `x` to (batch, *sides)."""
        return self.add("Reshape", x, np.array([-1, *sides], np.int64))

    def clip(self, x: str) -> str:
        """Clips `x` to [0, 1]."""
        return self.add("Clip", x, np.array(0, np.float32), np.array(1, np.float32))

    def to_bytes(self, name: str, given: Mapping[str, Sides], output: str, result: Sides) -> bytes:
        """Serializes the checked graph of this name.

        `given` are the inputs' shapes by name, `result` is that of the output, without the batch
        axis. Sides of one name are free and equal.
        """

        def values(shapes: Mapping[str, Sides]) -> list[Any]:
            make = helper.make_tensor_value_info
            return [make(key, _FLOAT32, ["batch", *shape]) for key, shape in shapes.items()]

        constants = [numpy_helper.from_array(value, key) for key, value in self.constants.items()]
        model = helper.make_model(
            helper.make_graph(self.nodes, name, values(given), values({output: result}), constants),
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="cvae",
        )
        checker.check_model(model, full_check=True)
        data: bytes = model.SerializeToString()
        return data


def without_constants(data: bytes, source: bytes) -> bytes:
    """A graph less the constants that `source` has, too: the inverse of `models.graph.with_constants`."""
    model, others = (onnx.load_model_from_string(part) for part in (data, source))
    known = {constant.SerializeToString() for constant in others.graph.initializer}
    own = [c for c in model.graph.initializer if c.SerializeToString() not in known]
    del model.graph.initializer[:]
    model.graph.initializer.extend(own)
    stripped: bytes = model.SerializeToString()
    return stripped


def eight_bits(kernel: Floats, axis: int) -> Floats:
    """Rounds to whole multiples, at most 127, of a scale for each index of the axis of outputs."""
    scale = _scale(kernel, axis)
    return np.asarray(np.rint(kernel / scale) * scale, np.float32)


def _scale(kernel: Floats, axis: int) -> Floats:
    others = tuple(i for i in range(kernel.ndim) if i != axis % kernel.ndim)
    most = np.abs(kernel).max(axis=others, keepdims=True)
    # In half precision, and never below what is needed.
    scale = np.maximum(most / 127, _LEAST_SCALE).astype(np.float16)
    scale = np.where(scale * np.float32(127) < most, np.nextafter(scale, np.float16(1e4)), scale)
    return np.asarray(scale, np.float32)


def half_precision(weights: Floats) -> Floats:
    """Rounds to the nearest float32 values that float16 holds too, as graphs store weights."""
    return weights.astype(np.float16).astype(np.float32)
