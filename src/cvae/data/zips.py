"""ZIP archives as hostile input, read member by member; nothing is extracted.

A member that is damaged or not to be trusted is an error of its own: the others are read.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress

from cvae.data import arrays
from cvae.data.contents import What, what_is
from cvae.data.places import Location
from cvae.data.signatures import HEAD
from cvae.errors import DataError, ImageError, translated

_ENCRYPTED = 1  # a flag of members
_OUTSIDE = ("", ".", "..")  # parts of a name that are no folder below the archive


def members(
    place: Location, label: str, wanted: Callable[[str, bytes], bool], limit: int
) -> Iterator[tuple[str, bytes | ImageError]]:
    """Names, relative to the archive, and bytes of the files in it; or why one is skipped.

    Args:
        place: of the archive.
        label: what messages call it.
        wanted: whether a member of that name and with those first `HEAD` bytes is read.
        limit: bytes; a larger member comes with one byte more than this.

    Raises DataError when it is no ZIP archive.
    """
    with translated(DataError, "expected a ZIP archive", label, arrays.DAMAGE):
        file = place.open("rb")
    seen: set[str] = set()
    with file:
        with translated(DataError, "expected a ZIP archive", label, arrays.DAMAGE):
            archive = zipfile.ZipFile(file)
        for info in archive.infolist():
            parts = info.filename.replace("\\", "/").split("/")
            name = "/".join(part for part in parts if part not in _OUTSIDE)
            if info.is_dir() or _is_hidden(name):
                continue
            if not (_is_nested(name) or wanted(name, _head(archive, info))):
                continue
            if reason := _refusal(info, name, name in seen):
                yield name, ImageError(reason, where=f"{label}: {info.filename}")
            else:
                yield name, _read(archive, info, f"{label}: {name}", limit)
            seen.add(name)


def _is_nested(name: str) -> bool:
    """Whether a member is an archive by its name, whose images would be passed over without a word."""
    return what_is(name) in (What.ARRAY, What.TAR, What.ZIP)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _head(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The first bytes of a member; of one that cannot be read none, so that its name decides."""
    with suppress(*arrays.DAMAGE), archive.open(info) as member:
        return member.read(HEAD)
    return b""


def _refusal(info: zipfile.ZipInfo, name: str, seen: bool) -> str:
    """Why a member is skipped, or nothing."""
    own = info.filename.replace("\\", "/")
    if own.startswith("/") or ".." in own.split("/"):
        return "its name leads out of the archive"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link, expected a file"
    if _is_nested(name):
        return "is an archive in an archive, expected an image"
    return "is the second member of this name" if seen else ""


def _read(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, label: str, limit: int
) -> bytes | ImageError:
    try:
        with archive.open(info) as member:
            return member.read(limit + 1)
    except arrays.DAMAGE as error:
        return ImageError(f"the member is damaged: {error}", where=label)
