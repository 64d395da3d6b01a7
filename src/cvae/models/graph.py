"""The bytes of an ONNX graph -> its nodes and constants, or a refusal of all that our export does not write.

ONNX Runtime is a large program, and parts of the format are programs themselves: loops, functions, weights
in other files. A graph from a stranger is read here first, and only what `training.export` writes passes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from cvae.models import protobuf
from cvae.models.protobuf import Field

Sides = tuple[int, ...]
FreeSides = tuple[int | None, ...]  # None is a side that may have any length

_IR_VERSION, _OPSETS = 8, (17, 18)
_FLOAT32, _INT64 = 1, 7  # onnx.TensorProto.DataType
_ITEM_BYTES = {_FLOAT32: 4, 3: 1, _INT64: 8, 10: 2}  # 3 is int8, 10 is float16
_ATTRIBUTE_KINDS = {2: "i", 7: "ints"}  # onnx.AttributeProto.AttributeType
_MOST_NODES, _MOST_INPUTS, _MOST_SIDES, _LONGEST_NAME = 1000, 64, 8, 100
_MOST_VALUES = 64  # of a constant that says a shape

# onnx.proto, less what the export does not write. Left out are functions, training, sparse and external
# tensors, and attributes that hold tensors, graphs or texts.
_MODEL = {
    1: Field("ir_version", int), 2: Field("producer", bytes), 7: Field("graph", bytes),
    8: Field("opsets", bytes, True),
}  # fmt: skip
_OPERATORS = {1: Field("domain", bytes), 2: Field("version", int)}
_CONSTANTS = 5
_GRAPH = {
    1: Field("nodes", bytes, True), 2: Field("name", bytes), _CONSTANTS: Field("constants", bytes, True),
    11: Field("inputs", bytes, True), 12: Field("outputs", bytes, True),
}  # fmt: skip
_NODE = {
    1: Field("inputs", bytes, True), 2: Field("outputs", bytes, True), 4: Field("kind", bytes),
    5: Field("attributes", bytes, True),
}  # fmt: skip
_ATTRIBUTE = {
    1: Field("name", bytes), 3: Field("i", int), 8: Field("ints", int, True), 20: Field("type", int),
}  # fmt: skip
_TENSOR = {
    1: Field("sides", int, True), 2: Field("type", int), 8: Field("name", bytes),
    9: Field("data", bytes),
}  # fmt: skip
_VALUE = {1: Field("name", bytes), 2: Field("type", bytes)}
_TYPE = {1: Field("tensor", bytes)}
_TENSOR_TYPE = {1: Field("type", int), 2: Field("shape", bytes)}
_SHAPE = {1: Field("sides", bytes, True)}
_SIDE = {1: Field("length", int), 2: Field("name", bytes)}


class Constant(NamedTuple):
    """What a graph holds; of whole numbers, which say shapes, the values."""

    shape: Sides
    size: int  # bytes
    values: tuple[int, ...] | None


class Node(NamedTuple):
    """An operator of one output."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]  # whole numbers, or lists of them


class Graph(NamedTuple):
    """A graph of one output, whose nodes use what stands before them."""

    nodes: tuple[Node, ...]
    constants: dict[str, Constant]
    inputs: dict[str, FreeSides]
    output: str


def read(data: bytes) -> Graph:
    """Raises ValueError when the bytes are no graph as the export writes them."""
    model = protobuf.read(memoryview(data), _MODEL)
    opsets = [protobuf.read(part, _OPERATORS) for part in model["opsets"]]
    foreign = len(opsets) != 1 or opsets[0]["domain"] or opsets[0]["version"] not in _OPSETS
    if foreign or model["ir_version"] != _IR_VERSION:
        raise ValueError(f"expected operators of set {_OPSETS} alone, in version {_IR_VERSION}")
    graph = protobuf.read(_given(model["graph"]), _GRAPH)
    if len(graph["nodes"]) > _MOST_NODES or len(graph["constants"]) > _MOST_NODES:
        raise ValueError(f"expected at most {_MOST_NODES:,} nodes and as many constants")
    inputs, outputs = (
        [_float_value(part) for part in graph[name]] for name in ("inputs", "outputs")
    )
    if len(outputs) != 1:
        raise ValueError(f"expected one output, found {len(outputs)}")
    constants = [_constant(part) for part in graph["constants"]]
    nodes, output = tuple(_node(part) for part in graph["nodes"]), outputs[0][0]
    _check_names([name for name, _ in [*inputs, *constants]], nodes, output)
    return Graph(nodes, dict(constants), dict(inputs), output)


