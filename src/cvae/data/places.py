"""Files and folders on this machine or elsewhere: a `Path`, or a URL through fsspec.

Nothing here is needed for paths, so fsspec is imported only for URLs.
"""

from __future__ import annotations

import glob as globs
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import unquote, urlsplit

from cvae.data import files
from cvae.errors import (
    CvaeError,
    DataError,
    MissingExtraError,
    OutputError,
    StorageError,
    first_line,
)

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_MAGIC = re.compile(r"[*?[]")
_LOCAL = ("file", "local")
_S3 = ("s3", "s3a")
# Where a file appears when all of it is there; elsewhere it is renamed when it is.
_WHOLE = {*_S3, "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "memory"}
# What tells the versions of a file apart, as the file systems of fsspec call it.
_VERSIONS = ("ETag", "etag", "md5", "mtime", "LastModified", "last_modified", "updated", "created")


@dataclass(frozen=True)
class Remote:
    """A file or folder at a URL; has what is needed of a `Path`."""

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        return PurePosixPath(self.url.rstrip("/")).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def protocol(self) -> str:
        return self.url.split("://")[0].lower()

    def open(self, mode: str = "rb") -> BinaryIO:
        """The file for reading; to read from it may raise StorageError, too.

        Raises:
            OSError: it is not there, or may not be read.
            StorageError: it cannot be reached.
        """
        try:
            with reaching(self):
                return io.BufferedReader(_Raw(self, _system(self).open(_path(self), mode)))
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError | PermissionError):
                raise error.__cause__ from error
            raise


Location = Path | Remote


class _Raw(io.RawIOBase):
    """A file of fsspec, whose errors are those of storage, not of what is read from it."""

    def __init__(self, place: Remote, file: Any) -> None:
        self._place, self._file = place, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def readinto(self, buffer: Any) -> int:
        with reaching(self._place):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with reaching(self._place):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class Found(NamedTuple):
    """A file that was found below a folder or by a pattern."""

    place: Location
    name: str  # relative to where it was looked for, with / between its parts
    stamp: str  # changes when the file does


def is_url(text: str) -> bool:
    """Whether a text is a URL rather than a path."""
    return _URL.match(text) is not None


def is_pattern(text: str) -> bool:
    """Whether a text is a glob pattern, and not the name of a file that has such characters."""
    return _MAGIC.search(text) is not None and (is_url(text) or not os.path.lexists(text))


def locate(text: str) -> Location:
    """A path or a URL; `file://` is a path."""
    if not is_url(text):
        return Path(text)
    place = Remote(text)
    return Path(unquote(urlsplit(text).path)) if place.protocol in _LOCAL else place


def absolute(place: Location) -> Location:
    """The same, wherever the process that uses it was started."""
    return place.absolute() if isinstance(place, Path) else place


def is_folder(place: Location) -> bool:
    """Whether there is a folder. Raises StorageError when nobody can know."""
    if isinstance(place, Path):
        return place.is_dir()
    with reaching(place):
        return bool(_system(place).isdir(_path(place)))


def exists(place: Location) -> bool:
    """Whether there is a file or folder. Raises StorageError when nobody can know."""
    if isinstance(place, Path):
        return os.path.lexists(place)
    with reaching(place):
        # Unlike `exists`, which takes every error for a no.
        try:
            _system(place).info(_path(place))
        except FileNotFoundError:
            return False
        return True


def sizes(folder: Location) -> dict[str, int]:
    """The names of what is in a folder, with bytes of the files; empty where there is no such folder.

    Raises StorageError when it cannot be read.
    """
    try:
        with reaching(folder):
            if isinstance(folder, Path):
                with os.scandir(folder) as entries:
                    return {entry.name: entry.stat().st_size for entry in entries}
            root = _path(folder).rstrip("/")
            found = _system(folder).ls(root, detail=True)
            # Some object stores have an empty object that stands for the folder itself.
            return {
                PurePosixPath(info["name"]).name: info["size"] or 0
                for info in found
                if info["name"].strip("/") != root.strip("/")
            }
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return {}
        raise


def read(place: Location, limit: int) -> bytes:
    """A file's bytes.

    Raises:
        OSError: it is not there, or may not be read.
        StorageError: it cannot be reached, or has more than `limit` bytes.
    """
    with place.open("rb") as file:
        data: bytes = file.read(limit + 1)
    if len(data) > limit:
        raise StorageError(f"expected at most {limit:,} bytes, found more", where=place)
    return data


def remove(place: Location) -> None:
    """Deletes a file; it may be gone already. Raises StorageError."""
    with reaching(place):
        if isinstance(place, Path):
            place.unlink(missing_ok=True)
        elif exists(place):
            _system(place).rm_file(_path(place))


def make_folder(place: Location) -> None:
    """Makes sure that a folder can be written to. Raises StorageError."""
    with reaching(place):
        if isinstance(place, Path):
            place.mkdir(parents=True, exist_ok=True)
        elif place.protocol not in _WHOLE:
            _system(place).makedirs(_path(place), exist_ok=True)
        else:
            # An object store has no folders; a bucket that is not there is noticed here.
            _system(place).find(_path(place), maxdepth=1)


