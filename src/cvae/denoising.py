"""Noise out of images: of any size through a denoiser, of one size through a codec.

A denoiser takes a large image in tiles. Each overlaps its neighbours by the network's `reach`, so tiles
join without a seam. Few are computed at once, so memory does not grow with the image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvae import kinds
from cvae.codec import Codec
from cvae.data import images, pipeline
from cvae.data.images import Pixels
from cvae.data.reading import Reading
from cvae.data.windows import windows
from cvae.errors import ImageShapeError, ModelError, ModelKindError
from cvae.kinds.base import Cleaner
from cvae.models import registry
from cvae.models.file import REACH_LIMIT, Manifest, Model
from cvae.models.networks import Network
from cvae.models.recorded import recorded_reading

# The side of a tile. Through a U-Net of 32, 64 and 128 channels one takes some 130 MB, four times as
# much at twice the side; as many are computed at once as there are processors.
TILE = 512
_SMALL = "fashion-dae"  # for grey images of 28x28 pixels


def denoise(model: Model, pixels: Pixels, tile: int = TILE) -> Pixels:
    """Images with less noise: uint8 (n, h, w, c) -> the same shape.

    A denoiser takes any height and width, a codec its own. A codec that was trained on noise has a
    network for it; others give the synthesis of the unquantized analysis. A denoiser takes larger
    images in tiles with sides of at least `tile`.

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


def denoise_any(model: Model, pixels: Pixels) -> Pixels:
    """As `denoise`; a model of any size and RGB takes grey images, too, which stay grey."""
    any_size = kinds.of(model.manifest, model.path).any_size
    if any_size and pixels.shape[3] == 1 and model.manifest.image_shape[2] == 3:
        return images.as_grey(denoise(model, np.repeat(pixels, 3, axis=3)))
    return denoise(model, pixels)


def open_model(model: str | Path | Codec) -> Model:
    """A model that denoises, by its name or path; that of a codec.

    Raises ModelNotFoundError when there is none, ModelKindError when it does not denoise.
    """
    found = model.model if isinstance(model, Codec) else registry.open_model(model)
    check(found.manifest)
    return found


def default_of(pixels: Pixels) -> Model:
    """The default model for images (n, h, w, c). Raises ModelNotFoundError when it is not here."""
    height, width, channels = pixels.shape[1:]
    return open_model(default((width, height), "L" if channels == 1 else "RGB"))


def takes_stack(model: Model | None, shape: tuple[int, ...]) -> bool:
    """Whether an array of three axes is (n, h, w): grey images of the one size that a model takes.

    Without a model it is the default one of such images. Elsewhere an array may be (h, w, c), too.
    """
    if len(shape) != 3:
        return False
    if model is None:
        return default((shape[2], shape[1]), "L") == _SMALL
    any_size = kinds.of(model.manifest, model.path).any_size
    return not any_size and (*shape[1:], 1) == model.manifest.image_shape


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


def reading(model: Model, background: str | None = None) -> Reading:
    """How image files become what a model denoises: of any size, or of the model's.

    Transparent parts are laid on `background`, else on what training laid them on. Colours are left as
    the image's profile has them.
    """
    shape, known = model.manifest.image_shape, recorded_reading(model)
    ground = background or (known.background if known else None)
    if kinds.of(model.manifest, model.path).any_size:
        return Reading((0, 0, shape[2]), "own", ground or Reading.background, tagged=True)
    return Reading(
        shape, "exact", ground or Reading.background, lays=ground is not None, tagged=True
    )


def default(size: tuple[int, int], mode: str) -> str:
    """The name of the model for an image of that (width, height) and Pillow's mode."""
    return _SMALL if size == (28, 28) and mode in ("1", "L") else "photo-dae"


def _tiled(cleaner: Cleaner, pixels: Pixels, tile: int) -> Pixels:
    if not pixels.size:
        return pixels.copy()
    multiple, reach = cleaner.multiple, cleaner.reach
    height, width = pixels.shape[1:3]
    padding = [(0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)]
    padded = np.pad(pixels, padding, "reflect")  # which repeats the edge of a single pixel
    side = max(tile + -tile % multiple, 4 * reach)
    rows, columns = (windows(length, side, reach) for length in padded.shape[1:3])
    # One tile a processor; as many more as make up for tiles that are smaller.
    tile_pixels = padded[:, rows[0].tile, columns[0].tile, 0].size
    at_once = max(1, pipeline.processors() * side**2 // tile_pixels)
    result = np.empty_like(padded)
    for row in rows:
        for start in range(0, len(columns), at_once):
            group = columns[start : start + at_once]
            tiles = np.concatenate([padded[:, row.tile, column.tile] for column in group])
            clean = images.as_pixels(cleaner.network(images.as_floats(tiles)))
            for column, part in zip(group, np.split(clean, len(group)), strict=True):
                result[:, row.kept, column.kept] = part[:, row.inner, column.inner]
    return result[:, :height, :width]


def find_reach(network: Network, channels: int, multiple: int) -> int:
    """How far a denoiser looks in pixels: the `reach` of a manifest, a multiple of `multiple`.

    It is how far the change of a cell of multiple x multiple pixels shows beyond the cell's edges. By
    symmetry, a cell of the result looks as far.

    Raises:
        ModelError: it shows further than a manifest allows: there are no tiles for the network.
    """
    rng = np.random.default_rng(0)
    cells, furthest = 8, 0
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
