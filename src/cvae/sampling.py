"""Pictures that no image was encoded for: from a model's distribution of latents, and between two images."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cvae.codec import Codec
from cvae.data.images import Pixels
from cvae.errors import ModelKindError
from cvae.kinds.fixed import has_normal_latents
from cvae.kinds.lossless import LosslessCoding
from cvae.models.qualities import Latents, Qualities

# So many pictures, and at most so many bytes of floats, are in memory at once.
_BATCH, _BATCH_BYTES = 256, 1 << 26


def has_prior(codec: Codec) -> bool:
    """Whether the model is a VAE, whose latents are drawn from N(0, I)."""
    return has_normal_latents(codec.model.manifest)


def check_latents(codec: Codec) -> None:
    """Raises ModelKindError when there is nothing between the latents of two images."""
    check_one_size(codec)
    if codec.lossless:
        raise ModelKindError(f"model {codec.name} is lossless: its latents are the pixels")


def check_one_size(codec: Codec) -> None:
    """Raises ModelKindError when the model takes images of any size: its latents say no size."""
    if codec.any_size:
        text = f"expected a model of images of one size, found {codec.name}, which takes any"
        raise ModelKindError(text, advice="name one of one size, such as mnist")


def sample(codec: Codec, count: int, seed: int) -> Pixels:
    """Draws images from a model: uint8 (count, h, w, c).

    The latents of a VAE come from its prior, N(0, I). Elsewhere every symbol is drawn independently
    from its frequency table at the default quality, which was fitted to the training images. A lossless
    model draws pixel by pixel, each after those before it. The same seed, 0 or more, gives the same
    images.

    Raises:
        ModelKindError: the model takes images of any size.
        ModelError: the model file is damaged.
    """
    return np.concatenate(list(sample_batches(codec, count, seed)))


def sample_batches(codec: Codec, count: int, seed: int) -> Iterator[Pixels]:
    """The images of `sample` in batches (n, h, w, c) that fit into memory."""
    check_one_size(codec)
    rng, prior, coding = np.random.default_rng(seed), has_prior(codec), codec.coding
    for batch in _batches(codec, count):
        if isinstance(coding, LosslessCoding):
            yield coding.draw(len(batch), rng)
            continue
        size = (len(batch), codec.coding.elements)
        latents = (
            rng.standard_normal(size, np.float32) if prior else _drawn(codec, rng.random(size))
        )
        yield codec.to_pixels(latents)


def interpolate_batches(codec: Codec, start: Latents, end: Latents, count: int) -> Iterator[Pixels]:
    """Pictures evenly between two images, given by their latents (elements,), see `Codec.latents`.

    Returns:
        Batches uint8 (n, h, w, c): `count` pictures, 2 or more, both ends included.

    Raises:
        ModelError: the model file is damaged.
    """
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


def _drawn(codec: Codec, numbers: NDArray[np.float64]) -> Latents:
    """Latents by the frequency tables, from uniform numbers of [0, 1): (n, elements) each."""
    quality, qualities = codec.quality(None), codec.model.qualities
    rows = qualities.rows(quality)
    symbols = np.empty(numbers.shape, np.int32)
    for row in np.unique(rows):
        here = rows == row
        ends = _counts(qualities, int(row)).cumsum()
        entries = np.searchsorted(ends, numbers[:, here] * ends[-1], side="right")
        symbols[:, here] = entries - qualities.bank.radius
    return codec.coding.dequantize(symbols, quality)


def _counts(qualities: Qualities, row: int) -> NDArray[np.int64]:
    """How often the symbols -radius .. radius were counted, as a table has it.

    Each entry has 1 more, which only makes it codable. Drawn from those, every second image would hold
    a latent as no training image has, and be noise. The escape stands for no one symbol.
    """
    bank = qualities.bank
    counts = bank.table[row, : bank.escape].astype(np.int64) - 1
    if not counts.any():
        counts[bank.radius] = 1
    return counts
