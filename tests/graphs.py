"""ONNX graphs as strangers may write them, with parts that our export never does."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from cvae.models.file import member_hashes

FLOAT = TensorProto.FLOAT
Sides = Sequence[int | str]
Edit = Callable[[Any], None]


def node(kind: str, inputs: Sequence[str], output: str = "y", **attributes: Any) -> NodeProto:
    return helper.make_node(kind, list(inputs), [output], **attributes)


def model(
    nodes: Sequence[NodeProto], constants: dict[str, Any] | None = None, sides: Sides = (4,),
    result: Sides = (4,), edit: Edit = lambda model: None, opset: int = 18,
) -> bytes:  # fmt: skip
    """A graph from `x` to `y`, without a check; `edit` gets the `ModelProto` before it is written."""
    arrays = {key: np.asarray(value) for key, value in (constants or {}).items()}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["batch", *sides])],
        [helper.make_tensor_value_info("y", FLOAT, ["batch", *result])],
        [numpy_helper.from_array(value, key) for key, value in arrays.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    proto: ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    edit(proto)
    data: bytes = proto.SerializeToString()
    return data


def floats(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def replaced(source: Path, target: Path, graphs: dict[str, bytes], **changes: Any) -> Path:
    """A copy of a model file with other graphs, whose hashes hold, and with changes of the manifest."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()} | graphs
    values = json.loads(members["manifest.json"]) | {"name": target.stem, "id": 4711} | changes
    values["hashes"] = values["hashes"] | member_hashes(graphs, None)
    members["manifest.json"] = json.dumps(values).encode()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return target
