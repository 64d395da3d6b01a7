"""Random pixels of pictures and their windows for one epoch of a lossless model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cvae.data.images import Images, Pixels
from cvae.data.photos import Photos
from cvae.errors import TrainingError
from cvae.kinds.causal import ORDERS
from cvae.kinds.sight import Canvas, Places, Sight, Turn, Window
from cvae.kinds.trees import balanced
from cvae.models.file import MOST_ELEMENTS
from cvae.models.lossless import LEVELS
from cvae.training import crops
from cvae.training.preset import LosslessSizes, Preset

# The companding of differences: fine near zero, where most of them lie.
_SLOPE, _WIDTH = 40.0, 4.0
# Pixels that look like those before them are the most, and cost next to nothing: this share of a batch
# are others, so that these weigh less.
_BUSY = 0.75
# Pictures of any size may be grey; so many of the parts are made so.
_GREY = 1 / 16
_QUIET = ((-1, -1), (-1, 0), (-1, 1), (0, -1))

# Pixels that are validated, in at most so many lots of pictures, and how many at once.
_VALIDATED, _LOTS, _AT_ONCE = 1 << 18, 8, 1 << 14

Batch = tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float32]]
Draw = Callable[[np.random.Generator], Pixels]


def companding() -> NDArray[np.uint8]:
    """The activations of differences from 0 to 255."""
    found = np.minimum(_SLOPE * np.arcsinh(np.arange(LEVELS) / _WIDTH), LEVELS - 1)
    return np.rint(found).astype(np.uint8)


class Examples:
    """Pixels of pictures of one size -> rows for `networks.lossless`."""

    def __init__(self, window: Window, pictures: Pixels) -> None:
        """uint8 pictures (n, h, w, c)."""
        n, self._height, self._width, channels = pictures.shape
        self._canvas = Canvas(window, n, self._height, self._width, channels)
        self._canvas.pixels[:] = pictures
        self._pictures, self._window = pictures, window
        self._sight = Sight(window, companding())
        self.count = n * self._height * self._width

    def at(self, numbers: Places) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """Rows and leaves (m, c) of pixels, which are numbered through all pictures."""
        images, place = np.divmod(numbers, self._height * self._width)
        rows, columns = np.divmod(place, self._width)
        inputs, base = self._sight.inputs(*self._canvas.seen(images, rows, columns))
        values = self._pictures[images, rows, columns].astype(np.int16)
        turn, leaves = Turn(self._sight, base, self._window.predicts), []
        order = ORDERS[values.shape[1]]
        for channel in order:
            sides = turn.sides()
            leaves.append(turn.leaves(channel, values[:, channel]))
            turn.put(channel, values[:, channel])
        parts = [inputs, sides, place[:, np.newaxis].astype(np.int16)]
        return np.concatenate(parts, axis=1), np.stack(leaves, axis=1).astype(np.uint8)

    def busy(self) -> NDArray[np.bool_]:
        """Which pixels (n * h * w,) differ from a neighbour that is known before them."""
        x = np.pad(self._pictures, ((0, 0), (1, 0), (1, 1), (0, 0)))
        found = np.zeros(self._pictures.shape[:3], bool)
        for row, column in _QUIET:
            near = x[:, 1 + row :, 1 + column :][:, : self._height, : self._width]
            for channel in range(self._pictures.shape[3]):
                found |= near[..., channel] != self._pictures[..., channel]
        return found.ravel()

    def sample(self, count: int, rng: np.random.Generator) -> Batch:
        """So many random pixels: rows, leaves and weights, whose mean is that over all pixels."""
        busy = self.busy()
        share = busy.mean()
        taken = max(share, _BUSY) if 0 < share < 1 else share
        parts = []
        for chosen, part in ((busy, taken), (~busy, 1 - taken)):
            if m := round(count * part):
                weight = np.full(m, (chosen.mean() / (m / count)), np.float32)
                parts.append((rng.choice(np.flatnonzero(chosen), m), weight))
        numbers, weights = (np.concatenate(found) for found in zip(*parts, strict=True))
        return *self.at(numbers), weights


class PixelBatches(keras.utils.PyDataset):
    """Batches of random pixels of random pictures: a function of the seed and the number."""

    def __init__(self, draw: Draw, preset: Preset, pixels: int, seed: tuple[int, int]) -> None:
        super().__init__(workers=2)
        self._draw, self._window, self._pixels = draw, window(preset.lossless), pixels
        self._steps, self._seed = preset.steps, seed

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, number: int) -> Batch:
        rng = np.random.default_rng([*self._seed, number])
        return Examples(self._window, self._draw(rng)).sample(self._pixels, rng)


class AllPixels(keras.utils.PyDataset):
    """All pixels of some pictures, for validation."""

    def __init__(self, draw: Draw, preset: Preset) -> None:
        super().__init__()
        rng, lots = np.random.default_rng(0), list[Pixels]()
        while sum(lot[..., 0].size for lot in lots) < _VALIDATED and len(lots) < _LOTS:
            lots.append(draw(rng))
        self._batches = [
            part for lot in lots for part in _parts(Examples(window(preset.lossless), lot))
        ]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        return self._batches[number]


def check_size(preset: Preset) -> None:
    """Raises TrainingError where no model file holds images of the preset's size."""
    height, width, channels = preset.image_shape
    if not preset.crop and height * width * channels > MOST_ELEMENTS:
        expected = f"expected images of at most {MOST_ELEMENTS:,} values"
        found = f"found {width}x{height} pixels of {channels}"
        advice = "`cvae train lossless --data FOLDER` takes pictures of any size"
        raise TrainingError(f"{expected}, {found}", where=preset.name, advice=advice)


