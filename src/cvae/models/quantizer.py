"""Latents <-> symbols: uniform quantization with one step and one offset a latent element."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import MAX_SYMBOL, Symbols

Latents = NDArray[np.float32]  # (images, elements)


@dataclass(frozen=True, eq=False)
class Quantizer:
    """`symbol = round((y - offset) / step)`; both arrays are float32, shape (elements,)."""

    step: NDArray[np.float32]
    offset: NDArray[np.float32]

    def quantize(self, latents: Latents) -> Symbols:
        """(images, elements) -> int32 of the same shape, half to even, kept within the format's range."""
        scaled = np.rint((latents - self.offset) / self.step)
        symbols: Symbols = np.clip(scaled, -MAX_SYMBOL, MAX_SYMBOL).astype(np.int32)
        return symbols

    def dequantize(self, symbols: Symbols) -> Latents:
        """(images, elements) -> the float32 latents that the symbols stand for."""
        return symbols.astype(np.float32) * self.step + self.offset
