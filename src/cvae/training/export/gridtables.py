"""The tables of a grid: steps, test vector, and frequencies counted on training pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import TOTAL
from cvae.data.images import Pixels
from cvae.kinds.context import CLASSES, FINENESS, SKIPPED, Entropy
from cvae.kinds.exactnet import MOST
from cvae.kinds.grid import GridCoding
from cvae.models.grids import GridTables
from cvae.models.networks import Network
from cvae.models.qualities import QUALITIES
from cvae.options import DEFAULT_EFFORT
from cvae.training.export.calibration import Merger, between
from cvae.training.export.graph import Floats
from cvae.training.export.gridgraphs import exact_arrays
from cvae.training.export.made import Say
from cvae.training.networks import exact, grid

_LEVELS = 255
RADIUS = 255
_USUAL_TABLE = 20  # of the hyper latents, before they were counted
# Qualities at which symbols are counted, and what the model's own distributions weigh in symbols.
_COUNTED = (3, 20, 35, 50, 65, 80, 98)
_PRIOR = 30.0
# A hyper latent shares another's table where that costs at most so many bits a symbol.
_TOLERANCE = 0.01

Counts = NDArray[np.float64]


def counted(
    first: GridTables, pictures: Sequence[Pixels], coding_of: Callable[[GridTables], GridCoding],
    say: Say,
) -> GridTables:  # fmt: skip
    """Tables whose frequencies are counted on pictures, uint8 (h, w, 3) of any sizes.

    `coding_of` makes a coding with given tables. Symbols are searched at the default effort in the
    last pass, with the tables of the one before.
    """
    tables, efforts = first, (1, DEFAULT_EFFORT)
    for turn, effort in enumerate(efforts):
        coding = coding_of(tables)
        classes = np.zeros((CLASSES, 2 * RADIUS + 2))
        hyper = {}
        for number, quality in enumerate(_COUNTED, 1 + turn * len(_COUNTED)):
            seen = np.zeros((coding.entropy.hyper_channels, 2 * RADIUS + 2))
            for picture in pictures:
                _count(coding.sized(*picture.shape[:2]), picture, quality, effort, (classes, seen))
            hyper[quality] = seen
            say(f"{number} of {len(efforts) * len(_COUNTED)} counts done")
        tables = _with_counts(tables, classes, hyper)
    return tables


def _count(
    coding: GridCoding, picture: Pixels, quality: int, effort: int, counts: tuple[Counts, Counts]
) -> None:
    x = picture[np.newaxis]
    symbols = coding.choose(x, coding.analyse(x), quality, effort)
    classes, hyper = counts
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
    prior = first_bank(RADIUS).astype(np.float64)
    prior /= prior.sum(axis=1, keepdims=True)
    rows = [frequencies(row + _PRIOR * p) for row, p in zip(classes, prior, strict=True)]
    merger = Merger(2 * RADIUS + 2)
    merger.rows.extend(rows)
    shares = {quality: _smooth(counts) for quality, counts in hyper.items()}
    index = np.empty(tables.hyper_index.shape, np.uint16)
    for quality in QUALITIES:
        for channel, p in enumerate(between(shares, quality)):
            index[quality - 1, channel] = merger.add(frequencies(p), _TOLERANCE)
    arrays = {**vars(tables), "bank": np.stack(merger.rows), "hyper_index": index}
    return GridTables(**arrays)


def _smooth(counts: Counts) -> Counts:
    """Counts -> shares, each channel's with a logistic distribution of its own spread mixed in."""
    symbols = np.arange(-RADIUS, RADIUS + 1)
    shares = np.empty_like(counts)
    for channel, row in enumerate(counts):
        total = max(row.sum(), 1.0)
        mean = float(row[:-1] @ symbols) / total
        spread = np.sqrt(float(row[:-1] @ np.square(symbols - mean)) / total + 0.05)
        prior = logistic(mean, spread * np.sqrt(3) / np.pi, RADIUS)
        shares[channel] = (row + _PRIOR * prior) / (total + _PRIOR)
    return shares


def first(model: Any, curvature: Floats, reach: Sequence[int]) -> GridTables:
    """The tables of a prepared model before symbols were counted, with their test vector."""
    level = np.rint(np.linspace(0, _LEVELS, len(QUALITIES)))
    share = level / _LEVELS
    steps = np.asarray(model.steps(share.astype(np.float32)))[:, 0, 0]
    # The loss weighs the mean over three channels of squared errors of 8-bit levels.
    weight = grid.lagrangian(share) * 255**2 / grid.CHANNELS
    sixteenths = np.arange(1 << 14) / FINENESS
    companding = np.minimum(np.rint(exact.SLOPE * np.arcsinh(sixteenths / exact.WIDTH)), MOST)
    arrays: dict[str, Any] = {
        "bank": first_bank(RADIUS),
        "hyper_index": np.full((len(QUALITIES), model.sizes.hyper), _USUAL_TABLE, np.uint16),
        "step": steps.astype(np.float32),
        "curvature": curvature.astype(np.float32),
        "weight": weight.astype(np.float32),
        "level": level.astype(np.uint8),
        "groups": np.array(model.sizes.groups, np.uint16),
        "companding": companding.astype(np.uint8),
        **exact_arrays(model),
        "reach": np.array(reach, np.uint8),
    }
    untested = GridTables(**arrays, check=np.zeros((0, 2), np.int64))
    return GridTables(**arrays, check=Entropy(untested).check())


def first_bank(radius: int) -> NDArray[np.uint16]:
    """A table for each class: logistic distributions, before symbols were counted."""
    ratio = np.log(grid.SCALE_MOST / grid.SCALE_LEAST) / (CLASSES - 1)
    scale = grid.SCALE_LEAST * np.exp(ratio * np.arange(CLASSES)) * np.sqrt(3) / np.pi
    return np.stack([frequencies(logistic(0.0, s, radius)) for s in scale])


def logistic(location: float, scale: float, radius: int) -> NDArray[np.float64]:
    """Probabilities of -radius .. radius, then of all beyond."""
    edges = np.arange(-radius, radius + 2) - 0.5 - location
    below = 0.5 * (1 + np.tanh(edges / scale / 2))
    inside = np.diff(below)
    return np.append(inside, max(1 - inside.sum(), 0))


def frequencies(p: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Probabilities, or counts -> frequencies of at least 1 that sum to 2^16."""
    whole = 1 + np.floor(p / p.sum() * (TOTAL - len(p))).astype(np.int64)
    whole[np.argmax(whole)] += TOTAL - whole.sum()
    return np.asarray(whole, np.uint16)


def curvature(synthesis: Network, latents: Floats, step: Floats) -> Floats:
    """What a change of each latent adds to the squared error, over its square: (c,).

    `latents` (n, h, w, c + 1) have the level as their last channel, `step` is (c,). All latents of a
    channel change by a step at once, with random signs, so that what they add together cancels.
    """
    rng = np.random.default_rng(0)
    before = synthesis(latents)
    found = np.empty(len(step), np.float32)
    for channel in range(len(step)):
        signs = rng.choice(np.array([-1, 1], np.float32), latents.shape[:3])
        moved = latents.copy()
        moved[..., channel] += signs * step[channel]
        change = np.square(synthesis(moved) - before).sum(dtype=np.float64)
        found[channel] = change / (signs.size * step[channel] ** 2)
    return found
