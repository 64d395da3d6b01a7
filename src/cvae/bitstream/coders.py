"""What a kind of model sees of a coder: `push` and `pull`, stage by stage.

A stage is an array of symbols and an array of rows, which says which table of the bank each symbol
uses. The rows of a later stage may follow from the symbols of earlier ones.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import Bank, Rows, Symbols


class Encoder(Protocol):
    """Takes the symbols of one stage after another; `exact`, `rans` and `Meter` are such."""

    def push(self, rows: Rows, symbols: Symbols) -> None:
        """Symbols (images, k) and their tables, which broadcast. Raises ValueError at one out of range."""


class Decoder(Protocol):
    """Gives the symbols of one stage after another."""

    def pull(self, rows: Rows) -> Symbols:
        """Tables -> symbols of the same shape (images, k). Raises FormatError at damage."""

    def finish(self) -> None:
        """Raises FormatError unless all bytes were read, and are those that an encoder writes."""


class Both:
    """Gives what it takes to two encoders."""

    def __init__(self, first: Encoder, second: Encoder) -> None:
        self._encoders = first, second

    def push(self, rows: Rows, symbols: Symbols) -> None:
        for encoder in self._encoders:
            encoder.push(rows, symbols)


class Meter:
    """Adds up the information content of each image, instead of coding it."""

    def __init__(self, bank: Bank, images: int) -> None:
        self._bank = bank
        self.bits: NDArray[np.float64] = np.zeros(images)  # (images,)

    def push(self, rows: Rows, symbols: Symbols) -> None:
        self.bits += self._bank.bits(rows, symbols).sum(axis=1)
