"""Files and folders at URLs, through fsspec."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, Self

from cvae.data.place import S3, Found, reaching, relative
from cvae.errors import MissingExtraError, OutputError, StorageError

# Object stores, in which a file appears when all of it is there. Elsewhere it is renamed.
_WHOLE = {*S3, "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "memory"}
# What tells the versions of a file apart, as the file systems of fsspec call it.
_VERSIONS = ("ETag", "etag", "md5", "mtime", "LastModified", "last_modified", "updated", "created")


@dataclass(frozen=True)
class Remote:
    """A place at a URL."""

    url: str

    far = True

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

    def absolute(self) -> Self:
        return self

    def open(self, mode: Literal["rb"] = "rb") -> BinaryIO:
        try:
            with reaching(self):
                return io.BufferedReader(_Raw(self, self._system().open(self._path(), mode)))
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError | PermissionError):
                raise error.__cause__ from error
            raise

    def is_folder(self) -> bool:
        with reaching(self):
            return bool(self._system().isdir(self._path()))

    def is_file(self) -> bool:
        return self._is_there(type="file")

    def exists(self) -> bool:
        return self._is_there()

    def _is_there(self, **what: str) -> bool:
        with reaching(self):
            # Unlike `exists` of fsspec, which takes every error for a no.
            try:
                return bool(what.items() <= self._system().info(self._path()).items())
            except FileNotFoundError:
                return False

    def stamp(self) -> str:
        return _stamp(self._system().info(self._path()))

    def sizes(self) -> dict[str, int]:
        with reaching(self):
            root = self._path().rstrip("/")
            try:
                found = self._system().ls(root, detail=True)
            except FileNotFoundError:
                return {}
            # Some object stores have an empty object that stands for the folder itself.
            return {
                PurePosixPath(info["name"]).name: info["size"] or 0
                for info in found
                if info["name"].strip("/") != root.strip("/")
            }

    def below(self, suffixes: Collection[str] = (), skip: str = "") -> Iterator[Found]:
        with reaching(self):
            system, root = self._system(), self._path().rstrip("/")
            infos = system.find(root, detail=True)
        found = {path.removeprefix(root).lstrip("/"): path for path in infos}
        skipped = {PurePosixPath(name).parent for name in found if PurePosixPath(name).name == skip}
        skipped.discard(PurePosixPath())
        for name, path in sorted(found.items()):
            parts = PurePosixPath(name)
            hidden = any(part.startswith(".") for part in parts.parts)
            wanted = not suffixes or parts.suffix.lower() in suffixes
            if wanted and not hidden and skipped.isdisjoint(parts.parents):
                yield Found(_remote(system, path), name, _stamp(infos[path]))

    def matching(self, base: str) -> Iterator[tuple[Found, bool]]:
        with reaching(self):
            system = self._system()
            base = system._strip_protocol(base)
            infos = system.glob(self._path(), detail=True)
        for path, info in sorted(infos.items()):
            found = Found(_remote(system, path), relative(path, base), _stamp(info))
            yield found, info["type"] == "directory"

    def remove(self) -> None:
        with reaching(self):
            if self.exists():
                self._system().rm_file(self._path())

    def make_folder(self) -> None:
        with reaching(self):
            if self.protocol not in _WHOLE:
                self._system().makedirs(self._path(), exist_ok=True)
            else:
                # An object store has no folders; a missing bucket is noticed here.
                self._system().find(self._path(), maxdepth=1)

    @contextmanager
    def writing(self, force: bool = False) -> Iterator[Path]:
        if not force and self.exists():
            raise OutputError("exists already", where=self, advice="use --force to overwrite it")
        import tempfile  # here because the import loads a lot

        with tempfile.TemporaryDirectory(prefix="cvae-") as folder:
            temporary = Path(folder) / self.name
            yield temporary
            with reaching(self):
                system, path = self._system(), self._path()
                if self.protocol in _WHOLE:
                    system.put_file(str(temporary), path)
                    return
                beside = f"{path}.cvae-{os.urandom(8).hex()}"
                system.put_file(str(temporary), beside)
                system.mv(beside, path)

    def _system(self) -> Any:
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise MissingExtraError("fsspec", "cluster") from error
        # A listing that is kept would not know of what other machines wrote.
        return url_to_fs(self.url, use_listings_cache=False)[0]

    def _path(self) -> str:
        path: str = self._system()._strip_protocol(self.url)
        return path


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


def _remote(system: Any, path: str) -> Remote:
    return Remote(system.unstrip_protocol(path))


def _stamp(info: dict[str, Any]) -> str:
    version = next((str(info[key]) for key in _VERSIONS if info.get(key)), "")
    return f"{info.get('size')} {version}"
