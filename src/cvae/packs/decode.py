"""A pack, one file or a folder of them, -> images: all of them, or some by number or name.

Reading, entropy decoding and synthesis overlap; a few blocks are held at once.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from operator import index, itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream import container
from cvae.bitstream.container import Container
from cvae.bitstream.tables import Symbols
from cvae.checks import expect, threads_of
from cvae.codec import Codec
from cvae.data import pipeline
from cvae.data.files import Closing
from cvae.data.images import MAX_PIXELS, Pixels
from cvae.data.sinks import Decoded
from cvae.errors import CvaeError, FormatError, ModelKindError, Refuse, at
from cvae.kinds import runs
from cvae.options import Size
from cvae.packs.layout import MAX_BLOCK_SYMBOLS, Block
from cvae.packs.reader import Place, Range, Reader, damaged

_BATCH, _BATCH_BYTES = 128, 1 << 24  # images and pixels that one thread takes at once

_Part = tuple[NDArray[np.int64], Symbols, list[str] | None, list[Size] | None]


class Pack(Closing):
    """A pack that is open for reading, and the codec of its model; made by `cvae.open_pack`."""

    restores = (
        False  # whether images are to get their original sizes, which are refused where too large
    )

    def __init__(self, reader: Reader, codec: Codec, name: str = "") -> None:
        """`name` is where errors happened.

        Raises ModelNotFoundError when the codec is of another model, FormatError when the pack has
        flags that none of the model's has.
        """
        expect(reader, Reader, "a reader, which `cvae.open_pack` opens")
        expect(codec, Codec, "the codec of a model")
        expect(name, str, "where errors happened, as a text")
        header = reader.header
        codec.check_id(header.model_id)
        if (codec.staged and header.inverted) or (codec.any_size and not header.sizes):
            raise FormatError(f"has flags that no pack of model {codec.name} has")
        self.reader, self.codec, self._name = reader, codec, name

    def __len__(self) -> int:
        return self.reader.images

    def __repr__(self) -> str:
        header, name = self.reader.header, f" {self._name}" if self._name else ""
        images = f"{len(self):,} {'image' if len(self) == 1 else 'images'}"
        return f"<Pack{name}, {images} of {self.codec.name}, quality {header.quality}>"

    def close(self) -> None:
        self.reader.close()

    def __iter__(self) -> Iterator[Any]:
        """All images block by block, each as `images` gives them. Raises FormatError at a damaged block."""
        self._check_open()
        for place in self.reader.blocks():
            yield self.images(range(place.first, place.first + place.images))

    def images(self, numbers: Iterable[int]) -> Any:
        """Images by their numbers, from 0, in the order of the numbers: uint8 (n, h, w, c).

        Of a model of any size they are a list of arrays (h, w, 3), since their sizes may differ. Only
        the blocks that hold them are read. Else all have the model's size, fitted ones too.

        Raises:
            CvaeError: there is no image of such a number, or these are no integers.
            FormatError: a block that holds one is damaged.
        """
        with at(self._name):
            try:
                wanted = np.fromiter(map(index, numbers), np.int64)
            except (TypeError, ValueError, OverflowError) as error:
                text = f"expected numbers of images, such as [17, 42]: {error}"
                raise CvaeError(text) from error
            order, where = np.unique(wanted, return_inverse=True)
            ranges = ranges_of((number, number + 1) for number in order.tolist())
            decoded = [part.pixels for part in self.decode(ranges)]
            if self.codec.any_size:
                pictures = [picture for part in decoded for picture in part]
                return [pictures[row] for row in where.tolist()]
            parts = [np.empty((0, *self.codec.image_shape), np.uint8), *decoded]
            pixels: Pixels = np.concatenate(parts)[where]
            return pixels

    def decode(self, ranges: Sequence[Range], threads: int | None = None) -> Iterator[Decoded]:
        """Images in batches of one size, in order of their numbers; raises as `images` does.

        `ranges` are sorted and do not overlap; `threads` of the networks are by default all processors.
        """
        ranges = _checked(ranges)
        threads = threads_of(threads) or pipeline.processors()
        self._check_open()
        blocks = self._blocks(ranges)  # here, so that a wrong number raises before the first batch
        return self._decoded(blocks, ranges, threads)

    def whole(self, ranges: Sequence[Range], refuse: Refuse = None) -> list[Range]:
        """Sorted ranges without what cannot be decoded; `refuse` gets each FormatError.

        None raises the first. Check sums tell damage. With `refuse`, blocks are decoded as well, but for
        their pictures: somebody may have made up a block whose check sum holds.
        """
        ranges = _checked(ranges)
        if refuse is not None and not callable(refuse):
            raise CvaeError(f"expected a function that takes errors, found {type(refuse).__name__}")
        self._check_open()
        damage = self.reader.damage_in(ranges)
        for item in damage:
            error = FormatError(item.text)
            if refuse is None:
                raise error
            refuse(error)
        left = without(ranges, [(d.first, d.first + d.images) for d in damage if d.images])
        return left if refuse is None else self._decodable(left, refuse)

    def _decodable(self, ranges: list[Range], refuse: Callable[[CvaeError], None]) -> list[Range]:
        lost = []
        for place in self._blocks(ranges):
            try:
                self._symbols(place)
            except FormatError as error:
                refuse(error)
                lost.append((place.first, place.first + place.images))
        return without(ranges, lost)

    def find(self, name: str) -> list[int]:
        """The numbers of the images of a name. Reads all blocks, and skips damaged ones."""
        expect(name, str, "the name of an image")
        self._check_open()
        return [number for number, found in self.reader.names() if found == name]

    def single_bytes(self) -> int:
        """Bytes that its images take as single files; codes all of them again.

        Raises FormatError at a damaged block, ModelKindError for a model of any size.
        """
        self._check_open()
        if self.codec.any_size:
            raise ModelKindError(f"expected a model of one size, found {self.codec.name}")
        header, total = self.reader.header, 0
        height, width, _ = self.codec.image_shape
        for place in self.reader.blocks():
            _, block, found = self._symbols(place)
            payloads = self.codec.coding.encode_each(np.concatenate(found), header.quality)
            for payload, size in zip(payloads, block.sizes or repeat(None), strict=False):
                own = None if size == (width, height) else size
                flags = header.inverted, self.codec.staged
                item = Container(header.model_id, header.quality, payload, own, *flags)
                total += len(container.pack(item))
        return total

    def _check_open(self) -> None:
        with at(self._name):
            self.reader.check_open()

    def _blocks(self, ranges: Sequence[Range]) -> list[Place]:
        """The blocks that hold these images; raises as `images` does."""
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

    def _decoded(
        self, blocks: list[Place], ranges: Sequence[Range], threads: int
    ) -> Iterator[Decoded]:
        quality, inverted = self.reader.header.quality, self.reader.header.inverted

        def parts() -> Iterator[_Part]:
            for place, block, found in pipeline.ahead(map(self._symbols, blocks)):
                numbers, first = _numbers(place, ranges), place.first
                for symbols in found:
                    inside = numbers[(numbers >= first) & (numbers < first + len(symbols))]
                    batch = self._batch(block, first - place.first)
                    for start in range(0, len(inside), batch):
                        some = inside[start : start + batch]
                        rows = some - place.first
                        names, sizes = _rows(block.names, rows), _rows(block.sizes, rows)
                        yield some, symbols[some - first], names, sizes
                    first += len(symbols)

        def synthesize(part: _Part) -> Decoded:
            numbers, symbols, names, sizes = part
            codec = self.codec
            if sizes and codec.any_size:
                codec = codec.sized(*sizes[0][::-1])
            pixels = codec.synthesize(symbols, quality, threads=1)
            return Decoded(numbers, 255 - pixels if inverted else pixels, names, sizes)

        with pipeline.frequent_switches():
            yield from pipeline.ahead(pipeline.ordered_map(synthesize, parts(), threads))

    def _batch(self, block: Block, row: int) -> int:
        """How many images one thread takes at once, of those in a block from a row on."""
        if self.codec.any_size and block.sizes:
            return min(_BATCH, self.codec.batch(block.sizes[row]))
        return max(1, min(_BATCH, _BATCH_BYTES // math.prod(self.codec.image_shape)))

    def _symbols(self, place: Place) -> tuple[Place, Block, list[Symbols]]:
        """A block and its symbols (k, elements), in parts of one size."""
        block, coding = self.reader.read(place), self.codec.coding
        quality = self.reader.header.quality
        with damaged(place):
            for size in set(block.sizes or ()):
                self._check_size(size)
            if block.sizes and self.codec.any_size:
                found = runs.runs_of(coding, block.sizes)
                self._check(block, sum(run.symbols for run in found))
                return place, block, runs.decode(found, block.payload, quality)
            self._check(block, block.images * coding.elements)
            return place, block, [coding.decode_block(block.payload, block.images, quality)]

    def _check_size(self, size: Size) -> None:
        if self.restores:
            self.codec.check_restorable(size)
        elif size[0] * size[1] > MAX_PIXELS:
            raise FormatError(f"expected original sizes of at most {MAX_PIXELS:,} pixels")

    def _check(self, block: Block, symbols: int) -> None:
        if block.images > 1 and symbols > MAX_BLOCK_SYMBOLS:
            raise FormatError(f"expected at most {MAX_BLOCK_SYMBOLS:,} symbols in a block")


def _numbers(place: Place, ranges: Sequence[Range]) -> NDArray[np.int64]:
    """Which of a block's images lie in the ranges."""
    first, last = place.first, place.first + place.images
    inside = []
    for row in range(bisect_right(ranges, first, key=itemgetter(1)), len(ranges)):
        start, stop = ranges[row]
        if start >= last:
            break
        inside.append(np.arange(max(start, first), min(stop, last), dtype=np.int64))
    return np.concatenate(inside)


def _rows(column: list[Any] | None, rows: NDArray[np.int64]) -> list[Any] | None:
    """These rows of a column, if the pack has it."""
    return None if column is None else [column[row] for row in rows]


def _checked(ranges: Sequence[Range]) -> list[Range]:
    """Ranges that a caller gives. Raises CvaeError unless they are sorted and do not overlap."""
    expected = "expected sorted ranges of numbers, such as [(0, 10), (20, 30)]"
    try:
        found = [(index(start), index(stop)) for start, stop in ranges]
    except (TypeError, ValueError) as error:
        raise CvaeError(f"{expected}: {error}") from error
    edges = [edge for pair in found for edge in pair]
    if edges != sorted(edges):
        raise CvaeError(f"{expected}, found {found!r:.99}")
    return found


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
    """Sorted ranges without what is lost, in one pass: a pack may have lost any number of blocks."""
    left, holes = [], deque(ranges_of(lost))
    for start, stop in ranges:
        while holes and holes[0][0] < stop:
            low, high = holes[0]
            if low > start:
                left.append((start, low))
            start = max(start, high)
            if high > stop:
                break  # it reaches into the next range
            holes.popleft()
        if start < stop:
            left.append((start, stop))
    return left
