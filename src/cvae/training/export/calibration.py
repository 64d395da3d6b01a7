"""The latents of the training set -> the bank: steps and frequency tables of all qualities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import TOTAL, Bank, Symbols
from cvae.models.qualities import QUALITIES, Latents, Qualities, Quantizer
from cvae.training.export.graph import Floats
from cvae.training.export.made import Say

# The symbols that the encoder's search chooses for the first so many training images, where each
# element has a table of its own.
Search = Callable[[int, Quantizer, Bank], Symbols]
Shares = NDArray[np.float64]  # (elements, alphabet), each row of the sum 1

DEFAULT_QUALITY = 50
MIN_RADIUS, MAX_RADIUS = 4, 127

# Quality points that halve the step: 1 to 100 spans a factor of 73.
_HALVING = 16
# An element shares another's table when that costs at most so many bits a symbol.
_TOLERANCE = 0.005
# Weight of a smoothed copy of the counts: symbols next to seen ones are likelier than far ones.
_SMOOTHING = 0.02

# Qualities that are searched; the shares of symbols are interpolated between them.
_SEARCHED = range(2, 101, 6)
# Training images that are searched there, at the default quality, and at least. Above `_VALUES`
# values an image, there are fewer, because their search takes longer.
_SEARCHED_IMAGES, _DEFAULT_IMAGES, _FEWEST_IMAGES = 2500, 10_000, 64
_VALUES = 3072
# The search depends on the tables, and they on the search.
_PASSES = 2
# Weight of plain rounding of all training images, in searched images: it counts the symbols that
# are too rare for a sample.
_PRIOR_IMAGES = 50
_CURVATURE_IMAGES = 128


def calibrate(
    latents: Latents, step: Floats, curvature: Floats, search: Search, values: int, say: Say
) -> Qualities:
    """Counts the symbols of every quality on the training set, and merges similar tables.

    Args:
        latents: (images, elements) of the training set.
        step: (elements,), of the default quality.
        curvature: (elements,), see `Qualities`.
        search: chooses symbols at the default effort.
        values: pixels times channels of an image.
        say: told of each quality, since all take minutes.
    """
    distance = DEFAULT_QUALITY - np.array(QUALITIES)
    scale, offset = np.exp2(distance / _HALVING).astype(np.float32), latents.mean(axis=0)
    quantizers = {quality: Quantizer(step * scale[quality - 1], offset) for quality in QUALITIES}
    # One symbol in a thousand of the finest quality is an escape.
    largest = np.quantile(np.abs(quantizers[QUALITIES[-1]].quantize(latents)), 0.999)
    radius = int(np.clip(largest, MIN_RADIUS, MAX_RADIUS))
    plain = {
        quality: _shares(quantizers[quality].quantize(latents), radius) for quality in QUALITIES
    }
    searched = {}
    for number, quality in enumerate(_SEARCHED, 1):
        most = _DEFAULT_IMAGES if quality == DEFAULT_QUALITY else _SEARCHED_IMAGES
        images = max(_FEWEST_IMAGES, round(most * min(1, _VALUES / values)))
        shares = plain[quality]
        for _ in range(_PASSES):
            bank = np.stack([to_frequencies(row) for row in _mix(plain[quality], shares)])
            shares = _shares(search(images, quantizers[quality], Bank(bank)), radius)
        searched[quality] = shares
        say(f"{number} of {len(_SEARCHED)} qualities counted")
    merger = Merger(2 * radius + 2)
    index = np.empty((len(QUALITIES), latents.shape[1]), np.uint16)
    # The default quality comes first and so gets tables of its own.
    for quality in sorted(QUALITIES, key=lambda quality: abs(quality - DEFAULT_QUALITY)):
        tolerance = 0.0 if quality == DEFAULT_QUALITY else _TOLERANCE
        for element, shares in enumerate(_mix(plain[quality], between(searched, quality))):
            index[quality - 1, element] = merger.add(to_frequencies(shares), tolerance)
    step, offset = step.astype(np.float32), offset.astype(np.float32)
    return Qualities(Bank(np.stack(merger.rows)), index, scale, step, offset, curvature)


def curvature(latents: Latents, step: Floats, synthesis: Callable[[Floats], Floats]) -> Floats:
    """The squared change of the pixels by one step of each element, over the step squared.

    Summed over pixels, averaged over some images: (elements,) float32.
    """
    sample = latents[:_CURVATURE_IMAGES]
    changes = []
    x_hat = synthesis(sample)
    for element in range(latents.shape[1]):
        moved = sample.copy()
        moved[:, element] += step[element]
        changes.append(np.square(synthesis(moved) - x_hat).sum() / len(sample))
    return (np.array(changes) / np.square(step)).astype(np.float32)


def _shares(symbols: Symbols, radius: int) -> Shares:
    """How often each table entry occurs among symbols (images, elements)."""
    alphabet, (images, elements) = 2 * radius + 2, symbols.shape
    entries = np.where(np.abs(symbols) > radius, alphabet - 1, symbols + radius)
    places = entries + alphabet * np.arange(elements)
    counts = np.bincount(places.ravel(), minlength=alphabet * elements)
    return np.asarray(counts.reshape(elements, alphabet) / images)


def _mix(plain: Shares, searched: Shares) -> Shares:
    weight = _PRIOR_IMAGES / (_PRIOR_IMAGES + _SEARCHED_IMAGES)
    return weight * plain + (1 - weight) * searched


def between(searched: dict[int, Shares], quality: int) -> Shares:
    """The shares at a quality, interpolated linearly between those that were searched."""
    low = max((q for q in searched if q <= quality), default=min(searched))
    high = min((q for q in searched if q >= quality), default=max(searched))
    weight = (quality - low) / (high - low) if high > low else 0.0
    return (1 - weight) * searched[low] + weight * searched[high]


def to_frequencies(counts: NDArray) -> NDArray[np.uint16]:
    """Counts or shares (alphabet,) -> frequencies of at least 1 that sum to 2^16."""
    spread = np.convolve(counts[:-1], [0.05, 0.2, 0.5, 0.2, 0.05], mode="same")
    weights = np.append((1 - _SMOOTHING) * counts[:-1] + _SMOOTHING * spread, counts[-1])
    frequencies = 1 + np.floor(weights / weights.sum() * (TOTAL - len(counts))).astype(np.int64)
    frequencies[np.argmax(frequencies)] += TOTAL - frequencies.sum()
    return np.asarray(frequencies, np.uint16)


class Merger:
    """Collects tables, and reuses earlier ones that are nearly as good."""

    def __init__(self, alphabet: int) -> None:
        self.rows: list[NDArray[np.uint16]] = []
        # As many as an index of uint16 reaches; memory that is not written to is not taken.
        self._bits = np.empty((1 << 16, alphabet))

    def add(self, frequencies: NDArray[np.uint16], tolerance: float) -> int:
        """The index of a table that costs at most `tolerance` bits a symbol more than this one."""
        p, count = frequencies / TOTAL, len(self.rows)
        bits = -np.log2(p)
        if count:
            excess = self._bits[:count] @ p - p @ bits
            best = int(np.argmin(excess))
            if excess[best] <= tolerance:
                return best
        self._bits[count] = bits
        self.rows.append(frequencies)
        return count