def with_constants(data: bytes, source: bytes) -> bytes:
    """A graph with the constants that its nodes use and it lacks, of another graph.

    The gradient of a synthesis has the same weights, which a model file so holds once. Raises ValueError
    when one of both is no graph.
    """
    model, other = (protobuf.read(memoryview(part), _MODEL) for part in (data, source))
    graph, lender = (protobuf.read(_given(part["graph"]), _GRAPH) for part in (model, other))
    known = {_name(part) for part in graph["constants"]}
    used = {_text(name) for part in graph["nodes"] for name in protobuf.read(part, _NODE)["inputs"]}
    lacking = used - known
    lent = [part for part in lender["constants"] if _name(part) in lacking]
    if not lent:
        return data
    whole = bytes(model["graph"]) + b"".join(protobuf.field(_CONSTANTS, part) for part in lent)
    return b"".join([
        protobuf.number(1, model["ir_version"] or 0),
        protobuf.field(7, whole),
        *(protobuf.field(8, part) for part in model["opsets"]),
    ])  # fmt: skip


def _name(constant: memoryview) -> str:
    return _text(protobuf.read(constant, _TENSOR)["name"])


def _check_names(first: list[str], nodes: tuple[Node, ...], output: str) -> None:
    """Raises ValueError when a name is used before it is given, or given twice."""
    known = set(first)
    if len(known) != len(first):
        raise ValueError("expected each name once, found one twice")
    for node in nodes:
        if unknown := [name for name in node.inputs if name not in known]:
            raise ValueError(f"expected inputs that stand before, found {unknown[0]!r}")
        if node.output in known:
            raise ValueError(f"expected each name once, found {node.output!r} twice")
        known.add(node.output)
    if output not in known - set(first):
        raise ValueError(f"expected a node that gives {output!r}")


def _node(data: memoryview) -> Node:
    node = protobuf.read(data, _NODE)
    kind, inputs = _text(node["kind"]), tuple(map(_text, node["inputs"]))
    if len(inputs) > _MOST_INPUTS or len(node["outputs"]) != 1:
        found = f"{len(inputs)} and {len(node['outputs'])}"
        raise ValueError(f"expected up to {_MOST_INPUTS} inputs and one output, found {found}")
    attributes = [_attribute(part) for part in node["attributes"]]
    if len(dict(attributes)) != len(attributes):
        raise ValueError("expected each attribute once, found one twice")
    return Node(kind, inputs, _text(node["outputs"][0]), dict(attributes))


def _attribute(data: memoryview) -> tuple[str, Any]:
    attribute = protobuf.read(data, _ATTRIBUTE)
    name, kind = _text(attribute["name"]), _ATTRIBUTE_KINDS.get(attribute["type"])
    if kind is None:
        raise ValueError(f"expected {name!r} as whole numbers, found type {attribute['type']}")
    value = attribute[kind]
    others = attribute["ints"] if kind == "i" else attribute["i"] is not None
    if others or (kind == "i" and value is None) or (kind == "ints" and len(value) > _MOST_SIDES):
        raise ValueError(f"expected {name!r} as one number or a few")
    return name, value


def _constant(data: memoryview) -> tuple[str, Constant]:
    tensor = protobuf.read(data, _TENSOR)
    name, sides, kind = _text(tensor["name"]), tuple(tensor["sides"]), tensor["type"]
    if kind not in _ITEM_BYTES or len(sides) > _MOST_SIDES or min(sides, default=1) < 1:
        raise ValueError(f"expected {name!r} as numbers, found type {kind} and sides {sides[:9]}")
    expected, found = math.prod(sides) * _ITEM_BYTES[kind], len(_given(tensor["data"]))
    if found != expected:
        raise ValueError(f"expected {expected:,} bytes of {name!r}, found {found:,}")
    if kind != _INT64:
        return name, Constant(sides, found, None)
    if len(sides) > 1 or found > _MOST_VALUES * _ITEM_BYTES[_INT64]:
        raise ValueError(f"expected at most {_MOST_VALUES} whole numbers in {name!r}")
    raw = bytes(tensor["data"])
    parts = (raw[i : i + 8] for i in range(0, found, 8))
    return name, Constant(
        sides, found, tuple(int.from_bytes(p, "little", signed=True) for p in parts)
    )


def _float_value(data: memoryview) -> tuple[str, FreeSides]:
    """Name and sides of an input or output."""
    value = protobuf.read(data, _VALUE)
    tensor = protobuf.read(_given(value["type"]), _TYPE)["tensor"]
    described = protobuf.read(_given(tensor), _TENSOR_TYPE)
    if described["type"] != _FLOAT32:
        raise ValueError(f"expected inputs and output of float32, found type {described['type']}")
    parts = protobuf.read(_given(described["shape"]), _SHAPE)["sides"][: _MOST_SIDES + 1]
    return _text(value["name"]), tuple(protobuf.read(part, _SIDE)["length"] for part in parts)


def _given(value: memoryview | None) -> memoryview:
    if value is None:
        raise ValueError("expected a field that is missing")
    return value


def _text(value: memoryview | None) -> str:
    """A name, which messages may show."""
    text = bytes(_given(value)[: _LONGEST_NAME + 1]).decode("ascii", "replace")
    if not (1 <= len(text) <= _LONGEST_NAME and text.isascii() and text.isprintable()):
        raise ValueError(f"expected a name of up to {_LONGEST_NAME} letters, found {text!r:.80}")
    return text
