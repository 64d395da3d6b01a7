"""The image files in tar and ZIP archives as sources."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import compress, groupby, islice
from typing import Any

from cvae.data import images, labels, listing, tars, zips
from cvae.data.batches import Batch, File, Source, decoded, drop
from cvae.data.images import MAX_FILE
from cvae.data.labels import Label
from cvae.data.places import Location
from cvae.data.reading import Reading
from cvae.errors import (
    Changed,
    CvaeError,
    DataError,
    ImageError,
    NotBeside,
    PassedOver,
    Refuse,
    told,
    translated,
)

# Advice.
_SORTED_TAR = "`tar --sort=name` writes them side by side"
_SORTED_ZIP = "`find . -type f | sort | zip NAME.zip -@` writes them side by side"
_TOGETHER = 16  # members of one name that are held at once


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
            items = _files(members, self.label, reading, refuse, _SORTED_TAR)
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
    """Whether a member of an archive is an image, by its name and first bytes, or may be a label.

    Others are noticed.
    """
    tell = told(refuse)

    def wanted(name: str, head: bytes) -> bool:
        is_wanted = listing.is_image(name, head) or _ending(name) in labels.ENDINGS
        if not is_wanted:
            tell(PassedOver("image", where=f"{label}: {name}"))
        return is_wanted

    return wanted


def _files(
    members: Iterable[tuple[str, bytes | ImageError]],
    label: str,
    reading: Reading,
    refuse: Refuse,
    advice: str,
) -> Iterator[File]:
    """The image files among members, each with its label: in files of its name, which lie next to it.

    A reading that has no labels passes over those that lie elsewhere alone, as other files. `advice` says
    how to order an archive so.
    """
    tell = told(refuse)
    for _, group in groupby(members, lambda member: labels.stem(member[0])):
        while held := list(islice(group, _TOGETHER)):
            is_label = [_ending(name) in labels.ENDINGS for name, _ in held]
            files, others = list(compress(held, is_label)), [not known for known in is_label]
            beside = _beside(files, tell) if reading.labels and any(others) else {}
            for name, data in compress(held, others):
                yield File(f"{label}: {name}", name, data, beside)
            for name, _ in files if not any(others) else []:
                where = f"{label}: {name}"
                if reading.labels:
                    tell(NotBeside("label next to its image", where=where, advice=advice))
                else:
                    tell(PassedOver("image", where=where))


def _beside(
    files: Iterable[tuple[str, bytes | ImageError]], tell: Callable[[CvaeError], None]
) -> Label:
    """The label in files of one name."""
    found = Label()
    for name, data in files:
        try:
            if isinstance(data, ImageError):
                raise ValueError(data.text)
            found |= labels.from_file(_ending(name), data)
        except ValueError:
            what = "an integer" if _ending(name) == ".cls" else "JSON"
            text = f"left out labels: expected {what} of at most {labels.MAX_LABEL:,} bytes"
            tell(Changed(text, where=name))
    return found


def _ending(name: str) -> str:
    return name[len(labels.stem(name)) :].lower()


@dataclass(frozen=True)
class ZipSource(Source):
    """The image files in a ZIP archive."""

    place: Location

    named, rows = True, ()

    def batches(
        self, reading: Reading, threads: int = 1, refuse: Refuse = None, paged: bool = False
    ) -> Iterator[Batch]:
        members = self._members(refuse)
        items = _files(members, str(self.place), reading, refuse, _SORTED_ZIP)
        return decoded(items, reading, threads, refuse, paged)

    def opened(self) -> Generator[Any, None, None]:
        for name, data in self._members(drop):
            with suppress(CvaeError):
                if isinstance(data, bytes):
                    yield images.open_image(data, name)

    def _members(self, refuse: Refuse) -> Iterator[tuple[str, bytes | ImageError]]:
        label = str(self.place)
        return zips.members(self.place, label, _wanted(label, refuse), MAX_FILE)
