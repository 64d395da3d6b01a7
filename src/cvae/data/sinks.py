"""Decoded images to a folder, a tar archive, `.npz` or `.npy`: as a stream, and whole or not at all."""

from __future__ import annotations

import io
import os
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cvae.data import files, images, pipeline
from cvae.data.images import Pixels, Shape
from cvae.errors import OutputError

_ARRAYS = {".npz", ".npy"}
_NUMBERS = 1 << 14  # that are written at once
_DIGITS = 6  # of the number that stands for a name, at least
_MAX_PART = 180  # bytes of a file's name; a number may be added
# Bytes of a relative path: Windows takes 260 characters in all, the folder it is put in among them.
_MAX_PATH = 200
# What Windows takes for a device, whatever its ending.
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"
}
_FORBIDDEN = frozenset('<>:"|?*\\')


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
    """A place for images; what is there at the end of the block is whole, and nothing is after an error.

    Args:
        output: a path, of which the ending says what it becomes (`.npz`, `.npy`, `.tar`, else a folder),
            or an open file for a tar archive.
        shape: (h, w, c) of the images.
        ranges: numbers of the images to come, as sorted half-open ranges.
        force: overwrite files that exist. A folder that exists is filled file by file, and then an error
            leaves what was written before it.
        jobs: threads that compress image files.

    Raises:
        OutputError: the output exists and `force` is off, or cannot be written.
    """
    if not isinstance(output, Path):
        with tarfile.open(fileobj=output, mode="w|") as archive:
            yield _TarSink(archive, jobs)
    elif output.suffix.lower() == ".tar":
        with (
            files.atomic_path(output, force) as temporary,
            tarfile.open(temporary, mode="w") as archive,
        ):
            yield _TarSink(archive, jobs)
    elif is_array(output):
        with files.atomic_path(output, force) as temporary:
            yield from _array_sink(temporary, output.suffix.lower(), shape, ranges)
    elif output.suffix.lower() in images.SUFFIXES:
        if sum(stop - start for start, stop in ranges) != 1:
            raise OutputError("several images need a folder, .npz, .npy or .tar", where=output)
        yield _FileSink(output, force)
    elif os.path.lexists(output):
        if not output.is_dir():
            raise OutputError("exists already and is no folder", where=output)
        yield _FolderSink(output, force, jobs)
    else:
        with files.atomic_folder(output) as folder:
            yield _FolderSink(folder, force, jobs)


def is_array(output: Path) -> bool:
    """Whether an output becomes one array, by its ending."""
    return output.suffix.lower() in _ARRAYS


def safe_name(name: str) -> str:
    """A name of any origin as the relative path of a PNG file that is below the folder it is put in.

    Empty when nothing of the name is left. Of a long path the end is kept. No folder on the way has a
    name that a file could have.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts:
        return ""
    *above, last = parts
    last = last.rstrip(" .") or last
    stem, ending = os.path.splitext(last)  # noqa: PTH122
    # Before it is cut to its length: half an ending would stay.
    last = stem if ending.lower() in images.SUFFIXES else last
    kept = [f"{_safe_part(last)}.png"]
    room = _MAX_PATH - len(kept[0].encode())
    for folder in map(_safe_folder, reversed(above)):
        room -= len(folder.encode()) + 1
        if room < 0:
            break
        kept.append(folder)
    return "/".join(reversed(kept))


def _safe_folder(part: str) -> str:
    # All files are PNG files: so none is where another name needs a folder, and nothing needs to
    # remember the folders.
    kept = _safe_part(part)
    return f"{kept}_" if kept.lower().endswith(".png") else kept


def _safe_part(part: str) -> str:
    if part == "..":
        return "_"
    kept = "".join("_" if c in _FORBIDDEN or not c.isprintable() else c for c in part)
    # Windows drops dots and spaces at the end, and so would make one file of two.
    kept = kept.encode("utf-8", "replace")[:_MAX_PART].decode("utf-8", "ignore").rstrip(" .")
    if not kept:
        return "_"
    return f"_{kept}" if kept.split(".")[0].strip().lower() in _DEVICES else kept


class _Names:
    """A file name for every image, no two alike."""

    def __init__(self) -> None:
        # Hashes, which take less memory; where two names share one, the second gets its number.
        self._seen: set[int] = set()

    def __call__(self, decoded: Decoded) -> list[str]:
        names = decoded.names or [""] * len(decoded.numbers)
        return [self._one(*pair) for pair in zip(decoded.numbers.tolist(), names, strict=True)]

    def _one(self, number: int, name: str) -> str:
        digits = f"{number:0{_DIGITS}d}"
        found = safe_name(name) or f"{digits}.png"
        while not self._is_new(found):
            found = f"{found.removesuffix('.png')}_{digits}.png"
        return found

    def _is_new(self, name: str) -> bool:
        # Some file systems take A.png and a.png for one file, or an accented letter for the same one
        # in two characters; to tell them apart costs nothing.
        folded = unicodedata.normalize("NFD", name).casefold()
        key = hash(unicodedata.normalize("NFD", folded))
        new = key not in self._seen
        self._seen.add(key)
        return new


def _png_files(decoded: Decoded, names: list[str], jobs: int) -> Iterator[tuple[str, bytes]]:
    """The images as PNG files, each of its original size, compressed on several threads."""

    def work(index: int) -> tuple[str, bytes]:
        return names[index], images.encode_image(_original(decoded, index))

    return pipeline.ordered_map(work, range(len(names)), jobs)


def _original(decoded: Decoded, index: int) -> Pixels:
    """An image at the size that it had before it was fitted."""
    pixels = decoded.pixels[index]
    height, width = pixels.shape[:2]
    if decoded.sizes is None or decoded.sizes[index] == (width, height):
        return np.asarray(pixels)
    resized: Pixels = images.resize(pixels, *decoded.sizes[index])
    return resized


class _FolderSink:
    def __init__(self, folder: Path, force: bool, jobs: int) -> None:
        self._folder, self._force, self._jobs = folder, force, jobs
        self._names = _Names()

    def write(self, decoded: Decoded) -> None:
        for name, data in _png_files(decoded, self._names(decoded), self._jobs):
            files.write_bytes(self._folder / name, data, self._force)


class _FileSink:
    def __init__(self, path: Path, force: bool) -> None:
        files.check_writable(path, force)
        self._path, self._force = path, force

    def write(self, decoded: Decoded) -> None:
        pixels = _original(decoded, 0)
        files.write_bytes(self._path, images.encode_image(pixels, self._path.name), self._force)


class _TarSink:
    def __init__(self, archive: tarfile.TarFile, jobs: int) -> None:
        self._archive, self._jobs = archive, jobs
        self._names = _Names()

    def write(self, decoded: Decoded) -> None:
        for name, data in _png_files(decoded, self._names(decoded), self._jobs):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            self._archive.addfile(info, io.BytesIO(data))
            self._archive.members = []  # type: ignore[attr-defined]  # it keeps them all


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
    """All numbers in the ranges as one array, of which only a part is held at once."""
    header = {"descr": "<i8", "fortran_order": False, "shape": (count,)}
    npy.write_array_header_1_0(file, header)
    for start, stop in ranges:
        for first in range(start, stop, _NUMBERS):
            file.write(np.arange(first, min(first + _NUMBERS, stop), dtype="<i8").tobytes())


def _filled(file: IO[bytes], shape: Shape, count: int) -> Iterator[Sink]:
    """A sink for exactly `count` images, which the header in front of them says already."""
    sink = _ArraySink(file, shape, count)
    yield sink
    if sink.left:
        raise OutputError(f"expected {count} images, {sink.left} of them are missing")
