"""Noise out of images: of any size through a denoiser, of one size through a codec.

A denoiser takes a large image in tiles. Each is as much larger than what is kept of it as the
network looks around (`reach`), so the tiles join without a seam; and few are computed at once, so
that what the network needs of memory does not grow with the image.

A codec that was trained on noise has a network for it; of any other it is analysis and synthesis.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cvae import kinds
from cvae.data import images, pipeline
from cvae.data.images import Pixels
from cvae.errors import ImageShapeError, ModelError, ModelKindError
from cvae.kinds.base import Cleaner
from cvae.models import registry
from cvae.models.file import REACH_LIMIT, Manifest, Model
from cvae.models.networks import Network

# The side of a tile. Through a U-Net of 32, 64 and 128 channels one takes some 130 MB, four times as
# much at twice the side; as many are computed at once as there are processors.
TILE = 512


def denoise(model: Model, pixels: Pixels, tile: int = TILE) -> Pixels:
    """Images with less noise: uint8 (n, h, w, c) -> the same shape.

    A denoiser takes any height and width, a codec its own. One that was trained on noise has a
    network for it; of any other it is what the synthesis makes of the analysis, nothing quantized.

    Args:
        model: of either kind.
        pixels: the images.
        tile: the least side of the tiles that a denoiser takes larger images in.

    Raises:
        ImageShapeError: the model takes another size or number of channels.
        ModelError: the model cannot be read, or fails.
    """
    manifest = model.manifest
    shape, kind = manifest.image_shape, kinds.of(manifest, model.path)
    cleaner = kind.cleaner(model)
    if pixels.shape[3] != shape[2] or not (kind.any_size or pixels.shape[1:] == shape):
        raise ImageShapeError(
            f"{manifest.name} denoises {kind.describe(manifest)}, "
            f"found {pixels.shape[2]}x{pixels.shape[1]} of {pixels.shape[3]} channels"
        )
    if kind.any_size:
        return _tiled(cleaner, pixels, tile)
    return images.as_pixels(cleaner.network(images.as_floats(pixels)))


def check(manifest: Manifest) -> None:
    """Raises ModelKindError, which names the models that denoise, when this one does not."""
    if not kinds.of(manifest).denoises(manifest):
        raise ModelKindError(f"{manifest.name} was not trained on noisy images; {denoisers()}")


def denoisers() -> str:
    """What messages say of the models on the search path that denoise, or of how to get one."""
    known = [(m, kinds.of(m)) for _, m in kinds.known_models()[0]]
    names = [f"{m.name} ({kind.describe(m)})" for m, kind in known if kind.denoises(m)]
    none = (
        "none found; `cvae train photo-dae --data FOLDER` makes one, and "
        f"{registry.SEARCH_PATH} says where others lie"
    )
    return f"models that denoise: {', '.join(names) or none}"


def default(size: tuple[int, int], mode: str) -> str:
    """The name of the model for an image of that (width, height) and Pillow's mode."""
    return "fashion-dae" if size == (28, 28) and mode in ("1", "L") else "photo-dae"


class Window(NamedTuple):
    """One tile along one axis: from `start` to `stop`, of which a part is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def windows(length: int, tile: int, reach: int) -> list[Window]:
    """Tiles of one size that cover an axis; where one joins another, `reach` is left out of both.

    With all three multiples of a number, so is every place in the result.
    """
    tile = max(tile, 4 * reach)
    if length <= tile:
        return [Window(0, length, 0, length)]
    # The last one ends where the image does; it may overlap more.
    starts = [*range(0, length - tile, tile - 2 * reach), length - tile]
    edges = [0, *(start + reach for start in starts[1:]), length]
    return [Window(start, start + tile, *edges[i : i + 2]) for i, start in enumerate(starts)]


def _tiled(cleaner: Cleaner, pixels: Pixels, tile: int) -> Pixels:
    if not pixels.size:
        return pixels.copy()
    multiple, reach = cleaner.multiple, cleaner.reach
    count, height, width = pixels.shape[:3]
    padding = [(0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)]
    padded = np.pad(pixels, padding, "reflect")  # which repeats the edge of a single pixel
    tile += -tile % multiple
    columns = windows(padded.shape[2], tile, reach)
    result = np.empty_like(padded)
    for row in windows(padded.shape[1], tile, reach):
        strip = padded[:, row.start : row.stop]
        for group in _groups(columns, strip.shape, max(tile, 4 * reach)):
            tiles = np.concatenate([strip[:, :, column.start : column.stop] for column in group])
            clean = images.as_pixels(cleaner.network(images.as_floats(tiles)))
            for column, part in zip(group, clean.reshape(-1, count, *clean.shape[1:]), strict=True):
                kept = part[
                    :,
                    row.keep_start - row.start : row.keep_stop - row.start,
                    column.keep_start - column.start : column.keep_stop - column.start,
                ]
                into = result[:, row.keep_start : row.keep_stop]
                into[:, :, column.keep_start : column.keep_stop] = kept
    return result[:, :height, :width]


def _groups(columns: list[Window], strip: tuple[int, ...], side: int) -> list[list[Window]]:
    """The tiles of a strip (n, h, w, c) that are computed together: one a processor.

    Of a strip that is lower than `side`, as many more as make up for it; at least one.
    """
    pixels = strip[0] * strip[1] * (columns[0].stop - columns[0].start)
    size = max(1, pipeline.processors() * side**2 // pixels)
    return [columns[start : start + size] for start in range(0, len(columns), size)]


def find_reach(network: Network, channels: int, multiple: int) -> int:
    """How far a denoiser looks: what a manifest says as `reach`, found by changing one cell.

    Args:
        network: the denoiser.
        channels: of its images.
        multiple: what its sides are multiples of.

    Returns:
        How far, in pixels and a multiple of `multiple`, the change of a cell of multiple x multiple
        pixels shows beyond its edges; by symmetry also how far a cell of the result looks.

    Raises:
        ModelError: it shows further than a manifest allows: there are no tiles for the network.
    """
    rng = np.random.default_rng(0)
    cells = 8
    furthest = 0
    while furthest * multiple <= REACH_LIMIT:
        side = (2 * cells + 1) * multiple
        cell = slice(cells * multiple, (cells + 1) * multiple)
        x = rng.random((4, side, side, channels), np.float32)
        changed = x.copy()
        changed[:, cell, cell] = 1 - changed[:, cell, cell]
        differs = (network(x) != network(changed)).any(axis=(0, 3))
        places = np.argwhere(differs)
        furthest = int(np.abs(places // multiple - cells).max(initial=0))
        if furthest < cells and furthest * multiple <= REACH_LIMIT:
            return furthest * multiple
        cells *= 2
    raise ModelError(
        f"expected a denoiser that looks at most {REACH_LIMIT} pixels around, found one that looks further"
    )
