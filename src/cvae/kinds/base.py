"""What a kind of model is: pixels <-> stages of symbols, and what its manifest must say.

A new kind is a subclass of `Kind` in `kinds.KINDS`, and one of `Coding` if it codes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream import coders, exact, rans
from cvae.bitstream.tables import Bank, Symbols
from cvae.data.images import MAX_PIXELS, Pixels, as_floats, as_pixels
from cvae.models.file import Manifest, Model
from cvae.models.qualities import QUALITIES, Latents

Floats = NDArray[np.float32]

# Above it the coder of blocks codes a single image of several stages.
EXACT_SYMBOLS = 4096


class Coding(ABC):
    """The networks and tables of one model; symbols are int32 (n, elements), in the stages' order."""

    bank: Bank
    elements: int  # symbols of an image
    stages: int | None = 1  # None: as many as the images make, and no symbol is beyond the radius

    @property
    def decisions(self) -> int:
        """How many symbols of an image a coder sees, at most."""
        return self.elements

    def sized(self, height: int, width: int) -> Coding:
        """The coding for images of so many pixels: itself, but for kinds that take any size.

        Those know `elements` and `stages` for each size, and their latents have a shape of their own.
        """
        return self

    @abstractmethod
    def analyse(self, x: Floats, threads: int | None = None) -> Latents:
        """Images (n, h, w, c) in [0, 1] -> latents (n, elements); of a VAE the posterior means."""

    @abstractmethod
    def choose(
        self, x: Floats, latents: Latents, quality: int, effort: int, threads: int | None = None
    ) -> Symbols:
        """The symbols of images and their latents: rounded, then searched from effort 1 on.

        The latents may be overwritten.
        """

    @abstractmethod
    def dequantize(self, symbols: Symbols, quality: int) -> Latents:
        """The latents (n, elements) that symbols stand for."""

    @abstractmethod
    def synthesize(self, latents: Latents, threads: int | None = None) -> Floats:
        """Latents (n, elements) -> images (n, h, w, c) in [0, 1]."""

    @abstractmethod
    def push(self, coder: coders.Encoder, symbols: Symbols, quality: int) -> None:
        """Gives the symbols to a coder, stage by stage."""

    @abstractmethod
    def pull(self, coder: coders.Decoder, images: int, quality: int) -> Symbols:
        """Asks a coder for the symbols of so many images, stage by stage."""

    def prepared(self, pixels: Pixels) -> Any:
        """uint8 (n, h, w, c) as `analyse` and `choose` take them."""
        return as_floats(pixels)

    def pictures(self, latents: Latents, threads: int | None = None) -> Pixels:
        """Latents (n, elements) -> uint8 (n, h, w, c)."""
        return as_pixels(self.synthesize(latents, threads))

    def encode_each(self, symbols: Symbols, quality: int) -> list[bytes]:
        """Every image by itself -> one payload an image. Raises ValueError at a symbol out of range."""
        return self.coded_each(symbols, quality)[0]

    def coded_each(self, symbols: Symbols, quality: int) -> tuple[list[bytes], NDArray[np.float64]]:
        """What `encode_each` and `information_bits` give, in one pass through the stages."""
        coder, meter = exact.Encoder(self.bank, len(symbols)), coders.Meter(self.bank, len(symbols))
        self.push(coders.Both(coder, meter), symbols, quality)
        return coder.finish(), meter.bits

    def decode_all(self, payloads: Sequence[bytes], quality: int) -> list[Symbols]:
        """`decode_each` of payloads of images of one size."""
        return [self.decode_each(payload, quality) for payload in payloads]

    def decode_each(self, payload: bytes, quality: int) -> Symbols:
        """The symbols (1, elements) of one payload. Raises FormatError when it is damaged."""
        return self._decoded(exact.Decoder(payload, self.bank, self.elements), 1, quality)

    def encode_block(self, symbols: Symbols, quality: int, lanes: int | None = None) -> bytes:
        """All images as one payload; `lanes` as in `rans.Encoder.finish`."""
        coder = rans.Encoder(self.bank, self.stages)
        self.push(coder, symbols, quality)
        return coder.finish(lanes)

    def decode_block(self, payload: bytes, images: int, quality: int) -> Symbols:
        """The symbols of a block of so many images. Raises FormatError when it is damaged."""
        coder = rans.Decoder(payload, self.bank, images * self.decisions, self.stages)
        return self._decoded(coder, images, quality)

    def information_bits(self, symbols: Symbols, quality: int) -> NDArray[np.float64]:
        """Information content of each image under the tables: (n,)."""
        meter = coders.Meter(self.bank, len(symbols))
        self.push(meter, symbols, quality)
        return meter.bits

    def _decoded(self, coder: coders.Decoder, images: int, quality: int) -> Symbols:
        symbols = self.pull(coder, images, quality)
        coder.finish()
        return symbols


class Cleaner(NamedTuple):
    """A network that takes noise away."""

    network: Callable[[Floats], Floats]  # (n, h, w, c) in [0, 1] -> the same shape
    multiple: int = 1  # sides are multiples of it, where they may have any length
    reach: int = 0  # how many pixels a cell looks beyond its edges, see `Manifest`


class Kind(ABC):
    """What holds for all models of one kind; the manifest's `kind` names it."""

    codes = False  # models of this kind write files
    any_size = False  # they take images of any height and width; else those of one size
    staged = False  # they write containers of `container.KIND_STAGED`; else of `KIND_IMAGE`
    most_pixels = MAX_PIXELS  # of an image, where they take any size
    lossless = False  # every pixel comes back, and there is one quality, `qualities.LOSSLESS`

    @abstractmethod
    def check(self, manifest: Manifest) -> None:
        """Raises ValueError when a manifest says what no model of this kind can have."""

    @abstractmethod
    def describe(self, manifest: Manifest) -> str:
        """`28x28 grey` or `any size RGB`: the images that a model takes."""

    @abstractmethod
    def denoises(self, manifest: Manifest) -> bool:
        """Whether a model was trained on noisy images."""

    @abstractmethod
    def facts(self, manifest: Manifest) -> dict[str, Any]:
        """What `cvae info` says of a model besides what every manifest has."""

    @abstractmethod
    def figures(self, manifest: Manifest) -> str:
        """How well a model does, for a line of `cvae models`."""

    @abstractmethod
    def cleaner(self, model: Model) -> Cleaner:
        """The network of a model that takes noise away."""

    @abstractmethod
    def coding(self, model: Model) -> Coding:
        """The networks and tables of a model. Raises ModelKindError when this kind does not code."""

    @abstractmethod
    def run_once(self, model: Model) -> None:
        """Loads every member of a model and runs its networks. Raises ModelError at damage."""


def check_qualities(manifest: Manifest) -> None:
    """Raises ValueError when a codec's manifest has no hundred qualities, or what denoisers have."""
    if manifest.default_quality not in QUALITIES:
        raise ValueError(f"quality {manifest.default_quality} is out of range")
    if (count := len(manifest.expected_psnr)) != len(QUALITIES):
        raise ValueError(f"expected 100 values of expected_psnr, found {count}")
    if (manifest.multiple, manifest.reach) != (1, 0):
        raise ValueError("expected no multiple and reach of a codec")


def quality_facts(manifest: Manifest) -> dict[str, Any]:
    """What `Kind.facts` says of a codec's default quality."""
    quality = manifest.default_quality
    psnr = {f"expected_psnr_at_quality_{quality}": manifest.expected_psnr[quality - 1]}
    return {"default_quality": quality, **psnr}
