"""The tables of a lossless model: window, trees and exact networks, as its `tables.npz` holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cvae.bitstream.tables import Bank
from cvae.models.stored import Stored

LEVELS = 256
_MOST_WINDOW = 16  # rows, and columns to each side


@dataclass(frozen=True, eq=False)
class LosslessTables(Stored):
    """Arrays of a lossless model for pictures of C channels."""

    bank: NDArray[np.uint16]  # (rows, 4): tables of one decision, the entries -1 and 2 of no use
    window: NDArray[
        np.uint8
    ]  # (3,): rows above, columns to each side, 1 where values are predicted
    companding: NDArray[np.uint8]  # (256,): the activation of a difference
    trees: NDArray[np.uint8]  # (C, 255): where ranges of values are split, breadth first
    # (h * w, outputs of the first layer): what the place adds to its sums; (0, outputs) for any size
    positions: NDArray[np.int32]
    layers: NDArray[np.int32]  # these three as in `GridTables`
    weights: NDArray[np.int8]
    biases: NDArray[np.int32]
    check: NDArray[np.int64]  # what `kinds.causal` computes from its test vector

    types: ClassVar[dict[str, DTypeLike]] = {
        "bank": np.uint16, "window": np.uint8, "companding": np.uint8, "trees": np.uint8,
        "positions": np.int32, "layers": np.int32, "weights": np.int8, "biases": np.int32,
        "check": np.int64,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Raises ValueError when the arrays do not belong together; a file may be hostile."""
        Bank(self.bank)
        self.check_types()
        for name in self.types:
            if (found := getattr(self, name)).ndim != _AXES.get(name, 1):
                raise ValueError(f"unexpected shape {found.shape} of {name}")
        if self.bank.shape[1] != 4 or len(self.bank) % 2 or len(self.bank) > 1 << 16:
            raise ValueError(f"expected tables of one decision, found {self.bank.shape}")
        if self.window.shape != (3,) or not self.window[:2].min() >= 1:
            raise ValueError(f"expected a window of three numbers, found {self.window.shape}")
        if self.window[:2].max() > _MOST_WINDOW or self.window[2] > 1:
            raise ValueError(f"expected a window of at most {_MOST_WINDOW} rows and columns")
        if self.companding.shape != (LEVELS,) or self.companding[0]:
            raise ValueError(f"expected a companding of {LEVELS} values that begins with 0")
        if self.trees.shape not in ((1, LEVELS - 1), (3, LEVELS - 1)):
            raise ValueError(f"expected trees of {LEVELS - 1} nodes, found {self.trees.shape}")


_AXES = {"bank": 2, "trees": 2, "positions": 2, "layers": 2}
