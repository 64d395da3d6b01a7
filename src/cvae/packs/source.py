"""Packs as a source of images; `open_images` and `first_image` take everything that holds images."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cvae import packs
from cvae.data import images, sources
from cvae.data.batches import Batch, Source, batch_of
from cvae.data.images import Pixels
from cvae.data.labels import Label, of_folder
from cvae.data.places import Location
from cvae.data.reading import Reading, Size
from cvae.data.sinks import Decoded
from cvae.errors import CvaeError, ImageError, Refuse


@dataclass(frozen=True)
class PackSource(Source):
    """The decoded images of a pack, or of a folder of packs."""

    place: Location
    named: bool

    rows = ()

    def batches(
        self, reading: Reading, threads: int = 1, refuse: Refuse = None, paged: bool = False
    ) -> Iterator[Batch]:
        with packs.open(self.place, damaged=True) as pack:
            for part in pack.decode(pack.whole([(0, len(pack))], refuse), threads):
                for pixels, names, sizes, labels in _of_one_size(part, reading):
                    try:
                        label = str(self.place)
                        batch = batch_of(pixels, reading, label, names, sizes, refuse)
                    except ImageError as error:
                        if refuse is None:
                            raise
                        refuse(error)
                    else:
                        if reading.folders:
                            labels = [of_folder(name) for name in names or []]
                        kept = reading.labels or reading.folders
                        yield replace(batch, labels=labels if kept else None)

    def count(self) -> int | None:
        with suppress(CvaeError), packs.open_reader(self.place) as reader:
            return reader.images
        return None

    def opened(self) -> Generator[Any, None, None]:
        with packs.open(self.place, damaged=True) as pack:
            for part in pack.decode([(0, min(1, len(pack)))]):
                yield images.as_image(part.original(0))


def _of_one_size(
    part: Decoded, reading: Reading
) -> Iterator[tuple[Pixels, list[str] | None, list[Size] | None, list[Label] | None]]:
    """Images, their names and labels, at their original sizes.

    Where the reading takes them as they are, they stay so, and the original sizes are beside them.
    """
    if part.pixels.shape[1:] == reading.shape:
        yield part.pixels, part.names, part.sizes, part.labels
        return
    start = 0
    for pixels in images.alike([part.original(row) for row in range(len(part.numbers))]):
        stop = start + len(pixels)
        names, labels = part.names, part.labels
        yield pixels, names and names[start:stop], None, labels and labels[start:stop]
        start = stop


def pack_source(place: Location) -> PackSource:
    """Raises FormatError when the pack is damaged as a whole, StorageError when it cannot be reached."""
    with packs.open_reader(place) as reader:
        return PackSource(place, reader.named)


open_images = partial(sources.open_images, packs=pack_source)
first_image = partial(sources.first_image, packs=pack_source)
