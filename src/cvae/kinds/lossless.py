"""Every pixel back: symbols are the values themselves, coded by what an exact network expects of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream import coders, exact, rans
from cvae.bitstream.container import LOSSLESS
from cvae.bitstream.tables import TOTAL, Bank, Symbols
from cvae.data import images
from cvae.data.images import Pixels
from cvae.errors import ModelError, ModelKindError, translated
from cvae.kinds.base import EXACT_SYMBOLS, Coding, Floats, Kind
from cvae.kinds.causal import Causal, Take
from cvae.kinds.exactnet import one_thread
from cvae.kinds.sight import Canvas
from cvae.kinds.trees import MOST_DEPTH
from cvae.kinds.values import read, shorter
from cvae.models.file import Manifest, Model
from cvae.models.qualities import Latents

# Of a picture: its decisions take the encoder some hundred bytes a pixel, and minutes of ten million.
_MOST_PIXELS = 1 << 24
# Single images that are decoded together, and values whose decisions are held.
_TOGETHER, _VALUES = 64, 1 << 21
_FEW_PIXELS = 1024


class Lossless(Kind):
    """A lossless codec for pictures of one size, or of any."""

    codes = staged = lossless = True
    most_pixels = _MOST_PIXELS

    def __init__(self, any_size: bool) -> None:
        self.any_size = any_size

    def check(self, manifest: Manifest) -> None:
        if manifest.default_quality != LOSSLESS or manifest.expected_psnr:
            raise ValueError("expected quality 0 and no expected PSNR of a lossless model")
        channels = manifest.image_shape[2]
        shape = (channels,) if self.any_size else manifest.image_shape
        if manifest.latent_shape != shape or (self.any_size and channels != 3):
            raise ValueError(f"latent shape {manifest.latent_shape} is out of range")
        if (manifest.multiple, manifest.reach) != (1, 0):
            raise ValueError("expected no multiple and reach of a codec")

    def describe(self, manifest: Manifest) -> str:
        shape = manifest.image_shape
        takes = images.describe((0, 0, shape[2]) if self.any_size else shape)
        return f"{'any size ' if self.any_size else ''}{takes}, lossless"

    def denoises(self, manifest: Manifest) -> bool:
        return False

    def facts(self, manifest: Manifest) -> dict[str, Any]:
        return {"lossless": True}

    def figures(self, manifest: Manifest) -> str:
        return f"{manifest.figures.get('bits_per_dimension', 0):6.3f} bits a value"

    def cleaner(self, model: Model) -> NoReturn:
        raise ModelKindError(f"{model.manifest.name} was not trained on noisy images")

    def coding(self, model: Model) -> LosslessCoding:
        return LosslessCoding(_Shared(model, self.any_size), *model.manifest.image_shape[:2])

    def run_once(self, model: Model) -> None:
        coding = self.coding(model)
        coding = coding.sized(5, 7) if self.any_size else coding
        coding.encode_block(np.zeros((1, coding.elements), np.int32), LOSSLESS)


class _Shared:
    """The networks of a model, which are read when they are first used."""

    def __init__(self, model: Model, any_size: bool) -> None:
        self.model, self.any_size = model, any_size
        self.channels = model.manifest.image_shape[2]
        self._causal: Causal | None = None

    @property
    def causal(self) -> Causal:
        """Raises ModelError when the tables are damaged, or this machine computes with them otherwise."""
        if self._causal is None:
            self._causal = self._read()
        return self._causal

    def _read(self) -> Causal:
        model, tables = self.model, self.model.causal
        height, width, _ = model.manifest.image_shape
        places = 0 if self.any_size else height * width
        with translated(ModelError, "damaged", model.path, ValueError):
            causal = Causal(tables)
            if causal.channels != self.channels or len(tables.positions) not in (0, places):
                raise ValueError("the tables are those of another shape")
            found = causal.check()
        if not np.array_equal(found, tables.check):
            text = "the test vector of its exact networks comes out otherwise on this machine"
            raise ModelError(text, where=model.path)
        return causal


class LosslessCoding(Coding):
    """See `Coding`; `sized` makes one for images of one size.

    Symbols are the values of the pixels, int32 (n, h * w * c); latents are the same as floats.
    """

    stages = None  # as many as the pictures make

    def __init__(self, shared: _Shared, height: int, width: int) -> None:
        self._shared, self._height, self._width = shared, height, width
        self.elements = height * width * shared.channels

    def sized(self, height: int, width: int) -> LosslessCoding:
        return LosslessCoding(self._shared, height, width) if self._shared.any_size else self

    @property
    def bank(self) -> Bank:  # type: ignore[override]
        return self._shared.causal.bank

    # Pixels are symbols

    def prepared(self, pixels: Pixels) -> Pixels:
        return pixels

    def analyse(self, x: Any, threads: int | None = None) -> Latents:
        return np.asarray(x, np.float32).reshape(len(x), self.elements)

    def choose(
        self, x: Any, latents: Latents, quality: int, effort: int, threads: int | None = None
    ) -> Symbols:
        return np.asarray(x, np.int32).reshape(len(x), self.elements)

    def dequantize(self, symbols: Symbols, quality: int) -> Latents:
        return symbols.astype(np.float32)

    def pictures(self, latents: Latents, threads: int | None = None) -> Pixels:
        shape = len(latents), self._height, self._width, self._shared.channels
        return np.clip(np.rint(latents), 0, 255).astype(np.uint8).reshape(shape)

    def synthesize(self, latents: Latents, threads: int | None = None) -> Floats:
        return images.as_floats(self.pictures(latents))

    # Coders

    @property
    def decisions(self) -> int:
        """The most that an image may have."""
        return self.elements * MOST_DEPTH

    def push(self, coder: coders.Encoder, symbols: Symbols, quality: int) -> None:
        # A large picture has a hundred million decisions, which come some ten thousand at once.
        self._told(
            symbols,
            lambda rows, bits, _: coder.push(rows[np.newaxis], bits[np.newaxis].astype(np.int32)),
        )

    def pull(self, coder: coders.Decoder, images: int, quality: int) -> Symbols:
        return self._walked(images, lambda rows, owners: _checked(coder.pull(rows[np.newaxis])[0]))

    def coded_each(self, symbols: Symbols, quality: int) -> tuple[list[bytes], NDArray[np.float64]]:
        if not self._is_small:
            found = [self._block(row[np.newaxis]) for row in symbols]
            return [payload for payload, _ in found], np.array([bits for _, bits in found])
        payloads: list[bytes] = []
        bits: list[float] = []
        for part in self._parts(symbols):
            rows, decisions, owners = self._decisions(part)
            order = np.argsort(owners, kind="stable")
            ends = np.cumsum(np.bincount(owners, minlength=len(part)))[:-1]
            for chosen, values in zip(np.split(order, ends), part, strict=True):
                given = rows[chosen][np.newaxis], decisions[chosen][np.newaxis]
                single = exact.Encoder(self.bank)
                single.push(*given)
                payloads.append(shorter(single.finish()[0], [values]))
                bits.append(float(self.bank.bits(*given).sum()))
        return payloads, np.array(bits)

    def _block(self, symbols: Symbols, lanes: int | None = None) -> tuple[bytes, float]:
        """The payload of a block, and its information content."""
        block, meter = rans.Encoder(self.bank, self.stages), coders.Meter(self.bank, 1)
        self.push(coders.Both(block, meter), symbols, LOSSLESS)
        # The network takes longer than the coder.
        payload = shorter(block.finish(lanes, thrifty=True), [symbols])
        return payload, float(meter.bits[0])

    def encode_block(self, symbols: Symbols, quality: int, lanes: int | None = None) -> bytes:
        return self._block(symbols, lanes)[0]

    def decode_block(self, payload: bytes, images: int, quality: int) -> Symbols:
        values = read(payload, images * self.elements)
        if values is not None:
            return values.reshape(images, -1)
        return super().decode_block(payload, images, quality)

    def decode_each(self, payload: bytes, quality: int) -> Symbols:
        if not self._is_small:
            return self.decode_block(payload, 1, quality)
        return self.decode_all([payload], quality)[0]

    def decode_all(self, payloads: Sequence[bytes], quality: int) -> list[Symbols]:
        if not self._is_small:
            return super().decode_all(payloads, quality)
        found = [read(payload, self.elements) for payload in payloads]
        coded = [place for place, values in enumerate(found) if values is None]
        for start in range(0, len(coded), _TOGETHER):
            places = coded[start : start + _TOGETHER]
            part = [payloads[place] for place in places]
            each = [exact.Decoder(payload, self.bank, self.decisions) for payload in part]

            def ask(rows: Any, owners: Any, each: Any = each) -> Any:
                if len(each) == 1:
                    return _checked(each[0].pull(rows))
                ends = np.searchsorted(owners, np.arange(1, len(each)))
                parts = zip(each, np.split(rows, ends), strict=True)
                found = [coder.pull(own) for coder, own in parts if len(own)]
                return _checked(np.concatenate(found))

            symbols = self._walked(len(part), ask)
            for coder in each:
                coder.finish()
            for place, values in zip(places, symbols, strict=True):
                found[place] = values
        return [values.reshape(1, -1) for values in found if values is not None]

    def draw(self, n: int, rng: np.random.Generator) -> Pixels:
        """Pictures (n, h, w, c) as the network expects them, each decision drawn after those before it."""
        ones = self.bank.table[:, 2] / np.float64(TOTAL)

        def ask(rows: Any, owners: Any) -> Any:
            return (rng.random(len(rows)) < ones[rows]).astype(np.intp)

        return self.pictures(self.dequantize(self._walked(n, ask), LOSSLESS))

    def _walked(self, n: int, ask: Callable[[Any, Any], Any]) -> Symbols:
        """The symbols of n images, whose decisions `ask` gives. Raises FormatError at damage."""
        canvas = self._canvas(n)
        with self._calmly(n):
            self._shared.causal.walk(
                canvas,
                (n, self._height, self._width),
                lambda rows, owners, _: ask(rows, owners),
            )
        return canvas.pixels.astype(np.int32).reshape(n, -1)

    def information_bits(self, symbols: Symbols, quality: int) -> NDArray[np.float64]:
        found: list[NDArray[np.float64]] = [np.empty(0)]
        if not self._is_small:
            for row in symbols:
                meter = coders.Meter(self.bank, 1)
                self.push(meter, row[np.newaxis], quality)
                found.append(meter.bits)
            return np.concatenate(found)
        for part in self._parts(symbols):
            rows, bits, owners = self._decisions(part)
            found.append(
                np.bincount(owners, self.bank.bits(rows, bits), len(part)).astype(np.float64)
            )
        return np.concatenate(found)

    def _parts(self, symbols: Symbols) -> Iterator[Symbols]:
        """Some images at once, whose decisions are kept."""
        step = max(1, _VALUES // self.elements)
        return (symbols[start : start + step] for start in range(0, len(symbols), step))

    @property
    def _is_small(self) -> bool:
        return self.elements <= EXACT_SYMBOLS

    def _calmly(self, n: int) -> AbstractContextManager[None]:
        """For products of n images; those of a digit are over before the threads are found."""
        return one_thread() if n * self._height * self._width > _FEW_PIXELS else nullcontext()

    def _canvas(self, n: int) -> Canvas:
        window, channels = self._shared.causal.window, self._shared.channels
        return Canvas(window, n, self._height, self._width, channels)

    def _decisions(self, symbols: Symbols) -> tuple[Any, Symbols, Any]:
        """Rows of the bank, decisions, and which image each is of, all (k,) in the order of coding."""
        found: list[tuple[Any, Any, Any]] = []
        self._told(
            symbols,
            lambda rows, bits, owners: found.append(
                (rows.astype(np.uint16), bits.astype(np.int8), owners.astype(np.int32))
            ),
        )
        rows, bits, owners = (np.concatenate(part) for part in zip(*found, strict=True))
        return rows, bits.astype(np.int32), owners

    def _told(self, symbols: Symbols, take: Take) -> None:
        """Tells the decisions of images, which are known. Raises ValueError at a symbol out of range."""
        if symbols.size and not 0 <= symbols.min() <= symbols.max() <= 255:
            raise ValueError("expected values of 0 to 255 as symbols")
        canvas = self._canvas(len(symbols))
        canvas.pixels[:] = symbols.reshape(canvas.pixels.shape)
        shape = len(symbols), self._height, self._width
        with self._calmly(len(symbols)):
            self._shared.causal.tell(canvas, shape, take)


def _checked(symbols: Symbols) -> Any:
    """Decisions, and 2 for every symbol that is none: -1, and what follows an escape."""
    return np.minimum(symbols.view(np.uint32), 2)
