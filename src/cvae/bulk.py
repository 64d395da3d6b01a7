"""Any number of images <-> one pack: reading, networks, entropy coding and writing overlap.

What is held at once is a few batches and blocks, however many images there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cvae import codec as codecs
from cvae import files, metrics, networks, pack, pipeline, rans, registry, sharded, storage
from cvae.codec import DEFAULT_EFFORT, Codec
from cvae.errors import CvaeError, FormatError, ImageError
from cvae.images import MAX_PIXELS, Pixels
from cvae.pack import Block, Header, Place, Reader
from cvae.sharded import ShardReader
from cvae.sinks import Decoded
from cvae.sources import Batch
from cvae.tables import Symbols

BLOCK = 4096  # images
_BATCH, _BATCH_BYTES = 1024, 1 << 24  # images and pixels that go on together
_ENCODED, _DECODED = 256, 128  # images that one thread takes at once
_SAMPLE = 4  # poor images of those that are looked at inverted

Range = tuple[int, int]  # numbers of images, half-open


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
) -> Report:
    """Writes a pack to an open binary file, which need not be seekable.

    Args:
        codec: the model's codec.
        batches: images of the model's shape, in order.
        file: where the pack goes.
        options: how it is written.
        progress: called with the number of images of each block that was written.

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
        coded = _noted(pipeline.ordered_map(quantize, parts, threads), report)
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


def _noted(parts: Iterable[_Coded], report: Report) -> Iterator[_Coded]:
    """The same, added to the report in order."""
    for part in parts:
        if part.verified is not None:
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


