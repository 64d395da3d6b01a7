"""Graphs from strangers are read before ONNX Runtime sees them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from cvae.errors import ModelError
from cvae.models import graph as graphs
from cvae.models import operators
from cvae.models.file import Model
from cvae.models.graph import Graph
from cvae.models.networks import Network
from cvae.models.plan import Plan
from cvae.training.export.graph import without_constants

from ..conftest import ROOT, SHIPPED
from ..graphs import FLOAT, floats, model, node, whole

Edit = Callable[[Any], None]
RELU = [node("Relu", "x")]


def shipped_graphs() -> dict[str, bytes]:
    found = {}
    for path in [
        *(ROOT / "weights" / f"{name}.cvae" for name in SHIPPED),
        ROOT / "tests/golden/grid.cvae",
    ]:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".onnx")]
        found |= {f"{path.stem}/{name}": Model(path).graph(name) for name in members}
    return found


GRAPHS = shipped_graphs()


def read(data: bytes) -> Graph:
    """All that happens to a graph before ONNX Runtime sees it."""
    found = graphs.read(data)
    Plan(found)
    return found


def external(location: str) -> Edit:
    def edit(proto: Any) -> None:
        tensor = proto.graph.initializer.add(name="w", data_type=FLOAT, dims=[4])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return edit


def set_function(proto: Any) -> None:
    inner = helper.make_node("Relu", ["a"], ["b"])
    opsets = [helper.make_opsetid("", 18)]
    proto.functions.append(helper.make_function("", "Relu", ["a"], ["b"], [inner], opsets))


def set_sparse(proto: Any) -> None:
    values = helper.make_tensor("w", FLOAT, [1], [1.0])
    places = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4]))


def set_domain(proto: Any) -> None:
    proto.graph.node[0].domain = "com.microsoft"


def import_domain(proto: Any) -> None:
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def body(**attributes: Any) -> Edit:
    """An attribute that holds a graph, which may hold another."""

    def edit(proto: Any) -> None:
        inner = helper.make_graph(
            [helper.make_node("Relu", ["x"], ["z"], **attributes)], "b", [], []
        )
        proto.graph.node[0].attribute.append(helper.make_attribute("body", inner))

    return edit


def add_metadata(proto: Any) -> None:
    proto.metadata_props.add(key="a", value="b")


def add_training(proto: Any) -> None:
    proto.training_info.add()


def add_output(proto: Any) -> None:
    proto.graph.output.append(helper.make_tensor_value_info("x", FLOAT, ["batch", 4]))


def add_attribute(name: str, value: Any) -> Edit:
    def edit(proto: Any) -> None:
        proto.graph.node[0].attribute.append(helper.make_attribute(name, value))

    return edit


def claim(*sides: int) -> Edit:
    def edit(proto: Any) -> None:
        proto.graph.initializer.add(name="w", data_type=FLOAT, dims=sides, raw_data=bytes(16))

    return edit


def floats_in_a_list(proto: Any) -> None:
    proto.graph.initializer.add(name="w", data_type=FLOAT, dims=[4], float_data=[1] * 4)


def texts(proto: Any) -> None:
    proto.graph.initializer.add(
        name="w", data_type=TensorProto.STRING, dims=[1], string_data=[b"a"]
    )


HOSTILE = {
    "weights in another file": model(RELU, edit=external("secret.bin")),
    "weights at an absolute path": model(RELU, edit=external("/proc/self/environ")),
    "weights in a folder above": model(RELU, edit=external("../../secret.bin")),
    "weights in memory": model(RELU, edit=external("*/_ORT_MEM_ADDR_/*")),
    "a function": model(RELU, edit=set_function),
    "sparse weights": model(RELU, edit=set_sparse),
    "a foreign domain": model(RELU, edit=set_domain),
    "foreign operators": model(RELU, edit=import_domain),
    "a graph in a node": model(RELU, edit=body()),
    "graphs in an attribute": model(
        RELU, edit=add_attribute("b", [helper.make_graph([], "g", [], [])])
    ),
    "a tensor in a node": model(RELU, edit=add_attribute("value", helper.make_tensor("t", FLOAT, [1], [1]))),
    "a text in a node": model(RELU, edit=add_attribute("mode", "DCR")),
    "a number of floats": model(RELU, edit=add_attribute("alpha", 0.5)),
    "metadata": model(RELU, edit=add_metadata),
    "training": model(RELU, edit=add_training),
    "two outputs": model(RELU, edit=add_output),
    "two graphs, which parsers merge": model(RELU) + model([node("Relu", "y", "z")]),
    "another set of operators": model(RELU, opset=16),
    "a shape beyond its bytes": model(RELU, edit=claim(1 << 40)),
    "a negative shape": model(RELU, edit=claim(-2, -2)),
    "a product of sides beyond 64 bits": model(RELU, edit=claim(1 << 62, 4, 1 << 62)),
    "no side": model(RELU, edit=claim(0, 1 << 62)),
    "numbers in a list": model(RELU, edit=floats_in_a_list),
    "texts": model(RELU, edit=texts),
    "a name with an escape": model([node("Relu", "x", "\x1b[2J"), node("Relu", ["\x1b[2J"])]),
    "an operator with an escape": model([node("\x1b[2J", "x")]),
    "an endless name": model([node("Relu", "x", "a" * 10**5), node("Relu", ["a" * 10**5])]),
    "no name": model([node("Relu", [""])]),
    "a name that stands later": model([node("Relu", "z"), node("Relu", "x", "z")]),
    "a name twice": model([node("Relu", "x"), node("Sigmoid", "x")]),
    "a circle": model([node("Add", ["x", "y"])]),
    "no node": model([]),
    "a constant output": model([node("Relu", "w")], {"w": floats(1, 4)}),
    "too many nodes": model([node("Relu", "x", f"n{i}") for i in range(1001)] + RELU),
    "too many inputs": model([node("Concat", "x" * 65, axis=1)]),
    "a node of two outputs": model([helper.make_node("MaxPool", ["x"], ["y", "z"], kernel_shape=[1])]),
    "weights for a shape": model([node("Reshape", "xw")], {"w": floats(2)}),
    "a shape that is computed": model([node("Reshape", "xx")]),
    "a shape for weights": model([node("Add", "xw")], {"w": whole(1, 2, 3, 4)}),
    "texts of numbers": model([node("Cast", "x", to=TensorProto.STRING)]),
    "an attribute twice": model(
        [node("Cast", "x", to=1)], edit=lambda proto: add_attribute("to", 1)(proto)
    ),
}  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_the_export_never_writes_is_refused_unseen_by_the_runtime(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    with pytest.raises(ModelError, match=r"^g: [ -~]{1,400}\Z"):
        Network(data, "g", [(4,)], (4,))(np.zeros((1, 4), np.float32))


@pytest.mark.parametrize(
    "kind",
    ["Loop", "If", "Scan", "Constant", "ConstantOfShape", "Expand", "Tile", "Resize", "Pad", "Range",
     "EyeLike", "OneHot", "Einsum", "MatMul", "RandomNormal", "SequenceConstruct", "Identity", "EPContext"],
)  # fmt: skip
def test_other_operators_are_refused_by_name(kind: str) -> None:
    with pytest.raises(ValueError, match=f"expected operators that cvae writes, found '{kind}'"):
        read(model([node(kind, "x")]))


def test_the_known_operators_are_those_of_shipped_models() -> None:
    kinds = {node.kind for data in GRAPHS.values() for node in graphs.read(data).nodes}
    assert kinds == operators._OPERATORS.keys()


@pytest.mark.parametrize("data", GRAPHS.values(), ids=GRAPHS.keys())
def test_shipped_graphs_are_read_as_onnx_reads_them(data: bytes) -> None:
    found, expected = read(data), onnx.load_from_string(data).graph
    assert [(n.kind, list(n.inputs), [n.output]) for n in found.nodes] == [
        (n.op_type, list(n.input), list(n.output)) for n in expected.node
    ]
    for own, other in zip(found.nodes, expected.node, strict=True):
        given = {a.name: helper.get_attribute_value(a) for a in other.attribute}
        assert own.attributes == given
    for tensor in expected.initializer:
        constant = found.constants[tensor.name]
        assert constant.shape == tuple(tensor.dims)
        if constant.values is not None:
            array = onnx.numpy_helper.to_array(tensor)
            assert constant.values == tuple(array.ravel().tolist())


def test_a_deep_nest_of_graphs_is_no_deep_recursion() -> None:
    inner = helper.make_graph([], "g", [], [])
    for _ in range(20):
        inner = helper.make_graph(
            [helper.make_node("If", ["x"], ["y"], then_branch=inner)], "g", [], []
        )

    def edit(proto: Any) -> None:
        proto.graph.node[0].attribute.append(helper.make_attribute("body", inner))

    with pytest.raises(ValueError, match="alone, found field 6"):
        read(model(RELU, edit=edit))


SMALL = model([node("Gemm", "xw", "a"), node("Relu", "a")], {"w": floats(4, 4)})


def test_every_truncation_is_refused() -> None:
    for cut in range(len(SMALL)):
        with pytest.raises(ValueError, match="expected"):
            read(SMALL[:cut])


@given(st.integers(0, len(SMALL) - 1), st.binary(min_size=1, max_size=4))
def test_any_bytes_are_read_or_refused(place: int, data: bytes) -> None:
    try:
        read(SMALL[:place] + data + SMALL[place + len(data) :])
    except ValueError as error:
        assert str(error).isprintable()


def test_a_gradient_borrows_the_constants_it_lacks_from_the_synthesis() -> None:
    gradient, synthesis = (GRAPHS[f"grid/{name}.onnx"] for name in ("gradient", "synthesis"))
    without = without_constants(gradient, synthesis)
    assert len(without) < len(gradient) - len(synthesis) // 2
    with pytest.raises(ValueError, match="expected inputs that stand before"):
        graphs.read(without)
    lent = graphs.with_constants(without, synthesis)
    found, expected = graphs.read(lent), graphs.read(gradient)
    assert found == expected
    proto = onnx.load_model_from_string(lent)
    values = {tensor.name: tensor.raw_data for tensor in proto.graph.initializer}
    whole = onnx.load_model_from_string(gradient).graph.initializer
    assert values == {tensor.name: tensor.raw_data for tensor in whole}
    assert graphs.with_constants(gradient, synthesis) is gradient
    for pair in ((without, synthesis[:-1]), (without[:-1], synthesis)):
        with pytest.raises(ValueError, match="expected"):
            graphs.with_constants(*pair)
