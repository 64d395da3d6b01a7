"""The steps and frequency tables of every quality, as a model's `tables.npz` holds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.container import MAX_QUALITY, MIN_QUALITY
from cvae.bitstream.tables import MAX_SYMBOL, Bank, Symbols
from cvae.data import arrays
from cvae.errors import ModelError, translated

QUALITIES = range(MIN_QUALITY, MAX_QUALITY + 1)
_TINY = np.finfo(np.float32).tiny
ARRAY_LIMIT = 1 << 23  # bytes
ARRAYS = ["bank", "index", "scale", "step", "offset", "curvature"]

Latents = NDArray[np.float32]  # (images, elements)


@dataclass(frozen=True, eq=False)
class Quantizer:
    """`symbol = round((y - offset) / step)`; both arrays are float32 (elements,)."""

    step: NDArray[np.float32]
    offset: NDArray[np.float32]

    def quantize(self, latents: Latents) -> Symbols:
        """(images, elements) -> int32 of the same shape, half to even, clipped to the format's range."""
        scaled = np.rint((latents - self.offset) / self.step)
        symbols: Symbols = scaled.clip(-MAX_SYMBOL, MAX_SYMBOL).astype(np.int32)
        return symbols

    def dequantize(self, symbols: Symbols) -> Latents:
        """(images, elements) -> the float32 latents that the symbols stand for."""
        return symbols.astype(np.float32) * self.step + self.offset


@dataclass(frozen=True, eq=False)
class Qualities:
    """All that a quality changes, for d latent elements; elements and qualities share tables.

    The quantization step of an element is `step * scale[quality - 1]`. A change of a latent by u
    adds `curvature * u * u` to the squared error of the pixels, on average; only the search uses it.
    """

    bank: Bank
    index: NDArray[np.uint16]  # (100, d)
    scale: NDArray[np.float32]  # (100,)
    step: NDArray[np.float32]  # (d,)
    offset: NDArray[np.float32]  # (d,)
    curvature: NDArray[np.float32]  # (d,)

    def __post_init__(self) -> None:
        """Raises ValueError when the arrays do not belong together; a file may be hostile."""
        index, count = self.index, len(QUALITIES)
        if index.ndim != 2 or not index.size:
            raise ValueError(f"expected an index ({count}, d), found {index.shape}")
        shapes = {"index": (count, self.elements), "scale": (count,)}
        for name in ARRAYS[1:]:
            array, shape = getattr(self, name), shapes.get(name, (self.elements,))
            dtype = np.dtype(np.uint16 if name == "index" else np.float32)
            if (array.dtype, array.shape) != (dtype, shape):
                found = f"{array.dtype} {array.shape}"
                raise ValueError(f"expected {name} as {dtype} {shape}, found {found}")
            if not np.isfinite(array).all():
                raise ValueError(f"expected finite values in {name}")
        if index.max() >= len(self.bank):
            raise ValueError(f"expected table numbers below {len(self.bank)}, found {index.max()}")
        smallest, largest = self.scale.min() * self.step.min(), self.scale.max() * self.step.max()
        errors = self.curvature * np.square(self.scale.max() * self.step)
        if self.curvature.min() < 0 or not np.isfinite(errors).all():
            raise ValueError("expected a curvature of zero or more, and finite over a step")
        if self.scale.min() <= 0 or smallest < _TINY or not np.isfinite(largest):
            raise ValueError(f"expected steps above zero, found {smallest} to {largest}")

    @property
    def elements(self) -> int:
        """How many symbols an image has."""
        return int(self.index.shape[1])

    def rows(self, quality: int) -> NDArray[np.int64]:
        """The table of each element at a quality from 1 to 100: (elements,)."""
        return np.asarray(self.index[quality - 1], np.int64)

    def quantizer(self, quality: int) -> Quantizer:
        """The steps of a quality from 1 to 100."""
        return Quantizer(self.step * self.scale[quality - 1], self.offset)

    def _arrays(self) -> dict[str, NDArray]:
        return {name: getattr(self, name) for name in ARRAYS} | {"bank": self.bank.table}

    def hashes(self) -> dict[str, str]:
        """The `arrays.digest` of each array."""
        return {name: arrays.digest(array) for name, array in self._arrays().items()}

    def to_npz(self) -> bytes:
        return arrays.npz_bytes(self._arrays())

    @classmethod
    def from_npz(cls, file: Path | BinaryIO, label: str) -> Qualities:
        """Raises ModelError when the file holds no such arrays."""
        found = arrays.read_npz(file, ARRAYS, label, ModelError, ARRAY_LIMIT)
        bank, *others = map(arrays.native, found)
        with translated(ModelError, "damaged", label, (ValueError, TypeError)):
            return cls(Bank(bank), *others)