class Pack:
    """A pack that is open for reading, and the codec of its model; made by `cvae.open_pack`."""

    def __init__(
        self,
        reader: Reader | ShardReader,
        codec: Codec,
        file: BinaryIO | ShardReader | None = None,
    ) -> None:
        """Raises ModelNotFoundError when the codec is not of the pack's model."""
        codec.check_id(reader.header.model_id)
        self.reader = reader
        self.codec = codec
        self._file = file

    def __len__(self) -> int:
        """How many images the pack holds."""
        return self.reader.images

    def __enter__(self) -> Pack:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    def __iter__(self) -> Iterator[Pixels]:
        """All images block by block, uint8 (n, h, w, c) each. Raises FormatError at a damaged block."""
        for place in self.reader.places:
            yield self.images(range(place.first, place.first + place.images))

    def images(self, numbers: Iterable[int]) -> Pixels:
        """Images by their numbers, from 0, in the order of the numbers: uint8 (n, h, w, c).

        Only the blocks that hold them are read. Images have the model's size, also those that were
        fitted to it.

        Raises:
            CvaeError: there is no image of such a number.
            FormatError: a block that is needed is damaged.
        """
        wanted = np.fromiter(numbers, np.int64)
        order, where = np.unique(wanted, return_inverse=True)
        ranges = ranges_of((int(number), int(number) + 1) for number in order)
        parts = [part.pixels for part in self.decode(ranges)]
        pixels = (
            np.concatenate(parts) if parts else np.empty((0, *self.codec.image_shape), np.uint8)
        )
        result: Pixels = pixels[where]
        return result

    def places(self, ranges: Sequence[Range]) -> list[Place]:
        """The blocks that hold these images.

        Args:
            ranges: sorted half-open ranges of numbers.

        Raises:
            CvaeError: there is no image of such a number.
            FormatError: images were lost to damage.
        """
        if ranges and not (ranges[0][0] >= 0 and ranges[-1][1] <= len(self)):
            number = ranges[0][0] if ranges[0][0] < 0 else ranges[-1][1] - 1
            raise CvaeError(f"there is no image {number}, expected 0 to {len(self) - 1}")
        found: list[Place] = []
        for start, stop in ranges:
            while start < stop:
                place = self.reader.find(start)
                if place is None:
                    raise FormatError(f"damaged: image {start} is lost")
                if not found or found[-1] != place:
                    found.append(place)
                start = place.first + place.images
        return found

    def decode(self, ranges: Sequence[Range], threads: int | None = None) -> Iterator[Decoded]:
        """Images in batches, in order of their numbers; raises as `images` does.

        Args:
            ranges: sorted half-open ranges of numbers that do not overlap.
            threads: that the synthesis uses; None for all processors.
        """
        places = self.places(ranges)

        def read() -> Iterator[tuple[NDArray[np.int64], Symbols, Block]]:
            for place in places:
                block = self.reader.read(place)
                rows = _rows(place, ranges)
                yield rows + place.first, self._symbols(place, block)[rows], _only(block, rows)

        def parts() -> Iterator[tuple[NDArray[np.int64], Symbols, Block]]:
            for numbers, symbols, block in pipeline.ahead(read()):
                for start in range(0, len(numbers), batch):
                    rows = np.arange(start, min(start + batch, len(numbers)))
                    yield numbers[rows], symbols[rows], _only(block, rows)

        def synthesize(part: tuple[NDArray[np.int64], Symbols, Block]) -> Decoded:
            numbers, symbols, block = part
            with networks.on_this_thread():
                pixels = self.codec.synthesize(symbols, self.reader.header.quality)
            if self.reader.header.inverted:
                np.subtract(255, pixels, out=pixels)
            return Decoded(numbers, pixels, block.names, block.sizes)

        batch = max(1, min(_DECODED, _BATCH_BYTES // math.prod(self.codec.image_shape)))
        decoded = pipeline.ordered_map(synthesize, parts(), threads or pipeline.processors())
        return pipeline.ahead(decoded)

    def find(self, name: str) -> list[int]:
        """The numbers of the images of a name. Reads all blocks, and passes over damaged ones."""
        numbers: list[int] = []
        if not self.reader.header.names:
            return numbers
        for place in self.reader.places:
            try:
                names = self.reader.read(place).names or []
            except FormatError:
                continue
            numbers += [place.first + i for i, found in enumerate(names) if found == name]
        return numbers

    def _symbols(self, place: Place, block: Block) -> Symbols:
        tables = self.codec.model.bank.tables(self.reader.header.quality)
        if block.images > 1 and block.images * tables.elements > pack.MAX_BLOCK_SYMBOLS:
            raise FormatError(
                f"damaged: {place}: expected at most {pack.MAX_BLOCK_SYMBOLS:,} symbols in a block"
            )
        if block.sizes and max(width * height for width, height in block.sizes) > MAX_PIXELS:
            raise FormatError(
                f"damaged: {place}: expected original sizes of at most {MAX_PIXELS:,} pixels"
            )
        try:
            return rans.decode_block(block.payload, block.images, tables)
        except FormatError as error:
            raise FormatError(f"damaged: {place}: {error}") from error


def open_pack(path: str | Path, model: str | Path | None = None) -> Pack:
    """Opens a pack, or a folder of packs; close it, or use it in a `with` statement.

    Args:
        path: the pack's file, or the folder with the manifest; of a URL as text.
        model: name or path of a model; None for the one that the pack names.

    Raises:
        FormatError: not a pack, or one whose header or index is damaged.
        ModelNotFoundError: its model is not here.
    """
    if sharded.is_folder(str(path)):
        folder = sharded.open_folder(storage.locate(str(path)))
        return Pack(folder, open_codec(folder, model), folder)
    try:
        file = storage.locate(str(path)).open("rb")
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        reader = pack.open_pack(file)
        if reader.damage:
            raise FormatError("; ".join(map(str, reader.damage)))
        return Pack(reader, open_codec(reader, model), file)
    except CvaeError as error:
        file.close()
        raise type(error)(f"{path}: {error}") from error


def open_codec(reader: Reader | ShardReader, model: str | Path | None = None) -> Codec:
    """The codec of a pack's model, or a given one. Raises ModelNotFoundError when it is not here."""
    if model is not None:
        return codecs.open_model(model)
    return Codec(registry.find_by_id(reader.header.model_id))


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


def _batches(codec: Codec, images: Any, names: Iterable[str] | None) -> Iterator[Batch]:
    named = None if names is None else iter(names)
    batch = max(1, min(_BATCH, _BATCH_BYTES // math.prod(codec.image_shape)))
    parts: Iterable[Any]
    if isinstance(images, np.ndarray):
        parts = (images[start : start + batch] for start in range(0, len(images), batch))
    else:
        items = iter(images)
        parts = iter(lambda: list(islice(items, batch)), [])
    for part in parts:
        pixels = codec.as_batch(part)
        labels = None if named is None else list(islice(named, len(pixels)))
        if labels is not None and len(labels) != len(pixels):
            raise CvaeError("expected a name for every image, found fewer")
        yield Batch(pixels, labels)


def _rows(place: Place, ranges: Sequence[Range]) -> NDArray[np.int64]:
    """Which of a block's images lie in the ranges, counted from its first."""
    last = place.first + place.images
    parts = [
        np.arange(max(start, place.first), min(stop, last))
        for start, stop in ranges
        if start < last and stop > place.first
    ]
    return np.asarray(np.concatenate(parts) - place.first, np.int64)


def _only(block: Block, rows: NDArray[np.int64]) -> Block:
    """A block's columns of some of its images."""
    if len(rows) == block.images:
        return block
    names, sizes = block.names, block.sizes
    return Block(
        len(rows),
        b"",
        [names[row] for row in rows] if names is not None else None,
        [sizes[row] for row in rows] if sizes is not None else None,
    )


def ranges_of(ranges: Iterable[Range]) -> list[Range]:
    """Half-open ranges of numbers, sorted and joined where they touch."""
    joined: list[Range] = []
    for start, stop in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        elif stop > start:
            joined.append((start, stop))
    return joined


def without(ranges: Sequence[Range], lost: Iterable[Range]) -> list[Range]:
    """Sorted ranges less what is lost."""
    left = list(ranges)
    for start, stop in lost:
        cut = [((a, min(b, start)), (max(a, stop), b)) for a, b in left]
        left = [(a, b) for pair in cut for a, b in pair if a < b]
    return left
