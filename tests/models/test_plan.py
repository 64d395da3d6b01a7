"""What a graph takes is known before it is opened, and before it is run."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import shape_inference

from cvae import kinds
from cvae.codec import Codec, open_model
from cvae.errors import ModelError
from cvae.models import graph as graphs
from cvae.models.file import Model
from cvae.models.networks import Network
from cvae.models.plan import Cost, Plan

from ..conftest import ROOT
from ..graphs import floats, model, node, replaced, whole
from .test_graph import GRAPHS


def doubled(times: int, kind: str = "Concat", **attributes: Any) -> list[Any]:
    """Nodes that make twice as much of `w`, so many times, and add what comes out to `x`."""
    names = ["w", *(f"d{i}" for i in range(times))]
    nodes = [node(kind, [a, a], b, **attributes) for a, b in pairwise(names)]
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


SIZE = 1 << 14


def summed(*nodes: Any, axes: tuple[int, ...] = (0,), **constants: Any) -> bytes:
    """A graph of SIZE numbers, in which the nodes make `d` of `x`; its sum is added to `x`."""
    ends = [node("ReduceSum", "dn", "e", keepdims=0), node("Add", "xe")]
    return model([*nodes, *ends], {"n": whole(*axes), **constants}, (SIZE,), (SIZE,))


ALL_WITH_ALL = [node("Reshape", "xr", "a"), node("Reshape", "xc", "b")]
SHAPES = {"r": whole(-1, 1), "c": whole(1, -1)}
RUN = {
    "a result side by side, again and again": summed(
        *(node("Concat", [a, a], b, axis=0) for a, b in pairwise("xabcfghijkd"))
    ),
    "a sum of a row and a column": summed(*ALL_WITH_ALL, node("Add", "ab", "d"), **SHAPES),
    "a product of all with all": summed(*ALL_WITH_ALL, node("Gemm", "ab", "d"), **SHAPES),
    "wide edges": summed(
        node("Reshape", "xr", "a"),
        node("Conv", "ak", "d", pads=[1 << 12] * 4),
        axes=(1, 2, 3),
        r=whole(-1, 1, 128, 128),
        k=floats(1, 1, 2, 2),
    ),
    "large kernels": summed(
        node("Reshape", "xr", "a"),
        *(node("Conv", [a, "k"], b, pads=[16] * 4) for a, b in pairwise("abcfd")),
        axes=(1, 2, 3),
        r=whole(-1, 16, 32, 32),
        k=floats(16, 16, 33, 33),
    ),
    "a large pool": summed(
        node("Reshape", "xr", "a"),
        node("MaxPool", "a", "d", kernel_shape=[127] * 2, pads=[63] * 4),
        axes=(1, 2, 3),
        r=whole(-1, 1, 128, 128),
    ),
}


@pytest.mark.parametrize("data", OPENED.values(), ids=OPENED.keys())
def test_constants_that_grow_are_refused_before_the_runtime_computes_them(data: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        Plan(graphs.read(data))


@pytest.mark.parametrize("data", RUN.values(), ids=RUN.keys())
def test_what_grows_in_a_run_is_refused_before_it_runs(data: bytes) -> None:
    network = Network(data, "g", [(SIZE,)], (SIZE,))
    started = time.perf_counter()
    with pytest.raises(
        ModelError, match=r"^g: the network is refused: expected at most .* pixels, found"
    ):
        network(np.zeros((1, SIZE), np.float32))
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


def test_a_network_may_take_more_of_larger_images_up_to_a_bound_if_they_have_one_size() -> None:
    network: Any = open_model("mnist").coding.synthesis  # type: ignore[attr-defined]
    Cost(*(2 * number for number in network._cost_of([(1, 16)]))).check(1, 28 * 28)
    with pytest.raises(ValueError, match=r"found .* bytes at a time, .* in all and .* steps"):
        Cost(1 << 28, 1, 1).check(1, 28 * 28)
    large = Cost(1 << 29, 1, 1)
    large.check(1, 1 << 20, any_size=True)
    with pytest.raises(ValueError, match="expected at most 268,435,456 bytes at a time"):
        large.check(1, 1 << 20)


def test_many_latents_are_searched_by_a_gradient_or_not_at_all(tmp_path: Path) -> None:
    source = ROOT / "weights" / "linear-mnist.cvae"
    codec = Codec(Model(replaced(source, tmp_path / "many.cvae", {}, preset={})))
    image = np.zeros((28, 28), np.uint8)
    assert codec.encode(image, effort=0)
    for work in (lambda: codec.encode(image), lambda: kinds.verify(codec.model)):
        with pytest.raises(
            ModelError, match=r"many\.cvae: expected gradient\.onnx of a model of 400"
        ):
            work()


def test_what_the_runtime_refuses_itself_is_one_error_and_no_chatter(
    capfd: pytest.CaptureFixture[str],
) -> None:
    wide = node("MaxPool", "a", "b", kernel_shape=[2, 2], pads=[2] * 4)
    data = model([node("Reshape", "xr", "a"), wide, node("ReduceSum", "bn", "c"), node("Add", "xc")],
                 {"r": whole(-1, 1, 2, 2), "n": whole(1, 2, 3)})  # fmt: skip
    with pytest.raises(ModelError, match=r"^g: .*Exception during initialization"):
        Network(data, "g", [(4,)], (4,))(np.zeros((1, 4), np.float32))
    assert capfd.readouterr() == ("", "")
