"""Images of any size: latents on a grid of cells, coded in stages by what is known already."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream import coders, exact, rans
from cvae.bitstream.tables import MAX_SYMBOL, Bank, Symbols
from cvae.data import images, pipeline
from cvae.data.images import Pixels
from cvae.data.windows import Window, even_windows
from cvae.errors import ModelError, ModelKindError, translated
from cvae.kinds.base import EXACT_SYMBOLS, Coding, Floats, Kind, check_qualities, quality_facts
from cvae.kinds.context import FINENESS, SKIPPED, Classes, Entropy, Pass, Values
from cvae.kinds.exactnet import one_thread
from cvae.models.file import ANALYSIS, GRADIENT, HYPER, SYNTHESIS, Manifest, Model
from cvae.models.networks import Network
from cvae.models.qualities import Latents

CELL, HYPER_CELL = 16, 4  # pixels a side of a cell; cells a side of one of the hyper latents
# Cells a side of what goes through a network at once: of `photo` activations take 16 kB a cell, with the
# gradient 41 kB.
TILE = 80
# Places a side that hyper analysis looks beyond one.
_HYPER_REACH = 2
# From so many cells on an image is worth all threads; smaller ones share them.
_LARGE = 256
_LEAST_CURVATURE = 1e-6


class Grid(Kind):
    """A codec for RGB images of any size, named `grid` in manifests."""

    codes = any_size = staged = True

    def check(self, manifest: Manifest) -> None:
        if len(manifest.latent_shape) != 1 or manifest.latent_shape[0] < 1:
            raise ValueError(f"latent shape {manifest.latent_shape} is out of range")
        if manifest.image_shape[2] != 3:
            raise ValueError(f"expected RGB images, found {manifest.image_shape}")
        check_qualities(manifest)

    def describe(self, manifest: Manifest) -> str:
        return "any size RGB"

    def denoises(self, manifest: Manifest) -> bool:
        return False

    def facts(self, manifest: Manifest) -> dict[str, Any]:
        return {"latent_channels": manifest.latent_shape[0], **quality_facts(manifest)}

    def figures(self, manifest: Manifest) -> str:
        bpp, psnr = (manifest.figures.get(name, 0) for name in ("bpp", "psnr_mean"))
        return f"{bpp:6.3f} bpp {psnr:6.2f} dB"

    def cleaner(self, model: Model) -> NoReturn:
        raise ModelKindError(f"{model.manifest.name} was not trained on noisy images")

    def coding(self, model: Model) -> GridCoding:
        return GridCoding(_Shared(model))

    def run_once(self, model: Model) -> None:
        coding = self.coding(model).sized(20, 40)
        x = np.zeros((1, 20, 40, 3), np.uint8)
        quality = model.manifest.default_quality
        coding.synthesize(
            coding.dequantize(coding.choose(x, coding.analyse(x), quality, 9), quality)
        )


class _Shared:
    """Networks and tables of a model; members are read when they are first used."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.channels = model.manifest.latent_shape[0]

    @cached_property
    def entropy(self) -> Entropy:
        """Raises ModelError when the tables are damaged, or this machine computes with them otherwise."""
        model = self.model
        with translated(ModelError, "damaged", model.path, ValueError):
            entropy = Entropy(model.grids)
            found = entropy.check()  # layers that do not fit together fail here
        if entropy.channels != self.channels:
            expected = f"expected tables of {self.channels} channels"
            raise ModelError(f"{expected}, found {entropy.channels}", where=model.path)
        if not np.array_equal(found, model.grids.check):
            text = "the test vector of its exact networks comes out otherwise on this machine"
            raise ModelError(text, where=model.path)
        return entropy

    def network(self, member: str, threads: int) -> Network:
        side, more = (None, None), self.channels + 1
        image, latents = (*side, 3), (*side, more)
        shapes = {
            ANALYSIS: ([image], (*side, self.channels)),
            SYNTHESIS: ([latents], image),
            HYPER: ([latents], (*side, self.entropy.hyper_channels)),
            GRADIENT: ([latents, image], latents),
        }
        # The side of the result over that of the first input.
        scale = {ANALYSIS: 1 / CELL, SYNTHESIS: CELL, HYPER: 1 / HYPER_CELL}.get(member, 1)
        return self.model.network(member, *shapes[member], scale=scale, session_threads=threads)


