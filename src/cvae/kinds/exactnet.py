"""Networks that compute in whole numbers, so that they give equal results on every machine.

Weights are whole numbers in [-127, 127], activations in [-255, 255], biases whole. For each output the
sum of |weight| x 255 + |bias| is below 2^24, so every partial sum is a whole number that float32 holds,
in whatever order a matrix product adds, with or without fused multiply-add, on any number of threads.
Scaling by powers of two, floor and clip are exact as well. Products are plain matrix products over
gathered pixels: no kernel may transform them, as Winograd's convolutions do.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.models.grids import GridTables
from cvae.models.lossless import LosslessTables

MOST = 255  # magnitude of an activation
MOST_WEIGHT = 127
# Of all layers of a model; a tap is a product of matrices for each picture.
_MOST_KERNELS, _MOST_TAPS = 1000, 2048
LIMIT = 1 << 24  # whole numbers below it are exact in float32, sums of them as well

Whole = NDArray[np.float32]  # holds whole numbers
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Places:
    """Cells of a grid (h, w) at which a network is computed, in reading order."""

    rows: Indices  # (p,)
    columns: Indices  # (p,)


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer: a kernel for each input, summed.

    `kernels` are int8 (side, side, in, out) of odd sides, `bias` is int32 (out,). The result is
    `clip(floor(sum / 2^shift), 0, 255)`, or the sums themselves where the shift is None.
    """

    kernels: tuple[NDArray[np.int8], ...]
    bias: NDArray[np.int32]
    shift: int | None
    most: NDArray[np.int64] = field(init=False)  # (out,): no sum is larger

    def __post_init__(self) -> None:
        """Raises ValueError when sums might not be exact; the arrays may come from a hostile file."""
        total = np.abs(self.bias.astype(np.int64))
        for kernel in self.kernels:
            if kernel.dtype != np.int8 or kernel.ndim != 4 or kernel.shape[3:] != self.bias.shape:
                raise ValueError(f"expected an int8 kernel, found {kernel.dtype} {kernel.shape}")
            if kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
                raise ValueError(f"expected a kernel of odd sides, found {kernel.shape}")
            magnitude = np.abs(kernel.astype(np.int64))
            if magnitude.max(initial=0) > MOST_WEIGHT:
                raise ValueError(f"expected weights of at most {MOST_WEIGHT}")
            total += MOST * magnitude.sum(axis=(0, 1, 2))
        if total.max(initial=0) >= LIMIT:
            raise ValueError("expected sums below 2^24")
        object.__setattr__(self, "most", total)

    def of_rows(self, *inputs: NDArray[Any]) -> Whole:
        """As calling it, for kernels of 1x1: rows of whole numbers (m, in), one array for each."""
        total = self.sums(*inputs)
        return total if self.shift is None else activated(total, self.shift)

    def sums(self, *inputs: NDArray[Any], first: int = 0, last: int | None = None) -> Whole:
        """As `of_rows`, before they are shifted and clipped; of these outputs, by default of all."""
        total = self._biases[first:last]
        for x, kernel in zip(inputs, self._matrices, strict=True):
            product = x.astype(np.float32, copy=False) @ kernel[:, first:last]
            product += total
            total = product
        return total

    @cached_property
    def _biases(self) -> Whole:
        return self.bias.astype(np.float32)

    @cached_property
    def _matrices(self) -> list[Whole]:
        return [kernel[0, 0].astype(np.float32) for kernel in self.kernels]

    @property
    def reach(self) -> int:
        """How many cells it looks beyond one."""
        return max(len(kernel) // 2 for kernel in self.kernels)

    @cached_property
    def _taps(self) -> list[list[tuple[int, int, Whole]]]:
        """Of each kernel, row, column and weights (in, out) of the taps that are not zero."""
        return [
            [
                (row, column, kernel[row, column].astype(np.float32))
                for row in range(kernel.shape[0])
                for column in range(kernel.shape[1])
                if kernel[row, column].any()
            ]
            for kernel in self.kernels
        ]

    def __call__(self, inputs: Sequence[NDArray[Any]], places: Places | None = None) -> Whole:
        """Grids of whole numbers (n, h, w, in), one for each kernel, padded with zeros.

        Returns:
            (n, p, out) at places, or else the grid (n, h, w, out).
        """
        n, height, width = inputs[0].shape[:3]
        where = places or all_places(height, width)
        total = np.broadcast_to(self.bias.astype(np.float32), (n * len(where.rows), len(self.bias)))
        total = total.copy()
        for grid, kernel, taps in zip(inputs, self.kernels, self._taps, strict=True):
            reach = kernel.shape[0] // 2
            padded = (
                np.pad(grid, ((0, 0), (reach, reach), (reach, reach), (0, 0))) if reach else grid
            )
            flat = padded.reshape(n, -1, grid.shape[3])
            corner = where.rows * padded.shape[2] + where.columns
            for row, column, weights in taps:
                seen = flat[:, corner + (row * padded.shape[2] + column)].reshape(-1, grid.shape[3])
                total += seen.astype(np.float32, copy=False) @ weights
        if self.shift is not None:
            total = activated(total, self.shift)
        shape = (n, len(where.rows)) if places else (n, height, width)
        return total.reshape(*shape, len(self.bias))


class _Limit:
    """How many blocks want one thread, and what undoes it after the last of them."""

    lock = threading.Lock()
    blocks = 0
    before: Any = None


@cache
def _libraries() -> Any:
    """What sets the threads of libraries; kept, as finding these takes ten milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrix products of numpy use the calling thread alone; nests, and is thread-safe.

    They are small: where other work keeps processors busy, several threads wait for each other, and
    take far longer.
    """
    with _Limit.lock:
        if not _Limit.blocks:
            _Limit.before = _libraries().limit(limits=1, user_api="blas")
        _Limit.blocks += 1
    try:
        yield
    finally:
        with _Limit.lock:
            _Limit.blocks -= 1
            if not _Limit.blocks:
                _Limit.before.restore_original_limits()


def activated(sums: Whole, shift: int) -> Whole:
    """`clip(floor(sums / 2^shift), 0, 255)`, in place."""
    sums *= np.float32(2.0**-shift)
    np.floor(sums, out=sums)
    return np.clip(sums, 0, MOST, out=sums)


def all_places(height: int, width: int) -> Places:
    rows, columns = np.divmod(np.arange(height * width), width)
    return Places(rows, columns)


def checkerboard(height: int, width: int, odd: int) -> Places:
    """The cells whose row + column is even, or with `odd` = 1 odd."""
    rows, columns = np.divmod(np.arange(height * width), width)
    wanted = (rows + columns) % 2 == odd
    return Places(rows[wanted], columns[wanted])


def shuffled(grid: Whole, side: int = 2) -> Whole:
    """Channels (row, column, channel) as cells: (n, h, w, side * side * c) -> (n, side * h, side * w, c)."""
    n, height, width, channels = grid.shape
    cells = grid.reshape(n, height, width, side, side, channels // side**2)
    return cells.transpose(0, 1, 3, 2, 4, 5).reshape(n, height * side, width * side, -1)


def stored_layers(tables: GridTables | LosslessTables) -> list[Layer]:
    """The layers that the arrays hold. Raises ValueError when they hold none, or too few numbers."""
    layers: list[Layer] = []
    shape, most = tables.layers.shape, _MOST_KERNELS
    if len(shape) != 2 or shape[1] != 5 or shape[0] > most:
        raise ValueError(f"expected at most {most} rows of layers of 5 numbers, found {shape}")
    at_weight = at_bias = taps = 0
    rows = tables.layers.tolist()
    for number in range(rows[-1][0] + 1 if rows else 0):
        own = [row for row in rows if row[0] == number]
        kernels = []
        for _, side, inputs, outputs, _ in own:
            if not (1 <= side <= 9 and 1 <= inputs <= 4096 and 1 <= outputs <= 4096):
                raise ValueError(f"a layer of {side}x{side}x{inputs}x{outputs} is out of range")
            taps += side * side
            if taps > _MOST_TAPS:
                raise ValueError(f"expected layers of at most {_MOST_TAPS:,} taps in all")
            size = side * side * inputs * outputs
            flat = tables.weights[at_weight : at_weight + size]
            kernels.append(flat.reshape(side, side, inputs, outputs))
            at_weight += size
        if not own:
            raise ValueError(f"expected a layer {number}, found none")
        outputs, shift = own[0][3:]
        bias = tables.biases[at_bias : at_bias + outputs]
        at_bias += outputs
        layers.append(Layer(tuple(kernels), bias, None if shift < 0 else shift))
    if (at_weight, at_bias) != (len(tables.weights), len(tables.biases)):
        raise ValueError("expected as many weights and biases as the layers have")
    return layers
