"""Paths, URLs and glob patterns -> the files and folders that they stand for, here or elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cvae.data.files import Local as Local
from cvae.data.place import Found as Found
from cvae.data.place import Place as Place
from cvae.data.place import reaching as reaching
from cvae.errors import DataError, StorageError

Location = Path | Place  # a path is a place on this machine

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_MAGIC = re.compile(r"[*?[]")
_LOCAL = ("file", "local")


def is_url(text: str) -> bool:
    """Whether a text is a URL rather than a path."""
    return _URL.match(text) is not None


def is_pattern(text: str) -> bool:
    """Whether a text is a glob pattern, and not the name of a file that has such characters."""
    return _MAGIC.search(text) is not None and (is_url(text) or not os.path.lexists(text))


def locate(place: str | Location) -> Place:
    """The place of a path or a URL; `file://` is a path."""
    if not isinstance(place, str | Path):
        return place
    text = str(place)
    url = None if isinstance(place, Path) else _URL.match(text)
    if not url:
        return Local(text)
    if url[1].lower() in _LOCAL:
        return Local(unquote(urlsplit(text).path))
    from cvae.data.remote import Remote

    return Remote(text)


def find(text: str | Location, suffixes: Collection[str]) -> Iterator[Found]:
    """The files that a path, a URL or a glob pattern of either stands for, in order.

    Args:
        text: a folder stands for the files below it; a pattern does for the files that it matches.
        suffixes: lower-case endings of the files that are taken from a folder.

    Raises:
        DataError: there is no such file or folder, a pattern matches none, or a folder cannot be read.
        StorageError: it cannot be reached.
    """
    place = locate(text)
    if is_pattern(str(text)):
        return iter(_matching(str(text), place))
    if place.is_folder():
        return place.below(suffixes)
    try:
        with reaching(place):
            return iter([Found(place, place.name, place.stamp())])
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise DataError("there is no such file or folder", where=place) from error
        raise


def _matching(pattern: str, place: Place) -> list[Found]:
    at = _MAGIC.search(pattern)
    base = pattern[: at.start()].rpartition("/")[0] if at else pattern
    found = list(place.matching(base))
    if not found:
        raise DataError("matches no files", where=pattern)
    files = [file for file, is_folder in found if not is_folder]
    if not files:
        raise DataError("matches folders only", where=pattern)
    return files


def read(place: Location, limit: int) -> bytes:
    """A file's bytes.

    Raises:
        OSError: it is missing or may not be read.
        StorageError: it cannot be reached, or has more than `limit` bytes.
    """
    with place.open("rb") as file:
        data: bytes = file.read(limit + 1)
    if len(data) > limit:
        raise StorageError(f"expected at most {limit:,} bytes, found more", where=place)
    return data


def write(place: Location, data: bytes, force: bool = False) -> None:
    """Writes a file atomically; raises as `Place.writing` does."""
    with locate(place).writing(force) as temporary:
        temporary.write_bytes(data)