@contextmanager
def writing(place: Location, force: bool = False) -> Iterator[Path]:
    """A temporary path; what is written there is at `place`, whole, when the block ends without an error.

    Raises:
        OutputError: the file exists and `force` is off, or cannot be written.
        StorageError: the place cannot be reached.
    """
    if isinstance(place, Path):
        with files.atomic_path(place, force) as temporary:
            yield temporary
        return
    if not force and exists(place):
        raise OutputError("exists already", where=place, advice="use --force to overwrite it")
    import tempfile  # here because the import loads a lot

    with tempfile.TemporaryDirectory(prefix="cvae-") as folder:
        temporary = Path(folder) / place.name
        yield temporary
        with reaching(place):
            system, path = _system(place), _path(place)
            if place.protocol in _WHOLE:
                system.put_file(str(temporary), path)
                return
            beside = f"{path}.cvae-{os.urandom(8).hex()}"
            system.put_file(str(temporary), beside)
            system.mv(beside, path)


def write(place: Location, data: bytes, force: bool = False) -> None:
    """Writes a file in one step; raises as `writing` does."""
    with writing(place, force) as temporary:
        temporary.write_bytes(data)


def below(folder: Location, suffixes: set[str]) -> Iterator[Found]:
    """All files below a folder with one of these (lower-case) endings, hidden ones left out, in order.

    Raises:
        DataError: a folder cannot be read.
        StorageError: it cannot be reached.
    """
    if isinstance(folder, Path):
        for path in files.walk(folder, suffixes):
            yield Found(path, path.relative_to(folder).as_posix(), _stamp_of(path))
        return
    with reaching(folder):
        system, root = _system(folder), _path(folder).rstrip("/")
        found = system.find(root, detail=True)
    for path, info in sorted(found.items()):
        name = PurePosixPath(path.removeprefix(root).lstrip("/"))
        hidden = any(part.startswith(".") for part in name.parts)
        if name.suffix.lower() in suffixes and not hidden:
            yield Found(_remote(system, path), str(name), _stamp(info))


def matching(pattern: str) -> list[Found]:
    """What a glob pattern finds, in order: files and folders.

    Raises:
        DataError: nothing.
        StorageError: it cannot be reached.
    """
    place = locate(pattern)
    root = _fixed_part(pattern)
    if isinstance(place, Path):
        paths = [Path(text) for text in sorted(globs.glob(str(place), recursive=True))]  # noqa: PTH207
        base = str(locate(root)) if root else ""
        found = [Found(p, _relative(str(p), base), _stamp_of(p)) for p in paths]
    else:
        with reaching(place):
            system = _system(place)
            base = system._strip_protocol(root)
            infos = system.glob(_path(place), detail=True)
        found = [
            Found(_remote(system, path), _relative(path, base), _stamp(info))
            for path, info in sorted(infos.items())
        ]
    if not found:
        raise DataError("matches no files", where=pattern)
    return found


def one(place: Location) -> Found:
    """A file that is named. Raises DataError when it is not there, StorageError when nobody can know."""
    try:
        with reaching(place):
            if isinstance(place, Path):
                return Found(place, place.name, _stamp_of(place))
            return Found(place, place.name, _stamp(_system(place).info(_path(place))))
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise DataError("there is no such file or folder", where=place) from error
        raise


@contextmanager
def reaching(place: object) -> Iterator[None]:
    """Makes one error of all those that storage of any kind raises.

    Raises:
        StorageError: whatever went wrong; it is the cause.
        MissingExtraError: a package is missing.
    """
    try:
        yield
    except CvaeError:
        raise
    except ImportError as error:
        if isinstance(place, Remote) and place.protocol in _S3:
            raise MissingExtraError("s3fs", "s3") from error
        raise StorageError(first_line(error), where=place) from error
    except OSError as error:
        why = "no access" if isinstance(error, PermissionError) else "cannot be reached"
        raise StorageError(f"{why}: {error.strerror or first_line(error)}", where=place) from error
    except Exception as error:  # of any kind: every storage has its own
        raise StorageError(f"cannot be reached: {first_line(error)}", where=place) from error


def _system(place: Remote) -> Any:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise MissingExtraError("fsspec", "cluster") from error
    # A listing that is kept would not know of what other machines wrote.
    return url_to_fs(place.url, use_listings_cache=False)[0]


def _path(place: Remote) -> str:
    path: str = _system(place)._strip_protocol(place.url)
    return path


def _remote(system: Any, path: str) -> Remote:
    return Remote(system.unstrip_protocol(path))


def _stamp(info: dict[str, Any]) -> str:
    version = next((str(info[key]) for key in _VERSIONS if info.get(key)), "")
    return f"{info.get('size')} {version}"


def _stamp_of(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def _fixed_part(pattern: str) -> str:
    """The folders in front of the first one that is a pattern."""
    at = _MAGIC.search(pattern)
    return pattern[: at.start()].rpartition("/")[0] if at else pattern


def _relative(path: str, base: str) -> str:
    return PurePosixPath(path.replace(os.sep, "/")).as_posix().removeprefix(base).lstrip("/")
