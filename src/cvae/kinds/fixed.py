"""The first kind: images of one size, a fixed number of latents, and one table for each of them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from cvae.bitstream import coders
from cvae.bitstream.tables import Bank, Symbols
from cvae.data import images
from cvae.errors import ModelError
from cvae.kinds.base import Cleaner, Coding, Floats, Kind, check_qualities, quality_facts
from cvae.models.file import ANALYSIS, DENOISER, GRADIENT, SYNTHESIS, Manifest, Model
from cvae.models.networks import Network
from cvae.models.qualities import Latents

_HEADER = 6  # bytes of a container beyond a short payload
_MOST_PIXELS = 1 << 20  # of an image
_TANGENT_ELEMENTS, _TANGENT_BYTES = 32, 1 << 26


class Fixed(Kind):
    """A codec for images of one size, named `codec` in manifests."""

    codes = True

    def check(self, manifest: Manifest) -> None:
        if not manifest.latent_shape or min(manifest.latent_shape) < 1:
            raise ValueError(f"latent shape {manifest.latent_shape} is out of range")
        if math.prod(manifest.image_shape[:2]) > _MOST_PIXELS:
            raise ValueError(f"expected images of at most {_MOST_PIXELS:,} pixels")
        check_qualities(manifest)

    def describe(self, manifest: Manifest) -> str:
        return images.describe(manifest.image_shape)

    def denoises(self, manifest: Manifest) -> bool:
        return bool(manifest.preset.get("noise", 0) > 0)

    def facts(self, manifest: Manifest) -> dict[str, Any]:
        return {"latent_shape": manifest.latent_shape, **quality_facts(manifest)}

    def figures(self, manifest: Manifest) -> str:
        size = manifest.figures.get("payload_bytes_mean", 0) + _HEADER
        return f"{size:6.1f} B {manifest.figures.get('psnr_mean', 0):6.2f} dB"

    def cleaner(self, model: Model) -> Cleaner:
        """A network of its own where it was trained on noise; else the synthesis of the analysis."""
        shape = model.manifest.image_shape
        if model.has(DENOISER):
            return Cleaner(model.network(DENOISER, [shape], shape))
        coding = self.coding(model)
        return Cleaner(lambda x: coding.synthesize(coding.analyse(x)))

    def coding(self, model: Model) -> FixedCoding:
        return FixedCoding(model)

    def run_once(self, model: Model) -> None:
        manifest, coding = model.manifest, self.coding(model)
        x = np.zeros((1, *manifest.image_shape), np.float32)
        symbols = np.zeros((1, coding.elements), np.int32)
        latents = coding.dequantize(symbols, manifest.default_quality)
        coding.synthesize(latents)
        coding.choose(x, coding.analyse(x), manifest.default_quality, effort=1)
        self.cleaner(model).network(x)


class FixedCoding(Coding):
    """See `Coding`. Members are read when they are first used."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.elements = model.manifest.elements
        self._image, self._latent = model.manifest.image_shape, model.manifest.latent_shape

    @property
    def analysis(self) -> Network:
        """float32 (n, h, w, c) in [0, 1] -> latents (n, *latent_shape)."""
        return self.model.network(ANALYSIS, [self._image], self._latent)

    @property
    def synthesis(self) -> Network:
        """Latents (n, *latent_shape) -> float32 (n, h, w, c) in [0, 1]."""
        return self.model.network(SYNTHESIS, [self._latent], self._image)

    @property
    def gradient(self) -> Network | None:
        """The `search.Gradient` of the synthesis; None where the model file has none."""
        if not self.model.has(GRADIENT):
            return None
        return self.model.network(GRADIENT, [self._latent, self._image], (self.elements + 1,))

    @property
    def bank(self) -> Bank:  # type: ignore[override]
        return self.model.qualities.bank

    def analyse(self, x: Floats, threads: int | None = None) -> Latents:
        return self.analysis(x, threads=threads).reshape(len(x), self.elements)

    def choose(
        self, x: Floats, latents: Latents, quality: int, effort: int, threads: int | None = None
    ) -> Symbols:
        qualities = self.model.qualities
        quantizer = qualities.quantizer(quality)
        if effort == 0:
            return quantizer.quantize(latents)
        from cvae.kinds import search

        synthesis, gradient = partial(self.synthesis, threads=threads), None
        if is_linear(self.model.manifest):
            analysis = partial(self.analysis, threads=threads)
            gradient = search.orthonormal_gradient(analysis, synthesis)
        elif self.gradient is not None:
            gradient = partial(self.gradient, threads=threads)
        elif not by_tangents(self.elements, math.prod(self._image)):
            expected = f"expected {GRADIENT} of a model of {self.elements} latents"
            raise ModelError(f"{expected}, found none", where=self.model.path)
        problem = search.Problem(
            quantizer, qualities.bank, qualities.rows(quality), qualities.curvature, self._latent,
            synthesis, gradient,
        )  # fmt: skip
        return search.search(x, latents, problem, effort)

    def dequantize(self, symbols: Symbols, quality: int) -> Latents:
        return self.model.qualities.quantizer(quality).dequantize(symbols)

    def synthesize(self, latents: Latents, threads: int | None = None) -> Floats:
        return self.synthesis(latents.reshape(-1, *self._latent), threads=threads)

    def push(self, coder: coders.Encoder, symbols: Symbols, quality: int) -> None:
        coder.push(self.model.qualities.rows(quality), symbols)

    def pull(self, coder: coders.Decoder, images: int, quality: int) -> Symbols:
        rows = self.model.qualities.rows(quality)
        return coder.pull(np.broadcast_to(rows, (images, self.elements)))


def by_tangents(elements: int, values: int) -> bool:
    """Whether a model of so many latents and values an image is searched by tangents.

    They take a synthesis and an image in memory for each latent, and find more. Other models bring a
    gradient, unless they are linear.
    """
    return elements <= _TANGENT_ELEMENTS and 4 * elements * values <= _TANGENT_BYTES


def has_normal_latents(manifest: Manifest) -> bool:
    """Whether a model is a VAE, trained towards latents of N(0, I)."""
    return manifest.preset.get("architecture") in ("cvae", "vae")


def is_linear(manifest: Manifest) -> bool:
    """Whether a model is PCA: its analysis is the transpose of its synthesis."""
    return manifest.preset.get("architecture") == "linear"
