"""Containers against the image files that they were made of, one after another: few are held at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.container import Container
from cvae.bitstream.tables import Symbols
from cvae.codec import Codec
from cvae.data import contents, metrics, places
from cvae.data.images import BATCH_PIXELS, Pixels, grey_if_equal
from cvae.data.lists import ListSource
from cvae.data.places import Place
from cvae.errors import CvaeError, DataError, ImageError, StorageError, at, translated
from cvae.evaluation import coded
from cvae.evaluation.coded import Compared
from cvae.evaluation.originals import Originals
from cvae.options import EncodeOptions

MAX_CONTAINER = 1 << 28  # bytes

Find = Callable[[int], Codec]  # gives the codec of an id
Tell = Callable[[CvaeError], None]


def read(place: str) -> tuple[Container, int]:
    """A container and its bytes. Raises FormatError when it is none or damaged, StorageError."""
    with translated(StorageError, "cannot be read", place):
        data = places.read(places.locate(place), MAX_CONTAINER)
    return contents.unpack(data), len(data)


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
    originals.check_files()
    models: dict[Codec, _Measured] = {}
    absent, lost, used = [], 0, set[str]()
    for path, name in files:
        try:
            with at(path):
                original = originals.find(name, used)
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
    counts = {"missing": len(absent), "lost": lost, "uncoded": len(originals.names) - len(used)}
    none = dict.fromkeys(counts, 0)
    results = [row | (none if number else counts) for number, row in enumerate(figures)]
    originals.coded |= used
    return Compared(results, absent)


def _read(
    original: tuple[Place, str], codec: Codec, item: Container, options: EncodeOptions, refuse: Tell
) -> Pixels | None:
    """An original as the model codes it, (h, w, c); None when it is refused."""
    options = replace(options, fit=options.fit and not codec.lossless)
    batches = ListSource([original]).batches(codec.reading(options, alpha=True), refuse=refuse)
    batch = next(batches, None)
    if batch is None:
        return None
    pixels: Pixels = grey_if_equal(batch.pixels[0]) if item.grey else batch.pixels[0]
    advice = ""
    height, width, channels = pixels.shape
    size, coded_channels = (width, height), channels
    if codec.any_size:
        coded_channels = 1 if item.grey else 4 if item.alpha else 3
    else:
        size = batch.sizes[0] if batch.sizes else size  # before it was fitted
        advice = "--crop and --resize read it as it was coded" if item.original_size else ""
    expected = item.original_size or codec.image_shape[1::-1]
    if (size, channels) != (expected, coded_channels):
        (w, h), (x, y) = expected, size
        text = f"expected {w}x{h} of {coded_channels} channels, as it was coded, found {x}x{y} of {channels}"
        refuse(ImageError(text, where=original[0], advice=advice))
        return None
    return pixels
