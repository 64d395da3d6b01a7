"""The tables of a grid model: steps, frequency tables and exact networks, as its `tables.npz` holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cvae.bitstream.tables import Bank
from cvae.models.qualities import QUALITIES
from cvae.models.stored import Stored

MOST_CHANNELS = 1024
_MOST_REACH = 16  # cells; tiles, and so memory, grow with it


@dataclass(frozen=True, eq=False)
class GridTables(Stored):
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

    types: ClassVar[dict[str, DTypeLike]] = {
        "bank": np.uint16, "hyper_index": np.uint16, "step": np.float32, "curvature": np.float32,
        "weight": np.float32, "level": np.uint8, "groups": np.uint16, "companding": np.uint8,
        "layers": np.int32, "weights": np.int8, "biases": np.int32, "reach": np.uint8,
        "check": np.int64,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Raises ValueError when the arrays do not belong together; a file may be hostile."""
        Bank(self.bank)
        self.check_types()
        count = len(QUALITIES)
        for name in self.types:
            array = getattr(self, name)
            if not np.isfinite(array).all():
                raise ValueError(f"expected finite values in {name}")
            if name in ("groups", "companding", "weights", "biases") and array.ndim != 1:
                raise ValueError(f"expected {name} as a row, found {array.shape}")
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
