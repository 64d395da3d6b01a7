"""From the training set's latents to the bank: steps and integer frequency tables for all qualities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cvae.bank import QUALITIES, Bank
from cvae.quantizer import Latents, Quantizer
from cvae.tables import TOTAL, Symbols

DEFAULT_QUALITY = 50
MIN_RADIUS, MAX_RADIUS = 4, 127

# So many quality points halve the step: 1 to 100 spans a factor of 73.
_HALVING = 16
# An element shares another's table when that costs it at most so many bits a symbol.
_TOLERANCE = 0.005
# Weight of a smoothed copy of the counts: symbols next to seen ones are likelier than far ones.
_SMOOTHING = 0.02


def scales() -> NDArray[np.float32]:
    """Step sizes of the qualities 1 to 100 over those of the default quality, float32 (100,)."""
    quality = np.array(QUALITIES)
    return np.exp2((DEFAULT_QUALITY - quality) / _HALVING).astype(np.float32)


def calibrate(latents: Latents, step: NDArray[np.float32]) -> Bank:
    """Counts the symbols of the training set at every quality and merges alike tables.

    Args:
        latents: (images, elements) of the training set.
        step: (elements,) quantization steps at the default quality.
    """
    scale, offset = scales(), latents.mean(axis=0)
    radius = _radius(latents, Quantizer(step * scale[-1], offset))
    # The default quality comes first and so gets tables of its own.
    order = sorted(QUALITIES, key=lambda quality: abs(quality - DEFAULT_QUALITY))
    merger = _Merger(2 * radius + 2)
    index = np.empty((len(QUALITIES), latents.shape[1]), np.uint16)
    for quality in order:
        symbols = Quantizer(step * scale[quality - 1], offset).quantize(latents)
        tolerance = 0.0 if quality == DEFAULT_QUALITY else _TOLERANCE
        for element, counts in enumerate(count(symbols, radius)):
            index[quality - 1, element] = merger.add(to_frequencies(counts), tolerance)
    return Bank(merger.bank(), index, scale, step.astype(np.float32), offset.astype(np.float32))


def count(symbols: Symbols, radius: int) -> NDArray[np.int64]:
    """How often each entry of the alphabet occurs: (images, elements) -> (elements, 2 radius + 2)."""
    alphabet, elements = 2 * radius + 2, symbols.shape[1]
    entries = np.where(np.abs(symbols) > radius, alphabet - 1, symbols + radius)
    places = entries + alphabet * np.arange(elements)
    return np.bincount(places.ravel(), minlength=alphabet * elements).reshape(elements, alphabet)


def to_frequencies(counts: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Counts (alphabet,) -> frequencies of at least 1 that sum to 2^16."""
    spread = np.convolve(counts[:-1], [0.05, 0.2, 0.5, 0.2, 0.05], mode="same")
    weights = np.append((1 - _SMOOTHING) * counts[:-1] + _SMOOTHING * spread, counts[-1])
    frequencies = 1 + np.floor(weights / weights.sum() * (TOTAL - len(counts))).astype(np.int64)
    frequencies[np.argmax(frequencies)] += TOTAL - frequencies.sum()
    return np.asarray(frequencies, np.uint16)


def _radius(latents: Latents, finest: Quantizer) -> int:
    """The smallest radius that leaves one symbol in a thousand of the finest quality to the escape."""
    return int(
        np.clip(np.quantile(np.abs(finest.quantize(latents)), 0.999), MIN_RADIUS, MAX_RADIUS)
    )


class _Merger:
    """Collects tables, reusing an earlier one where that is nearly as good."""

    def __init__(self, alphabet: int) -> None:
        self._rows: list[NDArray[np.uint16]] = []
        self._bits = np.empty((0, alphabet))

    def add(self, frequencies: NDArray[np.uint16], tolerance: float) -> int:
        """The number of a table that costs at most `tolerance` bits a symbol more than this one."""
        p = frequencies / TOTAL
        bits = -np.log2(p)
        if self._rows:
            excess = self._bits[: len(self._rows)] @ p - p @ bits
            best = int(np.argmin(excess))
            if excess[best] <= tolerance:
                return best
        if len(self._rows) == len(self._bits):
            grown = np.empty((max(64, 2 * len(self._bits)), len(p)))
            grown[: len(self._bits)] = self._bits
            self._bits = grown
        self._bits[len(self._rows)] = bits
        self._rows.append(frequencies)
        return len(self._rows) - 1

    def bank(self) -> NDArray[np.uint16]:
        return np.stack(self._rows)
