"""Images from anywhere as a stream of batches: files, folders, arrays in `.npz` and `.npy`, tar archives.

What is held at once does not grow with the number of images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np

from cvae.bitstream.container import MAX_SIDE
from cvae.data import arrays, files, images, pipeline, tars
from cvae.data.images import MAX_FILE, MAX_PIXELS, Pixels, Shape
from cvae.data.places import Location, Remote
from cvae.errors import CvaeError, DataError, ImageError, ImageShapeError, StorageError

_BATCH, _BATCH_BYTES = 1024, 1 << 24  # images and pixels that go on together
# An image that cannot be read for one of these reasons cannot be read tomorrow either.
_LOST = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)


@dataclass(frozen=True, eq=False)
class Batch:
    """Some images of a source, in order."""

    pixels: Pixels  # (n, h, w, c)
    names: list[str] | None = None
    sizes: list[tuple[int, int]] | None = None  # width, height before they were fitted


@dataclass(frozen=True)
class Reading:
    """How images are read."""

    shape: Shape  # what every image is brought to
    fit: bool = False  # convert and resize images that differ
    jobs: int = 1  # threads that read images
    # Called with every image that is left out, from another thread; None raises at the first.
    refuse: Callable[[CvaeError], None] | None = None

    @property
    def batch(self) -> int:
        """How many images go on together."""
        return max(1, min(_BATCH, _BATCH_BYTES // math.prod(self.shape)))


class Source(Protocol):
    """Where images come from."""

    named: bool  # images have names

    def batches(self, reading: Reading) -> Iterator[Batch]:
        """All images in order.

        Raises:
            DataError: the source itself cannot be read.
            ImageError: an image cannot be, and nobody takes refused ones.
        """


class _File(NamedTuple):
    """One image file, read already or not."""

    label: str  # what messages call it
    name: str
    data: bytes | Location


@dataclass(frozen=True)
class FolderSource:
    """All image files below a folder."""

    path: Path
    named = True

    def batches(self, reading: Reading) -> Iterator[Batch]:
        found = files.walk(self.path, images.SUFFIXES)
        items = (_File(str(p), p.relative_to(self.path).as_posix(), p) for p in found)
        return _decoded(items, reading)


@dataclass(frozen=True)
class FileSource:
    """One image file."""

    path: Location
    named = True

    def batches(self, reading: Reading) -> Iterator[Batch]:
        return _decoded([_File(str(self.path), self.path.name, self.path)], reading)


@dataclass(frozen=True)
class ListSource:
    """Image files that were found before, each with the name it has in a pack."""

    files: tuple[tuple[Location, str], ...]
    named = True

    def batches(self, reading: Reading) -> Iterator[Batch]:
        return _decoded((_File(str(place), name, place) for place, name in self.files), reading)


@dataclass(frozen=True)
class TarSource:
    """The image files in a tar archive, compressed or not: a path, or an open file that need not seek."""

    file: Location | BinaryIO | tars.Rejoined
    label: str
    named = True

    def batches(self, reading: Reading) -> Iterator[Batch]:
        return _decoded(self._files(), reading)

    def _files(self) -> Iterator[_File]:
        with self._open() as file:
            for name, data in tars.members(file, self.label, _wanted, MAX_FILE):
                yield _File(f"{self.label}: {name}", name, data)

    def _open(self) -> AbstractContextManager[Any]:
        if not isinstance(self.file, Path | Remote):
            return nullcontext(self.file)
        try:
            return self.file.open("rb")
        except OSError as error:
            raise DataError(
                f"cannot be read: {error.strerror or error}",
                where=self.label,
            ) from error


@dataclass(frozen=True)
class ArraySource:
    """An array of images: an `.npy` file, or one array of an `.npz` file."""

    path: Location
    member: str | None = None  # of an .npz file
    start: int = 0  # the first of its rows
    stop: int | None = None  # behind the last of them; None for all
    named = False

    def batches(self, reading: Reading) -> Iterator[Batch]:
        with arrays.open_rows(self.path, self.member) as rows:
            label = str(self.path) if self.member is None else f"{self.path}: {self.member}"
            shape = rows.shape[1:]
            if rows.dtype != np.uint8 or len(shape) not in (2, 3):
                raise DataError(
                    f"expected uint8 (n, h, w) or (n, h, w, c), found {rows.dtype} {rows.shape}",
                    where=label,
                )
            found: Shape = (shape[0], shape[1], shape[2] if len(shape) == 3 else 1)
            if found != reading.shape and not (reading.fit and _can_be_fitted(found)):
                raise ImageShapeError(
                    f"expected {images.describe(reading.shape)}, "
                    f"found {found[1]}x{found[0]} with {found[2]} channels",
                    where=label,
                )
            batch = max(1, min(reading.batch, _BATCH_BYTES // math.prod(found)))
            rows.only(self.start, self.stop)
            while rows.left:
                pixels = rows.read(batch).reshape(-1, *found)
                sizes = [(found[1], found[0])] * len(pixels) if reading.fit else None
                if found != reading.shape:
                    pixels = np.stack([_fitted(image, reading.shape) for image in pixels])
                yield Batch(pixels, sizes=sizes)


def _can_be_fitted(shape: Shape) -> bool:
    height, width, channels = shape
    sides = min(height, width) >= 1 and max(height, width) <= MAX_SIDE
    return channels in (1, 3) and sides and height * width <= MAX_PIXELS


def _fitted(pixels: Pixels, shape: Shape) -> Pixels:
    """An image of an array converted and resized, as `--fit` does it with files."""
    height, width, channels = shape
    if pixels.shape[2] > channels:
        pixels = images.to_grey(pixels)
    elif pixels.shape[2] < channels:
        pixels = np.repeat(pixels, channels, axis=2)
    return images.resize(pixels, width, height)


def array_source(path: Location, split: str | None = None) -> ArraySource:
    """The images of an `.npy` or `.npz` file.

    In an `.npz` file they are `x_test` or what `split` says, as in `keras.datasets`; else `images`, as
    `cvae decode` writes them; else the only array.

    Raises:
        DataError: the file is damaged, or has no such array.
    """
    if path.suffix.lower() == ".npy":
        return ArraySource(path)
    names = arrays.names_in(path)
    wanted = [f"x_{split}"] if split else ["x_test", "images", *(names if len(names) == 1 else [])]
    for name in wanted:
        if name in names:
            return ArraySource(path, name)
    raise DataError(
        f"expected an array {' or '.join(map(repr, wanted[:2]))}, "
        f"found {', '.join(sorted(names)) or 'none'}",
        where=path,
    )


def is_array(path: Location) -> bool:
    """Whether a file's name says that it holds an array of images."""
    return path.suffix.lower() in (".npz", ".npy")


