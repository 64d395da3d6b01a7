"""Files and folders on this machine (`Local`) and at URLs (`Remote`), which have the same methods.

Methods raise StorageError when a place cannot be reached, unless they say otherwise.
"""

from __future__ import annotations

import glob as globs
import io
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from cvae.data import files, walks
from cvae.errors import (
    CvaeError,
    DataError,
    MissingExtraError,
    Notice,
    OutputError,
    Refuse,
    StorageError,
    first_line,
    told,
    translated,
)

if TYPE_CHECKING:
    _Path = Path
else:
    _Path = type(Path())  # the class for this system, which can be derived from

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_MAGIC = re.compile(r"[*?[]")
_S3 = ("s3://", "s3a://")
# Object stores, in which a file appears when all of it is there. Elsewhere it is renamed.
_WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "memory"}
# What tells the versions of a file apart, as the file systems of fsspec call it.
_VERSIONS = ("ETag", "etag", "md5", "mtime", "LastModified", "last_modified", "updated", "created")


class Found(NamedTuple):
    """A file that was listed."""

    place: Place
    name: str  # relative to where it was looked for, with / between its parts
    known: str = ""  # its stamp, where listing told it
    image: bool = False  # whether it is one of a folder's images, whatever its name

    @property
    def stamp(self) -> str:
        """A text that changes when the file does. Raises StorageError."""
        with reaching(self.place):
            return self.known or self.place.stamp()


def _size(entry: os.DirEntry[str]) -> int:
    with suppress(OSError):  # a link to nothing or to itself, or gone by now: it is still a name
        return entry.stat().st_size
    return 0


