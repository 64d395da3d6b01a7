"""Decoded images to a folder, a tar archive, `.npz` or `.npy`: streamed, and atomic."""

from __future__ import annotations

import io
import math
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cvae.data import files, images, labels, pipeline
from cvae.data.images import Pixels, Shape
from cvae.data.labels import Label
from cvae.data.names import SUFFIXES, UniqueNames
from cvae.errors import Changed, Notice, OutputError, Refuse, told

_ARRAYS = {".npz", ".npy"}
_NUMBERS = 1 << 14  # that are written at once


@dataclass(frozen=True, eq=False)
class Decoded:
    """Some images of a pack, in order."""

    numbers: NDArray[np.int64]  # (n,), in the pack
    pixels: Pixels  # (n, h, w, c)
    names: list[str] | None = None
    sizes: list[tuple[int, int]] | None = None  # width, height that a file of its own gets
    labels: list[Label] | None = None

    def size(self, index: int) -> tuple[int, int]:
        """The (width, height) that an image had before it was fitted."""
        height, width = self.pixels.shape[1:3]
        return self.sizes[index] if self.sizes else (width, height)

    def grows(self, index: int) -> bool:
        """Whether an image takes far more memory when it is restored."""
        width, height = self.size(index)
        return width * height > max(images.BATCH_PIXELS, math.prod(self.pixels.shape[1:]))

    def original(self, index: int) -> Pixels:
        """An image at the size that it had before it was fitted."""
        pixels, (width, height) = self.pixels[index], self.size(index)
        if pixels.shape[:2] == (height, width):
            return np.asarray(pixels)
        return images.resize(pixels, width, height)


Sink = Callable[[Decoded], None]  # takes the next images; raises OutputError
Ranges = Sequence[tuple[int, int]]


@contextmanager
def open_sink(
    output: Path | BinaryIO,
    shape: Shape,
    ranges: Ranges,
    *,
    names: Iterable[str] = (),
    force: bool = False,
    jobs: int = 1,
    read: Path | None = None,
    refuse: Refuse = None,
    exact: bool = False,
) -> Iterator[Sink]:
    """A place for images. It is whole when the block ends; after an error nothing is there.

    Args:
        output: a path, whose ending says what it becomes (`.npz`, `.npy`, `.tar`, an image file, else
            a folder), or an open file for a tar archive.
        shape: (h, w, c) of the images.
        ranges: numbers of the images to come, as sorted half-open ranges.
        names: all that images may have; see `UniqueNames`.
        force: overwrite files that exist. An existing folder is filled some hundred files at a
            time, so an error leaves what was written before it.
        jobs: threads that compress image files.
        read: a file that stays, since the images come from it.
        refuse: called with notices of labels that an array cannot hold, and of pixels that a format changes.
        exact: an image file keeps every pixel where its format can.

    Raises OutputError when the output exists and `force` is off, or cannot be written.
    """
    if not isinstance(output, Path):
        with tarfile.open(fileobj=output, mode="w|") as archive:
            yield _tar_sink(archive, jobs, names)
    elif output.suffix.lower() == ".tar":
        with files.atomic_path(output, force) as path, tarfile.open(path, mode="w") as archive:
            yield _tar_sink(archive, jobs, names)
    elif is_array(output):
        with files.atomic_path(output, force) as path:
            yield from _array_sinks(path, shape, ranges, refuse)
    elif is_image(output):
        if _count(ranges) != 1:
            raise OutputError("several images need a folder, .npz, .npy or .tar", where=output)
        files.check_writable(output, force)
        yield _image_sink(output, force, exact, refuse)
    elif os.path.lexists(output):
        if not output.is_dir():
            raise OutputError("exists already and is no folder", where=output)
        with _folder_sink(output, force, jobs, names, read) as sink:
            yield sink
    else:
        with files.atomic_folder(output) as path, _folder_sink(path, force, jobs, names) as sink:
            yield sink


def is_array(output: Path) -> bool:
    """Whether an output becomes one array, by its ending."""
    return output.suffix.lower() in _ARRAYS


def is_image(output: Path) -> bool:
    """Whether an output becomes one image file, by its ending."""
    return output.suffix.lower() in SUFFIXES


def _count(ranges: Ranges) -> int:
    return sum(stop - start for start, stop in ranges)


