"""Images <-> the container of one model: the front door to networks, quantizer and coders."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from cvae import kinds
from cvae.bitstream import container
from cvae.bitstream.container import Container
from cvae.bitstream.tables import MAX_SYMBOL, Symbols
from cvae.data import images, metrics
from cvae.data.images import MAX_PIXELS, Pixels, as_picture
from cvae.data.reading import Reading
from cvae.errors import (
    CvaeError,
    FormatError,
    ImageError,
    ModelNotFoundError,
    TargetError,
    at,
)
from cvae.models import registry
from cvae.models.file import Model
from cvae.models.qualities import QUALITIES, Latents
from cvae.options import DEFAULT_EFFORT, MAX_EFFORT, Encoded, EncodeOptions, Size, bisected

_BYTES = (bytes, bytearray, memoryview)
_Sizes = Sequence[Size | None]  # (width, height) of each image before it was fitted
_DEFAULTS = EncodeOptions()
WHITE = "#ffffff"  # what transparent pictures of any size are laid on


class QualityWarning(UserWarning):
    """An image came back worse than nearly all validation images: not the kind that the model codes."""


class Codec:
    """Encodes and decodes images with one model; made by `cvae.open_model`."""

    def __init__(self, model: Model) -> None:
        """Raises ModelKindError when the model is a denoiser, ModelError when its manifest is damaged."""
        self.model = model
        kind = kinds.of(model.manifest, model.path)
        self.any_size, self.staged = kind.any_size, kind.staged  # see `Kind`
        self.coding = self._whole = kind.coding(model)
        self.name = model.manifest.name
        self.image_shape = shape = model.manifest.image_shape  # (h, w, c)
        # Of an image that was fitted, or that claims to have been: `restoring` changes it.
        self.max_pixels = MAX_PIXELS if self.any_size else images.restorable(shape)
        # With and without the axis of a single channel.
        self._shapes = shape, shape[:2] if shape[2] == 1 else shape

    def sized(self, height: int, width: int) -> Codec:
        """The codec for images of that many pixels; itself where the model takes one size.

        It shares the model; its `coding` and `image_shape` are those of the size.
        """
        if not self.any_size:
            return self
        sized = copy.copy(self)
        sized.coding = self._whole.sized(height, width)
        sized.image_shape = height, width, self.image_shape[2]
        return sized

    def restoring(self, max_pixels: int | None) -> Codec:
        """The codec that fits and restores images of up to so many pixels; itself for None.

        Raises CvaeError when the format has no images of so many.
        """
        if max_pixels is None:
            return self
        if not isinstance(max_pixels, int | np.integer) or not 1 <= max_pixels <= MAX_PIXELS:
            expected = f"expected max_pixels of 1 to {MAX_PIXELS:,}"
            raise CvaeError(f"{expected}, found {max_pixels!r}")
        restoring = copy.copy(self)
        restoring.max_pixels = MAX_PIXELS if self.any_size else int(max_pixels)
        return restoring

    def reading(self, fit: bool = False) -> Reading:
        """How image files become what the model codes.

        `fit` resizes them, but for a model of any size, which takes grey ones with one channel.
        """
        if self.any_size:
            return Reading((0, 0, self.image_shape[2]), "any", WHITE)
        return Reading(self.image_shape, "stretch" if fit else "exact", most=self.max_pixels)

    @overload
    def encode(self, image: Pixels, quality: int | None = ..., effort: int = ...) -> bytes: ...
    @overload
    def encode(
        self, image: Sequence[Pixels], quality: int | None = ..., effort: int = ...
    ) -> list[bytes]: ...
    def encode(
        self, image: Any, quality: int | None = None, effort: int = DEFAULT_EFFORT
    ) -> bytes | list[bytes]:
        """Encodes one image, or a batch of images each by itself.

        Args:
            image: uint8 (h, w) or (h, w, c) of the model's shape gives bytes; a list of such
                arrays, or one array with a leading batch axis, gives a list of bytes. A model of any
                size takes (h, w), which is grey, and (h, w, 3), and batches of four axes alone.
            quality: 1 (smallest) to 100 (best); None for the model's default.
            effort: 0 (plain rounding) to 9 (longest search for better symbols).

        Raises:
            ImageError: an array is of another dtype or shape.
            CvaeError: quality or effort is out of range.
        """
        options = EncodeOptions(quality=quality, effort=effort)
        if self.any_size:
            pictures = self.as_pictures(image)
            coded = [
                item
                for batch in images.alike(pictures)
                for item in self.encode_batch(batch, options)
            ]
        else:
            coded = self.encode_batch(self.as_batch(image), options)
        if poor := sum(item.poor for item in coded):
            least = f"{coded[0].expected_psnr:.1f} dB expected of model {self.name}"
            text = f"{poor} of {len(coded)} images came back below the {least}"
            warnings.warn(text, QualityWarning, stacklevel=2)
        return coded[0].data if self._is_single(image) else [item.data for item in coded]

    @overload
    def decode(self, data: bytes) -> Pixels: ...
    @overload
    def decode(self, data: Sequence[bytes]) -> list[Pixels]: ...
    def decode(self, data: bytes | Sequence[bytes]) -> Pixels | list[Pixels]:
        """Decodes the container of one image to uint8 (h, w) or (h, w, 3); a list of them to a list.

        Raises:
            FormatError: not a container, a damaged one, or one of a later version; `where` says which
                of several.
            ModelNotFoundError: it was written by another model.
        """
        items = []
        for number, item in enumerate(_as_bytes(data)):
            with at("" if isinstance(data, _BYTES) else f"container {number}"):
                found = container.unpack(item)
                self.check_restorable(found.original_size)
                items.append((found, self.decode_payload(found)))
        decoded: list[Pixels] = list(self.reconstruct(*zip(*items, strict=True))) if items else []
        decoded = [image[..., 0] if image.shape[2] == 1 else image for image in decoded]
        return decoded[0] if isinstance(data, _BYTES) else decoded

    def quality(self, quality: int | None) -> int:
        """The quality, or the model's default for None. Raises CvaeError when it is out of range."""
        if quality is None:
            return self.model.manifest.default_quality
        if not isinstance(quality, int | np.integer) or quality not in QUALITIES:
            raise CvaeError(f"expected a quality of 1 to {QUALITIES[-1]}, found {quality!r}")
        return int(quality)

    def expected_psnr(self, quality: int) -> float:
        """What 99 % of the model's validation images reach at a quality, in dB."""
        return self.model.manifest.expected_psnr[quality - 1]

    def quantize(
        self, batch: Pixels, quality: int, effort: int = DEFAULT_EFFORT, threads: int | None = None
    ) -> Symbols:
        """uint8 (n, h, w, c) -> symbols (n, elements): rounded, then searched from effort 1 on.

        Raises CvaeError when the effort is out of range. `threads` is that of `Network`.
        """
        _check_effort(effort)
        coding = self.sized(*batch.shape[1:3]).coding
        x = coding.prepared(batch)
        return coding.choose(x, coding.analyse(x, threads), quality, effort, threads)

    def latents(self, batch: Pixels) -> Latents:
        """uint8 (n, h, w, c) -> latents (n, elements); of a VAE the posterior means."""
        coding = self.sized(*batch.shape[1:3]).coding
        return coding.analyse(coding.prepared(batch))

    def synthesize(self, symbols: Symbols, quality: int, threads: int | None = None) -> Pixels:
        """Symbols (n, elements) -> uint8 (n, h, w, c)."""
        return self.to_pixels(self.coding.dequantize(symbols, quality), threads)

    def to_pixels(self, latents: Latents, threads: int | None = None) -> Pixels:
        """Latents (n, elements) -> uint8 (n, h, w, c) through the synthesis network."""
        return self.coding.pictures(latents, threads)

    def encode_batch(
        self, batch: Pixels, options: EncodeOptions = _DEFAULTS, sizes: _Sizes | None = None
    ) -> list[Encoded]:
        """uint8 (n, h, w, c) -> one result an image, each decoded again to know its PSNR.

        A model of any size takes any h and w, and c = 1 for pictures that are to come back grey; it
        needs no `sizes`. Uses `quality`, `effort` and `invert` of the options; `decode` restores the
        sizes. Raises CvaeError when quality or effort is out of range, or the model cannot invert.
        """
        return self._encoder(batch, options, sizes)(self.quality(options.quality))

    def encode_to_target(
        self, batch: Pixels, options: EncodeOptions, sizes: _Sizes | None = None
    ) -> list[Encoded | TargetError]:
        """As `encode_batch`, each image at the quality that `max_bytes` and `min_psnr` ask for.

        An image that cannot be coded so gives a TargetError that says how near it comes. All hundred
        qualities are tried: neither bytes nor PSNR of a searched image rise with every one of them,
        so that a bisection would settle anywhere.

        With a model of any size, whose pictures may be large, each is coded some ten times instead:
        a bisection over the quality, then a few neighbours of where it ends, of which the best is
        taken. Bytes and PSNR nearly always rise there, and what they miss is small.
        """
        best: list[Encoded] = []
        if self.any_size:
            each = (self._encoder(batch[i : i + 1], options, None) for i in range(len(batch)))
            best = [bisected(work, options, QUALITIES) for work in each]
        else:
            work = self._encoder(batch, options, sizes)
            for coded in map(work, QUALITIES):
                pairs = zip(best or coded, coded, strict=True)
                best = [max(pair, key=options.rank) for pair in pairs]
        return [item if options.allows(item) else options.missed(item) for item in best]

    def _encoder(
        self, batch: Pixels, options: EncodeOptions, sizes: _Sizes | None
    ) -> Callable[[int], list[Encoded]]:
        """What codes the images at a quality; they are analysed once for all qualities."""
        _check_effort(options.effort)
        self.check_invert(options.invert)
        codec, grey = self.sized(*batch.shape[1:3]), self.any_size and batch.shape[3] == 1
        coding, model_id = codec.coding, self.model.manifest.id
        pixels = 255 - batch if options.invert else batch
        x = coding.prepared(np.repeat(pixels, self.image_shape[2], axis=3) if grey else pixels)
        latents = coding.analyse(x)

        def encode(quality: int) -> list[Encoded]:
            symbols = coding.choose(x, latents, quality, options.effort)
            payloads = coding.encode_each(symbols, quality)
            bits = coding.information_bits(symbols, quality).tolist()
            back = codec.synthesize(symbols, quality)
            psnr = metrics.psnr(pixels, images.as_grey(back) if grey else back).tolist()
            expected, coded = self.expected_psnr(quality), []
            own = batch.shape[2], batch.shape[1]
            for i, payload in enumerate(payloads):
                size = own if self.any_size else sizes[i] if sizes else None
                flags = options.invert, self.staged, grey
                data = container.pack(Container(model_id, quality, payload, size, *flags))
                known = len(payload), bits[i], psnr[i], expected
                coded.append(Encoded(data, symbols[i], quality, *known))
            return coded

        return encode

    def decode_containers(self, containers: Sequence[Container]) -> list[Pixels]:
        """Containers -> uint8 (h, w, c) each; see `reconstruct`. Raises as `decode_payload`."""
        symbols = [self.decode_payload(item) for item in containers]
        return list(self.reconstruct(containers, symbols))

    def decode_payload(self, item: Container) -> Symbols:
        """The symbols (1, elements) in a container.

        Raises FormatError when it is damaged, ModelNotFoundError when another model wrote it.
        """
        return self._sized_of(item).coding.decode_each(item.payload, item.quality)

    def information_bits(self, item: Container, symbols: Symbols) -> float:
        """The information content of a container's symbols."""
        return float(self._sized_of(item).coding.information_bits(symbols, item.quality)[0])

    def _sized_of(self, item: Container) -> Codec:
        """The codec of a container's size; raises as `decode_payload`, before anything is allocated."""
        self.check_id(item.model_id)
        if item.staged != self.staged or (self.any_size and item.original_size is None):
            wrong = "has no size" if item.staged == self.staged else "is of another kind"
            raise FormatError(f"{wrong}, unlike the containers of model {self.name}")
        _check_pixels(item.original_size, MAX_PIXELS)
        width, height = item.original_size or (1, 1)
        return self.sized(height, width)

    def check_restorable(self, size: Size | None) -> None:
        """Raises FormatError when (width, height) are more pixels than this codec restores."""
        _check_pixels(size, MAX_PIXELS)
        _check_pixels(size, self.max_pixels, images.MORE_PIXELS)

    def payload_latents(self, item: Container) -> Latents:
        """The latents (elements,) that a container's symbols stand for; raises as `decode_payload`."""
        coding = self._sized_of(item).coding
        return coding.dequantize(self.decode_payload(item), item.quality).reshape(-1)

    def reconstruct(
        self, containers: Sequence[Container], symbols: Sequence[Symbols]
    ) -> Iterator[Pixels]:
        """The uint8 pictures (h, w, c) of containers and their symbols.

        All go through one pass of the synthesis, or one by one where the model takes any size.
        Inversion is undone, the original size restored, and grey pictures have one channel. Raises as
        `restored` does.
        """
        for item, picture in zip(containers, self.synthesized(containers, symbols), strict=True):
            yield self.restored(item, picture)

    def synthesized(
        self, containers: Sequence[Container], symbols: Sequence[Symbols]
    ) -> list[Pixels]:
        """The first half of `reconstruct`: what the networks make of symbols."""
        pairs = list(zip(containers, symbols, strict=True))
        if self.any_size:
            return [self._sized_of(item).synthesize(rows, item.quality)[0] for item, rows in pairs]
        latents = [self.coding.dequantize(rows, item.quality) for item, rows in pairs]
        return list(self.to_pixels(np.concatenate(latents))) if latents else []

    def restored(self, item: Container, picture: Pixels) -> Pixels:
        """The second half: a picture as it was before it was brought to what the networks take.

        Raises FormatError when it had more pixels than this codec restores.
        """
        self.check_restorable(item.original_size)
        picture = 255 - picture if item.inverted else picture
        picture = images.as_grey(picture) if item.grey else picture
        if self.any_size or item.original_size is None:
            return picture
        return images.resize(picture, *item.original_size)

    def decode_symbols(self, symbols: NDArray, quality: int) -> Pixels:
        """An array of symbols of the latents' shape, as `.npy` files hold them -> uint8 (h, w, c).

        Raises FormatError when it has another shape or dtype, or symbols beyond the format's range.
        """
        if self.any_size:
            self.refuse_npy()
        shape = self.model.manifest.latent_shape
        if symbols.shape != shape or symbols.dtype.kind not in "iu":
            found = f"{symbols.dtype} {symbols.shape}"
            raise FormatError(f"expected an array of integers of shape {shape}, found {found}")
        if symbols.size and max(-int(symbols.min()), int(symbols.max())) > MAX_SYMBOL:
            raise FormatError(f"expected |symbol| <= {MAX_SYMBOL}")
        rows = symbols.reshape(1, -1).astype(np.int32)
        return np.asarray(self.synthesize(rows, self.quality(quality))[0])

    def check_id(self, model_id: int) -> None:
        """Raises ModelNotFoundError when the id is not this model's."""
        own = self.model.manifest.id
        if model_id != own:
            expected = f"expected {own:#06x} of {self.name}"
            raise ModelNotFoundError(f"written by the model of id {model_id:#06x}, {expected}")

    def batch(self, shape: tuple[int, ...]) -> int:
        """How many images of a shape (h, w, c) go through the networks together."""
        return max(1, images.BATCH_PIXELS // (shape[0] * shape[1]))

    def refuse_npy(self) -> None:
        """Raises CvaeError: symbols as `.npy` do not say of what size their image is."""
        text = f"symbols as .npy have no size, and model {self.name} takes images of any"
        raise CvaeError(text, advice="a container, .bin, has one")

    def check_invert(self, invert: bool) -> None:
        """Raises CvaeError when images are to be inverted, and the model's containers cannot say so."""
        if invert and self.staged:
            text = f"model {self.name} does not invert images"
            raise CvaeError(text, advice="leave out invert=True")

    def as_pictures(self, images: Any) -> list[Pixels]:
        """Images of any sizes as arrays (h, w, 1 or 3); raises ImageError when they are none."""
        several = isinstance(images, list | tuple) or np.ndim(images) > 3
        return [as_picture(image) for image in (images if several else [images])]

    def as_batch(self, images: Any) -> Pixels:
        """Images as one array (n, h, w, c). Raises ImageError when they are not of the model's shape."""
        shape, flat = self._shapes
        try:
            batch = np.asarray(images)
        except ValueError as error:
            raise ImageError(f"expected arrays of one shape {flat}: {error}") from error
        if batch.shape == (0,):
            batch = np.empty((0, *shape), np.uint8)
        fits = self._is_single(images) or batch.shape[1:] in (shape, flat)
        if batch.dtype != np.uint8 or not fits:
            found = f"{batch.dtype} {batch.shape}"
            raise ImageError(f"expected uint8 arrays of shape {flat}, found {found}")
        return batch.reshape(-1, *shape)

    def _is_single(self, image: Any) -> bool:
        if self.any_size:
            return isinstance(image, np.ndarray) and image.ndim <= 3
        return isinstance(image, np.ndarray) and image.shape in self._shapes


def _check_effort(effort: int) -> None:
    if effort not in range(MAX_EFFORT + 1):
        raise CvaeError(f"expected an effort of 0 to {MAX_EFFORT}, found {effort!r}")


def _check_pixels(size: Size | None, most: int, advice: str = "") -> None:
    if size is not None and size[0] * size[1] > most:
        text = f"expected an image of at most {most:,} pixels, found {size[0]}x{size[1]}"
        raise FormatError(text, advice=advice)


def _as_bytes(data: Any) -> list[bytes]:
    items = [data] if isinstance(data, _BYTES) else data
    if not isinstance(items, list | tuple) or not all(isinstance(item, _BYTES) for item in items):
        raise FormatError(f"expected bytes or a list of bytes, found {type(data).__name__}")
    return [bytes(item) for item in items]


def open_model(model: str | Path = registry.DEFAULT, max_pixels: int | None = None) -> Codec:
    """A codec by its model's name (see `cvae models`) or the path of a `.cvae` file.

    `max_pixels` is how many pixels an image may have that was fitted, and is restored.

    Raises:
        CvaeError: the format has no images of `max_pixels`.
        ModelNotFoundError: no model has that name, or several have.
        ModelKindError: it is a denoiser.
        ModelError: the file cannot be read.
    """
    return Codec(registry.open_model(model)).restoring(max_pixels)


def find_codec(model_id: int) -> Codec:
    """The codec of a model by its id. Raises ModelNotFoundError when none or several have it."""
    return Codec(registry.find_by_id(model_id, kinds.codes))


def open_model_of(data: bytes) -> Codec:
    """The codec that a container names; raises FormatError when it is damaged, else as `find_codec`."""
    return find_codec(container.unpack(data).model_id)
