"""The bitstream's half of a model: every quality's steps and frequency tables, as `tables.npz` holds them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.container import MAX_QUALITY, MIN_QUALITY
from cvae.bitstream.tables import Tables
from cvae.data import arrays
from cvae.errors import ModelError
from cvae.models.quantizer import Quantizer

QUALITIES = range(MIN_QUALITY, MAX_QUALITY + 1)
_TINY = np.finfo(np.float32).tiny
_ARRAY_LIMIT = 1 << 26  # bytes
ARRAYS = ["bank", "index", "scale", "step", "offset", "curvature"]


@dataclass(frozen=True, eq=False)
class Bank:
    """All that a quality changes; many latent elements of many qualities share one table.

    For K tables, an alphabet of S and d latent elements: `bank` (K, S) uint16 frequencies, `index`
    (100, d) uint16, `scale` (100,), `step` (d,), `offset` (d,) and `curvature` (d,) float32. The
    quantization step of an element is `step * scale[quality - 1]`; a change of it by u adds
    `curvature * u * u` to the squared error of the pixels, on average, which only the search asks for.
    """

    bank: NDArray[np.uint16]
    index: NDArray[np.uint16]
    scale: NDArray[np.float32]
    step: NDArray[np.float32]
    offset: NDArray[np.float32]
    curvature: NDArray[np.float32]
    _tables: dict[int, Tables] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Raises ValueError when the arrays do not belong together; a file may be hostile."""
        if self.index.ndim != 2 or len(self.index) != len(QUALITIES):
            raise ValueError(f"expected an index of shape (100, d), found {self.index.shape}")
        Tables(self.bank, self.index.reshape(-1))
        shapes = {"scale": len(QUALITIES), **dict.fromkeys(ARRAYS[3:], self.elements)}
        for name, length in shapes.items():
            array = getattr(self, name)
            if array.dtype != np.float32 or array.shape != (length,):
                raise ValueError(
                    f"expected {name} as float32 ({length},), found {array.dtype} {array.shape}"
                )
            if not np.isfinite(array).all():
                raise ValueError(f"expected finite values in {name}")
        smallest, largest = self.scale.min() * self.step.min(), self.scale.max() * self.step.max()
        if (
            self.curvature.min() < 0
            or not np.isfinite(self.curvature * np.square(self.scale.max() * self.step)).all()
        ):
            raise ValueError("expected a curvature of zero or more, and finite over a step")
        if self.scale.min() <= 0 or smallest < _TINY or not np.isfinite(largest):
            raise ValueError(f"expected steps above zero, found {smallest} to {largest}")

    @property
    def elements(self) -> int:
        """How many symbols an image has."""
        return int(self.index.shape[1])

    def tables(self, quality: int) -> Tables:
        """The frequency tables of a quality, 1 to 100."""
        if quality not in self._tables:
            self._tables[quality] = Tables(self.bank, self.index[quality - 1])
        return self._tables[quality]

    def quantizer(self, quality: int) -> Quantizer:
        """The steps of a quality, 1 to 100."""
        return Quantizer(self.step * self.scale[quality - 1], self.offset)

    def hashes(self) -> dict[str, str]:
        """sha256 over dtype, shape and values of each array; `.npz` bytes also hold time stamps."""
        digests = {}
        for name in ARRAYS:
            array = getattr(self, name)
            head = f"{array.dtype.str}{array.shape}".encode()
            digests[name] = hashlib.sha256(head + array.tobytes()).hexdigest()
        return digests

    def to_npz(self) -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{name: getattr(self, name) for name in ARRAYS})
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, file: Path | BinaryIO, label: str) -> Bank:
        """Raises ModelError when the file holds no such arrays."""
        values = arrays.read_npz(file, ARRAYS, label, ModelError, _ARRAY_LIMIT)
        try:
            return cls(*values)
        except (ValueError, TypeError) as error:
            raise ModelError(str(error), where=label) from error
