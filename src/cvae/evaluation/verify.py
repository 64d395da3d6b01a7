"""Coded files: are they whole, and how far are they from their originals? Nothing is encoded."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain, groupby, islice, repeat

import numpy as np

from cvae import packs
from cvae.codec import Codec, find_codec, open_model
from cvae.data import metrics, pages, sources
from cvae.data.batches import Batch
from cvae.data.contents import What, what_lies_at
from cvae.data.images import Pixels
from cvae.data.lists import ListSource
from cvae.data.places import Place
from cvae.data.sinks import Decoded
from cvae.data.sources import Which
from cvae.errors import (
    CvaeError,
    DataError,
    FormatError,
    ModelError,
    PassedOver,
    Refuse,
    UnsupportedError,
    told,
)
from cvae.evaluation import coded, containers
from cvae.evaluation.coded import Compared
from cvae.evaluation.originals import Originals
from cvae.options import EncodeOptions
from cvae.packs import shards
from cvae.packs.decode import Pack
from cvae.packs.reader import Damage, Range
from cvae.packs.source import pack_source

_ORIGINALS = EncodeOptions(fit=True)

_END = sys.maxsize, np.empty((0, 0, 0), np.uint8)  # behind the last original

Pairs = Iterator[tuple[Pixels, Pixels]]  # originals and decoded images, (n, h, w, c) each


def codec_finder(model: str | None = None) -> Callable[[int], Codec]:
    """Gives the codec of an id, or that of `model` for any; each is looked for once."""

    @cache
    def found(model_id: int) -> Codec | ModelError:
        try:
            return open_model(model) if model else find_codec(model_id)
        except ModelError as error:
            return error

    def find(model_id: int) -> Codec:
        codec = found(model_id)
        if isinstance(codec, ModelError):
            # A new one, since each is told where it happened.
            raise type(codec)(codec.text, where=codec.where, advice=codec.advice)
        return codec

    return find


def check(place: str, find: Callable[[int], Codec] = find_codec) -> list[Damage]:
    """What is damaged in a container, a pack or a folder of packs at a path or URL.

    `find` gives a container's codec by its id; that of `codec_finder` opens each once.

    Raises:
        ModelNotFoundError: the model of a container is not here.
        StorageError: the place cannot be reached.
        UnsupportedError: it is of a later version.
    """
    try:
        if what_lies_at(place) not in (What.CONTAINER, What.FILE):
            with packs.open_reader(place) as reader:
                return reader.damage_in([(0, reader.images)])
        item, _ = containers.read(place)
        find(item.model_id).decode_payload(item)
    except UnsupportedError:
        raise
    except FormatError as error:
        return [Damage(error.text, 0, 1)]
    return []


def compare(
    pack: Pack,
    originals: Originals,
    options: EncodeOptions = _ORIGINALS,
    progress: Callable[[int], None] | None = None,
    refuse: Refuse = None,
) -> Compared:
    """The figures of a pack, under the keys of `measure.summarize` where they apply.

    Images of arrays, and of packs without names, are matched by number, all others by name.

    Args:
        originals: told which of them are in the pack.
        options: how images are read, and the `split` and `key` of `.npz` files.
        progress: called with the number of images of each batch that was measured.
        refuse: called with every original that cannot be read and every damage; their images are
            skipped. None raises at the first.

    Raises:
        FormatError: the pack is damaged, or has no names where names are needed.
        DataError: the originals are not those of the pack, or cannot be read.
    """
    pairs = _Pairs(pack, originals, options, refuse)
    quality, measured, shapes = pack.reader.header.quality, [], []
    for x, decoded in pairs.all():
        shapes += [x.shape[1:]] * len(x)
        if x.shape[3] < decoded.shape[3]:  # grey ones come back as RGB
            x = np.repeat(x, decoded.shape[3], axis=3)
        measured.append(coded.measure(pack.codec, x, decoded, [quality] * len(x)))
        if progress:
            progress(len(x))
    images = sum(len(part[0]) for part in measured)
    if not images:
        raise DataError(
            "has none of the images that were coded, and are whole", where=originals.text
        )
    whole = sum(stop - start for start, stop in pairs.ranges)
    # Where originals are missing, their share of the bytes is left out, too.
    size = max(1, round(pack.reader.size * images / len(pack)))
    speed = whole / max(pairs.seconds, 1e-9)
    parts, shape = np.concatenate(measured, axis=1), metrics.mean_shape(shapes)
    figures = {
        "split": pairs.split,
        "quality": quality,
        **coded.figures(pack.codec, parts, size, speed, shape),
        "missing": whole - images,  # coded images whose originals are not there, or cannot be read
        "lost": len(pack) - whole,  # to damage
        "uncoded": len(originals.names)
        - len(pairs.coded),  # originals that are not in the pack, or are lost
    }
    originals.coded |= pairs.coded
    return Compared([figures], pairs.absent)


class _Pairs:
    """Originals and decoded images, batch by batch; and how long decoding took."""

    def __init__(
        self, pack: Pack, originals: Originals, options: EncodeOptions, refuse: Refuse
    ) -> None:
        self.ranges = pack.whole([(0, len(pack))], refuse)  # of the images that are measured
        self.split = "all"  # which images of an .npz file the originals are
        self.seconds = 0.0  # that decoding was waited for
        self.absent: list[str] = []  # coded images without an original
        self.coded: set[str] = set()  # names of originals that are in the pack
        self._pack, self._originals, self._refuse = pack, originals, refuse
        self._which = Which(options.split, options.key)
        fitted = pack.reader.header.sizes
        self._reading = pack.codec.reading(replace(options, fit=fitted))

    def all(self) -> Pairs:
        what = self._originals.what
        if what is What.ARRAY:
            place = self._originals.input.place
            self.split = sources.array_source(place, self._which).split
            return self._by_number()
        if what in (What.PACK, What.PACKS):
            named = pack_source(self._originals.input.place).named
            return self._in_archive() if named else self._by_number()
        return self._in_archive() if what in (What.TAR, What.ZIP) else self._by_name()

    def _decoded(self) -> Iterator[Decoded]:
        parts = self._pack.decode(self.ranges)
        while True:
            started = time.perf_counter()
            part = next(parts, None)
            self.seconds += time.perf_counter() - started
            if part is None:
                return
            yield part

    def _images(self) -> Iterator[tuple[str, Pixels]]:
        """The originals in order, (h, w, c) each, with their names."""
        again, self._originals.was_read = self._originals.was_read, True

        def refuse(error: CvaeError) -> None:
            if not (again and isinstance(error, PassedOver)):  # the same whatever pack is compared
                told(self._refuse)(error)

        for shard in shards.cut([self._originals.input], which=self._which, refuse=refuse):
            for batch in shard.source.batches(self._reading, refuse=refuse):
                yield from zip(batch.names or repeat(""), batch.pixels, strict=False)

    def _by_number(self) -> Pairs:
        """The originals of arrays; of those of images that are lost nothing is measured."""
        originals, seen, total = enumerate(self._images(), 1), 0, len(self._pack)
        where = self._originals.text
        wrong = f"expected {total} images, as many as were coded, found"
        for part in self._decoded():
            found = []
            for number in part.numbers.tolist():
                for seen, (_, image) in originals:
                    if seen == number + 1:
                        found.append(image)
                        break
                else:
                    raise DataError(f"{wrong} {seen}", where=where)
            yield from self._beside(found, part, part.pixels)
        seen += sum(1 for _ in islice(originals, total + 1 - seen))
        # A pack without its index does not know how many images it had.
        if seen != total and not self._pack.reader.damage:
            raise DataError(f"{wrong} {'more' if seen > total else seen}", where=where)

    def _in_archive(self) -> Pairs:
        """The originals of an archive, which is read once, in the order of the pack."""
        originals = self._numbered()
        number, image = next(originals, _END)
        for part in self._decoded():
            found: dict[int, Pixels] = {}
            while number <= part.numbers[-1]:
                found[number] = image
                number, image = next(originals, _END)
            names, rows = _names(part), []
            for row, (at, name) in enumerate(zip(part.numbers.tolist(), names, strict=True)):
                if at in found:
                    rows.append(row)
                    self.coded.add(name)
                else:
                    self.absent.append(name)
            pixels = [found[at] for at in part.numbers[rows].tolist()]
            yield from self._beside(pixels, part, part.pixels[rows])
        for _ in originals:  # names those that are left
            pass

    def _numbered(self) -> Iterator[tuple[int, Pixels]]:
        """Those originals of an archive that are in the pack, each with its number there, rising.

        Raises DataError when the archive has another order.
        """
        listed = defaultdict[str, list[int]](list)
        for number, name in self._pack.reader.names():
            listed[name].append(number)
        numbers = {name: iter(rising) for name, rising in listed.items()}
        last, before = -1, ""
        for name, image in self._images():
            self._originals.names.add(name)
            if name not in numbers:
                continue
            number = next((number for number in numbers[name] if number > last), last)
            if number == last:
                text = f"expected the order of the pack, found {name!r} after {before!r}"
                raise DataError(text, where=self._originals.text)
            last, before = number, name
            yield number, image

    def _beside(self, found: list[Pixels], part: Decoded, pixels: Pixels) -> Pairs:
        """Originals beside decoded images of a part, in stacks. Raises DataError at another size."""
        if unlike := {image.shape[:2] for image in found} - {part.pixels.shape[1:3]}:
            raise _other_size(self._originals.text, unlike.pop(), part)
        for start, stop in _alike(found):
            yield np.stack(found[start:stop]), pixels[start:stop]

    def _by_name(self) -> Pairs:
        # Names are looked up, never opened: a pack may hold any.
        places = self._originals.places
        seen: set[str] = set()
        for part in self._decoded():
            names = _names(part)
            for name in names:
                if name in seen:
                    raise _twice(name)
                seen.add(name)
            rows = {name: row for row, name in enumerate(names)}
            whole = [(places[name], name) for name in names if name in places]
            stacks = dict.fromkeys(pages.file_of(name) for name in names if name not in places)
            paged = [(places[name], name) for name in stacks if name in places]
            self.coded.update(name for _, name in whole + paged)
            left = dict.fromkeys(names)
            for batch in chain(self._read(whole, False), self._read(paged, True)):
                at = [row for row, name in enumerate(batch.names or []) if name in rows]
                if not at:
                    continue
                if batch.pixels.shape[1:3] != part.pixels.shape[1:3]:
                    names_of = ", ".join(batch.names or [])
                    told(self._refuse)(_other_size(names_of, batch.pixels.shape[1:], part))
                    continue
                found = [rows[name] for name in batch.names or [] if name in rows]
                yield batch.pixels[at], part.pixels[found]
                for row in found:
                    del left[names[row]]
            self.absent += left

    def _read(self, files: list[tuple[Place, str]], paged: bool) -> Iterator[Batch]:
        return ListSource(files).batches(self._reading, refuse=self._refuse, paged=paged)


def _alike(found: Sequence[Pixels]) -> Iterator[Range]:
    """Where images that follow each other have one shape: grey ones stand among others."""
    start = 0
    for _, group in groupby(found, lambda image: image.shape):
        stop = start + sum(1 for _ in group)
        yield start, stop
        start = stop


def _twice(name: str) -> DataError:
    text = f"expected each name once, to find the originals by; found {name!r} twice"
    advice = "an array (.npz) of the originals, in the order of the pack, is compared by number"
    return DataError(text, advice=advice)


def _other_size(where: str, found: tuple[int, ...], part: Decoded) -> DataError:
    height, width = part.pixels.shape[1:3]
    expected = f"expected {width}x{height}, as it was coded"
    return DataError(f"{expected}, found {found[1]}x{found[0]}", where=where)


def _names(part: Decoded) -> list[str]:
    if part.names is None:
        raise FormatError("expected names in the pack, to find the originals by; found none")
    return part.names
