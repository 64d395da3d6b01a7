"""Images from anywhere as a stream of batches: files, folders, arrays in `.npz` and `.npy`, tar archives.

What is held at once does not grow with the number of images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from cvae.data import arrays, images, listing, pages, pipeline, places, tars
from cvae.data.contents import What, what_is, what_lies_at
from cvae.data.images import MAX_FILE, Pixels, Shape
from cvae.data.places import Found, Location
from cvae.data.reading import Reading
from cvae.errors import (
    CvaeError,
    DataError,
    ImageError,
    Notice,
    PassedOver,
    Refuse,
    StorageError,
    told,
    translated,
)

Result = TypeVar("Result")

_BATCH, _BATCH_BYTES = 1024, 1 << 24  # images and pixels that go on together


@dataclass(frozen=True, eq=False)
class Batch:
    """Some images of a source, in order."""

    pixels: Pixels  # (n, h, w, c)
    names: list[str] | None = None
    sizes: list[tuple[int, int]] | None = None  # width, height before they were fitted
    changes: Sequence[tuple[str, str]] = ()  # names, and what was lost or converted, in words


@dataclass(frozen=True)
class ListSource:
    """Image files, each with the name it has in a pack."""

    files: Iterable[tuple[Location, str]]

    named, rows = True, ()

    def batches(
        self, reading: Reading, threads: int = 1, refuse: Refuse = None, paged: bool = False
    ) -> Iterator[Batch]:
        items = (_File(str(place), name, place) for place, name in self.files)
        return _decoded(items, reading, threads, refuse, paged)


@dataclass(frozen=True)
class TarSource:
    """The image files in a tar archive, compressed or not."""

    file: Any  # a place, or an open file that need not seek
    label: str

    named, rows = True, ()

    def batches(
        self, reading: Reading, threads: int = 1, refuse: Refuse = None, paged: bool = False
    ) -> Iterator[Batch]:
        tell = told(refuse)

        def wanted(name: str, head: bytes) -> bool:
            is_image = listing.is_image(name, head)
            if not is_image:
                tell(PassedOver("image", where=f"{self.label}: {name}"))
            return is_image

        is_open = hasattr(self.file, "read")
        again = None if is_open else partial(self.file.open, "rb")
        with translated(DataError, "cannot be read", self.label):
            opened = nullcontext(self.file) if is_open else self.file.open("rb")
        with opened as file:
            members = tars.members(file, self.label, wanted, MAX_FILE, refuse, again)
            items = (_File(f"{self.label}: {name}", name, data) for name, data in members)
            yield from _decoded(items, reading, threads, refuse, paged)


@dataclass(frozen=True)
class ArraySource:
    """An array of images: an `.npy` file, or one array of an `.npz` file."""

    path: Location
    member: str | None = None  # of an .npz file
    start: int = 0  # the first of its rows
    stop: int | None = None  # behind the last of them; None for all

    named = False

    @property
    def rows(self) -> tuple[object, ...]:
        """Which part of the array it is."""
        return self.member, self.start, self.stop

    def batches(
        self, reading: Reading, threads: int = 1, refuse: Refuse = None, paged: bool = False
    ) -> Iterator[Batch]:
        with self._open() as (rows, shape, label):
            reading.check_array(shape, label)
            while rows.left:
                count = min(_batch(reading.shape), _batch(shape))
                pixels = rows.read(count).reshape(-1, *shape)
                sizes = None if reading.fit == "exact" else [(shape[1], shape[0])] * len(pixels)
                if shape != reading.shape and not reading.keeps:
                    pixels = np.stack([reading.pixels(images.as_image(row)) for row in pixels])
                yield Batch(pixels, sizes=sizes)

    def all(self) -> Pixels:
        """All images at once, (n, h, w, c), of whatever shape. Raises DataError."""
        with self._open() as (rows, shape, _):
            return rows.read(rows.left).reshape(-1, *shape)

    @contextmanager
    def _open(self) -> Iterator[tuple[arrays.Rows, Shape, str]]:
        """The array, the (h, w, c) of its images, and what messages call it."""
        label = str(self.path) if self.member is None else f"{self.path}: {self.member}"
        with arrays.open_rows(self.path, self.member) as rows:
            if rows.dtype != np.uint8 or len(rows.shape) not in (3, 4):
                wrong = "expected uint8 (n, h, w) or (n, h, w, c), found"
                raise DataError(f"{wrong} {rows.dtype} {rows.shape}", where=label)
            height, width, channels = (*rows.shape, 1)[1:4]
            rows.only(self.start, self.stop)
            yield rows, (height, width, channels), label


# Where images come from. Those of files can be pickled, to be read by another process.
Source = ListSource | TarSource | ArraySource


class Stream(NamedTuple):
    """The images of several places, one after another; made by `open_images`."""

    sources: list[Source]
    reading: Reading
    threads: int
    refuse: Refuse
    paged: bool = False

    @property
    def named(self) -> bool:
        """Whether some of the images have names."""
        return any(source.named for source in self.sources)

    def batches(self) -> Iterator[Batch]:
        """All images in order.

        One of several sources that cannot be read is refused as an image is.

        Raises:
            DataError: the only source cannot be read, or one of several, and `refuse` is None.
            ImageError: an image cannot be read, and `refuse` is None; or the only array has another shape.
            StorageError: storage does not answer.
        """
        for source in self.sources:
            with _skipping(self.refuse, len(self.sources) > 1):
                yield from source.batches(self.reading, self.threads, self.refuse, self.paged)

    def all(self) -> tuple[Pixels, list[str]]:
        """All images at once, uint8 (n, h, w, c), and the name or the number of each."""
        batches = list(self.batches())
        names = [name for batch in batches for name in batch.names or []]
        none = np.empty((0, *self.reading.shape), np.uint8)
        pixels = np.concatenate([batch.pixels for batch in batches]) if batches else none
        return pixels, names or [str(number) for number in range(len(pixels))]


def open_images(
    items: Iterable[str | Path | Source],
    reading: Reading,
    *,
    split: str | None = None,
    threads: int = 1,
    refuse: Refuse = None,
    paged: bool = False,
) -> Stream:
    """The images of every place that they can come from.

    Args:
        items: files, folders, arrays, tar archives, URLs or patterns of such, or sources.
        reading: how each image becomes one of the shape.
        split: of `.npz` files; see `array_source`.
        threads: that decode image files.
        refuse: called with every image that is skipped, each of several items that cannot be read, and
            notices.
        paged: whether all pages of an image file are taken, and not the first alone.

    Raises:
        DataError: there is no such file or folder, a pattern matches none, or an array is damaged.
        StorageError: a place cannot be reached.
    """
    sources, items = list[Source](), list(items)
    for item in items:
        with _skipping(refuse, len(items) > 1):
            sources += [item] if isinstance(item, Source) else sources_at(item, split, refuse)
    return Stream(sources, reading, threads, refuse, paged)


@contextmanager
def _skipping(refuse: Refuse, several: bool) -> Iterator[None]:
    """Refuses what of several sources cannot be read; of a single one, it is raised."""
    try:
        yield
    except (DataError, ImageError) as error:
        if refuse is None or not several:
            raise
        refuse(error)


def sources_at(text: str | Path, split: str | None = None, refuse: Refuse = None) -> list[Source]:
    """The sources of a path, a URL or a pattern of either; raises as `open_images` does.

    `refuse` is called with what of a folder cannot be listed, and with notices.
    """
    if places.is_pattern(str(text)):
        return [source for source, _ in cut(places.find(text, refuse), split=split)]
    place, what = places.locate(text), what_lies_at(text)
    if what is What.NOTHING:
        raise DataError("there is no such file or folder", where=text)
    if what in (What.FOLDER, What.RUN, What.PACKS):
        found = listing.images(place.below(refuse=refuse), refuse)
        return [ListSource((file.place, file.name) for file in found)]
    if what is What.ARRAY:
        return [array_source(place, split)]
    return [TarSource(place, str(text)) if what is What.TAR else ListSource([(place, place.name)])]


def cut(
    found: Iterable[Found], size: int | None = None, split: str | None = None
) -> Iterator[tuple[Source, list[Found]]]:
    """Listed files as sources, known by their names, each with the files that it is of.

    At most `size` image files that follow each other are one source; so are at most `size` rows of
    an array; so is an archive. Raises DataError when an array cannot be read.
    """
    for what, group in groupby(found, _kind):
        if what is What.ARRAY:
            yield from ((rows, [item]) for item in group for rows in _rows(item, size, split))
        elif what is What.TAR:
            yield from ((TarSource(item.place, str(item.place)), [item]) for item in group)
        else:
            while files := list(islice(group, size)):
                yield ListSource(tuple((item.place, item.name) for item in files)), files


def _kind(item: Found) -> What:
    return What.FILE if item.image else what_is(item.name)


def _rows(item: Found, size: int | None, split: str | None) -> Iterator[Source]:
    with places.reaching(item.place):
        array = array_source(item.place, split)
        if size is None:
            yield array
            return
        with arrays.open_rows(array.path, array.member) as rows:
            total = rows.left
    for start in range(0, total, size):
        yield ArraySource(array.path, array.member, start, min(start + size, total))


def array_source(path: Location, split: str | None = None) -> ArraySource:
    """The images of an `.npy` or `.npz` file.

    In an `.npz` file they are `x_test` or what `split` says, as in `keras.datasets`; else `images`, as
    `cvae unpack` writes them; else the only array. Raises DataError when there is none, or the file
    is damaged.
    """
    if path.suffix.lower() == ".npy":
        return ArraySource(path)
    names = arrays.names_in(path)
    wanted = [f"x_{split}"] if split else ["x_test", "images", *(names if len(names) == 1 else [])]
    for name in wanted:
        if name in names:
            return ArraySource(path, name)
    expected, found = " or ".join(map(repr, wanted[:2])), ", ".join(sorted(names)) or "none"
    raise DataError(f"expected an array {expected}, found {found}", where=path)


def first_image(items: Iterable[str | Path | Source], split: str | None = None) -> Any:
    """The first image that can be opened, as Pillow's `Image`; None where there is none.

    Files are opened, not decoded. What is wrong with others is left to whoever reads them all. A tar
    archive that is an open file has to be `tars.Recorded`.
    """
    for item in items:
        with suppress(CvaeError, OSError):
            for source in [item] if isinstance(item, Source) else sources_at(item, split, _drop):
                with closing(_opened(source)) as found:
                    for image in found:
                        return image
    return None


def _drop(error: CvaeError) -> None:
    """Whoever reads all images says what is wrong."""


def _opened(source: Source) -> Generator[Any, None, None]:
    if isinstance(source, ArraySource):
        with source._open() as (rows, shape, _):
            if rows.left and shape[2] in (1, 3):
                yield images.as_image(rows.read(1).reshape(shape))
        return
    if isinstance(source, ListSource):
        found = ((str(place), place) for place, _ in source.files)
        for label, place in found:
            with suppress(CvaeError):
                yield images.open_image(images.read_file(place), label)
        return
    if isinstance(source.file, tars.Recorded):
        source.file.record()
        try:
            yield from _opened_in(source.file, source.label)
        finally:
            source.file.rewind()
    else:
        with source.file.open("rb") as file:
            yield from _opened_in(file, source.label)


def _opened_in(archive: Any, label: str) -> Iterator[Any]:
    for name, data in tars.members(archive, label, listing.is_image, MAX_FILE, _drop, keep=0):
        with suppress(CvaeError):
            yield images.open_image(data, name)


def _batch(shape: Shape) -> int:
    """How many images of a shape go on together."""
    return max(1, min(_BATCH, _BATCH_BYTES // max(1, math.prod(shape))))


class _File(NamedTuple):
    label: str  # what messages call it
    name: str
    data: bytes | Location  # read already or not


class _Image(NamedTuple):
    name: str
    pixels: Pixels
    size: tuple[int, int]
    changes: tuple[str, ...]
    notice: Notice | None = None  # that it is one of several pages


def _decoded(
    files: Iterator[_File], reading: Reading, threads: int, refuse: Refuse, paged: bool
) -> Iterator[Batch]:
    """Image files, decoded on several threads, in batches of one shape."""
    tell = told(refuse)

    def decode(file: _File) -> _Image | _File | CvaeError:
        return _attempt(file.label, partial(_decode, file, reading, paged))

    def decoded() -> Iterator[_Image]:
        for found in pipeline.ordered_map(decode, files, threads):
            for image in _pages(found, reading) if isinstance(found, _File) else [found]:
                if isinstance(image, CvaeError):
                    tell(image)
                    continue
                if image.notice is not None:
                    tell(image.notice)
                yield image

    for shape, group in groupby(decoded(), lambda image: image.pixels.shape):
        while batch := list(islice(group, _batch(shape))):
            pixels = np.stack([image.pixels for image in batch])
            fitted = None if reading.fit == "exact" else [image.size for image in batch]
            changes = [(image.name, change) for image in batch for change in image.changes]
            yield Batch(pixels, [image.name for image in batch], fitted, changes)


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


def _decode(file: _File, reading: Reading, paged: bool) -> _Image | _File:
    """A file's image. With `paged`, one of several pages comes back as read, for `_pages`."""
    label, name, data = file
    data = data if isinstance(data, bytes) else images.read_file(data, label)
    if len(data) > MAX_FILE:
        raise ImageError(f"expected at most {MAX_FILE:,} bytes, found more")
    count = pages.count(data)
    if count > 1 and paged:
        return _File(label, name, data)
    notice = pages.notice(count, label) if count > 1 else None
    return _image(data, label, name, reading)._replace(notice=notice)


def _pages(file: _File, reading: Reading) -> Iterator[_Image | CvaeError]:
    """A file's pages one after another: in most formats each needs those before it.

    They are named as if the file were a folder of them, so nothing else has their names.
    """
    assert isinstance(file.data, bytes)
    for number, image in pages.opened(file.data, file.label):
        label, name = f"{file.label}/{number}", f"{file.name}/{number}"
        if isinstance(image, ImageError):
            yield image
        else:
            yield _attempt(label, partial(_image, image, label, name, reading))


def _image(data: Any, label: str, name: str, reading: Reading) -> _Image:
    picture = reading.picture(data, label)
    pixels = reading.pixels(picture.image)
    return _Image(name, pixels, picture.size, picture.changes)
