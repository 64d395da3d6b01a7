"""`.npz` and `.npy` files as hostile input: nothing is unpickled, nothing is allocated on a header's word."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cvae.errors import CvaeError, DataError, FormatError

# What numpy and zipfile raise on files that are damaged or made up.
_DAMAGE = (
    OSError,
    ValueError,
    ArithmeticError,
    EOFError,
    LookupError,
    TypeError,
    SyntaxError,
    AttributeError,
    MemoryError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_CHUNK = 1 << 24


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
    try:
        with zipfile.ZipFile(file) as archive:
            members = set(archive.namelist())
            for name in names:
                if f"{name}.npy" not in members:
                    found = ", ".join(sorted(m.removesuffix(".npy") for m in members))
                    raise error(f"{label}: expected an array {name!r}, found {found or 'none'}")
            arrays = []
            for name in names:
                with archive.open(f"{name}.npy") as member:
                    size = archive.getinfo(f"{name}.npy").file_size
                    arrays.append(_read(member, min(size, limit)))
            return arrays
    except _DAMAGE as damage:
        raise error(f"{label}: expected an .npz file of arrays: {_why(damage)}") from damage


def read_npy(path: Path) -> NDArray:
    """The array of an `.npy` file. Raises FormatError when the file is damaged or holds objects."""
    try:
        with path.open("rb") as file:
            return _read(file, path.stat().st_size)
    except _DAMAGE as damage:
        raise FormatError(f"{path}: expected an .npy file: {_why(damage)}") from damage


def _read(file: IO[bytes], size: int) -> NDArray:
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
    data = bytearray()
    while len(data) < expected:
        chunk = file.read(min(_CHUNK, expected - len(data)))
        if not chunk:
            raise ValueError(f"expected {expected:,} bytes, found {len(data):,}")
        data += chunk
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _why(damage: BaseException) -> str:
    if isinstance(damage, OSError) and damage.strerror:
        return damage.strerror
    return str(damage) or type(damage).__name__
