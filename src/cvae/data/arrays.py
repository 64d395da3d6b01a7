"""Arrays in files as hostile input: nothing is unpickled, nothing is allocated on a header's word.

The files are `.npz`, `.npy`, and idx, which MNIST is published in; the latter two may be gzipped.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import struct
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cvae.data import files
from cvae.data.contents import GZIP, IDX
from cvae.data.places import Location
from cvae.errors import CvaeError, DataError, FormatError, translated

# What numpy, zipfile and tarfile raise on files that are damaged or made up.
DAMAGE: tuple[type[Exception], ...] = (
    OSError, ValueError, ArithmeticError, EOFError, LookupError, TypeError, SyntaxError, AttributeError,
    MemoryError, RuntimeError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
with suppress(ImportError):  # in a Python that was built without it
    from lzma import LZMAError

    DAMAGE += (LZMAError,)
_CHUNK = 1 << 24
_MAX_HEADER = 1 << 16  # bytes; numpy's own are a hundred
_MAX_NPY = 1 << 26  # bytes of an array of symbols
_MAX_FORTRAN = 1 << 32  # bytes of an array that is held as a whole
# The sample types of idx.
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


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
        error: the exception to raise when an array is missing or the file is damaged.
        limit: the most bytes that one array may have; a small file can unpack to a large one.
    """
    arrays = []
    with _checked(label, "an .npz file of arrays", error), zipfile.ZipFile(file) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        for name in names:
            if f"{name}.npy" not in sizes:
                found = ", ".join(sorted(member.removesuffix(".npy") for member in sizes))
                raise error(f"expected an array {name!r}, found {found or 'none'}", where=label)
            with archive.open(f"{name}.npy") as member:
                arrays.append(
                    _read(member, *_read_header(member, min(sizes[f"{name}.npy"], limit)))
                )
    return arrays


def read_npy(path: Path) -> NDArray:
    """The array of an `.npy` file. Raises FormatError when the file is damaged or holds objects."""
    with _checked(path, "an .npy file", FormatError), files.open_file(path) as file:
        return _read(file, *_read_header(file, min(path.stat().st_size, _MAX_NPY)))


class Rows:
    """An array that is read from front to back, some rows at a time."""

    def __init__(self, file: IO[bytes], size: int, label: str) -> None:
        """Reads the header. Raises DataError; `label` is what messages call the file."""
        self._file, self._label = file, label
        self._held: NDArray | None = None
        with _checked(label):
            self.shape, self.dtype, fortran = _read_header(file, size)
            if fortran and len(self.shape) > 1:
                # Its rows lie all over the file. So it is held as a whole.
                if math.prod(self.shape) * self.dtype.itemsize > _MAX_FORTRAN:
                    limit = f"at most {_MAX_FORTRAN:,} bytes in Fortran order"
                    raise ValueError(f"expected C order, or {limit}")
                self._held = _read(file, self.shape, self.dtype, fortran)
                file.read(1)  # as below
        self.left = self.shape[0] if self.shape else 0  # rows that were not read yet
        self._to_the_end = True

    def only(self, start: int, stop: int | None) -> None:
        """Limits `read` to the rows from `start` up to `stop`. Raises DataError as `read` does.

        Skipped rows are not read where the file can seek, so a ZIP archive is not checked then.
        """
        stop = self.shape[0] if stop is None else min(stop, self.shape[0])
        if self._held is not None:
            self._held = self._held[start:stop]
        else:
            row = math.prod(self.shape[1:]) * self.dtype.itemsize
            with _checked(self._label):
                self._file.seek(start * row, os.SEEK_CUR)
        self.left = max(0, stop - start)
        self._to_the_end = stop == self.shape[0]

    def read(self, count: int) -> NDArray:
        """The next rows, at most `count`. Raises DataError when the file is damaged."""
        count = min(count, self.left)
        if self._held is not None:
            part, self._held = self._held[:count], self._held[count:]
            self.left -= count
            return np.ascontiguousarray(part)
        with _checked(self._label):
            array = _read(self._file, (count, *self.shape[1:]), self.dtype)
            self.left -= count
            if not self.left and self._to_the_end:
                self._file.read(1)  # where a ZIP archive compares its check
        return array


