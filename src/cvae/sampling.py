"""Pictures that no image was encoded for: from a model's distribution of latents, and between two images."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cvae.codec import Codec
from cvae.data.images import Pixels
from cvae.kinds.fixed import has_normal_latents
from cvae.models.qualities import Latents, Qualities

# So many pictures, and at most so many bytes of floats, are in memory at once.
_BATCH, _BATCH_BYTES = 256, 1 << 26


def has_prior(codec: Codec) -> bool:
    """Whether the model is a VAE, whose latents are drawn from N(0, I); see `sample`."""
    return has_normal_latents(codec.model.manifest)


def sample(codec: Codec, count: int, seed: int) -> Pixels:
    """Draws images from a model: uint8 (count, h, w, c).

    The latents of a VAE come from its prior, N(0, I). Other models have no prior; there every symbol
    is drawn independently from its element's frequency table at the default quality, which is the
    distribution that was fitted to the latents of the training images.

    Args:
        codec: what to draw from.
        count: how many, 1 or more.
        seed: 0 or more; the same one gives the same images.

    Raises:
        ModelError: the model file is damaged.
    """
    return np.concatenate(list(sample_batches(codec, count, seed)))


def sample_batches(codec: Codec, count: int, seed: int) -> Iterator[Pixels]:
    """The images of `sample` in batches (n, h, w, c) that fit into memory however many there are."""
    rng = np.random.default_rng(seed)
    draw = _from_prior if has_prior(codec) else _from_tables
    for batch in _batches(codec, count):
        yield codec.to_pixels(draw(codec, len(batch), rng))


def interpolate(codec: Codec, start: Latents, end: Latents, count: int) -> Pixels:
    """Pictures evenly between two images: uint8 (count, h, w, c).

    Args:
        codec: whose latents they are.
        start: latents (elements,) of the first picture, see `Codec.latents`.
        end: those of the last one.
        count: how many pictures, both ends included, 2 or more.

    Raises:
        ModelError: the model file is damaged.
    """
    return np.concatenate(list(interpolate_batches(codec, start, end, count)))


def interpolate_batches(codec: Codec, start: Latents, end: Latents, count: int) -> Iterator[Pixels]:
    """The pictures of `interpolate` in batches (n, h, w, c)."""
    for batch in _batches(codec, count):
        weight = (np.array(batch, np.float32) / np.float32(count - 1))[:, np.newaxis]
        yield codec.to_pixels((1 - weight) * start + weight * end)


def _batches(codec: Codec, count: int) -> Iterator[range]:
    """The numbers of all pictures, in parts."""
    manifest = codec.model.manifest
    item_bytes = 4 * max(math.prod(manifest.image_shape), manifest.elements)
    size = max(1, min(_BATCH, _BATCH_BYTES // item_bytes))
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


def _from_prior(codec: Codec, count: int, rng: np.random.Generator) -> Latents:
    latents: Latents = rng.standard_normal((count, codec.model.manifest.elements), np.float32)
    return latents


def _from_tables(codec: Codec, count: int, rng: np.random.Generator) -> Latents:
    quality, qualities = codec.quality(None), codec.model.qualities
    rows, radius = qualities.rows(quality), qualities.bank.radius
    numbers = rng.random((count, qualities.elements))
    symbols = np.empty(numbers.shape, np.int32)
    for row in np.unique(rows):
        here = rows == row
        ends = _shares(qualities, int(row)).cumsum()
        # The entry whose part of 0 .. 1 a number falls into.
        entries = np.searchsorted(ends, numbers[:, here] * ends[-1], side="right")
        symbols[:, here] = entries - radius
    return codec.coding.dequantize(symbols, quality)


def _shares(qualities: Qualities, row: int) -> NDArray[np.int64]:
    """How often the symbols -radius .. radius were counted, as a table has it.

    Each entry has 1 for nothing, which only makes it codable. Drawn from those, every second image
    would hold a latent as no training image has, and be noise. The escape stands for no one symbol.
    """
    bank = qualities.bank
    shares: NDArray[np.int64] = bank.frequencies[row, : bank.escape] - 1
    if not shares.any():
        shares[bank.radius] = 1
    return shares
