"""Any number of images -> one pack: reading, networks, entropy coding and writing overlap.

What is held at once is a few batches and blocks, however many images there are.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream import rans
from cvae.bitstream.tables import Symbols
from cvae.codec import Codec
from cvae.data import files, metrics, pipeline
from cvae.data.images import Pixels
from cvae.data.sources import Batch
from cvae.errors import CvaeError, ImageError
from cvae.models import networks
from cvae.options import DEFAULT_EFFORT
from cvae.packs import layout as pack
from cvae.packs.layout import Block, Header

BLOCK = 4096  # images
_BATCH, _BATCH_BYTES = 1024, 1 << 24  # images and pixels that go on together
_ENCODED = 256  # images that one thread takes at once
_SAMPLE = 4  # poor images of those that are looked at inverted


@dataclass
class Report:
    """What is known of a pack that was written."""

    images: int = 0
    blocks: int = 0
    size: int = 0  # bytes of the whole file
    psnr_sum: float = 0.0  # dB; of images that were decoded again
    verified: int = 0
    expected_psnr: float = 0.0
    poor: int = 0  # images below what 99 % of the model's validation images reach
    poor_sampled: int = 0
    poor_inverted: int = 0  # of the sampled ones, how many are fine inverted

    @property
    def psnr(self) -> float | None:
        """Mean PSNR in dB; None when nothing was verified."""
        return self.psnr_sum / self.verified if self.verified else None


@dataclass(frozen=True)
class Options:
    """How a pack is written."""

    quality: int | None = None  # 1 to 100; None for the model's default
    effort: int = DEFAULT_EFFORT
    inverted: bool = False  # invert before coding
    names: bool = False  # keep names
    sizes: bool = False  # keep original sizes
    verify: bool = True  # decode everything again, to know the PSNR
    block: int = BLOCK  # images a block, at most
    threads: int | None = None  # that the networks use; None for all processors


@dataclass(frozen=True, eq=False)
class _Coded:
    """A batch as symbols."""

    symbols: Symbols  # (n, elements)
    names: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    verified: _Verified | None = None


def encode(
    codec: Codec,
    batches: Iterable[Batch],
    file: BinaryIO,
    options: Options,
    progress: Callable[[int], None] | None = None,
    poor: Callable[[str, float], None] | None = None,
) -> Report:
    """Writes a pack to an open binary file, which need not be seekable.

    Args:
        codec: the model's codec.
        batches: images of the model's shape, in order.
        file: where the pack goes.
        options: how it is written.
        progress: called with the number of images of each block that was written.
        poor: called in order, from another thread, with the name of every image that comes back below what
            99 % of the model's validation images reach (its number in a pack without names), and its dB.

    Raises:
        CvaeError: a batch is of another shape, quality or effort is out of range, or what `batches` raises.
    """
    quality = codec.quality(options.quality)
    tables = codec.model.bank.tables(quality)
    report = Report(expected_psnr=codec.model.manifest.expected_psnr[quality - 1])
    header = Header(
        codec.model.manifest.id, quality, options.inverted, options.names, options.sizes
    )
    writer = pack.Writer(file, header)
    per_block = max(1, min(options.block, pack.MAX_BLOCK_SYMBOLS // tables.elements))

    def quantize(batch: Batch) -> _Coded:
        with networks.on_this_thread():
            return _quantize(codec, batch, quality, options)

    def blocks() -> Iterator[Block]:
        parts = (part for batch in pipeline.ahead(batches) for part in _parts(batch))
        threads = options.threads or pipeline.processors()
        coded = _noted(pipeline.ordered_map(quantize, parts, threads), report, poor)
        for part in _regrouped(pipeline.ahead(coded), per_block):
            payload = rans.encode_block(part.symbols, tables)
            yield Block(len(part.symbols), payload, part.names or None, part.sizes or None)

    for block in pipeline.ahead(blocks()):
        writer.write(block)
        if progress:
            progress(block.images)
    writer.close()
    report.images, report.blocks, report.size = writer.images, writer.blocks, writer.size
    return report


def _parts(batch: Batch) -> Iterator[Batch]:
    """A batch in as many images as one thread takes at once."""
    for start in range(0, len(batch.pixels), _ENCODED):
        part = slice(start, start + _ENCODED)
        yield Batch(
            batch.pixels[part],
            batch.names[part] if batch.names is not None else None,
            batch.sizes[part] if batch.sizes is not None else None,
        )


def _quantize(codec: Codec, batch: Batch, quality: int, options: Options) -> _Coded:
    pixels, count = batch.pixels, len(batch.pixels)
    if pixels.dtype != np.uint8 or pixels.shape[1:] != codec.image_shape:
        raise ImageError(
            f"expected uint8 images of shape {codec.image_shape}, "
            f"found {pixels.dtype} {pixels.shape[1:]}"
        )
    if options.inverted:
        pixels = 255 - pixels
    symbols = codec.quantize(pixels, quality, options.effort)
    height, width = pixels.shape[1:3]
    return _Coded(
        symbols,
        (batch.names or [""] * count) if options.names else [],
        (batch.sizes or [(width, height)] * count) if options.sizes else [],
        _verify(codec, pixels, symbols, quality) if options.verify else None,
    )


@dataclass(frozen=True, eq=False)
class _Verified:
    """What is known of images that were decoded again."""

    psnr: NDArray[np.float64]  # dB
    poor: int  # how many are below what is expected of the model
    sampled: int  # how many of those were tried inverted
    inverted: int  # how many of those are fine then


def _verify(codec: Codec, pixels: Pixels, symbols: Symbols, quality: int) -> _Verified:
    expected = codec.model.manifest.expected_psnr[quality - 1]
    psnr = metrics.psnr(pixels, codec.synthesize(symbols, quality))
    poor = np.flatnonzero(psnr < expected)
    inverted = 255 - pixels[poor[:_SAMPLE]]
    fine = 0
    if len(inverted):
        again = codec.synthesize(codec.quantize(inverted, quality, 0), quality)
        fine = int((metrics.psnr(inverted, again) >= expected).sum())
    return _Verified(psnr, len(poor), len(inverted), fine)


def _noted(
    parts: Iterable[_Coded], report: Report, poor: Callable[[str, float], None] | None
) -> Iterator[_Coded]:
    """The same, added to the report in order; poor images are told of."""
    for part in parts:
        if part.verified is not None:
            if poor is not None:
                psnr = part.verified.psnr
                for row in np.flatnonzero(psnr < report.expected_psnr):
                    name = part.names[row] if part.names else f"image {report.verified + row}"
                    poor(name, float(psnr[row]))
            report.psnr_sum += float(part.verified.psnr.sum())
            report.verified += len(part.verified.psnr)
            report.poor += part.verified.poor
            report.poor_sampled += part.verified.sampled
            report.poor_inverted += part.verified.inverted
        yield part


def _regrouped(parts: Iterable[_Coded], count: int) -> Iterator[_Coded]:
    """The same images in groups of `count`, the last one of what is left."""
    held: list[_Coded] = []
    have = 0
    for part in parts:
        held.append(part)
        have += len(part.symbols)
        while have >= count:
            joined = _join(held)
            yield _slice(joined, 0, count)
            held, have = [_slice(joined, count, have)], have - count
    if have:
        yield _join(held)


def _join(parts: list[_Coded]) -> _Coded:
    return _Coded(
        np.concatenate([part.symbols for part in parts]),
        [name for part in parts for name in part.names],
        [size for part in parts for size in part.sizes],
    )


def _slice(part: _Coded, start: int, stop: int) -> _Coded:
    return _Coded(part.symbols[start:stop], part.names[start:stop], part.sizes[start:stop])


def encode_pack(
    images: NDArray[np.uint8] | Iterable[NDArray[np.uint8]],
    path: str | Path,
    codec: Codec,
    options: Options,
    names: Iterable[str] | None = None,
    force: bool = False,
) -> Report:
    """Writes images (n, h, w) or (n, h, w, c), or any iterable of single ones, to a pack.

    Raises:
        ImageError: an image is of another dtype or shape than the model's.
        OutputError: the file exists and `force` is off, or cannot be written.
    """
    options = replace(options, names=names is not None)
    with files.atomic_path(Path(path), force) as temporary, temporary.open("wb") as file:
        return encode(codec, _batches(codec, images, names), file, options)


def _as_batch(codec: Codec, part: Any, first: int) -> Pixels:
    """Images as one array. Raises ImageError; it names the first of single ones that is to blame."""
    try:
        return codec.as_batch(part)
    except ImageError:
        flat = codec.image_shape[:2] if codec.image_shape[2] == 1 else codec.image_shape
        for number, image in enumerate(part, first):
            with suppress(ValueError):  # nothing of one shape
                found = np.asarray(image)
                if found.dtype != np.uint8 or found.shape not in (flat, codec.image_shape):
                    raise ImageError(
                        f"image {number}: expected uint8 {flat}, found {found.dtype} {found.shape}"
                    ) from None
        raise


def _batches(codec: Codec, images: Any, names: Iterable[str] | None) -> Iterator[Batch]:
    named = None if names is None else iter(names)
    batch = max(1, min(_BATCH, _BATCH_BYTES // math.prod(codec.image_shape)))
    parts: Iterable[Any]
    if isinstance(images, np.ndarray):
        images = codec.as_batch(images)
        parts = (images[start : start + batch] for start in range(0, len(images), batch))
    elif isinstance(images, str | bytes | os.PathLike) or not isinstance(images, Iterable):
        raise ImageError(
            f"expected an array of images, or an iterable of single ones, found {images!r:.99}; "
            "files are read by numpy, Pillow or `cvae encode`"
        )
    else:
        items = iter(images)
        parts = iter(lambda: list(islice(items, batch)), [])
    first = 0
    for part in parts:
        pixels = _as_batch(codec, part, first)
        first += len(pixels)
        labels = None if named is None else list(islice(named, len(pixels)))
        if labels is not None and len(labels) != len(pixels):
            raise CvaeError("expected a name for every image, found fewer")
        yield Batch(pixels, labels)
