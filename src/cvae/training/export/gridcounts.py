"""Counted tables of a grid: what its symbols are on training pictures, quality by quality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.data.images import Pixels
from cvae.kinds.context import CLASSES, FINENESS, SKIPPED
from cvae.kinds.grid import GridCoding
from cvae.models.grids import GridTables
from cvae.models.qualities import QUALITIES
from cvae.options import DEFAULT_EFFORT
from cvae.training.export import calibration
from cvae.training.export import grid as export

RADIUS = 255
HYPER_RADIUS = RADIUS  # one bank holds both
# Qualities at which symbols are counted, and what the model's own distributions weigh in symbols.
_COUNTED = (3, 15, 27, 39, 50, 62, 74, 86, 98)
_PRIOR = 30.0
_PASSES = 2
# A hyper latent shares another's table where that costs at most so many bits a symbol.
_TOLERANCE = 0.01

Counts = NDArray[np.float64]


def counted(
    first: GridTables, pictures: Sequence[Pixels], coding_of: Callable[[GridTables], GridCoding]
) -> GridTables:
    """Tables whose frequencies are counted on pictures, uint8 (h, w, 3) of any sizes.

    `coding_of` makes a coding with given tables. Symbols are searched at the default effort, with
    the tables of the pass before.
    """
    tables = first
    for _ in range(_PASSES):
        coding = coding_of(tables)
        classes = np.zeros((CLASSES, 2 * RADIUS + 2))
        hyper = {}
        for quality in _COUNTED:
            seen = np.zeros((coding.entropy.hyper_channels, 2 * RADIUS + 2))
            for picture in pictures:
                _count(coding.sized(*picture.shape[:2]), picture, quality, classes, seen)
            hyper[quality] = seen
        tables = _with_counts(tables, classes, hyper)
    return tables


def _count(
    coding: GridCoding, picture: Pixels, quality: int, classes: Counts, hyper: Counts
) -> None:
    x = picture[np.newaxis]
    symbols = coding.choose(x, coding.analyse(x), quality, DEFAULT_EFFORT)
    z, values = coding.parts(symbols)
    passing = coding.passing(z, quality)
    for stage in range(coding.entropy.stages):
        mean, rows = passing.parameters(stage)
        value = passing.at(stage, values)
        _add(classes, rows[rows != SKIPPED], ((value - mean) // FINENESS)[rows != SKIPPED])
        passing.put(stage, value)
    channels = np.broadcast_to(np.arange(z.shape[3]), z.shape)
    _add(hyper, channels.ravel(), z.ravel())


def _add(counts: Counts, rows: NDArray[Any], symbols: NDArray[Any]) -> None:
    entries = np.where(np.abs(symbols) > RADIUS, 2 * RADIUS + 1, symbols + RADIUS)
    places = rows.astype(np.int64) * counts.shape[1] + entries
    counts += np.bincount(places, minlength=counts.size).reshape(counts.shape)


def _with_counts(tables: GridTables, classes: Counts, hyper: dict[int, Counts]) -> GridTables:
    prior = export.first_bank(RADIUS).astype(np.float64)
    prior /= prior.sum(axis=1, keepdims=True)
    rows = [export.frequencies(row + _PRIOR * p) for row, p in zip(classes, prior, strict=True)]
    merger = calibration.Merger(2 * RADIUS + 2)
    merger.rows.extend(rows)
    shares = {quality: _smooth(counts) for quality, counts in hyper.items()}
    index = np.empty(tables.hyper_index.shape, np.uint16)
    for quality in QUALITIES:
        between = calibration.between(shares, quality)
        for channel, p in enumerate(between):
            found = merger.add(export.frequencies(p), _TOLERANCE) if quality else 0
            index[quality - 1, channel] = found
    arrays = {**vars(tables), "bank": np.stack(merger.rows), "hyper_index": index}
    arrays.pop("check")
    untested = GridTables(**arrays, check=tables.check)
    return untested


def _smooth(counts: Counts) -> Counts:
    """Counts -> shares, each channel's with a logistic distribution of its own spread mixed in."""
    symbols = np.arange(-RADIUS, RADIUS + 1)
    shares = np.empty_like(counts)
    for channel, row in enumerate(counts):
        total = max(row.sum(), 1.0)
        mean = float(row[:-1] @ symbols) / total
        spread = np.sqrt(float(row[:-1] @ np.square(symbols - mean)) / total + 0.05)
        prior = export.logistic(mean, spread * np.sqrt(3) / np.pi, RADIUS)
        shares[channel] = (row + _PRIOR * prior) / (total + _PRIOR)
    return shares