def _image_sink(path: Path, force: bool, exact: bool, refuse: Refuse) -> Sink:
    def write(decoded: Decoded) -> None:
        pixels = decoded.original(0)
        data = images.encode_image(pixels, path.name, exact=exact)
        files.write_bytes(path, data, force)
        if exact and not images.holds(data, pixels):
            told(refuse)(Changed(images.CHANGED, where=path))

    return write


@contextmanager
def _folder_sink(
    folder: Path, force: bool, jobs: int, names: Iterable[str], read: Path | None = None
) -> Iterator[Sink]:
    with files.Files(force) as held:

        def put(name: str, data: bytes) -> None:
            if read and files.is_same(folder / name, read):
                raise OutputError("is input and output at once", where=folder / name)
            held.write(folder / name, data)

        yield _file_sink(put, jobs, names)


def _tar_sink(archive: tarfile.TarFile, jobs: int, names: Iterable[str]) -> Sink:
    def put(name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o644
        archive.addfile(info, io.BytesIO(data))
        archive.members = []  # type: ignore[attr-defined]  # it keeps them all

    return _file_sink(put, jobs, names, labelled=True)


def _file_sink(
    put: Callable[[str, bytes], None], jobs: int, all_names: Iterable[str], labelled: bool = False
) -> Sink:
    """Gives `put` every image as a PNG file of its original size, under a name of its own, in order.

    With `labelled`, the files of its label follow.
    """
    unique = UniqueNames(all_names)
    large = threading.Lock()  # one that grows at a time, whatever threads there are

    def write(decoded: Decoded) -> None:
        def encode(index: int) -> bytes:
            with large if decoded.grows(index) else nullcontext():
                return images.encode_image(decoded.original(index))

        names = decoded.names or [""] * len(decoded.numbers)
        beside = decoded.labels if labelled and decoded.labels else [Label()] * len(names)
        coded = pipeline.ordered_map(encode, range(len(names)), jobs)
        for number, name, label, data in zip(
            decoded.numbers.tolist(), names, beside, coded, strict=True
        ):
            put(path := unique(number, name), data)
            for ending, content in labels.to_files(label):
                put(labels.stem(path) + ending, content)

    return write


def _array_sinks(path: Path, shape: Shape, ranges: Ranges, refuse: Refuse) -> Iterator[Sink]:
    if path.suffix.lower() == ".npy":
        with path.open("wb") as file:
            yield from _array_sink(file, shape, _count(ranges))
        return
    stacks = labels.Stacks()
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open(zipfile.ZipInfo("images.npy"), "w", force_zip64=True) as member:
            yield from _array_sink(member, shape, _count(ranges), stacks)
        _write_labels(archive, stacks, refuse)
        if any(start for start, _ in ranges):  # not all images of a pack
            with archive.open(zipfile.ZipInfo("numbers.npy"), "w", force_zip64=True) as member:
                _write_numbers(member, ranges)


def _array_sink(
    file: IO[bytes], shape: Shape, count: int, stacks: labels.Stacks | None = None
) -> Iterator[Sink]:
    """A sink for exactly `count` images: the header in front of them says so already.

    `stacks` gets their labels.
    """
    flat = shape[:2] if shape[2] == 1 else shape  # grey as keras.datasets has it
    _write_header(file, "|u1", (count, *flat))
    left = count

    def write(decoded: Decoded) -> None:
        nonlocal left
        file.write(np.ascontiguousarray(decoded.pixels).data)
        left -= len(decoded.pixels)
        if stacks is not None:
            stacks.add(decoded.labels or (), len(decoded.pixels))

    yield write
    if left:
        raise OutputError(f"expected {count} images, {left} of them are missing")


def _write_labels(archive: zipfile.ZipFile, stacks: labels.Stacks, refuse: Refuse) -> None:
    """An array for each field that can be one; the others are told."""
    for name, array in stacks.arrays():
        if array is None:
            told(refuse)(
                Notice("no array holds them, so they were left out", where=f"labels {name}")
            )
            continue
        with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
            npy.write_array(member, array, allow_pickle=False)


def _write_numbers(file: IO[bytes], ranges: Ranges) -> None:
    """All numbers in the ranges as one array, written in pieces."""
    _write_header(file, "<i8", (_count(ranges),))
    for start, stop in ranges:
        for first in range(start, stop, _NUMBERS):
            file.write(np.arange(first, min(first + _NUMBERS, stop), dtype="<i8").tobytes())


def _write_header(file: IO[bytes], dtype: str, shape: tuple[int, ...]) -> None:
    npy.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
