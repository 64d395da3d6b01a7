"""`.npz` and `.npy` files as hostile input: nothing is unpickled, nothing is allocated on a header's word."""

from __future__ import annotations

import io
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cvae.data.places import Location
from cvae.errors import CvaeError, DataError, FormatError, translated

try:
    from lzma import LZMAError
except ImportError:  # a Python that was built without it

    class LZMAError(Exception):  # type: ignore[no-redef]
        """Never raised."""


# What numpy, zipfile and tarfile raise on files that are damaged or made up.
DAMAGE = (
    OSError, ValueError, ArithmeticError, EOFError, LookupError, TypeError, SyntaxError, AttributeError,
    MemoryError, RuntimeError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error, LZMAError,
)  # fmt: skip
_CHUNK = 1 << 24
_MAX_FORTRAN = 1 << 32  # bytes of an array that is held as a whole


def read_npz(
    file: Path | IO[bytes],
    names: list[str],
    label: str,
    error: type[CvaeError] = DataError,
    limit: int = 1 << 34,
) -> list[NDArray]:
    """The named arrays of an `.npz` file, in that order.

    Args:
        file: a path or an open binary file.
        names: the arrays to read; others are not touched.
        label: what messages call the file.
        limit: the most bytes that one array may have; a small file can unpack to a large one.
        error: the exception to raise when an array is missing or the file is damaged.
    """
    arrays = []
    with _checked(label, "an .npz file of arrays", error), zipfile.ZipFile(file) as archive:
        members = set(archive.namelist())
        for name in names:
            if f"{name}.npy" not in members:
                found = ", ".join(sorted(m.removesuffix(".npy") for m in members))
                raise error(f"expected an array {name!r}, found {found or 'none'}", where=label)
            with archive.open(f"{name}.npy") as member:
                size = archive.getinfo(f"{name}.npy").file_size
                arrays.append(_read(member, min(size, limit)))
    return arrays


def read_npy(path: Path) -> NDArray:
    """The array of an `.npy` file. Raises FormatError when the file is damaged or holds objects."""
    with _checked(path, "an .npy file", FormatError), path.open("rb") as file:
        return _read(file, path.stat().st_size)


class Rows:
    """An array that is read from front to back, some rows at a time."""

    def __init__(self, file: IO[bytes], size: int, label: str) -> None:
        """Reads the header. Raises DataError; `label` is what messages call the file."""
        self._file, self._label = file, label
        with _checked(label):
            self.shape, fortran, self.dtype = _read_header(file, size)
            if fortran and len(self.shape) > 1:
                self._file = io.BytesIO(self._in_c_order(file))
        self.left = self.shape[0] if self.shape else 0  # rows that were not read yet
        self._to_the_end = True

    def _in_c_order(self, file: IO[bytes]) -> bytes:
        """The bytes of an array in Fortran order, which cannot be streamed, as of one in C order."""
        count = math.prod(self.shape)
        if count * self.dtype.itemsize > _MAX_FORTRAN:
            raise ValueError(
                f"expected C order, or at most {_MAX_FORTRAN:,} bytes in Fortran order"
            )
        return _read_items(file, count, self.dtype).reshape(self.shape, order="F").tobytes()

    def only(self, start: int, stop: int | None) -> None:
        """Limits `read` to the rows from `start` up to `stop`. Raises DataError as `read` does.

        Skipped rows are not read where the file can seek, so a ZIP archive is not checked then.
        """
        stop = self.shape[0] if stop is None else min(stop, self.shape[0])
        with _checked(self._label):
            self._file.seek(start * math.prod(self.shape[1:]) * self.dtype.itemsize, os.SEEK_CUR)
        self.left = max(0, stop - start)
        self._to_the_end = stop == self.shape[0]

    def read(self, count: int) -> NDArray:
        """The next rows, at most `count`. Raises DataError when the file is damaged."""
        count = min(count, self.left)
        shape = (count, *self.shape[1:])
        with _checked(self._label):
            array = _read_items(self._file, math.prod(shape), self.dtype).reshape(shape)
            self.left -= count
            if not self.left and self._to_the_end:
                self._file.read(1)  # where a ZIP archive compares its check
        return array


@contextmanager
def open_rows(path: Location, name: str | None = None) -> Iterator[Rows]:
    """An `.npy` file, or the array `name` of an `.npz` file, to be read in pieces.

    Raises:
        DataError: no such file or array, a damaged one, or a large one in Fortran order.
    """
    with _checked(path):
        file = path.open("rb")
    with file:
        if name is None:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            yield Rows(file, size, str(path))
            return
        with _checked(path):
            archive = zipfile.ZipFile(file)
            size = archive.getinfo(f"{name}.npy").file_size
            member = archive.open(f"{name}.npy")
        with archive, member:
            yield Rows(member, size, f"{path}: {name}")


def names_in(path: Location) -> list[str]:
    """The names of the arrays in an `.npz` file. Raises DataError when it is damaged."""
    with _checked(path), path.open("rb") as file, zipfile.ZipFile(file) as archive:
        members = [name for name in archive.namelist() if name.endswith(".npy")]
        return [name.removesuffix(".npy") for name in members]


def _checked(
    label: object, what: str = "an array", error: type[CvaeError] = DataError
) -> AbstractContextManager[None]:
    """Raises whatever a damaged file makes numpy or zipfile raise in the block as `error`."""
    return translated(error, f"expected {what}", label, DAMAGE)


def _read(file: IO[bytes], size: int) -> NDArray:
    shape, fortran, dtype = _read_header(file, size)
    items = _read_items(file, math.prod(shape), dtype)
    return items.reshape(shape, order="F" if fortran else "C")


def _read_header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if min(shape, default=0) < 0:
        raise ValueError(f"its header claims the shape {shape}")
    expected = math.prod(shape) * dtype.itemsize
    if expected > size:
        raise ValueError(f"its header claims {expected:,} bytes, expected at most {size:,}")
    return shape, fortran, dtype


def _read_items(file: IO[bytes], count: int, dtype: np.dtype) -> NDArray:
    expected = count * dtype.itemsize
    data = bytearray()
    while len(data) < expected:
        chunk = file.read(min(_CHUNK, expected - len(data)))
        if not chunk:
            raise ValueError(f"expected {expected:,} bytes, found {len(data):,}")
        data += chunk
    return np.frombuffer(data, dtype)