class Local(_Path):
    """A place on this machine."""

    far = False  # reading waits for no network

    def open(self, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        """As that of a Path; for "rb" it raises NotAFileError when this is a device or a pipe."""
        if mode == "rb":
            return files.open_file(self)
        return super().open(mode, *arguments, **named)

    # Unlike those of a Path, these never raise.
    def is_folder(self) -> bool:
        return os.path.isdir(self)  # noqa: PTH112

    def is_file(self) -> bool:  # type: ignore[override, unused-ignore]
        """Whether it is a file, and no pipe or device, of which nothing can be read twice."""
        return os.path.isfile(self)  # noqa: PTH113

    def exists(self) -> bool:  # type: ignore[override, unused-ignore]
        return os.path.exists(self)  # noqa: PTH110

    def stamp(self) -> str:
        """A text that changes when the file does. Raises OSError when there is none."""
        found = self.stat()
        return f"{found.st_size} {found.st_mtime_ns}"

    def sizes(self) -> dict[str, int]:
        """The names in this folder, with bytes of the files; empty where there is no such folder."""
        with reaching(self), suppress(FileNotFoundError), os.scandir(self) as entries:
            return {entry.name: _size(entry) for entry in entries}
        return {}

    def below(self, skip: str = "", refuse: Refuse = None) -> Iterator[Found]:
        """All files below this folder, except hidden ones, in order.

        Links are followed, and each folder is read once. `skip` and `refuse` are those of
        `walks.names_below`, which this raises as.
        """
        for name in walks.names_below(str(self), skip, refuse):
            yield Found(self / name, name)

    def matching(self, base: str) -> Iterator[tuple[Found, bool]]:
        """What this place matches as a glob pattern, in order, and whether it is a folder.

        Names are relative to `base`: the folders in front of the first part that is a pattern.
        """
        base = str(Path(base)) if base else ""
        for text in sorted(globs.glob(str(self), recursive=True)):  # noqa: PTH207
            path = Local(text)
            yield Found(path, _relative(text, base)), path.is_dir()

    def remove(self) -> None:
        """Deletes the file; it may be gone already."""
        with reaching(self):
            self.unlink(missing_ok=True)

    def make_folder(self) -> None:
        """Makes sure that this folder can be written to."""
        with reaching(self):
            self.mkdir(parents=True, exist_ok=True)

    def writing(self, force: bool = False) -> AbstractContextManager[Path]:
        """A temporary path; what is written there appears here when the block ends without an error.

        Raises OutputError when the file exists and `force` is off, or cannot be written.
        """
        return files.atomic_path(self, force)


class Remote(NamedTuple):
    """A place at a URL, through fsspec."""

    url: str

    @property
    def far(self) -> bool:
        return True

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        return _name(self.url)

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def _whole(self) -> bool:
        return self.url.split("://")[0].lower() in _WHOLE

    def absolute(self) -> Remote:
        return self

    def open(self, mode: Literal["rb"] = "rb") -> io.BufferedReader:
        """The file for reading, which can seek. Raises OSError when it is missing or may not be read."""
        with self._reached(FileNotFoundError, PermissionError) as (system, path):
            return io.BufferedReader(_Raw(self, system.open(path, mode)))

    def is_folder(self) -> bool:
        with self._reached() as (system, path):
            return bool(system.isdir(path))

    def is_file(self) -> bool:
        return self._info().get("type") == "file"

    def exists(self) -> bool:
        return bool(self._info())

    def _info(self) -> dict[str, Any]:
        """What fsspec knows of it; empty when it is missing."""
        # Unlike `exists` of fsspec, which takes every error for a no.
        with self._reached() as (system, path), suppress(FileNotFoundError):
            return dict(system.info(path))
        return {}

    def stamp(self) -> str:
        with self._reached(FileNotFoundError) as (system, path):
            return _stamp(system.info(path))

    def sizes(self) -> dict[str, int]:
        with self._reached() as (system, path), suppress(FileNotFoundError):
            found = system.ls(path.rstrip("/"), detail=True)
            # Some object stores have an empty object that stands for the folder itself.
            inside = [info for info in found if info["name"].strip("/") != path.strip("/")]
            return {_name(info["name"]): info["size"] or 0 for info in inside}
        return {}

    def below(self, skip: str = "", refuse: Refuse = None) -> Iterator[Found]:
        with self._reached() as (system, path):
            root = path.rstrip("/")
            infos = system.find(root, detail=True)
        found = {path.removeprefix(root).lstrip("/"): path for path in infos}
        skipped = {PurePosixPath(name).parent for name in found if _name(name) == skip}
        skipped.discard(PurePosixPath())
        for name, path in sorted(found.items()):
            parts = PurePosixPath(name)
            hidden = any(part.startswith(".") for part in parts.parts)
            if not hidden and skipped.isdisjoint(parts.parents):
                yield Found(Remote(system.unstrip_protocol(path)), name, _stamp(infos[path]))

    def matching(self, base: str) -> Iterator[tuple[Found, bool]]:
        with self._reached() as (system, pattern):
            base = system._strip_protocol(base)
            infos = system.glob(pattern, detail=True)
        for path, info in sorted(infos.items()):
            place = Remote(system.unstrip_protocol(path))
            yield Found(place, _relative(path, base), _stamp(info)), info["type"] == "directory"

    def remove(self) -> None:
        with self._reached() as (system, path):
            if self.exists():
                system.rm_file(path)

    def make_folder(self) -> None:
        with self._reached() as (system, path):
            if self._whole:
                # An object store has no folders; a missing bucket is noticed here.
                system.find(path, maxdepth=1)
            else:
                system.makedirs(path, exist_ok=True)

    @contextmanager
    def writing(self, force: bool = False) -> Iterator[Path]:
        if not force and self.exists():
            raise OutputError("exists already", where=self, advice=files.EXISTS)
        import tempfile  # here because the import loads a lot

        with tempfile.TemporaryDirectory(prefix="cvae-") as folder:
            temporary = Path(folder) / self.name
            with translated(OutputError, "cannot be written", temporary):
                yield temporary
            with self._reached() as (system, path):
                beside = path if self._whole else f"{path}.cvae-{os.urandom(8).hex()}"
                system.put_file(str(temporary), beside)
                if beside != path:
                    system.mv(beside, path)

    @contextmanager
    def _reached(self, *passing: type[Exception]) -> Iterator[tuple[Any, str]]:
        """The file system of fsspec, and the path there; errors in the block as `reaching` has them."""
        with reaching(self, *passing):
            try:
                from fsspec.core import url_to_fs
            except ImportError as error:
                raise MissingExtraError("fsspec", "cluster") from error
            # A listing that is kept would not know of what other machines wrote.
            yield url_to_fs(self.url, use_listings_cache=False)


Place = Local | Remote
Location = Path | Remote  # a path is a place on this machine


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

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _stamp(info: dict[str, Any]) -> str:
    version = next((str(info[key]) for key in _VERSIONS if info.get(key)), "")
    return f"{info.get('size')} {version}"


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _relative(path: str, base: str) -> str:
    """A path as one relative to a folder in front of it, with / between its parts."""
    return PurePath(path).as_posix().removeprefix(base).lstrip("/")


@contextmanager
def reaching(place: object, *passing: type[Exception]) -> Iterator[None]:
    """Raises what storage raises in the block, except `passing`, as StorageError or MissingExtraError."""
    try:
        yield
    except Exception as error:  # of any kind: every storage has its own
        if isinstance(error, (CvaeError, *passing)):
            raise
        if isinstance(error, ImportError) and str(place).lower().startswith(_S3):
            raise MissingExtraError("s3fs", "s3") from error
        why = "no access" if isinstance(error, PermissionError) else "cannot be reached"
        reason = getattr(error, "strerror", None) or first_line(error)
        raise StorageError(f"{why}: {reason}", where=place) from error


def is_url(text: str) -> bool:
    """Whether a text is a URL rather than a path."""
    return _URL.match(text) is not None


def is_pattern(text: str) -> bool:
    """Whether a text is a glob pattern, and not the name of a file that has such characters."""
    return _MAGIC.search(text) is not None and (is_url(text) or not os.path.lexists(text))


def locate(place: str | Location) -> Place:
    """The place of a path or a URL; `file://` is a path."""
    if isinstance(place, Remote):
        return place
    if isinstance(place, Path) or not is_url(place):
        return Local(place)
    ours = place.lower().startswith(("file://", "local://"))
    return Local(unquote(urlsplit(place).path)) if ours else Remote(place)


def is_same(one: Location, other: Location) -> bool:
    """Whether two places are one file or folder."""
    if isinstance(one, Remote) or isinstance(other, Remote):
        return str(one) == str(other)
    return files.is_same(one, other)


def find(text: str | Location, refuse: Refuse = None) -> Iterator[Found]:
    """The files that a path, a URL or a glob pattern of either stands for, in order.

    A folder stands for all files below it. `refuse` is called with what of it cannot be listed, and with
    notices. Raises DataError when there is no such file or folder, or a pattern matches none.
    """
    place = locate(text)
    if is_pattern(str(text)):
        base = _MAGIC.split(str(text), maxsplit=1)[0].rpartition("/")[0]
        found = list(place.matching(base))
        matches = [file for file, is_folder in found if not is_folder]
        if not matches:
            raise DataError("matches folders only" if found else "matches no files", where=text)
        folders = len(found) - len(matches)
        if folders and "**" not in str(text):  # which matches the files in them, too
            told(refuse)(Notice(f"left out folders that it matches: {folders:,}", where=text))
        return iter([file for file in matches if _is_regular(file, refuse)])
    if place.is_folder():
        return place.below(refuse=refuse)
    try:
        with reaching(place, FileNotFoundError, NotADirectoryError):
            return iter([Found(place, place.name, place.stamp())])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError("there is no such file or folder", where=place) from error


def _is_regular(file: Found, refuse: Refuse) -> bool:
    """Whether a match is a file, or one at a URL; says what it is else."""
    if file.place.far or file.place.is_file():
        return True
    told(refuse)(DataError(walks.no_file(str(file.place)), where=file.place))
    return False


def read(place: Location, limit: int) -> bytes:
    """A file's bytes.

    Raises OSError when it is missing or may not be read, StorageError when it has more than `limit`.
    """
    with place.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise StorageError(f"expected at most {limit:,} bytes, found more", where=place)
    return data


def write(place: Location, data: bytes, force: bool = False) -> None:
    """Writes a file atomically; raises as `Local.writing` does."""
    with locate(place).writing(force) as temporary:
        temporary.write_bytes(data)
