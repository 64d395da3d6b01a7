"""The tables of a grid model: steps, frequency tables and exact networks, as its `tables.npz` holds them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import Bank
from cvae.data import arrays
from cvae.errors import ModelError, translated
from cvae.models.qualities import ARRAY_LIMIT, QUALITIES

MOST_CHANNELS = 1024
_MOST_REACH = 16  # cells; tiles, and so memory, grow with it


@dataclass(frozen=True, eq=False)
class GridTables:
    """Arrays of a grid model for G groups of C channels in all, and Z channels of hyper latents.

    `weights` and `biases` hold the layers of the exact networks one behind the other: those of the
    hyper synthesis, then three for each of the 2 G stages. `layers` has a row for each kernel: layer,
    side, inputs, outputs, and the layer's shift (-1: none).
    """

    bank: NDArray[np.uint16]  # (tables, alphabet); first those of the classes of scales
    hyper_index: NDArray[np.uint16]  # (100, Z): the tables of the hyper latents at each quality
    step: NDArray[np.float32]  # (100, C): quantization steps
    curvature: NDArray[np.float32]  # (C,): what a change of a latent adds to the squared error
    weight: NDArray[np.float32]  # (100,): bits that a unit of squared error is worth
    level: NDArray[np.uint8]  # (100,): what the networks are told of the quality
    groups: NDArray[np.uint16]  # (G,): channels of each
    companding: NDArray[
        np.uint8
    ]  # (N,): the activation of a latent of so many sixteenths of a step
    layers: NDArray[np.int32]  # (kernels, 5)
    weights: NDArray[np.int8]
    biases: NDArray[np.int32]
    reach: NDArray[
        np.uint8
    ]  # (2,): how many cells analysis and synthesis look beyond a cell's edges
    check: NDArray[np.int64]  # what `kinds.grid` computes from its test vector

    def __post_init__(self) -> None:
        """Raises ValueError when the arrays do not belong together; a file may be hostile."""
        Bank(self.bank)
        count = len(QUALITIES)
        for field in fields(self):
            array, dtype = getattr(self, field.name), _DTYPES[field.name]
            if array.dtype != dtype:
                raise ValueError(f"expected {field.name} as {dtype}, found {array.dtype}")
            if not np.isfinite(array).all():
                raise ValueError(f"expected finite values in {field.name}")
            flat = field.name in ("groups", "companding", "weights", "biases")
            if flat and array.ndim != 1:
                raise ValueError(f"expected {field.name} as a row, found {array.shape}")
        channels = int(self.groups.sum())
        shapes = {
            "step": (count, channels), "curvature": (channels,), "weight": (count,), "level": (count,),
            "reach": (2,),
        }  # fmt: skip
        for name, shape in shapes.items():
            if (found := getattr(self, name).shape) != shape:
                raise ValueError(f"expected {name} of shape {shape}, found {found}")
        index = self.hyper_index
        if index.ndim != 2 or len(index) != count or not 1 <= index.shape[1] <= MOST_CHANNELS:
            expected = f"hyper_index ({count}, 1 to {MOST_CHANNELS})"
            raise ValueError(f"expected {expected}, found {index.shape}")
        if index.max() >= len(self.bank):
            raise ValueError(f"expected table numbers below {len(self.bank)}, found {index.max()}")
        if not 1 <= channels <= MOST_CHANNELS or self.groups.min() < 1:
            raise ValueError(f"expected 1 to {MOST_CHANNELS} channels, found {channels}")
        if self.reach.max() > _MOST_REACH:
            raise ValueError(f"expected a reach of at most {_MOST_REACH} cells")
        if self.step.min() <= 0 or self.curvature.min() < 0 or self.weight.min() < 0:
            raise ValueError("expected steps above zero, curvature and weight of zero or more")
        if not 1 <= len(self.companding) <= 1 << 16:
            raise ValueError("expected a companding of 1 to 65,536 values")

    def hashes(self) -> dict[str, str]:
        """The `arrays.digest` of each array."""
        return {name: arrays.digest(array) for name, array in vars(self).items()}

    def to_npz(self) -> bytes:
        return arrays.npz_bytes(vars(self))

    @classmethod
    def from_npz(cls, file: BinaryIO, label: str) -> GridTables:
        """Raises ModelError when the file holds no such arrays."""
        found = arrays.read_npz(file, list(_DTYPES), label, ModelError, ARRAY_LIMIT)
        with translated(ModelError, "damaged", label, (ValueError, TypeError)):
            return cls(*map(arrays.native, found))


_DTYPES = {
    "bank": np.dtype(np.uint16), "hyper_index": np.dtype(np.uint16), "step": np.dtype(np.float32),
    "curvature": np.dtype(np.float32), "weight": np.dtype(np.float32), "level": np.dtype(np.uint8),
    "groups": np.dtype(np.uint16), "companding": np.dtype(np.uint8), "layers": np.dtype(np.int32),
    "weights": np.dtype(np.int8), "biases": np.dtype(np.int32), "reach": np.dtype(np.uint8),
    "check": np.dtype(np.int64),
}  # fmt: skip
