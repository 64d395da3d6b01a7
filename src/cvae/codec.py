"""Images <-> bytes: composes networks, quantizer, coder and container of one model."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream import container, rans, tables
from cvae.bitstream import exact as entropy
from cvae.bitstream.container import Container
from cvae.bitstream.tables import Symbols
from cvae.data import images, metrics
from cvae.data.images import Pixels
from cvae.errors import CvaeError, FormatError, ImageError, ModelKindError, ModelNotFoundError
from cvae.models import registry
from cvae.models.file import CODEC, Model

MAX_EFFORT = 9
DEFAULT_EFFORT = 5
LINEAR = "linear"  # the architecture of a linear codec in a manifest's preset
_BYTES = (bytes, bytearray, memoryview)


class QualityWarning(UserWarning):
    """An image came back worse than nearly all validation images: not the kind that the model codes."""


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """How images are coded: all that is asked for besides the images and the model.

    `asdict` of it is what a folder of packs records as its request.
    """

    quality: int | None = None  # 1 to 100; None for the model's default
    effort: int = DEFAULT_EFFORT  # 0 (plain rounding) to 9 (longest search)
    max_bytes: int | None = None  # single files: the best picture in so many bytes
    min_psnr: float | None = None  # single files: the smallest file of so many dB
    fit: bool = False  # convert and resize images that the model does not code
    invert: bool = False  # invert before coding; decode inverts back
    split: str | None = None  # which images of an .npz file: test or train
    names: bool = True  # packs: keep the names of the images
    verify: bool = True  # packs: decode everything again, to know the PSNR
    block_images: int = 4096  # packs: images a block, at most


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What is known of images that were coded; tallies add up."""

    images: int = 0
    file_bytes: int = 0
    left_out: int = 0  # images that could not be coded
    verified: int = 0  # images that were decoded again
    psnr_sum: float = 0.0  # dB, of those
    poor: int = 0  # of those, images below what 99 % of the model's validation images reach
    poor_sampled: int = 0  # of the poor ones, how many were tried inverted
    poor_inverted: int = 0  # of these, how many are fine then

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )

    @property
    def psnr_mean(self) -> float | None:
        """In dB; None where nothing was decoded again."""
        return self.psnr_sum / self.verified if self.verified else None


@dataclass(frozen=True)
class Encoded:
    """One coded image and what is known of it."""

    data: bytes  # the container
    symbols: Symbols  # (elements,)
    quality: int
    payload_bytes: int
    information_bits: float
    psnr: float  # dB, of the pixels that `decode` gives for `data`
    expected_psnr: float  # dB, reached by 99 % of the model's validation images

    @property
    def poor(self) -> bool:
        """Whether the picture is worse than expected of the model's kind of image."""
        return self.psnr < self.expected_psnr


