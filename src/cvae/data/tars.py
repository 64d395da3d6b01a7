"""Tar archives as hostile input, compressed or not, read from front to end; links give what they lead to.

tarfile reads as much into memory as an archive likes, takes a damaged header for the end, and reads no
archive behind the first.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Self

from cvae.data import arrays
from cvae.data.signatures import HEAD, image_format
from cvae.data.unpacking import Rejoined, unpacked
from cvae.errors import CvaeError, DataError, ImageError, Notice, Refuse, told

_CHUNK = 1 << 16
_DAMAGE: tuple[type[Exception], ...] = (tarfile.TarError, *arrays.DAMAGE)
# Bytes of a tar's extended header, and of all those that are for every member.
_MAX_HEADER = 1 << 20
_MAX_HEADERS = 8  # extended headers in front of a member
_MAX_LINKS = 100_000  # that are followed
_HOPS = 40  # from link to link, as systems have it
_KEPT = 1 << 26  # bytes of members that are kept for links, where an archive cannot be read again
_SMALL = 1 << 20  # bytes that are read of any member

_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LABEL = b"V"  # the name of a GNU archive, which is no member

Wanted = Callable[[str, bytes], bool]


def members(
    file: Any,
    label: str,
    wanted: Wanted,
    limit: int,
    refuse: Refuse = None,
    again: Callable[[], Any] | None = None,
    keep: int = _KEPT,
) -> Iterator[tuple[str, bytes]]:
    """Names, relative to the archive (no root, no `..`), and bytes of the image files in it.

    Hidden ones are ignored. Links come last, with the bytes of what they lead to. Of a file that does
    not begin as an image does, the bytes may be the first ones alone.

    Args:
        file: has `read`, and need not seek.
        label: what messages call it.
        wanted: whether a member of that name and with those first `HEAD` bytes is read.
        limit: bytes; a larger member is refused.
        refuse: called with members that cannot be read, and with notices; see `errors.told`.
        again: opens the archive once more, to find what links lead to.
        keep: bytes that are kept for links instead.

    Raises DataError when it is no tar archive, breaks off, or a checksum is wrong.
    """
    tell, links, kept = told(refuse), dict[str, str](), dict[str, bytes]()
    for member in _members(file, label, tell):
        where = f"{label}: {member.name}"
        if member.hidden or member.info.isdir() or member.info.type == _LABEL:
            continue
        if member.info.islnk() or member.info.issym():
            if len(links) < _MAX_LINKS:
                links[member.name] = _target(member)
            else:
                tell(ImageError(f"is a link, behind {_MAX_LINKS:,} others", where=where))
        elif member.info.type not in _FILES:
            tell(ImageError("is a device or a pipe, expected a file", where=where))
        else:
            for name, data in _data(member, [member.name], label, wanted, limit, tell):
                if again is None and len(data) <= keep:
                    kept[name], keep = data, keep - len(data)
                yield name, data
    if links:
        yield from _linked(links, kept, again, label, wanted, limit, tell)


def _linked(
    links: dict[str, str],
    kept: dict[str, bytes],
    again: Callable[[], Any] | None,
    label: str,
    wanted: Wanted,
    limit: int,
    tell: Callable[[CvaeError], None],
) -> Iterator[tuple[str, bytes]]:
    """The names of links, with the bytes of what they lead to."""
    ends = defaultdict[str, list[str]](list)
    for name in links:
        ends[_end(name, links)].append(name)
    for target in kept.keys() & ends.keys():
        data = kept[target]
        yield from ((name, data) for name in ends.pop(target) if wanted(name, data[:HEAD]))
    if again is not None:
        with again() as file:
            for member in _members(file, label, lambda _: None):
                for folder in {*member.above, *([member.name] if member.info.isdir() else [])}:
                    for name in ends.pop(folder, []):
                        text = "leads to a folder, whose files are read there, and was left out"
                        tell(Notice(text, where=f"{label}: {name}"))
                if member.info.type in _FILES and (names := ends.pop(member.name, [])):
                    yield from _data(member, names, label, wanted, limit, tell)
                if not ends:
                    return
    missing = "which the archive does not hold" if again else "which is not kept of a stream"
    for names in ends.values():
        for name in names:
            text = f"is a link to {links[name] or 'another place'}, {missing}"
            tell(ImageError(text, where=f"{label}: {name}"))


def _end(name: str, links: dict[str, str]) -> str:
    """What a link leads to in the end; the name of a link where it leads round in circles."""
    for _ in range(_HOPS):
        if (name := links[name]) not in links:
            break
    return name


class _Member(NamedTuple):
    name: str
    info: tarfile.TarInfo
    read: Callable[[int], bytes]  # the next bytes of a file

    @property
    def hidden(self) -> bool:
        return any(part.startswith(".") for part in self.name.split("/"))

    @property
    def above(self) -> Iterator[str]:
        """The folders that it is in."""
        name = self.name
        while name := posixpath.dirname(name):
            yield name


def _members(file: Any, label: str, tell: Callable[[CvaeError], None]) -> Iterator[_Member]:
    """Everything in an archive, and in those behind it, in order."""
    count = 0

    @contextmanager
    def reading() -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            behind = f"the archive is damaged behind {count:,} members"
            what = behind if count else "expected a tar archive"
            raise DataError(f"{what}: {error}", where=label) from error

    def next_of(archive: _BoundedTar) -> tarfile.TarInfo | None:
        while (found := archive.next()) is None and archive.follows():
            pass
        archive.members = []  # type: ignore[attr-defined]  # it would keep them all
        return found

    with reading():
        forward: Any = _Forward(unpacked(file))
        archive = _BoundedTar(fileobj=forward)
    while True:
        with reading():
            info = next_of(archive)
        if info is None:
            break
        count += 1
        data = archive.extractfile(info) if info.type in _FILES else None

        def read(size: int, data: Any = data) -> bytes:
            with reading():
                return bytes(data.read(size))

        yield _Member(_name(info.name), info, read)
    if archive.junk:
        tell(Notice("what follows the end of the archive is none, and was left out", where=label))


def _name(text: str) -> str:
    """A member's name, relative to the archive."""
    parts = PurePosixPath(text).parts
    return "/".join(part for part in parts if part not in ("/", "//", ".", ".."))