def window(sizes: LosslessSizes) -> Window:
    return Window(sizes.up, sizes.side, sizes.predicts)


def any_of(images: Images, count: int, flip: bool) -> Draw:
    """Draws so many images of one size, half of them mirrored where they may be."""

    def draw(rng: np.random.Generator) -> Pixels:
        pixels = images[np.sort(rng.integers(0, len(images), count))]
        return _mirrored(pixels, rng) if flip else pixels

    return draw


def crops_of(pictures: Photos, preset: Preset, flip: bool) -> Draw:
    """Draws square parts of as many pictures, scaled down by two as often as the preset says."""
    sizes, usual = preset.lossless, int(np.median(pictures.sizes.min(axis=1)))

    def draw(rng: np.random.Generator) -> Pixels:
        numbers = rng.integers(0, len(pictures), sizes.pictures)
        scale = 2 if rng.random() < sizes.halved else 1
        # Where most pictures are smaller than a part, parts are as small: little is reflected.
        side = scale * max(1, min(preset.crop, usual // scale))
        parts = np.concatenate([
            crops.crops(pictures.whole(int(number)), side, 1, flip, rng) for number in numbers
        ])  # fmt: skip
        grey = rng.random(len(parts)) < _GREY
        parts[grey] = parts[grey][..., 1:2]
        return parts if scale == 1 else _halved(parts)

    return draw


def splits(preset: Preset, draw: Draw) -> NDArray[np.uint8]:
    """The splits (c, 255) of trees for such pictures."""
    examples = Examples(window(preset.lossless), draw(np.random.default_rng(0)))
    _, leaves = examples.at(np.arange(examples.count))
    order = ORDERS[leaves.shape[1]]
    return np.stack([
        balanced(np.bincount(leaves[:, order.index(channel)], minlength=LEVELS))
        for channel in range(len(order))
    ])  # fmt: skip


def _parts(examples: Examples) -> list[tuple[Any, Any]]:
    numbers = np.arange(examples.count)
    return [examples.at(numbers[i : i + _AT_ONCE]) for i in range(0, len(numbers), _AT_ONCE)]


def _halved(parts: Pixels) -> Pixels:
    """The means of cells of 2x2 pixels."""
    quarters = [parts[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    total: NDArray[np.uint16] = np.sum(quarters, axis=0, dtype=np.uint16)
    return (total + 2 >> 2).astype(np.uint8)


def _mirrored(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    chosen = rng.random(len(pixels)) < 0.5
    pixels[chosen] = pixels[chosen, :, ::-1]
    return pixels
