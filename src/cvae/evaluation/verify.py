"""Coded files: are they whole, and how far are they from their originals? Nothing is encoded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae import packs
from cvae.bitstream import container
from cvae.codec import Codec, open_model, open_model_of
from cvae.data import metrics, places, sources
from cvae.data.contents import What, what_is, what_lies_at
from cvae.data.images import Pixels
from cvae.data.places import Place
from cvae.data.reading import Reading
from cvae.data.sinks import Decoded
from cvae.data.sources import ListSource
from cvae.errors import (
    CvaeError,
    DataError,
    FormatError,
    MissingExtraError,
    StorageError,
    translated,
)
from cvae.packs import shards
from cvae.packs.decode import Pack, without
from cvae.packs.reader import Damage, Range
from cvae.packs.shards import Input

_MAX_CONTAINER = 1 << 28  # bytes

Pairs = Iterator[tuple[Pixels, Pixels]]  # originals and decoded images, (n, h, w, c) each
Refuse = Callable[[CvaeError], None] | None


def check(place: str, model: str | None = None) -> list[Damage]:
    """What is damaged in a container, a pack or a folder of packs; nothing when it is whole.

    Args:
        place: path or URL.
        model: name or path of a container's model; None for the one that it names.

    Raises:
        ModelNotFoundError: the model of a container is not here.
        StorageError: the place cannot be reached.
    """
    try:
        if what_lies_at(place) not in (What.CONTAINER, What.FILE):
            with packs.open_reader(place) as reader:
                return reader.damage_in([(0, reader.images)])
        with translated(StorageError, "cannot be read", place):
            data = places.read(places.locate(place), _MAX_CONTAINER)
        codec = open_model(model) if model else open_model_of(data)
        codec.decode_payload(container.unpack(data))
    except FormatError as error:
        return [Damage(error.text, 0, 1)]
    return []


def compare_containers(
    codec: Codec, coded: Sequence[bytes], originals: Iterable[Pixels]
) -> dict[str, Any]:
    """The figures of containers of one model and their originals, (h, w, c) of the model's size each.

    Raises:
        FormatError: a container is damaged.
        ModelNotFoundError: a container is of another model.
    """
    # PSNR is that of the model's size, also of images that were fitted to it.
    items = [replace(container.unpack(data), original_size=None) for data in coded]
    qualities = [item.quality for item in items]
    found, started = _Figures(codec), time.perf_counter()
    decoded = np.stack(codec.decode_containers(items))
    seconds = time.perf_counter() - started
    found.add(np.stack(list(originals)), decoded, qualities)
    return {
        "quality": qualities[0] if len(set(qualities)) == 1 else None,
        **found.result(sum(map(len, coded)), len(items) / max(seconds, 1e-9)),
    }


def compare(
    pack: Pack,
    data: str,
    split: str | None = None,
    progress: Callable[[int], None] | None = None,
    refuse: Refuse = None,
) -> dict[str, Any]:
    """The figures of a pack, under the keys of `measure.summarize` where they apply.

    Images of arrays are matched by number, all others by name.

    Args:
        pack: a pack, or a folder of packs.
        data: path, URL or pattern of the originals.
        split: of `.npz` files.
        progress: called with the number of images of each batch that was measured.
        refuse: called with every original that cannot be read and every damage; their images are
            skipped. None raises at the first.

    Raises:
        FormatError: the pack is damaged, or has no names where names are needed.
        DataError: the originals are not those of the pack, or cannot be read.
    """
    pairs = _Pairs(pack, shards.resolve(data), split, refuse)
    found, quality, size = _Figures(pack.codec), pack.reader.header.quality, pack.reader.size
    for originals, decoded in pairs.all():
        found.add(originals, decoded, [quality] * len(originals))
        if progress:
            progress(len(originals))
    if not found.images:
        raise DataError("has none of the images that were coded, and are whole", where=data)
    whole = sum(stop - start for start, stop in pairs.ranges)
    return {
        "split": pairs.split,
        "quality": quality,
        # Where originals are missing, their share of the bytes is left out, too.
        **found.result(round(size * found.images / len(pack)), pairs.speed()),
        "missing": whole - found.images,  # coded images whose originals are not there
        "lost": len(pack) - whole,  # to damage
    }


class _Figures:
    """What is measured of images of one model."""

    def __init__(self, codec: Codec) -> None:
        self.images = self._poor = 0
        self._codec = codec
        self._mse: list[NDArray[np.float64]] = []
        self._ssim: list[NDArray[np.float64]] = []

    def add(self, originals: Pixels, decoded: Pixels, qualities: list[int]) -> None:
        """(n, h, w, c) twice."""
        mse = metrics.mse(originals, decoded)
        self.images += len(mse)
        self._mse.append(mse)
        floors = [self._codec.expected_psnr(quality) for quality in qualities]
        self._poor += int((metrics.psnr_of_mse(mse) < np.array(floors)).sum())
        with suppress(MissingExtraError):
            self._ssim.append(metrics.ssim(originals, decoded))

    def result(self, size: int, speed: float) -> dict[str, Any]:
        """`size` is the bytes of the files, `speed` decoded images a second."""
        ssim = float(np.concatenate(self._ssim).mean()) if self._ssim else np.nan
        return {
            "model": self._codec.name,
            **metrics.figures(self._codec.image_shape, size, np.concatenate(self._mse)),
            "ssim_mean": None if np.isnan(ssim) else ssim,
            "warned": self._poor,
            "decode_images_per_second": round(speed, 1),
        }


def _whole(pack: Pack, refuse: Refuse) -> list[Range]:
    """The images that are not damaged. Raises FormatError at damage when `refuse` is None."""
    damage = pack.reader.damage_in([(0, len(pack))])
    for item in damage:
        error = FormatError(str(item))
        if refuse is None:
            raise error
        refuse(error)
    return without([(0, len(pack))], [(d.first, d.first + d.images) for d in damage if d.images])


class _Pairs:
    """Originals and decoded images, batch by batch; and how long decoding took."""

    def __init__(self, pack: Pack, originals: Input, split: str | None, refuse: Refuse) -> None:
        self.ranges = _whole(pack, refuse)  # of the images that are measured
        self.split = "all"  # which images of an .npz file the originals are
        self.decoded = 0
        self.seconds = 0.0  # that decoding was waited for
        self._pack, self._input, self._split, self._refuse = pack, originals, split, refuse
        fitted = pack.reader.header.sizes
        self._reading = Reading(pack.codec.image_shape, "stretch" if fitted else "exact")

    def speed(self) -> float:
        """Decoded images a second."""
        return self.decoded / max(self.seconds, 1e-9)

    def all(self) -> Pairs:
        first = next(self._input.found())
        what = what_is(first.name)
        if what is What.ARRAY:
            member = sources.array_source(first.place, self._split).member or ""
            self.split = member.removeprefix("x_") if member.startswith("x_") else "all"
            return self._by_number()
        return self._in_order() if what is What.TAR else self._by_name()

    def _decoded(self) -> Iterator[Decoded]:
        parts = self._pack.decode(self.ranges)
        while True:
            started = time.perf_counter()
            part = next(parts, None)
            self.seconds += time.perf_counter() - started
            if part is None:
                return
            self.decoded += len(part.numbers)
            yield part

    def _originals(self) -> Iterator[tuple[str, Pixels]]:
        """The images in order, (h, w, c) each, with their names."""
        for shard in shards.cut([self._input], split=self._split):
            for batch in shard.source.batches(self._reading, refuse=self._refuse):
                yield from zip(batch.names or repeat(""), batch.pixels, strict=False)

    def _by_number(self) -> Pairs:
        originals = (image for _, image in self._originals())
        total, position = len(self._pack), 0
        wrong = f"expected {total} images, as many as were coded, found"
        for part in self._decoded():
            start, stop = int(part.numbers[0]), int(part.numbers[-1]) + 1
            position += _skip(originals, start - position)  # what lies between is lost
            taken = list(islice(originals, stop - position))
            if position + len(taken) < stop:
                raise DataError(f"{wrong} {position + len(taken)}", where=self._input.text)
            yield np.stack(taken)[part.numbers - start], part.pixels
            position = stop
        position += _skip(originals, total + 1 - position)
        # A pack without its index does not know how many images it had.
        if position != total and not self._pack.reader.damage:
            more = "more" if position > total else position
            raise DataError(f"{wrong} {more}", where=self._input.text)

    def _by_name(self) -> Pairs:
        # Names are looked up, never opened: a pack may hold any.
        places: dict[str, Place] = {item.name: item.place for item in self._input.found()}
        seen: set[str] = set()
        for part in self._decoded():
            names = _names(part)
            if len(set(names)) < len(names) or seen.intersection(names):
                raise DataError("expected a name for each coded image alone, found one twice")
            seen.update(names)
            known = ListSource(tuple((places[name], name) for name in names if name in places))
            rows = {name: row for row, name in enumerate(names)}
            for batch in known.batches(self._reading, refuse=self._refuse):
                yield batch.pixels, part.pixels[[rows[name] for name in batch.names or []]]

    def _in_order(self) -> Pairs:
        originals = self._originals()
        for part in self._decoded():
            found = []
            for name in _names(part):
                original = next((image for other, image in originals if other == name), None)
                if original is None:
                    raise DataError(f"expected an image {name!r} next", where=self._input.text)
                found.append(original)
            yield np.stack(found), part.pixels


def _skip(images: Iterator[Pixels], count: int) -> int:
    """Skips the next images, at most `count`; how many there were."""
    return sum(1 for _ in islice(images, count))


def _names(part: Decoded) -> list[str]:
    if part.names is None:
        raise FormatError("expected names in the pack, to find the originals by; found none")
    return part.names
