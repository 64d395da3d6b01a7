"""Containers against the image files that they were made of, one after another: few are held at once."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream import container
from cvae.bitstream.container import Container
from cvae.bitstream.tables import Symbols
from cvae.codec import Codec
from cvae.data import listing, metrics, places
from cvae.data.contents import What, what_lies_at
from cvae.data.images import BATCH_PIXELS, Pixels
from cvae.data.places import Place
from cvae.data.sources import ListSource
from cvae.errors import CvaeError, DataError, ImageError, StorageError, at, translated
from cvae.evaluation import coded
from cvae.evaluation.coded import Compared
from cvae.options import EncodeOptions

MAX_CONTAINER = 1 << 28  # bytes

Find = Callable[[int], Codec]  # gives the codec of an id
Tell = Callable[[CvaeError], None]


def read(place: str) -> tuple[Container, int]:
    """A container and its bytes. Raises FormatError when it is none or damaged, StorageError."""
    with translated(StorageError, "cannot be read", place):
        data = places.read(places.locate(place), MAX_CONTAINER)
    return container.unpack(data), len(data)


class Originals:
    """Image files, found by the names of the containers that were made of them."""

    def __init__(self, text: str, refuse: Tell) -> None:
        """`text` is a path, a URL or a pattern. Raises DataError when it has no image files."""
        if what_lies_at(text) in (What.ARRAY, What.TAR, What.ZIP, What.PACK, What.PACKS):
            wrong = "holds many images, expected image files"
            why = "containers are compared with those of their names"
            raise DataError(f"{wrong}: {why}", where=text)
        self.text = text
        self.places = {file.name: file.place for file in listing.find_images(text, refuse)}
        self.unused = set(self.places)
        self._stems = defaultdict[str, list[str]](list)
        for name in self.places:
            self._stems[_stem(name)].append(name)
        is_one = list(self.places.values()) == [places.locate(text)]
        self._alone = list(self.places) if is_one else []

    def find(self, name: str) -> tuple[Place, str] | None:
        """The original of a container by the name of that, and its own name; None where it is missing.

        `encode` names results after their image without its ending or with it. A single original has
        any name. Raises ImageError when several differ in the ending alone.
        """
        stem = _stem(name)
        found = [stem] if stem in self.places else self._stems.get(stem, self._alone)
        self.unused.difference_update(found)
        if len(found) > 1:
            text = f"expected one original of this name in {self.text}, found {', '.join(found)}"
            raise ImageError(text, advice="--against FILE names the one that was coded")
        return (self.places[found[0]], found[0]) if found else None


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


class _Pair(NamedTuple):
    path: str
    item: Container
    symbols: Symbols
    size: int  # bytes of the file
    original: Pixels  # (h, w, c)


class _Measured:
    """The containers of one model and what was measured of them."""

    def __init__(self, codec: Codec, refuse: Tell) -> None:
        self.codec, self.seconds = codec, 0.0
        self.lost = 0  # that could not be decoded; `refuse` was called with each
        self._refuse = refuse
        # Not decoded yet, since some go through the networks together; and values of their pixels.
        self._held, self._pixels = list[_Pair](), 0
        self._parts: list[NDArray[np.float64]] = []
        self._shapes: list[tuple[int, ...]] = []
        self._qualities, self._bytes = set[int](), 0

    def add(self, pair: _Pair) -> None:
        self._held.append(pair)
        self._pixels += pair.original.size
        if self._pixels >= BATCH_PIXELS:
            self.flush()

    def flush(self) -> None:
        """Decodes what is held: together, or one by one where that fails, to lose the bad ones alone."""
        held, self._held, self._pixels = self._held, [], 0
        if not held or self._failure(held) is None:
            return
        for pair in held:
            if error := self._failure([pair]):
                self.lost += 1
                self._refuse(error)

    def _failure(self, pairs: list[_Pair]) -> CvaeError | None:
        """Decodes some together and measures them; returns why that cannot be done, if it cannot."""
        try:
            self._measure(pairs)
        except (CvaeError, MemoryError) as error:
            reason = error if isinstance(error, CvaeError) else "there is not enough memory"
            return CvaeError(f"cannot be decoded: {reason}", where=pairs[0].path)
        return None

    def _measure(self, pairs: list[_Pair]) -> None:
        _, items, symbols, sizes, originals = zip(*pairs, strict=True)
        started = time.perf_counter()
        decoded = list(self.codec.reconstruct(items, symbols))
        seconds = time.perf_counter() - started
        qualities = [item.quality for item in items]
        self._parts.append(coded.measure(self.codec, originals, decoded, qualities))
        # From here on nothing fails, so no container counts twice.
        self.seconds += seconds
        self._shapes += [original.shape for original in originals]
        self._qualities.update(qualities)
        self._bytes += sum(sizes)

    def figures(self) -> dict[str, Any] | None:
        """What was measured; None where nothing was."""
        if not self._parts:
            return None
        quality = next(iter(self._qualities)) if len(self._qualities) == 1 else None
        speed = len(self._shapes) / max(self.seconds, 1e-9)
        parts, shape = np.concatenate(self._parts, axis=1), metrics.mean_shape(self._shapes)
        return {
            "quality": quality,
            **coded.figures(self.codec, parts, self._bytes, speed, shape),
        }


def compare(
    files: Iterable[tuple[str, str]], originals: Originals, options: EncodeOptions, find: Find, refuse: Tell
) -> Compared:  # fmt: skip
    """The figures of containers, under the keys of `measure.summarize` where they apply; one a model.

    PSNR is that of the model's size, also of images that were fitted to it; of a model of any size,
    that of the images.

    Args:
        files: the path of every container, and its name, by which its original is found.
        options: how originals are read.
        refuse: called with what cannot be read or decoded, and with notices; it is skipped.

    Raises:
        DataError: nothing can be compared.
    """
    models: dict[Codec, _Measured] = {}
    absent, lost = [], 0
    for path, name in files:
        try:
            with at(path):
                original = originals.find(name)
        except ImageError as error:
            refuse(error)
            absent.append(name)
            continue
        try:
            with at(path):
                item, size = read(path)
                codec = find(item.model_id)
                measured = models.setdefault(codec, _Measured(codec, refuse))
                started = time.perf_counter()
                symbols = codec.decode_payload(item)
                measured.seconds += time.perf_counter() - started
        except CvaeError as error:
            refuse(error)
            lost += 1
            continue
        pixels = None if original is None else _read(original, codec, item, options, refuse)
        if pixels is None:
            absent.append(name)
            continue
        if not codec.any_size:
            item = replace(item, original_size=None)
        measured.add(_Pair(path, item, symbols, size, pixels))
    for measured in models.values():
        measured.flush()
        lost += measured.lost
    figures = [found for measured in models.values() if (found := measured.figures())]
    if not figures:
        wrong = "has none of the images that were coded, and are whole"
        raise DataError(wrong, where=originals.text)
    counts = {"missing": len(absent), "lost": lost, "uncoded": len(originals.unused)}
    none = dict.fromkeys(counts, 0)
    results = [row | (none if number else counts) for number, row in enumerate(figures)]
    return Compared(results, absent, set(originals.unused))


def _read(
    original: tuple[Place, str], codec: Codec, item: Container, options: EncodeOptions, refuse: Tell
) -> Pixels | None:
    """An original as the model codes it, (h, w, c); None when it is refused."""
    batches = ListSource([original]).batches(codec.reading(options), refuse=refuse)
    found = next((batch.pixels[0] for batch in batches), None)
    if found is not None and codec.any_size and item.original_size:
        (width, height), channels = item.original_size, 1 if item.grey else 3
        if found.shape != (height, width, channels):
            expected = f"expected {width}x{height} of {channels} channels, as it was coded"
            h, w, c = found.shape
            refuse(ImageError(f"{expected}, found {w}x{h} of {c}", where=original[0]))
            return None
    return found
