"""The operators that our export writes: the shape of what each gives, and how long that takes, in products.

Every other operator is unknown, and so refused. All shapes follow from those of the inputs, as what says a
shape is held by the graph itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from cvae.models.graph import Node, Sides

_FLOAT32 = 1  # onnx.TensorProto.FLOAT
_GATHERED = 8  # of each number that a window holds, besides its products


class Given:
    """What a node is given."""

    def __init__(
        self, shapes: list[Sides], numbers: list[list[int]], attributes: dict[str, Any]
    ) -> None:
        """The shapes of all inputs, the whole numbers of those that say a shape, the attributes."""
        self.shapes, self.numbers, self.attributes = shapes, numbers, attributes

    def sides(self, name: str, count: int, default: int | None = None) -> list[int]:
        """An attribute of so many numbers; without a default it has to be there."""
        found = self.attributes.get(name, [] if default is None else [default] * count)
        if not isinstance(found, list) or len(found) != count:
            raise ValueError(f"expected {name} of {count} numbers, found {found!r:.80}")
        return found

    def number(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """An attribute of one number, from `low` to `high`."""
        found = self.attributes.get(name, default)
        if not isinstance(found, int) or not low <= found <= high:
            raise ValueError(f"expected {name} from {low} to {high}, found {found!r:.80}")
        return found


class Result(NamedTuple):
    """What a node gives."""

    shape: Sides
    products: int = 0


class _Operator(NamedTuple):
    result: Callable[[Given], Result]
    inputs: range  # how many it may have
    attributes: frozenset[str] = frozenset()
    numbers: bool = False  # its inputs from the second on are whole numbers that the graph holds


def check(node: Node) -> None:
    """Raises ValueError when the export writes no such operator, or not so many inputs or such attributes."""
    operator = _OPERATORS.get(node.kind)
    if operator is None:
        raise ValueError(f"expected operators that cvae writes, found {node.kind!r}")
    if len(node.inputs) not in operator.inputs or not node.attributes.keys() <= operator.attributes:
        found = f"{len(node.inputs)} inputs and attributes {[*node.attributes]}"
        raise ValueError(f"expected {node.kind!r} as cvae writes it, found {found:.80}")


def result(node: Node, shapes: list[Sides], numbers: list[tuple[int, ...] | None]) -> Result:
    """What a checked node gives from inputs of these shapes; `numbers` are the whole ones among them.

    Raises ValueError when they do not fit.
    """
    operator = _OPERATORS[node.kind]
    wanted = [operator.numbers and place > 0 for place in range(len(shapes))]
    if wanted != [values is not None for values in numbers]:
        raise ValueError(
            f"expected whole numbers where {node.kind!r} takes a shape, and only there"
        )
    whole = [list(values) for values in numbers if values is not None]
    try:
        found = operator.result(Given(shapes, whole, node.attributes))
    except ValueError as error:
        raise ValueError(f"{node.kind!r}: {error}") from None
    if min(found.shape, default=1) < 1:
        raise ValueError(f"expected sides of at least 1 from {node.kind!r}, found {found.shape}")
    return found


def _same(given: Given) -> Result:
    return Result(given.shapes[0])


def _cast(given: Given) -> Result:
    given.number("to", _FLOAT32, _FLOAT32)
    return _same(given)


def _broadcast(given: Given) -> Result:
    rank = max(map(len, given.shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in given.shapes]
    shape = tuple(map(max, zip(*padded, strict=True)))
    if any(
        side not in (1, longest)
        for sides in padded
        for side, longest in zip(sides, shape, strict=True)
    ):
        raise _misfit(given)
    return Result(shape)


def _transpose(given: Given) -> Result:
    (shape,) = given.shapes
    order = given.sides("perm", len(shape))
    if sorted(order) != list(range(len(shape))):
        raise ValueError(f"expected an order of the axes of {shape}, found {order}")
    return Result(tuple(shape[axis] for axis in order))


def _reshape(given: Given) -> Result:
    shape, (sides,) = given.shapes[0], given.numbers
    size, known = math.prod(shape), math.prod(side for side in sides if side != -1)
    if min(sides, default=1) < -1 or 0 in sides or sides.count(-1) > 1 or size % known:
        raise ValueError(f"expected a shape of {size:,} numbers, found {sides[:9]}")
    found = tuple(size // known if side == -1 else side for side in sides)
    if math.prod(found) != size:
        raise ValueError(f"expected a shape of {size:,} numbers, found {sides[:9]}")
    return Result(found)


def _flatten(given: Given) -> Result:
    (shape,) = given.shapes
    axis = given.number("axis", 0, len(shape), 1)
    return Result((math.prod(shape[:axis]), math.prod(shape[axis:])))


def _concat(given: Given) -> Result:
    first = given.shapes[0]
    axis = given.number("axis", 0, len(first) - 1)
    others = {(shape[:axis], shape[axis + 1 :]) for shape in given.shapes if len(shape) > axis}
    if len(others) != 1 or any(len(shape) <= axis for shape in given.shapes):
        raise _misfit(given)
    length = sum(shape[axis] for shape in given.shapes)
    return Result((*first[:axis], length, *first[axis + 1 :]))


def _slice(given: Given) -> Result:
    sides, (starts, stops, axes, *more) = list(given.shapes[0]), given.numbers
    steps = more[0] if more else [1] * len(axes)
    if len({len(starts), len(stops), len(axes), len(steps), len({*axes})}) != 1 or 0 in steps:
        raise ValueError("expected a start, a stop, an axis and a step of each part")
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        if not 0 <= axis < len(sides):
            raise ValueError(f"expected an axis of {given.shapes[0]}, found {axis}")
        sides[axis] = len(range(*slice(start, stop, step).indices(sides[axis])))
    return Result(tuple(sides))


def _reduce_sum(given: Given) -> Result:
    shape, (axes,) = given.shapes[0], given.numbers
    kept = given.number("keepdims", 0, 1, 1)
    if not axes or len({*axes}) != len(axes) or not {*axes} <= {*range(len(shape))}:
        raise ValueError(f"expected axes of {shape}, found {axes[:9]}")
    sides = [1 if axis in axes else side for axis, side in enumerate(shape)]
    found = tuple(side for axis, side in enumerate(sides) if kept or axis not in axes)
    return Result(found, math.prod(shape))


def _gemm(given: Given) -> Result:
    (a, b), transposed = given.shapes[:2], given.number("transB", 0, 1, 0)
    if (len(a), len(b)) != (2, 2) or a[1] != b[transposed]:
        raise _misfit(given)
    rows, columns = a[0], b[1 - transposed]
    return Result((rows, columns), rows * columns * a[1])


def _conv(given: Given) -> Result:
    x, kernel = given.shapes[:2]
    group = given.number("group", 1, 1 << 16, 1)
    if (len(x), len(kernel)) != (4, 4) or x[1] != kernel[1] * group or kernel[0] % group:
        raise _misfit(given)
    shape = (x[0], kernel[0], *_windows(given, x[2:], kernel[2:]))
    gathered = math.prod(shape) // kernel[0] * x[1] * math.prod(kernel[2:])
    return Result(shape, gathered * (kernel[0] // group + _GATHERED))


def _max_pool(given: Given) -> Result:
    (x,) = given.shapes
    if len(x) != 4:
        raise _misfit(given)
    kernel = given.sides("kernel_shape", 2)
    shape = (*x[:2], *_windows(given, x[2:], kernel))
    return Result(shape, _GATHERED * math.prod(shape) * math.prod(kernel))


def _windows(given: Given, sides: Sides | list[int], kernel: Sides | list[int]) -> list[int]:
    """How many places a kernel has along each side."""
    strides, pads = given.sides("strides", 2, 1), given.sides("pads", 4, 0)
    if min(*strides, *kernel, *sides) < 1 or min(pads) < 0:
        raise ValueError(f"expected strides from 1 and pads from 0, found {strides} and {pads}")
    ends = zip(sides, kernel, strides, pads[:2], pads[2:], strict=True)
    return [(side + low + high - size) // step + 1 for side, size, step, low, high in ends]


def _depth_to_space(given: Given) -> Result:
    (x,), side = given.shapes, given.number("blocksize", 1, 1 << 10)
    if len(x) != 4 or x[1] % side**2:
        raise _misfit(given)
    return Result((x[0], x[1] // side**2, x[2] * side, x[3] * side))


def _space_to_depth(given: Given) -> Result:
    (x,), side = given.shapes, given.number("blocksize", 1, 1 << 10)
    if len(x) != 4 or x[2] % side or x[3] % side:
        raise _misfit(given)
    return Result((x[0], x[1] * side**2, x[2] // side, x[3] // side))


def _col2im(given: Given) -> Result:
    x, (sides, block) = given.shapes[0], given.numbers
    if len(x) != 3 or len(sides) != 2 or len(block) != 2 or min(block) < 1:
        raise _misfit(given)
    area = math.prod(block)
    if x[1] % area or x[2] != math.prod(_windows(given, sides, block)):
        raise _misfit(given)
    return Result((x[0], x[1] // area, *sides), math.prod(x))


def _misfit(given: Given) -> ValueError:
    return ValueError(f"expected shapes that fit together, found {given.shapes!s:.80}")


def _named(*names: str) -> frozenset[str]:
    return frozenset(names)


_ONE, _TWO, _WEIGHTED, _MANY = range(1, 2), range(2, 3), range(2, 4), range(1, 65)
_OPERATORS = {
    "Add": _Operator(_broadcast, _TWO),
    "Asinh": _Operator(_same, _ONE),
    "Cast": _Operator(_cast, _ONE, _named("to")),
    "Clip": _Operator(_same, range(3, 4)),
    "Col2Im": _Operator(_col2im, range(3, 4), _named("strides", "pads"), numbers=True),
    "Concat": _Operator(_concat, _MANY, _named("axis")),
    "Conv": _Operator(_conv, _WEIGHTED, _named("strides", "pads", "group")),
    "DepthToSpace": _Operator(_depth_to_space, _ONE, _named("blocksize")),
    "Equal": _Operator(_broadcast, _TWO),
    "Flatten": _Operator(_flatten, _ONE, _named("axis")),
    "Gemm": _Operator(_gemm, _WEIGHTED, _named("transB")),
    "MaxPool": _Operator(_max_pool, _ONE, _named("kernel_shape", "strides", "pads")),
    "Mul": _Operator(_broadcast, _TWO),
    "ReduceSum": _Operator(_reduce_sum, _TWO, _named("keepdims"), numbers=True),
    "Relu": _Operator(_same, _ONE),
    "Reshape": _Operator(_reshape, _TWO, numbers=True),
    "Sigmoid": _Operator(_same, _ONE),
    "Sign": _Operator(_same, _ONE),
    "Slice": _Operator(_slice, range(4, 6), _named(), numbers=True),
    "SpaceToDepth": _Operator(_space_to_depth, _ONE, _named("blocksize")),
    "Sub": _Operator(_broadcast, _TWO),
    "Transpose": _Operator(_transpose, _ONE, _named("perm")),
}
