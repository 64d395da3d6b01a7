"""A pack, one file or a folder of them, as a sequence of its images; `blocks` decodes them."""

from __future__ import annotations

import copy
import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np

from cvae.bitstream import container
from cvae.bitstream.container import LOSSLESS, Container
from cvae.checks import expect, shown, threads_of, truth, whole
from cvae.codec import Codec
from cvae.data import labels, pipeline
from cvae.data.files import Closing
from cvae.data.images import Pixels, flat
from cvae.data.places import Remote
from cvae.data.sinks import Decoded
from cvae.errors import CvaeError, FormatError, ModelKindError, Refuse, StorageError, at
from cvae.packs.blocks import Blocks, no_image
from cvae.packs.layout import Block
from cvae.packs.ranges import as_number, checked, is_mask, ranges_of, taken, without
from cvae.packs.reader import Range, Reader

_MANY = 4096  # images that are streamed, and not kept
_BATCH = 128  # images of `batches`


@Sequence.register
class Pack(Closing):
    """A pack that is open for reading, a sequence of images; made by `cvae.open_pack`.

    `pack[17]` is uint8 (h, w) or (h, w, 3); `pack[3:9]`, or with a list or an array of numbers, or a mask
    of one boolean for each image, is an array of several, and a list of them for a model of any size.
    What was decoded last is kept, in at most 256 MB. In another process, pickled or forked, a pack opens
    its place again.
    """

    def __init__(
        self, reader: Reader, codec: Codec, name: str = "", place: str | Path | Remote | None = None
    ) -> None:
        """`name` is where errors happened, `place` where another process finds the pack.

        Raises ModelNotFoundError when the codec is of another model, FormatError when the pack has
        flags or a quality that none of the model's has.
        """
        expect(reader, Reader, "a reader, which `cvae.open_pack` opens")
        expect(codec, Codec, "the codec of a model")
        expect(name, str, "where errors happened, as a text")
        expect(place, (str, Path, Remote, type(None)), "a path or a URL")
        header = reader.header
        codec.check_id(header.model_id)
        if (codec.staged and header.inverted) or (codec.any_size and not header.sizes):
            raise FormatError(f"has flags that no pack of model {codec.name} has")
        if codec.lossless != (header.quality == LOSSLESS):
            raise FormatError(f"has quality {header.quality}, which no pack of {codec.name} has")
        self._blocks, self._name, self._place = Blocks(reader, codec), name, place

    def _here(self) -> Blocks:
        """What this process has of the pack. A forked one shares no position in a file with its parent."""
        blocks = self._blocks
        if blocks.process != os.getpid():
            blocks.reader.check_open()
            again = _reopened(self._place, blocks.reader)
            self._blocks = Blocks(again, copy.copy(blocks.codec))
            self._blocks.restores = blocks.restores
        return self._blocks

    @property
    def reader(self) -> Reader:
        return self._here().reader

    @property
    def codec(self) -> Codec:
        return self._here().codec

    @property
    def restores(self) -> bool:
        """Whether images are to get their original sizes, which are refused where too large."""
        return self._blocks.restores

    @restores.setter
    def restores(self, restores: bool) -> None:
        self._blocks.restores = restores

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its place and its codec. Raises StorageError when it was opened as a file."""
        if self._place is None:
            raise _nowhere(self._name)
        return _again, (self._place, self.codec, self._name)

    def __len__(self) -> int:
        return self._blocks.reader.images

    def __repr__(self) -> str:
        header, name = self._blocks.reader.header, f" {self._name}" if self._name else ""
        images = f"{len(self):,} {'image' if len(self) == 1 else 'images'}"
        return f"<Pack{name}, {images} of {self._blocks.codec.name}, quality {header.quality}>"

    def close(self) -> None:
        self._blocks.reader.close()

    def __iter__(self) -> Iterator[Pixels]:
        """All images one by one, each as `pack[number]` gives it. Raises FormatError at a damaged block."""
        for batch in self.batches():
            yield from batch

    def batches(self, size: int = _BATCH) -> Iterator[Any]:
        """All images in order, so many at once, each time as `pack[start:stop]` gives them.

        Raises FormatError at a damaged block.
        """
        size = whole(size, "1 to 65,536 images a batch", 1, 1 << 16)
        self._check_open()
        return self._batched(self.decode([(0, len(self))]), size)

    def _batched(self, decoded: Iterable[Decoded], size: int) -> Iterator[Any]:
        with at(self._name):
            pictures = (picture for part in decoded for picture in part.pixels)
            while held := list(islice(pictures, size)):
                yield self._together(held)

    def __getitem__(self, key: Any) -> Any:
        """An image by its number, or several by a slice, or by a list or an array of numbers or a mask.

        Negative numbers count from the end. Raises ImageIndexError, which is an IndexError, where there is
        no such image; all else as `images`.
        """
        self._check_open()
        with at(self._name):
            if isinstance(key, slice):
                return self._several(_inside(key, len(self)))
            if isinstance(key, list) or (isinstance(key, np.ndarray) and key.ndim == 1):
                if is_mask(key):
                    return self._several(taken(key, len(self)))
                return self._several([self._number(item) for item in key])
            return flat(self._pictures([self._number(key)])[0])

    def __getitems__(self, keys: Iterable[int]) -> list[Pixels]:
        """A list of images by their numbers, as PyTorch asks for a batch; raises as `pack[number]`."""
        self._check_open()
        with at(self._name):
            wanted = _each(keys, self._number)
            return [flat(picture) for picture in self._pictures(wanted)]

    def _number(self, key: object) -> int:
        """A number from 0 on. Raises CvaeError when it is none, ImageIndexError when there is no such."""
        try:
            given = as_number(key)
        except TypeError:
            advice = (
                "a mask is an array or a list of booleans"
                if isinstance(key, bool | np.bool_)
                else ""
            )
            text = f"expected the number of an image, found {shown(key)}"
            raise CvaeError(text, advice=advice) from None
        number = given + len(self) if given < 0 else given
        if not 0 <= number < len(self):
            raise no_image(given, len(self))
        return number

    def _several(self, numbers: Sequence[int]) -> Any:
        if len(numbers) > _MANY:
            return self._streamed(numbers)
        return self._together(self._pictures(numbers))

    def _pictures(self, numbers: Sequence[int]) -> list[Pixels]:
        """Images (h, w, c) that nobody else has: what is kept stays as it is."""
        found = self._here().pictures(numbers)
        return [found[number].copy() for number in numbers]

    def _streamed(self, numbers: Sequence[int]) -> Any:
        """So many images that they are not kept, whatever order they are asked for in."""
        order, where = np.unique(np.array(numbers, np.int64), return_inverse=True)
        ranges = ranges_of((number, number + 1) for number in order.tolist())
        pictures = [picture for part in self.decode(ranges) for picture in part.pixels]
        return self._together([pictures[row] for row in where.tolist()])

    def _together(self, pictures: list[Pixels]) -> Any:
        """One array (n, h, w) or (n, h, w, 3), or a list for a model of any size."""
        codec = self._blocks.codec
        if codec.any_size:
            return pictures
        return flat(np.stack(pictures) if pictures else np.empty((0, *codec.image_shape), np.uint8))

    def images(self, numbers: Iterable[int]) -> Any:
        """Images by their numbers, from 0, in the order of the numbers: uint8 (n, h, w, c).

        Of a model of any size they are a list of arrays (h, w, 3), since their sizes may differ. Only
        the blocks that hold them are read. Else all have the model's size, fitted ones too.

        Raises:
            CvaeError: there is no image of such a number, or these are no integers.
            FormatError: a block that holds one is damaged.
        """
        self._check_open()
        with at(self._name):
            wanted = _each(numbers, as_number)
            if wanted and min(wanted) < 0:
                raise no_image(min(wanted), len(self))
            found = self._several([self._number(number) for number in wanted])
            return found if self.codec.any_size else found.reshape(-1, *self.codec.image_shape)

    @cached_property
    def names(self) -> list[str] | None:
        """The name of every image, empty where it has none; None where no image has one.

        Raises FormatError at a damaged block, whose names are lost.
        """
        with at(self._name):
            self._check_open()
            if not self.reader.named:
                return None
            return [name for block in self._read() for name in block.names or [""] * block.images]

    @cached_property
    def labels(self) -> Any:
        """The label of every image, as an array, or as a list with None where an image has none.

        Integers of an `.npz` file are an array of their dtype, (n,) or (n, ...). Where every image has an
        integer, of a file `.cls` or of a list in Python, they are int64 (n,); an array from Python keeps
        its dtype; where each has a text, such as its
        folder, an array of these. Where an image has several, each label is a dictionary. None where no
        image has a label. Raises FormatError at damage.
        """
        with at(self._name):
            self._check_open()
            if not self.reader.labelled:
                return None
            rows = [row for block in self._read() for row in block.labels or [{}] * block.images]
            return labels.together(rows)

    def _read(self) -> Iterator[Block]:
        """All blocks. Raises FormatError when one is damaged or lost."""
        images = 0
        for place in self.reader.blocks():
            images += place.images
            yield self.reader.read(place)
        if images != len(self):
            raise FormatError("damaged: some images are lost")

    def decode(self, ranges: Sequence[Range], threads: int | None = None) -> Iterator[Decoded]:
        """Images in batches of one size, in order of their numbers; raises as `images` does.

        `ranges` are sorted and do not overlap; `threads` of the networks are by default all processors.
        """
        ranges = checked(ranges)
        threads = threads_of(threads) or pipeline.processors()
        self._check_open()
        blocks = self._here()
        places = blocks.places(ranges)  # here, so that a wrong number raises before the first batch
        return blocks.decode(places, ranges, threads)

    def whole(
        self, ranges: Sequence[Range], refuse: Refuse = None, decode: bool = True
    ) -> list[Range]:
        """Sorted ranges without what cannot be decoded; `refuse` gets each FormatError.

        None raises the first. Check sums tell damage. With `refuse`, blocks are decoded as well, but for
        their pictures, unless `decode` is off: somebody may have made up a block whose check sum holds.
        """
        ranges = checked(ranges)
        if refuse is not None and not callable(refuse):
            raise CvaeError(f"expected a function that takes errors, found {type(refuse).__name__}")
        decode = truth(decode, "decode")
        self._check_open()
        damage = self.reader.damage_in(ranges)
        for item in damage:
            error = FormatError(item.text)
            if refuse is None:
                raise error
            refuse(error)
        left = without(ranges, [(d.first, d.first + d.images) for d in damage if d.images])
        return self._decodable(left, refuse) if refuse is not None and decode else left

    def _decodable(self, ranges: list[Range], refuse: Callable[[CvaeError], None]) -> list[Range]:
        blocks, lost = self._here(), []
        for place in blocks.places(ranges):
            try:
                blocks.read(place)
            except FormatError as error:
                refuse(error)
                lost.append((place.first, place.first + place.images))
        return without(ranges, lost)

    def find(self, name: str) -> list[int]:
        """The numbers of the images of a name. Reads all blocks, and skips damaged ones."""
        expect(name, str, "the name of an image")
        self._check_open()
        return [number for number, found in self.reader.names() if found == name]

    def match(self, pattern: str) -> list[int]:
        """The numbers of the images whose whole names match, as `fnmatch` does; reads as `find`.

        A pattern that is itself a name takes the images of that name alone: `y [1].png`.
        """
        expect(pattern, str, "a pattern of names, such as 'dogs/*.png'")
        self._check_open()
        matches = re.compile(fnmatch.translate(pattern)).match
        names = self.reader.names()
        found = [(number, name) for number, name in names if name == pattern or matches(name)]
        exact = [number for number, name in found if name == pattern]
        return exact or [number for number, _ in found]

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
            _, block, found = self._here().read(place)
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


def _inside(key: slice, length: int) -> range:
    """The numbers of a slice. Raises CvaeError when its ends are no numbers."""
    try:
        return range(*key.indices(length))
    except (TypeError, ValueError) as error:
        raise CvaeError(f"expected a slice of numbers, such as [3:9]: {error}") from error


def _each(numbers: Iterable[int], work: Callable[[Any], int]) -> list[int]:
    """Numbers that a caller gives, checked one by one. Raises CvaeError when they are none."""
    try:
        return [work(number) for number in numbers]
    except (TypeError, ValueError, OSError) as error:  # also of what cannot be iterated over
        text = f"expected numbers of images, such as [17, 42]: {error}"
        raise CvaeError(text) from error


def _again(place: str | Path | Remote, codec: Codec, name: str) -> Pack:
    """A pack that was pickled."""
    from cvae import packs

    return Pack(packs.open_reader(place), codec, name, place)


def _reopened(place: str | Path | Remote | None, before: Reader) -> Reader:
    """The same pack in another process. Raises StorageError when it is not the same any more."""
    from cvae import packs

    if place is None:
        raise _nowhere("")
    reader = packs.open_reader(place)
    if (reader.header, reader.images) != (before.header, before.images):
        reader.close()
        raise StorageError("is another pack than before", where=place)
    return reader


def _nowhere(name: str) -> StorageError:
    text = "was opened as a file, which stays in its process; another one needs a path or a URL"
    return StorageError(text, where=name)
