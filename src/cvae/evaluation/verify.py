"""Coded files: are they whole, and how far are they from their originals? Nothing is encoded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae import packs
from cvae.bitstream import container
from cvae.codec import Codec, open_model, open_model_of
from cvae.data import metrics, places, sources, tars
from cvae.data.images import Pixels
from cvae.data.places import Location
from cvae.data.sinks import Decoded
from cvae.data.sources import Batch, ListSource, Reading, Source
from cvae.errors import (
    CvaeError,
    DataError,
    FormatError,
    MissingExtraError,
    StorageError,
    translated,
)
from cvae.packs import layout, shards
from cvae.packs.decode import Pack, without
from cvae.packs.reader import Damage, Range
from cvae.packs.shards import Input

_SKIPPED = 1024  # images that are read at once to skip them
_MAX_CONTAINER = 1 << 28  # bytes

Pairs = Iterator[tuple[Pixels, Pixels]]  # originals and decoded images, (n, h, w, c) each


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
        data = _container(place)
        if data is None:
            with packs.open_reader(place) as reader:
                return reader.damage_in([(0, reader.images)])
        codec = open_model(model) if model else open_model_of(data)
        codec.decode_payload(container.unpack(data))
    except FormatError as error:
        return [Damage(error.text, 0, 1)]
    return []


def _container(place: str) -> bytes | None:
    """The bytes of a container; None for packs."""
    location = places.locate(place)
    if places.is_folder(location):
        return None
    with translated(StorageError, "cannot be read", place), location.open("rb") as file:
        if layout.is_pack_file(file):
            return None
        file.seek(0)
        return places.read(location, _MAX_CONTAINER)


def compare_containers(
    codec: Codec, coded: Sequence[bytes], originals: Iterable[Pixels]
) -> dict[str, Any]:
    """The figures of containers of one model, as `compare` gives those of a pack.

    Args:
        codec: the model's codec.
        coded: the containers.
        originals: (h, w, c) each, of the model's size.

    Raises:
        FormatError: a container is damaged.
        ModelNotFoundError: a container is of another model.
    """
    # PSNR is that of the model's size, wherever the image was fitted to it.
    items = [replace(container.unpack(data), original_size=None) for data in coded]
    found, started = _Figures(codec), time.perf_counter()
    decoded = np.stack(codec.decode_containers(items))
    seconds = time.perf_counter() - started
    found.add(np.stack(list(originals)), decoded, [item.quality for item in items])
    qualities = {item.quality for item in items}
    return {
        "quality": qualities.pop() if len(qualities) == 1 else None,
        **found.result(sum(map(len, coded))),
        "decode_images_per_second": round(len(items) / max(seconds, 1e-9), 1),
    }


def compare(
    pack: Pack,
    data: str,
    split: str | None = None,
    progress: Callable[[int], None] | None = None,
    refuse: Callable[[CvaeError], None] | None = None,
) -> dict[str, Any]:
    """The figures of a pack, under the keys of `measure.summarize` where they apply.

    Images of arrays are matched by number, all others by name.

    Args:
        pack: a pack, or a folder of packs.
        data: path, URL or pattern of the originals.
        split: of `.npz` files.
        progress: called with the number of images of each batch that was measured.
        refuse: called with every original that cannot be read, and with every damage of the pack; their
            images are skipped. None raises at the first.

    Raises:
        FormatError: the pack is damaged, or has no names where names are needed.
        DataError: the originals are not those of the pack, or cannot be read.
    """
    pairs = _Pairs(pack, shards.resolve([data])[0], split, _whole(pack, refuse), refuse)
    found, quality = _Figures(pack.codec), pack.reader.header.quality
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
        **found.result(round(pack.reader.size * found.images / len(pack))),
        "decode_images_per_second": round(pairs.decoded / max(pairs.seconds, 1e-9), 1),
        "missing": whole - found.images,  # coded images whose originals are not there
        "lost": len(pack) - whole,  # to damage
    }


class _Figures:
    """What is measured of images of one model."""

    def __init__(self, codec: Codec) -> None:
        self.images = 0
        self._codec = codec
        self._floors = np.array(codec.model.manifest.expected_psnr)
        self._mse: list[NDArray[np.float64]] = []
        self._ssim: list[NDArray[np.float64]] | None = []
        self._poor = 0

    def add(self, originals: Pixels, decoded: Pixels, qualities: list[int]) -> None:
        """(n, h, w, c) twice."""
        mse = metrics.mse(originals, decoded)
        self.images += len(mse)
        self._mse.append(mse)
        floors = self._floors[np.array(qualities) - 1]
        self._poor += int((metrics.psnr_of_mse(mse) < floors).sum())
        try:
            if self._ssim is not None:
                self._ssim.append(metrics.ssim(originals, decoded))
        except MissingExtraError:
            self._ssim = None

    def result(self, size: int) -> dict[str, Any]:
        """`size` is the bytes of the files."""
        ssim = None if self._ssim is None else float(np.concatenate(self._ssim).mean())
        return {
            "model": self._codec.name,
            **metrics.figures(self._codec.image_shape, size, np.concatenate(self._mse)),
            "ssim_mean": None if ssim is None or np.isnan(ssim) else ssim,
            "warned": self._poor,
        }


def _whole(pack: Pack, refuse: Callable[[CvaeError], None] | None) -> list[Range]:
    """The images that are not damaged. Raises FormatError at damage when `refuse` is None."""
    damage = pack.reader.damage_in([(0, len(pack))])
    for item in damage:
        error = FormatError(str(item))
        if refuse is None:
            raise error
        refuse(error)
    everything = [(0, len(pack))] if len(pack) else []
    return without(everything, [(d.first, d.first + d.images) for d in damage if d.images])


class _Pairs:
    """Originals and decoded images, batch by batch; and how long decoding took."""

    def __init__(
        self,
        pack: Pack,
        originals: Input,
        split: str | None,
        ranges: list[Range],
        refuse: Callable[[CvaeError], None] | None,
    ) -> None:
        self.ranges = ranges  # of the images that are measured
        self.split = "all"  # which images of an .npz file the originals are
        self.decoded = 0
        self.seconds = 0.0  # that decoding was waited for
        self._pack, self._input, self._split = pack, originals, split
        fit = pack.reader.header.sizes
        self._reading = Reading(pack.codec.image_shape, fit, refuse=refuse)

    def all(self) -> Pairs:
        first = next(self._input.found())
        if sources.is_array(first.place):
            member = sources.array_source(first.place, self._split).member or ""
            self.split = member.removeprefix("x_") if member.startswith("x_") else "all"
            return self._by_number()
        return self._in_order() if tars.is_tar(first.place) else self._by_name()

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

    def _originals(self) -> Iterator[Batch]:
        for shard in shards.cut([self._input], split=self._split):
            source: Source = shard.source
            yield from source.batches(self._reading)

    def _by_number(self) -> Pairs:
        originals = _Stream(self._originals())
        total, position = len(self._pack), 0
        wrong = f"{self._input.text}: expected {total} images, as many as were coded, found"
        for part in self._decoded():
            start, stop = int(part.numbers[0]), int(part.numbers[-1]) + 1
            position += originals.skip(start - position)  # what lies between is lost
            taken = originals.take(stop - position)
            if position + len(taken) < stop:
                raise DataError(f"{wrong} {position + len(taken)}")
            yield taken[part.numbers - start], part.pixels
            position = stop
        position += originals.skip(total + 1 - position)
        # A pack without its index does not know how many images it had.
        if position != total and not self._pack.reader.damage:
            raise DataError(f"{wrong} {'more' if position > total else position}")

    def _by_name(self) -> Pairs:
        # Names are looked up, never opened: a pack may hold any.
        places: dict[str, Location] = {item.name: item.place for item in self._input.found()}
        seen: set[str] = set()
        for part in self._decoded():
            names = _names(part)
            if len(set(names)) < len(names) or seen.intersection(names):
                raise DataError("expected a name for each coded image alone, found one twice")
            seen.update(names)
            known = ListSource(tuple((places[name], name) for name in names if name in places))
            rows = {name: row for row, name in enumerate(names)}
            for batch in known.batches(self._reading):
                yield batch.pixels, part.pixels[[rows[name] for name in batch.names or []]]

    def _in_order(self) -> Pairs:
        found = (
            (name, batch.pixels[row])
            for batch in self._originals()
            for row, name in enumerate(batch.names or [])
        )
        for part in self._decoded():
            pixels = []
            for name in _names(part):
                original = next((image for other, image in found if other == name), None)
                if original is None:
                    raise DataError(
                        f"expected an image {name!r} in its place",
                        where=self._input.text,
                    )
                pixels.append(original)
            yield np.stack(pixels), part.pixels


class _Stream:
    """Batches of any size, taken in others."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._held: list[Pixels] = []

    def take(self, count: int) -> Pixels:
        """The next images, at most `count`."""
        while sum(map(len, self._held)) < count:
            batch = next(self._batches, None)
            if batch is None:
                break
            self._held.append(batch.pixels)
        if not self._held:
            return np.empty((0,), np.uint8)
        joined = np.concatenate(self._held)
        self._held = [joined[count:]] if len(joined) > count else []
        return joined[:count]

    def skip(self, count: int) -> int:
        """Skips the next images, at most `count`; how many there were."""
        left = count
        while left and (taken := len(self.take(min(left, _SKIPPED)))):
            left -= taken
        return count - left


def _names(part: Decoded) -> list[str]:
    if part.names is None:
        raise FormatError("expected names in the pack, to find the originals by; found none")
    return part.names
