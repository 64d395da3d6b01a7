"""Decoded images to a folder, a tar archive, `.npz` or `.npy`: streamed, and atomic."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cvae.data import files, images, pipeline
from cvae.data.images import Pixels, Shape
from cvae.data.names import SUFFIXES, UniqueNames
from cvae.errors import OutputError

_ARRAYS = {".npz", ".npy"}
_NUMBERS = 1 << 14  # that are written at once


@dataclass(frozen=True, eq=False)
class Decoded:
    """Some images of a pack, in order."""

    numbers: NDArray[np.int64]  # (n,), in the pack
    pixels: Pixels  # (n, h, w, c)
    names: list[str] | None = None
    sizes: list[tuple[int, int]] | None = None  # width, height that a file of its own gets


class Sink(Protocol):
    """Where decoded images go; made by `open_sink`."""

    def write(self, decoded: Decoded) -> None:
        """Takes the next images. Raises OutputError."""


@contextmanager
def open_sink(
    output: Path | BinaryIO,
    shape: Shape,
    ranges: Sequence[tuple[int, int]],
    *,
    force: bool = False,
    jobs: int = 1,
) -> Iterator[Sink]:
    """A place for images. It is whole when the block ends; after an error nothing is there.

    Args:
        output: a path, whose ending says what it becomes (`.npz`, `.npy`, `.tar`, an image file, else
            a folder), or an open file for a tar archive.
        shape: (h, w, c) of the images.
        ranges: numbers of the images to come, as sorted half-open ranges.
        force: overwrite files that exist. An existing folder is filled file by file, so an error
            leaves what was written before it.
        jobs: threads that compress image files.

    Raises:
        OutputError: the output exists and `force` is off, or cannot be written.
    """
    if not isinstance(output, Path):
        with tarfile.open(fileobj=output, mode="w|") as archive:
            yield _tar_sink(archive, jobs)
    elif output.suffix.lower() == ".tar":
        with (
            files.atomic_path(output, force) as temporary,
            tarfile.open(temporary, mode="w") as archive,
        ):
            yield _tar_sink(archive, jobs)
    elif is_array(output):
        with files.atomic_path(output, force) as temporary:
            yield from _array_sink(temporary, output.suffix.lower(), shape, ranges)
    elif output.suffix.lower() in SUFFIXES:
        if sum(stop - start for start, stop in ranges) != 1:
            raise OutputError("several images need a folder, .npz, .npy or .tar", where=output)
        yield _ImageSink(output, force)
    elif os.path.lexists(output):
        if not output.is_dir():
            raise OutputError("exists already and is no folder", where=output)
        yield _folder_sink(output, force, jobs)
    else:
        with files.atomic_folder(output) as folder:
            yield _folder_sink(folder, force, jobs)


def is_array(output: Path) -> bool:
    """Whether an output becomes one array, by its ending."""
    return output.suffix.lower() in _ARRAYS


class _FileSink:
    """Writes every image as a PNG file of its original size, under a name of its own."""

    def __init__(self, put: Callable[[str, bytes], None], jobs: int) -> None:
        """`put` takes the name and the bytes of each file, in order."""
        self._put, self._jobs = put, jobs
        self._name = UniqueNames()

    def write(self, decoded: Decoded) -> None:
        names = decoded.names or [""] * len(decoded.numbers)

        def encode(index: int) -> bytes:
            return images.encode_image(_original(decoded, index))

        coded = pipeline.ordered_map(encode, range(len(names)), self._jobs)
        for number, name, data in zip(decoded.numbers.tolist(), names, coded, strict=True):
            self._put(self._name(number, name), data)


def _original(decoded: Decoded, index: int) -> Pixels:
    """An image at the size that it had before it was fitted."""
    pixels = decoded.pixels[index]
    height, width = pixels.shape[:2]
    if decoded.sizes is None or decoded.sizes[index] == (width, height):
        return np.asarray(pixels)
    return images.resize(pixels, *decoded.sizes[index])


def _folder_sink(folder: Path, force: bool, jobs: int) -> Sink:
    return _FileSink(lambda name, data: files.write_bytes(folder / name, data, force), jobs)


def _tar_sink(archive: tarfile.TarFile, jobs: int) -> Sink:
    def put(name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o644
        archive.addfile(info, io.BytesIO(data))
        archive.members = []  # type: ignore[attr-defined]  # it keeps them all

    return _FileSink(put, jobs)


class _ImageSink:
    """Writes the only image to a file, whose ending chooses the format."""

    def __init__(self, path: Path, force: bool) -> None:
        files.check_writable(path, force)
        self._path, self._force = path, force

    def write(self, decoded: Decoded) -> None:
        pixels = _original(decoded, 0)
        files.write_bytes(self._path, images.encode_image(pixels, self._path.name), self._force)


class _ArraySink:
    def __init__(self, file: IO[bytes], shape: Shape, count: int) -> None:
        self._file, self.left = file, count
        flat = shape[:2] if shape[2] == 1 else shape  # grey as keras.datasets has it
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *flat)}
        npy.write_array_header_1_0(file, header)

    def write(self, decoded: Decoded) -> None:
        self._file.write(np.ascontiguousarray(decoded.pixels).data)
        self.left -= len(decoded.pixels)


def _array_sink(
    path: Path, suffix: str, shape: Shape, ranges: Sequence[tuple[int, int]]
) -> Iterator[Sink]:
    count = sum(stop - start for start, stop in ranges)
    if suffix == ".npy":
        with path.open("wb") as file:
            yield from _filled(file, shape, count)
        return
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open(zipfile.ZipInfo("images.npy"), "w", force_zip64=True) as member:
            yield from _filled(member, shape, count)
        if len(ranges) > 1 or any(start != 0 for start, _ in ranges):
            with archive.open(zipfile.ZipInfo("numbers.npy"), "w", force_zip64=True) as member:
                _write_numbers(member, ranges, count)


def _write_numbers(file: IO[bytes], ranges: Sequence[tuple[int, int]], count: int) -> None:
    """All numbers in the ranges as one array, written in pieces."""
    header = {"descr": "<i8", "fortran_order": False, "shape": (count,)}
    npy.write_array_header_1_0(file, header)
    for start, stop in ranges:
        for first in range(start, stop, _NUMBERS):
            file.write(np.arange(first, min(first + _NUMBERS, stop), dtype="<i8").tobytes())


def _filled(file: IO[bytes], shape: Shape, count: int) -> Iterator[Sink]:
    """A sink for exactly `count` images: the header in front of them says so already."""
    sink = _ArraySink(file, shape, count)
    yield sink
    if sink.left:
        raise OutputError(f"expected {count} images, {sink.left} of them are missing")
