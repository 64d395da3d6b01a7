"""The image files in tar and ZIP archives as sources."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from cvae.data import images, listing, tars, zips
from cvae.data.batches import Batch, File, Source, decoded, drop
from cvae.data.images import MAX_FILE
from cvae.data.places import Location
from cvae.data.reading import Reading
from cvae.errors import CvaeError, DataError, ImageError, PassedOver, Refuse, told, translated


@dataclass(frozen=True)
class TarSource(Source):
    """The image files in a tar archive, compressed or not."""

    file: Any  # a place, or an open file that need not seek
    label: str

    named, rows = True, ()

    def batches(
        self, reading: Reading, threads: int = 1, refuse: Refuse = None, paged: bool = False
    ) -> Iterator[Batch]:
        is_open = hasattr(self.file, "read")
        again = None if is_open else partial(self.file.open, "rb")
        with translated(DataError, "cannot be read", self.label):
            opened = nullcontext(self.file) if is_open else self.file.open("rb")
        with opened as file:
            wanted = _wanted(self.label, refuse)
            members = tars.members(file, self.label, wanted, MAX_FILE, refuse, again)
            items = (File(f"{self.label}: {name}", name, data) for name, data in members)
            yield from decoded(items, reading, threads, refuse, paged)

    def opened(self) -> Generator[Any, None, None]:
        if not isinstance(self.file, tars.Recorded):
            with self.file.open("rb") as file:
                yield from self._opened(file)
            return
        self.file.record()
        try:
            yield from self._opened(self.file)
        finally:
            self.file.rewind()

    def _opened(self, archive: Any) -> Iterator[Any]:
        for name, data in tars.members(
            archive, self.label, listing.is_image, MAX_FILE, drop, keep=0
        ):
            with suppress(CvaeError):
                yield images.open_image(data, name)


def _wanted(label: str, refuse: Refuse) -> Callable[[str, bytes], bool]:
    """Whether a member of an archive is an image, by its name and first bytes; others are noticed."""
    tell = told(refuse)

    def wanted(name: str, head: bytes) -> bool:
        is_image = listing.is_image(name, head)
        if not is_image:
            tell(PassedOver("image", where=f"{label}: {name}"))
        return is_image

    return wanted


@dataclass(frozen=True)
class ZipSource(Source):
    """The image files in a ZIP archive."""

    place: Location

    named, rows = True, ()

    def batches(
        self, reading: Reading, threads: int = 1, refuse: Refuse = None, paged: bool = False
    ) -> Iterator[Batch]:
        members = self._members(refuse)
        items = (File(f"{self.place}: {name}", name, data) for name, data in members)
        return decoded(items, reading, threads, refuse, paged)

    def opened(self) -> Generator[Any, None, None]:
        for name, data in self._members(drop):
            with suppress(CvaeError):
                if isinstance(data, bytes):
                    yield images.open_image(data, name)

    def _members(self, refuse: Refuse) -> Iterator[tuple[str, bytes | ImageError]]:
        label = str(self.place)
        return zips.members(self.place, label, _wanted(label, refuse), MAX_FILE)
