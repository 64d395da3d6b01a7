"""What a source of images gives: batches of one shape, of files decoded on several threads."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from typing import Any, NamedTuple, TypeVar

import numpy as np

from cvae.data import images, pages, pipeline
from cvae.data.given import check_channels
from cvae.data.images import MAX_FILE, Pixels, Shape
from cvae.data.labels import Label, of_folder
from cvae.data.places import Location, is_url
from cvae.data.reading import Reading
from cvae.errors import Changed, CvaeError, ImageError, Notice, Refuse, StorageError, told

Result = TypeVar("Result")

_BATCH, _BATCH_BYTES = 1024, 1 << 24  # images and pixels that go on together


@dataclass(frozen=True, eq=False)
class Batch:
    """Some images of a source, in order."""

    pixels: Pixels  # (n, h, w, c)
    names: list[str] | None = None
    sizes: list[tuple[int, int]] | None = None  # width, height before they were fitted
    labels: list[Label] | None = None


class Source:
    """Where images come from. Those of files can be pickled, to be read by another process."""

    named: bool  # whether the images have names
    rows: tuple[object, ...]  # which part of a file it is

    def batches(
        self, reading: Reading, threads: int = 1, refuse: Refuse = None, paged: bool = False
    ) -> Iterator[Batch]:
        """Its images in order, with `paged` all pages of each file; raises as `Stream.batches` does."""
        raise NotImplementedError

    def count(self) -> int | None:
        """How many images there are, bad ones included; None where only reading them all tells."""
        return None

    def opened(self) -> Generator[Any, None, None]:
        """Those of its images that can be opened, as Pillow's `Image`. Files are not decoded."""
        raise NotImplementedError


def batch_of(
    pixels: Pixels, reading: Reading, label: str, names: list[str] | None = None,
    sizes: list[tuple[int, int]] | None = None, refuse: Refuse = None,
) -> Batch:  # fmt: skip
    """Images (n, h, w, c) as a reading has them. Raises ImageError, which names `label`.

    `sizes` are those that they had before they were fitted, where that was done already. `refuse` is
    called with notices of what is lost or converted.
    """
    height, width, channels = pixels.shape[1:]
    check_channels((height, width, channels), label)
    reading.check_array((height, width, channels), label)
    if reading.fit == "exact":
        sizes = None
    elif sizes is None:
        sizes = [reading.kept((width, height))] * len(pixels)
    if pixels.shape[1:] != reading.shape and not reading.keeps:
        pictures = [reading.picture(images.as_image(row), label) for row in pixels]
        changes = Counter(change for picture in pictures for change in picture.changes)
        for change, count in changes.items():
            told(refuse)(Changed(change, where=label, images=count))
        pixels = np.stack([reading.pixels(picture) for picture in pictures])
    return Batch(pixels, names, sizes)


def batch_size(shape: Shape) -> int:
    """How many images of a shape go on together."""
    return max(1, min(_BATCH, _BATCH_BYTES // max(1, math.prod(shape))))


class File(NamedTuple):
    label: str  # what messages call it
    name: str
    data: bytes | Location | CvaeError  # read already or not, or why it cannot be
    beside: Label | None = None


class _Image(NamedTuple):
    name: str
    pixels: Pixels
    size: tuple[int, int]
    changes: tuple[str, ...]
    notice: Notice | None = None  # that it is one of several pages
    beside: Label | None = None

    def tell(self, told: Callable[[CvaeError], None]) -> None:
        """Calls a function with notices of what was left out, lost or converted."""
        if self.notice is not None:
            told(self.notice)
        for change in self.changes:
            told(Changed(change, where=self.name))


def decoded(
    files: Iterator[File], reading: Reading, threads: int, refuse: Refuse, paged: bool
) -> Iterator[Batch]:
    """Image files, decoded on several threads, in batches of one shape."""
    tell = told(refuse)

    def decode(file: File) -> _Image | File | CvaeError:
        file = file._replace(beside=_folder_of(file)) if reading.folders else file
        return _attempt(file.label, partial(_decode, file, reading, paged))

    def found() -> Iterator[_Image]:
        for item in pipeline.ordered_map(decode, files, threads):
            for image in _pages(item, reading) if isinstance(item, File) else [item]:
                if isinstance(image, CvaeError):
                    tell(image)
                    continue
                image.tell(tell)
                yield image

    for shape, group in groupby(found(), lambda image: image.pixels.shape):
        while batch := list(islice(group, batch_size(shape))):
            pixels = np.stack([image.pixels for image in batch])
            fitted = None if reading.fit == "exact" else [image.size for image in batch]
            labels = [image.beside or {} for image in batch]
            names = [image.name for image in batch]
            yield Batch(pixels, names, fitted, labels if any(labels) else None)


def _folder_of(file: File) -> Label:
    """The folder that an image lies in; where its name has none, the one that its file is in."""
    found = of_folder(file.name)
    if not found and not isinstance(file.data, bytes | CvaeError):
        found = of_folder(path_of(str(file.data)))
    return found


def path_of(place: str) -> str:
    """The whole path of a file or folder, without dots; a URL as it is."""
    return place if is_url(place) else os.path.abspath(place)  # noqa: PTH100 - of a million names


def _attempt(label: str, work: Callable[[], Result]) -> Result | CvaeError:
    """What `work` gives, or why an image cannot be read."""
    try:
        with images.decoding(label):
            return work()
    except StorageError:
        raise  # the next attempt may find it; to skip an image would be for ever
    except CvaeError as error:
        error.where = error.where or label
        # Without the frames, which hold the file's bytes.
        error.__traceback__ = error.__cause__ = error.__context__ = None
        return error


def _decode(file: File, reading: Reading, paged: bool) -> _Image | File:
    """A file's image. With `paged`, one of several pages comes back as read, for `_pages`."""
    label, name, data, beside = file
    if isinstance(data, CvaeError):
        raise data
    data = data if isinstance(data, bytes) else images.read_file(data, label)
    if len(data) > MAX_FILE:
        raise ImageError(f"expected at most {MAX_FILE:,} bytes, found more")
    count = pages.count(data)
    if count > 1 and paged:
        return File(label, name, data, beside)
    notice = pages.notice(count, label) if count > 1 else None
    return _image(data, label, name, reading)._replace(notice=notice, beside=beside)


def _pages(file: File, reading: Reading) -> Iterator[_Image | CvaeError]:
    """A file's pages one after another: in most formats each needs those before it.

    They are named as if the file were a folder of them, so nothing else has their names.
    """
    assert isinstance(file.data, bytes)
    for number, image in pages.opened(file.data, file.label):
        label, name = f"{file.label}/{number}", f"{file.name}/{number}"
        if isinstance(image, ImageError):
            yield image
        else:
            found = _attempt(label, partial(_image, image, label, name, reading))
            yield found._replace(beside=file.beside) if isinstance(found, _Image) else found


def _image(data: Any, label: str, name: str, reading: Reading) -> _Image:
    picture = reading.picture(data, label)
    pixels = reading.pixels(picture)
    return _Image(name, pixels, picture.size, picture.changes)


def drop(error: CvaeError) -> None:
    """Whoever reads all images says what is wrong."""
