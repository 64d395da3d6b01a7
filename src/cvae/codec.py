"""Images <-> the container of one model: the front door to networks, quantizer and coders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, overload

import numpy as np

from cvae import kinds
from cvae.bitstream import container
from cvae.bitstream.container import MAX_SIDE, Container
from cvae.bitstream.tables import Symbols
from cvae.checks import expect, shown, threads_of, truth, whole
from cvae.data import given, images, metrics
from cvae.data.given import as_array
from cvae.data.images import Pixels, Shape, alike
from cvae.data.reading import Reading
from cvae.decoder import Decoder
from cvae.errors import CvaeError, TargetError, at
from cvae.models import registry
from cvae.models.qualities import QUALITIES, Latents
from cvae.models.recorded import recorded_reading
from cvae.options import DEFAULT_EFFORT, MAX_EFFORT, Encoded, EncodeOptions, Size, bisected

_Sizes = Sequence[Size | None]  # (width, height) of each image before it was fitted
_DEFAULTS = EncodeOptions()
# What transparent pictures are laid on where nobody says: those of any size, and others.
WHITE, BLACK = "#ffffff", "#000000"


class _Work(Protocol):
    """Codes images at a quality; after the last one it is of no use."""

    def __call__(self, quality: int, last: bool = ...) -> list[Encoded]: ...


class QualityWarning(UserWarning):
    """An image came back worse than nearly all validation images: not the kind that the model codes."""


class Taken(NamedTuple):
    """Images that a caller of the API gives, checked."""

    batches: list[Pixels]  # (n, h, w, c): images that follow each other and have one size
    single: bool  # one image, and no list or array of some


class Codec(Decoder):
    """Encodes and decodes images with one model; made by `cvae.open_model`.

    Whatever is wrong with an argument is a CvaeError.
    """

    def reading(self, options: EncodeOptions = _DEFAULTS, alpha: bool = False) -> Reading:
        """How image files become what the model codes.

        With `alpha`, as single files have it, a lossless model of any size keeps transparency.

        It is what training did, where that read a folder; else images have to be of the shape. Of the
        options, `fit`, `crop`, `background` and `labels` change it. A model of any size takes grey images
        with one channel. Raises ModelError when the manifest's account of it is damaged.
        """
        expect(options, EncodeOptions, "options of an encoder")
        truth(alpha, "alpha")
        if self.lossless:
            return self._exact_reading(options, alpha)
        known = recorded_reading(self.model)
        ground = options.background or (known.background if known else None)
        labels, folders = options.labels == "auto", options.labels == "folder"
        if self.any_size:
            shape = 0, 0, self.image_shape[2]
            return Reading(shape, "any", ground or WHITE, labels=labels, folders=folders)
        fit: Any = known.fit if known else "stretch" if options.fit else "exact"
        if options.crop is not None:
            fit = "crop" if options.crop else "stretch"
        return Reading(
            self.image_shape, fit, ground or BLACK, lays=ground is not None, most=self.max_pixels,
            labels=labels, folders=folders,
        )  # fmt: skip

    def _exact_reading(self, options: EncodeOptions, alpha: bool) -> Reading:
        """How a lossless model reads: pixels are as they are, or refused. Raises CvaeError."""
        if not self.any_size and (options.fit or options.crop is not None):
            text = f"model {self.name} is lossless, and does not fit images to its size"
            raise CvaeError(text, advice="a model for pictures of any size takes others")
        ground, channels = options.background, self.image_shape[2]
        shape = (0, 0, channels) if self.any_size else self.image_shape
        return Reading(
            shape, "any" if self.any_size else "exact", ground or (WHITE if self.any_size else BLACK),
            lays=ground is not None, strict=True, alpha=alpha and self.any_size and ground is None,
            labels=options.labels == "auto", folders=options.labels == "folder",
        )  # fmt: skip

    def read(self, image: given.Readable, options: EncodeOptions = _DEFAULTS) -> Pixels:
        """An image file, or an image of Pillow, as `cvae encode` reads it for this model.

        It is turned upright and converted to sRGB, transparent parts are laid on a colour, and where
        training cropped and scaled images, it is, too; of the options, `reading` tells which count, and
        `max_pixels` is one. A ConversionWarning says what was lost or converted. Of an image of Pillow
        that was decoded before, it is not known any more whether there were more than 8 bits of colours.

        What `encode` makes of the array decodes to an array of its shape; the command's file, to a
        picture of the size before it was fitted.

        Returns:
            uint8 (h, w), (h, w, 3) or, of a lossless model that keeps transparency, (h, w, 4).

        Raises:
            ImageShapeError: the image differs from what the model codes, and is not to be fitted.
            ImageError: it cannot be read.
        """
        expect(options, EncodeOptions, "options of an encoder")
        return given.read(image, self.restoring(options.max_pixels).reading(options, alpha=True))

    @overload
    def encode(
        self, image: Pixels, quality: int | None = ..., effort: int = ..., *,
        max_bytes: int | None = ..., min_psnr: float | None = ...,
    ) -> bytes: ...  # fmt: skip
    @overload
    def encode(
        self, image: Sequence[Pixels], quality: int | None = ..., effort: int = ..., *,
        max_bytes: int | None = ..., min_psnr: float | None = ...,
    ) -> list[bytes]: ...  # fmt: skip
    def encode(
        self, image: Any, quality: int | None = None, effort: int = DEFAULT_EFFORT, *,
        max_bytes: int | None = None, min_psnr: float | None = None,
    ) -> bytes | list[bytes]:  # fmt: skip
        """Encodes one image, or a batch of images each by itself.

        Args:
            image: uint8 (h, w) or (h, w, c) of the model's shape, or an image of Pillow, gives bytes;
                a list of such, or one array with a leading batch axis, gives a list of bytes. A model of
                any size takes (h, w), which is grey, and (h, w, 3), and batches of four axes alone.
            quality: 1 (smallest) to 100 (best); None for the model's default.
            effort: 0 (plain rounding) to 9 (longest search for better symbols).
            max_bytes: each image at the quality of its best picture in so many bytes.
            min_psnr: each image at the quality of its smallest file of so many dB.

        Raises:
            ImageError: an array is of another dtype; an ImageShapeError, of another size or channels;
                of several, `where` says which.
            TargetError: an image cannot be coded so; of several, `where` says which.
            CvaeError: quality or effort is out of range, or a limit comes with a quality.
        """
        options = EncodeOptions(
            quality=quality, effort=effort, max_bytes=max_bytes, min_psnr=min_psnr
        )
        if options.has_target and quality is not None:
            text = (
                "expected either a quality, or max_bytes or min_psnr, which choose it, found both"
            )
            raise CvaeError(text)
        taken = self._taken(image)
        coded: list[Encoded] = []
        for batch in taken.batches:
            code = self.encode_to_target if options.has_target else self.encode_batch
            for item in code(batch, options):
                with at("" if taken.single else f"image {len(coded)}"):
                    coded.append(_reached(item))
        if poor := sum(item.poor for item in coded):
            least = f"{coded[0].expected_psnr:.1f} dB expected of model {self.name}"
            text = f"{poor} of {len(coded)} images came back below the {least}"
            given.warn(text, QualityWarning)
        return coded[0].data if taken.single else [item.data for item in coded]

    def expected_psnr(self, quality: int) -> float:
        """What 99 % of the model's validation images reach at a quality, in dB."""
        if self.lossless:
            return metrics.PSNR_CAP
        return self.model.manifest.expected_psnr[self.quality(quality) - 1]

    def quantize(
        self, batch: Pixels, quality: int, effort: int = DEFAULT_EFFORT, threads: int | None = None
    ) -> Symbols:
        """uint8 (n, h, w, c) -> symbols (n, elements): rounded, then searched from effort 1 on.

        Raises CvaeError when an argument is out of range. `threads` is that of `Network`.
        """
        _check_effort(effort)
        self._check_batch(batch)
        quality, threads = self.quality(quality), threads_of(threads)
        coloured = self.coloured(batch)
        coding = self.sized(*coloured.shape[1:3]).coding
        x = coding.prepared(coloured)
        return coding.choose(x, coding.analyse(x, threads), quality, effort, threads)

    def latents(self, images: Any) -> Any:
        """Images, as `encode` takes them, -> their latents; of a VAE the posterior means.

        Those of one image are (elements,), those of several (n, elements). A list of images gives a
        list where the model takes any size, for then they may differ in size. Raises ImageError.
        """
        taken = self._taken(images)
        parts = [self._analysed(batch) for batch in taken.batches]
        if taken.single:
            return parts[0][0]
        if self.any_size and given.is_list(images):
            return [row for part in parts for row in part]
        return np.concatenate(parts or [np.empty((0, 0), np.float32)])

    def encode_batch(
        self, batch: Pixels, options: EncodeOptions = _DEFAULTS, sizes: _Sizes | None = None
    ) -> list[Encoded]:
        """uint8 (n, h, w, c) -> one result an image, each decoded again to know its PSNR.

        A model of any size takes any h and w, and c = 1 for pictures that are to come back grey; it
        needs no `sizes`. Uses `quality`, `effort` and `invert` of the options; `decode` restores the
        sizes. Raises CvaeError when quality or effort is out of range, or the model cannot invert.
        """
        expect(options, EncodeOptions, "EncodeOptions")
        return self._encoder(batch, options, sizes)(self.quality(options.quality), last=True)

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
        expect(options, EncodeOptions, "EncodeOptions")
        if self.lossless:
            raise CvaeError(
                f"model {self.name} is lossless: its files have one size, and every pixel"
            )
        self._check_batch(batch)
        _check_sizes(sizes, len(batch))
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

    def _encoder(self, batch: Pixels, options: EncodeOptions, sizes: _Sizes | None) -> _Work:
        """What codes the images at a quality; they are analysed once for all qualities."""
        _check_effort(options.effort)
        self.check_invert(options.invert)
        self._check_batch(batch)
        _check_sizes(sizes, len(batch))
        grey, alpha = self.any_size and batch.shape[3] == 1, batch.shape[3] == 4
        own = batch.shape[2], batch.shape[1]
        if alpha:  # it is coded as a picture of twice the height
            given.check_alpha(own, self._most // 2)
        batch = self.coloured(batch) if alpha else batch
        codec = self.sized(*batch.shape[1:3])
        coding, model_id = codec.coding, self.model.manifest.id
        pixels = 255 - batch if options.invert else batch
        x = coding.prepared(self.coloured(pixels))
        latents = coding.analyse(x)

        def encode(quality: int, last: bool = False) -> list[Encoded]:
            # A copy of a large picture's latents takes as much memory as its symbols.
            given_up = latents if last else latents.copy()
            symbols = coding.choose(x, given_up, quality, options.effort)
            payloads, information = coding.coded_each(symbols, quality)
            bits = information.tolist()
            back = codec.synthesize(symbols, quality)
            psnr = metrics.psnr(pixels, images.as_grey(back) if grey else back).tolist()
            expected, coded = self.expected_psnr(quality), []
            for i, payload in enumerate(payloads):
                size = own if self.any_size else sizes[i] if sizes else None
                flags = options.invert, self.staged, grey, alpha
                data = container.pack(Container(model_id, quality, payload, size, *flags))
                known = len(payload), bits[i], psnr[i], expected
                coded.append(Encoded(data, symbols[i], quality, *known))
            return coded

        return encode

    def takes(self, shape: Shape) -> bool:
        """Whether pictures (h, w, c) are of the model's shape."""
        expect(shape, tuple, "a shape (h, w, c)")
        if len(shape) != 3:
            return False
        if self.any_size:
            return shape[2] in (1, self.image_shape[2], *self._more)
        return shape == self.image_shape

    @property
    def _more(self) -> tuple[int, ...]:
        """Further channels that pictures may have: those with alpha."""
        return (4,) if self.lossless and self.any_size else ()

    def bits(self, pictures: Sequence[Pixels]) -> float:
        """The information content of pictures (h, w, c), together, at the default quality and no effort."""
        quality, total = self.quality(None), 0.0
        for batch in alike(self.as_pictures(pictures)):
            coding = self.sized(*self.coloured(batch).shape[1:3]).coding
            symbols = self.quantize(batch, quality, 0)
            total += float(coding.information_bits(symbols, quality).sum())
        return total

    def batch(self, shape: tuple[int, ...]) -> int:
        """How many images of a shape (h, w, c) go through the networks together."""
        expect(shape, tuple, "a shape (h, w, c)")
        height, width = (whole(side, "a shape (h, w, c)") for side in (*shape, 0, 0)[:2])
        return max(1, images.BATCH_PIXELS // (height * width))

    def check_invert(self, invert: bool) -> None:
        """Raises CvaeError when images are to be inverted, and the model's containers cannot say so."""
        if truth(invert, "invert") and self.staged:
            text = f"model {self.name} does not invert images"
            raise CvaeError(text, advice="leave out invert=True")

    def _taken(self, images: Any) -> Taken:
        """What a caller of `encode` or `latents` gives. Raises ImageError."""
        if not self.any_size:
            batch, single = given.as_stack(images, self.image_shape)
            return Taken([batch], single)
        several = given.is_list(images) or as_array(images).ndim > 3
        return Taken(list(alike(self.as_pictures(images))), not several)

    def as_pictures(self, images: Any) -> list[Pixels]:
        """Images of any sizes as arrays (h, w, 1 or 3); raises ImageError when they are none."""
        return given.as_pictures(images, (1, 3, *self._more))

    def as_batch(self, images: Any) -> Pixels:
        """Images as one array (n, h, w, c). Raises ImageError when they are not of the model's shape."""
        return given.as_stack(images, self.image_shape)[0]

    def _check_batch(self, batch: Pixels) -> None:
        """Raises ImageError unless it is uint8 (n, h, w, c) of the model's shape."""
        *sides, channels = self.image_shape
        height, width = ("h", "w") if self.any_size else sides
        expected = f"uint8 arrays of shape (n, {height}, {width}, {channels})"
        given.check_batch(batch, expected)
        found = batch.shape[1:]
        if not self.takes(found):
            raise given.refusal(expected, batch, sized=not self.any_size)

    def coloured(self, batch: Pixels) -> Pixels:
        """A batch as it is coded: grey pictures in three channels, transparency below the colours."""
        self._check_batch(batch)
        if self.any_size and batch.shape[3] == 1:
            return np.repeat(batch, self.image_shape[2], axis=3)
        return images.below(batch) if batch.shape[3] == 4 else batch

    def _analysed(self, batch: Pixels) -> Latents:
        coloured = self.coloured(batch)
        coding = self.sized(*coloured.shape[1:3]).coding
        return coding.analyse(coding.prepared(coloured))


def _reached(item: Encoded | TargetError) -> Encoded:
    if isinstance(item, TargetError):
        raise item
    return item


def _check_effort(effort: int) -> None:
    if not isinstance(effort, int | np.integer) or effort not in range(MAX_EFFORT + 1):
        raise CvaeError(f"expected an effort of 0 to {MAX_EFFORT}, found {shown(effort)}")


def _check_sizes(sizes: _Sizes | None, count: int) -> None:
    if sizes is None:
        return
    if not given.is_list(sizes) or len(sizes) != count:
        raise CvaeError(f"expected the sizes of {count} images, found {given.described(sizes)}")
    for size in sizes:
        expect(size, (tuple, type(None)), "a size (width, height)")
        for side in size or ():
            whole(side, f"sides of 1 to {MAX_SIDE} pixels", 1, MAX_SIDE)
        if size is not None and len(size) != 2:
            raise CvaeError(f"expected a size (width, height), found {shown(size)}")


def open_model(
    model: str | Path | Codec = registry.DEFAULT, max_pixels: int | None = None
) -> Codec:
    """A codec by its model's name (see `cvae models`) or the path of a `.cvae` file; a codec is itself.

    `max_pixels` is how many pixels an image may have that was fitted, and is restored.

    Raises:
        CvaeError: the format has no images of `max_pixels`.
        ModelNotFoundError: no model has that name, or several have.
        ModelKindError: it is a denoiser.
        ModelError: the file cannot be read.
    """
    codec = model if isinstance(model, Codec) else Codec(registry.open_model(model))
    return codec.restoring(max_pixels)


def find_codec(model_id: int) -> Codec:
    """The codec of a model by its id. Raises ModelNotFoundError when none or several have it."""
    return Codec(registry.find_by_id(model_id, kinds.codes))
