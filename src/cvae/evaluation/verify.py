"""Coded files that exist, measured against their originals: rate and distortion, nothing encoded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.data import metrics, sources, tars
from cvae.data.images import Pixels
from cvae.data.places import Location
from cvae.data.sinks import Decoded
from cvae.data.sources import Batch, ListSource, Reading, Source
from cvae.errors import CvaeError, DataError, FormatError, MissingExtraError
from cvae.packs import shards as worklist
from cvae.packs.decode import Pack, Range, without
from cvae.packs.shards import Input

_SKIPPED = 1024  # images that are read at once to pass over them

Pairs = Iterator[tuple[Pixels, Pixels]]  # originals and what they came back as, (n, h, w, c) each


def evaluate(
    packed: Pack,
    data: str,
    split: str | None = None,
    progress: Callable[[int], None] | None = None,
    refuse: Callable[[CvaeError], None] | None = None,
) -> dict[str, Any]:
    """The figures of `cvae eval --coded`, under the keys of `evaluation.summarize` where they apply.

    Images of arrays are matched by number, all others by name.

    Args:
        packed: a pack, or a folder of packs.
        data: path, URL or pattern of the originals.
        split: of `.npz` files.
        progress: called with the number of images of each batch that was measured.
        refuse: called with every original that cannot be read, and with every damage of the pack; what is
            concerned is left out. None raises at the first.

    Raises:
        FormatError: the pack is damaged, or has no names where names are needed.
        DataError: the originals are not those of the pack, or cannot be read.
    """
    pairs = _Pairs(packed, worklist.resolve([data])[0], split, _whole(packed, refuse), refuse)
    errors: list[NDArray[np.float64]] = []
    similarity: list[NDArray[np.float64]] | None = []
    for originals, decoded in pairs.all():
        errors.append(metrics.mse(originals, decoded))
        try:
            if similarity is not None:
                similarity.append(metrics.ssim(originals, decoded))
        except MissingExtraError:
            similarity = None
        if progress:
            progress(len(originals))
    if not sum(map(len, errors)):
        raise DataError("has none of the images that were coded, and are whole", where=data)
    mse = np.concatenate(errors)
    header, manifest = packed.reader.header, packed.codec.model.manifest
    # Where originals are missing, their share of the bytes is left out, too.
    size = round(packed.reader.size * len(mse) / len(packed))
    whole = sum(stop - start for start, stop in pairs.ranges)
    ssim = None if similarity is None else float(np.concatenate(similarity).mean())
    floor = manifest.expected_psnr[header.quality - 1]
    return {
        "split": pairs.split,
        "model": packed.codec.name,
        "quality": header.quality,
        **metrics.figures(packed.codec.image_shape, size, mse),
        "ssim_mean": None if ssim is None or np.isnan(ssim) else ssim,
        "warned": int((metrics.psnr_of_mse(mse) < floor).sum()),
        "decode_images_per_second": round(pairs.decoded / max(pairs.seconds, 1e-9), 1),
        "missing": whole - len(mse),  # coded images whose originals are not there
        "lost": len(packed) - whole,  # to damage
    }


def _whole(packed: Pack, refuse: Callable[[CvaeError], None] | None) -> list[Range]:
    """The images that are not damaged. Raises FormatError when there is damage and nobody takes it."""
    damage = packed.reader.damage_in([(0, len(packed))])
    for item in damage:
        error = FormatError(str(item))
        if refuse is None:
            raise error
        refuse(error)
    everything = [(0, len(packed))] if len(packed) else []
    return without(everything, [(d.first, d.first + d.images) for d in damage if d.images])


class _Pairs:
    """Originals and decoded images, batch by batch; and how long decoding took."""

    def __init__(
        self,
        packed: Pack,
        originals: Input,
        split: str | None,
        ranges: list[Range],
        refuse: Callable[[CvaeError], None] | None,
    ) -> None:
        self.ranges = ranges  # of the images that are measured
        self.split = "all"  # which images of an .npz file the originals are
        self.decoded = 0
        self.seconds = 0.0  # that decoding was waited for
        self._packed, self._input, self._split = packed, originals, split
        fit = packed.reader.header.sizes
        self._reading = Reading(packed.codec.image_shape, fit, refuse=refuse)

    def all(self) -> Pairs:
        first = next(self._input.found())
        if sources.is_array(first.place):
            member = sources.array_source(first.place, self._split).member or ""
            self.split = member.removeprefix("x_") if member.startswith("x_") else "all"
            return self._by_number()
        return self._in_order() if tars.is_tar(first.place) else self._by_name()

    def _decoded(self) -> Iterator[Decoded]:
        parts = self._packed.decode(self.ranges)
        while True:
            started = time.perf_counter()
            part = next(parts, None)
            self.seconds += time.perf_counter() - started
            if part is None:
                return
            self.decoded += len(part.numbers)
            yield part

    def _originals(self) -> Iterator[Batch]:
        for shard in worklist.cut([self._input], split=self._split):
            source: Source = shard.source
            yield from source.batches(self._reading)

    def _by_number(self) -> Pairs:
        originals = _Stream(self._originals())
        total, position = len(self._packed), 0
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
        if position != total and not self._packed.reader.damage:
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
        """Passes over the next images, at most `count`; how many there were."""
        left = count
        while left and (taken := len(self.take(min(left, _SKIPPED)))):
            left -= taken
        return count - left


def _names(part: Decoded) -> list[str]:
    if part.names is None:
        raise FormatError("expected names in the pack, to find the originals by; found none")
    return part.names
