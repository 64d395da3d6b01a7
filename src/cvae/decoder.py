"""The container of one model -> images, and what a codec is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from cvae import kinds
from cvae.bitstream.container import LOSSLESS, MAX_SIDE, Container
from cvae.bitstream.tables import MAX_SYMBOL, Symbols
from cvae.checks import expect, shown, threads_of, whole
from cvae.data import contents, given, images
from cvae.data.given import as_picture
from cvae.data.images import MAX_PIXELS, Pixels
from cvae.errors import CvaeError, FormatError, ModelError, ModelNotFoundError, at, translated
from cvae.models.file import Model
from cvae.models.qualities import QUALITIES, Latents
from cvae.options import Size


class Decoder:
    """Decodes the containers of one model. Its `Codec` encodes, too."""

    def __init__(self, model: Model) -> None:
        """Raises ModelKindError when the model is a denoiser, ModelError when its manifest is damaged."""
        expect(model, Model, "a model, which `cvae.open_model` opens", ModelError)
        self.model = model
        kind = kinds.of(model.manifest, model.path)
        self.any_size, self.staged = kind.any_size, kind.staged  # see `Kind`
        self.lossless, self._most = kind.lossless, kind.most_pixels
        # Whether networks tell the symbols of a block, so that each block of a pack is worth a thread.
        self.by_block = kind.lossless and not kind.any_size
        self.coding = self._whole = kind.coding(model)
        self.name = model.manifest.name
        self.image_shape = shape = model.manifest.image_shape  # (h, w, c)
        # Of an image that was fitted, or that claims to have been: `restoring` changes it.
        self.max_pixels = MAX_PIXELS if self.any_size else images.restorable(shape)

    def __repr__(self) -> str:
        manifest = self.model.manifest
        takes = kinds.of(manifest).describe(manifest)
        return f"<{type(self).__name__} {self.name}, id {manifest.id:#06x}, {takes}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its model is: by path and id."""
        size = None if self.coding is self._whole else self.image_shape[:2]
        return _again, (type(self), self.model, self.max_pixels, size)

    def _copy(self) -> Self:
        """Another codec on the same networks; `copy.copy` would open the file again."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        return other

    def sized(self, height: int, width: int) -> Self:
        """The codec for images of that many pixels; itself where the model takes one size.

        It shares the model; its `coding` and `image_shape` are those of the size.
        """
        if not self.any_size:
            return self
        height, width = (whole(side, "sides in pixels", 1, MAX_SIDE) for side in (height, width))
        if height * width > self._most:
            found = f"found {width}x{height}"
            raise CvaeError(f"expected an image of at most {self._most:,} pixels, {found}")
        sized = self._copy()
        sized.coding = self._whole.sized(height, width)
        sized.image_shape = height, width, self.image_shape[2]
        return sized

    def restoring(self, max_pixels: int | None) -> Self:
        """The codec that fits and restores images of up to so many pixels; itself for None.

        Raises CvaeError when the format has no images of so many.
        """
        if max_pixels is None:
            return self
        most = whole(max_pixels, f"max_pixels of 1 to {MAX_PIXELS:,}", 1, MAX_PIXELS)
        restoring = self._copy()
        restoring.max_pixels = MAX_PIXELS if self.any_size else most
        return restoring

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
        return decode(data, lambda _: self)

    def quality(self, quality: int | None) -> int:
        """The quality, or the model's default for None. Raises CvaeError when it is out of range."""
        if quality is None:
            return self.model.manifest.default_quality
        if self.lossless:
            if isinstance(quality, int | np.integer) and quality == LOSSLESS:
                return LOSSLESS
            text = f"model {self.name} is lossless and has no qualities, found {shown(quality)}"
            raise CvaeError(text)
        if not isinstance(quality, int | np.integer) or quality not in QUALITIES:
            raise CvaeError(f"expected a quality of 1 to {QUALITIES[-1]}, found {shown(quality)}")
        return int(quality)

    def synthesize(self, symbols: Symbols, quality: int, threads: int | None = None) -> Pixels:
        """Symbols (n, elements) -> uint8 (n, h, w, c)."""
        self._check_symbols(symbols)
        latents = self.coding.dequantize(
            symbols.astype(np.int32, copy=False), self.quality(quality)
        )
        return self.to_pixels(latents, threads)

    def to_pixels(self, latents: Latents, threads: int | None = None) -> Pixels:
        """Latents (n, elements) -> uint8 (n, h, w, c) through the synthesis network."""
        floats = isinstance(latents, np.ndarray) and latents.dtype.kind == "f"
        if not floats or not (self.any_size or latents.shape[1:] == (self.coding.elements,)):
            expected = f"floats of shape (n, {self.coding.elements})"
            raise CvaeError(f"expected {expected}, found {given.described(latents)}")
        with translated(
            CvaeError, "expected latents of images of this size", self.name, ValueError
        ):
            return self.coding.pictures(latents.astype(np.float32, copy=False), threads_of(threads))

    def decode_containers(self, containers: Sequence[Container]) -> list[Pixels]:
        """Containers -> uint8 (h, w, c) each; see `reconstruct`. Raises as `decode_payload`."""
        _check_list(containers)
        return list(self.reconstruct(containers, self._symbols_of(containers)))

    def _symbols_of(self, containers: Sequence[Container]) -> list[Symbols]:
        """The symbols (1, elements) of each container; raises as `decode_payload`."""
        if self.any_size:
            return [self.decode_payload(item) for item in containers]
        found: list[Symbols] = []
        for item in containers:
            self._sized_of(item)
        for quality, group in groupby(containers, key=lambda item: item.quality):
            found += self.coding.decode_all([item.payload for item in group], quality)
        return found

    def decode_payload(self, item: Container) -> Symbols:
        """The symbols (1, elements) in a container.

        Raises FormatError when it is damaged, ModelNotFoundError when another model wrote it.
        """
        return self._sized_of(item).coding.decode_each(item.payload, item.quality)

    def information_bits(self, item: Container, symbols: Symbols) -> float:
        """The information content of a container's symbols."""
        codec = self._sized_of(item)
        codec._check_symbols(symbols, 1)
        return float(codec.coding.information_bits(symbols, item.quality)[0])

    def _sized_of(self, item: Container) -> Self:
        """The codec of a container's size; raises as `decode_payload`, before anything is allocated."""
        expect(item, Container, "a container that was read", FormatError)
        self.check_id(item.model_id)
        self.quality(item.quality)
        if item.staged != self.staged or (self.any_size and item.original_size is None):
            wrong = "has no size" if item.staged == self.staged else "is of another kind"
            raise FormatError(f"{wrong}, unlike the containers of model {self.name}")
        _check_pixels(item.original_size, min(MAX_PIXELS, self._most) // (1 + item.alpha))
        if self.lossless and not self.any_size and (item.original_size or item.grey):
            raise FormatError(f"has a size or is grey, unlike the containers of model {self.name}")
        if item.alpha and not (self.lossless and self.any_size):
            raise FormatError(f"has alpha, unlike the containers of model {self.name}")
        if item.alpha and item.original_size and item.original_size[1] > MAX_SIDE // 2:
            raise FormatError(f"damaged: expected at most {MAX_SIDE // 2:,} rows with alpha")
        width, height = item.original_size or (1, 1)
        return self.sized(2 * height if item.alpha else height, width)

    def check_restorable(self, size: Size | None) -> None:
        """Raises FormatError when (width, height) are more pixels than this codec restores."""
        if size is not None:
            expect(size, tuple, "(width, height) in pixels")
            if len(size) != 2:
                raise CvaeError(f"expected (width, height) in pixels, found {len(size)} numbers")
            size = (whole(size[0], "a width in pixels"), whole(size[1], "a height in pixels"))
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
        _check_list(containers)
        if not given.is_list(symbols) or len(symbols) != len(containers):
            raise CvaeError(f"expected a list of symbols for each of {len(containers)} containers")
        pairs = list(zip(containers, symbols, strict=True))
        for item, rows in pairs:
            self._sized_of(item)._check_symbols(rows, 1)
        if self.any_size:
            return [self._sized_of(item).synthesize(rows, item.quality)[0] for item, rows in pairs]
        latents = [self.coding.dequantize(rows, item.quality) for item, rows in pairs]
        return list(self.to_pixels(np.concatenate(latents))) if latents else []

    def restored(self, item: Container, picture: Pixels) -> Pixels:
        """The second half: a picture as it was before it was brought to what the networks take.

        Raises FormatError when it had more pixels than this codec restores.
        """
        expect(item, Container, "a container", FormatError)
        self.check_restorable(item.original_size)
        picture = as_picture(picture)
        picture = 255 - picture if item.inverted else picture
        picture = images.as_grey(picture) if item.grey else picture
        picture = images.from_below(picture) if item.alpha else picture
        if self.any_size or item.original_size is None:
            return picture
        return images.resize(picture, *item.original_size)

    def decode_symbols(self, symbols: NDArray, quality: int) -> Pixels:
        """An array of symbols of the latents' shape, as `.npy` files hold them -> uint8 (h, w, c).

        Raises FormatError when it has another shape or dtype, or symbols beyond the format's range.
        """
        if self.staged:
            self.refuse_npy()
        shape = self.model.manifest.latent_shape
        found = symbols if isinstance(symbols, np.ndarray) else np.empty(0)
        if found.shape != shape or found.dtype.kind not in "iu":
            expected = f"an array of integers of shape {shape}"
            raise FormatError(f"expected {expected}, found {given.described(symbols)}")
        _check_range(symbols)
        rows = symbols.reshape(1, -1).astype(np.int32)
        return np.asarray(self.synthesize(rows, self.quality(quality))[0])

    def check_id(self, model_id: int) -> None:
        """Raises ModelNotFoundError when the id is not this model's."""
        own = self.model.manifest.id
        model_id = whole(model_id, "a model's id", 0)
        if model_id != own:
            expected = f"expected {own:#06x} of {self.name}"
            raise ModelNotFoundError(f"written by the model of id {model_id:#06x}, {expected}")

    def refuse_npy(self) -> None:
        """Raises CvaeError: symbols as `.npy` do not say of what size their image is, or are its pixels."""
        if self.lossless:
            text = f"the symbols of model {self.name} are the pixels, which numpy writes as .npy"
            raise CvaeError(text, advice="a container, .bin, is smaller")
        text = f"symbols as .npy have no size, and model {self.name} takes images of any"
        raise CvaeError(text, advice="a container, .bin, has one")

    def _check_symbols(self, symbols: Symbols, images: int | None = None) -> None:
        """Raises CvaeError unless they are integers (n, elements) of the codec's size, of so many images."""
        elements = self.coding.elements
        fits = given.is_rows(symbols, "iu", elements) and len(symbols) == (images or len(symbols))
        if not fits:
            expected = f"integers of shape ({images or 'n'}, {elements})"
            raise CvaeError(f"expected {expected}, found {given.described(symbols)}")
        _check_range(symbols)


def decode(
    data: bytes | Sequence[bytes], codec_of: Callable[[Container], Decoder]
) -> Pixels | list[Pixels]:
    """The image of a container, or those of a list, each by the codec of its own; see `Decoder.decode`."""
    several, items = given.is_list(data), []
    for number, item in enumerate(data if several else [data]):
        with at(f"container {number}" if several else ""):
            found = contents.unpack(item)  # type: ignore[arg-type]  # which checks it
            codec = codec_of(found)
            codec.check_restorable(found.original_size)
            items.append((codec, found, codec.decode_payload(found)))
    decoded: list[Pixels] = []
    for codec, group in groupby(items, key=itemgetter(0)):
        _, containers, symbols = zip(*group, strict=True)
        decoded += map(images.flat, codec.reconstruct(containers, symbols))
    return decoded if several else decoded[0]


def _again(
    kind: type[Decoder], model: Model, max_pixels: int, size: tuple[int, int] | None
) -> Decoder:
    """A codec that was pickled."""
    codec = kind(model).restoring(max_pixels)
    return codec.sized(*size) if size else codec


def _check_list(containers: Sequence[Container]) -> None:
    if not given.is_list(containers):
        raise FormatError(f"expected a list of containers, found {given.described(containers)}")


def _check_range(symbols: Symbols) -> None:
    if symbols.size and max(-int(symbols.min()), int(symbols.max())) > MAX_SYMBOL:
        raise FormatError(f"expected |symbol| <= {MAX_SYMBOL}")


def _check_pixels(size: Size | None, most: int, advice: str = "") -> None:
    if size is not None and size[0] * size[1] > most:
        text = f"expected an image of at most {most:,} pixels, found {size[0]}x{size[1]}"
        raise FormatError(text, advice=advice)
