"""What a graph takes before it is run: memory and time, from the shapes of all that it computes."""

from __future__ import annotations

import math
from typing import NamedTuple

from cvae.models import operators
from cvae.models.graph import Graph, Node, Sides
from cvae.models.operators import Result

_ITEM_BYTES = 4  # of float32
_MOST_LOADED = 1 << 26  # bytes of constants, and of what follows from constants alone
_PRODUCTS_A_BYTE = 32  # of these
_MOST_BYTES = 1 << 33  # of one result, far more than can be allowed
_NUMBER_STEPS = 8  # of each number that is computed, besides the products


class Cost(NamedTuple):
    """What a run takes, or may take at most."""

    held: int  # bytes of the values that are needed at one time
    made: int  # bytes of all values: ONNX Runtime may compute them in another order
    steps: int  # products, and some more for each value

    def check(self, images: int, pixels: int, any_size: bool = False) -> None:
        """Raises ValueError when so many images, of so many pixels in all, should take less.

        Graphs of any size take large images in tiles; those of one size have a bound for an image.
        """
        most = [images * a + pixels * b for a, b in zip(_PER_IMAGE, _PER_PIXEL, strict=True)]
        if not any_size:
            most = [min(images * a, b) for a, b in zip(_MOST_OF_ONE_SIZE, most, strict=True)]
        if any(found > limit for found, limit in zip(self, most, strict=True)):
            raise ValueError(f"expected at most {Cost(*most)} for {pixels:,} pixels, found {self}")

    def __str__(self) -> str:
        return f"{self.held:,} bytes at a time, {self.made:,} in all and {self.steps:,} steps"


# More than each of the shipped models takes of a pixel, up to twice as much; and of an image besides.
_PER_PIXEL, _PER_IMAGE = Cost(1536, 8192, 3 << 16), Cost(1 << 20, 1 << 22, 1 << 25)
# `photo-vae` of 512x512 pixels takes 119 MB, 955 MB and 6.5e9 steps.
_MOST_OF_ONE_SIZE = Cost(1 << 28, 1 << 30, 1 << 33)


class Plan:
    """The nodes of a graph in two parts: what ONNX Runtime computes when it opens it, and in each run."""

    def __init__(self, graph: Graph) -> None:
        """Raises ValueError when a node is not one of the export's, or constants grow too large."""
        self._inputs = tuple(graph.inputs)
        self._numbers = {name: item.values for name, item in graph.constants.items()}
        self._known = {name: Result(item.shape) for name, item in graph.constants.items()}
        self._nodes: list[Node] = []
        loaded = sum(item.size for item in graph.constants.values())
        for node in graph.nodes:
            operators.check(node)
            if self._known.keys() >= {*node.inputs}:
                found = self._known[node.output] = self._result(node, self._known)
                loaded += max(_size(found.shape), found.products // _PRODUCTS_A_BYTE)
            else:
                self._nodes.append(node)
            if loaded > _MOST_LOADED:
                raise ValueError(f"expected constants of at most {_MOST_LOADED:,} bytes in memory")
        if graph.output in self._known:
            raise ValueError("expected an output that follows from the inputs")
        last = {name: node.output for node in self._nodes for name in node.inputs}
        # By the node behind which they are not needed.
        self._freed: dict[str, list[str]] = {}
        for name in last.keys() - self._known.keys():
            self._freed.setdefault(last[name], []).append(name)

    def results(self, *inputs: Sides) -> dict[str, Result]:
        """All that is given or computed, from inputs of these shapes. Raises ValueError at a misfit."""
        found = self._known | dict(zip(self._inputs, map(Result, inputs), strict=True))
        for node in self._nodes:
            found[node.output] = self._result(node, found)
        return found

    def cost(self, *inputs: Sides) -> Cost:
        """Of inputs of these shapes. Raises ValueError when they do not fit."""
        results = self.results(*inputs)
        sizes = {name: _size(result.shape) for name, result in results.items()}
        now = held = sum(sizes[name] for name in self._inputs)
        made = steps = 0
        for node in self._nodes:
            size = sizes[node.output]
            now, made = now + size, made + size
            steps += results[node.output].products + _NUMBER_STEPS * size // _ITEM_BYTES
            held = max(held, now)
            now -= sum(sizes[name] for name in self._freed.get(node.output, []))
        return Cost(held, made, steps)

    def _result(self, node: Node, known: dict[str, Result]) -> Result:
        numbers = [self._numbers.get(name) for name in node.inputs]
        found = operators.result(node, [known[name].shape for name in node.inputs], numbers)
        if _size(found.shape) > _MOST_BYTES:
            raise ValueError(f"expected at most {_MOST_BYTES:,} bytes, found {found.shape}")
        return found


def _size(shape: Sides) -> int:
    return _ITEM_BYTES * math.prod(shape)
