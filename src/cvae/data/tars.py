"""Tar archives as hostile input, compressed or not, read once from front to end.

tarfile reads as much into memory as an archive likes, and takes a damaged header for the end.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any, Self

from cvae.data import arrays
from cvae.data.contents import COMPRESSED
from cvae.errors import DataError

_CHUNK = 1 << 16
_DAMAGE: tuple[type[Exception], ...] = (tarfile.TarError, *arrays.DAMAGE)
# Bytes of a tar's extended header, and of all those that are for every member.
_MAX_HEADER = 1 << 20
_MAX_HEADERS = 8  # extended headers in front of a member


def members(
    file: Any, label: str, wanted: Callable[[str], bool], limit: int
) -> Iterator[tuple[str, bytes]]:
    """Names, relative to the archive (no root, no `..`), and bytes of the regular files in it.

    Args:
        file: has `read`, and need not seek.
        label: what messages call it.
        wanted: whether a member of that name is read.
        limit: bytes; a larger member comes with one byte more than this.

    Raises DataError when it is no tar archive, breaks off, or a checksum is wrong.
    """
    count = 0
    try:
        with _BoundedTar.open(fileobj=_decompressed(file), mode="r|") as archive:
            while (member := archive.next()) is not None:
                count += 1
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
                parts = PurePosixPath(member.name).parts
                name = "/".join(part for part in parts if part not in ("/", "//", ".", ".."))
                if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and wanted(name):
                    data = archive.extractfile(member)
                    yield name, data.read(min(member.size, limit + 1)) if data else b""
            archive.to_the_end()
    except _DAMAGE as error:
        behind = f"the archive is damaged behind {count:,} members"
        what = behind if count else "expected a tar archive"
        raise DataError(f"{what}: {error}", where=label) from error


class Rejoined:
    """A file of which the first bytes were read already."""

    def __init__(self, start: bytes, file: Any) -> None:
        self._start, self._file = start, file

    def read(self, count: int) -> bytes:
        if self._start:
            data, self._start = self._start[:count], self._start[count:]
            return data
        return bytes(self._file.read(count) or b"")


class Recorded:
    """A file that cannot seek, and yet can be read from its beginning once more."""

    def __init__(self, start: bytes, file: Any, limit: int = 1 << 28) -> None:
        """`start` was read already; at most `limit` bytes are recorded, where the file seems to end."""
        self._file, self._limit = Rejoined(start, file), limit
        self._read: bytearray | None = None

    def record(self) -> None:
        """From here on, until `rewind`, what is read is kept."""
        self._read = bytearray()

    def read(self, count: int) -> bytes:
        if self._read is not None and len(self._read) >= self._limit:
            return b""
        data = self._file.read(count)
        if self._read is not None:
            self._read += data
        return data

    def rewind(self) -> None:
        """Back to where `record` was called."""
        if self._read is not None:
            self._file, self._read = Rejoined(bytes(self._read), self._file), None


def _decompressed(file: Any) -> Any:
    start = file.read(max(map(len, COMPRESSED)))
    whole = Rejoined(start, file)
    for magic, module in COMPRESSED.items():
        if start.startswith(magic):
            return import_module(module).open(whole)
    return whole


class _BoundedInfo(tarfile.TarInfo):
    """Refuses what would take as much memory as the archive likes, and an archive that breaks off."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            # tarfile takes other kinds of errors for the end.
            raise tarfile.ReadError(str(error)) from error
        except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError("it has no end") from error

    def _proc_member(self, archive: _BoundedTar) -> Any:
        archive.count(self)
        return super()._proc_member(archive)  # type: ignore[misc]

    def _proc_gnusparse(self, *arguments: Any) -> None:
        raise tarfile.ReadError("a sparse file")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse


class _BoundedTar(tarfile.TarFile):
    """A tar archive that is read once, from front to end."""

    tarinfo = _BoundedInfo
    _HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
                tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)  # fmt: skip
    _headers = 0  # in front of this member
    _shared = 0  # bytes of headers for all members

    def count(self, member: tarfile.TarInfo) -> None:
        """Called with every header, before what belongs to it is read."""
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a sparse file")
        if member.type not in self._HEADERS:
            self._headers = 0
            return
        self._headers += 1
        self._shared += member.size if member.type == tarfile.XGLTYPE else 0
        if self._headers > _MAX_HEADERS:
            raise tarfile.ReadError(f"more than {_MAX_HEADERS} headers in front of a member")
        if max(member.size, self._shared) > _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {max(member.size, self._shared):,} bytes")

    def to_the_end(self) -> None:
        """Reads what is behind the last member: two blocks of zeros, of which one was read."""
        if self.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError("a block of zeros in its middle")
        while self.fileobj.read(_CHUNK):
            pass  # a compressed file has its check at the end