class GridCoding(Coding):
    """See `Coding`; `sized` makes one for images of one size, which all but `sized` needs.

    Symbols are int32 (n, elements): hyper latents (h / 64, w / 64, z), then latents (h / 16, w / 16, c)
    in sixteenths of a step. Latents are float32 (n, h / 16 * w / 16 * c), and where they go to the
    synthesis have one more channel, the level that the networks know the quality by.
    """

    def __init__(self, shared: _Shared, height: int = 0, width: int = 0) -> None:
        self._shared, self._height, self._width = shared, height, width
        self._rows, self._columns = -(-height // CELL), -(-width // CELL)
        self._hyper_rows, self._hyper_columns = (
            -(-n // HYPER_CELL) for n in (self._rows, self._columns)
        )

    def sized(self, height: int, width: int) -> GridCoding:
        return GridCoding(self._shared, height, width)

    @property
    def entropy(self) -> Entropy:
        return self._shared.entropy

    @property
    def bank(self) -> Bank:  # type: ignore[override]
        return self.entropy.bank

    @property
    def stages(self) -> int:  # type: ignore[override]
        return 1 + self.entropy.stages

    @property
    def elements(self) -> int:  # type: ignore[override]
        return self._hyper_elements + self._rows * self._columns * self._shared.channels

    @property
    def _hyper_elements(self) -> int:
        return self._hyper_rows * self._hyper_columns * self.entropy.hyper_channels

    # Networks

    def load(self) -> None:
        """Reads all members now, where the model's file is not to stay."""
        threads = {self._threads(1), self._threads(None), pipeline.processors()}
        for member in (ANALYSIS, SYNTHESIS, HYPER, GRADIENT):
            for count in threads:
                self._shared.network(member, count)

    def prepared(self, pixels: Pixels) -> Pixels:
        """Networks take tiles of them; the whole as floats would take four times the memory."""
        return pixels

    def analyse(self, x: Any, threads: int | None = None) -> Latents:
        channels, reach = self._shared.channels, int(self.entropy.tables.reach[0])
        network = self._shared.network(ANALYSIS, self._threads(threads))
        y = np.empty((len(x), self._rows, self._columns, channels), np.float32)
        # Larger ones, which overlap less: they take no more memory than those of the gradient.
        for rows, columns in _tiles(self._rows, self._columns, reach, 8 * TILE // 5):
            y[:, rows.kept, columns.kept] = network(
                self._floats(x, rows, columns), threads=threads
            )[:, rows.inner, columns.inner]
        return y.reshape(len(x), -1)

    def synthesize(self, latents: Latents, threads: int | None = None) -> Floats:
        return images.as_floats(self.pictures(latents, threads))

    def pictures(self, latents: Latents, threads: int | None = None) -> Pixels:
        y = latents.reshape(-1, self._rows, self._columns, self._shared.channels + 1)
        reach = int(self.entropy.tables.reach[1])
        network = self._shared.network(SYNTHESIS, self._threads(threads))
        pixels = np.empty((len(y), self._rows * CELL, self._columns * CELL, 3), np.uint8)
        for rows, columns in self._tiles(reach):
            tile = images.as_pixels(network(y[:, rows.tile, columns.tile], threads=threads))
            inner = tile[:, _scaled(rows.inner, CELL), _scaled(columns.inner, CELL)]
            pixels[:, _scaled(rows.kept, CELL), _scaled(columns.kept, CELL)] = inner
        return pixels[:, : self._height, : self._width]

    def _hyper(self, y: Floats, quality: int, threads: int | None) -> Values:
        """Latents in steps (n, h, w, c) -> rounded hyper latents."""
        network = self._shared.network(HYPER, self._threads(threads))
        shape = (len(y), self._hyper_rows, self._hyper_columns, self.entropy.hyper_channels)
        z = np.empty(shape, np.int32)
        for rows, columns in _tiles(
            self._hyper_rows, self._hyper_columns, _HYPER_REACH, TILE // HYPER_CELL
        ):
            spans = _scaled(rows.tile, HYPER_CELL), _scaled(columns.tile, HYPER_CELL)
            part = _cut(y, *spans, mode="constant")
            found = np.rint(network(self._with_level(part, quality), threads=threads))
            inner = found[:, rows.inner, columns.inner].clip(-MAX_SYMBOL, MAX_SYMBOL)
            z[:, rows.kept, columns.kept] = inner
        return z

    def _move(
        self, x: Any, symbols: Symbols, target: Floats, share: float, quality: int,
        threads: int | None,
    ) -> NDArray[np.float64]:  # fmt: skip
        """See `gridsearch.Problem.move`."""
        values, step = self.parts(symbols)[1], self.steps(quality)
        # A channel that changes nothing stays where it is.
        scale = share / np.maximum(self.entropy.tables.curvature * step, _LEAST_CURVATURE)
        network = self._shared.network(GRADIENT, self._threads(threads))
        error = np.zeros(len(symbols))
        # An error depends on latents within reach, whose gradient on errors within reach of them. What
        # passes through both ways at their farthest counts for nothing, and would cost twice the tiles.
        for rows, columns in self._tiles(int(self.entropy.tables.reach[1])):
            steps = values[:, rows.tile, columns.tile].astype(np.float32) / np.float32(FINENESS)
            pixels = self._floats(x, rows, columns)
            found = network(self._with_level(steps * step, quality), pixels, threads=threads)
            found = found[:, rows.inner, columns.inner]
            error += found[..., -1].sum(axis=(1, 2), dtype=np.float64)
            part = target[:, rows.kept, columns.kept]
            part += share * (steps[:, rows.inner, columns.inner] - part) + scale * found[..., :-1]
        return error

    def _error(
        self, x: Any, symbols: Symbols, quality: int, threads: int | None
    ) -> NDArray[np.float64]:
        """See `gridsearch.Problem.error`."""
        values, scale = self.parts(symbols)[1], self.steps(quality) / np.float32(FINENESS)
        network = self._shared.network(SYNTHESIS, self._threads(threads))
        error = np.zeros(len(symbols))
        for rows, columns in self._tiles(int(self.entropy.tables.reach[1])):
            y = values[:, rows.tile, columns.tile].astype(np.float32) * scale
            found = network(self._with_level(y, quality), threads=threads)
            found -= self._floats(x, rows, columns)
            inner = found[:, _scaled(rows.inner, CELL), _scaled(columns.inner, CELL)]
            error += np.square(inner).sum(axis=(1, 2, 3), dtype=np.float64)
        return error

    def _threads(self, threads: int | None) -> int:
        """Of a session: all for large images, whose batches are small."""
        large = self._rows * self._columns >= _LARGE
        return (threads or pipeline.processors()) if large else 1

    def _tiles(self, reach: int) -> list[tuple[Window, Window]]:
        return _tiles(self._rows, self._columns, reach, TILE)

    def _floats(self, x: Any, rows: Window, columns: Window) -> Floats:
        """The pixels of a tile as floats; those beyond the image repeat its edge."""
        part = _cut(x, _scaled(rows.tile, CELL), _scaled(columns.tile, CELL), mode="edge")
        return images.as_floats(part) if part.dtype == np.uint8 else part

    # Symbols

    def choose(
        self, x: Any, latents: Latents, quality: int, effort: int, threads: int | None = None
    ) -> Symbols:
        from cvae.kinds import gridsearch

        problem = gridsearch.Problem(
            self.entropy,
            quality,
            hyper=lambda target: self._hyper(target, quality, threads),
            passing=lambda z: self.passing(z, quality),
            hyper_bits=lambda z: self._hyper_bits(z, quality),
            joined=self.joined,
            move=lambda symbols, target, share: self._move(
                x, symbols, target, share, quality, threads
            ),
            error=lambda symbols: self._error(x, symbols, quality, threads),
        )
        with one_thread():
            grid = latents.reshape(-1, self._rows, self._columns, self._shared.channels)
            return gridsearch.choose(problem, grid, effort)

    def steps(self, quality: int) -> NDArray[np.float32]:
        """The quantization steps (c,)."""
        step: NDArray[np.float32] = self.entropy.tables.step[quality - 1]
        return step

    def passing(self, z: Values, quality: int) -> Pass:
        # One image's latents lie in its symbols already: a large one's take tens of megabytes.
        n, split = len(z), self._hyper_elements
        symbols = np.zeros((n, self.elements), np.int32)
        values = symbols[:, split:].reshape(n, self._rows, self._columns, -1)
        return Pass(self.entropy, z, quality, values)

    def joined(self, z: Values, values: Values) -> Symbols:
        n, owner = len(z), values.base
        if owner is not None and owner.shape == (n, self.elements):
            owner[:, : self._hyper_elements] = z.reshape(n, -1)
            return owner
        return np.concatenate([z.reshape(n, -1), values.reshape(n, -1)], axis=1)

    def parts(self, symbols: Symbols) -> tuple[Values, Values]:
        """Symbols -> hyper latents and latents, as grids."""
        n, split = len(symbols), self._hyper_elements
        z = symbols[:, :split].reshape(n, self._hyper_rows, self._hyper_columns, -1)
        return z, symbols[:, split:].reshape(n, self._rows, self._columns, -1)

    def dequantize(self, symbols: Symbols, quality: int) -> Latents:
        values = self.parts(symbols)[1]
        scale = self.steps(quality) / np.float32(FINENESS)
        return self._with_level(values.astype(np.float32) * scale, quality).reshape(
            len(symbols), -1
        )

    def _with_level(self, y: Floats, quality: int) -> Floats:
        level = self.entropy.tables.level[quality - 1] / np.float32(255)
        plane = np.full((*y.shape[:3], 1), level, np.float32)
        return np.concatenate([y, plane], axis=3)

    # Coders

    @one_thread()
    def push(self, coder: coders.Encoder, symbols: Symbols, quality: int) -> None:
        z, values = self.parts(symbols)
        coder.push(self._hyper_table_rows(len(z), quality), z.reshape(1, -1))
        passing = self.passing(z, quality)
        for stage in range(self.entropy.stages):
            mean, classes = passing.parameters(stage)
            value = passing.at(stage, values)
            coded = classes != SKIPPED
            k, rest = np.divmod(value - mean, FINENESS)
            if rest.any() or k[~coded].any():
                raise ValueError("expected symbols that the model chose")
            k = k[coded]
            coder.push(classes[coded][np.newaxis], k[np.newaxis].astype(np.int32))
            passing.put(stage, value)

    @one_thread()
    def pull(self, coder: coders.Decoder, images: int, quality: int) -> Symbols:
        z = coder.pull(self._hyper_table_rows(images, quality))
        z = z.reshape(images, self._hyper_rows, self._hyper_columns, -1)
        passing = self.passing(z, quality)
        for stage in range(self.entropy.stages):
            mean, classes = passing.parameters(stage)
            coded = classes != SKIPPED
            value = mean.copy()
            value[coded] += FINENESS * coder.pull(classes[coded][np.newaxis])[0]
            passing.put(stage, value)
        return self.joined(z, passing.values())

    def _hyper_table_rows(self, n: int, quality: int) -> Classes:
        rows = self.entropy.tables.hyper_index[quality - 1].astype(np.int64)
        return np.tile(rows, n * self._hyper_rows * self._hyper_columns)[np.newaxis]

    def _hyper_bits(self, z: Values, quality: int) -> NDArray[np.float64]:
        """The information content of hyper latents: (n,)."""
        rows = self._hyper_table_rows(1, quality)
        return np.asarray(self.bank.bits(rows, z.reshape(len(z), -1)).sum(axis=1))

    def coded_each(self, symbols: Symbols, quality: int) -> tuple[list[bytes], NDArray[np.float64]]:
        payloads, bits = [], np.empty(len(symbols))
        for i, row in enumerate(symbols):
            coder: Any = (
                exact.Encoder(self.bank) if self._is_small else rans.Encoder(self.bank, self.stages)
            )
            meter = coders.Meter(self.bank, 1)
            self.push(coders.Both(coder, meter), row[np.newaxis], quality)
            found = coder.finish()
            payloads.append(found[0] if self._is_small else found)
            bits[i] = meter.bits[0]
        return payloads, bits

    def decode_each(self, payload: bytes, quality: int) -> Symbols:
        if self._is_small:
            return super().decode_each(payload, quality)
        return self.decode_block(payload, 1, quality)

    @property
    def _is_small(self) -> bool:
        return self.elements <= EXACT_SYMBOLS

    def information_bits(self, symbols: Symbols, quality: int) -> NDArray[np.float64]:
        return self.coded_each(symbols, quality)[1]


def _tiles(rows: int, columns: int, reach: int, most: int) -> list[tuple[Window, Window]]:
    """Windows on a grid, with sides of at most `most` places where the reach leaves room for that."""
    most = max(most, 4 * reach)
    places = even_windows(rows, most, reach), even_windows(columns, most, reach)
    return [(row, column) for row in places[0] for column in places[1]]


def _scaled(places: slice, scale: int) -> slice:
    return slice(places.start * scale, places.stop * scale)


def _cut(grid: NDArray[Any], rows: slice, columns: slice, mode: Any) -> NDArray[Any]:
    """A part of (n, h, w, c), padded on the right and below where it goes beyond."""
    part = grid[:, rows, columns]
    missing = rows.stop - rows.start - part.shape[1], columns.stop - columns.start - part.shape[2]
    if not any(missing):
        return part
    return np.pad(part, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), mode)
