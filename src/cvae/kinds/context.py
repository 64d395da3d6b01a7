"""The entropy model of a grid: what is known already -> which table codes each latent, in whole numbers.

Latents are coded group by group of channels, each group in two stages: the cells of one colour of a
checkerboard, then the others. Hyper latents come first of all. A latent is a whole number of sixteenths
of its quantization step, 16 times its symbol plus its mean.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import Bank
from cvae.data import pipeline
from cvae.data.windows import Window, even_windows
from cvae.kinds.exactnet import MOST, Places, Whole, checkerboard, shuffled, stored_layers
from cvae.models.grids import GridTables

FINENESS = 16  # latents and means are multiples of 1/16 step
CLASSES = 64  # tables of the latents: the first rows of the bank, by scale
SKIPPED = 0  # the class of latents that are so likely their mean that they are not coded
_HYPER_LAYERS = 3
USUAL_CLASS = 14  # of an output of zero
MEAN_SHIFT, CLASS_SHIFT = 6, 8
HYPER_SCALE = 16  # activation of a hyper latent of 1
_STRIP = 4096  # cells of the rows that are computed at once: their activations fit into the cache

Values = NDArray[np.int32]
Classes = NDArray[np.int64]


class Entropy:
    """The exact networks and tables of a grid model."""

    def __init__(self, tables: GridTables) -> None:
        """Raises ValueError when the networks do not fit together, or sums might not be exact."""
        self.tables = tables
        self.groups: list[int] = tables.groups.tolist()
        self.hyper_channels: int = tables.hyper_index.shape[1]
        self.channels = sum(self.groups)
        self.stages = 2 * len(self.groups)
        self._layers = stored_layers(tables)
        expected = _HYPER_LAYERS + 3 * self.stages
        if len(self._layers) != expected:
            raise ValueError(f"expected {expected} layers, found {len(self._layers)}")
        for stage in range(self.stages):
            last, group = self._layers[_HYPER_LAYERS + 3 * stage + 2], self.groups[stage // 2]
            if last.bias.shape != (2 * group,) or last.shift is not None:
                raise ValueError(f"expected {2 * group} sums of stage {stage}")
        self._check_inner()
        if len(tables.bank) < CLASSES:
            raise ValueError(f"expected at least {CLASSES} tables, found {len(tables.bank)}")

    def _check_inner(self) -> None:
        """What layers give to others has to be clipped; the last two of a stage see single cells."""
        for number, layer in enumerate(self._layers):
            place = number - _HYPER_LAYERS
            if (place < 0 or place % 3 < 2) and (layer.shift is None or layer.shift > 24):
                raise ValueError(f"expected a shift of 0 to 24 of layer {number}")
            if place >= 0 and place % 3 and any(len(kernel) > 1 for kernel in layer.kernels):
                raise ValueError(f"expected kernels of 1x1 of layer {number}")

    @cached_property
    def bank(self) -> Bank:
        return Bank(self.tables.bank)

    def features(self, z: Values, quality: int, height: int, width: int) -> Whole:
        """Hyper latents (n, h / 4, w / 4, z) -> activations (n, h, w, f + 1), the level among them."""
        level = np.float32(self.tables.level[quality - 1])
        x = np.clip(z * np.float32(HYPER_SCALE), -MOST, MOST).astype(np.float32)
        x = _with_plane(x, level)
        first, second, third = self._layers[:_HYPER_LAYERS]
        x = shuffled(second([shuffled(first([x]))]))
        return _with_plane(third([x[:, :height, :width]]), level)

    def reach(self, stage: int) -> int:
        """How many cells a stage looks beyond one."""
        return self._layers[_HYPER_LAYERS + 3 * stage].reach

    def parameters(
        self, stage: int, known: list[NDArray[Any]], places: Places
    ) -> tuple[Values, Classes]:
        """Grids of what is known -> means in sixteenths and classes of scales, (n, p, c) each."""
        first, second, last = self._layers[_HYPER_LAYERS + 3 * stage :][:3]
        x = first(known, places)[:, np.newaxis]
        sums = last([second([x])])[:, 0]
        half = self.groups[stage // 2]
        mean = np.rint(sums[..., :half] * np.float32(2.0**-MEAN_SHIFT)).astype(np.int32)
        scale = np.rint(sums[..., half:] * np.float32(2.0**-CLASS_SHIFT))
        scale = np.clip(scale + np.float32(USUAL_CLASS), 0, CLASSES - 1, out=scale)
        return mean, scale.astype(np.int64)

    def companded(self, values: Values) -> NDArray[np.int16]:
        """Sixteenths of steps -> activations, of the same sign."""
        table = self.tables.companding.astype(np.int16)
        found = table[np.minimum(np.abs(values), len(table) - 1)]
        return np.where(values < 0, -found, found)

    def check(self) -> NDArray[np.int64]:
        """What a test vector gives: sums of means and classes of each stage, (stages, 2)."""
        z = (np.arange(self.hyper_channels, dtype=np.int32) * 7919 % 13 - 6).reshape(1, 1, 1, -1)
        passing = Pass(self, z, 60, np.zeros((1, 3, 4, self.channels), np.int32))
        found = []
        for stage in range(self.stages):
            mean, classes = passing.parameters(stage)
            place = np.arange(1, mean.size + 1, dtype=np.int64).reshape(mean.shape)
            found.append([int((place * mean).sum()), int((place * classes).sum())])
            passing.put(stage, mean + FINENESS * (place * 104_729 % 7 - 3).astype(np.int32))
        return np.array(found, np.int64)


class Pass:
    """One way through the stages, for n images of one size."""

    def __init__(self, entropy: Entropy, z: Values, quality: int, values: Values) -> None:
        """Hyper latents (n, h / 4, w / 4, z), and room for the latents: zeros (n, h, w, C)."""
        height, width = values.shape[1:3]
        self._entropy = entropy
        self._features = entropy.features(z, quality, height, width)
        self._places = [checkerboard(height, width, odd) for odd in (0, 1)]
        shape = (len(z), height, width)
        self._values = values
        # Activations of the groups.
        self._known = [np.zeros((*shape, channels), np.int16) for channels in entropy.groups]

    def parameters(self, stage: int) -> tuple[Values, Classes]:
        """As `Entropy.parameters`, once all earlier stages were put."""
        pipeline.checkpoint()
        group, turn = divmod(stage, 2)
        known: list[NDArray[Any]] = [self._features, *self._known[: group + turn]]
        places, (n, height, width, _) = self._places[turn], self._values.shape
        shape = n, len(places.rows), self._entropy.groups[group]
        mean, classes = np.empty(shape, np.int32), np.empty(shape, np.int64)

        def compute(rows: Window) -> None:
            part = slice(*np.searchsorted(places.rows, [rows.kept.start, rows.kept.stop]))
            here = Places(places.rows[part] - rows.tile.start, places.columns[part])
            seen = [grid[:, rows.tile] for grid in known]
            mean[:, part], classes[:, part] = self._entropy.parameters(stage, seen, here)

        reach = self._entropy.reach(stage)
        for rows in even_windows(height, 2 * reach + max(1, _STRIP // (n * width)), reach):
            compute(rows)
        return mean, classes

    def at(self, stage: int, grid: NDArray[Any]) -> NDArray[Any]:
        """What belongs to a stage of a grid of all channels: (n, h, w, C) -> (n, p, c)."""
        places, channels = self._places[stage % 2], self._channels(stage)
        part: NDArray[Any] = grid[..., channels][:, places.rows, places.columns]
        return part

    def put(self, stage: int, values: Values) -> None:
        """The latents of a stage, (n, p, c)."""
        places, part = self._places[stage % 2], self._values[..., self._channels(stage)]
        part[:, places.rows, places.columns] = values
        known = self._known[stage // 2]
        known[:, places.rows, places.columns] = self._entropy.companded(values)

    def values(self) -> Values:
        """All latents: (n, h, w, C)."""
        return self._values

    def _channels(self, stage: int) -> slice:
        group = stage // 2
        start = sum(self._entropy.groups[:group])
        return slice(start, start + self._entropy.groups[group])


def _with_plane(grid: Whole, value: np.float32) -> Whole:
    plane = np.full((*grid.shape[:3], 1), value, np.float32)
    return np.concatenate([grid, plane], axis=3)
