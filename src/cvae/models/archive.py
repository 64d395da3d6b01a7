"""The ZIP file of a model as hostile input: nothing is read on a header's word alone."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from pathlib import Path
from typing import IO

from cvae.errors import ModelError, translated

FILE_LIMIT = 1 << 26  # bytes of a model file
_DAMAGED = (NotImplementedError, RuntimeError, EOFError, ValueError, struct.error)
_END = struct.Struct("<4s4H2LH")  # the end of a ZIP file without a comment
_END_MARK, _MARK_OF_64 = b"PK\x05\x06", b"PK\x06\x07"
_LOCATOR = 20  # bytes before the end where one of 64 bits says that it is
_MOST_LISTED = 1 << 16  # bytes of the list of members
_LONGEST_HEADER = 1 << 16  # bytes of an array's


def read_member(path: Path, member: str, limit: int = FILE_LIMIT) -> bytes:
    """Raises ModelError when the file is missing or damaged, or the member has more bytes."""
    with (
        translated(ModelError, "cannot be read", path),
        translated(ModelError, f"{member} is damaged", path, _DAMAGED),
        translated(ModelError, "expected a cvae model", path, (zipfile.BadZipFile, KeyError)),
    ):
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait for ever
            raise ModelError("expected a cvae model, found no regular file", where=path)
        with path.open("rb") as file:
            return _read(file, path, member, limit)


def _read(file: IO[bytes], path: Path, member: str, limit: int) -> bytes:
    size = check_end(file)
    if size > FILE_LIMIT:
        raise ModelError(f"expected at most {FILE_LIMIT:,} bytes, found {size:,}", where=path)
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo(member)
        # Stored means that the file itself is as large as the member says it is.
        stored = info.compress_type == zipfile.ZIP_STORED
        if not stored or info.file_size > min(limit, size):
            found = f"{info.file_size:,} bytes of compression type {info.compress_type}"
            text = f"expected {member} stored in at most {min(limit, size):,} bytes, found {found}"
            raise ModelError(text, where=path)
        return archive.read(info)


def check_end(file: IO[bytes]) -> int:
    """The size of a ZIP file. Raises BadZipFile when it ends otherwise than we write it.

    `zipfile` makes an object of each member that is listed: millions fit into a file.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size - _LOCATOR))
    tail = file.read()
    if len(tail) < _END.size:
        raise zipfile.BadZipFile("File is not a zip file")
    mark, *_, listed, _, comment = _END.unpack(tail[-_END.size :])
    if mark != _END_MARK or comment or tail.startswith(_MARK_OF_64):
        raise zipfile.BadZipFile("expected the end of a ZIP file")
    if listed > _MOST_LISTED:
        raise zipfile.BadZipFile(f"expected a list of members of at most {_MOST_LISTED:,} bytes")
    return size


def check_arrays(file: IO[bytes], limit: int, label: str) -> None:
    """Raises ModelError when an `.npz` file is damaged, or claims to unpack to arrays of more bytes.

    An array's header counts, too: it may have gigabytes. `zipfile` never gives more than is claimed.
    """
    with translated(ModelError, "damaged", label, (zipfile.BadZipFile, *_DAMAGED)):
        check_end(file)
        with zipfile.ZipFile(file) as archive:
            found = max((info.file_size for info in archive.infolist()), default=0)
    if found > limit + _LONGEST_HEADER:
        expected = f"expected arrays of at most {limit:,} bytes"
        raise ModelError(f"{expected}, found {found:,}", where=label)