class Codec:
    """Encodes and decodes images with one model; made by `cvae.open_model`."""

    def __init__(self, model: Model) -> None:
        """Raises ModelKindError when the model is a denoiser."""
        if model.manifest.kind != CODEC:
            name = model.manifest.name
            raise ModelKindError(
                f"{name} is a denoiser, not a codec: `cvae denoise -m {name} IMAGE` uses it, "
                f"`cvae eval DATA -m {name} --noise 0.4` measures it"
            )
        self.model = model

    @property
    def name(self) -> str:
        """The name the model is known by."""
        return self.model.manifest.name

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of the images that the model codes."""
        return self.model.manifest.image_shape

    @overload
    def encode(
        self, image: NDArray[np.uint8], quality: int | None = None, effort: int = DEFAULT_EFFORT
    ) -> bytes: ...
    @overload
    def encode(
        self,
        image: Sequence[NDArray[np.uint8]],
        quality: int | None = None,
        effort: int = DEFAULT_EFFORT,
    ) -> list[bytes]: ...
    def encode(
        self, image: Any, quality: int | None = None, effort: int = DEFAULT_EFFORT
    ) -> bytes | list[bytes]:
        """Encodes one image, or a batch of images each by itself.

        Args:
            image: uint8 (h, w) or (h, w, c) of the model's shape gives bytes; a list of such
                arrays, or one array with a leading batch axis, gives a list of bytes.
            quality: 1 (smallest) to 100 (best); None for the model's default.
            effort: 0 (plain rounding) to 9 (longest search for better symbols).

        Raises:
            ImageError: an array is of another dtype or shape.
            CvaeError: quality or effort is out of range.
        """
        batch, single = self._as_batch(image)
        coded = self.encode_batch(batch, quality, effort=effort)
        poor = sum(item.poor for item in coded)
        if poor:
            warnings.warn(
                f"{poor} of {len(coded)} images came back below what model {self.name} is "
                f"expected to reach ({coded[0].expected_psnr:.1f} dB)",
                QualityWarning,
                stacklevel=2,
            )
        return coded[0].data if single else [item.data for item in coded]

    @overload
    def decode(self, data: bytes) -> Pixels: ...
    @overload
    def decode(self, data: Sequence[bytes]) -> list[Pixels]: ...
    def decode(self, data: bytes | Sequence[bytes]) -> Pixels | list[Pixels]:
        """Decodes the container of one image to uint8 (h, w) or (h, w, 3); a list of them to a list.

        Raises:
            FormatError: not a container, a damaged one, or one of a later version.
            ModelNotFoundError: it was written by another model.
        """
        items = _as_bytes(data)
        decoded = self.decode_containers([container.unpack(item) for item in items])
        decoded = [image[..., 0] if image.shape[2] == 1 else image for image in decoded]
        return decoded[0] if isinstance(data, _BYTES) else decoded

    def quality(self, quality: int | None) -> int:
        """The quality, or the model's default for None. Raises CvaeError when it is out of range."""
        if quality is None:
            return self.model.manifest.default_quality
        low, high = container.MIN_QUALITY, container.MAX_QUALITY
        if not isinstance(quality, int | np.integer) or not low <= quality <= high:
            raise CvaeError(f"expected a quality of {low} to {high}, found {quality!r}")
        return int(quality)

    def encode_block(self, symbols: Symbols, quality: int) -> bytes:
        """Symbols (n, elements) of many images as the payload of one block."""
        return rans.encode_block(symbols, self.model.bank.tables(quality))

    def decode_block(self, payload: bytes, images: int, quality: int) -> Symbols:
        """The inverse of `encode_block`. Raises FormatError when the payload is damaged."""
        return rans.decode_block(payload, images, self.model.bank.tables(quality))

    def quantize(self, batch: Pixels, quality: int, effort: int = DEFAULT_EFFORT) -> Symbols:
        """uint8 (n, h, w, c) -> symbols (n, elements): rounded, then searched from effort 1 on."""
        if effort not in range(MAX_EFFORT + 1):
            raise CvaeError(f"expected an effort of 0 to {MAX_EFFORT}, found {effort!r}")
        bank, x = self.model.bank, images.as_floats(batch)
        latents = self._analysis(x)
        quantizer = bank.quantizer(quality)
        if effort == 0:
            return quantizer.quantize(latents)
        from cvae.kinds import search

        problem = search.Problem(
            quantizer,
            bank.tables(quality),
            bank.curvature,
            self.model.manifest.latent_shape,
            self.model.synthesis,
            self._gradient(),
        )
        return search.search(x, latents, problem, effort)

    def latents(self, batch: Pixels) -> NDArray[np.float32]:
        """uint8 (n, h, w, c) -> latents (n, elements); of a VAE the posterior means."""
        return self._analysis(images.as_floats(batch))

    def _analysis(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, h, w, c) in [0, 1] -> latents (n, elements)."""
        return self.model.analysis(x).reshape(len(x), self.model.manifest.elements)

    def _gradient(self) -> Any:
        """What a search of many latents follows; None for one by tangents."""
        if self.model.manifest.preset.get("architecture") == LINEAR:
            from cvae.kinds import search

            return search.orthonormal_gradient(self.model.analysis, self.model.synthesis)
        return self.model.gradient

    def _synthesis(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """Latents (n, elements) -> (n, h, w, c) in [0, 1]."""
        return self.model.synthesis(latents.reshape(-1, *self.model.manifest.latent_shape))

    def synthesize(self, symbols: Symbols, quality: int) -> Pixels:
        """Symbols (n, elements) -> uint8 (n, h, w, c)."""
        latents = self.model.bank.quantizer(quality).dequantize(symbols)
        return self.to_pixels(latents)

    def to_pixels(self, latents: NDArray[np.float32]) -> Pixels:
        """Latents (n, elements) -> uint8 (n, h, w, c) through the synthesis network."""
        return images.as_pixels(self._synthesis(latents))

    def encode_batch(
        self,
        batch: Pixels,
        quality: int | None = None,
        original_sizes: Sequence[tuple[int, int] | None] | None = None,
        inverted: bool = False,
        effort: int = DEFAULT_EFFORT,
    ) -> list[Encoded]:
        """uint8 (n, h, w, c) -> one result an image, each decoded again to know its PSNR.

        `original_sizes` (width, height) and `inverted` are recorded for `decode` to undo.
        """
        quality = self.quality(quality)
        symbols = self.quantize(batch, quality, effort)
        frequency_tables = self.model.bank.tables(quality)
        payloads = entropy.encode_images(symbols, frequency_tables)
        bits = tables.information_bits(symbols, frequency_tables)
        psnr = metrics.psnr(batch, self.synthesize(symbols, quality))
        manifest = self.model.manifest
        expected = manifest.expected_psnr[quality - 1]
        sizes = original_sizes or [None] * len(batch)
        return [
            Encoded(
                data=container.pack(Container(manifest.id, quality, payload, sizes[i], inverted)),
                symbols=symbols[i],
                quality=quality,
                payload_bytes=len(payload),
                information_bits=float(bits[i]),
                psnr=float(psnr[i]),
                expected_psnr=expected,
            )
            for i, payload in enumerate(payloads)
        ]

    def decode_containers(self, containers: Sequence[Container]) -> list[Pixels]:
        """Containers -> uint8 (h, w, c) each, inversion undone and the original size restored.

        Raises:
            FormatError: a payload is damaged.
            ModelNotFoundError: a container was written by another model.
        """
        symbols = [self.decode_payload(item) for item in containers]
        return list(self.reconstruct(containers, symbols))

    def decode_payload(self, item: Container) -> list[int]:
        """The symbols in a container.

        Raises:
            FormatError: the payload is damaged, or the original size is out of range.
            ModelNotFoundError: the container was written by another model.
        """
        self.check_id(item.model_id)
        width, height = item.original_size or (1, 1)
        if width * height > images.MAX_PIXELS:
            raise FormatError(
                f"expected an original size of at most {images.MAX_PIXELS:,} pixels, "
                f"found {width}x{height}"
            )
        return entropy.decode_image(item.payload, self.model.bank.tables(item.quality))

    def payload_latents(self, item: Container) -> NDArray[np.float32]:
        """The latents (elements,) that a container's symbols stand for; raises as `decode_payload`."""
        symbols = np.array([self.decode_payload(item)], np.int32)
        latents = self.model.bank.quantizer(item.quality).dequantize(symbols)
        return latents.reshape(-1)

    def reconstruct(
        self, containers: Sequence[Container], symbols: Sequence[list[int]]
    ) -> Iterator[Pixels]:
        """The pictures (h, w, c) of containers and their symbols, in order.

        One pass of the synthesis network serves all; only the resizing is done one by one.
        """
        bank = self.model.bank
        latents = np.empty((len(containers), bank.elements), np.float32)
        qualities = np.array([item.quality for item in containers])
        rows = np.array(symbols, np.int32).reshape(latents.shape)
        for quality in set(qualities.tolist()):
            here = qualities == quality
            latents[here] = bank.quantizer(quality).dequantize(rows[here])
        for item, image in zip(containers, self.to_pixels(latents), strict=True):
            yield _restore(image, item)

    def decode_symbols(self, symbols: NDArray, quality: int) -> Pixels:
        """An array of symbols of the latents' shape, as `.npy` files hold them -> uint8 (h, w, c).

        Raises:
            FormatError: the array has another shape or dtype, or symbols beyond the format's range.
        """
        shape = self.model.manifest.latent_shape
        if symbols.shape != shape or symbols.dtype.kind not in "iu":
            raise FormatError(
                f"expected an array of integers of shape {shape}, "
                f"found {symbols.dtype} {symbols.shape}"
            )
        if symbols.size and max(-int(symbols.min()), int(symbols.max())) > tables.MAX_SYMBOL:
            raise FormatError(f"expected |symbol| <= {tables.MAX_SYMBOL}")
        row = symbols.reshape(1, -1).astype(np.int32)
        pixels: Pixels = self.synthesize(row, self.quality(quality))[0]
        return pixels

    def information_bits(self, symbols: list[int], quality: int) -> float:
        """Information content of one image's symbols in bits, under the tables of a quality."""
        row = np.array([symbols], np.int32)
        return float(tables.information_bits(row, self.model.bank.tables(quality))[0])

    def check_id(self, model_id: int) -> None:
        """Raises ModelNotFoundError when the id is not this model's."""
        manifest = self.model.manifest
        if model_id != manifest.id:
            raise ModelNotFoundError(
                f"written by the model of id {model_id:#06x}, "
                f"expected {manifest.id:#06x} of {manifest.name}"
            )

    def as_batch(self, images: Any) -> Pixels:
        """Images as one array (n, h, w, c). Raises ImageError when they are not of the model's shape."""
        return self._as_batch(images)[0]

    def _as_batch(self, image: Any) -> tuple[Pixels, bool]:
        """The images as (n, h, w, c), and whether there was just one without a batch axis."""
        shape = self.image_shape
        flat = shape[:2] if shape[2] == 1 else shape
        single = isinstance(image, np.ndarray) and image.shape in (shape, flat)
        try:
            batch = np.asarray(image)
        except ValueError as error:
            raise ImageError(f"expected arrays of one shape {flat}: {error}") from error
        if batch.shape == (0,):
            batch = np.empty((0, *shape), np.uint8)
        if batch.dtype != np.uint8 or not (single or batch.shape[1:] in (shape, flat)):
            raise ImageError(
                f"expected uint8 arrays of shape {flat}, found {batch.dtype} {batch.shape}"
            )
        return batch.reshape(-1, *shape), single


def _as_bytes(data: Any) -> list[bytes]:
    items = [data] if isinstance(data, _BYTES) else data
    if not isinstance(items, list | tuple) or not all(isinstance(item, _BYTES) for item in items):
        raise FormatError(f"expected bytes or a list of bytes, found {type(data).__name__}")
    return [bytes(item) for item in items]


def _restore(image: Pixels, item: Container) -> Pixels:
    if item.inverted:
        image = 255 - image
    return images.resize(image, *item.original_size) if item.original_size else image


def open_model(model: str | Path = registry.DEFAULT) -> Codec:
    """A codec by its model's name (see `cvae models`) or the path of a `.cvae` file.

    Raises:
        ModelNotFoundError: no model has that name, or several have.
        ModelKindError: it is a denoiser.
        ModelError: the file cannot be read.
    """
    return Codec(registry.open_model(model))


def open_model_of(data: bytes) -> Codec:
    """The codec that a container needs, found by the id in it.

    Raises:
        FormatError: not a container, or a damaged one.
        ModelNotFoundError: the container is whole and its model is not here.
    """
    return Codec(registry.find_by_id(container.unpack(data).model_id))
