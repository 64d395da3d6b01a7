"""A pack, or a folder of packs, -> images: all of them, some by number, or one by name.

Reading, entropy decoding and synthesis overlap; what is held at once is a few blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from operator import index
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from cvae import codec as codecs
from cvae.bitstream import rans
from cvae.bitstream.tables import Symbols
from cvae.codec import Codec
from cvae.data import files, pipeline
from cvae.data import places as storage
from cvae.data.images import MAX_PIXELS, Pixels
from cvae.data.places import Location
from cvae.data.sinks import Decoded
from cvae.errors import CvaeError, FormatError, at
from cvae.models import networks, registry
from cvae.packs import folder as sharded
from cvae.packs import layout as pack
from cvae.packs import manifest as shards
from cvae.packs import reader as unpack
from cvae.packs.folder import ShardReader
from cvae.packs.layout import Block
from cvae.packs.reader import Place, Reader

_BATCH, _BATCH_BYTES = 128, 1 << 24  # images and pixels that one thread takes at once

_FIRST = "part-00000.bin"  # of the packs in a folder

Range = tuple[int, int]  # numbers of images, half-open


class Pack(files.Closing):
    """A pack that is open for reading, and the codec of its model; made by `cvae.open_pack`."""

    def __init__(
        self,
        reader: Reader | ShardReader,
        codec: Codec,
        file: BinaryIO | ShardReader | None = None,
        name: str = "",
    ) -> None:
        """Raises ModelNotFoundError when the codec is not of the pack's model."""
        codec.check_id(reader.header.model_id)
        self.reader = reader
        self.codec = codec
        self._file = file
        self._name = name  # that errors begin with

    def __len__(self) -> int:
        """How many images the pack holds."""
        return self.reader.images

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
            CvaeError: there is no image of such a number, or these are no integers.
            FormatError: a block that is needed is damaged.
        """
        with at(self._name):
            return self._images(_as_numbers(numbers))

    def _images(self, wanted: NDArray[np.int64]) -> Pixels:
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

        batch = max(1, min(_BATCH, _BATCH_BYTES // math.prod(self.codec.image_shape)))
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
    if is_folder(str(path)):
        folder = open_folder(str(path))
        return Pack(folder, open_codec(folder, model), folder, str(path))
    try:
        file = storage.locate(str(path)).open("rb")
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}", where=path) from error
    try:
        with at(path):
            reader = unpack.open_pack(file)
            if reader.damage:
                raise FormatError("; ".join(map(str, reader.damage)))
            return Pack(reader, open_codec(reader, model), file, str(path))
    except CvaeError:
        file.close()
        raise


def is_folder(text: str) -> bool:
    """Whether a path or URL is a folder of packs: finished or not, also one that has lost its manifest.

    Raises StorageError when nobody can know.
    """
    place = storage.locate(text)
    return sharded.is_folder(text) or (storage.is_folder(place) and _holds_packs(place))


def open_folder(text: str) -> ShardReader:
    """A folder of packs, by its manifest.

    Raises:
        FormatError: the manifest is missing, damaged or of a later version.
        StorageError: the folder cannot be reached.
    """
    folder = storage.locate(text)
    if not storage.exists(folder / shards.MANIFEST) and storage.exists(folder / shards.UNFINISHED):
        raise FormatError(
            "is not finished: it is still being written, or was interrupted",
            where=folder,
            advice="the command that wrote it goes on with --resume",
        )
    check_manifest(folder)
    return sharded.open_folder(folder)


def check_manifest(folder: Location) -> None:
    """Raises FormatError when a folder has packs, and nothing says any more that they belong together."""
    known = (shards.MANIFEST, shards.UNFINISHED)
    if not any(storage.exists(folder / name) for name in known) and _holds_packs(folder):
        raise FormatError(
            f"holds packs but no {shards.MANIFEST}",
            where=folder,
            advice="its packs decode one by one",
        )


def _holds_packs(folder: Location) -> bool:
    try:
        with (folder / _FIRST).open("rb") as file:
            return pack.is_pack_file(file)
    except OSError:
        return False


def open_codec(reader: Reader | ShardReader, model: str | Path | None = None) -> Codec:
    """The codec of a pack's model, or a given one. Raises ModelNotFoundError when it is not here."""
    if model is not None:
        return codecs.open_model(model)
    return Codec(registry.find_by_id(reader.header.model_id))


def _as_numbers(numbers: Iterable[int]) -> NDArray[np.int64]:
    """Integers of any kind as an array. Raises CvaeError when they are none."""
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
    """Sorted ranges less what is lost."""
    left = list(ranges)
    for start, stop in lost:
        cut = [((a, min(b, start)), (max(a, stop), b)) for a, b in left]
        left = [(a, b) for pair in cut for a, b in pair if a < b]
    return left
