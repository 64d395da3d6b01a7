"""What a graph takes is known before it is opened, and before it is run."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import shape_inference

from cvae.codec import open_model
from cvae.errors import ModelError
from cvae.models import graph as graphs
from cvae.models.networks import Network
from cvae.models.plan import Cost, Plan

from ..graphs import floats, model, node, whole
from .test_graph import GRAPHS


def doubled(times: int, kind: str = "Concat", **attributes: Any) -> list[Any]:
    """Nodes that make twice as much of `w`, so many times, and add what comes out to `x`."""
    names = ["w", *(f"d{i}" for i in range(times))]
    nodes = [node(kind, [a, a], b, **attributes) for a, b in itertools.pairwise(names)]
    return [*nodes, node("Add", ["x", names[-1]])]


OPENED = {
    "weights side by side, again and again": model(doubled(40, axis=0), {"w": floats(4)}),
    "a sum of a row and a column": model(
        [node("Add", "ab", "c"), node("ReduceSum", "cn", "d", keepdims=0), node("Add", "xd")],
        {"a": floats(1 << 15, 1), "b": floats(1, 1 << 15), "n": whole(0, 1)},
    ),
    "wide edges": model(
        [node("Conv", "wk", "c", pads=[1 << 14] * 4), node("Add", "xc")],
        {"w": floats(1, 1, 4, 4), "k": floats(1, 1, 2, 2)},
    ),
    "an image of billions": model(
        [node("Col2Im", "wsb", "c", strides=[1 << 40] * 2), node("Add", "xc")],
        {"w": floats(1, 1, 1), "s": whole(1 << 31, 1 << 31), "b": whole(1, 1)},
    ),
    "products of products": model(
        [node("Gemm", "ww", "a"), *(node("Gemm", [a, "w"], b) for a, b in zip("abc", "bcd", strict=True)),
         node("Gemm", "xd")],
        {"w": floats(2048, 2048)}, (2048,), (2048,),
    ),
}  # fmt: skip

RUN = {
    "a result side by side, again and again": model(
        [node("Concat", [a, a], b, axis=0) for a, b in zip("xabcdefghijk", "abcdefghijkl", strict=True)]
        + [node("Slice", "lpqr")],
        {"p": whole(0), "q": whole(1), "r": whole(0)}, (1 << 14,), (1 << 14,),
    ),
    "a sum of a row and a column": model(
        [node("Reshape", "xr", "a"), node("Reshape", "xc", "b"), node("Add", "ab", "d"),
         node("ReduceSum", "dn", "y", keepdims=0)],
        {"r": whole(-1, 1), "c": whole(1, -1), "n": whole(0)}, (1 << 14,), (1 << 14,),
    ),
    "a product of all with all": model(
        [node("Reshape", "xr", "a"), node("Reshape", "xc", "b"), node("Gemm", "ab", "d"),
         node("ReduceSum", "dn", "y", keepdims=0)],
        {"r": whole(-1, 1), "c": whole(1, -1), "n": whole(0)}, (1 << 14,), (1 << 14,),
    ),
    "wide edges": model(
        [node("Reshape", "xr", "a"), node("Conv", "ak", "b", pads=[1 << 12] * 4),
         node("ReduceSum", "bn", "c", keepdims=0), node("Add", "xc")],
        {"r": whole(-1, 1, 2, 2), "k": floats(1, 1, 2, 2), "n": whole(1, 2, 3)}, (4,), (4,),
    ),
    "a large kernel": model(
        [node("Reshape", "xr", "a"),
         *(node("Conv", [a, "k"], b, pads=[16] * 4) for a, b in zip("abcd", "bcde", strict=True)),
         node("Reshape", "ef")],
        {"r": whole(-1, 16, 32, 32), "k": floats(16, 16, 33, 33), "f": whole(-1, 1 << 14)},
        (1 << 14,), (1 << 14,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("data", OPENED.values(), ids=OPENED.keys())
def test_constants_that_grow_are_refused_before_the_runtime_computes_them(data: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        Plan(graphs.read(data))


@pytest.mark.parametrize("data", RUN.values(), ids=RUN.keys())
def test_what_grows_in_a_run_is_refused_before_it_runs(data: bytes) -> None:
    (sides,) = graphs.read(data).inputs.values()
    size = sides[1]
    assert size is not None
    network = Network(data, "g", [(size,)], (size,))
    started = time.perf_counter()
    with pytest.raises(
        ModelError, match=r"^g: the network is refused: expected at most .* pixels, found"
    ):
        network(np.zeros((1, size), np.float32))
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("data", GRAPHS.values(), ids=GRAPHS.keys())
def test_shapes_are_those_that_onnx_infers(data: bytes) -> None:
    proto, given = onnx.load_from_string(data), []
    for value in proto.graph.input:
        shape = value.type.tensor_type.shape
        free = {"batch": 2, "height": 32, "width": 48, "rows": 32 * 16, "columns": 48 * 16}
        for dim in shape.dim:
            if dim.dim_param:
                dim.dim_value = free[dim.dim_param]
        given.append(tuple(dim.dim_value for dim in shape.dim))
    for dim in proto.graph.output[0].type.tensor_type.shape.dim:
        dim.ClearField("dim_param")
    inferred = shape_inference.infer_shapes(proto, data_prop=True).graph
    expected = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in [*inferred.value_info, *inferred.output]
    }
    found = Plan(graphs.read(data)).results(*given)
    assert {name: found[name].shape for name in expected} == expected
    assert len(expected) >= len(proto.graph.node) - 1


def test_a_network_may_take_twice_what_shipped_ones_do() -> None:
    codec = open_model("mnist")
    network: Any = codec.coding.synthesis  # type: ignore[attr-defined]
    cost = network._cost_of([(1, 16)])
    twice = Cost(*(2 * number for number in cost))
    twice.check(1, 28 * 28)
    with pytest.raises(ValueError, match=r"found .* bytes at a time, .* in all and .* steps"):
        Cost(1 << 40, 1, 1).check(1, 28 * 28)