@contextmanager
def open_rows(path: Location, name: str | None = None) -> Iterator[Rows]:
    """The array of an `.npy` or idx file, or `name` of an `.npz` file, to be read in pieces.

    Raises DataError when there is none, it is damaged, or a large one in Fortran order.
    """
    label = str(path) if name is None else f"{path}: {name}"
    with ExitStack() as stack:
        with _checked(path):
            file: IO[bytes] = stack.enter_context(path.open("rb"))
            if name is None:
                file, size = _gunzipped(file)
            else:
                archive = stack.enter_context(zipfile.ZipFile(file))
                size = archive.getinfo(f"{name}.npy").file_size
                file = stack.enter_context(archive.open(f"{name}.npy"))
        yield Rows(file, size, label)


def is_npz(path: Location) -> bool:
    """Whether the arrays of a file have names. Raises DataError when it cannot be read."""
    with _checked(path), path.open("rb") as file:
        return path.suffix.lower() == ".npz" or file.read(2) == b"PK"


def names_in(path: Location) -> list[str]:
    """The names of the arrays in an `.npz` file. Raises DataError when it is damaged."""
    with _checked(path), path.open("rb") as file, zipfile.ZipFile(file) as archive:
        members = [name for name in archive.namelist() if name.endswith(".npy")]
        return [name.removesuffix(".npy") for name in members]


def axes_in(path: Location) -> dict[str, int]:
    """How many axes each array of an `.npz` file has, but for those that cannot be read."""
    axes = {}
    for name in names_in(path):
        with suppress(DataError), open_rows(path, name) as rows:
            axes[name] = len(rows.shape)
    return axes


def _gunzipped(file: IO[bytes]) -> tuple[IO[bytes], int]:
    """A file, or what is in it where it is gzipped, and the bytes that it has at most."""
    gzipped = file.read(len(GZIP)) == GZIP
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if not gzipped:
        return file, size
    from gzip import GzipFile

    unpacked: Any = GzipFile(fileobj=file)
    return unpacked, sys.maxsize  # how many is not known before all is read


def _checked(
    label: object, what: str = "an array", error: type[CvaeError] = DataError
) -> AbstractContextManager[None]:
    """Raises whatever a damaged file makes numpy or zipfile raise in the block as `error`."""
    return translated(error, f"expected {what}", label, DAMAGE)


def _read_header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Shape, type, and whether it is in Fortran order, of an array of at most `size` bytes."""
    start = file.read(4)
    file.seek(0)
    if IDX.match(start):
        shape, fortran, dtype = _read_idx_header(file)
    else:
        version = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(_Header(file))
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if min(shape, default=0) < 0:
        raise ValueError(f"its header claims the shape {shape}")
    expected = math.prod(shape) * dtype.itemsize
    if expected > size:
        raise ValueError(f"its header claims {expected:,} bytes, expected at most {size:,}")
    if shape and shape[0] and not expected:
        # They take no bytes, so there may be any number of them.
        raise ValueError(f"its header claims rows of no bytes, {dtype} {shape}")
    return shape, dtype, fortran


def _read_idx_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    _, _, kind, axes = file.read(4)
    return struct.unpack(f">{axes}I", file.read(4 * axes)), False, np.dtype(_IDX_TYPES[kind])


class _Header:
    """A file of which numpy reads a header, whose length four bytes claim."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, count: int = -1, /) -> bytes:
        if not 0 <= count <= _MAX_HEADER:
            raise ValueError(f"expected a header of at most {_MAX_HEADER:,} bytes, found {count:,}")
        return self._file.read(count)


def _read(
    file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype, fortran: bool = False
) -> NDArray:
    expected = math.prod(shape) * dtype.itemsize
    data = bytearray()
    while len(data) < expected:
        chunk = file.read(min(_CHUNK, expected - len(data)))
        if not chunk:
            raise ValueError(f"expected {expected:,} bytes, found {len(data):,}")
        data += chunk
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def native(array: NDArray) -> NDArray:
    """The same numbers in the order of bytes of this machine."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def in_file_order(array: NDArray) -> NDArray:
    """The same numbers in the order of bytes that files have on every machine: the lowest first."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def digest(array: NDArray) -> str:
    """sha256 over dtype, shape and values as files have them; `.npz` bytes also hold time stamps."""
    array = in_file_order(array)
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()


def npz_bytes(named: Mapping[str, NDArray]) -> bytes:
    """A compressed `.npz` file of arrays."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: in_file_order(array) for name, array in named.items()})  # type: ignore[arg-type]
    return buffer.getvalue()