def _wanted(name: str) -> bool:
    """An image by its ending, and not hidden: what a folder's are."""
    path = PurePosixPath(name)
    return path.suffix.lower() in images.SUFFIXES and not any(p.startswith(".") for p in path.parts)


def _decoded(items: Iterable[_File], reading: Reading) -> Iterator[Batch]:
    """Image files, decoded on several threads, in batches."""

    def work(item: _File) -> tuple[Pixels, Shape] | CvaeError:
        try:
            return _decode(item, reading)
        except StorageError:
            raise  # the next attempt may find it; to leave an image out would be for ever
        except CvaeError as error:
            # Without the frames, which hold the file's bytes.
            error.__traceback__ = error.__cause__ = error.__context__ = None
            return error

    held: list[tuple[str, Pixels, tuple[int, int]]] = []
    for name, result in pipeline.ordered_map(
        lambda item: (item.name, work(item)), items, reading.jobs
    ):
        if isinstance(result, CvaeError):
            if reading.refuse is None:
                raise result
            reading.refuse(result)
            continue
        pixels, (height, width, _) = result
        held.append((name, pixels, (width, height)))
        if len(held) == reading.batch:
            yield _joined(held, reading)
            held = []
    if held:
        yield _joined(held, reading)


def _joined(held: list[tuple[str, Pixels, tuple[int, int]]], reading: Reading) -> Batch:
    names, pixels, sizes = zip(*held, strict=True)
    return Batch(np.stack(pixels), list(names), list(sizes) if reading.fit else None)


def _decode(item: _File, reading: Reading) -> tuple[Pixels, Shape]:
    data = item.data if isinstance(item.data, bytes) else _read(item.data, item.label)
    if len(data) > MAX_FILE:
        raise ImageError(f"expected at most {MAX_FILE:,} bytes, found more", where=item.label)
    pixels, original = images.read_image(data, item.label, reading.shape, reading.fit)
    height, width, _ = original
    if max(height, width) > MAX_SIDE:
        raise ImageError(
            f"expected sides of at most {MAX_SIDE}, found {width}x{height}",
            where=item.label,
        )
    return pixels, original


def _read(place: Location, label: str) -> bytes:
    """The file's bytes; one too many where it is too large.

    Raises:
        ImageError: there is no such file, or it may not be read.
        StorageError: anything else went wrong.
    """
    try:
        with place.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except _LOST as error:
        raise ImageError(f"cannot be read: {error.strerror or error}", where=label) from error
    except OSError as error:
        raise StorageError(f"cannot be reached: {error.strerror or error}", where=label) from error
