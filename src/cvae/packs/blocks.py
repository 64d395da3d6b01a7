"""The blocks of an open pack -> pictures: streamed, where stages of work overlap, or one by one and kept."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import Symbols
from cvae.checks import shown
from cvae.codec import Codec
from cvae.data import pipeline
from cvae.data.images import MAX_PIXELS, Pixels
from cvae.data.labels import Label
from cvae.data.sinks import Decoded
from cvae.errors import FormatError, ImageIndexError
from cvae.kinds import runs
from cvae.options import Size
from cvae.packs.cache import Cache
from cvae.packs.layout import MAX_BLOCK_SYMBOLS, MOST_BLOCKS, Block
from cvae.packs.ranges import numbers_in, ranges_of
from cvae.packs.reader import Place, Range, Reader, damaged

_BATCH, _BATCH_BYTES = 128, 1 << 24  # images and pixels that one thread takes at once
_SIZE = 128  # bytes of a size in memory


class Read(NamedTuple):
    """A block that was read, and its symbols (k, elements) in parts of one size."""

    place: Place
    block: Block
    symbols: list[Symbols]


_Columns = tuple[list[str] | None, list[Size] | None, list[Label] | None]
_Part = tuple[NDArray[np.int64], Symbols, _Columns]  # numbers, symbols and columns of one size


class Blocks:
    """A pack's reader and codec, and what was decoded last, as one process has them; thread-safe."""

    # Whether images are to get their original sizes, which are refused where too large.
    restores = False

    def __init__(self, reader: Reader, codec: Codec) -> None:
        self.reader, self.codec, self.process = reader, codec, os.getpid()
        self._kept = Cache()  # pictures by number, and blocks by a tuple

    def places(self, ranges: Sequence[Range]) -> list[Place]:
        """The blocks that hold these images. Raises ImageIndexError, and FormatError at lost ones."""
        if ranges and not (ranges[0][0] >= 0 and ranges[-1][1] <= self.reader.images):
            number = ranges[0][0] if ranges[0][0] < 0 else ranges[-1][1] - 1
            raise no_image(number, self.reader.images)
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

    def decode(
        self, places: Iterable[Place], ranges: Sequence[Range], threads: int
    ) -> Iterator[Decoded]:
        """Images in batches of one size; reading, entropy decoding and synthesis overlap."""

        def parts() -> Iterator[_Part]:
            several = min(threads, MOST_BLOCKS) if self.codec.by_block else 1
            for read in pipeline.ahead(pipeline.ordered_map(self.read, places, several)):
                yield from self._parts(read, ranges)

        with pipeline.frequent_switches():
            yield from pipeline.ahead(pipeline.ordered_map(self._synthesize, parts(), threads))

    def pictures(self, numbers: Iterable[int]) -> dict[int, Pixels]:
        """Images (h, w, c) by number; they and their blocks' symbols are kept. Raises as `places`."""
        wanted = set(numbers)
        found: dict[Any, Pixels] = self._kept.some(wanted)
        ranges = ranges_of((number, number + 1) for number in wanted - found.keys())
        reads = map(self._kept_read, self.places(ranges))
        for part in self._joined([part for read in reads for part in self._parts(read, ranges)]):
            decoded = self._synthesize(part, None)
            for number, pixels in zip(decoded.numbers.tolist(), decoded.pixels, strict=True):
                found[number] = picture = pixels.copy()  # not with all of its batch
                self._kept.put(number, picture, picture.nbytes)
        return found

    def _joined(self, parts: list[_Part]) -> list[_Part]:
        """Images of one size from many blocks go through the networks together."""
        if self.codec.any_size or not parts:
            return parts
        numbers, symbols = (np.concatenate(column) for column in list(zip(*parts, strict=True))[:2])
        batch = self._batch(None, 0)
        starts = range(0, len(numbers), batch)
        none = (None, None, None)
        return [(numbers[i : i + batch], symbols[i : i + batch], none) for i in starts]

    def _kept_read(self, place: Place) -> Read:
        key = ("block", place.first)
        read: Read | None = self._kept.get(key)
        if read is None:
            found = self.read(place)
            sizes = found.block.sizes
            read = found._replace(block=Block(place.images, b"", sizes=sizes))  # no more is needed
            size = _SIZE * len(sizes or ()) + sum(part.nbytes for part in read.symbols)
            self._kept.put(key, read, size)
        return read

    def read(self, place: Place) -> Read:
        """A block and its symbols. Raises FormatError when it is damaged."""
        block, coding = self.reader.read(place), self.codec.coding
        quality = self.reader.header.quality
        with damaged(place):
            for size in set(block.sizes or ()):
                self._check_size(size)
            if block.sizes and self.codec.any_size:
                found = runs.runs_of(coding, block.sizes)
                _check(block, sum(run.symbols for run in found))
                return Read(place, block, runs.decode(found, block.payload, quality))
            _check(block, block.images * coding.elements)
            symbols = coding.decode_block(block.payload, block.images, quality)
            return Read(place, block, [symbols])

    def _parts(self, read: Read, ranges: Sequence[Range]) -> Iterator[_Part]:
        """The images of a block that lie in the ranges, in batches of one size."""
        (place, block, found), first = read, read.place.first
        numbers = numbers_in(ranges, first, place.images)
        for symbols in found:
            inside = numbers[(numbers >= first) & (numbers < first + len(symbols))]
            batch = self._batch(block.sizes, first - place.first)
            for start in range(0, len(inside), batch):
                some = inside[start : start + batch]
                rows = some - place.first
                names, sizes, labels = (
                    _rows(column, rows) for column in (block.names, block.sizes, block.labels)
                )
                yield some, symbols[some - first], (names, sizes, labels)
            first += len(symbols)

    def _synthesize(self, part: _Part, threads: int | None = 1) -> Decoded:
        numbers, symbols, columns = part
        header, codec, (_, sizes, _) = self.reader.header, self.codec, columns
        if sizes and codec.any_size:
            codec = codec.sized(*sizes[0][::-1])
        pixels = codec.synthesize(symbols, header.quality, threads=threads)
        return Decoded(numbers, 255 - pixels if header.inverted else pixels, *columns)

    def _batch(self, sizes: list[Size] | None, row: int) -> int:
        """How many images one thread takes at once, of those in a block from a row on."""
        if self.codec.any_size and sizes:
            return min(_BATCH, self.codec.batch(sizes[row]))
        return max(1, min(_BATCH, _BATCH_BYTES // math.prod(self.codec.image_shape)))

    def _check_size(self, size: Size) -> None:
        if self.restores:
            self.codec.check_restorable(size)
        elif size[0] * size[1] > MAX_PIXELS:
            raise FormatError(f"expected original sizes of at most {MAX_PIXELS:,} pixels")


def no_image(number: int, images: int) -> ImageIndexError:
    """The error of a number that no image has."""
    return ImageIndexError(f"there is no image {shown(number)}, expected 0 to {images - 1}")


def _check(block: Block, symbols: int) -> None:
    if block.images > 1 and symbols > MAX_BLOCK_SYMBOLS:
        raise FormatError(f"expected at most {MAX_BLOCK_SYMBOLS:,} symbols in a block")


def _rows(column: list[Any] | None, rows: NDArray[np.int64]) -> list[Any] | None:
    """These rows of a column, if the pack has it."""
    return None if column is None else [column[row] for row in rows]
