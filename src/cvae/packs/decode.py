"""A pack, one file or a folder of them, -> images: all of them, or some by number or name.

Reading, entropy decoding and synthesis overlap; a few blocks are held at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from operator import index

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import Symbols
from cvae.codec import Codec
from cvae.data import pipeline
from cvae.data.files import Closing
from cvae.data.images import MAX_PIXELS, Pixels
from cvae.data.sinks import Decoded
from cvae.errors import CvaeError, FormatError, at
from cvae.packs.layout import MAX_BLOCK_SYMBOLS, Block
from cvae.packs.reader import Place, Range, Reader

_BATCH, _BATCH_BYTES = 128, 1 << 24  # images and pixels that one thread takes at once


class Pack(Closing):
    """A pack that is open for reading, and the codec of its model; made by `cvae.open_pack`."""

    def __init__(self, reader: Reader, codec: Codec, name: str = "") -> None:
        """`name` is where errors happened. Raises ModelNotFoundError when the codec is of another model."""
        codec.check_id(reader.header.model_id)
        self.reader = reader
        self.codec = codec
        self._name = name

    def __len__(self) -> int:
        """How many images the pack holds."""
        return self.reader.images

    def close(self) -> None:
        """Closes the files."""
        self.reader.close()

    def __iter__(self) -> Iterator[Pixels]:
        """All images block by block, uint8 (n, h, w, c) each. Raises FormatError at a damaged block."""
        for place in self.reader.places:
            yield self.images(range(place.first, place.first + place.images))

    def images(self, numbers: Iterable[int]) -> Pixels:
        """Images by their numbers, from 0, in the order of the numbers: uint8 (n, h, w, c).

        Only the blocks that hold them are read. All images have the model's size, fitted ones too.

        Raises:
            CvaeError: there is no image of such a number, or these are no integers.
            FormatError: a block that is needed is damaged.
        """
        with at(self._name):
            return self._images(_as_numbers(numbers))

    def _images(self, wanted: NDArray[np.int64]) -> Pixels:
        order, where = np.unique(wanted, return_inverse=True)
        ranges = ranges_of((int(number), int(number) + 1) for number in order)
        parts = [np.empty((0, *self.codec.image_shape), np.uint8)]
        parts += [part.pixels for part in self.decode(ranges)]
        pixels: Pixels = np.concatenate(parts)[where]
        return pixels

    def places(self, ranges: Sequence[Range]) -> list[Place]:
        """The blocks that hold these images.

        Args:
            ranges: sorted half-open ranges of numbers.

        Raises:
            CvaeError: there is no image of such a number.
            FormatError: an image is lost to damage.
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

        def read() -> Iterator[tuple[Place, Block, Symbols]]:
            for place in places:
                block = self.reader.read(place)
                yield place, block, self._symbols(place, block)

        def parts() -> Iterator[tuple[NDArray[np.int64], Symbols, Block]]:
            for place, block, symbols in pipeline.ahead(read()):
                rows = _rows(place, ranges)
                for start in range(0, len(rows), batch):
                    some = rows[start : start + batch]
                    yield some + place.first, symbols[some], _only(block, some)

        def synthesize(part: tuple[NDArray[np.int64], Symbols, Block]) -> Decoded:
            numbers, symbols, block = part
            pixels = self.codec.synthesize(symbols, self.reader.header.quality, threads=1)
            if self.reader.header.inverted:
                np.subtract(255, pixels, out=pixels)
            return Decoded(numbers, pixels, block.names, block.sizes)

        batch = max(1, min(_BATCH, _BATCH_BYTES // math.prod(self.codec.image_shape)))
        decoded = pipeline.ordered_map(synthesize, parts(), threads or pipeline.processors())

        def switching() -> Iterator[Decoded]:
            with pipeline.frequent_switches():
                yield from pipeline.ahead(decoded)

        return switching()

    def find(self, name: str) -> list[int]:
        """The numbers of the images of a name. Reads all blocks, and skips damaged ones."""
        numbers: list[int] = []
        for place in self.reader.places if self.reader.named else ():
            try:
                names = self.reader.read(place).names or []
            except FormatError:
                continue
            numbers += [place.first + i for i, found in enumerate(names) if found == name]
        return numbers

    def _symbols(self, place: Place, block: Block) -> Symbols:
        try:
            if 1 < block.images > MAX_BLOCK_SYMBOLS // self.codec.coding.elements:
                raise FormatError(f"expected at most {MAX_BLOCK_SYMBOLS:,} symbols in a block")
            if block.sizes and max(width * height for width, height in block.sizes) > MAX_PIXELS:
                raise FormatError(f"expected original sizes of at most {MAX_PIXELS:,} pixels")
            quality = self.reader.header.quality
            return self.codec.coding.decode_block(block.payload, block.images, quality)
        except FormatError as error:
            raise FormatError(f"damaged: {place}: {error}") from error


def _as_numbers(numbers: Iterable[int]) -> NDArray[np.int64]:
    """Integers of any kind as an array. Raises CvaeError when they are no integers."""
    try:
        return np.fromiter((index(number) for number in numbers), np.int64)
    except (TypeError, OverflowError) as error:
        raise CvaeError(f"expected numbers of images, such as [17, 42]: {error}") from error


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
    """Sorted ranges without what is lost."""
    left = list(ranges)
    for start, stop in lost:
        cut = [((a, min(b, start)), (max(a, stop), b)) for a, b in left]
        left = [(a, b) for pair in cut for a, b in pair if a < b]
    return left