def _target(link: _Member) -> str:
    """The name of the member that a link leads to; empty where it leads out of the archive."""
    if link.info.islnk():
        return _name(link.info.linkname)
    path = posixpath.normpath(posixpath.join(posixpath.dirname(link.name), link.info.linkname))
    return "" if path.startswith(("/", "..")) else path


def _data(
    member: _Member,
    names: list[str],
    label: str,
    wanted: Wanted,
    limit: int,
    tell: Callable[[CvaeError], None],
) -> Iterator[tuple[str, bytes]]:
    """A file's bytes under each of its names that is wanted."""
    size = member.info.size
    data = member.read(min(size, HEAD))
    names = [name for name in names if wanted(name, data)]
    if not names:
        return
    if size > limit:
        while member.read(_CHUNK):
            pass  # the damage of an archive is said alone
        for name in names:
            text = f"expected at most {limit:,} bytes, found {size:,}"
            tell(ImageError(text, where=f"{label}: {name}"))
        return
    if size <= _SMALL or image_format(data):
        data += member.read(size - len(data))
    yield from ((name, data) for name in names)


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


class _Forward:
    """A file that tarfile reads forwards, and that can take back what was read last."""

    def __init__(self, file: Any) -> None:
        self._file, self._chunk, self._start, self._position = file, b"", 0, 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position < self._position:
            raise tarfile.StreamError("seeking backwards is not allowed")
        while self._position < position and self.read(min(position - self._position, _CHUNK)):
            pass

    def read(self, count: int) -> bytes:
        parts = []
        while count > 0:
            if self._start == len(self._chunk):
                self._chunk, self._start = self._file.read(_CHUNK), 0
                if not self._chunk:
                    break
            part = self._chunk[self._start : self._start + count]
            parts.append(part)
            self._start += len(part)
            self._position += len(part)
            count -= len(part)
        return b"".join(parts)

    def put_back(self, data: bytes) -> None:
        self._chunk, self._start = data + self._chunk[self._start :], 0
        self._position -= len(data)


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
    junk = False  # whether something else than an archive follows the end
    fileobj: Any  # a _Forward
    offset: int  # of the next member

    def count(self, member: tarfile.TarInfo) -> None:
        """Called with every header, before what belongs to it is read."""
        if member.size < 0:
            raise tarfile.ReadError("a negative size")
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

    def follows(self) -> bool:
        """Moves to an archive behind the end of this one; whether there is one.

        Called behind the first of the two blocks of zeros of an end. Reads to the end of the file, where
        a compressed one has its check.
        """
        if self.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError("a block of zeros in its middle")
        while chunk := self.fileobj.read(_CHUNK):
            found = chunk.lstrip(b"\0")
            if self.junk or not found:
                continue
            start = (len(chunk) - len(found)) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
            if self._is_header(chunk[start : start + tarfile.BLOCKSIZE]):
                self.fileobj.put_back(chunk[start:])
                self.offset = self.fileobj.tell()
                return True
            self.junk = True
        return False

    def _is_header(self, block: bytes) -> bool:
        try:
            self.tarinfo.frombuf(block, self.encoding, self.errors)
        except tarfile.HeaderError:
            return False
        return True
